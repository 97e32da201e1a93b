"""``convert``: one open source from its raw form to records, each raw row kept or rejected.

Rows become Arrow batches as they are read, so that memory holds columns and not Python objects.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError, unknown
from meadowlark.progress import track
from meadowlark.records import Record, Rejected, rejected_table, to_table
from meadowlark.sources import SOURCES
from meadowlark.sources.source import Source

BATCH = 4096
"""Rows held as Python objects at a time."""


def convert(
    source: str,
    out: Path,
    *,
    raw: Path | None = None,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Convert ``raw``, or the shipped file of a source that has one. ``limit`` counts raw rows."""
    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    card = SOURCES[source]
    path = raw or card.shipped
    if path is None:
        raise UserError(f"{source} is converted from its raw form: give --raw with {card.raw}")
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; {source} is read from {card.raw}")
    options = {"source": source, "limit": limit}
    run = open_run("convert", out, options=options, inputs={"raw": path}, force=force)
    if run.complete:
        return run
    with run:
        rows = track(itertools.islice(_read(card, path), limit), f"convert {source}")
        kept, rejected = _tables(rows)
        if rejected.num_rows and not kept.num_rows:
            run.manifest.warnings.append(
                f"no row could be used: {source} is read from {card.raw}; is {path} that?"
            )
        run.manifest.rows["in"] = kept.num_rows + rejected.num_rows
        run.write(kept, Record)
        run.reject(rejected, Record)
        run.finish(licence=card.licence, obligations=card.obligations, hub=list(card.hub))
    return run


def _read(card: Source, path: Path) -> Iterator[Record | Rejected]:
    """The source's rows; a file that is not in its raw form at all is the user's mistake."""
    try:
        yield from card.rows(path)
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        raise UserError(f"{path} cannot be read as {card.raw}: {error}") from None


def _tables(rows: Iterable[Record | Rejected]) -> tuple[pa.Table, pa.Table]:
    """Kept and rejected rows as Arrow tables, each in the order of reading."""
    kept, rejected = [to_table([], Record)], [rejected_table([], Record)]
    remaining = iter(rows)
    while batch := list(itertools.islice(remaining, BATCH)):
        kept.append(to_table((r for r in batch if isinstance(r, Record)), Record))
        rejected.append(rejected_table((r for r in batch if isinstance(r, Rejected)), Record))
    return pa.concat_tables(kept), pa.concat_tables(rejected)
