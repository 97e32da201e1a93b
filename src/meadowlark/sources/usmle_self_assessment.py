"""USMLE self-assessment, steps 1 to 3: medAlpaca's exam. Test only: mix and train refuse its rows.

Raw form: the folder of step1.json, step1_solutions.json and so on. They are converted so that rows
can be looked at and training data compared with them; to examine a model, `exam` reads the same
files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.layouts import read_json
from meadowlark.records import Record, Rejected
from meadowlark.sources.choices import choice_record
from meadowlark.sources.raw import SHOWN, text, unreadable
from meadowlark.sources.source import Source

STEPS = ("step1", "step2", "step3")


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question of each step's file that is there."""
    steps = [step for step in STEPS if (raw / f"{step}.json").is_file()]
    if not steps:
        raise UserError(f"{raw} must be a folder with step1.json and step1_solutions.json")
    for step in steps:
        solutions = read_json(raw / f"{step}_solutions.json", dict)
        for item in read_json(raw / f"{step}.json", list):
            yield _row(item, step, solutions)


def _row(item: Any, step: str, solutions: Mapping[str, Any]) -> Record | Rejected:
    if not isinstance(item, Mapping):
        return unreadable("not a JSON object", f"{step}: {json.dumps(item)[:SHOWN]}")
    number, question = text(item.get("no")), text(item.get("question"))
    held = item.get("options")
    listed = held.items() if isinstance(held, Mapping) else ()
    options = {letter: text(choice) for letter, choice in listed}
    letter = text(solutions.get(number))
    record = choice_record(SOURCE, question, options, letter, view="", step=step, number=number)
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
