"""Evaluation definitions: exams (multiple choice) and prompt sets (free-form), by name.

``TASKS`` is the whole table: to add one, write a module with a :class:`Task`, import it here, add
it to the list, and test it. Nothing is downloaded: a task is read from a data folder of the user's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from meadowlark.dataset import read
from meadowlark.errors import UserError, unknown
from meadowlark.records import Question, Rejected
from meadowlark.tasks.demo import DEMO_EXAM
from meadowlark.tasks.medinstruct import MEDINSTRUCT_TEST
from meadowlark.tasks.medqa import MEDQA
from meadowlark.tasks.mmlu import MMLU_MEDICAL
from meadowlark.tasks.summaries import MEDIQA, MEQSUM
from meadowlark.tasks.task import Task, TaskFiles
from meadowlark.tasks.usmle import USMLE

__all__ = ["TASKS", "Task", "TaskFiles", "choose", "load", "resolve"]

TASKS: dict[str, Task] = {
    task.name: task
    for task in (DEMO_EXAM, MEDQA, MMLU_MEDICAL, MEDINSTRUCT_TEST, MEQSUM, MEDIQA, *USMLE)
}


def choose(names: str) -> list[str]:
    """The parts of ``a,b=PATH,FILE.jsonl`` in order, each once."""
    chosen = list(dict.fromkeys(part.strip() for part in names.split(",") if part.strip()))
    if not chosen:
        raise UserError(f"no task named; known: {', '.join(TASKS)}, or a file of questions")
    return chosen


def resolve(entry: str, data: Path | None, *, option: str = "--data") -> TaskFiles:
    """Where the questions of ``NAME``, ``NAME=PATH`` or ``FILE`` lie.

    ``data`` is the folder to search, given by the verb's ``option``. A file of the user's own is a
    task named after the file. Raises UserError for an unknown name and for files that are missing.
    """
    name, equals, path = entry.partition("=")
    if not equals and (Path(entry).exists() or Path(entry).suffix):
        if not Path(entry).exists():
            raise UserError(f"no such file of questions: {entry}")
        return TaskFiles(None, Path(entry).stem, (Path(entry),))
    if name not in TASKS:
        raise unknown("task", name, [*TASKS, "FILE.jsonl"])
    task = TASKS[name]
    if equals:
        return TaskFiles(task, name, task.at(Path(path)))
    return TaskFiles(task, name, task.find(data, option))


def load(files: TaskFiles) -> tuple[list[Question], list[Rejected]]:
    """The questions of a task, and the rows that could not be read or repeat an id."""
    rejected: list[Rejected] = []
    if files.task is not None:
        questions: Iterable[Question] = files.task.load(files.paths)
    else:
        questions, rejected = read(files.paths[0], Question)
        questions = [replace(q, task=q.task or files.name) for q in questions]
    kept: dict[str, Question] = {}
    for question in questions:
        if question.id in kept:
            rejected.append(Rejected(question, "repeated id", question.id))
        else:
            kept[question.id] = question
    if not kept:
        raise UserError(f"{files.name}: no question could be read from {files.paths[0]}")
    return list(kept.values()), rejected
