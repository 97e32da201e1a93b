"""``convert``: one open source from its raw form, or from the hub, to records.

Rows go to disk as they are read, so that a source of any size takes the memory of a few batches.
Where its reader comes in two halves (:class:`Blocks`), several processes make the rows.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import itertools
import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError, unknown
from meadowlark.processes import in_order
from meadowlark.progress import Progress
from meadowlark.sources import SOURCES, hub
from meadowlark.sources.source import Blocks, Rows, Source
from meadowlark.spool import Batch, Spool

HEAD = 1 << 16
"""Bytes of a file in which the signs of a source are looked for."""
BATCH = 2048
"""Rows of a reader in one piece that are put into tables at a time."""
ALONE = 16
"""A source of no more blocks is made into rows without starting processes."""
FEW_ROWS = 10_000
"""Rows that are made before other processes have started."""
LARGE = 1 << 26
"""Bytes of a raw file that has more blocks for certain: processes start while it is opened."""
MAKERS = 4
"""Processes that make rows at most: one that reads and writes keeps no more of them busy."""


def convert(
    source: str,
    out: Path,
    *,
    raw: Path | None = None,
    from_hub: bool = False,
    revisions: Sequence[str] = (),
    settings: Mapping[str, str] | None = None,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Convert ``raw``, the shipped file of a source that has one, or the hub's data sets.

    ``revisions`` are commits of the hub's data sets, in the card's order; where none is given the
    newest are asked for, and recorded. ``settings`` are the source's own. ``limit`` counts rows
    read.
    """
    if source not in SOURCES:
        raise unknown("source", source, SOURCES)
    card = SOURCES[source]
    chosen = _settings(card, settings or {})
    options: dict[str, Any] = {"source": source, "limit": limit} | chosen
    inputs: dict[str, Path] = {}
    batches: Generator[Batch]
    if from_hub:
        if raw is not None:
            raise UserError("give --raw or --hub, not both")
        options["hub"] = pinned = hub.pin(card, revisions)
        batches = _batches(hub.rows(card, pinned, chosen), limit)
    else:
        if revisions:
            raise UserError("--revision names a commit of the hub's data set: give it with --hub")
        path = _raw(card, raw)
        inputs, batches = {"raw": path}, _read(card, path, chosen, limit)
    run = open_run("convert", out, options=options, inputs=inputs, hash_meanwhile=True, force=force)
    if run.complete:
        return run
    with run, Spool(run) as spool:
        with Progress(f"convert {source}") as progress, contextlib.closing(batches):
            for batch in _first(batches, limit):
                spool.add(batch)
                progress.advance(len(batch.order))
        if spool.rejected and not spool.kept:
            asked = "".join(
                f"; is {path} that?{_resembles(card, path)}" for path in inputs.values()
            )
            run.manifest.warnings.append(
                f"no row could be used: {source} is read from {card.raw}{asked}"
            )
        spool.close()
        run.finish(
            licence=card.licence,
            obligations=card.obligations,
            use=card.use,
            hub=[each.name for each in card.hub],
            about={
                "title": card.title,
                "origin": card.origin,
                "language": card.language,
                "citation": card.citation,
                "verified": card.verified,
                "defects": card.defects,
            },
        )
    return run


def _raw(card: Source, raw: Path | None) -> Path:
    """The raw form to read: the given one, or the one that is shipped."""
    path = raw or card.shipped
    if path is None:
        where = "; or --hub" if card.hub else ""
        raise UserError(
            f"{card.name} is converted from its raw form: give --raw with {card.raw}{where}"
        )
    if not path.exists():
        raise UserError(f"no such file or folder: {path}; {card.name} is read from {card.raw}")
    return path


def _settings(card: Source, given: Mapping[str, str]) -> dict[str, str]:
    """The source's settings, those that were given in place of the defaults."""
    for name, value in given.items():
        if name not in card.settings:
            have = ", ".join(f"--{known}" for known in card.settings) or "none"
            raise UserError(f"{card.name} has no --{name}; its own options: {have}")
        allowed = card.settings[name].values
        if allowed and value not in allowed:
            raise unknown(f"--{name}", value, allowed)
    return {name: given.get(name, setting.default) for name, setting in card.settings.items()}


def _first(batches: Iterator[Batch], limit: int | None) -> Iterator[Batch]:
    """The first rows of all batches, ``limit`` of them where that is given."""
    if limit is None:
        yield from batches
        return
    while limit > 0 and (batch := next(batches, None)) is not None:
        yield batch.first(limit)
        limit -= len(batch.order)


def _batches(rows: Rows, limit: int | None) -> Generator[Batch]:
    """Rows as they come, in tables; no more of them are asked for than ``limit``."""
    rows = itertools.islice(rows, limit)
    while some := list(itertools.islice(rows, BATCH)):
        yield Batch.of(some)


def _make(made: Callable[[Any], Rows], block: Any) -> Batch:
    return Batch.of(made(block))


def _read(
    card: Source, path: Path, settings: Mapping[str, str], limit: int | None
) -> Generator[Batch]:
    """The source's rows, ``limit`` of them or somewhat more; a file that is not in its raw form
    at all is the user's mistake."""
    try:
        if isinstance(card.rows, Blocks):
            work = functools.partial(_make, functools.partial(card.rows.made, **settings))
            blocks = card.rows.read(path, **settings)
            small = limit is not None and limit <= FEW_ROWS
            workers = 1 if small else min(MAKERS, len(os.sched_getaffinity(0)))
            few = ALONE if limit or path.stat().st_size <= LARGE else 0
            for _, batch in in_order(work, blocks, few=few, workers=workers):
                yield batch
        else:
            yield from _batches(card.rows(path, **settings), limit)
    except UserError as error:
        raise UserError(f"{error}{_resembles(card, path)}") from None
    except (UnicodeDecodeError, csv.Error, IsADirectoryError) as error:
        message = f"{path} cannot be read as {card.raw}: {error}{_resembles(card, path)}"
        raise UserError(message) from None


def _resembles(card: Source, path: Path) -> str:
    """Which other source the file looks like, as a sentence; empty when it looks like none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        head = file.read(HEAD).decode("utf-8", "ignore")
    names = [
        other.name
        for other in SOURCES.values()
        if other.signs and other.name != card.name and all(sign in head for sign in other.signs)
    ]
    return f" It looks like a file of {' or '.join(names)}." if names else ""
