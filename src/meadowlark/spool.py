"""Rows that are written as they come: a stage over many rows holds a few thousand at a time.

A :class:`Spool` is the streaming twin of ``Run.write`` and ``Run.reject``: rows go into a parquet
file beside its place, one row group a batch, and the file is renamed when everything is there.
Compression runs in a thread of its own, one batch behind.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meadowlark.dataset import FILE_OF, Run
from meadowlark.records import SCHEMAS, Record, Rejected, rejected_schema, rejected_table, to_table

ROW_GROUP = 2048


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

    def _flush_rows(self) -> None:
        self._rows_file.write(to_table(self._rows, Record))
        self._rows = []

    def _flush_refused(self) -> None:
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
    """One parquet file that grows beside its place; nothing is made before the first batch."""

    def __init__(self, run: Run, name: str, schema: pa.Schema) -> None:
        self._run, self._name, self._schema = run, name, schema
        self._path = run.folder / name
        self._beside = self._path.with_name(name + ".tmp")
        self._writer: Any = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._writing: Future[None] | None = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._beside, self._schema, compression="zstd")
        self._wait()
        if table.num_rows:
            self._writing = self._thread.submit(self._writer.write_table, table)

    def _wait(self) -> None:
        """Until the last batch is written; what went wrong there is raised here."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def place(self) -> None:
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
