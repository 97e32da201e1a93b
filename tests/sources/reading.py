"""A source's rows, kept and rejected apart, as the tests of all sources want them."""

from pathlib import Path

from meadowlark.records import Record, Rejected
from meadowlark.sources import SOURCES


def split(source: str, raw: Path, **settings: str) -> tuple[list[Record], list[Rejected]]:
    rows = list(SOURCES[source].rows(raw, **settings))
    kept = [row for row in rows if isinstance(row, Record)]
    return kept, [row for row in rows if isinstance(row, Rejected)]
