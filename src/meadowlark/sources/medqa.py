"""MedQA: questions of the United States medical licensing examination with options and answer.

Raw form: the JSON lines of Jin et al. (2021), phrases_no_exclude_train.jsonl or train.jsonl, with
question, options (letter to text), answer and answer_idx.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.records import Record, Rejected
from meadowlark.sources.choices import ANSWER_WITH_LETTER, question_with_options
from meadowlark.sources.raw import json_lines, text
from meadowlark.sources.source import WORDING, HubSet, Source, instruction_rows
from meadowlark.tasks.medqa import COLUMNS

PUBLISHED = "Please answer with one of the option in the bracket"


def rows(raw: Path, wording: str = "ours") -> Iterator[Record | Rejected]:
    """One record a question. The published wording writes the options as a Python dictionary."""
    for item in json_lines(raw):
        yield item if isinstance(item, Rejected) else _row(item, wording)


def _row(item: Mapping[str, Any], wording: str) -> Record | Rejected:
    fields = COLUMNS.fields(item)
    question, letter, answer = (
        text(value) for value in (fields.question, fields.answer, item.get("answer"))
    )
    if not isinstance(fields.choices, Mapping) or not fields.choices:
        return Rejected(SOURCE.record(ANSWER_WITH_LETTER, question, ""), "no options")
    choices = {str(name): text(choice) for name, choice in fields.choices.items()}
    if wording == "ours":
        instruction, asked = ANSWER_WITH_LETTER, question_with_options(question, choices)
        said = f"{letter}. {answer}"
    else:
        instruction, asked, said = PUBLISHED, f"Q:{question}? \n{choices}", f"{letter}: {answer}"
    record = SOURCE.record(instruction, asked, said, type="multiple choice", view="student")
    if not question:
        return Rejected(record, "no question")
    if choices.get(letter) != answer:
        return Rejected(record, "answer is none of the options", f"{letter!r}: {answer!r}")
    return record


SOURCE: Source = Source(
    name="medqa",
    title="MedQA (USMLE), training questions",
    origin="github.com/jind11/MedQA",
    licence="MIT",
    obligations="Name the authors. The questions come from preparation sites and books.",
    citation="Jin et al. 2021, What Disease Does This Patient Have?, Applied Sciences 11(14)",
    raw="JSON lines of {question, options, answer, answer_idx} (phrases_no_exclude_train.jsonl)",
    size="10,178 questions",
    rows=rows,
    verified="real files (the test questions' file; the training file has the same form)",
    settings={"wording": WORDING},
    defects=(
        "Training questions resemble the exam's: examine on medqa with `clean --against medqa`.",
        "--raw takes any file of this form: the exam's own must not be trained on.",
    ),
    hub=(HubSet("medalpaca/medical_meadow_medqa", instruction_rows(lambda: SOURCE)),),
    signs=('"answer_idx"', '"options"'),
)
