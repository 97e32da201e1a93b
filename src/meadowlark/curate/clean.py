"""``clean``: rows put right, and what is broken, private, an exam question or a duplicate taken
out.

Blocks of rows go through the rules of single rows (``examine``) in several processes and are laid
aside on disk; of each row only what its duplicates are known by is kept, most of that on disk too.
Then duplicates are decided over all rows, in their order, and the rows are written out. Memory
depends on the number of rows by some 300 bytes each, not on their text.
"""

from __future__ import annotations

import functools
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from meadowlark.config import assign, load, parse
from meadowlark.curate import private_data
from meadowlark.curate.aside import mapped, offsets_of
from meadowlark.curate.examine import CONTAMINATION_SCHEMA, Examined, Examiner
from meadowlark.curate.options import CleanOptions
from meadowlark.curate.semantic import semantic_duplicates
from meadowlark.dataset import Run, count_rows, open_run, read_batches
from meadowlark.match import minhash
from meadowlark.match.groups import first_of_same
from meadowlark.processes import in_order
from meadowlark.progress import Progress
from meadowlark.records import SCHEMAS, Question, Record, Rejected, rejected_schema, rejected_table
from meadowlark.tasks import TaskFiles, resolve
from meadowlark.tasks import load as load_task

EXACT, NEAR, SEMANTIC = "exact duplicate", "near-duplicate", "semantic duplicate"
CONFLICT = "near-duplicate with other numbers"
"""Of a row that says of the same other figures than the one kept (500 mg, 1,000 mg): nobody has
decided which of the two is right."""
PRIVATE_FILE, CONTAMINATION_FILE = "private.parquet", "contamination.parquet"
BLOCK = 2_000
ALONE = 10_000
"""Up to so many rows are examined in this process: starting others costs more."""


def read_rules(file: Path | None, settings: Sequence[str], phi: str | None) -> CleanOptions:
    """The table of options from ``--rules``, ``--set`` and ``--phi``; the last one named wins."""
    settings = [*settings, *([f"private_data.action={phi}"] if phi else [])]
    if file is not None:
        return load(file, CleanOptions, settings)
    return parse(_settings(settings), CleanOptions, "--set" if settings else "the rules")


def clean(
    data: Path,
    out: Path,
    *,
    options: CleanOptions | None = None,
    against: Sequence[str] = (),
    exams: Path | None = None,
    limit: int | None = None,
    workers: int = 0,
    force: bool = False,
) -> Run:
    """Clean the rows of ``data`` into ``out`` by the rules of ``options``.

    ``against`` names tasks or files of questions that must not stand in the rows, found below the
    folder ``exams``. ``workers`` 0 uses every core; any number gives the same rows. Writes
    rows.parquet and rejected.parquet; contamination.parquet where there is an exam to look for;
    and, where private data is looked for, private.parquet, which nobody but its owner may read.
    """
    options = options or CleanOptions()
    files = [resolve(name, exams) for name in against]
    settings = options.model_dump(mode="json")
    run = open_run(
        "clean",
        out,
        options={"rules": settings, "against": [f.name for f in files], "limit": limit},
        inputs={"data": data, **_inputs(files, options)},
        force=force,
    )
    if run.complete:
        return run
    with run:
        questions = _questions(files, run)
        examiner = Examiner(options, questions, secrets.token_bytes(32))
        with _Aside(run.folder, options) as aside:
            for examined in _examined(data, examiner, limit, workers):
                aside.add(examined)
            aside.finish(run, questions)
        run.finish(**aside.results)
    return run


def _inputs(files: Sequence[TaskFiles], options: CleanOptions) -> dict[str, Path]:
    inputs = {name: path for f in files for name, path in f.inputs().items()}
    if options.semantic.on and options.semantic.encoder is not None:
        inputs["encoder"] = options.semantic.encoder
    return inputs


def _questions(files: Sequence[TaskFiles], run: Run) -> list[Question]:
    questions: list[Question] = []
    for f in files:
        found, unusable = load_task(f)
        # A user's own file may name any task; the table of results goes by what was asked for.
        questions += [replace(question, task=f.name) for question in found]
        if unusable:
            run.manifest.warnings.append(f"{f.name}: {len(unusable):,} questions cannot be read")
    return questions


def _settings(settings: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for setting in settings:
        assign(values, setting)
    return values


# --------------------------------------------------------------------------- blocks


def _examined(
    data: Path, examiner: Examiner, limit: int | None, workers: int
) -> Iterator[tuple[Examined, list[Rejected]]]:
    """The blocks of a file in order, examined."""
    blocks = read_batches(data, Record, BLOCK, limit)
    work = functools.partial(_examine, examiner)
    with Progress("clean", count_rows(data, Record, limit)) as progress:
        for (table, unread), made in in_order(work, blocks, few=ALONE // BLOCK, workers=workers):
            yield made, unread
            progress.advance(table.num_rows + len(unread))


def _examine(examiner: Examiner, block: tuple[pa.Table, list[Rejected]]) -> Examined:
    return examiner(block[0])


# --------------------------------------------------------------------------- what is laid aside


class _Aside:
    """Examined rows on disk until duplicates are decided; ``results`` is what the stage can say."""

    def __init__(self, folder: Path, options: CleanOptions) -> None:
        self.results: dict[str, Any] = {}
        self._options = options
        self._folder = folder
        self._aside = folder / "aside"
        self._private = options.private_data.action
        self._same: list[NDArray[np.uint64]] = []
        self._numbers: list[NDArray[np.uint64]] = []
        self._ids: list[NDArray[np.bytes_]] = []
        self._counts: list[NDArray[np.int64]] = []
        self._word_counts: list[NDArray[np.int64]] = []
        self._reasons: Counter[str] = Counter()
        self._kinds: Counter[str] = Counter()
        self._n_private = self._repaired = self._read = 0
        self._exam_rows: list[pa.Table] = []

    def __enter__(self) -> _Aside:
        shutil.rmtree(self._aside, ignore_errors=True)
        self._aside.mkdir()
        self._rows = pq.ParquetWriter(self._aside / "rows.parquet", SCHEMAS[Record])
        self._rejected = pq.ParquetWriter(
            self._aside / "rejected.parquet", rejected_schema(Record), compression="zstd"
        )
        self._runs = (self._aside / "runs").open("wb")
        self._keys = (self._aside / "keys").open("wb")
        self._words = (self._aside / "words").open("wb")
        self._found: pq.ParquetWriter | None = None
        if self._private != "off":
            path = self._aside / PRIVATE_FILE
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))  # before anything is in it
            self._found = pq.ParquetWriter(path, private_data.SCHEMA, compression="zstd")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()
        shutil.rmtree(self._aside, ignore_errors=True)

    def _close(self) -> None:
        files = (self._rows, self._rejected, self._runs, self._keys, self._words, self._found)
        for file in files:
            if file is not None:
                file.close()

    def add(self, block: tuple[Examined, list[Rejected]]) -> None:
        """Lay a block aside, with the rows of it that could not be read."""
        made, unread = block
        if self._private != "off":  # nobody has looked for private data in what cannot be read
            unread = [r._replace(detail=r.detail.partition(":")[0]) for r in unread]
        rejected = pa.concat_tables([rejected_table(unread, Record), made.rejected])
        self._read += made.kept.num_rows + rejected.num_rows
        self._repaired += made.repaired
        self._rows.write_table(made.kept)
        self._reject(rejected)
        self._ids.append(np.array(made.kept.column("id").to_pylist(), "S20"))
        self._same.append(made.same)
        self._numbers.append(made.numbers)
        if made.sets is not None and made.questions is not None:
            self._words.write(made.questions[0].tobytes())
            self._word_counts.append(made.questions[1])
            self._runs.write(made.sets.runs.tobytes())
            self._keys.write(made.sets.keys.tobytes())
            self._counts.append(made.sets.counts)
        if self._found is not None and made.private.num_rows:
            self._found.write_table(made.private)
            self._kinds.update(made.private.column("kind").to_pylist())
            self._n_private += len(set(made.private.column("id").to_pylist()))
        if made.contamination.num_rows:
            self._exam_rows.append(made.contamination)

    def _reject(self, table: pa.Table) -> None:
        if table.num_rows:
            self._rejected.write_table(table)
            self._reasons.update(table.column("reason").to_pylist())

    def finish(self, run: Run, questions: Sequence[Question]) -> None:
        """Decide duplicates, write the run's files, fill in its counts."""
        self._rows.close()
        self._runs.close()
        self._keys.close()
        self._words.close()
        n = sum(map(len, self._ids))
        ids = np.concatenate([np.zeros(0, "S20"), *self._ids])
        why = np.zeros(n, np.int8)  # 0 kept, else the number of its kind of duplicate
        nearest = np.full(n, -1, np.int64)
        score = np.full(n, np.nan)
        if self._options.exact.on and n:
            first = first_of_same(np.concatenate(self._same))
            doubles = first != np.arange(n)
            why[doubles], nearest[doubles] = 1, first[doubles]
        if self._options.near.on and n:
            self._near(n, why, nearest, score)
        if self._options.semantic.on and n:
            semantic_duplicates(
                self._aside / "rows.parquet", self._options.semantic, why, nearest, score
            )
        licences = self._write(run, ids, why, nearest, score)
        run.manifest.rows.update({"in": self._read, "kept": int((why == 0).sum())})
        run.manifest.rows["rejected"] = dict(
            sorted(self._reasons.items(), key=lambda r: (-r[1], r[0]))
        )
        run.manifest.licences = dict(sorted(licences.items()))
        self.results["repaired"] = self._repaired
        if self._found is not None:
            self._found.close()
            # No output of the manifest: whoever deletes it must still have a folder to work with.
            (self._aside / PRIVATE_FILE).replace(run.folder / PRIVATE_FILE)
            self.results["rows_with_private_data"] = self._n_private
            self.results["private_data"] = dict(sorted(self._kinds.items()))
        if questions:
            self._exams(run, questions)

    def _near(
        self, n: int, why: NDArray[np.int8], nearest: NDArray[np.int64], score: NDArray[np.float64]
    ) -> None:
        offsets, word_offsets = offsets_of(self._counts), offsets_of(self._word_counts)
        runs = mapped(self._aside / "runs", np.dtype(np.uint32), (int(offsets[-1]),))
        keys = mapped(self._aside / "keys", np.dtype(np.uint64), (n, self._options.near.bands))
        words = mapped(self._aside / "words", np.dtype(np.uint32), (int(word_offsets[-1]),))
        near = self._options.near
        found, similar = minhash.near_duplicates(
            runs,
            offsets,
            keys,
            near.threshold,
            why > 0,
            minhash.Alike(words, word_offsets, near.question),
        )
        gone = found >= 0
        numbers = np.concatenate(self._numbers)
        same = numbers[gone] == numbers[found[gone]]
        why[gone], nearest[gone], score[gone] = np.where(same, 2, 4), found[gone], similar[gone]

    def _write(
        self,
        run: Run,
        ids: NDArray[np.bytes_],
        why: NDArray[np.int8],
        nearest: NDArray[np.int64],
        score: NDArray[np.float64],
    ) -> Counter[str]:
        """The kept rows into rows.parquet, the others behind what is rejected already."""
        licences: Counter[str] = Counter()
        target = self._aside / "kept.parquet"
        at = 0
        with (
            pq.ParquetFile(self._aside / "rows.parquet") as source,
            pq.ParquetWriter(target, SCHEMAS[Record], compression="zstd") as kept,
        ):
            for batch in source.iter_batches(BLOCK):
                table = pa.Table.from_batches([batch])
                here = slice(at, at + table.num_rows)
                at += table.num_rows
                staying = table.filter(pa.array(why[here] == 0))
                kept.write_table(staying)
                licences.update(staying.column("licence").to_pylist())
                gone = np.flatnonzero(why[here]) + here.start
                if len(gone):
                    out = table.filter(pa.array(why[here] != 0))
                    reasons = [(EXACT, NEAR, SEMANTIC, CONFLICT)[why[i] - 1] for i in gone]
                    details = [
                        f"of {ids[nearest[i]].decode()}"
                        + (f", similarity {score[i]:.4f}" if why[i] > 1 else "")
                        for i in gone
                    ]
                    for name, values in (("reason", reasons), ("detail", details)):
                        out = out.append_column(name, pa.array(values, pa.string()))
                    self._reject(out.cast(rejected_schema(Record)))
        self._rejected.close()
        target.replace(self._aside / "rows.parquet")
        self._place(run, "rows.parquet")
        self._place(run, "rejected.parquet")
        return licences

    def _place(self, run: Run, name: str) -> None:
        """Move a finished file to its place and list it."""
        (self._aside / name).replace(run.folder / name)
        run.wrote(name)

    def _exams(self, run: Run, questions: Sequence[Question]) -> None:
        table = pa.concat_tables([CONTAMINATION_SCHEMA.empty_table(), *self._exam_rows])
        pq.write_table(table, self._aside / CONTAMINATION_FILE, compression="zstd")
        self._place(run, CONTAMINATION_FILE)
        items = table.select(["task", "item", "id"]).to_pylist()
        sizes = Counter(question.task for question in questions)
        self.results["contamination"] = {
            task: {
                "questions": sizes[task],
                "questions_found": len({r["item"] for r in items if r["task"] == task}),
                "rows": len({r["id"] for r in items if r["task"] == task}),
            }
            for task in sizes
        }
