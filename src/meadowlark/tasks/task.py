"""What an evaluation definition is: a name, where its files lie, and how they become questions."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from meadowlark.errors import UserError
from meadowlark.records import Question


@dataclass(frozen=True, slots=True)
class Task:
    """One exam or prompt set.

    ``files`` are relative to the task's ``folder``, which is looked for below a data folder and
    below its ``exams`` folder. ``shipped`` is the file of a task that comes with the package.
    ``load`` takes the files in order and gives questions whose ``prompt`` is the bare question.
    """

    name: str
    title: str
    kind: Literal["multiple_choice", "prompts"]
    folder: str
    files: tuple[str, ...]
    load: Callable[[Sequence[Path]], list[Question]]
    licence: str
    citation: str
    shipped: Path | None = None

    def at(self, path: Path) -> tuple[Path, ...]:
        """The task's files at an explicit path: a folder that holds them, or its only file."""
        if path.is_file() and len(self.files) == 1:
            return (path,)
        for file_names in (self.files, tuple(Path(f).name for f in self.files)):
            found = tuple(path / name for name in file_names)
            if all(file.is_file() for file in found):
                return found
        wanted = self.files[0] if len(self.files) == 1 else f"the folder with {self.files[0]} ..."
        raise UserError(f"{self.name}: {path} is not there or does not hold it; expected {wanted}")

    def find(self, data: Path | None, option: str = "--data") -> tuple[Path, ...]:
        """The task's files below a data folder; UserError naming the places looked at.

        ``option`` is how the verb at work is given the folder.
        """
        if self.shipped is not None:
            return (self.shipped,)
        if data is None:
            raise UserError(
                f"{self.name} needs its files: give {option} DIR with "
                f"{self.folder}/{self.files[0]} below it, or name it as {self.name}=PATH. "
                f"{self.citation}"
            )
        places = (data / self.folder, data / "exams" / self.folder, data)
        for place in places:
            found = tuple(place / name for name in self.files)
            if all(file.is_file() for file in found):
                return found
        looked = ", ".join(str(place / self.files[0]) for place in places)
        raise UserError(
            f"{self.name}: not found below {option} {data} (looked for {looked}). {self.citation}"
        )


class TaskFiles(NamedTuple):
    """A task and the files it is read from; no task where they are a user's own questions."""

    task: Task | None
    name: str
    paths: tuple[Path, ...]

    def inputs(self) -> dict[str, Path]:
        """The files by name, as a manifest lists them."""
        if len(self.paths) == 1:
            return {self.name: self.paths[0]}
        return {f"{self.name}/{path.name}": path for path in self.paths}


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON-lines file of a known task; a line that is none is a user error."""
    rows = []
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: not JSON ({error})") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: expected a JSON object")
            rows.append(row)
    return rows


def letters(count: int) -> list[str]:
    """The first ``count`` capital letters, which name the choices of a question."""
    if count > 26:
        raise UserError(f"a question with {count} choices: at most 26 can be lettered")
    return [chr(ord("A") + index) for index in range(count)]
