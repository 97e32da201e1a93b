"""Encoded rows on disk: made in parallel, once for each content, and read by memory map.

In come a file of records and a tokenizer; out comes a folder of the cache named by a hash of both
and of the options, so that ``check``, ``plan``, ``train`` and a resumed ``train`` encode a data set
once. ``rows.arrow`` holds the ids and spans, ``rejected.parquet`` the rows that cannot be used,
``counts.json``, written last, the rest. Neither making nor reading holds a data set in memory.

The cache is ``$MEADOWLARK_CACHE``, or ``~/.cache/meadowlark``, readable by its owner alone.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from meadowlark.dataset import count_rows, fingerprint, read_batches, rows_path
from meadowlark.processes import in_order
from meadowlark.progress import Progress
from meadowlark.records import Record, Rejected, from_table, rejected_schema, rejected_table
from meadowlark.train.encode import Encoder, Example, LossOn, TooLong

VERSION = 1
"""To be raised when the same rows would be encoded otherwise."""
BATCH = 2048
ALONE = 8192
"""A data set of fewer rows is encoded without starting processes."""
UNUSED_DAYS = 30
ROWS, REJECTED, COUNTS = "rows.arrow", "rejected.parquet", "counts.json"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("spans", pa.list_(pa.int32())),
        ("response_bytes", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows ``read``, ``kept`` and rejected; ``pieces`` that the kept ones became; licences of the
    kept; inputs ``cut``, rows ``split``."""

    read: int
    kept: int
    pieces: int
    rejected: dict[str, int]
    licences: dict[str, int]
    cut: int
    split: int


class Encoded(Sequence[Example]):
    """The examples of one cache folder. ``lengths`` and ``supervised`` are int64 of shape (rows,).

    Row ``i`` is read from the memory map when it is asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts = Counts(**json.loads((folder / COUNTS).read_text(encoding="utf-8")))
        with pa.memory_map(str(folder / ROWS)) as source:
            reader = pa.ipc.open_file(source)
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        self._batches = [_Columns(batch) for batch in batches]
        self._starts = np.cumsum([0, *(len(b.bytes) for b in self._batches)]).tolist()
        none = np.zeros(0, dtype=np.int64)
        self.lengths: npt.NDArray[np.int64] = np.concatenate(
            [none, *(np.diff(b.id_ends) for b in self._batches)]
        )
        self.supervised: npt.NDArray[np.int64] = np.concatenate(
            [none, *(b.supervised() for b in self._batches)]
        )

    def __len__(self) -> int:
        return int(self._starts[-1])

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        batch = bisect_right(self._starts, index) - 1
        return self._batches[batch].example(index - self._starts[batch])

    def ids(self) -> Iterator[str]:
        """The id of each example's record, in order."""
        for batch in self._batches:
            yield from batch.names.to_pylist()

    def rejected(self) -> pa.Table:
        """The rows that cannot be trained on, with the reason."""
        return pq.read_table(self.folder / REJECTED)


class _Columns:
    """One record batch as numpy views of the map: flat values, and where each row's end."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        ids, spans = batch.column("input_ids"), batch.column("spans")
        self.names = batch.column("id")
        self.id_ends = ids.offsets.to_numpy().astype(np.int64)
        self.ids = ids.values.to_numpy()
        self.span_ends = spans.offsets.to_numpy().astype(np.int64)
        self.spans = spans.values.to_numpy()
        self.bytes = batch.column("response_bytes").to_numpy()

    def supervised(self) -> npt.NDArray[np.int64]:
        widths = (self.spans[1::2] - self.spans[::2]).astype(np.int64)
        total = np.concatenate([[0], np.cumsum(widths)])
        found: npt.NDArray[np.int64] = np.diff(total[self.span_ends // 2])
        return found

    def example(self, row: int) -> Example:
        flat = self.spans[self.span_ends[row] : self.span_ends[row + 1]].tolist()
        return Example(
            self.names[row].as_py(),
            self.ids[self.id_ends[row] : self.id_ends[row + 1]],
            tuple(zip(flat[::2], flat[1::2], strict=True)),
            int(self.bytes[row]),
        )


# --------------------------------------------------------------------------- making


@dataclass(frozen=True, slots=True)
class Settings:
    """What besides rows and tokenizer decides an encoding."""

    max_length: int
    too_long: TooLong = "reject"
    loss_on: LossOn = "response"


def cache_folder() -> Path:
    """Where encoded rows are kept; made for its owner alone, since rows may be private."""
    named = os.environ.get("MEADOWLARK_CACHE")
    folder = (Path(named) if named else Path.home() / ".cache" / "meadowlark") / "encoded"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def encode(
    path: Path,
    tokenizer: Any,
    settings: Settings,
    *,
    limit: int | None = None,
    workers: int = 0,
    label: str = "encode",
) -> Encoded:
    """The rows of a file or folder, encoded: from the cache, or made now and put there.

    ``workers`` 0 takes as many processes as there are cores. The result does not depend on them.
    """
    folder = cache_folder() / _key(path, tokenizer, settings, limit)
    if not (folder / COUNTS).exists():
        _forget_unused(folder.parent)
        beside = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
        try:
            _make(beside, path, tokenizer, settings, limit, workers, label)
            shutil.rmtree(folder, ignore_errors=True)
            beside.rename(folder)
        except OSError:
            if not (folder / COUNTS).exists():  # else another process was first
                raise
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    os.utime(folder)
    return Encoded(folder)


def _key(path: Path, tokenizer: Any, settings: Settings, limit: int | None) -> str:
    content = {
        "version": VERSION,
        "rows": fingerprint(rows_path(path, Record)),
        "tokenizer": _identity(tokenizer),
        "limit": limit,
        **asdict(settings),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def _identity(tokenizer: Any) -> str:
    """A hash of all that a tokenizer saves, its chat template included."""
    with tempfile.TemporaryDirectory() as name:
        tokenizer.save_pretrained(name)
        return fingerprint(Path(name))


def _forget_unused(folder: Path) -> None:
    """Remove encodings that nothing has read for a month, and what kills left half made."""
    oldest = time.time() - UNUSED_DAYS * 86_400
    for entry in folder.iterdir():
        if entry.stat().st_mtime < oldest:
            shutil.rmtree(entry, ignore_errors=True)


def _make(
    folder: Path,
    path: Path,
    tokenizer: Any,
    settings: Settings,
    limit: int | None,
    workers: int,
    label: str,
) -> None:
    totals: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    licences: Counter[str] = Counter()
    schema = rejected_schema(Record)
    work = functools.partial(_encode_batch, Encoder(tokenizer, **asdict(settings)))
    batches = read_batches(path, Record, BATCH, limit)
    with (
        pa.OSFile(str(folder / ROWS), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as rows,
        pq.ParquetWriter(folder / REJECTED, schema, compression="zstd") as refused,
        Progress(label, count_rows(path, Record, limit)) as progress,
    ):
        for _, made in in_order(work, batches, few=ALONE // BATCH, workers=workers):
            rows.write_batch(made.rows)
            if made.rejected.num_rows:
                refused.write_table(made.rejected)
            reasons.update(made.rejected.column("reason").to_pylist())
            licences.update(made.licences)
            totals.update(made.totals)
            progress.advance(made.totals["read"])
    counts = Counts(
        **{name: totals[name] for name in ("read", "kept", "pieces", "cut", "split")},
        rejected=dict(sorted(reasons.items(), key=lambda r: (-r[1], r[0]))),
        licences=dict(sorted(licences.items())),
    )
    (folder / COUNTS).write_text(json.dumps(asdict(counts), indent=2) + "\n", encoding="utf-8")


@dataclass(slots=True)
class _Made:
    """What became of one batch."""

    rows: pa.RecordBatch
    rejected: pa.Table
    licences: dict[str, int]
    totals: dict[str, int]


def _encode_batch(encoder: Encoder, batch: tuple[pa.Table, list[Rejected]]) -> _Made:
    table, unread = batch
    records = from_table(table, Record)
    cut, split = encoder.cut, encoder.split
    examples, refused = encoder.encode(records)
    rejected = [*unread, *refused]
    licences = Counter(record.licence for record in records)
    licences -= Counter(bad.row.licence for bad in refused)
    totals = {
        "read": len(records) + len(unread),
        "kept": len(records) - len(refused),
        "pieces": len(examples),
        "cut": encoder.cut - cut,
        "split": encoder.split - split,
    }
    return _Made(_to_batch(examples), rejected_table(rejected, Record), licences, totals)


def _to_batch(examples: Sequence[Example]) -> pa.RecordBatch:
    none = np.zeros(0, dtype=np.int32)
    ids = np.concatenate([none, *(e.input_ids for e in examples)]).astype(np.int32)
    ends = np.cumsum([0, *(len(e.input_ids) for e in examples)]).astype(np.int32)
    flat = [edge for e in examples for span in e.spans for edge in span]
    span_ends = np.cumsum([0, *(2 * len(e.spans) for e in examples)]).astype(np.int32)
    columns = [
        pa.array([e.id for e in examples], pa.string()),
        pa.ListArray.from_arrays(ends, ids),
        pa.ListArray.from_arrays(span_ends, pa.array(flat, pa.int32())),
        pa.array([e.response_bytes for e in examples], pa.int64()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
