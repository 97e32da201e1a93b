"""The six medical subjects of MMLU (test part): 1,089 questions, grouped by subject.

Reads the original files (no header; question, four choices, a letter) and copies with a header
row ``question,choice0,…,choice3,answer`` whose answers are numbers from 0.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.records import Question
from meadowlark.tasks.task import Examples, Form, Task, letters

SUBJECTS = (
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "medical_genetics",
    "professional_medicine",
)


def subject_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The rows of one subject's file without the header, in either layout, and their numbers in the
    file from 1."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.reader(file), start=1):
            if row and not (row[0] == "question" and row[-1] == "answer"):
                yield number, row


def read_subject(path: Path, subject: str, task: str) -> list[Question]:
    """The questions of one subject's file."""
    questions = []
    for number, (_, row) in enumerate(subject_rows(path)):
        known = letters(len(row) - 2) if len(row) >= 4 else []
        answer = row[-1].strip()
        if answer.isdigit() and int(answer) < len(known):
            answer = known[int(answer)]
        if answer not in known:
            raise UserError(
                f"{path}, question {number + 1}, field 'answer': expected a question, its choices "
                f"and the answer as a letter or a number from 0, not {row[-1]!r} after "
                f"{len(row) - 1} columns"
            )
        # As the original script and lm-eval's task, which strip the question and no choice.
        prompt = row[0].strip()
        questions.append(
            Question(f"{subject}-{number:03d}", task, prompt, tuple(row[1:-1]), answer, subject)
        )
    return questions


def _reads(task: str) -> Callable[[Sequence[Path]], list[Question]]:
    def load(paths: Sequence[Path]) -> list[Question]:
        named = zip(paths, SUBJECTS, strict=True)
        return [q for path, subject in named for q in read_subject(path, subject, task)]

    return load


MMLU_MEDICAL = Task(
    name="mmlu_medical",
    title="MMLU, the six medical subjects, test part",
    kind="multiple_choice",
    folder="mmlu",
    files=tuple(f"test/{subject}_test.csv" for subject in SUBJECTS),
    load=_reads("mmlu_medical"),
    licence="MIT",
    citation="Hendrycks et al. 2021, arXiv 2009.03300; github.com/hendrycks/test.",
    form=Form(
        plain="{question}\n{choices}\nAnswer:",
        opening="The following are multiple choice questions (with answers) about {group}.\n\n",
    ),
    examples=Examples(
        tuple(f"dev/{subject}_dev.csv" for subject in SUBJECTS),
        _reads("mmlu_medical_dev"),
        by_group=True,  # the first of a subject's dev part, in its order
    ),
)
