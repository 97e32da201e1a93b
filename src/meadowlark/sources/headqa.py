"""HEAD-QA: questions of Spanish examinations for health professions, in English translation.

Raw form: train_HEAD_EN.json of Vilares and Gomez-Rodriguez (2019): exams, each with questions
(qtext), answers (aid, atext) and the right one (ra).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from meadowlark.records import Record, Rejected
from meadowlark.sources.choices import UNKNOWN_LABEL, choice_record, fault_of, lettered
from meadowlark.sources.raw import SHOWN, text, unreadable
from meadowlark.sources.source import Source
from meadowlark.tasks.headqa import ExamRow, exam_rows, fields


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question; questions about an image are rejected."""
    yield from map(_row, exam_rows(raw))


def _row(given: ExamRow) -> Record | Rejected:
    if not isinstance(given.row, Mapping):
        shown = json.dumps(given.row)[:SHOWN]
        return unreadable("not a JSON object", f"{given.exam}, row {given.number}: {shown}")
    found = fields(given.row)
    question, where = text(found.question), f"{given.exam}:{text(found.id)}"
    options = lettered([text(choice) for choice in found.choices])
    letter = "" if found.right is None else list(options)[found.right]
    record = choice_record(
        SOURCE, question, options, letter, topic=text(given.category), question_id=where
    )
    if text(found.image):
        return Rejected(record, "question about an image", where)
    fault = fault_of(question, options, letter)
    if fault:
        wrong = f": ra {found.ra!r}" if fault == UNKNOWN_LABEL else ""
        return Rejected(record, fault, where + wrong)
    return record


SOURCE: Source = Source(
    name="headqa",
    title="HEAD-QA in English, training questions",
    origin="github.com/aghie/head-qa",
    licence="MIT",
    obligations="The code's licence; the questions are of the Spanish Ministry of Health.",
    citation="Vilares and Gomez-Rodriguez 2019, HEAD-QA, ACL",
    raw="train_HEAD_EN.json",
    size="2,657 questions",
    rows=rows,
    defects=(
        "Machine translation from Spanish: some questions cannot be understood.",
        "Law and facts are Spain's.",
    ),
    signs=('"exams"', '"qtext"'),
)
