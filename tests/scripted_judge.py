"""A judge on a local server that says what the content of a request decides, and misbehaves.

The same content always gets the same plan, so that what every verdict must come to is known
beforehand: clear choices in many forms, both letters, refusals, empty text, requests that always
fail; and on the way there 429s, half a JSON, timeouts, resets and HTTP 500 that a retry mends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple

from aiohttp import web

from chat_server import completion, half_body, reset

LATENCY_S = 0.01
TIMEOUT_S = 0.5
SLOW_S = 1.0
Fault = Literal["429", "half a JSON", "timeout", "reset", "HTTP 500"]
SAYS = {
    "first": (
        ("Output (a)", 120),
        ("Output (a).", 60),
        ("**Output (a)**", 30),
        ("output (a)", 20),
        ("Output (a) is better because it says when to see a doctor.", 30),
    ),
    "second": (
        ("Output (b)", 120),
        ("Output (b)\n", 60),
        ('"Output (b)"', 30),
        ("Therefore, my verdict is: Output (b).", 30),
    ),
    "tie": (("Tie", 100), ("Tie.", 40), ("It is a tie.", 20)),
    None: (
        ("Output (a) and Output (b)", 20),
        ("Output (a)\nOutput (b)", 10),
        ("Neither.", 10),
        ("I'm sorry, but I cannot compare medical advice.", 15),
        ("", 15),
        ("This is not a Tie: one names the dose.", 10),
    ),
}
"""What the judge says, by what must be read from it, each with its weight."""
NEVER = (("HTTP 400", 6), ("refused", 10), ("always half a JSON", 1))
"""Requests that never get a verdict: an error of theirs, a filter, a reply that never is whole."""
MENDED: tuple[tuple[Fault, int], ...] = (
    ("429", 30),
    ("half a JSON", 15),
    ("timeout", 8),
    ("reset", 8),
    ("HTTP 500", 10),
)
"""What goes wrong once, in thousandths of the requests."""


class Plan(NamedTuple):
    """What becomes of a request: the choice that must be read, the text, and how it goes there."""

    choice: str | None
    text: str
    never: str
    fault: Fault | None


_ROWS = [
    *((choice, text, "", weight) for choice, forms in SAYS.items() for text, weight in forms),
    *((None, "", never, weight) for never, weight in NEVER),
]
_TOTAL = sum(row[3] for row in _ROWS)


def _at(place: int) -> tuple[str | None, str, str, int]:
    for row in _ROWS:
        if place < row[3]:
            return row
        place -= row[3]
    raise AssertionError("a place is below the sum of the weights")


def plan(messages: list[Mapping[str, Any]]) -> Plan:
    """The plan for a request's messages, by the hash of their text."""
    text = "\0".join(str(message["content"]) for message in messages)
    digest = hashlib.sha256(text.encode()).digest()
    choice, said, never, _ = _at(int.from_bytes(digest[:8], "big") % _TOTAL)
    once = int.from_bytes(digest[8:16], "big") % 1000
    fault: Fault | None = None
    for name, weight in MENDED:
        if once < weight:
            fault = name
            break
        once -= weight
    return Plan(choice, said, never, None if never else fault)


def content_of(messages: Iterable[Mapping[str, Any]]) -> str:
    """What a request is counted by: a hash of its messages."""
    turns = [[message["role"], message["content"]] for message in messages]
    return hashlib.sha256(json.dumps(turns).encode()).hexdigest()


def committed(journal: Path) -> set[str]:
    """The contents of the requests whose replies are on disk in a journal."""
    with closing(sqlite3.connect(journal)) as connection:
        rows = connection.execute("SELECT request FROM calls WHERE state = 'done'").fetchall()
    return {
        content_of({"role": role, "content": text} for role, text in json.loads(row)["turns"])
        for (row,) in rows
    }


class ScriptedJudge:
    """The handler of a :class:`ChatServer`; ``answered`` counts whole replies by content, and
    ``happened`` what went wrong on the way."""

    def __init__(self) -> None:
        self.answered: Counter[str] = Counter()
        self.happened: Counter[str] = Counter()
        self._met: set[str] = set()

    async def __call__(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(LATENCY_S)
        one = plan(body["messages"])
        content = content_of(body["messages"])
        if one.never == "HTTP 400":
            self.happened["HTTP 400"] += 1
            return web.json_response({"error": {"message": "no such thing"}}, status=400)
        if one.never == "always half a JSON":
            self.happened[one.never] += 1
            return await half_body(request, body)
        if one.fault is not None and content not in self._met:
            self._met.add(content)
            self.happened[one.fault] += 1
            return await self._fail(one.fault, request, body)
        self.answered[content] += 1
        if one.never == "refused":
            return completion("", "content_filter")
        return completion(one.text)

    async def _fail(
        self, fault: Fault, request: web.Request, body: dict[str, Any]
    ) -> web.StreamResponse:
        if fault == "429":
            return web.json_response(
                {"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0"}
            )
        if fault == "half a JSON":
            return web.Response(
                text='{"choices": [{"message": {"cont', content_type="application/json"
            )
        if fault == "timeout":
            await asyncio.sleep(SLOW_S)
            return completion("Tie")  # nobody hears it any more
        if fault == "reset":
            return await reset(request, body)
        return web.json_response({"error": {"message": "broken"}}, status=500)
