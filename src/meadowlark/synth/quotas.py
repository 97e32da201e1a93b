"""Quotas: how many of the generated tasks may have which type, topic area, view and difficulty.

``difficulty=1:10,2:20,3:30,4:30,5:10`` gives shares; a TOML file holds the same as tables. The
teacher is asked for labels in those proportions, more of what is behind, and a task whose share is
full is not kept, so that N kept tasks have exactly the apportioned counts (largest remainder).
"""

from __future__ import annotations

import random
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from meadowlark.errors import UserError, unknown
from meadowlark.labels import TOPIC_AREAS, TYPES, VIEWS

REST = "*"
"""The share of all values that are not named."""
LABELS: dict[str, tuple[str, tuple[str, ...]]] = {
    "type": ("Type", tuple(TYPES)),
    "topic": ("Topic", tuple(TOPIC_AREAS)),
    "view": ("View", tuple(VIEWS)),
    "difficulty": ("Difficulty", ("1", "2", "3", "4", "5")),
}
"""What can be balanced: the label as the teacher knows it, and the values it may have."""
TAGS = {"topic": "topic_area"}
"""The tag that is counted, where it is not the label's own."""

Shares = Mapping[str, Mapping[str, float]]
"""Label to value to share; the shares of a label add up to 1."""


def read_quotas(given: Sequence[str]) -> dict[str, dict[str, float]]:
    """Shares from ``--quota`` words: ``LABEL=VALUE:WEIGHT,…`` or a TOML file with tables.

    Raises UserError for an unknown label or value, a weight that is no positive number, a label
    given twice.
    """
    shares: dict[str, dict[str, float]] = {}
    for word in given:
        for label, weights in _tables(word).items():
            if label not in LABELS:
                raise unknown("label in a quota", label, LABELS)
            if label in shares:
                raise UserError(f"the quota of {label} is given twice; put it into one")
            shares[label] = _shares(label, weights)
    return shares


def _tables(word: str) -> dict[str, dict[str, object]]:
    if word.endswith(".toml"):
        try:
            tables = tomllib.loads(Path(word).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"{word} cannot be read as a quota: {error}") from None
        if bad := [name for name, table in tables.items() if not isinstance(table, dict)]:
            raise UserError(f"{word}: {bad[0]} must be a table of values and weights")
        return tables
    label, equals, listed = word.partition("=")
    pairs = [part.rpartition(":") for part in listed.split(",")]
    if not equals or not all(colon for _, colon, _ in pairs):
        raise UserError(
            f"{word!r} is no quota; expected LABEL=VALUE:WEIGHT,VALUE:WEIGHT "
            "(difficulty=1:10,2:20) or a .toml file"
        )
    values = [value.strip() for value, _, _ in pairs]
    if repeated := [value for value, times in Counter(values).items() if times > 1]:
        raise UserError(f"{word!r} gives {repeated[0]!r} twice")
    return {label.strip(): dict(zip(values, (weight for *_, weight in pairs), strict=True))}


def _shares(label: str, weights: Mapping[str, object]) -> dict[str, float]:
    known = {value.lower(): value for value in LABELS[label][1]}
    found: dict[str, float] = {}
    for value, weight in weights.items():
        if value != REST and value.lower() not in known:
            raise unknown(f"{label} in a quota", value, LABELS[label][1])
        try:
            number = float(weight)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            number = -1.0
        if not 0 < number < float("inf"):
            raise UserError(f"the quota of {label} {value} is {weight!r}, not a positive number")
        found[known.get(value.lower(), REST)] = number
    if not found:
        raise UserError(f"the quota of {label} names no value")
    total = sum(found.values())
    return {value: number / total for value, number in found.items()}


def apportion(shares: Mapping[str, float], count: int) -> dict[str, int]:
    """Whole numbers that add up to ``count``, by largest remainder (earlier ones at a tie)."""
    exact = {value: share * count for value, share in shares.items()}
    whole = {value: int(number + 1e-9) for value, number in exact.items()}
    order = sorted(shares, key=lambda value: whole[value] - exact[value])
    for value in order[: count - sum(whole.values())]:
        whole[value] += 1
    return whole


class Balance:
    """Which labels were given so far, which are wanted next, and whether one more has room.

    ``shares`` are those of :func:`read_quotas`; without any, everything has room.
    """

    def __init__(self, shares: Shares, count: int) -> None:
        self.shares = shares
        self._full = {label: apportion(values, count) for label, values in shares.items()}
        self._counts: dict[str, Counter[str]] = {label: Counter() for label in shares}
        self._total = 0

    def refuses(self, tags: Mapping[str, str]) -> tuple[str, str] | None:
        """Why a task with these tags cannot be kept, as reason and detail; None where it can."""
        for label, full in self._full.items():
            name = tags.get(TAGS.get(label, label), "")
            value = self._value(label, name)
            if value is None:
                return "outside the quota", f"{label}: {name or 'none given'}"
            if self._counts[label][value] >= full[value]:
                return "quota full", f"{label} {value}: {full[value]:,} kept"
        return None

    def add(self, tags: Mapping[str, str]) -> None:
        """Count a kept task."""
        self._total += 1
        for label, counts in self._counts.items():
            value = self._value(label, tags.get(TAGS.get(label, label), ""))
            if value is not None:
                counts[value] += 1

    def _value(self, label: str, name: str) -> str | None:
        """The quota's value that a name falls under; None where it falls under none."""
        values = self.shares[label]
        if name in values:
            return name
        return REST if REST in values else None

    def wanted(self, tasks: int, horizon: int, rng: random.Random) -> list[dict[str, str]]:
        """Labels for the next ``tasks`` tasks: in proportion to what is missing to a balance of
        ``horizon`` tasks more. Systematic sampling: a value's number is its expectation rounded
        up or down. What falls into the rest is left to the teacher."""
        found: list[dict[str, str]] = [{} for _ in range(tasks)]
        for label, shares in self.shares.items():
            counts = self._counts[label]
            missing = {
                value: max(0.0, share * (self._total + horizon) - counts[value])
                for value, share in shares.items()
            }
            chosen = _systematic(missing, tasks, rng)
            rng.shuffle(chosen)
            for labels, value in zip(found, chosen, strict=True):
                if value != REST:
                    labels[label] = value
        return found


def _systematic(weights: Mapping[str, float], count: int, rng: random.Random) -> list[str]:
    """``count`` keys, each about in proportion to its weight (some weight is positive)."""
    step = sum(weights.values()) / count
    at = rng.random() * step
    chosen: list[str] = []
    upto = 0.0
    for value, weight in weights.items():
        upto += weight
        while at < upto and len(chosen) < count:
            chosen.append(value)
            at += step
    while len(chosen) < count:  # the last step may fall behind the end by rounding
        chosen.append(max(weights, key=lambda value: weights[value]))
    return chosen


def labels_in_words(number: int, labels: Mapping[str, str]) -> str:
    """One task's wanted labels as a line of the prompt."""
    words = "; ".join(
        f"{LABELS[label][0]}: {'something in ' if label == 'topic' else ''}{value}"
        for label, value in labels.items()
    )
    return f"{number}. {words or 'as you like'}"


def as_options(shares: Shares) -> dict[str, dict[str, float]]:
    """Shares as a manifest keeps them, rounded so that the same weights are the same option."""
    return {
        label: {value: round(share, 9) for value, share in sorted(values.items())}
        for label, values in shares.items()
    }
