"""MedMCQA: questions of Indian medical entrance examinations, with explanations.

Raw form: the JSON lines of Pal et al. (2022), train.json: question, opa to opd, cop (1 to 4 in the
released files, 0 to 3 on the hub), exp, subject_name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.records import Record, Rejected
from meadowlark.sources.choices import (
    ANSWER_WITH_LETTER,
    lettered,
    question_with_options,
)
from meadowlark.sources.raw import json_lines, text
from meadowlark.sources.source import HubSet, Source


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question, its explanation after the answer where there is one."""
    for item in json_lines(raw):
        yield item if isinstance(item, Rejected) else _row(item, first=1)


def hub_rows(items: Iterable[Mapping[str, Any]]) -> Iterator[Record | Rejected]:
    """The hub's training split, whose answers count from 0."""
    for item in items:
        yield _row(item, first=0)


def _row(item: Mapping[str, Any], first: int) -> Record | Rejected:
    question = text(item.get("question"))
    right: Any = item.get("cop")
    options = lettered([text(item.get(name)) for name in ("opa", "opb", "opc", "opd")])
    known = isinstance(right, int) and first <= right < first + 4
    letter = list(options)[right - first] if known else ""
    answer = f"{letter}. {options.get(letter, '')}"
    explanation = text(item.get("exp"))
    record = SOURCE.record(
        ANSWER_WITH_LETTER,
        question_with_options(question, options),
        f"{answer}\n\n{explanation}" if explanation else answer,
        topic=text(item.get("subject_name")),
        question_id=text(item.get("id")),
        type="multiple choice",
        view="student",
    )
    if not letter:
        return Rejected(record, "unknown label", f"cop {right!r}")
    if not question or not all(options.values()):
        return Rejected(record, "no question" if not question else "empty option")
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
