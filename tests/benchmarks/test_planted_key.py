"""The search for planted keys finds one wherever a run could have left it."""

from __future__ import annotations

import base64
import json
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

KEY = "sk-planted/4711+here"


def parquet(path: Path) -> None:
    rng = random.Random(1)
    said = " ".join(str(rng.random()) for _ in range(1000))
    table = pa.table({"tags": [{"a": "x"}] * 3000 + [{"a": f"{said} Bearer {KEY} {said}"}]})
    pq.write_table(table, path, compression="zstd")
    assert KEY.encode() not in path.read_bytes()


def parquet_metadata(path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata({"note": KEY}), path)


def sqlite(path: Path) -> None:
    with closing(sqlite3.connect(path)) as base, base:
        base.execute("CREATE TABLE calls (raw TEXT)")
        rows = [("x" * 5000 + KEY + "y" * number,) for number in range(0, 4200, 10)]
        base.executemany("INSERT INTO calls VALUES (?)", rows)
    assert path.read_bytes().count(KEY.encode()) < len(rows)  # some are broken by the end of a page


def text(content: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(content) and None


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("rows.parquet", parquet),
        ("rows.parquet", parquet_metadata),
        ("journal.sqlite", sqlite),
        ("log.txt", text(f"Traceback: headers={{'Authorization': 'Bearer {KEY}'}}")),
        ("manifest.json", text(json.dumps(KEY).replace("/", "\\/"))),
        ("failed.jsonl", text(quote(KEY, safe=""))),
        ("page.html", text(base64.b64encode(f"{KEY}:".encode()).decode())),
    ],
)
def test_a_key_is_found_wherever_it_stands(
    name: str,
    write: Callable[[Path], None],
    tmp_path: Path,
    search_for: Callable[[Path, str], dict[str, Any]],
) -> None:
    (tmp_path / "a").mkdir()
    write(tmp_path / "a" / name)
    (tmp_path / "b.txt").write_text("sk-planted and nothing more, [key]")
    found = search_for(tmp_path, KEY)
    assert found["found_in"] == [f"a/{name}"]
    assert found["files"] == 2
    assert search_for(tmp_path, "sk-another/key+0000")["found_in"] == []
