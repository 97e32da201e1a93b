"""The small exam that ships with Meadowlark, written for it and not clinically reviewed.

JSON lines with ``id``, ``question``, ``choices``, ``answer`` (a letter) and ``topic``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meadowlark.records import Question
from meadowlark.tasks.task import Task, json_lines


def _load(paths: Sequence[Path]) -> list[Question]:
    return [
        Question(
            id=row["id"],
            task="demo_exam",
            prompt=row["question"],
            choices=tuple(row["choices"]),
            target=row["answer"],
            group=row["topic"],
        )
        for row in json_lines(paths[0])
    ]


DEMO_EXAM = Task(
    name="demo_exam",
    title="Demo exam: 80 short questions on everyday medicine",
    kind="multiple_choice",
    folder="",
    files=("exam.jsonl",),
    load=_load,
    licence="Apache-2.0",
    citation="Written for Meadowlark; not clinically reviewed.",
    home=Path(__file__).parents[1] / "demo",
)
