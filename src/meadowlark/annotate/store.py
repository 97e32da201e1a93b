"""The study on disk: one SQLite file with items, people, shares and every judgement ever made.

Judgements are only ever added; the newest of a person and item that was not undone is what counts.
Each is committed (and synced) before its browser hears of it, and bears the key of the form it came
from, so that a form sent twice counts once. One process writes at a time; others may read.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import secrets
import sqlite3
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

from meadowlark.annotate.judgements import Judgement
from meadowlark.annotate.shares import Assigned
from meadowlark.errors import UserError

FILE = "annotations.sqlite"
ADMINISTRATOR = "administrator"
_TABLES = """
CREATE TABLE study (key TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE items (place INTEGER PRIMARY KEY, content TEXT NOT NULL);
CREATE TABLE people (name TEXT PRIMARY KEY, place INTEGER NOT NULL, token BLOB);
CREATE TABLE assigned (
    person TEXT NOT NULL, place INTEGER NOT NULL, item INTEGER NOT NULL, a_first INTEGER NOT NULL,
    PRIMARY KEY (person, item)
);
CREATE TABLE judgements (
    id INTEGER PRIMARY KEY AUTOINCREMENT, person TEXT NOT NULL, item INTEGER NOT NULL,
    form TEXT NOT NULL, content TEXT NOT NULL, at TEXT NOT NULL, undone INTEGER NOT NULL DEFAULT 0,
    UNIQUE (person, form)
);
CREATE INDEX by_item ON judgements (person, item, undone);
"""


@dataclass(frozen=True)
class Study:
    """What was set up: the task, the seed, where the items came from. Never changed afterwards.

    ``models`` are the two compared (none for a review), ``inputs`` map a name to path and SHA-256,
    ``left_out`` says of an item why it is not shown.
    """

    id: str
    task: str
    models: tuple[str, ...]
    people: tuple[str, ...]
    overlap: float
    seed: int
    limit: int | None
    inputs: dict[str, dict[str, str]]
    left_out: tuple[tuple[str, str], ...] = ()


class Judged(NamedTuple):
    """One judgement that counts."""

    person: str
    item: int
    a_first: bool
    judgement: Judgement
    at: str


class Progress(NamedTuple):
    """How far one person is; ``last`` is when the last judgement came, empty before the first."""

    person: str
    done: int
    assigned: int
    last: str


def create(
    folder: Path,
    study: Study,
    items: Sequence[Mapping[str, Any]],
    shares: Mapping[str, Sequence[Assigned]],
) -> None:
    """Write a new study beside its place, then rename it there: it is whole or absent."""
    folder.mkdir(parents=True, exist_ok=True)
    beside = folder / f"{FILE}.tmp"
    beside.unlink(missing_ok=True)
    db = sqlite3.connect(beside)
    db.executescript(_TABLES)
    values = asdict(study) | {"secret": secrets.token_hex(32)}
    db.executemany(
        "INSERT INTO study VALUES (?, ?)", [(k, json.dumps(v)) for k, v in values.items()]
    )
    db.executemany(
        "INSERT INTO items VALUES (?, ?)",
        [(place, json.dumps(item, ensure_ascii=True)) for place, item in enumerate(items)],
    )
    db.executemany(
        "INSERT INTO people VALUES (?, ?, NULL)",
        [(name, place) for place, name in enumerate((ADMINISTRATOR, *study.people))],
    )
    db.executemany(
        "INSERT INTO assigned VALUES (?, ?, ?, ?)",
        [
            (person, place, item, int(a_first))
            for person, own in shares.items()
            for place, (item, a_first) in enumerate(own)
        ],
    )
    db.commit()
    db.close()
    beside.replace(folder / FILE)


class Store:
    """An open study. Opened to write, it holds the folder's lock until :meth:`close`."""

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        if not (folder / FILE).exists():
            raise UserError(
                f"{folder} holds no study ({FILE}); `meadowlark annotate A B --people FILE --out "
                f"{folder}` makes one"
            )
        self.folder = folder
        self._lock: IO[str] | None = None
        if write:
            self._lock = (folder / ".lock").open("w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                self._lock.close()
                raise UserError(f"another process serves {folder}; stop it first") from None
        self._db = sqlite3.connect(folder / FILE, isolation_level=None)
        try:
            self._db.execute("PRAGMA busy_timeout = 10000")
            if write:
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = FULL")
            values = {k: json.loads(v) for k, v in self._db.execute("SELECT * FROM study")}
        except sqlite3.DatabaseError as error:
            self.close()
            raise UserError(f"{folder / FILE} cannot be read: {error}") from None
        self.secret: str = values.pop("secret")
        self.study = Study(
            **{
                **values,
                "models": tuple(values["models"]),
                "people": tuple(values["people"]),
                "left_out": tuple((item, why) for item, why in values["left_out"]),
            }
        )

    def close(self) -> None:
        """Close the file and give the lock back."""
        self._db.close()
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ----------------------------------------------------------------------- people

    def set_tokens(self, tokens: Mapping[str, str]) -> None:
        """Let each name (and the administrator) sign in with a token; only its hash is kept."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "UPDATE people SET token = ? WHERE name = ?",
            [(_hashed(token), name) for name, token in tokens.items()],
        )
        self._db.execute("COMMIT")

    def person_of(self, token: str) -> str:
        """Whose token this is, or the empty string; takes as long for a wrong one as for any."""
        given = _hashed(token)
        found = ""
        for name, held in self._db.execute("SELECT name, token FROM people ORDER BY place"):
            if hmac.compare_digest(given, held or b""):
                found = name
        return found

    # ----------------------------------------------------------------------- items

    def item(self, place: int) -> dict[str, Any]:
        """One item as it was put in."""
        row = self._db.execute("SELECT content FROM items WHERE place = ?", (place,)).fetchone()
        found: dict[str, Any] = json.loads(row[0])
        return found

    def items(self) -> list[dict[str, Any]]:
        """All items in their order."""
        rows = self._db.execute("SELECT content FROM items ORDER BY place")
        return [json.loads(content) for (content,) in rows]

    def assigned(self, person: str) -> list[Assigned]:
        """A person's items in the order in which they are shown."""
        rows = self._db.execute(
            "SELECT item, a_first FROM assigned WHERE person = ? ORDER BY place", (person,)
        )
        return [Assigned(item, bool(a_first)) for item, a_first in rows]

    def next(self, person: str) -> Assigned | None:
        """The first of a person's items that has no judgement; None when all have one."""
        row = self._db.execute(
            "SELECT item, a_first FROM assigned WHERE person = ?1 AND NOT EXISTS (SELECT 1 FROM "
            "judgements j WHERE j.person = ?1 AND j.item = assigned.item AND undone = 0) "
            "ORDER BY place LIMIT 1",
            (person,),
        ).fetchone()
        return None if row is None else Assigned(row[0], bool(row[1]))

    # ----------------------------------------------------------------------- judgements

    def record(self, person: str, item: int, form: str, judgement: Judgement) -> bool:
        """Commit a judgement; False where this form's came before. KeyError: not their item."""
        owned = "SELECT 1 FROM assigned WHERE person = ? AND item = ?"
        if self._db.execute(owned, (person, item)).fetchone() is None:
            raise KeyError(item)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        text = json.dumps(judgement, ensure_ascii=True)
        done = self._db.execute(
            "INSERT INTO judgements (person, item, form, content, at) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (person, form) DO NOTHING",
            (person, item, form, text, at),
        )
        return done.rowcount == 1

    def record_all(self, person: str, judgements: Mapping[int, Judgement]) -> None:
        """Commit several judgements of one person, or none of them."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            for item, judgement in judgements.items():
                self.record(person, item, secrets.token_urlsafe(12), judgement)
            self._db.execute("COMMIT")
        except BaseException:
            self._db.execute("ROLLBACK")
            raise

    def last(self, person: str) -> int | None:
        """The item that a person judged last, or None."""
        row = self._db.execute(
            "SELECT item FROM judgements WHERE person = ? AND undone = 0 ORDER BY id DESC LIMIT 1",
            (person,),
        ).fetchone()
        return None if row is None else int(row[0])

    def undo(self, person: str, item: int) -> None:
        """Take a person's judgement of an item back; it stays on file as undone."""
        self._db.execute(
            "UPDATE judgements SET undone = 1 WHERE person = ? AND item = ?", (person, item)
        )

    def latest(self, person: str, item: int) -> Judgement | None:
        """What a person last said of an item, also when it was undone."""
        row = self._db.execute(
            "SELECT content FROM judgements WHERE person = ? AND item = ? ORDER BY id DESC LIMIT 1",
            (person, item),
        ).fetchone()
        return None if row is None else json.loads(row[0])

    def judged(self) -> list[Judged]:
        """Every judgement that counts, by person and in the order of their items."""
        rows = self._db.execute(
            "SELECT j.person, j.item, s.a_first, j.content, j.at FROM judgements j "
            "JOIN assigned s ON s.person = j.person AND s.item = j.item "
            "JOIN people p ON p.name = j.person "
            "WHERE j.id IN (SELECT max(id) FROM judgements WHERE undone = 0 "
            "GROUP BY person, item) ORDER BY p.place, s.place"
        )
        return [Judged(p, i, bool(a), json.loads(c), at) for p, i, a, c, at in rows]

    def progress(self) -> list[Progress]:
        """How far everybody is, in the order of the list of people."""
        return [self.progress_of(person) for person in self.study.people]

    def progress_of(self, person: str) -> Progress:
        """How far one person is."""
        done, last = self._db.execute(
            "SELECT count(DISTINCT item), coalesce(max(at), '') FROM judgements "
            "WHERE person = ? AND undone = 0",
            (person,),
        ).fetchone()
        (assigned,) = self._db.execute(
            "SELECT count(*) FROM assigned WHERE person = ?", (person,)
        ).fetchone()
        return Progress(person, done, assigned, last)


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
