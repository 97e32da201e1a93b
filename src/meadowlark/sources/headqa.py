"""HEAD-QA: questions of Spanish examinations for health professions, in English translation.

Raw form: train_HEAD_EN.json of Vilares and Gomez-Rodriguez (2019): exams, each with questions
(qtext), answers (aid, atext) and the right one (ra).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.choices import (
    ANSWER_WITH_LETTER,
    lettered,
    question_with_options,
)
from meadowlark.sources.raw import json_value, text
from meadowlark.sources.source import Source


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question; questions about an image are rejected."""
    content = json_value(raw)
    exams = content.get("exams") if isinstance(content, Mapping) else None
    if not isinstance(exams, Mapping):
        raise UserError(f"{raw} must be a JSON object with exams, as HEAD-QA's files are")
    for name, exam in exams.items():
        for question in exam.get("data", ()):
            yield _row(question, name, text(exam.get("category")))


def _row(item: Mapping[str, Any], exam: str, category: str) -> Record | Rejected:
    question, where = text(item.get("qtext")), f"{exam}:{text(item.get('qid'))}"
    answers = item.get("answers") or []
    options = lettered([text(answer.get("atext")) for answer in answers])
    numbers = [text(answer.get("aid")) for answer in answers]
    right = text(item.get("ra"))
    letter = list(options)[numbers.index(right)] if right in numbers else ""
    record = SOURCE.record(
        ANSWER_WITH_LETTER,
        question_with_options(question, options),
        f"{letter}. {options.get(letter, '')}",
        topic=category,
        question_id=where,
        type="multiple choice",
        view="student",
    )
    if text(item.get("image")):
        return Rejected(record, "question about an image", where)
    if not letter:
        return Rejected(record, "unknown label", f"{where}: ra {right!r}")
    if not question or not all(options.values()):
        return Rejected(record, "no question" if not question else "empty option", where)
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
