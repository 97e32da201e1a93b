"""The six medical subjects of MMLU (test part): 1,089 questions, grouped by subject.

Reads the original files (no header; question, four choices, a letter) and copies with a header
row ``question,choice0,…,choice3,answer`` whose answers are numbers from 0.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.records import Question
from meadowlark.tasks.task import Task, letters

SUBJECTS = (
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
)


def read_subject(path: Path, subject: str, task: str) -> list[Question]:
    """The questions of one subject's file, in either layout."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = [row for row in csv.reader(file) if row]
    if rows and rows[0][0] == "question" and rows[0][-1] == "answer":
        rows = rows[1:]
    questions = []
    for number, row in enumerate(rows):
        known = letters(len(row) - 2) if len(row) >= 4 else []
        answer = row[-1].strip()
        if answer.isdigit() and int(answer) < len(known):
            answer = known[int(answer)]
        if answer not in known:
            raise UserError(
                f"{path}, question {number + 1}: expected a question, its choices and the answer "
                f"as a letter or a number from 0, not {row[-1]!r} after {len(row) - 1} columns"
            )
        questions.append(
            Question(f"{subject}-{number:03d}", task, row[0], tuple(row[1:-1]), answer, subject)
        )
    return questions


def _load(paths: Sequence[Path]) -> list[Question]:
    named = zip(paths, SUBJECTS, strict=True)
    return [q for path, subject in named for q in read_subject(path, subject, "mmlu_medical")]


MMLU_MEDICAL = Task(
    name="mmlu_medical",
    title="MMLU, the six medical subjects, test part",
    kind="multiple_choice",
    folder="mmlu",
    files=tuple(f"test/{subject}_test.csv" for subject in SUBJECTS),
    load=_load,
    licence="MIT",
    citation="Hendrycks et al. 2021, arXiv 2009.03300; github.com/hendrycks/test.",
)
