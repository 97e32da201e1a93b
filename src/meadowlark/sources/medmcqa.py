"""MedMCQA: questions of Indian medical entrance examinations, with explanations.

Raw form: the JSON lines of Pal et al. (2022), train.json: question, opa to opd, cop (1 to 4 in the
released files, 0 to 3 on the hub), exp, subject_name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.records import Record, Rejected
from meadowlark.sources.choices import UNKNOWN_LABEL, choice_record, fault_of, lettered
from meadowlark.sources.raw import json_lines, text
from meadowlark.sources.source import HubSet, Source
from meadowlark.tasks.medmcqa import COLUMNS


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question, its explanation after the answer where there is one."""
    for item in json_lines(raw):
        yield item if isinstance(item, Rejected) else _row(item, COLUMNS.first)


def hub_rows(items: Iterable[Mapping[str, Any]]) -> Iterator[Record | Rejected]:
    """The hub's training split, whose answers count from 0."""
    for item in items:
        yield _row(item, first=0)


def _row(item: Mapping[str, Any], first: int) -> Record | Rejected:
    fields = COLUMNS.fields(item)
    question, options = text(fields.question), lettered([text(each) for each in fields.choices])
    known = isinstance(fields.answer, int) and first <= fields.answer < first + len(options)
    letter = list(options)[fields.answer - first] if known else ""
    record = choice_record(
        SOURCE,
        question,
        options,
        letter,
        explanation=text(item.get("exp")),
        topic=text(fields.group),
        question_id=text(fields.id),
    )
    fault = fault_of(question, options, letter)
    if fault:
        return Rejected(record, fault, f"cop {fields.answer!r}" if fault == UNKNOWN_LABEL else "")
    return record


SOURCE: Source = Source(
    name="medmcqa",
    title="MedMCQA, training questions",
    origin="github.com/medmcqa/medmcqa",
    licence="MIT",
    obligations="Name the authors.",
    citation="Pal, Umapathi and Sankarasubbu 2022, MedMCQA, CHIL",
    raw="JSON lines of {question, opa, opb, opc, opd, cop, exp, subject_name} (train.json)",
    size="182,822 questions",
    rows=rows,
    verified="real files (the development questions' file; the training file has the same form)",
    defects=(
        "Questions marked multi have several right options but one answer.",
        "Explanations are copied from books, some cut off, some about another question.",
    ),
    hub=(
        HubSet(
            "openlifescienceai/medmcqa",
            hub_rows,
            revision="91c6572c454088bf71b679ad90aa8dffcd0d5868",
        ),
    ),
    signs=('"opa"', '"cop"'),
)
