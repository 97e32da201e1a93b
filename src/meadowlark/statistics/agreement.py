"""How far raters agree beyond chance: raw agreement, Cohen, Fleiss, Krippendorff, Gwet and
Brennan-Prediger, each with a standard error and an interval, and the majority of votes.

Ratings come in as a table of items by raters (people, judge models, or both), with None where a
rater gave none; a :class:`Coefficient` comes out. All follow (p_a - p_e)/(1 - p_e) and differ in
the chance agreement p_e. Source: Gwet, "Handbook of Inter-Rater Reliability" (4th ed., 2014), whose
linearised variances are used, so that one standard error covers missing ratings and clusters.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from meadowlark.errors import unknown
from meadowlark.statistics.intervals import clustered_mean
from meadowlark.statistics.student import p_value, t_quantile

Array = NDArray[np.float64]
Ratings = Sequence[Sequence[Hashable | None]]


class Coefficient(NamedTuple):
    """One coefficient of agreement and how sure it is.

    ``observed`` and ``expected`` are p_a and p_e. ``low`` and ``high`` are the interval by
    Student's t with (items or clusters) - 1 degrees of freedom, ``high`` at most 1; ``p_value`` is
    two-sided against no agreement beyond chance. ``n`` counts the items that entered. What cannot
    be computed is NaN: the coefficient where chance alone would agree always (one category only),
    the error with fewer than two items or clusters. An error of 0 says only that all items agreed
    alike, not that the next one will.
    """

    name: str
    value: float
    standard_error: float
    low: float
    high: float
    p_value: float
    observed: float
    expected: float
    n: int
    raters: int


# --------------------------------------------------------------------------- weights


def _identity(x: Array) -> Array:
    return np.eye(len(x))


def _power(exponent: float) -> Callable[[Array], Array]:
    def weights(x: Array) -> Array:
        return np.asarray(1 - (np.abs(x[:, None] - x) / (x.max() - x.min())) ** exponent)

    return weights


def _ordinal(x: Array) -> Array:
    rank = np.arange(len(x))
    between = np.abs(rank[:, None] - rank) + 1
    pairs = between * (between - 1) / 2
    return np.asarray(1 - pairs / pairs.max())


def _ratio(x: Array) -> Array:
    if x.min() <= 0:
        raise ValueError("ratio weights need categories that are numbers above 0")
    apart = (x[:, None] - x) / (x[:, None] + x)
    return np.asarray(1 - (apart / ((x.max() - x.min()) / (x.max() + x.min()))) ** 2)


def _circular(x: Array) -> Array:
    apart = np.sin(np.pi * (x[:, None] - x) / (x.max() - x.min() + 1)) ** 2
    return np.asarray(1 - apart / apart.max())


def _bipolar(x: Array) -> Array:
    total = x[:, None] + x
    room = (total - 2 * x.min()) * (2 * x.max() - total)
    apart = np.zeros_like(room)
    np.divide((x[:, None] - x) ** 2, room, out=apart, where=~np.eye(len(x), dtype=bool))
    return np.asarray(1 - apart / apart.max())


WEIGHTS: dict[str, Callable[[Array], Array]] = {
    "identity": _identity,
    "linear": _power(1.0),
    "quadratic": _power(2.0),
    "radical": _power(0.5),
    "ordinal": _ordinal,
    "ratio": _ratio,
    "circular": _circular,
    "bipolar": _bipolar,
}
"""How much credit two categories x and y share, 1 on the diagonal, from the categories' values."""


def agreement_weights(categories: Sequence[Hashable], weights: str = "identity") -> Array:
    """The weight matrix of ordered categories, shape (q, q), by name (Gwet 2014, chapter 3).

    With d = |x - y| and D = max - min: identity [x = y]; linear 1 - d/D; quadratic 1 - d²/D² (an
    interval scale); radical 1 - √(d/D); ordinal 1 - C(m, 2)/C(q, 2) where m categories lie from x
    to y; ratio, circular and bipolar as in Krippendorff 2004. Categories that are not numbers
    count 1, 2, ..., q.
    """
    if weights not in WEIGHTS:
        raise unknown("weights", weights, WEIGHTS)
    q = len(categories)
    if q < 2:
        return np.eye(q)
    numbers = all(isinstance(c, int | float) and not isinstance(c, bool) for c in categories)
    values: Any = categories if numbers else range(1, q + 1)
    return WEIGHTS[weights](np.asarray(list(values), dtype=np.float64))


def _by_counts(counts: Array) -> Array:
    """Krippendorff's own ordinal weights, from how often each category was used: 1 - δ²/max δ²,
    δ = the ratings from category k to category l, both ends counted half."""
    up_to = np.cumsum(counts) - counts / 2
    apart = (up_to[:, None] - up_to) ** 2
    return np.asarray(1 - apart / (apart.max() or 1.0))


# --------------------------------------------------------------------------- the table


class _Table(NamedTuple):
    """Ratings as numbers: ``codes`` (items, raters) with -1 for none, ``counts`` (items, q)."""

    codes: NDArray[np.int64]
    counts: Array
    weights: Array

    @property
    def sizes(self) -> Array:
        """How many ratings each item has."""
        return np.asarray(self.counts.sum(axis=1))

    def pairs(self) -> Array:
        """The weighted number of agreeing ordered pairs of ratings of each item."""
        return np.asarray((self.counts * (self.counts @ self.weights.T - 1)).sum(axis=1))


def _is_missing(value: Hashable | None) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _categories(ratings: Ratings, given: Sequence[Hashable] | None) -> list[Hashable]:
    seen = {value for row in ratings for value in row if not _is_missing(value)}
    if given is None:
        try:
            return sorted(seen)  # type: ignore[type-var]
        except TypeError:
            raise ValueError("name the categories where ratings are of several types") from None
    known = list(given)
    if len(set(known)) != len(known):
        raise ValueError(f"a category is named twice: {known}")
    strange = sorted(map(repr, seen - set(known)))
    if strange:
        raise ValueError(f"ratings outside the categories: {', '.join(strange)}")
    return known


def _table(ratings: Ratings, categories: Sequence[Hashable]) -> NDArray[np.int64]:
    widths = {len(row) for row in ratings}
    if len(widths) > 1:
        raise ValueError(f"items have different numbers of raters: {sorted(widths)}")
    code = {category: number for number, category in enumerate(categories)}
    return np.array(
        [[-1 if _is_missing(value) else code[value] for value in row] for row in ratings],
        dtype=np.int64,
    ).reshape(len(ratings), max(widths, default=0))


# --------------------------------------------------------------------------- coefficients


class _Parts(NamedTuple):
    """What a coefficient is made of: p_a and p_e, and the part of each that every item brings."""

    observed: float
    expected: float
    observed_by_item: Array
    expected_by_item: Array


def _observed(table: _Table) -> tuple[float, Array, Array]:
    """p_a over the items with two ratings or more, each item's part, and who has them.

    Parts average to p_a over all items; an item with one rating has part 0 here, and gets no
    chance agreement either.
    """
    sizes = table.sizes
    shared = sizes >= 2
    own = np.where(shared, table.pairs() / np.where(shared, sizes * (sizes - 1), 1.0), 0.0)
    scale = len(sizes) / shared.sum()
    return float(own.sum() / shared.sum()), own * scale, shared * scale


def _shares(table: _Table) -> Array:
    """π: the mean over items of each category's share of the item's ratings."""
    return np.asarray((table.counts / table.sizes[:, None]).mean(axis=0))


def _constant(table: _Table, expected: float) -> _Parts:
    """The parts where chance agreement does not depend on the ratings."""
    observed, own, _ = _observed(table)
    return _Parts(observed, expected, own, np.full(len(own), expected))


def _raw(table: _Table) -> _Parts:
    return _constant(table, 0.0)


def _brennan_prediger(table: _Table) -> _Parts:
    return _constant(table, float(table.weights.mean()))


def _fleiss(table: _Table) -> _Parts:
    observed, own, _ = _observed(table)
    shares, weights = _shares(table), table.weights
    by_category = (weights + weights.T) @ shares / 2
    expected = float(shares @ weights @ shares)
    by_item = table.counts @ by_category / table.sizes
    return _Parts(observed, expected, own, expected + 2 * (by_item - expected))


def _gwet(table: _Table) -> _Parts:
    observed, own, _ = _observed(table)
    shares, q = _shares(table), len(table.weights)
    if q < 2:
        return _Parts(observed, 1.0, own, np.ones(len(own)))
    factor = table.weights.sum() / (q * (q - 1))
    expected = float(factor * (shares * (1 - shares)).sum())
    by_item = factor * (table.counts @ (1 - shares)) / table.sizes
    return _Parts(observed, expected, own, expected + 2 * (by_item - expected))


def _conger(table: _Table) -> _Parts:
    """Cohen's kappa, in Conger's generalisation to any number of raters."""
    observed, own, _ = _observed(table)
    codes = table.codes[:, (table.codes >= 0).any(axis=0)]
    n, raters = codes.shape
    if raters < 2:
        raise ValueError("agreement needs two raters")
    weights = table.weights
    given = codes >= 0
    rated = given.sum(axis=0)
    one_hot = (codes[:, :, None] == np.arange(len(weights))).astype(np.float64)
    shares = one_hot.sum(axis=0) / rated[:, None]  # (raters, q)
    total = shares.sum(axis=0)
    # Chance agreement of every ordered pair of different raters, averaged over the pairs.
    within = np.einsum("gk,kl,gl->", shares, weights, shares)
    expected = float((total @ weights @ total - within) / (raters * (raters - 1)))
    # Each rating's influence on its rater's shares, against the other raters' shares.
    influence = one_hot - (given - rated / n)[:, :, None] * shares
    influence *= (n / rated)[None, :, None]
    by_item = np.einsum("igl,kl,gk->i", influence, weights, total - shares)
    by_item = by_item / (raters * (raters - 1))
    return _Parts(observed, expected, own, expected + 2 * (by_item - expected))


def _krippendorff(table: _Table) -> _Parts:
    """Krippendorff's alpha over the pairable items; the caller leaves out those with one rating.

    As in Gwet's software the error is that of alpha without its small-sample term 1/(all ratings),
    which makes it wider by that share.
    """
    sizes, weights = table.sizes, table.weights
    mean_size = sizes.mean()
    small = 1 / sizes.sum()
    own = table.pairs() / (mean_size * (sizes - 1))
    shares = table.counts.mean(axis=0) / mean_size
    observed = (1 - small) * own.mean() + small
    expected = float(shares @ weights @ shares)
    away = (sizes - mean_size) / mean_size
    by_item = table.counts @ ((weights + weights.T) @ shares / 2) / mean_size - expected * away
    return _Parts(
        float(observed),
        expected,
        own - observed * away,
        expected + 2 * (by_item - expected),
    )


COEFFICIENTS: dict[str, Callable[[_Table], _Parts]] = {
    "raw": _raw,
    "cohen": _conger,
    "fleiss": _fleiss,
    "krippendorff": _krippendorff,
    "gwet": _gwet,
    "brennan_prediger": _brennan_prediger,
}
"""Every coefficient by the name that :func:`agreement` takes."""


def agreement(
    ratings: Ratings,
    coefficient: str = "krippendorff",
    *,
    categories: Sequence[Hashable] | None = None,
    weights: str = "identity",
    clusters: Iterable[Hashable] | None = None,
    level: float = 0.95,
    ddof: int = 1,
) -> Coefficient:
    """(p_a - p_e)/(1 - p_e) of ``ratings``, one row an item and one column a rater, None missing.

    p_a is the mean over items with two or more ratings of their (weighted) agreeing share of pairs.
    With π the mean shares of the categories, p_e is

    - ``raw``: 0, so that the value is p_a itself;
    - ``cohen`` (Cohen 1960; for more than two raters Conger 1980): Σ w p_g p_h over the pairs of
      different raters' own shares;
    - ``fleiss`` (1971; Scott's pi with two raters): Σ w π_k π_l;
    - ``gwet`` (AC1 2008; AC2 with weights): Σw · Σ π(1 - π)/(q(q - 1));
    - ``brennan_prediger`` (1981): Σw/q²;
    - ``krippendorff`` (alpha, 1970): 1 - D_o/D_e over the items with two or more ratings.

    ``categories`` is the whole scale; left out, it is what was used, sorted, and an unused category
    then lowers q (which matters to Gwet and Brennan-Prediger, and with weights to all). ``weights``
    is a name of :func:`agreement_weights`, or ``krippendorff_ordinal``, Krippendorff's own metric,
    which depends on how often each category was used (its error takes the weights as fixed).
    ``clusters`` names what items share (a prompt, for verdicts on several references). The variance
    divides by items - ``ddof``: 1 as Gwet does for ratings, 0 as Fleiss, Cohen & Everitt (1969) do
    for the table of two raters.

    No item with two ratings, ratings outside the categories, or rows of different lengths are a
    ValueError.
    """
    if coefficient not in COEFFICIENTS:
        raise unknown("coefficient", coefficient, COEFFICIENTS)
    scale = _categories(ratings, categories)
    codes = _table(ratings, scale)
    enough = (codes >= 0).sum(axis=1) >= (2 if coefficient == "krippendorff" else 1)
    names = None if clusters is None else list(clusters)
    if names is not None and len(names) != len(codes):
        raise ValueError(f"{len(codes)} items but {len(names)} clusters")
    if names is not None:
        names = [name for name, there in zip(names, enough, strict=True) if there]
    codes = codes[enough]
    if not ((codes >= 0).sum(axis=1) >= 2).any():
        raise ValueError("no item has two ratings")
    counts = (codes[:, :, None] == np.arange(len(scale))).sum(axis=1).astype(np.float64)
    if weights == "krippendorff_ordinal":
        matrix = _by_counts(counts[counts.sum(axis=1) >= 2].sum(axis=0))
    else:
        matrix = agreement_weights(scale, weights)
    return _coefficient(coefficient, _Table(codes, counts, matrix), names, level, ddof)


def _coefficient(
    name: str,
    table: _Table,
    clusters: list[Hashable] | None,
    level: float,
    ddof: int,
) -> Coefficient:
    """A coefficient of a table: the error is that of the mean of the items' linear parts."""
    parts = COEFFICIENTS[name](table)
    n, raters = table.codes.shape
    room = 1 - parts.expected
    nothing = (math.nan,) * 5
    if room <= 1e-12:
        return Coefficient(name, *nothing, parts.observed, parts.expected, n, raters)
    value = (parts.observed - parts.expected) / room
    own, by_item = parts.observed_by_item, parts.expected_by_item - parts.expected
    if name == "krippendorff":
        chance: Any = parts.expected
        slope = (1 - float(own.mean())) / room
    else:
        chance = parts.expected * _observed(table)[2]
        slope = 1 - value
    linear = (own - chance - slope * by_item) / room
    _, error = clustered_mean(linear, clusters)
    groups = n if clusters is None else len(set(clusters))
    if ddof != 1:
        error *= math.sqrt((groups - 1) / (groups - ddof))
    half = t_quantile(level, groups - 1) * error
    ratio = value / error if error else math.copysign(math.inf, value) if value else math.nan
    return Coefficient(
        name,
        value,
        error,
        max(value - half, 0.0 if name == "raw" else -1.0),
        min(1.0, value + half),
        p_value(ratio, groups - 1),
        parts.observed,
        parts.expected,
        n,
        raters,
    )


# --------------------------------------------------------------------------- votes


def without_ties(ratings: Ratings, ties: Iterable[Hashable] = ("tie", "both_bad")) -> Ratings:
    """The ratings with every tie (and what counts as one) as missing.

    Agreement on what is left says whether raters who do choose choose the same side; report it
    beside the agreement with ties, with its own n, since it leaves the hardest items out.
    """
    left_out = set(ties)
    return [[None if value in left_out else value for value in row] for row in ratings]


def majority(
    votes: Iterable[Hashable | None], undecided: Hashable | None = None
) -> Hashable | None:
    """The vote of more raters than any other; ``undecided`` where two lead equally or none voted.

    With three raters this is the vote of at least two of them.
    """
    counts = Counter(vote for vote in votes if not _is_missing(vote)).most_common(2)
    if not counts or (len(counts) == 2 and counts[0][1] == counts[1][1]):
        return undecided
    return counts[0][0]
