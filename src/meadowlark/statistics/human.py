"""The table of a human evaluation: by criterion, who was preferred or graded how, and how sure.

Verdicts or grades by people come in (or by judge models: the table is the same); plain rows come
out, ready for JSON or a page. The layout is that of AlpaCare's human study, with correctness and
helpfulness judged apart and the raters' majority by item, and with n, interval, test and agreement.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from meadowlark.records import Grade, Verdict
from meadowlark.statistics.agreement import agreement, majority
from meadowlark.statistics.intervals import clustered_mean, rate_interval
from meadowlark.statistics.paired import mcnemar_exact
from meadowlark.statistics.raters import Vote, votes
from meadowlark.statistics.student import p_value, t_quantile

SEED = 42


class PreferenceRow(NamedTuple):
    """One criterion on one pair of models, by the majority of raters on each item.

    ``n`` = ``wins`` + ``ties`` + ``losses`` items (of ``a``); ``undecided`` of the ties are items
    without a majority; ``unreadable`` items have no vote and are left out. ``win_rate`` is
    (wins + ties/2)/n with the interval of :func:`rate_interval` over items; ``p_value`` is the
    exact sign test of wins against losses. The agreement of raters (raw share of pairs,
    Krippendorff's alpha, Gwet's AC1, ties as a third category) is None with one rater.
    """

    criterion: str
    a: str
    b: str
    raters: int
    n: int
    wins: int
    ties: int
    losses: int
    undecided: int
    unreadable: int
    win_rate: float | None
    low: float | None
    high: float | None
    p_value: float
    raw_agreement: float | None
    alpha: float | None
    ac1: float | None


class MeanRow(NamedTuple):
    """One criterion for one model: the mean points over items, each the mean of its raters.

    The interval is Student's over items, None with fewer than two. ``missing`` gradings have no
    points and count nowhere else. ``max_points`` is None where it differs between grades.
    """

    criterion: str
    model: str
    mean: float
    low: float | None
    high: float | None
    n: int
    raters: int
    missing: int
    max_points: float | None


class DifferenceRow(NamedTuple):
    """The mean of ``a`` minus ``b`` over the ``n`` items that both have, by the paired t test.

    ``p_adjusted`` is Holm's over the pairs of the criterion. What fewer than two items cannot
    show is None.
    """

    criterion: str
    a: str
    b: str
    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    p_adjusted: float | None
    n: int


def preference_table(verdicts: Iterable[Verdict], seed: int = SEED) -> list[PreferenceRow]:
    """Verdicts of several raters as one row a criterion and pair, sorted by these.

    A pair is named as its names sort; each rater has one vote an item, as in :func:`votes`.
    """
    rows = []
    for found in votes(verdicts):
        for pair in sorted({(unit.a, unit.b) for unit in found.units}):
            table = [
                row
                for row, unit in zip(found.table, found.units, strict=True)
                if (unit.a, unit.b) == pair
            ]
            rows.append(_preference_row(found.criterion, *pair, table, seed))
    return rows


def _preference_row(
    criterion: str, a: str, b: str, table: list[list[Vote | None]], seed: int
) -> PreferenceRow:
    voted = [column for column in zip(*table, strict=True) if any(column)]
    decided = [majority(row, "undecided") for row in table if any(row)]
    points = [1.0 if vote == "a" else 0.0 if vote == "b" else 0.5 for vote in decided]
    n, wins, losses = len(points), points.count(1.0), points.count(0.0)
    low, high = rate_interval(points, seed) or (None, None)
    return PreferenceRow(
        criterion,
        a,
        b,
        len(voted),
        n,
        wins,
        n - wins - losses,
        losses,
        decided.count("undecided"),
        len(table) - n,
        sum(points) / n if n else None,
        low,
        high,
        mcnemar_exact(wins, losses),
        *(_agreed(table, name) for name in ("raw", "krippendorff", "gwet")),
    )


def _agreed(table: Sequence[Sequence[Vote | None]], coefficient: str) -> float | None:
    """A coefficient of the raters; None where no item has two votes or it cannot be told."""
    try:
        value = agreement(table, coefficient, categories=["a", "b", "tie"]).value
    except ValueError:
        return None
    return None if math.isnan(value) else value


def mean_table(grades: Iterable[Grade]) -> tuple[list[MeanRow], list[DifferenceRow]]:
    """Grades as one row a criterion and model, and one a criterion and pair of models.

    A criterion nobody could grade on any item of a model gives no row.
    """
    found: dict[tuple[str, str], list[Grade]] = {}
    for grade in grades:
        found.setdefault((grade.criterion, grade.model), []).append(grade)
    means: list[MeanRow] = []
    scores: dict[str, dict[str, dict[str, float]]] = {}
    for (criterion, model), rows in sorted(found.items()):
        by_item: dict[str, list[float]] = {}
        for row in rows:
            if row.points is not None:
                by_item.setdefault(row.item, []).append(row.points)
        if not by_item:
            continue
        items = {item: sum(points) / len(points) for item, points in sorted(by_item.items())}
        scores.setdefault(criterion, {})[model] = items
        mean, low, high, _ = _mean(list(items.values()))
        highest = {row.max_points for row in rows}
        means.append(
            MeanRow(
                criterion,
                model,
                mean,
                low,
                high,
                len(items),
                len({row.by for row in rows}),
                sum(row.points is None for row in rows),
                highest.pop() if len(highest) == 1 else None,
            )
        )
    pairs = [row for criterion, models in scores.items() for row in _differences(criterion, models)]
    return means, pairs


def _differences(criterion: str, models: dict[str, dict[str, float]]) -> list[DifferenceRow]:
    rows = []
    for a, b in itertools.combinations(models, 2):
        both = [item for item in models[a] if item in models[b]]
        if both:
            mean, low, high, p = _mean([models[a][item] - models[b][item] for item in both])
            rows.append(DifferenceRow(criterion, a, b, mean, low, high, p, None, len(both)))
    adjusted = holm([row.p_value for row in rows if row.p_value is not None])
    again = iter(adjusted)
    return [row if row.p_value is None else row._replace(p_adjusted=next(again)) for row in rows]


def _mean(values: Sequence[float]) -> tuple[float, float | None, float | None, float | None]:
    """Mean, Student's 95 % interval and the p-value against 0; None where one value is all."""
    mean, error = clustered_mean(values)
    if math.isnan(error):
        return mean, None, None, None
    half = t_quantile(0.95, len(values) - 1) * error
    ratio: Any = mean / error if error else (math.inf if mean else 0.0)
    return mean, mean - half, mean + half, p_value(ratio, len(values) - 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) adjusted p-values, in the order given: the chance of any false alarm is kept.

    The k-th smallest of m is multiplied by m - k + 1, is no smaller than the one before, and is at
    most 1.
    """
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - place)))
        adjusted[index] = highest
    return adjusted
