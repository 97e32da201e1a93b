"""HEAD-QA, the Spanish health system's specialisation exams in English, grouped by exam.

One JSON file: ``exams`` maps an exam's name to its ``data``, items with ``qid``, ``qtext``,
``answers`` (``aid`` from 1, ``atext``) and ``ra``, the right ``aid``. Items with an image are kept,
as the authors keep them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from meadowlark.errors import UserError
from meadowlark.layouts import read_json
from meadowlark.records import Question
from meadowlark.tasks.task import Examples, Form, Task, letters

LICENCE = "MIT (repository); questions: Spanish Ministry of Health"
CITATION = "Vilares and Gómez-Rodríguez 2019, arXiv 1906.04701; github.com/aghie/head-qa."
# Without the choices in plain text, as lm-eval's task has it: whole answers are compared.
FORM = Form(plain="Question: {question}\nAnswer:")


def _reads(task: str) -> Callable[[Sequence[Path]], list[Question]]:
    return lambda paths: [_question(row, paths[0], task) for row in exam_rows(paths[0])]


class ExamRow(NamedTuple):
    """A question's ``row`` as parsed, with its exam, the exam's category and its number there."""

    exam: str
    category: Any
    number: int
    row: Any


class Fields(NamedTuple):
    """A question's fields as its row has them, neither stripped nor judged.

    ``choices`` are the texts of its answers, ``numbers`` their ``aid``, and ``ra`` one of these.
    """

    id: Any
    question: Any
    choices: list[Any]
    numbers: list[str]
    ra: str
    image: Any

    @property
    def right(self) -> int | None:
        """The place of the right choice, None where ``ra`` names none."""
        return self.numbers.index(self.ra) if self.ra and self.ra in self.numbers else None


def exam_rows(path: Path) -> Iterator[ExamRow]:
    """The questions of all exams of a file, in order; UserError where it is not HEAD-QA's."""
    exams = read_json(path, dict).get("exams")
    if not isinstance(exams, dict):
        raise UserError(f"{path}, field 'exams': expected an object, exam by exam")
    for exam, held in exams.items():
        rows = held.get("data") if isinstance(held, dict) else None
        if not isinstance(rows, list):
            raise UserError(f"{path}, exam {exam}, field 'data': expected a list of questions")
        for number, row in enumerate(rows, start=1):
            yield ExamRow(exam, held.get("category"), number, row)


def fields(row: Mapping[str, Any]) -> Fields:
    """A row's fields by what they are."""
    listed = row.get("answers")
    answers = [
        answer if isinstance(answer, Mapping) else {}
        for answer in (listed if isinstance(listed, list) else ())
    ]
    return Fields(
        row.get("qid"),
        row.get("qtext"),
        [answer.get("atext") for answer in answers],
        [_number(answer.get("aid")) for answer in answers],
        _number(row.get("ra")),
        row.get("image"),
    )


def _number(value: Any) -> str:
    """An answer's number, which some files hold as text."""
    return "" if value is None else str(value).strip()


def _question(exam_row: ExamRow, path: Path, task: str) -> Question:
    exam, _, number, row = exam_row
    where = f"{path}, exam {exam}, row {number}"
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: expected an object with qid, qtext, answers and ra, not {row!r}")
    found = fields(row)
    if found.id in (None, ""):
        raise UserError(f"{where}, field 'qid': expected the question's number, not {found.id!r}")
    if not isinstance(found.question, str) or not found.question:
        raise UserError(f"{where}, field 'qtext': expected text, not {found.question!r}")
    if not found.choices or not all(isinstance(choice, str) for choice in found.choices):
        raise UserError(f"{where}, field 'answers': expected a list with a text in each 'atext'")
    if found.right is None:
        known = ", ".join(found.numbers)
        raise UserError(f"{where}, field 'ra': expected one of {known}, not {found.ra!r}")
    target = letters(len(found.choices))[found.right]
    return Question(f"{exam}-{found.id}", task, found.question, tuple(found.choices), target, exam)


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
