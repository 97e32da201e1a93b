"""What a stage over many rows lays aside on disk: numbers that are read back by memory map, and
rows that are written in another order than they come in. So that memory does not grow with text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

BUCKET = 50_000
_PLACE = "place in the file"


def offsets_of(counts: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Where each text's numbers begin, and where the last one's end."""
    return np.concatenate([np.zeros(1, np.int64), *(np.cumsum(np.concatenate(counts)),)])


def mapped(path: Path, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """A file as an array that is not read into memory; an empty file cannot be mapped."""
    if not all(shape):
        return np.zeros(shape, dtype)
    return np.memmap(path, dtype, "r", shape=shape)


class InOrder:
    """Rows of one file to be: they come in any order, each with its place in the file.

    They are divided into files of ``BUCKET`` neighbouring places in ``folder``, and put in order
    one of these at a time by :meth:`write`.
    """

    def __init__(self, folder: Path, name: str, schema: pa.Schema) -> None:
        self._folder, self._name, self._schema = folder, name, schema
        self._with_place = schema.append(pa.field(_PLACE, pa.int64()))
        self._buckets: dict[int, Any] = {}

    def add(self, table: pa.Table, places: NDArray[np.int64]) -> None:
        """Lay rows aside whose places in the file are ``places`` (rows,)."""
        bucket_of = places // BUCKET
        table = table.append_column(_PLACE, pa.array(places))
        for bucket in np.unique(bucket_of).tolist():
            if bucket not in self._buckets:
                self._buckets[bucket] = pa.ipc.new_stream(self._path(bucket), self._with_place)
            self._buckets[bucket].write_table(table.filter(pa.array(bucket_of == bucket)))

    def write(self, path: Path) -> None:
        """Write all rows to a parquet file, beside its place and then renamed."""
        beside = path.with_name(path.name + ".tmp")
        with pq.ParquetWriter(beside, self._schema, compression="zstd") as writer:
            if not self._buckets:
                writer.write_table(self._schema.empty_table())
            for bucket, rows in sorted(self._buckets.items()):
                rows.close()
                with pa.memory_map(str(self._path(bucket))) as source:
                    table = pa.ipc.open_stream(source).read_all()
                    order = np.argsort(table.column(_PLACE).to_numpy(), kind="stable")
                    writer.write_table(table.drop_columns([_PLACE]).take(pa.array(order)))
                self._path(bucket).unlink()
        beside.replace(path)

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{self._name}.{bucket}"
