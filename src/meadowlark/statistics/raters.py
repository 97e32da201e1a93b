"""Who agrees with whom: people with each other, judge models with people, with and without ties.

Verdicts come in; a table of votes, and rows of agreement coefficients, come out. A judge model and
a person give the same record, so they are compared in one way.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from meadowlark.records import Rejected, Verdict
from meadowlark.statistics.agreement import COEFFICIENTS, agreement, majority, without_ties
from meadowlark.statistics.wins import POINTS_OF_A

Vote = str


class Unit(NamedTuple):
    """What was judged: one item's answers by two models, ``a`` before ``b`` as names sort."""

    item: str
    a: str
    b: str


class Votes(NamedTuple):
    """The votes on one criterion: ``table[unit][rater]`` is ``a``, ``b``, ``tie`` or None."""

    criterion: str
    units: list[Unit]
    raters: list[str]
    table: list[list[Vote | None]]


class AgreementRow(NamedTuple):
    """One coefficient between some raters on one criterion; ``n`` units of ``items`` prompts.

    ``between`` says who: ``people``, ``judges``, or one judge and the people's majority.
    ``ties`` is False where tied votes were left out. The interval is clustered by prompt. What
    cannot be told is None.
    """

    criterion: str
    between: str
    raters: int
    ties: bool
    coefficient: str
    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    n: int
    items: int


def votes(verdicts: Iterable[Verdict]) -> list[Votes]:
    """One vote a rater and unit, by criterion, all in sorted order.

    A rater who judged a unit more than once (in both orders) votes for the side with more points,
    or a tie where they cancel out. ``both_bad`` is a tie; an unreadable verdict is no vote, but its
    unit and rater stay in the table.
    """
    points: dict[str, dict[Unit, dict[str, list[float]]]] = {}
    for verdict in verdicts:
        a, b = sorted((verdict.a, verdict.b))
        by_rater = points.setdefault(verdict.criterion, {}).setdefault(Unit(verdict.item, a, b), {})
        found = by_rater.setdefault(verdict.by, [])
        if verdict.winner in POINTS_OF_A:
            won = POINTS_OF_A[verdict.winner]
            found.append(won if verdict.a == a else 1 - won)
    tables = []
    for criterion, units in sorted(points.items()):
        raters = sorted({by for by_rater in units.values() for by in by_rater})
        table = [[vote_of(units[unit].get(by, [])) for by in raters] for unit in sorted(units)]
        tables.append(Votes(criterion, sorted(units), raters, table))
    return tables


def vote_of(points: Sequence[float]) -> Vote | None:
    """The one vote of a rater who gave ``a`` these points: the side with more, or a tie; None
    without any."""
    if not points:
        return None
    mean = sum(points) / len(points)
    return "tie" if mean == 0.5 else "a" if mean > 0.5 else "b"


REPLACED = "replaced by a later vote of the same person"
"""Why a verdict of a person is set aside."""


def last_votes(verdicts: Iterable[Verdict]) -> tuple[list[Verdict], list[Rejected]]:
    """The verdicts of which each person's last counts, and those that a later one replaced.

    Of a person's verdicts on one criterion, item and pair with the same answer shown first, the
    last in order is what the person thinks in the end. The two orders stand beside each other (in
    :func:`votes` they are one vote), and an unreadable verdict neither replaces nor is replaced. A
    judge model's repeated verdicts are draws of the same judge and stay.
    """
    rows = list(verdicts)
    last: dict[tuple[str, ...], int] = {}
    places: list[tuple[str, ...] | None] = []
    for place, v in enumerate(rows):
        key = None
        if v.by.startswith("human:") and v.winner in POINTS_OF_A:
            first = v.a if v.shown_first == "a" else v.b
            key = (v.by, v.criterion, v.item, *sorted((v.a, v.b)), first)
            last[key] = place
        places.append(key)
    kept, replaced = [], []
    for place, (v, key) in enumerate(zip(rows, places, strict=True)):
        if key is None or last[key] == place:
            kept.append(v)
        else:
            then = rows[last[key]]
            winner = {"a": then.a, "b": then.b}.get(then.winner, then.winner.replace("_", " "))
            replaced.append(Rejected(v, REPLACED, f"{v.by} said later: {winner}"))
    return kept, replaced


def agreement_table(verdicts: Iterable[Verdict]) -> list[AgreementRow]:
    """Every coefficient between the people, between the judges, and of each judge with the people.

    A judge is compared with the people's majority; a unit on which they have none is left out of
    that comparison. With and without ties are two rows: the second leaves out the hardest units, so
    read its n beside it. ``cohen`` stands only where two are compared. A set of raters who share no
    unit gives no row.
    """
    rows: list[AgreementRow] = []
    for found in votes(verdicts):
        people = [i for i, name in enumerate(found.raters) if name.startswith("human:")]
        judges = [i for i in range(len(found.raters)) if i not in people]
        sets: list[tuple[str, list[list[Vote | None]]]] = [
            ("people", [[row[i] for i in people] for row in found.table]),
            ("judges", [[row[i] for i in judges] for row in found.table]),
        ]
        chosen = [majority([row[i] for i in people]) for row in found.table]
        sets += [
            (
                f"{found.raters[i]} and the people's majority",
                [[row[i], _text(most)] for row, most in zip(found.table, chosen, strict=True)],
            )
            for i in judges
            if people
        ]
        for between, table in sets:
            if table and len(table[0]) >= 2:
                rows += _rows(found, between, table)
    return rows


def _text(value: Hashable | None) -> Vote | None:
    return None if value is None else str(value)


def _rows(found: Votes, between: str, table: list[list[Vote | None]]) -> list[AgreementRow]:
    rows = []
    for ties in (True, False):
        kept = table if ties else without_ties(table)
        # Only units with two votes compare anybody; the others would enter chance alone.
        pairs = [
            (row, unit.item)
            for row, unit in zip(kept, found.units, strict=True)
            if sum(vote is not None for vote in row) >= 2
        ]
        if not pairs:
            continue
        for name in COEFFICIENTS:
            if name == "cohen" and len(table[0]) > 2:
                continue
            result = agreement(
                [row for row, _ in pairs],
                name,
                categories=["a", "b", "tie"] if ties else ["a", "b"],
                clusters=[item for _, item in pairs],
            )
            numbers = (result.value, result.standard_error, result.low, result.high)
            value, error, low, high = (None if math.isnan(x) else x for x in numbers)
            rows.append(
                AgreementRow(
                    found.criterion,
                    between,
                    len(table[0]),
                    ties,
                    name,
                    value,
                    error,
                    low,
                    high,
                    len(pairs),
                    len({item for _, item in pairs}),
                )
            )
    return rows
