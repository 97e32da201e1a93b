"""Reading a teacher's tasks from JSON: asked for with ``--layout json``, or written unasked.

The layout asked for is ``{"tasks": [{"type": …, "instruction": …, "input": …}, …]}``. A bare list,
one object a line, renamed keys and a reply cut in the middle are read too; each object that is no
task comes back with a reason and its text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from meadowlark.layouts import absent_to_empty
from meadowlark.llm.chat import FinishReason
from meadowlark.synth.task import Task, Unread

KEYS: dict[str, tuple[str, ...]] = {
    "type": ("type", "tasktype", "format", "category"),
    "topic": ("topic", "subject", "medicaltopic"),
    "view": ("view", "viewpoint", "pointofview", "perspective", "pov", "speaker"),
    "difficulty": ("difficulty", "difficultylevel", "level"),
    "instruction": ("instruction", "instructions", "task", "question", "prompt"),
    "input": ("input", "inputs", "context", "material"),
}
"""The fields and the keys that stand for them, in lower case without spaces and underscores."""

_text: dict[str, Any] = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "tasks": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": _text,
                    "topic": _text,
                    "view": _text,
                    "difficulty": {"type": "integer", "enum": [1, 2, 3, 4, 5]},
                    "instruction": _text,
                    "input": _text,
                },
                "required": ["type", "topic", "view", "difficulty", "instruction", "input"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["tasks"],
    "additionalProperties": False,
}
"""What a server that can hold a reply to a JSON schema is given; all keys required, none more, as
the strict modes ask."""

_DECODER = json.JSONDecoder(strict=False)  # a real line break within a string is no fault
_NONE = re.compile(r"(?i)none|n/a|not applicable|no input (?:needed|required)|")
MOST_ATTEMPTS = 500
"""Braces that open no readable object before the rest of a reply is given up."""


def json_tasks(text: str, finish: FinishReason) -> tuple[list[Task], list[Unread]] | None:
    """The tasks of a reply in JSON, and the objects that are none; None where it holds no task.

    ``finish`` is ``length`` for a reply that was cut, whose last object is then "truncated".
    """
    tasks: list[Task] = []
    unread: list[Unread] = []
    rest = 0
    for begin, end, item in _objects(text):
        made = _read(item)
        rest = end
        if isinstance(made, Task):
            tasks.append(made)
        else:
            unread.append(Unread(made, text[begin:end] if end > begin else json.dumps(item)))
    if not tasks and not unread:
        return None
    left = text[rest:].lstrip(" \t\r\n,]}").rstrip()
    if left.startswith("{"):
        unread.append(Unread("truncated" if finish == "length" else "not parsed", left))
    return tasks, unread


def _objects(text: str) -> list[tuple[int, int, Mapping[str, Any]]]:
    """Every innermost object that has a field's key, with where it stands in the text."""
    found = []
    at, attempts = 0, 0
    while (at := text.find("{", at)) >= 0 and attempts < MOST_ATTEMPTS:
        try:
            value, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError):
            at, attempts = at + 1, attempts + 1
            continue
        inner = _lists_of(value)
        if inner is None:
            found.append((at, end, value))
        else:
            found += [(end, end, item) for item in inner]
        at = end
    return [one for one in found if _fields(one[2])]


def _lists_of(value: Mapping[str, Any]) -> list[Mapping[str, Any]] | None:
    """The objects in a wrapper such as {"tasks": [...]}; None for an object that is none."""
    if _fields(value).keys() & {"instruction", "input", "topic"}:
        listed = [v for v in value.values() if isinstance(v, list)]
        if not any(isinstance(item, Mapping) and _fields(item) for v in listed for item in v):
            return None
    items: list[Mapping[str, Any]] = []
    for inner in value.values():
        if isinstance(inner, Mapping):
            inner = [inner]
        if isinstance(inner, list):
            items += [item for item in inner if isinstance(item, Mapping)]
    return items


def _fields(item: Mapping[str, Any]) -> dict[str, Any]:
    """The values of an object by field, whatever its keys are called."""
    plain = {re.sub(r"[\s_-]", "", key).lower(): value for key, value in item.items()}
    return {
        field: next(plain[key] for key in keys if key in plain)
        for field, keys in KEYS.items()
        if any(key in plain for key in keys)
    }


def _read(item: Mapping[str, Any]) -> Task | str:
    """The task of an object, or why it is none."""
    fields = {name: _plain(value) for name, value in _fields(item).items()}
    if not fields.get("instruction"):
        return "missing instruction"
    if "input" not in fields:
        return "missing input"
    input = absent_to_empty(fields.pop("input"))
    if _NONE.fullmatch(input.strip().rstrip(".")):
        input = ""
    return Task(fields.pop("instruction"), input, **fields)


def _plain(value: Any) -> str:
    """A value as text: a list as lines, an object as "key: value" lines (choices come so)."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return "\n".join(f"{key}: {_plain(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "\n".join(_plain(inner) for inner in value)
    return str(value).strip()
