"""``mix``: several data sets into one training set and one validation set.

Every choice depends on the seed and a row's own text, not on the order of files, so that adding a
row moves no other. Rows whose question or long answer is the same but for case, spaces and
punctuation, and near-duplicates, stay on one side of the split, so that validation never asks what
training answered.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from meadowlark.dataset import Run, open_run, read
from meadowlark.errors import UserError
from meadowlark.licences import combine
from meadowlark.match import minhash
from meadowlark.records import Record, Rejected

VALIDATION = "validation.parquet"
NEAR = 0.8
RUN, BANDS, HASHES_A_BAND = 3, 24, 5
"""As ``clean`` looks for near-duplicates: a pair at .8 is found with probability .9999."""
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
        unlabelled = sum(not stratum(record, stratify) for record in kept) if stratify else 0
        if unlabelled == len(kept) > 0:
            raise UserError(f"--stratify {stratify}: no row has that tag")
        if unlabelled:
            run.manifest.warnings.append(
                f"{unlabelled:,} rows without the tag {stratify} are a stratum of their own"
            )
        training, validation = split(kept, val, seed, stratify, near)
        if kept and not training:
            raise UserError(f"--val {val:g} leaves no row for training of {len(kept)}")
        run.write(_shuffled(training, seed), Record)
        run.write(_shuffled(validation, seed), Record, VALIDATION)
        run.reject(rejected, Record)
        obligations, warnings = combine(run.manifest.licences)
        run.manifest.warnings += warnings
        run.manifest.rows["validation"] = len(validation)
        if stratify:
            run.manifest.results["strata"] = _strata_counts(training, validation, stratify)
        if len(validation) < (wanted := _held_out(val, len(kept))):
            run.manifest.warnings.append(
                f"{len(validation):,} validation rows where {wanted:,} were asked for: the other "
                "rows hang together by equal or nearly equal questions or answers"
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


def split(
    records: Sequence[Record], val: float, seed: int, stratify: str = "", near: float = NEAR
) -> tuple[list[Record], list[Record]]:
    """Training and validation rows; rows that share a question or a long answer, or are
    near-duplicates, stay together. Each stratum gives its share, as far as groups allow it."""
    target = _held_out(val, len(records))
    if not target:
        return list(records), []
    sizes = Counter(stratum(record, stratify) for record in records)
    left = _shares(sizes, target)
    training: list[Record] = []
    validation: list[Record] = []
    groups = sorted(_groups(records, near), key=lambda g: _order(seed + 1, min(r.id for r in g)))
    for group in groups:
        needs = Counter(stratum(record, stratify) for record in group)
        fits = all(left[name] >= n for name, n in needs.items())
        if fits:
            left.subtract(needs)
        (validation if fits else training).extend(group)
    return training, validation


def stratum(record: Record, name: str) -> str:
    """A record's value of a tag, or of ``source`` or ``licence``; empty where it has none."""
    if name in ("source", "licence"):
        return str(getattr(record, name))
    return record.tags.get(name, "") if name else ""


def _shares(sizes: Mapping[str, int], target: int) -> Counter[str]:
    """``target`` rows divided in proportion to sizes, by largest remainder."""
    total = sum(sizes.values())
    shares = Counter({name: target * size // total for name, size in sizes.items()})
    rest = sorted(sizes, key=lambda name: (-(target * sizes[name] % total), name))
    for name in rest[: target - sum(shares.values())]:
        shares[name] += 1
    return shares


def _strata_counts(
    training: Sequence[Record], validation: Sequence[Record], name: str
) -> dict[str, dict[str, int]]:
    learned = Counter(stratum(record, name) for record in training)
    held_out = Counter(stratum(record, name) for record in validation)
    return {
        value: {"training": learned[value], "validation": held_out[value]}
        for value in sorted(learned | held_out)
    }


def _held_out(val: float, rows: int) -> int:
    return round(val * rows) if val < 1 else int(val)


def _groups(records: Sequence[Record], near: float) -> list[list[Record]]:
    """Records joined by an equal question or long answer, or by near-duplication (union-find)."""
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
    if records:
        sets = minhash.block([_whole(record) for record in records], RUN, BANDS, HASHES_A_BAND)
        offsets = np.concatenate([[0], np.cumsum(sets.counts)]).astype(np.int64)
        for index, other in enumerate(minhash.linked(sets.runs, offsets, sets.keys, near).tolist()):
            parent[root(index)] = root(other)
    groups: dict[int, list[Record]] = defaultdict(list)
    for index, record in enumerate(records):
        groups[root(index)].append(record)
    return list(groups.values())


def _whole(record: Record) -> str:
    turns = [turn.content for turn in record.history]
    return "\n".join([*turns, record.instruction, record.input, record.output])


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
