"""Two systems on the same items: the exact McNemar test, the paired difference and its power.

Scores of both systems item by item come in; a p-value, a difference with its standard error, or
the smallest difference that so many items can show comes out. Sources: McNemar 1947 in its exact
(binomial) form; the paired clustered error of Miller, "Adding Error Bars to Evals" (2024).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from statistics import NormalDist
from typing import NamedTuple

from meadowlark.statistics.intervals import clustered_mean, quantile


def mcnemar_exact(b: int, c: int) -> float:
    """Two-sided exact p-value for ``b`` items that only A got right and ``c`` that only B did.

    The binomial test of b in b + c at 1/2; 1.0 without any discordant item.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts cannot be negative: {b}, {c}")
    n = b + c
    # In whole numbers, so that neither 2**n nor the tail of the binomials overflows a float.
    tail, ways = 0, 1
    for k in range(min(b, c) + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, (2 * tail) / (1 << n))


class Difference(NamedTuple):
    """The mean of A minus B over items, its standard error and 95 % (or other) interval.

    ``standard_error``, ``low`` and ``high`` are NaN with fewer than two clusters.
    """

    value: float
    standard_error: float
    low: float
    high: float
    n: int


def paired_difference(
    a: Iterable[float],
    b: Iterable[float],
    clusters: Iterable[Hashable] | None = None,
    level: float = 0.95,
) -> Difference:
    """The mean of ``a - b`` item by item, with an error that respects pairs and clusters."""
    differences = [first - second for first, second in zip(a, b, strict=True)]
    value, error = clustered_mean(differences, clusters)
    half = quantile(level) * error
    return Difference(value, error, value - half, value + half, len(differences))


def smallest_detectable(standard_error: float, level: float = 0.95, power: float = 0.8) -> float:
    """The true difference that a two-sided test at ``level`` finds with probability ``power``.

    ``standard_error`` is that of the difference as measured; (z_level + z_power) times it.
    """
    return (quantile(level) + NormalDist().inv_cdf(power)) * standard_error
