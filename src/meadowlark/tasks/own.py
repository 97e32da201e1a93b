"""A user's own exams: one TOML file each, read as data and never run.

``NAME.toml`` comes in, a :class:`Task` called NAME goes out. It names the file of questions (beside
the TOML file, anywhere, or on the hub at a pinned commit), its columns, and, where the usual ones
do not fit, how a question is put::

    title = "Ward round questions"
    licence = "internal"
    files = ["ward.csv"]              # or "hf://datasets/ORG/NAME@COMMIT/test.parquet"

    [columns]
    question = "stem"
    choices = ["a", "b", "c", "d"]    # or the one column that holds a list
    answer = "key"                    # a letter, a number, or the right choice's text
    group = "passage"                 # optional: what questions share

    [examples]                        # optional: for --shots
    files = ["worked.csv"]
    ids = ["w7", "w2"]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import Field

from meadowlark.config import Options, load
from meadowlark.errors import UserError
from meadowlark.records import Question
from meadowlark.tasks.columns import Columns
from meadowlark.tasks.task import Examples, Form, Task


class _Columns(Options):
    question: str = "question"
    choices: str | tuple[str, ...] = "choices"
    answer: str = "answer"
    id: str = ""
    group: str = ""
    first: int = 0


class _Form(Options):
    instruction: str = Form().instruction
    chat: str = Form().chat
    plain: str = Form().plain
    opening: str = ""


class _Examples(Options):
    files: tuple[str, ...]
    ids: tuple[str, ...] = ()
    by_group: bool = False


class _Definition(Options):
    title: str
    files: tuple[str, ...] = Field(min_length=1)
    licence: str = ""
    citation: str = ""
    sha256: dict[str, str] = Field(default_factory=dict)
    columns: _Columns = _Columns()
    form: _Form = _Form()
    examples: _Examples | None = None


def read_task(path: Path) -> Task:
    """The task that a TOML file defines; UserError naming each faulty key."""
    given = load(path, _Definition)
    name = path.stem
    for layout in (given.form.chat, given.form.plain):
        if "{question}" not in layout:
            raise UserError(f"{path}: a layout of [form] must contain {{question}}: {layout!r}")
    columns = Columns(**given.columns.model_dump())
    examples = None
    if given.examples is not None:
        loads = _reads(columns, f"{name}_example")
        examples = Examples(
            given.examples.files, loads, given.examples.ids, given.examples.by_group
        )
    return Task(
        name=name,
        title=given.title,
        kind="multiple_choice",
        folder="",
        files=given.files,
        load=_reads(columns, name),
        licence=given.licence,
        citation=given.citation,
        home=path.resolve().parent,
        form=Form(**given.form.model_dump()),
        examples=examples,
        sha256=given.sha256,
    )


def _reads(columns: Columns, task: str) -> Callable[[Sequence[Path]], list[Question]]:
    return lambda paths: [question for path in paths for question in columns.read(path, task)]


def read_tasks(folder: Path) -> dict[str, Task]:
    """The definitions of a folder by name."""
    if not folder.is_dir():
        raise UserError(f"no such folder of tasks: {folder}; it holds one NAME.toml for each exam")
    return {path.stem: read_task(path) for path in sorted(folder.glob("*.toml"))}
