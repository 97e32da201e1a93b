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
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from meadowlark.errors import UserError
from meadowlark.llm.chat import ChatReply, ChatRequest

State = Literal["planned", "in_flight", "done", "failed"]
COMMIT_INTERVAL_S = 0.05

_COLUMNS = {
    "key": "TEXT PRIMARY KEY",
    "label": "TEXT NOT NULL",
    "endpoint": "TEXT NOT NULL",
    "model": "TEXT NOT NULL",
    "state": "TEXT NOT NULL CHECK (state IN ('planned', 'in_flight', 'done', 'failed'))",
    "request": "TEXT NOT NULL",
    "reply": "TEXT",
    "finish": "TEXT",
    "tokens_in": "INTEGER NOT NULL",
    "tokens_out": "INTEGER NOT NULL",
    "reason": "TEXT",
    "detail": "TEXT",
    "attempts": "INTEGER NOT NULL",
    "written_at": "REAL NOT NULL",
    "seconds": "REAL NOT NULL",
}
_CREATE = f"CREATE TABLE IF NOT EXISTS calls ({', '.join(f'{n} {t}' for n, t in _COLUMNS.items())})"
# An upsert keeps a row's place, so that a journal read as a recording is in the order asked.
_UPSERT = (
    f"INSERT INTO calls ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) "
    "ON CONFLICT (key) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in list(_COLUMNS)[1:])
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal knows of one request. ``seconds`` is the time from sending to the end."""

    state: State
    reply: ChatReply | None = None
    reason: str = ""
    detail: str = ""
    attempts: int = 0
    seconds: float = 0.0


class Journal:
    """A journal file, open in one process; used as a context, closed with everything on disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changed = threading.Condition()
        self._pending: dict[str, tuple[Any, ...]] = {}
        self._writing: dict[str, tuple[Any, ...]] = {}
        self._closing = False
        self._hurry = False
        self._fault: Exception | None = None
        self._reader = self._connect()
        found = dict(self._reader.execute("SELECT state, count(*) FROM calls GROUP BY state"))
        self.interrupted = int(found.get("in_flight", 0))
        """How many requests were in flight when an earlier run was killed; they are asked again."""
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
            row = self._pending.get(key) or self._writing.get(key)
            if row is None:
                row = self._reader.execute("SELECT * FROM calls WHERE key = ?", (key,)).fetchone()
        if row is None:
            return None
        values = dict(zip(_COLUMNS, row, strict=True))
        reply = None
        if values["state"] == "done":
            reply = ChatReply(
                values["reply"], values["finish"], values["tokens_in"], values["tokens_out"]
            )
        return Entry(
            values["state"],
            reply,
            values["reason"] or "",
            values["detail"] or "",
            values["attempts"],
            values["seconds"],
        )

    def note(self, key: str, request: ChatRequest, endpoint: str, model: str, now: Entry) -> None:
        """Write down a request's new state; on disk within the commit interval."""
        reply = now.reply
        row = (
            key,
            request.label,
            endpoint,
            model,
            now.state,
            json.dumps(request.content(), ensure_ascii=False),
            reply.text if reply else None,
            reply.finish if reply else None,
            reply.tokens_in if reply else 0,
            reply.tokens_out if reply else 0,
            now.reason or None,
            now.detail or None,
            now.attempts,
            time.time(),
            now.seconds,
        )
        with self._changed:
            self._raise_fault()
            self._pending[key] = row
            self._changed.notify_all()

    def flush(self) -> None:
        """Return when everything noted is on disk."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._fault or not (self._pending or self._writing))
            self._hurry = False
            self._raise_fault()

    def close(self) -> None:
        """Commit what is left and fold the write-ahead log into the file."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._writer.join()
        self._reader.close()
        if self._fault is not None and self._pending:
            self._raise_fault()

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise UserError(
                f"{self.path} cannot be written ({self._fault}); free some room and run again"
            ) from None

    def _write(self) -> None:
        """The writer: takes what has gathered, commits it in one transaction, waits, again."""
        with closing(self._connect()) as connection:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._pending or self._closing)
                    if not self._pending:
                        break
                    # Others may gather while we wait; a flush or the end does not wait.
                    self._changed.wait_for(
                        lambda: self._closing or self._hurry, timeout=COMMIT_INTERVAL_S
                    )
                    self._writing, self._pending = self._pending, {}
                if not self._commit(connection, self._writing.values()):
                    return
                with self._changed:
                    self._writing = {}
                    self._changed.notify_all()

    def _commit(self, connection: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> bool:
        try:
            connection.execute("BEGIN")
            connection.executemany(_UPSERT, rows)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with self._changed:
                self._fault = error
                self._pending = {**self._writing, **self._pending}
                self._changed.notify_all()
            return False
        return True
