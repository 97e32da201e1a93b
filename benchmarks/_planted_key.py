"""Keys planted in the environment, and the search for them in everything that a run has left.

Parquet is compressed and SQLite breaks long texts over pages, so both are read as their readers do,
beside the bytes of every file. A key is looked for as it is and as JSON, a URL or base64 has it.
"""

from __future__ import annotations

import base64
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq

KEYS = {
    name: f"sk-planted/4711+{name.partition('_')[0].lower()}-in-the-environment"
    for name in ("MEADOWLARK_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")
}
"""To be put in the environment of what is run; the first goes to any URL that is typed."""


def forms(key: str) -> set[bytes]:
    """A key as it is, and as JSON, a URL and base64 may write it."""
    encoded = base64.b64encode(key.encode()).rstrip(b"=")
    # The last character or two of base64 depend on what follows the key.
    written = {key, key.replace("/", "\\/"), quote(key), quote(key, safe=""), json.dumps(key)[1:-1]}
    return {text.encode() for text in written} | {encoded[:-2]}


def contents(path: Path) -> Iterator[bytes]:
    """The bytes of a file, and the texts inside where they are compressed or in pages."""
    yield path.read_bytes()
    if path.suffix == ".parquet":
        file = pq.ParquetFile(path)
        yield repr(file.metadata.metadata).encode()
        for batch in file.iter_batches(1000):
            yield json.dumps(batch.to_pylist(), ensure_ascii=False, default=str).encode()
    elif path.suffix == ".sqlite":
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as base:
            for (table,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'"):
                for row in base.execute(f'SELECT * FROM "{table}"'):
                    yield repr(row).encode()


def searched(folder: Path, keys: dict[str, str] = KEYS) -> dict[str, Any]:
    """How many files and bytes were searched, which of them hold a key, and how many ``[key]``."""
    wanted = {form for key in keys.values() for form in forms(key)}
    files, size, cut_out = 0, 0, 0
    found: list[str] = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        files += 1
        size += path.stat().st_size
        holds = False
        for content in contents(path):
            holds = holds or any(form in content for form in wanted)
            cut_out += content.count(b"[key]") if path.suffix == ".sqlite" else 0
        if holds:
            found.append(str(path.relative_to(folder)))
    return {
        "files": files,
        "megabytes": round(size / 1e6, 1),
        "found_in": found,
        "cut_out_of_journals": cut_out,
    }
