"""How sure a proportion or a mean is: Wilson, normal, clustered and bootstrap intervals.

Numbers per item come in (with the cluster of each, where items share a passage or a prompt), a
standard error or an interval comes out. Sources: Wilson 1927; clustered standard errors as in
Miller, "Adding Error Bars to Evals" (2024), with the factor C/(C-1); the percentile bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float]


def quantile(level: float) -> float:
    """The z with ``level`` of the standard normal distribution between -z and z."""
    if not 0 < level < 1:
        raise ValueError(f"a level is between 0 and 1 (such as 0.95), not {level}")
    return NormalDist().inv_cdf(0.5 + level / 2)


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion, within [0, 1]; (0, 1) where ``n`` is 0.

    Unlike the normal interval it has a width at 0 and at ``n`` successes.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    z = quantile(level)
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    middle = p + z * z / (2 * n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else (middle - half) / scale
    high = 1.0 if successes == n else (middle + half) / scale
    return low, high


def clustered_mean(
    values: Iterable[float], clusters: Iterable[Hashable] | None = None
) -> tuple[float, float]:
    """The mean of ``values`` and its standard error, where values of one cluster may be related.

    ``clusters`` names the cluster of each value; without it every value stands alone, and the
    error is s/sqrt(n). The error is NaN with fewer than two clusters, since nothing can then be
    said. No values at all are a ValueError.
    """
    numbers = np.asarray(list(values), dtype=np.float64)
    if numbers.size == 0:
        raise ValueError("no values")
    mean = float(numbers.mean())
    residuals: NDArray[np.float64] = numbers - mean
    if clusters is not None:
        names = list(clusters)
        if len(names) != len(numbers):
            raise ValueError(f"{len(numbers)} values but {len(names)} clusters")
        order: dict[Hashable, int] = {}
        codes = [order.setdefault(name, len(order)) for name in names]
        residuals = np.bincount(codes, weights=residuals).astype(np.float64)
    count = len(residuals)
    if count < 2:
        return mean, math.nan
    variance = float(np.sum(residuals**2)) * count / (count - 1)
    return mean, math.sqrt(variance) / len(numbers)


def clustered_interval(
    values: Iterable[float], clusters: Iterable[Hashable] | None = None, level: float = 0.95
) -> Interval | None:
    """Mean -/+ z standard errors by :func:`clustered_mean`; None with fewer than two clusters.

    Not clipped to the values' range; with few clusters (below about 30) it is somewhat narrow.
    """
    mean, error = clustered_mean(values, clusters)
    if math.isnan(error):
        return None
    half = quantile(level) * error
    return mean - half, mean + half


def mean_interval(values: Iterable[float], level: float = 0.95) -> Interval | None:
    """Mean -/+ z s/sqrt(n) of independent values; None with fewer than two of them."""
    return clustered_interval(values, None, level)


def bootstrap(
    groups: Iterable[Sequence[float]], seed: int, resamples: int = 2000
) -> NDArray[np.float64]:
    """Means of ``resamples`` redraws of whole groups with replacement, shape (resamples,).

    A group holds the values of one prompt, so that prompts are drawn, not rows; the mean is over
    all values drawn. Equal groups in equal order with an equal seed give equal numbers. A group
    may be empty, but not all of them (ValueError).
    """
    columns = [np.asarray(group, dtype=np.float64) for group in groups]
    columns = [column for column in columns if column.size]
    if not columns:
        raise ValueError("no values")
    sums = np.array([[column.sum()] for column in columns])
    sizes = np.array([[float(column.size)] for column in columns])
    return _redrawn(sums, sizes, seed, resamples)


def bootstrap_average(
    table: NDArray[np.float64], seed: int, resamples: int = 2000
) -> NDArray[np.float64]:
    """Redraws of the average of column means, shape (resamples,).

    ``table`` has shape (prompts, columns) with NaN where a value is missing; a prompt is drawn
    with all its columns, since what makes it hard for one makes it hard for another. Rows that are
    all NaN are left out; no values at all are a ValueError.
    """
    present = ~np.isnan(table)
    kept = present.any(axis=1)
    if not kept.any():
        raise ValueError("no values")
    sums = np.where(present, table, 0.0)[kept]
    return _redrawn(sums, present[kept].astype(np.float64), seed, resamples)


def _redrawn(
    sums: NDArray[np.float64], sizes: NDArray[np.float64], seed: int, resamples: int
) -> NDArray[np.float64]:
    """For redrawn rows, the average over columns of (sum of sums) / (sum of sizes).

    A column without any value in a redraw is left out of that redraw's average.
    """
    rows, columns = sums.shape
    generator = np.random.default_rng(seed)
    averages = np.empty(resamples)
    batch = max(1, 2_000_000 // rows)  # bounds the memory of the draws
    for start in range(0, resamples, batch):
        stop = min(start + batch, resamples)
        drawn = generator.integers(0, rows, size=(stop - start, rows))
        total = np.zeros(stop - start)
        filled = np.zeros(stop - start)
        for column in range(columns):
            size = sizes[:, column][drawn].sum(axis=1)
            mean = sums[:, column][drawn].sum(axis=1) / np.maximum(size, 1.0)
            total += np.where(size > 0, mean, 0.0)
            filled += size > 0
        averages[start:stop] = total / filled
    return averages


def percentiles(resampled: NDArray[np.float64], level: float = 0.95) -> Interval:
    """The interval that leaves (1 - level)/2 of the resampled numbers out on each side."""
    quantile(level)  # refuses a level outside (0, 1)
    tail = (1 - level) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap_interval(
    groups: Iterable[Sequence[float]], seed: int, level: float = 0.95, resamples: int = 2000
) -> Interval | None:
    """The percentile interval of :func:`bootstrap`; None with fewer than two groups of values."""
    filled = [group for group in groups if len(group)]
    if len(filled) < 2:
        return None
    return percentiles(bootstrap(filled, seed, resamples), level)


def rate_interval(scores: Sequence[float], seed: int, level: float = 0.95) -> Interval | None:
    """The bootstrap interval of the mean of items' scores in [0, 1]; None without any.

    Redraws of equal scores cannot vary, which would show a certainty that a few items do not give.
    So where all scores are one c, it is c(1 - q) to c + (1 - c)q, with q Wilson's upper bound of
    the share of items that would differ (0 of n seen): Wilson's own interval where all won or all
    lost, and as narrow around 1/2 where all were ties.
    """
    if not scores:
        return None
    first = scores[0]
    if any(score != first for score in scores):
        return bootstrap_interval([[score] for score in scores], seed, level)
    differ = wilson(0, len(scores), level)[1]
    return first * (1 - differ), first + (1 - first) * differ
