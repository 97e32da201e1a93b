"""Folders on disk: how a stage reads its inputs, and the contract by which it writes its output.

A finished folder holds its rows (``rows.parquet`` for records), ``rejected.parquet`` and, written
last, ``manifest.json``. :func:`open_run` gives every stage the same behaviour: the same run again
does nothing, a different one is refused with what differs, a raised count continues, a killed run
starts or resumes cleanly, two runs never write one folder.
"""

from __future__ import annotations

import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from meadowlark import __version__
from meadowlark.datacard import CARD, data_card
from meadowlark.errors import FolderDiffers, UserError
from meadowlark.layouts import parse_row, raw_rows
from meadowlark.records import (
    SCHEMAS,
    TEST_ONLY,
    Answer,
    Grade,
    Question,
    Record,
    Rejected,
    Row,
    Verdict,
    from_table,
    rejected_table,
    to_table,
)

MANIFEST = "manifest.json"
STARTED = "started.json"
JOURNAL = "journal.sqlite"
COMMAND: ContextVar[str] = ContextVar("command", default="")
"""The command line at work, for the manifest; set by the command line itself."""
LOCK = ".lock"
FILE_OF: dict[type[Any], str] = {
    Record: "rows.parquet",
    Question: "questions.parquet",
    Answer: "answers.parquet",
    Verdict: "verdicts.parquet",
    Grade: "grades.parquet",
}


@dataclass
class Manifest:
    """What made a folder: written last, so that its presence means the folder is complete.

    ``rows`` counts ``in``, ``kept`` and ``rejected`` by reason. ``inputs`` and ``outputs`` map a
    name to path and SHA-256. ``results`` is what the stage itself has to say. ``command`` is the
    command line, empty when the stage was called from Python.
    """

    stage: str
    options: dict[str, Any]
    seed: int | None = None
    code_version: str = __version__
    inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    rows: dict[str, Any] = field(default_factory=dict)
    licences: dict[str, int] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)
    cost_usd: float = 0.0
    started: str = ""
    seconds: float = 0.0
    resumed: int = 0
    results: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    command: str = ""


def code_version() -> str:
    """The package's version, with the commit when it runs from a git checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return __version__
    command = ["git", "-C", str(root), "rev-parse", "--short=12", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+{done.stdout.strip()}"


# --------------------------------------------------------------------------- reading


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a finished folder; an unfinished one is a user error."""
    path = folder / MANIFEST
    if not path.exists():
        state = "not finished; run its command again" if (folder / STARTED).exists() else "not ours"
        raise UserError(f"{folder} has no {MANIFEST}: the folder is {state}")
    return Manifest(**json.loads(path.read_text(encoding="utf-8")))


def fingerprint(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files in name order.

    Of a finished folder only the outputs count, not journals or times; an output that was changed
    after its manifest was written is a user error, since its provenance would be false.
    """
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    if (path / MANIFEST).exists():
        hashes = read_manifest(path).outputs
        changed = [
            n for n, h in hashes.items() if not (path / n).exists() or fingerprint(path / n) != h
        ]
        if changed:
            raise UserError(
                f"{path} was changed after it was made ({', '.join(changed)}); make it again, or "
                "copy the file elsewhere and give that"
            )
    elif (path / STARTED).exists():
        raise UserError(f"{path} is not finished; run the command that makes it again")
    else:
        files = sorted(p for p in path.rglob("*") if p.is_file())
        hashes = {str(p.relative_to(path)): fingerprint(p) for p in files}
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def _meanwhile(path: Path) -> Future[str]:
    """A file's fingerprint, made in a thread that holds nothing up when the process is to end."""
    made: Future[str] = Future()

    def work() -> None:
        try:
            made.set_result(fingerprint(path))
        except BaseException as error:
            made.set_exception(error)

    threading.Thread(target=work, name="fingerprint", daemon=True).start()
    return made


def rows_path(path: Path, kind: type[Any]) -> Path:
    """The file that holds rows of ``kind``: the path itself, or the noun's file in a folder."""
    if not path.exists():
        raise UserError(f"no such file or folder: {path}")
    if path.is_file():
        return path
    if not (path / MANIFEST).exists() and (path / STARTED).exists():
        raise UserError(f"{path} is not finished; run the command that makes it again")
    file = path / FILE_OF[kind]
    if not file.exists():
        here = ", ".join(sorted(p.name for p in path.iterdir())) or "nothing"
        raise UserError(f"{path} holds no {file.name} (it holds {here})")
    return file


def read(path: Path, kind: type[Row], limit: int | None = None) -> tuple[list[Row], list[Rejected]]:
    """Rows of one noun from a folder or a parquet, json, jsonl or csv file, and what was unusable.

    Records may also be in the Alpaca, ShareGPT or messages layout. A bad row never stops the
    reading: it comes back as :class:`Rejected` with its raw text in ``detail``.
    """
    file = rows_path(path, kind)
    rows: list[Row] = []
    rejected: list[Rejected] = []
    if file.suffix == ".parquet" or file.is_dir():
        for table, unusable in read_batches(file, kind, 1 << 16, limit):
            rows += from_table(table, kind)
            rejected += unusable
        return rows, rejected
    for made in _parsed(file, kind, limit):
        if isinstance(made, Rejected):
            rejected.append(made)
        else:
            rows.append(made)
    return rows, rejected


def read_each(path: Path, kind: type[Row]) -> Iterator[Row | Rejected]:
    """What :func:`read` gives, row by row in the order of the file, for a reader that stops when it
    has enough: what was unusable is then counted of the rows that were read, and of no others."""
    file = rows_path(path, kind)
    if file.suffix != ".parquet" and not file.is_dir():
        yield from _parsed(file, kind, None)
        return
    for table, unusable in read_batches(file, kind, 4096):
        yield from from_table(table, kind)
        yield from unusable


def _parsed(file: Path, kind: type[Row], limit: int | None) -> Iterator[Row | Rejected]:
    """A json, jsonl or csv file row by row, until ``limit`` usable ones have come."""
    left = limit if limit is not None else sys.maxsize
    for number, raw in enumerate(raw_rows(file), start=1):
        if not left:
            return
        made = parse_row(raw, kind, number)
        left -= not isinstance(made, Rejected)
        yield made


def read_batches(
    path: Path, kind: type[Row], size: int, limit: int | None = None
) -> Iterator[tuple[pa.Table, list[Rejected]]]:
    """The rows of :func:`read` as Arrow tables of at most ``size`` rows, and what was unusable.

    A parquet file, or a folder of its parts, is never held whole; nor is JSON lines or CSV.
    """
    file = rows_path(path, kind)
    if file.suffix == ".parquet" or file.is_dir():
        left = limit if limit is not None else sys.maxsize
        number = 0
        for part in _parts(file):
            with _parquet(part, kind) as source:
                for batch in source.iter_batches(size):
                    table, unusable = _in_our_columns(batch, kind, number, left)
                    number += batch.num_rows
                    left -= table.num_rows
                    yield table, unusable
                    if not left:
                        return
        return
    rows: list[Row] = []
    rejected: list[Rejected] = []
    for made in _parsed(file, kind, limit):
        if isinstance(made, Rejected):
            rejected.append(made)
        else:
            rows.append(made)
        if len(rows) + len(rejected) >= size:
            yield to_table(rows, kind), rejected
            rows, rejected = [], []
    if rows or rejected:
        yield to_table(rows, kind), rejected


def _in_our_columns(
    batch: pa.RecordBatch, kind: type[Row], before: int, most: int
) -> tuple[pa.Table, list[Rejected]]:
    """The first ``most`` rows of a batch of parquet, as it is where it has a noun's columns with
    nothing missing in its texts; of a record's else what its rows are in any other file, behind
    ``before`` rows, and what of the rows before the last of them is unusable."""
    table = pa.Table.from_batches([batch])
    if kind is not Record or (
        _has_our_columns(table.schema) and not any(table.column(name).null_count for name in _TEXTS)
    ):
        return table.slice(0, most), []
    rows: list[Row] = []
    rejected: list[Rejected] = []
    for number, raw in enumerate(table.to_pylist(), start=before + 1):
        if len(rows) == most:
            break
        made = parse_row({k: v for k, v in raw.items() if v is not None}, kind, number)
        if isinstance(made, Rejected):
            rejected.append(made)
        else:
            rows.append(made)
    return to_table(rows, kind), rejected


_TEXTS = [column.name for column in SCHEMAS[Record] if pa.types.is_string(column.type)]


def _has_our_columns(schema: pa.Schema) -> bool:
    """Whether every column of a record is there with its type."""
    return all(
        column.name in schema.names and schema.field(column.name).type == column.type
        for column in SCHEMAS[Record]
    )


def count_rows(path: Path, kind: type[Any], limit: int | None = None) -> int | None:
    """How many rows :func:`read_batches` gives, where that is known without reading them."""
    file = rows_path(path, kind)
    if file.suffix != ".parquet" and not file.is_dir():
        return None
    total = sum(int(_parquet(part, kind).metadata.num_rows) for part in _parts(file))
    return total if limit is None else min(total, limit)


def rows_only_for_tests(path: Path, limit: int | None = None) -> dict[str, int]:
    """How many rows of each source were written to examine models (:data:`TEST_ONLY`)."""
    counts: Counter[str] = Counter()
    for table in _tags_and_sources(rows_path(path, Record), limit):
        for tags, source in zip(*table.select(["tags", "source"]).columns, strict=True):
            if TEST_ONLY.items() <= dict(tags.as_py() or ()).items():
                counts[source.as_py() or "no stated source"] += 1
    return dict(sorted(counts.items()))


def _tags_and_sources(file: Path, limit: int | None) -> Iterator[pa.Table]:
    """The columns ``tags`` and ``source`` in batches; of parquet nothing else is read, and only
    batches in which some tag has the value of :data:`TEST_ONLY`."""
    parquet = file.suffix == ".parquet" or file.is_dir()
    if not parquet or not all(
        _has_our_columns(_parquet(part, Record).schema_arrow) for part in _parts(file)
    ):
        yield from (table for table, _ in read_batches(file, Record, 4096, limit))
        return
    left = limit if limit is not None else sys.maxsize
    for part in _parts(file):
        with _parquet(part, Record) as source:
            for batch in source.iter_batches(1 << 16, columns=["tags", "source"]):
                table = pa.Table.from_batches([batch.slice(0, left)])
                left -= table.num_rows
                if any(
                    pc.any(pc.is_in(chunk.items, pa.array([*TEST_ONLY.values()]))).as_py()
                    for chunk in table.column("tags").chunks
                ):
                    yield table
                if not left:
                    return


def refuse_test_only(path: Path, limit: int | None = None) -> None:
    """UserError where a data set holds rows of :data:`TEST_ONLY`: nothing is to learn them."""
    found = rows_only_for_tests(path, limit)
    if found:
        named = ", ".join(f"{rows:,} of {source}" for source, rows in found.items())
        raise UserError(
            f"{path} holds rows that are for examining models only ({named}, tagged use=test): a "
            "model that learned them could not be examined with them. Leave that source out"
        )


def _parts(file: Path) -> list[Path]:
    """The parquet files of a folder of parts in order, or the one file."""
    return sorted(file.glob("*.parquet")) if file.is_dir() else [file]


def _parquet(file: Path, kind: type[Any]) -> pq.ParquetFile:
    """A parquet file of one noun, opened and checked against its schema."""
    try:
        source = pq.ParquetFile(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{file} is not a readable parquet file: {error}") from None
    names = source.schema_arrow.names
    missing = [name for name in _required(kind) if name not in names]
    if missing and not (kind is Record and {"messages", "conversations", "Instruction"} & {*names}):
        raise UserError(f"{file} lacks the column(s) {', '.join(missing)} of a {kind.__name__}")
    return source


def read_table(path: Path, kind: type[Any], limit: int | None = None) -> pa.Table:
    """An Arrow table of one noun from a folder or parquet file, checked against its schema."""
    file = rows_path(path, kind)
    table = pa.concat_tables(_parquet(part, kind).read() for part in _parts(file))
    return table if limit is None else table.slice(0, limit)


def _required(kind: type[Any]) -> list[str]:
    fields = dataclasses.fields(kind)
    return [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]


# --------------------------------------------------------------------------- writing


def write_json(path: Path, value: Any) -> None:
    """Write JSON beside the file, then rename it into place."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text beside the file, then rename it into place."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_table(path: Path, table: pa.Table) -> None:
    """Write a parquet file beside its place, then rename it there."""
    temporary = path.with_name(path.name + ".tmp")
    pq.write_table(table, temporary, compression="zstd")
    temporary.replace(path)


class Run:
    """One run of a stage into its folder; made by :func:`open_run`, used as a context.

    ``complete`` says that the folder already holds just this run (``done_before``: before this
    process began); ``folder`` is where to write. ``resumed`` goes on with what an earlier process
    left, ``extends`` with a run that was complete and is raised. ``lowered`` names the stops that
    are lower than what the folder was begun with.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Manifest,
        complete: bool,
        resumed: bool,
        extends: bool = False,
        lowered: frozenset[str] = frozenset(),
    ) -> None:
        self.folder = folder
        self.manifest = manifest
        self.complete = complete
        self.done_before = complete
        self.resumed = resumed
        self.extends = extends
        self.lowered = lowered
        self._clock = time.monotonic()
        self._lock: IO[str] | None = None
        self._outputs: list[str] = []
        self._hashing: dict[str, Future[str]] = {}

    def __enter__(self) -> Run:
        assert not self.complete, "a complete run is not entered"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = (self.folder / LOCK).open("w")
        except OSError as error:
            raise UserError(f"{self.folder} cannot be written: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise UserError(f"another process is writing {self.folder}; wait for it") from None
        write_json(self.folder / STARTED, dataclasses.asdict(self.manifest))
        (self.folder / MANIFEST).unlink(missing_ok=True)
        self._hashing = {
            name: _meanwhile(Path(given["path"]))
            for name, given in self.manifest.inputs.items()
            if not given["sha256"]
        }
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, UserError) and _names(self.folder) <= {LOCK, STARTED}:
            # A mistake found before anything was made: the corrected command is not another run.
            (self.folder / STARTED).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    def write(self, rows: Iterable[Row] | pa.Table, kind: type[Row], name: str = "") -> None:
        """Write rows of a noun to its file (or to ``name``), and list it in the manifest."""
        table = rows if isinstance(rows, pa.Table) else to_table(rows, kind)
        name = name or FILE_OF[kind]
        write_table(self.folder / name, table)
        self.wrote(name)
        if kind is Record and name == FILE_OF[Record]:
            self.manifest.rows["kept"] = table.num_rows
            counts = Counter(table.column("licence").to_pylist())
            self.manifest.licences = dict(sorted(counts.items()))

    def reject(self, rejected: Iterable[Rejected] | pa.Table, kind: type[Any]) -> None:
        """Write ``rejected.parquet`` and count its reasons. Call it once, also with no rows."""
        table = rejected if isinstance(rejected, pa.Table) else rejected_table(rejected, kind)
        write_table(self.folder / "rejected.parquet", table)
        self.wrote("rejected.parquet")
        reasons = Counter(table.column("reason").to_pylist())
        self.manifest.rows["rejected"] = dict(sorted(reasons.items(), key=lambda r: (-r[1], r[0])))

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the folder and list it in the manifest."""
        write_json(self.folder / name, value)
        self.wrote(name)

    def wrote(self, name: str) -> None:
        """List a file or folder below the run's folder as an output, to be hashed at the end."""
        if name not in self._outputs:
            self._outputs.append(name)

    def finish(self, **results: Any) -> Manifest:
        """Hash the outputs, write a data set's card, then the manifest.

        ``results`` is what the stage has to say. The card is no output: it may be edited.
        """
        self.manifest.results.update(results)
        for name, hashing in self._hashing.items():
            self.manifest.inputs[name]["sha256"] = hashing.result()
        for name in sorted(self._outputs):
            self.manifest.outputs[name] = fingerprint(self.folder / name)
        self.manifest.seconds = round(time.monotonic() - self._clock, 3)
        if FILE_OF[Record] in self._outputs:
            write_text(self.folder / CARD, data_card(self.folder, self.manifest))
        write_json(self.folder / MANIFEST, dataclasses.asdict(self.manifest))
        (self.folder / STARTED).unlink(missing_ok=True)
        (self.folder / LOCK).unlink(missing_ok=True)
        self.complete = True
        return self.manifest


def open_run(
    stage: str,
    out: Path,
    *,
    options: Mapping[str, Any],
    inputs: Mapping[str, Path],
    seed: int | None = None,
    growing: Iterable[str] = ("limit",),
    stops: Iterable[str] = (),
    hash_meanwhile: bool = False,
    force: bool = False,
) -> Run:
    """Compare what is asked with what ``out`` holds, and say how to go on.

    ``options`` are JSON values. ``growing`` names those whose raising (None is no bound) only
    continues a run; ``stops`` those that only say where it ends for now, so that they may be
    lowered, too: nothing that was made depends on them. Raises :class:`FolderDiffers` where the
    folder holds another run, and UserError where it holds something that no stage made. With
    ``force`` another run's files are removed first, but for a journal: replies that were paid for
    are kept.

    ``hash_meanwhile`` is for a stage that reads large files and, when it was stopped, begins
    anew: where there is nothing to compare them with, files are hashed while the stage reads
    them. Of such a run that was stopped the inputs' paths alone are compared.
    """
    found = _found(out)
    later = hash_meanwhile and found is None
    known = {
        name: {"path": str(p), "sha256": "" if later and p.is_file() else fingerprint(p)}
        for name, p in inputs.items()
    }
    asked = Manifest(
        stage=stage,
        options=json.loads(json.dumps(dict(options))),
        seed=seed,
        code_version=_code_version(),
        inputs=known,
        started=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        command=COMMAND.get(),
    )
    if found is None:
        if out.exists() and not _ours_or_empty(out):
            raise UserError(f"{out} exists and was not made by meadowlark; give another --out")
        return Run(out, asked, complete=False, resumed=False)
    held, complete = found
    stops = frozenset(stops)
    differences, grown = _differences(held, asked, {*growing, *stops}, stops)
    if differences and not force:
        lines = "\n  ".join(differences)
        raise FolderDiffers(
            f"{out} holds another run of {held.stage}:\n  {lines}\n"
            "Give another --out, or --force to replace it."
        )
    if differences or (force and complete):
        for path in inputs.values():
            if out.resolve() in (path.resolve(), *path.resolve().parents):
                raise UserError(
                    f"--force would delete {path}, which is to be read; give another --out"
                )
        _clear(out)
        return Run(out, asked, complete=False, resumed=False)
    if complete and not grown:
        return Run(out, held, complete=True, resumed=False)
    asked.resumed = held.resumed + 1
    asked.tokens = held.tokens  # what the finished part took; the stage adds to it, or counts anew
    lowered = frozenset(
        name for name in stops if _bound(asked.options.get(name)) < _bound(held.options.get(name))
    )
    return Run(out, asked, complete=False, resumed=True, extends=complete, lowered=lowered)


_code_version = functools.cache(code_version)


def _ours_or_empty(out: Path) -> bool:
    """Whether a path without a manifest may be written: an empty folder, or a kept journal.

    A run killed while it wrote its first file leaves that file's temporary name.
    """
    first = (LOCK, f"{STARTED}.tmp")
    return out.is_dir() and all(
        p.name in first or p.name.startswith(JOURNAL) for p in out.iterdir()
    )


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _found(out: Path) -> tuple[Manifest, bool] | None:
    for name, complete in ((MANIFEST, True), (STARTED, False)):
        if (out / name).exists():
            try:
                values = json.loads((out / name).read_text(encoding="utf-8"))
                return Manifest(**values), complete
            except (json.JSONDecodeError, TypeError) as error:
                raise UserError(f"{out / name} cannot be read: {error}") from None
    return None


def _differences(
    held: Manifest, asked: Manifest, growing: set[str], stops: frozenset[str]
) -> tuple[list[str], bool]:
    """What differs, in words, and whether a growing option was raised; a stop never differs."""
    lines, grown = [], False
    if held.stage != asked.stage:
        return [f"stage: {held.stage} there, {asked.stage} asked"], False
    if held.seed != asked.seed:
        lines.append(f"seed: {held.seed} there, {asked.seed} asked")
    for name in sorted(held.options.keys() | asked.options.keys()):
        old, new = held.options.get(name), asked.options.get(name)
        if old == new:
            continue
        if name in growing and _bound(new) > _bound(old):
            grown = True
        elif name not in stops:
            lines.append(f"{name}: {json.dumps(old)} there, {json.dumps(new)} asked")
    for name in sorted(held.inputs.keys() | asked.inputs.keys()):
        was, now = held.inputs.get(name), asked.inputs.get(name)
        if was is None or now is None:
            lines.append(f"input {name}: {'not ' if was is None else ''}used there")
        elif not was["sha256"] and was["path"] != now["path"]:
            lines.append(f"input {name}: {was['path']} there, {now['path']} asked")
        elif was["sha256"] not in ("", now["sha256"]):
            lines.append(f"input {name}: the content of {now['path']} changed")
    return lines, grown


def _bound(value: Any) -> float:
    return float("inf") if value is None else float(value)


def _clear(out: Path) -> None:
    """Remove a run's files, its manifest last; a journal stays."""
    own = (MANIFEST, STARTED)
    for path in sorted(out.iterdir(), key=lambda p: p.name in own):
        if path.name.startswith(JOURNAL):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
