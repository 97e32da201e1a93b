"""MedMCQA, questions of Indian medical entrance exams (validation part, 4,183; the test part has
no published answers), grouped by subject.

JSON lines with ``question``, ``opa`` to ``opd``, ``cop`` (1 to 4), ``id`` and ``subject_name``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meadowlark.records import Question
from meadowlark.tasks.columns import Columns
from meadowlark.tasks.task import Examples, Form, Task

COLUMNS = Columns(
    question="question",
    choices=("opa", "opb", "opc", "opd"),
    answer="cop",
    id="id",
    group="subject_name",
    first=1,
)


def _load(paths: Sequence[Path]) -> list[Question]:
    return COLUMNS.read(paths[0], "medmcqa")


MEDMCQA = Task(
    name="medmcqa",
    title="MedMCQA, validation part",
    kind="multiple_choice",
    folder="medmcqa",
    files=("dev.json",),
    load=_load,
    licence="MIT",
    citation="Pal et al. 2022, arXiv 2203.14371; github.com/medmcqa/medmcqa.",
    form=Form(plain="Question: {question}\nChoices:\n{choices}\nAnswer:"),
    examples=Examples(("train.json",), _load),
    sha256={"dev.json": "a2b5f53890f4e742b728378fb847bc5338088d48ea01218676379f587270af31"},
)
