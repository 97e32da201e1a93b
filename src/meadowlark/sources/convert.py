"""``convert``: one open source from its raw form to records, each raw row kept or rejected."""

from __future__ import annotations

import itertools
from pathlib import Path

from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError, unknown
from meadowlark.progress import track
from meadowlark.records import Record, Rejected
from meadowlark.sources import SOURCES


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
        kept: list[Record] = []
        rejected: list[Rejected] = []
        for row in track(itertools.islice(card.rows(path), limit), f"convert {source}"):
            if isinstance(row, Rejected):
                rejected.append(row)
            else:
                kept.append(row)
        run.manifest.rows["in"] = len(kept) + len(rejected)
        run.write(kept, Record)
        run.reject(rejected, Record)
        run.finish(licence=card.licence, obligations=card.obligations)
    return run
