"""``mix``: several data sets into one training set and one validation set.

Every choice depends on the seed and a row's own text, not on the order of files, so that adding a
row moves no other. Rows whose question or long answer is the same but for case, spaces and
punctuation stay on one side of the split, so that validation never asks what training answered.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from meadowlark.dataset import Run, open_run, read
from meadowlark.errors import UserError
from meadowlark.licences import combine
from meadowlark.records import Record, Rejected

VALIDATION = "validation.parquet"
LONG_ANSWER_WORDS = 20
"""Shorter answers ("Yes.", a label) are shared by unrelated questions and tie nothing together."""


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
    seed: int = 42,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Draw each part's rows, drop duplicates, split off ``val`` (a share below 1, or a count).

    Writes rows.parquet (training), validation.parquet and rejected.parquet. Rows without an output
    and rows drawn twice are rejected with the reason; rows that were not drawn are only counted.
    """
    if not 0 <= val < math.inf or (val >= 1 and val != int(val)):
        raise UserError(f"--val is a share below 1 or a whole number of rows, not {val}")
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
            "limit": limit,
        },
        inputs={name: part.path for name, part in zip(names, chosen, strict=True)},
        seed=seed,
        force=force,
    )
    if run.complete:
        return run
    with run:
        sets: list[list[Record]] = []
        rejected: list[Rejected] = []
        for part in chosen:
            records, unusable = read(part.path, Record, limit)
            rejected += unusable
            rejected += [Rejected(r, "no output") for r in records if not r.output.strip()]
            distinct, doubles = _distinct([r for r in records if r.output.strip()], {})
            rejected += doubles
            sets.append(distinct)
        run.manifest.rows["in"] = sum(map(len, sets)) + len(rejected)
        kept = _draw(run, names, chosen, sets, seed, rejected)
        training, validation = split(kept, val, seed)
        if kept and not training:
            raise UserError(f"--val {val:g} leaves no row for training of {len(kept)}")
        run.write(_shuffled(training, seed), Record)
        run.write(_shuffled(validation, seed), Record, VALIDATION)
        run.reject(rejected, Record)
        obligations, warnings = combine(run.manifest.licences)
        run.manifest.warnings += warnings
        run.manifest.rows["validation"] = len(validation)
        if len(validation) < (wanted := _held_out(val, len(kept))):
            run.manifest.warnings.append(
                f"{len(validation):,} validation rows where {wanted:,} were asked for: the other "
                "rows hang together by equal questions or answers"
            )
        run.finish(
            training_rows=len(training), validation_rows=len(validation), licence=obligations
        )
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


def _draw(
    run: Run,
    names: Sequence[str],
    parts: Sequence[Part],
    sets: Sequence[list[Record]],
    seed: int,
    rejected: list[Rejected],
) -> list[Record]:
    """The rows each part asks for; says where a set had too few, counts what was left out.

    A row that an earlier part has given is ``rejected`` from a later one before that one draws.
    """
    available = {n: len(s) for n, s in zip(names, sets, strict=True)}
    weights = {n: p.weight for n, p in zip(names, parts, strict=True) if p.weight is not None}
    # The largest mixture in these proportions that uses no row twice.
    size = min((available[n] / w for n, w in weights.items()), default=0.0)
    drawn: dict[str, Record] = {}
    counts = {}
    left = 0
    for name, part, candidates in zip(names, parts, sets, strict=True):
        records, doubles = _distinct(candidates, drawn)
        rejected += doubles
        wanted = len(records) if part.count is None else part.count
        if part.weight is not None:
            wanted = round(size * part.weight)
        if wanted > len(records):
            run.manifest.warnings.append(
                f"{name} has {len(records):,} usable rows, {wanted:,} were asked for: all are taken"
            )
        taken = sorted(records, key=lambda r: _order(seed, r.id))[:wanted]
        counts[name] = len(taken)
        left += len(records) - len(taken)
        drawn.update((record.id, record) for record in taken)
    run.manifest.results["drawn"] = counts
    run.manifest.rows["not drawn"] = left
    return list(drawn.values())


def _distinct(
    records: Iterable[Record], known: Mapping[str, Record]
) -> tuple[list[Record], list[Rejected]]:
    """Records with the first of each id kept, and none whose id is ``known``."""
    kept: dict[str, Record] = {}
    doubles = []
    for record in records:
        if record.id in kept or record.id in known:
            other = (kept.get(record.id) or known[record.id]).source or "another row"
            doubles.append(Rejected(record, "exact duplicate", f"of {record.id} from {other}"))
        else:
            kept[record.id] = record
    return list(kept.values()), doubles


def split(records: Sequence[Record], val: float, seed: int) -> tuple[list[Record], list[Record]]:
    """Training and validation rows; rows that share a question or a long answer stay together."""
    target = _held_out(val, len(records))
    training: list[Record] = []
    validation: list[Record] = []
    groups = sorted(_groups(records), key=lambda g: _order(seed + 1, min(r.id for r in g)))
    for group in groups:
        fits = len(validation) + len(group) <= target
        (validation if fits else training).extend(group)
    return training, validation


def _held_out(val: float, rows: int) -> int:
    return round(val * rows) if val < 1 else int(val)


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    """Records joined by an equal question or long answer (union-find over normalised texts)."""
    parent = list(range(len(records)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, record in enumerate(records):
        for key in _keys(record):
            parent[root(index)] = root(first.setdefault(key, index))
    groups: dict[int, list[Record]] = defaultdict(list)
    for index, record in enumerate(records):
        groups[root(index)].append(record)
    return list(groups.values())


def _keys(record: Record) -> list[str]:
    keys = [f"question {_normalised(record.instruction)} {_normalised(record.input)}"]
    answer = _normalised(record.output)
    if answer.count(" ") + 1 >= LONG_ANSWER_WORDS:
        keys.append(f"answer {answer}")
    return keys


def _normalised(text: str) -> str:
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def _order(seed: int, key: str) -> bytes:
    """A place in a random order that depends on the seed and the key alone."""
    return hashlib.sha256(f"{seed}:{key}".encode()).digest()


def _shuffled(records: list[Record], seed: int) -> list[Record]:
    return sorted(records, key=lambda r: _order(seed + 2, r.id))
