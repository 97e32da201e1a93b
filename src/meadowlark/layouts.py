"""The layouts in which rows arrive: our own keys, Alpaca, Self-Instruct, ShareGPT, messages, exams.

A file of JSON, JSON lines or CSV becomes rows of one noun. A row that is none of the layouts comes
back as :class:`Rejected` with its raw text; it never stops the reading and never vanishes.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa

from meadowlark.errors import UserError
from meadowlark.records import (
    SCHEMAS,
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
    well_formed,
)
from meadowlark.templates import INPUT_MARKER

csv.field_size_limit(1 << 24)  # the default, 128 KiB, is less than a long note
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_NAMED = {dict: "an object", list: "a list", str: "a text", type(None): "null"}


def read_json(file: Path, kind: type[Any] = object) -> Any:
    """The one value of a JSON file; UserError where it is not JSON or not a ``kind``."""
    try:
        value = parse_json(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise UserError(f"no such file: {file}") from None
    except UnicodeDecodeError as error:
        raise _other_encoding(file, error) from None
    except ValueError as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from None
    if not isinstance(value, kind):
        wanted = _NAMED[kind].split()[-1]
        found = _NAMED.get(type(value), repr(value))
        raise UserError(f"{file} must hold a JSON {wanted}, not {found}")
    return value


def _other_encoding(file: Path, error: UnicodeDecodeError) -> UserError:
    return UserError(
        f"{file} cannot be read: it is not in UTF-8 ({error}); save it as UTF-8 (in a "
        'spreadsheet program: "CSV UTF-8"), or as .xlsx'
    )


def raw_rows(file: Path) -> Iterator[Any]:
    """The rows of a file as parsed; a line that is no JSON comes as its text."""
    return (row for _, row in numbered_rows(file))


def numbered_rows(file: Path) -> Iterator[tuple[int, Any]]:
    """The rows of a json, jsonl, csv or xlsx file, each with the number under which a person finds
    it, from 1: a spreadsheet's row (the header is one), a file's line, a JSON list's element."""
    try:
        if file.suffix == ".csv":
            with file.open(encoding="utf-8-sig", newline="") as text:
                yield from _csv_rows(file, text)
        elif file.suffix in (".jsonl", ".ndjson"):
            with file.open(encoding="utf-8-sig") as text:
                for number, line in enumerate(text, start=1):
                    if line.strip():
                        yield number, _line(line)
        elif file.suffix == ".json":
            yield from enumerate(read_json(file, list), start=1)
        elif file.suffix == ".xlsx":
            from meadowlark.sheets import sheet_rows

            yield from sheet_rows(file)
        else:
            raise UserError(
                f"{file}: expected a folder or a .parquet, .json, .jsonl, .csv or .xlsx file"
            )
    except UnicodeDecodeError as error:
        raise _other_encoding(file, error) from None
    except (ValueError, csv.Error) as error:
        raise UserError(f"{file} cannot be read: {error}") from None


def _csv_rows(file: Path, text: IO[str]) -> Iterator[tuple[int, dict[str | None, Any]]]:
    """The rows below a header by column; what a row has beyond the header stands under None.

    Empty rows are passed over, as in a spreadsheet. A header that is none is a UserError.
    """
    lines = csv.reader(text)
    header = next(lines, [])
    if len(header) == 1 and (mark := next((m for m in ";\t|" if m in header[0]), "")):
        raise UserError(f"{file}: the columns are parted by {mark!r}; save it with commas between")
    if twice := [name for name, times in Counter(header).items() if name and times > 1]:
        raise UserError(f"{file}: two columns are called {twice[0]!r}; rename one")
    for number, cells in enumerate(lines, start=2):
        if not any(cell.strip() for cell in cells):
            continue
        row: dict[str | None, Any] = dict.fromkeys(header)
        row.update(zip(header, cells, strict=False))
        if any(cell.strip() for cell in cells[len(header) :]):
            row[None] = cells[len(header) :]
        yield number, row


def parse_json(text: str) -> Any:
    """The value of a JSON text, in which a half of a surrogate pair (of an emoji that was cut) is
    U+FFFD. ValueError for a text that is none, is nested too deeply or holds too long a number."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return _well_formed(value) if _SURROGATE.search(text) else value


def _well_formed(value: Any) -> Any:
    if isinstance(value, str):
        return well_formed(value)
    if isinstance(value, list):
        return [_well_formed(inner) for inner in value]
    if isinstance(value, dict):
        return {well_formed(key): _well_formed(inner) for key, inner in value.items()}
    return value


def _line(line: str) -> Any:
    try:
        return parse_json(line)
    except ValueError:
        return line.rstrip("\n")


def parse_row(raw: Any, kind: type[Row], number: int) -> Row | Rejected:
    text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str)
    empty = _EMPTY[kind]
    if not isinstance(raw, Mapping):
        return Rejected(empty, "not a JSON object", f"row {number}: {text}")
    if None in raw:  # a comma without quotes: what belongs where is anybody's guess
        return Rejected(empty, "more cells than columns", f"row {number}: {text}")
    try:
        if kind is Record:
            return record_from_layout(raw)  # type: ignore[return-value]
        if kind is Question:
            return question_from_layout(raw, number)  # type: ignore[return-value]
        names = {f.name for f in dataclasses.fields(kind)}
        return _checked(from_dict({k: v for k, v in raw.items() if k in names}, kind))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Rejected(empty, f"not a {kind.__name__.lower()}", f"row {number}: {error}: {text}")


def _checked(row: Row) -> Row:
    """The row with numbers in its text columns as text; ValueError where a column cannot hold what
    stands in it."""
    texts: dict[str, Any] = {}
    for column in SCHEMAS[type(row)]:
        value = getattr(row, column.name)
        if pa.types.is_string(column.type):
            texts[column.name] = _string(value)
            continue
        try:
            pa.scalar(value, column.type)
        except (pa.ArrowException, OverflowError, TypeError, ValueError):
            raise ValueError(f"{column.name} cannot be {value!r:.60}") from None
    return dataclasses.replace(row, **texts)


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
    raw = with_known_keys(raw)
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
            "input": absent_to_empty(_string(raw.get("input")) or _string(instance.get("input"))),
            "output": _string(raw.get("output")) or _string(instance.get("output")),
            "history": _history(raw.get("history"), _string(raw.get("system"))),
        }
    if not values["instruction"] and not values["input"]:
        raise ValueError("neither an instruction nor an input")
    tags = _tags(raw.get("tags"))
    own = {"id", "source", "licence", "tags", "parents"}
    for name, value in raw.items():
        scalar = isinstance(value, str | int | float | bool) and value == value  # NaN is absent
        if scalar and name not in used | own:
            tags[name] = str(value)
    record = Record(
        **values,
        source=_string(raw.get("source")),
        licence=_string(raw.get("licence")),
        parents=_parents(raw.get("parents")),
        tags=tags,
    )
    if raw.get("id") not in (None, "", record.id):
        record = dataclasses.replace(record, tags={**tags, "original_id": str(raw["id"])})
    return record


def with_known_keys(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row whose keys are in small letters where only so they name an instruction: a spreadsheet
    has "Instruction", and so has the CSV file that is made of it."""
    if "instruction" in raw:
        return raw
    lowered = {str(key).strip(" *:\n\t").lower(): value for key, value in raw.items()}
    return lowered if "instruction" in lowered else raw


def _tags(raw: Any) -> dict[str, str]:
    """Tags from a mapping or pairs; what is no such thing (a list of words) is one tag ``tags``."""
    if isinstance(raw, list | tuple) and all(isinstance(tag, str) for tag in raw):
        raw = ", ".join(raw)
    if isinstance(raw, str | int | float):
        raw = {"tags": raw} if raw else {}
    return {str(key): _string(value) for key, value in dict(raw or {}).items()}


def _parents(raw: Any) -> tuple[str, ...]:
    if not isinstance(raw or (), list | tuple) or not all(isinstance(p, str) for p in raw or ()):
        raise ValueError(f"parents: expected a list of ids, not {raw!r:.60}")
    return tuple(raw or ())


def _string(value: Any) -> str:
    if value is None or value != value:  # NaN is how pandas writes an absent value
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
        if len(options) > 26:
            raise ValueError(f"{len(options)} choices, and 26 letters for them")
        letters = [chr(ord("A") + index) for index in range(len(options))]
        if isinstance(options, Mapping):  # which may hold them in any order
            if sorted(options) != letters:
                raise ValueError(f"the choices {', '.join(options)} are not {', '.join(letters)}")
            options = [options[letter] for letter in letters]
        if not isinstance(options, list | tuple):
            raise ValueError(f"expected a list of choices, not {options!r:.60}")
        choices = tuple(options)
        target = _string(raw.get("target", raw.get("answer"))).strip()
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
        id=_string(raw.get("id")) or str(number),
        task=_string(raw.get("task")),
        prompt=prompt,
        choices=tuple(_string(c) for c in choices),
        target=target,
        group=_string(raw.get("group", raw.get("topic"))),
    )
