"""The journal: every call to a model, kept in SQLite, so that nothing is asked or paid for twice.

One row a request, keyed by the whole rendered request with endpoint and model. A row goes from
``planned`` to ``in_flight`` to ``done`` or ``failed``. One writer thread commits what has gathered
every 50 ms; a reply that was committed is never asked for again. No header or key is ever written.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from meadowlark.errors import UserError
from meadowlark.llm.chat import ChatReply, ChatRequest, TokenLogprob, key_of

State = Literal["planned", "in_flight", "done", "failed"]
COMMIT_INTERVAL_S = 0.05
VERSION = 2
"""Kept in the file (``user_version``); a journal of another version is refused."""

_PLANNED = {
    "key": "TEXT PRIMARY KEY",
    "label": "TEXT NOT NULL",
    "endpoint": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "request": "TEXT NOT NULL",
}
_CHANGING = {
    "state": "TEXT NOT NULL CHECK (state IN ('planned', 'in_flight', 'done', 'failed'))",
    "reply": "TEXT",
    "finish": "TEXT",
    "logprobs": "TEXT",
    "raw": "TEXT",
    "tokens_in": "INTEGER NOT NULL DEFAULT 0",
    "tokens_out": "INTEGER NOT NULL DEFAULT 0",
    "cost_usd": "REAL NOT NULL DEFAULT 0",
    "reason": "TEXT",
    "detail": "TEXT",
    "attempts": "INTEGER NOT NULL DEFAULT 0",
    "seconds": "REAL NOT NULL DEFAULT 0",
    "written_at": "REAL NOT NULL DEFAULT 0",
}
_COLUMNS = ", ".join(f"{name} {kind}" for name, kind in {**_PLANNED, **_CHANGING}.items())
_CREATE = f"CREATE TABLE IF NOT EXISTS calls ({_COLUMNS})"
# A row that is there keeps its place, so that a journal read as a recording is in the order asked.
_PLAN = (
    f"INSERT OR IGNORE INTO calls ({', '.join(_PLANNED)}, state) "
    f"VALUES ({', '.join('?' * len(_PLANNED))}, 'planned')"
)
_CHANGE = f"UPDATE calls SET {', '.join(f'{name} = ?' for name in _CHANGING)} WHERE key = ?"
_FIND = f"SELECT {', '.join(_CHANGING)} FROM calls WHERE key = ?"

_Rows = dict[str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal knows of one request. ``seconds`` is the time from sending to the end."""

    state: State
    reply: ChatReply | None = None
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the replies of a journal: what they cost, took and held.

    Those with a count of tokens are ``counted``.
    """

    replies: int = 0
    counted: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    seconds: float = 0.0


class Journal:
    """A journal file, open in one process; used as a context, closed with everything on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changed = threading.Condition()
        # Rows to insert and rows to change: what has gathered, and what is being committed.
        self._plans: _Rows = {}
        self._changes: _Rows = {}
        self._writing: tuple[_Rows, _Rows] = ({}, {})
        self._closing = False
        self._hurry = False
        self._fault: Exception | None = None
        self._reader = self._connect()
        found = dict(self._reader.execute("SELECT state, count(*) FROM calls GROUP BY state"))
        self.interrupted = int(found.get("in_flight", 0))
        """How many requests were in flight when an earlier run was killed; they are asked again."""
        self.before = totals(self._reader)
        """What the replies of earlier runs came to."""
        self._writer = threading.Thread(target=self._write, name="journal", daemon=True)
        self._writer.start()

    @property
    def interruption(self) -> str:
        """A phrase for what a kill cost, empty where it cost nothing."""
        return f", {self.interrupted:,} interrupted by a kill" if self.interrupted else ""

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(self.path, check_same_thread=False, isolation_level=None)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            if version != VERSION and tables:
                connection.close()
                raise UserError(
                    f"{self.path} is a journal of another version of meadowlark (or another data "
                    "base); move it away, or give another --out"
                )
            if version != VERSION:
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute(_CREATE)
        except sqlite3.Error as error:
            raise UserError(f"{self.path} cannot be used as a journal: {error}") from None
        return connection

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def find(self, key: str) -> Entry | None:
        """What is known of a request, also when it is not on disk yet."""
        with self._changed:
            row = self._changes.get(key) or self._writing[1].get(key)
            if row is None:
                row = self._reader.execute(_FIND, (key,)).fetchone()
                if row is None:
                    planned = key in self._plans or key in self._writing[0]
                    return Entry("planned") if planned else None
        values = dict(zip(_CHANGING, row, strict=False))
        reply = None
        if values["state"] == "done":
            reply = ChatReply(
                values["reply"],
                values["finish"],
                values["tokens_in"],
                values["tokens_out"],
                values["cost_usd"],
                logprobs_from(values["logprobs"]),
                values["raw"],
            )
        return Entry(
            values["state"],
            reply,
            values["reason"] or "",
            values["detail"] or "",
            values["attempts"],
            values["seconds"],
        )

    def plan(
        self, request: ChatRequest, endpoint: str, model: str, text: str = "", key: str = ""
    ) -> str:
        """Write down that a request will be made, and return its key.

        ``text`` is the request's ``text()`` and ``key`` the key it gives, where they are known.
        """
        text = text or request.text()
        key = key or key_of(text, endpoint, model)
        row = (key, request.label, endpoint, model, text)
        with self._changed:
            self._wake_writer()
            self._plans[key] = row
        return key

    def note(self, key: str, now: Entry) -> None:
        """Write down the new state of a planned request; on disk within the commit interval."""
        reply = now.reply
        answer: tuple[Any, ...] = (None, None, None, None, 0, 0, 0.0)
        if reply is not None:
            answer = (
                reply.text,
                reply.finish,
                json.dumps(reply.logprobs, ensure_ascii=False) if reply.logprobs else None,
                reply.raw,
                reply.tokens_in,
                reply.tokens_out,
                reply.cost_usd,
            )
        why = (now.reason or None, now.detail or None)
        row = (now.state, *answer, *why, now.attempts, now.seconds, time.time(), key)
        with self._changed:
            self._wake_writer()
            self._changes[key] = row

    def _wake_writer(self) -> None:
        """Tell the writer that something gathers, once a commit; the lock is held."""
        self._raise_fault()
        if not (self._plans or self._changes):
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when everything noted is on disk."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._fault or not self._unwritten())
            self._hurry = False
            self._raise_fault()

    def _unwritten(self) -> bool:
        return bool(self._plans or self._changes or any(self._writing))

    def close(self) -> None:
        """Commit what is left and fold the write-ahead log into the file."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join()
        self._reader.close()
        if self._fault is not None and self._unwritten():
            self._raise_fault()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise UserError(
                f"{self.path} cannot be written ({self._fault}); free some room and run again"
            ) from None

    def _write(self) -> None:
        """The writer: takes what has gathered, commits it in one transaction, waits, again."""
        try:
            opened = self._connect()
        except UserError as error:  # such as too many open files
            with self._changed:
                self._fault = error
                self._changed.notify_all()
            return
        with closing(opened) as connection:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._plans or self._changes or self._closing)
                    if not (self._plans or self._changes):
                        break
                    # Others may gather while we wait; a flush or the end does not wait.
                    self._changed.wait_for(
                        lambda: self._closing or self._hurry, timeout=COMMIT_INTERVAL_S
                    )
                    self._writing = (self._plans, self._changes)
                    self._plans, self._changes = {}, {}
                try:
                    connection.execute("BEGIN")
                    connection.executemany(_PLAN, self._writing[0].values())
                    connection.executemany(_CHANGE, self._writing[1].values())
                    connection.execute("COMMIT")
                except (sqlite3.Error, ValueError, OverflowError) as error:
                    with self._changed:
                        self._fault = error
                        self._changed.notify_all()
                    return
                with self._changed:
                    self._writing = ({}, {})
                    self._changed.notify_all()


def totals(connection: sqlite3.Connection) -> Totals:
    """The sums over the replies that a journal holds."""
    return Totals(
        *connection.execute(
            "SELECT count(*), "
            "coalesce(sum(tokens_in > 0 AND (tokens_out > 0 OR reply = '')), 0), "
            "coalesce(sum(tokens_in), 0), coalesce(sum(tokens_out), 0), "
            "coalesce(sum(cost_usd), 0.0), coalesce(sum(seconds), 0.0) "
            "FROM calls WHERE state = 'done'"
        ).fetchone()
    )


def logprobs_from(text: str | None) -> tuple[TokenLogprob, ...]:
    """Log-probabilities as a journal or a recording keeps them."""
    return tuple(
        TokenLogprob(token, logprob, tuple((other, value) for other, value in top))
        for token, logprob, top in json.loads(text or "[]")
    )


def read_only(path: Path) -> sqlite3.Connection:
    """A journal opened to be read; UserError for a file that is none."""
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
        connection.execute("SELECT key, raw FROM calls LIMIT 1")
    except sqlite3.Error as error:
        raise UserError(f"{path} is not a journal of model calls: {error}") from None
    return connection
