"""The USMLE self-assessment, steps 1 to 3, in the files that medAlpaca's authors made.

``step1.json`` is a list of ``no``, ``question`` and ``options`` (letter to text) without the
questions that need a picture; ``step1_solutions.json`` maps the numbers to letters. They are for
testing only. How medAlpaca examined with them is ``evaluate/medalpaca.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.layouts import read_json
from meadowlark.records import Question
from meadowlark.tasks.task import Task, letters

TESTED = {1: 92, 2: 110, 3: 122}
"""Questions of each step without a picture, as the authors count them."""


def _loader(step: int) -> Callable[[Sequence[Path]], list[Question]]:
    def load(paths: Sequence[Path]) -> list[Question]:
        path, solved = paths
        rows, solutions = read_json(path, list), read_json(solved, dict)
        questions = []
        for place, row in enumerate(rows, start=1):
            where = f"{path}, question {place}"
            number, prompt, choices = _parts(row, where)
            target = solutions.get(number)
            if target not in letters(len(choices)):
                raise UserError(
                    f"{solved}, number {number}: expected one of "
                    f"{', '.join(letters(len(choices)))}, not {target!r}"
                )
            name = f"usmle_step{step}"
            questions.append(Question(f"{name}-{number}", name, prompt, choices, target))
        return questions

    return load


def _parts(row: Any, where: str) -> tuple[str, str, tuple[str, ...]]:
    """A row's number, question and choices; a UserError names the field that is not as expected."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object with no, question and options")
    number, prompt, options = row.get("no"), row.get("question"), row.get("options")
    if isinstance(number, bool) or not isinstance(number, int | str) or number == "":
        raise UserError(f"{where}, field 'no': expected the question's number, not {number!r}")
    if not isinstance(prompt, str) or not prompt.strip():
        raise UserError(f"{where}, field 'question': expected text, not {prompt!r}")
    held = options if isinstance(options, dict) else {}
    named = letters(len(held))
    if len(named) < 2 or sorted(held) != named:
        raise UserError(f"{where}, field 'options': expected texts by letter, not {options!r}")
    choices = tuple(held[letter] for letter in named)
    if not all(isinstance(choice, str) and choice.strip() for choice in choices):
        raise UserError(f"{where}, field 'options': expected a text for every letter")
    return str(number), prompt, choices


USMLE = tuple(
    Task(
        name=f"usmle_step{step}",
        title=f"USMLE self-assessment, step {step}: {count} questions without pictures",
        kind="multiple_choice",
        folder="usmle",
        files=(f"step{step}.json", f"step{step}_solutions.json"),
        load=_loader(step),
        licence="copyright of the USMLE; for testing only",
        citation=(
            "Han et al. 2023, arXiv 2304.08247; hub data set "
            "medalpaca/medical_meadow_usmle_self_assessment."
        ),
    )
    for step, count in TESTED.items()
)
