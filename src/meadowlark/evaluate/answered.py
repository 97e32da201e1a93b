"""One model's answers with the questions they answer, read from a folder that a stage wrote.

A folder with ``answers.parquet`` and ``questions.parquet`` comes in; what compares two models
(the overlap judge, the paired exam) works on the joined form that comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meadowlark.dataset import read
from meadowlark.errors import UserError
from meadowlark.records import Answer, Question


@dataclass(frozen=True)
class Answered:
    """The questions of a folder by id, in their order, and one model's answers to each by draw."""

    folder: Path
    model: str
    questions: dict[str, Question]
    answers: dict[str, tuple[Answer, ...]]


def read_answered(folder: Path) -> Answered:
    """A folder's questions and answers joined; a UserError where it is none or holds two models."""
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected a folder with answers.parquet and questions.parquet, as "
            "`meadowlark answer` or `meadowlark exam` writes it"
        )
    answers, _ = read(folder, Answer)
    rows, _ = read(folder, Question)
    questions = {question.id: question for question in rows}
    for question in rows:  # the same question twice is one question answered twice
        if questions[question.id] != question:
            raise UserError(
                f"{folder}: two questions share the id {question.id!r}, so that their answers "
                "cannot be told apart"
            )
    models = sorted({answer.model for answer in answers})
    if len(models) != 1:
        names = ", ".join(models) or "none"
        raise UserError(f"{folder} must hold the answers of one model, not of {names}")
    by_item: dict[str, list[Answer]] = {}
    for answer in answers:
        by_item.setdefault(answer.item, []).append(answer)
    strangers = by_item.keys() - questions.keys()
    if strangers:
        raise UserError(f"{folder}: no question for the answered item {min(strangers)!r}")
    ordered = {item: tuple(sorted(found, key=_draw)) for item, found in by_item.items()}
    return Answered(folder, models[0], questions, ordered)


def _draw(answer: Answer) -> int:
    return answer.draw


def with_distinct_names(sides: Sequence[Answered]) -> list[Answered]:
    """The same, each under a name of its own: the folder's name is added where models share one."""
    names = [side.model for side in sides]
    told: list[Answered] = []
    for side in sides:
        if names.count(side.model) > 1:
            side = replace(side, model=f"{side.model} ({side.folder.resolve().name})")
        told.append(side)
    names = [side.model for side in told]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two folders hold answers of {name!r} and bear the same folder name")
    return told
