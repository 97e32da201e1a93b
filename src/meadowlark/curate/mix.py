"""``mix``: several data sets into one training set and one validation set.

Every choice depends on the seed and a row's own text, not on the order of files, so that adding a
row moves no other. Rows whose question or long answer is the same but for case, spaces and
punctuation, and near-duplicates, stay on one side of the split, so that validation never asks what
training answered. The sets are read twice, once for what decides and once to be written, so memory
holds some 250 bytes of each row but none of its text.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meadowlark.curate.aside import InOrder
from meadowlark.curate.traits import Gathered, Reader, Traits, in_random_order, places, ranks
from meadowlark.dataset import (
    FILE_OF,
    Run,
    count_rows,
    open_run,
    read_batches,
    refuse_test_only,
)
from meadowlark.errors import UserError
from meadowlark.licences import combine
from meadowlark.match.groups import first_of_same, joined
from meadowlark.processes import in_order
from meadowlark.progress import Progress
from meadowlark.records import (
    SCHEMAS,
    Record,
    Rejected,
    from_table,
    rejected_schema,
    rejected_table,
    to_table,
)

VALIDATION = "validation.parquet"
NEAR = 0.8
NO_OUTPUT, DOUBLE = "no output", "exact duplicate"
BLOCK = 2_000
ALONE = 10_000
"""Up to so many rows are read in this process: starting others costs more."""
_TRAINING, _VALIDATION, _REJECTED = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Part:
    """One ``DATA=WEIGHT_OR_COUNT``: ``count`` rows, or a ``weight`` among weighted sets, or all."""

    path: Path
    count: int | None = None
    weight: float | None = None

    def __str__(self) -> str:
        if self.weight is not None:
            return f"weight {self.weight:g}"
        return "all" if self.count is None else str(self.count)


def parse_part(text: str) -> Part:
    """``DIR``, ``DIR=500`` (an integer is a count) or ``DIR=0.3`` (a decimal is a weight)."""
    path, equals, amount = text.rpartition("=")
    if not equals or Path(text).exists():
        return Part(Path(text))
    if re.fullmatch(r"\d[\d_]*", amount) and int(amount) > 0:
        return Part(Path(path), count=int(amount))
    if re.fullmatch(r"\d*\.\d+", amount) and float(amount) > 0:
        return Part(Path(path), weight=float(amount))
    raise UserError(
        f"{text!r}: after = stands a number of rows (500) or a weight (0.3), not {amount!r}"
    )


def mix(
    parts: Sequence[str],
    out: Path,
    *,
    val: float = 0.1,
    stratify: str = "",
    near: float = NEAR,
    seed: int = 42,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Draw each part's rows, drop duplicates, split off ``val`` (a share below 1, or a count).

    With ``stratify`` every value of that tag (or ``source``, ``licence``) gives its share of the
    validation rows. Rows with a Jaccard similarity of ``near`` or more stay on one side.

    Writes rows.parquet (training), validation.parquet and rejected.parquet. Rows without an output
    and rows drawn twice are rejected with the reason; rows that were not drawn are only counted.
    A part that holds rows for examining models (``TEST_ONLY``) is refused.
    """
    if not 0 <= val < math.inf or (val >= 1 and val != int(val)):
        raise UserError(f"--val is a share below 1 or a whole number of rows, not {val}")
    if not 0.5 <= near <= 1:
        raise UserError(f"--near is a similarity from 0.5 to 1, not {near}")
    chosen = [parse_part(part) for part in parts]
    weighted = [part for part in chosen if part.weight is not None]
    if len(weighted) == 1:
        raise UserError(
            f"{weighted[0].path} has the only weight; a weight relates weighted sets to each other."
            f" Give a number of rows instead."
        )
    names = _names(chosen)
    run = open_run(
        "mix",
        out,
        options={
            "parts": {n: str(p) for n, p in zip(names, chosen, strict=True)},
            "val": val,
            "stratify": stratify,
            "near": near,
            "limit": limit,
        },
        inputs={name: part.path for name, part in zip(names, chosen, strict=True)},
        seed=seed,
        force=force,
    )
    if run.complete:
        return run
    for part in chosen:
        refuse_test_only(part.path, limit)
    with run, _aside(run.folder) as aside:
        gathered = Gathered(aside)
        unread, ends = _gather(chosen, limit, Reader(seed, stratify, sets=val > 0), gathered)
        rows = gathered.all()
        plan = _Plan(rows, unread, ends)
        run.manifest.rows["in"] = len(rows.ids) + sum(unread)
        kept = _draw(run, names, chosen, plan)
        strata = rows.stratum.take(pa.array(kept))
        unlabelled = strata.to_pylist().count("") if stratify else 0
        if unlabelled == len(kept) > 0:
            raise UserError(f"--stratify {stratify}: no row has that tag")
        if unlabelled:
            run.manifest.warnings.append(
                f"{unlabelled:,} rows without the tag {stratify} are a stratum of their own"
            )
        held = split(rows, kept, val, seed, lambda: gathered.near(kept, near))
        if len(kept) and held.all():
            raise UserError(f"--val {val:g} leaves no row for training of {len(kept)}")
        plan.send(kept[~held], _TRAINING)
        plan.send(kept[held], _VALIDATION)
        _write(run, aside, chosen, limit, plan)
        obligations, warnings = combine(run.manifest.licences)
        run.manifest.warnings += warnings
        n_held = int(held.sum())
        run.manifest.rows["validation"] = n_held
        if stratify:
            run.manifest.results["strata"] = _strata_counts(strata.to_pylist(), held)
        if n_held < (wanted := _held_out(val, len(kept))):
            run.manifest.warnings.append(
                f"{n_held:,} validation rows where {wanted:,} were asked for: the other "
                "rows hang together by equal or nearly equal questions or answers"
            )
        run.finish(training_rows=len(kept) - n_held, validation_rows=n_held, licence=obligations)
    return run


def _names(parts: Sequence[Part]) -> list[str]:
    """A short distinct name for each part: its folder's, numbered where two are the same."""
    names: list[str] = []
    for part in parts:
        name, number = part.path.name or str(part.path), 1
        while name in names:
            number += 1
            name = f"{part.path.name} ({number})"
        names.append(name)
    return names


# --------------------------------------------------------------------------- reading


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A folder for what is laid aside, gone in the end."""
    aside = folder / "aside"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _gather(
    parts: Sequence[Part], limit: int | None, reader: Reader, gathered: Gathered
) -> tuple[list[int], list[int]]:
    """The traits of all parts' rows; of each part the rows that could not be read, and where its
    usable ones end among all."""
    unread, ends = [], []
    at = 0
    for part in parts:
        bad = 0
        blocks = read_batches(part.path, Record, BLOCK, limit)
        with Progress(f"reading {part.path.name}", count_rows(part.path, Record, limit)) as bar:
            for (table, unusable), traits in in_order(
                functools.partial(_traits, reader), blocks, few=ALONE // BLOCK
            ):
                gathered.add(traits)
                at += table.num_rows
                bad += len(unusable)
                bar.advance(table.num_rows + len(unusable))
        unread.append(bad)
        ends.append(at)
    return unread, ends


def _traits(reader: Reader, block: tuple[pa.Table, list[Rejected]]) -> Traits:
    return reader(block[0])


# --------------------------------------------------------------------------- deciding


class _Plan:
    """Where every row goes: into which file, and at which place in it.

    ``part_of(n)`` are the indices of a part's rows, ``unread`` its rows that could not be read.
    Rejected rows stand part by part, each with what could not be read, then what has no output,
    then what it holds twice; last what an earlier part has given.
    """

    def __init__(self, rows: Traits, unread: Sequence[int], ends: Sequence[int]) -> None:
        self.rows = rows
        self.unread = unread
        self.target = np.zeros(len(rows.ids), np.int8)
        self.place = np.full(len(rows.ids), -1, np.int64)
        self.original = np.full(len(rows.ids), -1, np.int64)
        """Of a duplicate the row that it repeats."""
        self.unread_at: list[int] = []
        self.reasons: Counter[str] = Counter()
        self._ends = [0, *ends]
        self._rejected = 0

    def distinct(self) -> list[NDArray[np.int64]]:
        """Of each part the rows with an output, each once; the others are rejected."""
        parts = []
        for number, bad in enumerate(self.unread):
            self.unread_at.append(self._rejected)
            self._rejected += bad
            part = np.arange(self._ends[number], self._ends[number + 1])
            answered = part[self.rows.answered[part]]
            self.reject(part[~self.rows.answered[part]], NO_OUTPUT)
            parts.append(self.without_doubles(answered))
        return parts

    def without_doubles(
        self, rows: NDArray[np.int64], known: NDArray[np.int64] | None = None
    ) -> NDArray[np.int64]:
        """The first of rows with the same id, none of which is among those ``known``."""
        known = rows[:0] if known is None else known
        together = np.concatenate([known, rows])
        first = together[first_of_same(self.rows.drawn[together])][len(known) :]
        doubles = first != rows
        self.original[rows[doubles]] = first[doubles]
        self.reject(rows[doubles], DOUBLE)
        distinct: NDArray[np.int64] = rows[~doubles]
        return distinct

    def reject(self, rows: NDArray[np.int64], reason: str) -> None:
        self.target[rows] = _REJECTED
        self.place[rows] = np.arange(self._rejected, self._rejected + len(rows))
        self._rejected += len(rows)
        self.reasons[reason] += len(rows)

    def send(self, rows: NDArray[np.int64], target: int) -> None:
        """Rows to a file, shuffled."""
        self.target[rows] = target
        self.place[rows[in_random_order(self.rows.shuffled[rows])]] = np.arange(len(rows))


def _draw(run: Run, names: Sequence[str], parts: Sequence[Part], plan: _Plan) -> NDArray[np.int64]:
    """The rows each part asks for; says where a set had too few, counts what was left out.

    A row that an earlier part has given is rejected from a later one before that one draws.
    """
    sets = plan.distinct()
    available = {n: len(s) for n, s in zip(names, sets, strict=True)}
    weights = {n: p.weight for n, p in zip(names, parts, strict=True) if p.weight is not None}
    # The largest mixture in these proportions that uses no row twice.
    size = min((available[n] / w for n, w in weights.items()), default=0.0)
    drawn = np.zeros(0, np.int64)
    counts = {}
    left = 0
    for name, part, candidates in zip(names, parts, sets, strict=True):
        rows = plan.without_doubles(candidates, drawn)
        wanted = len(rows) if part.count is None else part.count
        if part.weight is not None:
            wanted = round(size * part.weight)
        if wanted > len(rows):
            run.manifest.warnings.append(
                f"{name} has {len(rows):,} usable rows, {wanted:,} were asked for: all are taken"
            )
        taken = rows[in_random_order(plan.rows.drawn[rows])[:wanted]]
        counts[name] = len(taken)
        left += len(rows) - len(taken)
        drawn = np.concatenate([drawn, taken])
    run.manifest.results["drawn"] = counts
    run.manifest.rows["not drawn"] = left
    return drawn


def split(
    rows: Traits,
    kept: NDArray[np.int64],
    val: float,
    seed: int,
    near: Callable[[], NDArray[np.int64]],
) -> NDArray[np.bool_]:
    """Which of the rows ``kept`` are held out for validation.

    Rows that share a question or a long answer, or are near-duplicates, stay together; ``near``
    says for each of them the first that it is tied to. Each stratum gives its share, as far as
    groups allow it.
    """
    held = np.zeros(len(kept), bool)
    target = _held_out(val, len(kept))
    if not target:
        return held
    strata = rows.stratum.take(pa.array(kept)).to_pylist()
    left = _shares(Counter(strata), target)
    answer = rows.answer[kept]
    short = ~answer.any(axis=1)
    same_answer = np.where(short, np.arange(len(kept)), first_of_same(answer))
    first = joined(first_of_same(rows.question[kept]), same_answer, near())
    # A group's place in the order is that of its first row by id.
    rank = ranks(rows.ids.take(pa.array(kept)))
    by_group = np.lexsort((rank, first))
    starts = np.flatnonzero(np.diff(first[by_group], prepend=-1))
    ends = np.append(starts[1:], len(kept))
    ids = rows.ids.take(pa.array(kept[by_group[starts]])).to_pylist()
    for group in in_random_order(places(ids, seed + 1)).tolist():
        members = by_group[starts[group] : ends[group]].tolist()
        needs = Counter(strata[member] for member in members)
        if all(left[name] >= n for name, n in needs.items()):
            left.subtract(needs)
            held[members] = True
            target -= len(members)
            if not target:
                break
    return held


def _shares(sizes: Mapping[str, int], target: int) -> Counter[str]:
    """``target`` rows divided in proportion to sizes, by largest remainder."""
    total = sum(sizes.values())
    shares = Counter({name: target * size // total for name, size in sizes.items()})
    rest = sorted(sizes, key=lambda name: (-(target * sizes[name] % total), name))
    for name in rest[: target - sum(shares.values())]:
        shares[name] += 1
    return shares


def _strata_counts(strata: Sequence[str], held: NDArray[np.bool_]) -> dict[str, dict[str, int]]:
    everyone = Counter(strata)
    held_out = Counter(itertools.compress(strata, held))
    return {
        value: {"training": n - held_out[value], "validation": held_out[value]}
        for value, n in sorted(everyone.items())
    }


def _held_out(val: float, rows: int) -> int:
    return round(val * rows) if val < 1 else int(val)


# --------------------------------------------------------------------------- writing


def _write(run: Run, aside: Path, parts: Sequence[Part], limit: int | None, plan: _Plan) -> None:
    """Read the parts again and write each row to its file."""
    files = {
        _TRAINING: InOrder(aside, "training", SCHEMAS[Record]),
        _VALIDATION: InOrder(aside, "validation", SCHEMAS[Record]),
        _REJECTED: InOrder(aside, "rejected", rejected_schema(Record)),
    }
    licences: Counter[str] = Counter()
    at = 0
    for part, unread_at in zip(parts, plan.unread_at, strict=True):
        with Progress(f"writing {part.path.name}", count_rows(part.path, Record, limit)) as bar:
            for table, unusable in read_batches(part.path, Record, BLOCK, limit):
                here = np.arange(at, at + table.num_rows)
                at += table.num_rows
                whole = _whole_rows(table)
                for target, file in files.items():
                    chosen = plan.target[here] == target
                    if not chosen.any():
                        continue
                    rows = whole.filter(pa.array(chosen))
                    if target == _REJECTED:
                        rows = _with_reasons(rows, here[chosen], plan)
                    elif target == _TRAINING:
                        licences.update(rows.column("licence").to_pylist())
                    file.add(rows, plan.place[here[chosen]])
                if unusable:
                    plan.reasons.update(r.reason for r in unusable)
                    places = np.arange(unread_at, unread_at + len(unusable))
                    unread_at += len(unusable)
                    files[_REJECTED].add(rejected_table(unusable, Record), places)
                bar.advance(table.num_rows + len(unusable))
    names = (FILE_OF[Record], VALIDATION, "rejected.parquet")
    for name, file in zip(names, files.values(), strict=True):
        file.write(run.folder / name)
        run.wrote(name)
    counts = run.manifest.rows
    counts["kept"] = int((plan.target == _TRAINING).sum())
    counts["rejected"] = dict(
        sorted(((r, n) for r, n in plan.reasons.items() if n), key=lambda r: (-r[1], r[0]))
    )
    run.manifest.licences = dict(sorted(licences.items()))


def _whole_rows(table: pa.Table) -> pa.Table:
    """The rows in the published schema, with nothing missing."""
    schema = SCHEMAS[Record]
    if table.schema.equals(schema) and not any(
        table.column(name).null_count for name in schema.names
    ):
        return table
    return to_table(from_table(table, Record), Record)


def _with_reasons(rows: pa.Table, here: NDArray[np.int64], plan: _Plan) -> pa.Table:
    """The rejected rows with reason and detail."""
    original = plan.original[here]
    double = original >= 0
    others = pa.array(original[double])
    details = [""] * len(here)
    found = zip(
        np.flatnonzero(double).tolist(),
        plan.rows.ids.take(others).to_pylist(),
        plan.rows.source.take(others).to_pylist(),
        strict=True,
    )
    for index, other, source in found:
        details[index] = f"of {other} from {source or 'another row'}"
    reasons = np.where(double, DOUBLE, NO_OUTPUT).tolist()
    for name, values in (("reason", reasons), ("detail", details)):
        rows = rows.append_column(name, pa.array(values, pa.string()))
    return rows.cast(rejected_schema(Record))
