"""Wins, ties and losses: the win rate, its average over both orders, and how far orders agree.

Outcomes of one model against another come in, grouped by item and order; rates come out. A win
counts 1, a tie 1/2, a loss 0, as in AlpaCare and AlpacaEval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from meadowlark.records import Winner
from meadowlark.statistics.intervals import clustered_mean

Outcome = Literal["win", "tie", "loss"]
POINTS: dict[Outcome, float] = {"win": 1.0, "tie": 0.5, "loss": 0.0}
POINTS_OF_A: dict[Winner, float] = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
"""What a verdict's winner gives its ``a``; an unreadable one gives nothing, and is not in here."""


class Tally(NamedTuple):
    """How many outcomes were wins, ties and losses."""

    wins: int
    ties: int
    losses: int

    @property
    def n(self) -> int:
        """All outcomes."""
        return self.wins + self.ties + self.losses


def tally(outcomes: Iterable[Outcome]) -> Tally:
    """Counts wins, ties and losses."""
    found = list(outcomes)
    return Tally(found.count("win"), found.count("tie"), found.count("loss"))


def win_rate(outcomes: Iterable[Outcome]) -> float:
    """(wins + ties/2)/n in [0, 1]; no outcomes are a ValueError."""
    counts = tally(outcomes)
    if not counts.n:
        raise ValueError("no outcomes")
    return (counts.wins + counts.ties / 2) / counts.n


class PreferenceRate(NamedTuple):
    """AlpacaEval's win rate, as shares: its standard error, and the rate of decisions alone.

    ``standard_error`` is NaN with fewer than two preferences. ``n`` counts what could be read.
    """

    win_rate: float
    standard_error: float
    discrete_win_rate: float
    wins: int
    ties: int
    losses: int
    n: int
    n_unreadable: int


def preference_rate(preferences: Iterable[float | None]) -> PreferenceRate:
    """The mean of preferences from 0 (the other) to 1 (the model), and its error s/√n.

    A preference above 1/2 is a win, one of exactly 1/2 a tie, below a loss; the discrete rate is
    (wins + ties/2)/n. None is a verdict that could not be read: left out, and counted. As in
    AlpacaEval (Li et al. 2023), whose 1 to 2 are these plus 1. No preferences are a ValueError.
    """
    found = list(preferences)
    read = [value for value in found if value is not None and not math.isnan(value)]
    if not all(0 <= value <= 1 for value in read):
        raise ValueError("a preference is between 0 and 1")
    mean, error = clustered_mean(read)
    wins, ties = sum(value > 0.5 for value in read), read.count(0.5)
    n = len(read)
    discrete = (wins + ties / 2) / n
    return PreferenceRate(mean, error, discrete, wins, ties, n - wins - ties, n, len(found) - n)


def average_orders(by_order: Mapping[str, Sequence[float]]) -> float | None:
    """One item's score: the mean over its orders of the mean points in each; None without any.

    Averaging orders first keeps both positions equally heavy when one was judged more often.
    """
    means = [sum(points) / len(points) for points in by_order.values() if points]
    return sum(means) / len(means) if means else None


class Agreement(NamedTuple):
    """In how many of ``n`` items both orders gave the same outcome."""

    same: int
    n: int

    @property
    def rate(self) -> float:
        """The share of items in [0, 1]; a ValueError without items."""
        if not self.n:
            raise ValueError("no item was read in both orders")
        return self.same / self.n


def positional_agreement(pairs: Iterable[tuple[Outcome, Outcome]]) -> Agreement:
    """How often (outcome shown first, outcome shown second) of the same model are equal.

    A judge that always prefers the first answer has agreement 0; one that ignores order has 1.
    """
    found = list(pairs)
    return Agreement(sum(first == second for first, second in found), len(found))
