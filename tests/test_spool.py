"""Rows written as they come: the same files and counts as rows written at once, or nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from meadowlark.dataset import Run, open_run, read, read_manifest
from meadowlark.records import Record, Rejected
from meadowlark.spool import ROW_GROUP, Batch, Spool

ROWS = [
    Record(f"Task {n}", licence="MIT" if n % 4 else "", tags={"n": str(n)})
    for n in range(ROW_GROUP + 7)
]
REFUSED = [Rejected(Record("Bad"), "empty", "why"), *[Rejected(Record("No"), "refused")] * 3]


def opened(out: Path) -> Run:
    return open_run("respond", out, options={}, inputs={})


def test_a_spool_is_what_write_and_reject_make(tmp_path: Path) -> None:
    with opened(tmp_path / "spool") as run, Spool(run) as spool:
        for row in ROWS:
            spool.keep(row)
        for refused in REFUSED:
            spool.reject(refused)
        spool.close()
        run.finish()
    with opened(tmp_path / "whole") as whole:
        whole.write(ROWS, Record)
        whole.reject(REFUSED, Record)
        whole.manifest.rows["in"] = len(ROWS) + len(REFUSED)
        whole.finish()
    assert run.manifest.rows == whole.manifest.rows
    assert run.manifest.licences == whole.manifest.licences
    assert run.manifest.outputs.keys() == whole.manifest.outputs.keys()
    assert read(tmp_path / "spool", Record) == read(tmp_path / "whole", Record) == (ROWS, [])


@pytest.mark.parametrize("size", [9, 700, ROW_GROUP, 3 * ROW_GROUP])
def test_batches_of_any_size_make_the_very_bytes_that_single_rows_make(
    size: int, tmp_path: Path
) -> None:
    rows: list[Record | Rejected] = [*ROWS[:900], *REFUSED, *ROWS[900:]]
    for name in ("single", "batches"):
        with opened(tmp_path / name) as run, Spool(run) as spool:
            if name == "single":
                for row in rows:
                    spool.keep(row) if isinstance(row, Record) else spool.reject(row)
            else:
                for start in range(0, len(rows), size):
                    spool.add(Batch.of(rows[start : start + size]))
            spool.close()
            run.finish()
    single, batches = tmp_path / "single", tmp_path / "batches"
    for file in ("rows.parquet", "rejected.parquet"):
        assert (batches / file).read_bytes() == (single / file).read_bytes()
    assert read_manifest(batches).rows == read_manifest(single).rows
    assert read_manifest(batches).licences == read_manifest(single).licences


@pytest.mark.parametrize("count", [0, 1, 2, 5, 6, 9])
def test_the_first_rows_of_a_batch_are_those_that_came_first(count: int) -> None:
    rows = [ROWS[0], REFUSED[0], ROWS[1], REFUSED[1], REFUSED[2], ROWS[2]]
    first, expected = Batch.of(rows).first(count), Batch.of(rows[:count])
    assert first.order == expected.order
    assert first.kept.equals(expected.kept)
    assert first.rejected.equals(expected.rejected)


@pytest.mark.parametrize("rows", [0, 3, ROW_GROUP + 3])
def test_a_run_that_fails_leaves_no_half_file(tmp_path: Path, rows: int) -> None:
    def fail() -> None:
        with opened(tmp_path / "out") as run, Spool(run) as spool:
            for row in ROWS[:rows]:
                spool.keep(row)
            raise RuntimeError("the power went")

    with pytest.raises(RuntimeError, match="the power went"):
        fail()
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".lock", "started.json"}


def test_no_rows_make_empty_files(tmp_path: Path) -> None:
    with opened(tmp_path / "out") as run, Spool(run) as spool:
        spool.close()
        run.finish()
    assert read(tmp_path / "out", Record) == ([], [])
    assert run.manifest.rows == {"in": 0, "kept": 0, "rejected": {}}
