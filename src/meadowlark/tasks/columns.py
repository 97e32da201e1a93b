"""Multiple-choice questions in a table: which column is the question, which the choices, which
the answer.

A file of JSON lines, JSON, CSV or parquet comes in, questions go out; most published exams and a
user's own definition need no more than this. A fault names file, row and field.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from meadowlark.errors import UserError
from meadowlark.layouts import numbered_rows
from meadowlark.records import Question
from meadowlark.tasks.task import MOST_CHOICES, json_lines, letters


class Fields(NamedTuple):
    """A question's fields as its row has them, neither stripped nor judged.

    ``choices`` is the value of their one column, or those of the single choices' columns in order.
    """

    question: Any
    choices: Any
    answer: Any
    id: Any
    group: Any


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table of questions.

    ``choices`` is one column that holds a list, or a mapping from letter to text, or the columns
    of the single choices in their order (an empty one ends them). ``answer`` holds a letter, or a
    number counted from ``first``, or the text of the right choice. ``id`` and ``group`` may be
    empty: questions are then known by their row, and stand alone.
    """

    question: str
    choices: str | tuple[str, ...]
    answer: str
    id: str = ""
    group: str = ""
    first: int = 0

    def read(self, path: Path, task: str) -> list[Question]:
        """The questions of a file in order."""
        return [self._question(row, n, path, task) for n, row in rows_of(path)]

    def fields(self, row: Mapping[str, Any]) -> Fields:
        """A row's fields by what they are."""
        if isinstance(self.choices, str):
            choices = row.get(self.choices)
        else:
            choices = [row.get(name) for name in self.choices]
        return Fields(
            row.get(self.question),
            choices,
            row.get(self.answer),
            row.get(self.id) if self.id else None,
            row.get(self.group) if self.group else None,
        )

    def _question(self, row: Mapping[str, Any], number: int, path: Path, task: str) -> Question:
        where, fields = f"{path}, row {number}", self.fields(row)
        prompt = _text(fields.question, self.question, where)
        if isinstance(self.choices, str):
            choices = _listed(fields.choices, self.choices, where)
        else:
            choices = self._filled(fields.choices, where)
        if len(choices) < 2:
            raise UserError(f"{where}: expected two choices or more in {self.choices}")
        if len(choices) > MOST_CHOICES:
            raise UserError(f"{where}: {len(choices)} choices, and {MOST_CHOICES} letters for them")
        target = self._target(fields.answer, choices, where)
        known = _text(fields.id, self.id, where) if self.id else f"{task}-{number:04d}"
        return Question(known, task, prompt, choices, target, str(fields.group or ""))

    def _filled(self, values: Sequence[Any], where: str) -> tuple[str, ...]:
        """The single choices up to the first empty one, behind which nothing may stand."""
        empty = [value in (None, "") for value in values]
        count = empty.index(True) if True in empty else len(values)
        if not all(empty[count:]):
            gap = self.choices[count]
            raise UserError(f"{where}, field {gap!r}: empty, while a later choice is not")
        named = zip(values[:count], self.choices, strict=False)
        return tuple(_text(value, name, where) for value, name in named)

    def _target(self, value: Any, choices: Sequence[str], where: str) -> str:
        named = letters(len(choices))
        shown = str(value).strip() if value is not None and not isinstance(value, bool) else ""
        if shown in named:
            return shown
        if shown.lstrip("-").isdigit():
            index = int(shown) - self.first
            if isinstance(value, str) and shown in choices and choices.index(shown) != index:
                raise UserError(
                    f"{where}, field {self.answer!r}: {value!r} may be the number of a choice or "
                    f"the text of one ({', '.join(choices)}); write the letter instead"
                )
            if 0 <= index < len(choices):
                return named[index]
        elif shown and list(choices).count(shown) == 1:
            return named[list(choices).index(shown)]
        raise UserError(
            f"{where}, field {self.answer!r}: expected one of {', '.join(named)}, a number from "
            f"{self.first} to {self.first + len(choices) - 1} or the text of one choice, not "
            f"{value!r}"
        )


def _text(value: Any, name: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
        raise UserError(f"{where}, field {name!r}: expected text, not {value!r}")
    return str(value)


def _listed(value: Any, name: str, where: str) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        # In letter order: a file may hold them in any. Absent ones (a parquet struct) are null.
        held = {key: text for key, text in value.items() if text is not None}
        wanted = letters(len(held))
        if sorted(held) != wanted:
            raise UserError(
                f"{where}, field {name!r}: expected the letters {', '.join(wanted)}, not "
                f"{', '.join(map(str, held)) or 'none'}"
            )
        value = [held[letter] for letter in wanted]
    if not isinstance(value, list | tuple) or not all(isinstance(text, str) for text in value):
        raise UserError(f"{where}, field {name!r}: expected a list of texts, not {value!r}")
    return tuple(value)


def rows_of(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a file with their numbers; JSON lines may be called ``.json`` (MedMCQA's are)."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        yield from enumerate(pq.read_table(path).to_pylist(), start=1)
        return
    if path.suffix == ".json" and _first_character(path) == "{":
        yield from enumerate(json_lines(path), start=1)
        return
    for number, row in numbered_rows(path):
        if not isinstance(row, dict):
            raise UserError(f"{path}, row {number}: expected a row with fields, not {row!r:.80}")
        if None in row:
            raise UserError(
                f"{path}, row {number}: more cells than columns ({row[None]!r:.80}); a text with "
                "commas needs quotes"
            )
        yield number, row


def _first_character(path: Path) -> str:
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if line.strip():
                return line.strip()[0]
    return ""
