"""What an evaluation definition is: a name, where its files lie, how they become questions, and
how a question is put to a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from meadowlark.errors import UserError
from meadowlark.layouts import parse_json
from meadowlark.records import Question

_PLACE = re.compile(r"\{(question|choices|group)\}")


@dataclass(frozen=True, slots=True)
class Form:
    """How a question is put: as a chat message, or as plain text for a model without a template.

    ``{question}`` and ``{choices}`` stand for the question and its lettered choices, a line each
    (``A: ...`` in a chat, ``A. ...`` in plain text). A layout without ``{choices}`` leaves the
    texts of the choices to be compared, since no letter was shown. ``opening`` stands once at the
    head of a plain prompt; ``{group}`` in it is the question's group in words.
    """

    instruction: str = "Answer this multiple choice question."
    chat: str = "{question}\n{choices}"
    plain: str = "Question: {question}\n{choices}\nAnswer:"
    opening: str = ""

    def layout(self, *, plain: bool) -> str:
        """The layout of a plain prompt, or of the input of a chat message."""
        return self.plain if plain else self.chat

    def lists_choices(self, *, plain: bool) -> bool:
        """Whether the prompt shows the choices with their letters."""
        return "{choices}" in self.layout(plain=plain)

    def text(self, question: Question, *, plain: bool) -> str:
        """The layout filled in for one question."""
        mark = "." if plain else ":"
        named = zip(letters(len(question.choices)), question.choices, strict=True)
        lines = "\n".join(f"{letter}{mark} {choice}" for letter, choice in named)
        return _filled(self.layout(plain=plain), question, lines)

    def head(self, question: Question) -> str:
        """What opens a plain prompt."""
        return _filled(self.opening, question, "")


def _filled(layout: str, question: Question, choices: str) -> str:
    values = {
        "question": question.prompt,
        "choices": choices,
        "group": question.group.replace("_", " "),
    }
    return _PLACE.sub(lambda found: values[found[1]], layout)


@dataclass(frozen=True, slots=True)
class Examples:
    """Where the worked examples of few-shot prompts come from, and which they are.

    ``files`` are relative as a task's own. Of what ``load`` reads, ``ids`` are taken in their
    order, or all in the file's order where none are named; a prompt has the first of its group
    (``by_group``) or of all.
    """

    files: tuple[str, ...]
    load: Callable[[Sequence[Path]], list[Question]]
    ids: tuple[str, ...] = ()
    by_group: bool = False


@dataclass(frozen=True, slots=True)
class Task:
    """One exam or prompt set.

    ``files`` are relative to the task's ``folder``, which is looked for below a data folder and
    below its ``exams`` folder; ``home`` is the folder of files that come with their definition.
    ``load`` takes the files in order and gives questions whose ``prompt`` is the bare question.
    ``sha256`` are those of the published files, by name, where known: other files are read too,
    and said to be others.
    """

    name: str
    title: str
    kind: Literal["multiple_choice", "prompts"]
    folder: str
    files: tuple[str, ...]
    load: Callable[[Sequence[Path]], list[Question]]
    licence: str
    citation: str
    home: Path | None = None
    form: Form = Form()
    examples: Examples | None = None
    sha256: Mapping[str, str] = field(default_factory=dict)

    def at(self, path: Path, files: Sequence[str] = ()) -> tuple[Path, ...]:
        """The task's files at an explicit path: a folder that holds them, or its only file.

        ``files`` are other names to look for there, such as those of the examples.
        """
        names = tuple(files) or self.files
        if path.is_file():
            if len(names) == 1 and not files:
                return (path,)
            path = path.parent
        for file_names in (names, tuple(Path(name).name for name in names)):
            found = tuple(path / name for name in file_names)
            if all(file.is_file() for file in found):
                return found
        wanted = names[0] if len(names) == 1 else f"the folder with {names[0]} ..."
        raise UserError(f"{self.name}: {path} is not there or does not hold it; expected {wanted}")

    def find(
        self, data: Path | None, option: str = "--data", files: Sequence[str] = ()
    ) -> tuple[Path, ...]:
        """The task's files below a data folder; UserError naming the places looked at.

        ``option`` is how the verb at work is given the folder.
        """
        from meadowlark.tasks.hub import is_hub, on_disk

        names = tuple(files) or self.files
        if self.home is not None or all(is_hub(name) for name in names):
            home = self.home or Path()
            found = tuple(on_disk(n) if is_hub(n) else home / n for n in names)
            for path in found:
                if not path.is_file():
                    raise UserError(f"{self.name}: no such file: {path}")
            return found
        if data is None:
            raise UserError(
                f"{self.name} needs its files: give {option} DIR with "
                f"{self.folder}/{names[0]} below it, or name it as {self.name}=PATH. "
                f"{self.citation}"
            )
        places = (data / self.folder, data / "exams" / self.folder, data)
        for place in places:
            found = tuple(place / name for name in names)
            if all(file.is_file() for file in found):
                return found
        looked = ", ".join(str(place / names[0]) for place in places)
        raise UserError(
            f"{self.name}: not found below {option} {data} (looked for {looked}). {self.citation}"
        )


class TaskFiles(NamedTuple):
    """A task and the files it is read from; no task where they are a user's own questions.

    ``examples`` are the files of its worked examples, empty unless they were asked for.
    """

    task: Task | None
    name: str
    paths: tuple[Path, ...]
    examples: tuple[Path, ...] = ()

    @property
    def form(self) -> Form:
        """How the task's questions are put."""
        return self.task.form if self.task is not None else Form()

    def inputs(self) -> dict[str, Path]:
        """The files by name, as a manifest lists them."""
        named = {f"{self.name}/examples/{path.name}": path for path in self.examples}
        if len(self.paths) == 1:
            return {self.name: self.paths[0], **named}
        return {**{f"{self.name}/{path.name}": path for path in self.paths}, **named}

    def unpublished(self, hashes: Mapping[str, str]) -> list[str]:
        """Names of files that are not the published ones, by SHA-256 as ``inputs`` names them."""
        known = self.task.sha256 if self.task is not None else {}
        return [
            path.name
            for name, path in self.inputs().items()
            if path.name in known and hashes.get(name, known[path.name]) != known[path.name]
        ]


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file of a known task; a line that is none is a user error."""
    rows = []
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = parse_json(line.decode("utf-8-sig"))
            except ValueError as error:
                raise UserError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: expected a JSON object")
            rows.append(row)
    return rows


MOST_CHOICES = 26


def letters(count: int) -> list[str]:
    """The first ``count`` capital letters, which name the choices of a question."""
    if count > MOST_CHOICES:
        raise UserError(f"a question with {count} choices: at most 26 can be lettered")
    return [chr(ord("A") + index) for index in range(count)]
