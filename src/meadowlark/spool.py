"""Rows that are written as they come: a stage over many rows holds a few thousand at a time.

A :class:`Spool` is the streaming twin of ``Run.write`` and ``Run.reject``: rows go into a parquet
file beside its place, some thousand a row group, and the file is renamed when everything is there.
Compression runs in a thread of its own, one group behind. Rows that another process made come as
a :class:`Batch`, which is Arrow already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meadowlark.dataset import FILE_OF, Run
from meadowlark.records import SCHEMAS, Record, Rejected, rejected_schema, rejected_table, to_table

ROW_GROUP = 2048


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows as tables of those kept and those rejected; ``order`` has a byte for each row as
    they came, 1 where it is kept."""

    kept: pa.Table
    rejected: pa.Table
    order: bytes

    @classmethod
    def of(cls, rows: Iterable[Record | Rejected]) -> Batch:
        """Rows as they come from a reader."""
        kept: list[Record] = []
        refused: list[Rejected] = []
        order = bytearray()
        for row in rows:
            if isinstance(row, Record):
                kept.append(row)
                order.append(1)
            else:
                refused.append(row)
                order.append(0)
        return cls(to_table(kept, Record), rejected_table(refused, Record), bytes(order))

    def first(self, count: int) -> Batch:
        """The first ``count`` rows, or all if there are no more."""
        order = self.order[:count]
        kept = order.count(1)
        return Batch(self.kept.slice(0, kept), self.rejected.slice(0, len(order) - kept), order)


class Spool:
    """Kept and rejected records of one run, written in the order in which they are added.

    Used as a context inside the run's; :meth:`close` puts ``rows.parquet`` and
    ``rejected.parquet`` in place and counts them in the manifest, as ``Run.write`` and
    ``Run.reject`` do. Left without it, nothing stays. ``kept`` and ``rejected`` count the rows
    so far.
    """

    def __init__(self, run: Run) -> None:
        self.kept = 0
        self.rejected = 0
        self._run = run
        self._licences: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._rows: list[Record] = []
        self._refused: list[Rejected] = []
        self._rows_file = _File(run, FILE_OF[Record], SCHEMAS[Record])
        self._refused_file = _File(run, "rejected.parquet", rejected_schema(Record))

    def keep(self, record: Record) -> None:
        """Add a row to ``rows.parquet``."""
        self.kept += 1
        self._licences[record.licence] += 1
        self._rows.append(record)
        if len(self._rows) >= ROW_GROUP:
            self._flush_rows()

    def reject(self, rejected: Rejected) -> None:
        """Add a row to ``rejected.parquet``."""
        self.rejected += 1
        self._reasons[rejected.reason] += 1
        self._refused.append(rejected)
        if len(self._refused) >= ROW_GROUP:
            self._flush_refused()

    def add(self, batch: Batch) -> None:
        """Add the rows of a batch, each to its file."""
        self._flush_rows()
        self._flush_refused()
        self.kept += batch.kept.num_rows
        self.rejected += batch.rejected.num_rows
        self._licences.update(batch.kept.column("licence").to_pylist())
        self._reasons.update(batch.rejected.column("reason").to_pylist())
        self._rows_file.write(batch.kept)
        self._refused_file.write(batch.rejected)

    def _flush_rows(self) -> None:
        if self._rows:
            self._rows_file.write(to_table(self._rows, Record))
            self._rows = []

    def _flush_refused(self) -> None:
        if self._refused:
            self._refused_file.write(rejected_table(self._refused, Record))
            self._refused = []

    def __enter__(self) -> Spool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._rows_file.drop()
        self._refused_file.drop()

    def close(self) -> None:
        """Write what is left, put both files in place and count them in the manifest."""
        self._flush_rows()
        self._flush_refused()
        self._rows_file.place()
        self._refused_file.place()
        rows = self._run.manifest.rows
        rows["in"] = self.kept + self.rejected
        rows["kept"] = self.kept
        rows["rejected"] = dict(sorted(self._reasons.items(), key=lambda r: (-r[1], r[0])))
        self._run.manifest.licences = dict(sorted(self._licences.items()))


class _File:
    """One parquet file that grows beside its place, in groups of :data:`ROW_GROUP` rows; nothing
    is made before the first table."""

    def __init__(self, run: Run, name: str, schema: pa.Schema) -> None:
        self._run, self._name, self._schema = run, name, schema
        self._path = run.folder / name
        self._beside = self._path.with_name(name + ".tmp")
        self._writer: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._writing: Future[None] | None = None
        self._held = schema.empty_table()

    def write(self, table: pa.Table) -> None:
        """Add rows; whole groups of them go to the file, what is left waits for the next."""
        self._held = pa.concat_tables([self._held, table])
        if whole := self._held.num_rows // ROW_GROUP * ROW_GROUP:
            self._begin(self._held.slice(0, whole))
            self._held = self._held.slice(whole)

    def _begin(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._beside, self._schema, compression="zstd")
        self._wait()
        if table.num_rows:
            self._writing = self._thread.submit(self._write, table)

    def _write(self, table: pa.Table) -> None:
        self._writer.write_table(table.combine_chunks(), row_group_size=ROW_GROUP)

    def _wait(self) -> None:
        """Until the last group is written; what went wrong there is raised here."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def place(self) -> None:
        if self._held.num_rows or self._writer is None:
            self._begin(self._held)
        self._wait()
        self._thread.shutdown()
        self._writer.close()
        self._writer = None
        self._beside.replace(self._path)
        self._run.wrote(self._name)

    def drop(self) -> None:
        self._thread.shutdown()
        if self._writer is not None:
            self._writer.close()
            self._beside.unlink(missing_ok=True)
