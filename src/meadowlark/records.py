"""The nouns of Meadowlark: what passes between its stages, as dataclasses and Arrow schemas.

A stage reads rows of one noun from files and writes rows of another. Columns bear the field names
below; ``docs/formats.md`` is generated from this module. The types hold no behaviour beyond making
an id, so that a row means the same in Python, in Arrow and in a spreadsheet.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeVar

import pyarrow as pa
import pydantic_core

Role = Literal["system", "user", "assistant"]
AnswerStatus = Literal["ok", "empty", "truncated", "refused", "failed"]
Winner = Literal["a", "b", "tie", "both_bad", "unreadable"]


class Turn(NamedTuple):
    """One earlier message of a conversation."""

    role: Role
    content: str


TEST_ONLY: Mapping[str, str] = {"use": "test"}
"""The tag of a row that was written to examine models: ``mix`` and ``train`` refuse it."""

_SURROGATE = re.compile("[\ud800-\udfff]")


def well_formed(text: str) -> str:
    """The text without lone surrogates, which no file or data base takes (U+FFFD for each)."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def record_id(history: Sequence[Turn], instruction: str, input: str, output: str) -> str:
    """The first 20 hex digits of the SHA-256 of a record's text, its output included.

    The text is ``[[[role, content], ...], instruction, input, output]`` as JSON without spaces.
    """
    parts = (history, instruction, input, output)
    try:  # by pydantic's encoder: Python's own takes four times as long, for millions of rows
        text = pydantic_core.to_json(parts)
    except pydantic_core.PydanticSerializationError:  # half a surrogate pair, which is no text
        plain = json.dumps(parts, ensure_ascii=False, separators=(",", ":"))
        text = plain.encode("utf-8", "surrogatepass")
    return hashlib.sha256(text).hexdigest()[:20]


@dataclass(frozen=True, slots=True)
class Record:
    """One training example or task. An absent input is the empty string, never ``<noinput>``.

    ``tags`` maps string to string (topic, view, type, difficulty, ...); ``parents`` holds the ids
    of the records this one was made from. ``id`` is computed unless given.
    """

    instruction: str
    input: str = ""
    output: str = ""
    history: tuple[Turn, ...] = ()
    source: str = ""
    licence: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    id: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            made = record_id(self.history, self.instruction, self.input, self.output)
            object.__setattr__(self, "id", made)

    def evolve(self, **changes: Any) -> Record:
        """A copy with other content: a new id, and this record's id as its parent."""
        made = dataclasses.replace(self, id="", **changes)
        if made.id == self.id:
            return made
        return dataclasses.replace(made, parents=(self.id,))


@dataclass(frozen=True, slots=True)
class Question:
    """One evaluation item.

    ``prompt`` is the user's content (an instruction, or instruction + input marker + input).
    ``choices`` is empty for a free-form item. ``target`` is the letter of the right choice, or the
    reference answer of a free-form item, or empty. ``group`` names what items share (a subject, a
    passage), for clustered intervals.
    """

    id: str
    task: str
    prompt: str
    choices: tuple[str, ...] = ()
    target: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said to one question.

    ``logprobs`` holds one log-likelihood (nats) per choice, empty for generated answers;
    ``extracted`` is the letter read from the text or chosen by likelihood, empty when none could
    be read. ``draw`` counts repeated tries from 0.
    """

    item: str
    model: str
    draw: int = 0
    text: str = ""
    extracted: str = ""
    logprobs: tuple[float, ...] = ()
    status: AnswerStatus = "ok"


@dataclass(frozen=True, slots=True)
class Verdict:
    """One comparison of two answers, by ``judge:NAME`` (a model) or ``human:NAME`` (a person).

    ``a`` and ``b`` name the models compared, ``shown_first`` is ``a`` or ``b``. ``preference`` is
    the strength with which ``a`` is preferred, 0 to 1, or missing. ``raw`` keeps the judge's text.
    """

    item: str
    criterion: str
    a: str
    b: str
    shown_first: Literal["a", "b"]
    winner: Winner
    by: str
    preference: float | None = None
    note: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Grade:
    """Points for one criterion of a rubric; ``points`` is missing when the grading failed."""

    item: str
    criterion: str
    model: str
    points: float | None
    max_points: float
    by: str
    raw: str = ""


@dataclass(frozen=True, slots=True)
class Score:
    """One number with its 95 % interval; ``n_unreadable`` items could not be read, of ``n``."""

    task: str
    model: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    n_unreadable: int = 0


Noun = Record | Question | Answer | Verdict | Grade | Score
Row = TypeVar("Row", Record, Question, Answer, Verdict, Grade, Score)

_text, _number = pa.string(), pa.float64()
_turn = pa.struct([("role", _text), ("content", _text)])

SCHEMAS: dict[type[Any], pa.Schema] = {
    Record: pa.schema(
        [
            ("id", _text),
            ("instruction", _text),
            ("input", _text),
            ("output", _text),
            ("history", pa.list_(_turn)),
            ("source", _text),
            ("licence", _text),
            ("tags", pa.map_(_text, _text)),
            ("parents", pa.list_(_text)),
        ]
    ),
    Question: pa.schema(
        [
            ("id", _text),
            ("task", _text),
            ("prompt", _text),
            ("choices", pa.list_(_text)),
            ("target", _text),
            ("group", _text),
        ]
    ),
    Answer: pa.schema(
        [
            ("item", _text),
            ("model", _text),
            ("draw", pa.int32()),
            ("text", _text),
            ("extracted", _text),
            ("logprobs", pa.list_(_number)),
            ("status", _text),
        ]
    ),
    Verdict: pa.schema(
        [
            ("item", _text),
            ("criterion", _text),
            ("a", _text),
            ("b", _text),
            ("shown_first", _text),
            ("winner", _text),
            ("preference", _number),
            ("by", _text),
            ("note", _text),
            ("raw", _text),
        ]
    ),
    Grade: pa.schema(
        [
            ("item", _text),
            ("criterion", _text),
            ("model", _text),
            ("points", _number),
            ("max_points", _number),
            ("by", _text),
            ("raw", _text),
        ]
    ),
    Score: pa.schema(
        [
            ("task", _text),
            ("model", _text),
            ("metric", _text),
            ("value", _number),
            ("low", _number),
            ("high", _number),
            ("n", pa.int64()),
            ("n_unreadable", pa.int64()),
        ]
    ),
}

REJECTED_COLUMNS = [pa.field("reason", _text), pa.field("detail", _text)]
"""What ``rejected.parquet`` adds to a noun's columns: why, and what supports it (a neighbour's id
and score, the raw text that could not be read)."""


class Rejected(NamedTuple):
    """A row that was not kept, why (a short fixed phrase that can be counted), and the detail."""

    row: Any
    reason: str
    detail: str = ""


def rejected_schema(kind: type[Any]) -> pa.Schema:
    """The schema of ``rejected.parquet`` for rows of a noun."""
    schema = SCHEMAS[kind]
    for column in REJECTED_COLUMNS:
        schema = schema.append(column)
    return schema


def _as_dict(row: Any) -> dict[str, Any]:
    values = {f.name: getattr(row, f.name) for f in dataclasses.fields(row)}
    if isinstance(row, Record):
        values["history"] = [turn._asdict() for turn in row.history]
        values["tags"] = sorted(row.tags.items())
    return values


def _columns(rows: Sequence[Any], kind: type[Any]) -> list[pa.Array]:
    """Rows of one noun as Arrow arrays, a field at a time: four times the speed of dictionaries."""
    columns = []
    for field_ in SCHEMAS[kind]:
        values = [getattr(row, field_.name) for row in rows]
        if field_.name == "history":
            values = [[turn._asdict() for turn in turns] for turns in values]
        elif field_.name == "tags":
            values = [sorted(tags.items()) for tags in values]
        columns.append(pa.array(values, field_.type))
    return columns


def to_table(rows: Iterable[Row], kind: type[Row]) -> pa.Table:
    """Rows of one noun as an Arrow table in its published schema."""
    return pa.Table.from_arrays(_columns(list(rows), kind), schema=SCHEMAS[kind])


def rejected_table(rows: Iterable[Rejected], kind: type[Any]) -> pa.Table:
    """Rejected rows as an Arrow table: the noun's columns, then ``reason`` and ``detail``."""
    rows = list(rows)
    columns = _columns([rejected.row for rejected in rows], kind)
    columns += [
        pa.array([getattr(rejected, column.name) for rejected in rows], column.type)
        for column in REJECTED_COLUMNS
    ]
    return pa.Table.from_arrays(columns, schema=rejected_schema(kind))


def from_table(table: pa.Table, kind: type[Row]) -> list[Row]:
    """An Arrow table in the published schema as rows of one noun. Extra columns are ignored."""
    names = [name for name in SCHEMAS[kind].names if name in table.column_names]
    return [from_dict(row, kind) for row in table.select(names).to_pylist()]


def from_dict(row: Mapping[str, Any], kind: type[Row]) -> Row:
    """One dictionary with a noun's own keys as that noun; nulls of text columns become empty."""
    values: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, list):
            value = tuple(value)
        if value is None and pa.types.is_string(SCHEMAS[kind].field(name).type):
            value = ""
        values[name] = value
    if kind is Record:
        history = values.get("history") or ()
        values["history"] = tuple(Turn(turn["role"], turn["content"]) for turn in history)
        values["tags"] = dict(values.get("tags") or ())
        values["parents"] = tuple(values.get("parents") or ())
    return kind(**values)


def to_json(row: Noun) -> dict[str, Any]:
    """A row as a plain JSON object with the noun's keys."""
    values = _as_dict(row)
    if isinstance(row, Record):
        values["tags"] = dict(row.tags)
    return {name: values[name] for name in SCHEMAS[type(row)].names}
