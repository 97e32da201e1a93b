"""Evaluation definitions: exams (multiple choice) and prompt sets (free-form), by name.

``TASKS`` is the whole table: to add one, write a module with a :class:`Task`, import it here, add
it to the list, and test it. A user's own are TOML files (``tasks.own``). Questions are read from
the user's files, or from the hub at a pinned commit where one is named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from meadowlark.dataset import read_each
from meadowlark.errors import UserError, unknown
from meadowlark.records import Question, Rejected
from meadowlark.tasks.alpaca_eval import ALPACA_EVAL
from meadowlark.tasks.demo import DEMO_EXAM
from meadowlark.tasks.headqa import HEADQA, HEADQA_DEV
from meadowlark.tasks.hub import is_hub, on_disk
from meadowlark.tasks.icliniq import ICLINIQ
from meadowlark.tasks.medinstruct import MEDINSTRUCT_TEST
from meadowlark.tasks.medmcqa import MEDMCQA
from meadowlark.tasks.medqa import MEDQA, MEDQA_5
from meadowlark.tasks.mmlu import MMLU_MEDICAL
from meadowlark.tasks.own import read_task, read_tasks
from meadowlark.tasks.pubmedqa import PUBMEDQA
from meadowlark.tasks.summaries import MEDIQA, MEQSUM
from meadowlark.tasks.task import Examples, Form, Task, TaskFiles
from meadowlark.tasks.usmle import USMLE

__all__ = [
    "TASKS",
    "Examples",
    "Form",
    "Task",
    "TaskFiles",
    "choose",
    "known_tasks",
    "load",
    "load_examples",
    "resolve",
]

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        DEMO_EXAM,
        MEDQA,
        MEDQA_5,
        MEDMCQA,
        PUBMEDQA,
        HEADQA,
        HEADQA_DEV,
        MMLU_MEDICAL,
        MEDINSTRUCT_TEST,
        ICLINIQ,
        ALPACA_EVAL,
        MEQSUM,
        MEDIQA,
        *USMLE,
    )
}


def known_tasks(folder: Path | None = None) -> Mapping[str, Task]:
    """The table, with the definitions of a user's own folder; one that hides ours is refused."""
    if folder is None:
        return TASKS
    own = read_tasks(folder)
    for name in own:
        if name in TASKS:
            raise UserError(f"{folder}/{name}.toml: {name} is a task already; rename the file")
    return {**TASKS, **own}


def choose(names: str) -> list[str]:
    """The parts of ``a,b=PATH,FILE.jsonl`` in order, each once."""
    chosen = list(dict.fromkeys(part.strip() for part in names.split(",") if part.strip()))
    if not chosen:
        raise UserError(f"no task named; known: {', '.join(TASKS)}, or a file of questions")
    return chosen


def resolve(
    entry: str,
    data: Path | None,
    *,
    option: str = "--data",
    tasks: Mapping[str, Task] = TASKS,
    examples: bool = False,
) -> TaskFiles:
    """Where the questions of ``NAME``, ``NAME=PATH``, ``FILE`` or ``DEFINITION.toml`` lie.

    ``data`` is the folder to search, given by the verb's ``option``; a PATH may be on the hub
    (``hf://datasets/ORG/NAME@COMMIT/FILE``). A file of the user's own is a task named after the
    file. ``examples`` looks for those of few-shot prompts too. Raises UserError for an unknown
    name, for files that are missing, and for a task without examples where they are asked for.
    """
    name, equals, place = entry.partition("=")
    if not equals and entry.endswith(".toml"):
        task = read_task(Path(entry))
        return _found(task, lambda files: task.find(None, option, files), examples)
    if not equals and (Path(entry).exists() or Path(entry).suffix):
        if not Path(entry).exists():
            raise UserError(f"no such file of questions: {entry}")
        if examples:
            raise UserError(
                f"{entry}: worked examples for --shots need a definition; write "
                f"{Path(entry).stem}.toml with [examples] (docs/exams.md) and give that"
            )
        return TaskFiles(None, Path(entry).stem, (Path(entry),))
    if name not in tasks:
        raise unknown("task", name, [*tasks, "FILE.jsonl"])
    task = tasks[name]
    if equals:
        path = on_disk(place) if is_hub(place) else Path(place)
        return _found(task, lambda files: task.at(path, files), examples)
    return _found(task, lambda files: task.find(data, option, files), examples)


def _found(
    task: Task, look: Callable[[Sequence[str]], tuple[Path, ...]], examples: bool
) -> TaskFiles:
    """The files of a task and, on request, of its examples; ``look`` finds files by name."""
    if not examples:
        return TaskFiles(task, task.name, look(()))
    if task.examples is None:
        raise UserError(f"{task.name} has no worked examples, so --shots cannot be used with it")
    return TaskFiles(task, task.name, look(()), look(task.examples.files))


def load(
    files: TaskFiles, limit: int | None = None, fault: Callable[[Question], str] = lambda _: ""
) -> tuple[list[Question], list[Rejected]]:
    """The first ``limit`` questions of a task without a fault, and which of the rows up to the last
    of them could not be read, repeat an id or have a fault (the reason that ``fault`` gives)."""
    made: Iterable[Question | Rejected]
    if files.task is not None:
        made = files.task.load(files.paths)
    else:
        made = read_each(files.paths[0], Question)
    kept: dict[str, Question] = {}
    rejected: list[Rejected] = []
    some = False
    for one in made:
        if limit is not None and len(kept) >= limit:
            break
        if isinstance(one, Rejected):
            rejected.append(one)
            continue
        some = True
        question = one if one.task else replace(one, task=files.name)
        if question.id in kept:
            rejected.append(Rejected(question, "repeated id", question.id))
        elif reason := fault(question):
            rejected.append(Rejected(question, reason))
        else:
            kept[question.id] = question
    if not some:
        raise UserError(f"{files.name}: no question could be read from {files.paths[0]}")
    return list(kept.values()), rejected


def load_examples(files: TaskFiles, shots: int) -> dict[str, list[Question]]:
    """The first ``shots`` worked examples of a task, by group; under ``""`` where all share them.

    UserError where a pinned id is not there, or where there are fewer.
    """
    wanted = files.task.examples if files.task is not None else None
    assert wanted is not None, "resolve looked for the examples"
    held = wanted.load(files.examples)
    if wanted.ids:
        by_id = {question.id: question for question in held}
        missing = [known for known in wanted.ids if known not in by_id]
        if missing:
            raise UserError(
                f"{files.name}: no worked example {missing[0]!r} in {files.examples[0]}"
            )
        held = [by_id[known] for known in wanted.ids]
    groups: dict[str, list[Question]] = {}
    for question in held:
        groups.setdefault(question.group if wanted.by_group else "", []).append(question)
    for group, found in groups.items():
        if len(found) < shots:
            of = f" of {group}" if group else ""
            raise UserError(
                f"{files.name}: {shots} worked examples were asked for, {len(found)}{of} are there"
            )
    return {group: found[:shots] for group, found in groups.items()}
