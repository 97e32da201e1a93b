"""USMLE self-assessment, steps 1 to 3: medAlpaca's exam. Test only: mix and train refuse its rows.

Raw form: the folder of step1.json, step1_solutions.json and so on. They are converted so that rows
can be looked at and training data compared with them; to examine a model, `exam` reads the same
files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.choices import ANSWER_WITH_LETTER, question_with_options
from meadowlark.sources.raw import json_list, json_value, text
from meadowlark.sources.source import Source

STEPS = ("step1", "step2", "step3")


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question of each step's file that is there."""
    steps = [step for step in STEPS if (raw / f"{step}.json").is_file()]
    if not steps:
        raise UserError(f"{raw} must be a folder with step1.json and step1_solutions.json")
    for step in steps:
        solutions = json_value(raw / f"{step}_solutions.json")
        for item in json_list(raw / f"{step}.json"):
            yield _row(item, step, solutions)


def _row(item: Mapping[str, Any], step: str, solutions: Mapping[str, str]) -> Record | Rejected:
    number, question = text(item.get("no")), text(item.get("question"))
    options = {letter: text(choice) for letter, choice in (item.get("options") or {}).items()}
    letter = text(solutions.get(number))
    record = SOURCE.record(
        ANSWER_WITH_LETTER,
        question_with_options(question, options),
        f"{letter}. {options.get(letter, '')}",
        step=step,
        number=number,
        type="multiple choice",
    )
    if not question:
        return Rejected(record, "no question", f"{step}, {number}")
    if letter not in options:
        return Rejected(record, "no answer", f"{step}, {number}: solution {letter!r}")
    return record


SOURCE: Source = Source(
    name="usmle_self_assessment",
    title="USMLE self-assessment, steps 1, 2 and 3",
    origin="usmle.org, as JSON by medAlpaca",
    licence="LicenseRef-USMLE",
    obligations="The questions are the USMLE's: for examining models, not to be passed on.",
    citation="Han et al. 2023, MedAlpaca, arXiv:2304.08247",
    raw="a folder of step1.json, step1_solutions.json, step2.json and so on",
    size="119 + 120 + 135 questions, 92 + 110 + 122 without images",
    rows=rows,
    use="test",
    verified="schema only, never run on real files",
    defects=("Questions about images are in the files but cannot be answered without them.",),
)
