"""``recorded:FILE``: a model that repeats the replies of an earlier run, without network or cost.

FILE is a journal (``journal.sqlite``) or JSON lines of ``{"label", "request", "reply"}``, where
``request`` holds turns, sampling, draw and a schema if any, and ``reply`` text, finish, tokens_in,
tokens_out and logprobs if any. A request is found by its content, whichever endpoint and model
answered it then.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from meadowlark.dataset import fingerprint
from meadowlark.errors import UserError
from meadowlark.layouts import parse_json
from meadowlark.llm.chat import ChatReply, ChatRequest
from meadowlark.llm.errors import CallFailed, NotRecorded
from meadowlark.llm.journal import logprobs_from, read_only
from meadowlark.llm.prices import FREE, Price
from meadowlark.llm.rates import Limits

FINISHES = ("stop", "length", "refused", "unknown")


class Line(NamedTuple):
    """One recorded call: what was asked (as plain JSON), and the reply or the failure."""

    label: str
    model: str
    request: Mapping[str, Any]
    reply: ChatReply | None
    failure: str = ""


def content_key(content: Mapping[str, Any]) -> str:
    """SHA-256 of a request's content; ``1`` and ``1.0`` are the same number in it."""
    text = json.dumps(_plain(content), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_recording(path: Path) -> Iterator[Line]:
    """The calls of a journal or of JSON lines, in the order of the file."""
    if not path.is_file():
        raise UserError(f"no such recording: {path} (a journal.sqlite or a .jsonl file)")
    if path.suffix in (".sqlite", ".db"):
        yield from _read_journal(path)
        return
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                try:
                    yield _from_json(parse_json(line.decode("utf-8-sig")))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise UserError(
                        f"{path}, line {number} is not a recorded call "
                        f'{{"label", "request", "reply"}}: {error!r:.300}'
                    ) from None


def _from_json(raw: Any) -> Line:
    reply = raw["reply"]
    finish = reply.get("finish", "stop")
    if finish not in FINISHES:
        raise ValueError(f"finish {finish!r} is none of {', '.join(FINISHES)}")
    asked = raw["request"]
    request = {
        "turns": [[str(role), str(content)] for role, content in asked["turns"]],
        "sampling": dict(asked.get("sampling") or {}),
        "draw": int(asked.get("draw", 0)),
        **({"schema": asked["schema"]} if asked.get("schema") else {}),
    }
    made = ChatReply(
        str(reply["text"]),
        finish,
        int(reply.get("tokens_in", 0)),
        int(reply.get("tokens_out", 0)),
        logprobs=logprobs_from(json.dumps(reply.get("logprobs") or [])),
    )
    return Line(str(raw.get("label", "")), str(raw.get("model", "")), request, made)


def _read_journal(path: Path) -> Iterator[Line]:
    query = (
        "SELECT label, model, request, state, reason, reply, finish, tokens_in, tokens_out, "
        "logprobs FROM calls WHERE state IN ('done', 'failed') ORDER BY rowid"
    )
    with closing(read_only(path)) as connection:
        try:
            for label, model, request, state, reason, *answer in connection.execute(query):
                reply = None
                if state == "done":
                    text, finish, tokens_in, tokens_out, logprobs = answer
                    reply = ChatReply(
                        text, finish, tokens_in, tokens_out, logprobs=logprobs_from(logprobs)
                    )
                yield Line(label, model, json.loads(request), reply, reason or "")
        except sqlite3.Error as error:
            raise UserError(f"{path} is damaged: {error}") from None


class RecordedModel:
    """Answers from a recording; a request that it does not hold is :class:`NotRecorded`.

    ``name`` is the model that was recorded, or the file's name where several were.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lines = list(read_recording(path))
        models = {line.model for line in lines if line.model}
        self.name = models.pop() if len(models) == 1 else path.stem
        # Another recording must not be answered from this one's journal, so its hash is part.
        self.endpoint = f"recorded:{fingerprint(path)[:16]}"
        self.price: Price | None = FREE
        self.limits = Limits()
        self._lines = {content_key(line.request): line for line in lines}

    def __len__(self) -> int:
        return len(self._lines)

    async def reply(self, request: ChatRequest) -> ChatReply:
        """The recorded reply, or the recorded failure."""
        line = self._lines.get(content_key(request.content()))
        if line is None:
            raise NotRecorded(f"{self.path} holds no reply to the request {request.label!r}")
        if line.reply is None:
            raise CallFailed(
                line.failure or "failed", f"failed when it was recorded: {line.failure}"
            )
        return line.reply

    async def close(self) -> None:
        """Nothing to release."""


def changed_prompt(path: Path, asked: int) -> UserError:
    """The error for a recording that answers none of ``asked`` requests."""
    return UserError(
        f"{path} answers none of the {asked:,} request(s) of this run. A recording answers a "
        "request only when its prompt, sampling options, seed and input rows are those it was "
        "made with: give the same ones, or record again with a live teacher. If a prompt of "
        "this package was edited, re-key the shipped recording: python -m meadowlark.demo.rekey"
    )
