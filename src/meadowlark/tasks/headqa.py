"""HEAD-QA, the Spanish health system's specialisation exams in English, grouped by exam.

One JSON file: ``exams`` maps an exam's name to its ``data``, items with ``qid``, ``qtext``,
``answers`` (``aid`` from 1, ``atext``) and ``ra``, the right ``aid``. Items with an image are kept,
as the authors keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.records import Question
from meadowlark.tasks.task import Examples, Form, Task, json_object, letters

LICENCE = "MIT (repository); questions: Spanish Ministry of Health"
CITATION = "Vilares and Gómez-Rodríguez 2019, arXiv 1906.04701; github.com/aghie/head-qa."
# Without the choices in plain text, as lm-eval's task has it: whole answers are compared.
FORM = Form(plain="Question: {question}\nAnswer:")


def _reads(task: str) -> Callable[[Sequence[Path]], list[Question]]:
    return lambda paths: read_exams(paths[0], task)


def read_exams(path: Path, task: str) -> list[Question]:
    """The questions of all exams of a file."""
    exams = json_object(path).get("exams")
    if not isinstance(exams, dict):
        raise UserError(f"{path}, field 'exams': expected an object, exam by exam")
    questions = []
    for exam, held in exams.items():
        rows = held.get("data") if isinstance(held, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"{path}, exam {exam}, field 'data': expected a list of questions")
        for number, row in enumerate(rows, start=1):
            questions.append(_question(row, f"{path}, exam {exam}, row {number}", exam, task))
    return questions


def _question(row: Any, where: str, exam: str, task: str) -> Question:
    try:
        known, text, right = row["qid"], row["qtext"], str(row["ra"])
        choices = tuple(answer["atext"] for answer in row["answers"])
        ids = [str(answer["aid"]) for answer in row["answers"]]
    except (KeyError, TypeError) as error:
        raise UserError(f"{where}: not in HEAD-QA's form, field {error}") from None
    if not isinstance(text, str) or not text:
        raise UserError(f"{where}, field 'qtext': expected text, not {text!r}")
    if not all(isinstance(choice, str) for choice in choices):
        raise UserError(f"{where}, field 'answers': expected texts in 'atext'")
    if right not in ids:
        raise UserError(f"{where}, field 'ra': expected one of {', '.join(ids)}, not {right!r}")
    target = letters(len(choices))[ids.index(right)]
    return Question(f"{exam}-{known}", task, text, choices, target, exam)


HEADQA = Task(
    name="headqa",
    title="HEAD-QA in English, test part",
    kind="multiple_choice",
    folder="headqa",
    files=("test_HEAD_EN.json",),
    load=_reads("headqa"),
    licence=LICENCE,
    citation=CITATION,
    form=FORM,
    examples=Examples(("train_HEAD_EN.json",), _reads("headqa_train")),
)
HEADQA_DEV = Task(
    name="headqa_dev",
    title="HEAD-QA in English, development part",
    kind="multiple_choice",
    folder="headqa",
    files=("dev_HEAD_EN.json",),
    load=_reads("headqa_dev"),
    licence=LICENCE,
    citation=CITATION,
    form=FORM,
    examples=Examples(("train_HEAD_EN.json",), _reads("headqa_train")),
)
