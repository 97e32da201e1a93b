"""The layouts in which rows arrive: our own keys, Alpaca, Self-Instruct, ShareGPT, messages, exams.

A file of JSON, JSON lines or CSV becomes rows of one noun. A row that is none of the layouts comes
back as :class:`Rejected` with its raw text; it never stops the reading and never vanishes.
"""

from __future__ import annotations

import csv
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.records import (
    Answer,
    Grade,
    Question,
    Record,
    Rejected,
    Role,
    Row,
    Turn,
    Verdict,
    from_dict,
)
from meadowlark.templates import INPUT_MARKER

_NAMED = {dict: "an object", list: "a list", str: "a text", type(None): "null"}


def read_json(file: Path, kind: type[Any] = object) -> Any:
    """The one value of a JSON file; UserError where it is not JSON or not a ``kind``."""
    try:
        value = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"no such file: {file}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(value, kind):
        wanted = _NAMED[kind].split()[-1]
        found = _NAMED.get(type(value), repr(value))
        raise UserError(f"{file} must hold a JSON {wanted}, not {found}")
    return value


def raw_rows(file: Path) -> Iterator[Any]:
    """The rows of a file as parsed; a line that is no JSON comes as its text."""
    return (row for _, row in numbered_rows(file))


def numbered_rows(file: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a json, jsonl, csv or xlsx file, each with the number under which a person finds
    it, from 1: a spreadsheet's row (the header is one), a file's line, a JSON list's element."""
    try:
        if file.suffix == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as text:
                yield from enumerate(csv.DictReader(text), start=2)
        elif file.suffix in (".jsonl", ".ndjson"):
            with file.open(encoding="utf-8-sig") as text:
                for number, line in enumerate(text, start=1):
                    if line.strip():
                        yield number, _loads(line)
        elif file.suffix == ".json":
            yield from enumerate(read_json(file, list), start=1)
        elif file.suffix == ".xlsx":
            from meadowlark.sheets import sheet_rows

            yield from sheet_rows(file)
        else:
            raise UserError(
                f"{file}: expected a folder or a .parquet, .json, .jsonl, .csv or .xlsx file"
            )
    except (json.JSONDecodeError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def _loads(line: str) -> Any:
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return line.rstrip("\n")


def parse_row(raw: Any, kind: type[Row], number: int) -> Row | Rejected:
    text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False)
    empty = _EMPTY[kind]
    if not isinstance(raw, Mapping):
        return Rejected(empty, "not a JSON object", f"row {number}: {text}")
    try:
        if kind is Record:
            return record_from_layout(raw)  # type: ignore[return-value]
        if kind is Question:
            return question_from_layout(raw, number)  # type: ignore[return-value]
        names = {f.name for f in dataclasses.fields(kind)}
        return from_dict({k: v for k, v in raw.items() if k in names}, kind)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Rejected(empty, f"not a {kind.__name__.lower()}", f"row {number}: {error}: {text}")


_EMPTY: dict[Any, Any] = {
    Record: Record(""),
    Question: Question("", "", ""),
    Answer: Answer("", ""),
    Verdict: Verdict("", "", "", "", "a", "unreadable", ""),
    Grade: Grade("", "", "", None, 0.0, ""),
}
_ROLES: dict[str, Role] = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
}
_NO_INPUT = {"<noinput>", "noinput", "<no input>"}


def absent_to_empty(text: str | None) -> str:
    """The empty string for a missing input and for the literal ``<noinput>`` in its variants."""
    text = text or ""
    return "" if text.strip().strip("\"'").lower() in _NO_INPUT else text


def record_from_layout(raw: Mapping[str, Any]) -> Record:
    """A record from our own keys, or the Alpaca, Self-Instruct, ShareGPT or messages layout.

    Raises KeyError or ValueError where the row is none of these. Other scalar columns become tags.
    """
    if "messages" in raw or "conversations" in raw:
        turns = _turns(raw)
        output = turns.pop().content if turns[-1].role == "assistant" else ""
        if not turns or turns[-1].role != "user":
            raise ValueError("no user message to answer")
        instruction, _, input = turns.pop().content.partition(INPUT_MARKER)
        used = {"messages", "conversations"}
        values: dict[str, Any] = {"instruction": instruction, "input": input, "output": output}
        values["history"] = tuple(turns)
    else:
        instance = (raw.get("instances") or [{}])[0]
        used = {"instruction", "input", "output", "history", "instances", "system"}
        values = {
            "instruction": _string(raw["instruction"]),
            "input": absent_to_empty(_string(raw.get("input") or instance.get("input"))),
            "output": _string(raw.get("output") or instance.get("output")),
            "history": _history(raw.get("history"), _string(raw.get("system"))),
        }
    if not values["instruction"] and not values["input"]:
        raise ValueError("neither an instruction nor an input")
    tags = {str(k): _string(v) for k, v in dict(raw.get("tags") or {}).items()}
    own = {"id", "source", "licence", "tags", "parents"}
    for name, value in raw.items():
        if name not in used | own and isinstance(value, str | int | float | bool):
            tags[name] = str(value)
    record = Record(
        **values,
        source=_string(raw.get("source")),
        licence=_string(raw.get("licence")),
        parents=tuple(raw.get("parents") or ()),
        tags=tags,
    )
    if raw.get("id") not in (None, "", record.id):
        record = dataclasses.replace(record, tags={**tags, "original_id": str(raw["id"])})
    return record


def _string(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | float):
        return str(value)
    raise ValueError(f"expected text, not {type(value).__name__}")


def _history(raw: Any, system: str) -> tuple[Turn, ...]:
    """Earlier turns, as our own {role, content} or as LLaMA-Factory's [question, answer] pairs."""
    turns = [Turn("system", system)] if system else []
    for entry in raw or ():
        if isinstance(entry, Mapping):
            turns.append(Turn(_ROLES[entry["role"]], _string(entry["content"])))
        else:
            question, answer = entry
            turns += [Turn("user", _string(question)), Turn("assistant", _string(answer))]
    return tuple(turns)


def _turns(raw: Mapping[str, Any]) -> list[Turn]:
    turns = []
    for message in raw.get("messages") or raw.get("conversations") or ():
        role = str(message.get("role") or message.get("from"))
        if role not in _ROLES:
            raise ValueError(f"unknown role {role!r}")
        turns.append(Turn(_ROLES[role], _string(message.get("content", message.get("value")))))
    if not turns:
        raise ValueError("no messages")
    return turns


def question_from_layout(raw: Mapping[str, Any], number: int) -> Question:
    """A question from our own keys, from {question, choices, answer}, or from an Alpaca row."""
    if "choices" in raw or "options" in raw:
        options = raw.get("choices", raw.get("options"))
        choices = tuple(options.values()) if isinstance(options, Mapping) else tuple(options)
        target = _string(raw.get("target", raw.get("answer")))
        letters = [chr(ord("A") + index) for index in range(len(choices))]
        if choices and target not in letters:
            raise ValueError(f"the answer {target!r} is not one of {', '.join(letters)}")
    else:
        choices, target = (), _string(raw.get("target", raw.get("output")))
    if "instruction" in raw:
        record = record_from_layout({"instruction": raw["instruction"], "input": raw.get("input")})
        marker = INPUT_MARKER if record.instruction and record.input else ""
        prompt = f"{record.instruction}{marker}{record.input}"
    else:
        prompt = _string(raw.get("prompt", raw.get("question")))
    if not prompt:
        raise ValueError("no prompt")
    return Question(
        id=_string(raw.get("id", number)),
        task=_string(raw.get("task")),
        prompt=prompt,
        choices=tuple(_string(c) for c in choices),
        target=target,
        group=_string(raw.get("group", raw.get("topic"))),
    )
