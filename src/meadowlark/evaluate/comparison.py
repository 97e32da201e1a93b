"""One model against one reference as one judge saw them, and the win rates of that.

Verdicts come in, oriented so that the model is ``a``; :class:`Score` rows come out. AlpaCare's
scoring: win 1, tie 1/2, loss 0; an item scores the mean over both orders (PAPERS.md, section 1).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from meadowlark.errors import unknown
from meadowlark.records import Score, Verdict, Winner
from meadowlark.statistics import intervals
from meadowlark.statistics.power import detectable_win_rate
from meadowlark.statistics.wins import POINTS, Outcome, average_orders, positional_agreement, tally

SEED = 42
Order = Literal["shown_first", "shown_second"]
ORDERS: tuple[Order, ...] = ("shown_first", "shown_second")
OUTCOMES: dict[Winner, Outcome] = {"a": "win", "b": "loss", "tie": "tie", "both_bad": "tie"}
_SWAPPED: dict[Winner, Winner] = {"a": "b", "b": "a"}

Item = dict[Order, list[Outcome | None]]
"""The outcomes of one item in each order, None for an unreadable verdict."""

# --------------------------------------------------------------------------- one comparison


@dataclass(frozen=True)
class Comparison:
    """One model against one reference as one judge saw them; items in the order of their ids."""

    criterion: str
    by: str
    model: str
    reference: str
    items: Mapping[str, Item]

    @property
    def task(self) -> str:
        """The name under which the comparison is scored."""
        return f"{self.criterion} ({self.by}): against {self.reference}"


def oriented(verdicts: Iterable[Verdict], model: str | None = None) -> list[Verdict]:
    """The verdicts with the model compared as ``a`` and its reference as ``b``.

    ``model`` keeps the comparisons with that model, as ``a``. Without it, whichever of two names
    stands as ``a`` more often is the model (the earlier name where both do equally often).
    """
    found = list(verdicts)
    if model is not None:
        names = {name for v in found for name in (v.a, v.b)}
        if model not in names:
            raise unknown("model", model, names)
        return [v if v.a == model else _swapped(v) for v in found if model in (v.a, v.b)]
    as_a = Counter((v.a, v.b) for v in found)
    chosen = {pair: min(((pair), pair[::-1]), key=lambda p: (-as_a[p], p)) for pair in sorted(as_a)}
    return [v if chosen[v.a, v.b] == (v.a, v.b) else _swapped(v) for v in found]


def _swapped(verdict: Verdict) -> Verdict:
    preference = None if verdict.preference is None else 1 - verdict.preference
    return replace(
        verdict,
        a=verdict.b,
        b=verdict.a,
        shown_first="b" if verdict.shown_first == "a" else "a",
        winner=_SWAPPED.get(verdict.winner, verdict.winner),
        preference=preference,
    )


def comparisons(verdicts: Iterable[Verdict]) -> list[Comparison]:
    """Oriented verdicts grouped by criterion, judge, model and reference, in that order."""
    groups: dict[tuple[str, str, str, str], dict[str, Item]] = {}
    for verdict in verdicts:
        key = (verdict.criterion, verdict.by, verdict.a, verdict.b)
        item = groups.setdefault(key, {}).setdefault(
            verdict.item, {"shown_first": [], "shown_second": []}
        )
        order: Order = "shown_first" if verdict.shown_first == "a" else "shown_second"
        item[order].append(OUTCOMES.get(verdict.winner))
    return [
        Comparison(*key, items=dict(sorted(items.items())))
        for key, items in sorted(groups.items(), key=lambda group: group[0])
    ]


def item_points(item: Item, unreadable: float | None = None) -> float | None:
    """One item's score in [0, 1]: the mean over its orders; None where nothing could be read.

    An unreadable verdict is left out, or counts as ``unreadable`` points where that is given.
    """
    return average_orders(
        {order: _points(outcomes, unreadable) for order, outcomes in item.items()}
    )


def _points(outcomes: Iterable[Outcome | None], unreadable: float | None = None) -> list[float]:
    """The points of outcomes; an unreadable one is left out or counts what is given."""
    values = (unreadable if outcome is None else POINTS[outcome] for outcome in outcomes)
    return [value for value in values if value is not None]


def _interval(scores: Sequence[float], seed: int) -> tuple[float | None, float | None]:
    return intervals.rate_interval(scores, seed) or (None, None)


def published_points(item: Item) -> float | None:
    """AlpaCare's own score of an item: None as soon as one order is missing or unreadable."""
    whole = all(item.get(order) and None not in item[order] for order in ORDERS)
    return item_points(item) if whole else None


RATES: dict[str, Callable[[Item], float | None]] = {
    "win_rate": item_points,
    "win_rate_unreadable_lost": partial(item_points, unreadable=0.0),
    "win_rate_unreadable_won": partial(item_points, unreadable=1.0),
    "win_rate_alpacare": published_points,
}
"""The order-averaged win rate, its two bounds, and the rate as AlpaCare published it, over the
items whose orders could both be read; each as what an item scores."""
DETECTABLE = "smallest_detectable_difference"
"""How far from 1/2 a true win rate must be for so many prompts to show it four times in five."""


def detectable_difference(prompts: int) -> float | None:
    """The smallest true difference from 1/2 that so many prompts show with a power of 80 %, as if
    there were no ties, the worst case (statistics/power.py); None where they show none."""
    found = detectable_win_rate(prompts)
    return None if math.isnan(found) else found - 0.5


def is_whole(metric: str, item: Item) -> bool:
    """Whether a rate takes an item as wholly read: without an unreadable verdict; AlpaCare's rate,
    which leaves out every other item, also in both orders."""
    if metric == "win_rate_alpacare":
        return published_points(item) is not None
    return not any(None in outcomes for outcomes in item.values())


def score_comparison(found: Comparison, seed: int = SEED) -> list[Score]:
    """All scores of one comparison.

    ``n`` is the number of items for rates over items, of verdicts for ``wins``, ``ties`` (with
    both_bad), ``losses``, ``unreadable`` and the rate in one order; ``n_unreadable`` counts in the
    same unit those with (or that are) an unreadable verdict (:func:`is_whole`). A rate of which
    nothing could be read is absent, while its bounds are there.
    """
    items = list(found.items.values())
    touched = sum(not is_whole("win_rate", item) for item in items)
    verdicts = [outcome for item in items for outcomes in item.values() for outcome in outcomes]
    unreadable = verdicts.count(None)
    scores: list[Score] = []

    def add(
        metric: str,
        value: float,
        bounds: tuple[float | None, float | None],
        n: int,
        n_unreadable: int,
    ) -> None:
        scores.append(Score(found.task, found.model, metric, value, *bounds, n, n_unreadable))

    for metric, points in RATES.items():
        read = [s for s in map(points, items) if s is not None]
        if read:
            lost = sum(not is_whole(metric, item) for item in items)
            add(metric, sum(read) / len(read), _interval(read, seed), len(items), lost)
    detectable = detectable_difference(len(items) - touched)
    if detectable is not None:
        add(DETECTABLE, detectable, (None, None), len(items), touched)
    counts = tally(outcome for outcome in verdicts if outcome is not None)
    for metric, value in (*counts._asdict().items(), ("unreadable", unreadable)):
        add(metric, value, (None, None), len(verdicts), unreadable)
    for order in ORDERS:
        there = [outcome for item in items for outcome in item[order]]
        only = [average_orders({order: _points(item[order])}) for item in items]
        read = [value for value in only if value is not None]
        if read:
            value, bounds = sum(read) / len(read), _interval(read, seed)
            add(f"win_rate_{order}", value, bounds, len(there), there.count(None))
    both = [item for item in items if all(item.values())]
    pairs = [
        (first, second)
        for item in both
        for first, second in zip(*(item[order] for order in ORDERS), strict=False)
        if first is not None and second is not None
    ]
    if pairs:
        agreement = positional_agreement(pairs)
        bounds = intervals.wilson(agreement.same, agreement.n)
        lost = sum(any(None in outcomes for outcomes in item.values()) for item in both)
        add("positional_agreement", agreement.rate, bounds, len(both), lost)
    return scores
