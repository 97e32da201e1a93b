"""MedQA, the US medical licensing questions with four options (test part, 1,273 questions).

JSON lines with ``question``, ``options`` (letter to text) and ``answer_idx`` (a letter); the items
have no ids of their own, so a question is known by its line. ``meta_info`` is the exam's step.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.records import Question
from meadowlark.tasks.task import Task, json_lines, letters


def _load(paths: Sequence[Path]) -> list[Question]:
    questions = []
    for number, row in enumerate(json_lines(paths[0]), start=1):
        try:
            options = row["options"]
            choices = tuple(options[letter] for letter in letters(len(options)))
            question, target = row["question"], row["answer_idx"]
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{paths[0]}, question {number}: not in MedQA's form ({error})"
            ) from None
        questions.append(Question(f"medqa-{number:04d}", "medqa", question, choices, target))
    return questions


MEDQA = Task(
    name="medqa",
    title="MedQA (USMLE), four options, test part",
    kind="multiple_choice",
    folder="medqa",
    files=("phrases_no_exclude_test.jsonl",),
    load=_load,
    licence="MIT (repository)",
    citation="Jin et al. 2020, arXiv 2009.13081; github.com/jind11/MedQA.",
)
