"""What verdicts say beyond the win rate: conventions, lengths, ratings, pairs of models, raters.

Oriented verdicts and comparisons come in; :class:`Score` rows go out. MT-bench's convention (a win
in both orders, else a tie), AlpacaEval's (preferences, length control), Bradley-Terry with a
position term, paired differences between models, majorities and agreement between raters.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from meadowlark.evaluate.comparison import Comparison, item_points
from meadowlark.evaluate.texts import Texts
from meadowlark.progress import plural
from meadowlark.records import Score, Verdict, Winner
from meadowlark.statistics.agreement import majority
from meadowlark.statistics.intervals import mean_interval, quantile, rate_interval
from meadowlark.statistics.length_control import length_controlled_win_rate
from meadowlark.statistics.paired import paired_difference
from meadowlark.statistics.raters import agreement_table, vote_of
from meadowlark.statistics.ratings import Ratings, bradley_terry, contests
from meadowlark.statistics.student import p_value
from meadowlark.statistics.wins import POINTS, POINTS_OF_A, preference_rate

Bounds = tuple[float | None, float | None]
JURY, PEOPLE = "judge:jury", "human:majority"
RIDGE = 0.01
"""Precision of the prior that keeps a Bradley-Terry strength finite where a model lost nothing."""


def consistent(found: Comparison, seed: int) -> list[Score]:
    """MT-bench's convention: a win that both orders give is a win, every disagreement a tie.

    Over the items read in both orders; ``n`` counts all that were shown in both.
    """
    both = [item for item in found.items.values() if all(item.values())]
    points = []
    for item in both:
        fell = [outcome for outcomes in item.values() for outcome in outcomes]
        read = [outcome for outcome in fell if outcome is not None]
        if len(read) == len(fell):
            points.append(POINTS[read[0]] if len(set(read)) == 1 else 0.5)
    if not points:
        return []
    low, high = rate_interval(points, seed) or (None, None)
    value, unread = sum(points) / len(points), len(both) - len(points)
    return [
        Score(found.task, found.model, "win_rate_consistent", value, low, high, len(both), unread)
    ]


def preferences(found: Comparison, verdicts: Sequence[Verdict]) -> list[Score]:
    """AlpacaEval's win rate from preferences, its standard error and discrete rate; as shares.

    Nothing where no verdict has a preference. A readable verdict without one (a tie in words)
    counts as its winner. Each item's verdicts are averaged first.
    """
    if all(verdict.preference is None for verdict in verdicts):
        return []
    by_item: dict[str, list[float | None]] = {}
    for v in verdicts:
        points = v.preference if v.preference is not None else POINTS_OF_A.get(v.winner)
        if v.winner == "unreadable":
            points = None
        by_item.setdefault(v.item, []).append(points)
    means = []
    for values in by_item.values():
        read = [value for value in values if value is not None]
        means.append(sum(read) / len(read) if read else None)
    if all(mean is None for mean in means):
        return []
    rate = preference_rate(means)
    unread = sum(None in values for values in by_item.values())
    half = quantile(0.95) * rate.standard_error
    bounds = _around(rate.win_rate, half)
    made = [
        Score(
            found.task, found.model, "preference_rate", rate.win_rate, *bounds, len(means), unread
        )
    ]
    rest = {"preference_rate_standard_error": rate.standard_error,
            "preference_rate_discrete": rate.discrete_win_rate}  # fmt: skip
    for metric, value in rest.items():
        if not math.isnan(value):
            made.append(
                Score(found.task, found.model, metric, value, None, None, len(means), unread)
            )
    return made


def _around(value: float, half: float) -> Bounds:
    """The interval of so much on either side; none where that is not known."""
    return (None, None) if math.isnan(half) else (value - half, value + half)


def lengths(found: Comparison, verdicts: Sequence[Verdict], texts: Texts) -> list[Score]:
    """How many characters longer the model's answers are, and its win rate at equal length.

    The fit has no term for the difficulty of single prompts, which AlpacaEval takes from many
    models; prompts are its clusters. Nothing where answers' texts are not known.
    """
    known = [
        v for v in verdicts if (v.item, v.a) in texts.lengths and (v.item, v.b) in texts.lengths
    ]
    items = {v.item: texts.lengths[v.item, v.a] - texts.lengths[v.item, v.b] for v in known}
    if len(items) < 2:
        return []
    longer = [float(difference) for difference in items.values()]
    low, high = mean_interval(longer) or (None, None)
    mean = sum(longer) / len(longer)
    made = [Score(found.task, found.model, "length_difference", mean, low, high, len(items))]
    wished = [
        None
        if v.winner == "unreadable"
        else v.preference
        if v.preference is not None
        else POINTS_OF_A[v.winner]
        for v in known
    ]
    if any(value is not None for value in wished):
        rate = length_controlled_win_rate(
            wished, [-items[v.item] for v in known], clusters=[v.item for v in known]
        )
        unread = len({v.item for v in known if v.winner == "unreadable"})
        bounds: Bounds = (None, None) if math.isnan(rate.standard_error) else (rate.low, rate.high)
        made.append(
            Score(
                found.task,
                found.model,
                "length_controlled_win_rate",
                rate.value,
                *bounds,
                len(items),
                unread,
            )
        )
    return made


def ratings(verdicts: Sequence[Verdict]) -> tuple[list[Score], list[str]]:
    """Bradley-Terry strengths (logits) by criterion and judge, and the judge's position effect.

    The reference at 0 is the name that stands as ``b`` most often. Errors are clustered by
    prompt. Where a model won or lost everything, a weak prior keeps it finite, and a
    warning says so.
    """
    scores: list[Score] = []
    warnings: list[str] = []
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        groups.setdefault((verdict.criterion, verdict.by), []).append(verdict)
    for (criterion, by), rows in sorted(groups.items()):
        read = sorted((v for v in rows if v.winner in POINTS_OF_A), key=_place)
        if len({v.item for v in read}) < 2:
            continue  # one prompt says nothing of how strengths vary
        base = _most_often_b(rows, {v.b for v in read})
        fitted, ridge = _fitted(read, base)
        if fitted is None:
            warnings.append(f"no Bradley-Terry ratings by {by}: the models are not all connected")
            continue
        if ridge:
            warnings.append(
                f"a model won or lost everything by {by}: its Bradley-Terry strength is held "
                "finite by a weak prior and means only that it is far away"
            )
        unread = sum(v.winner == "unreadable" for v in rows)
        task = f"{criterion} ({by}): Bradley-Terry, {base} at 0"
        for one in fitted.ratings:
            known = one.name != base and not math.isnan(one.standard_error)
            bounds: Bounds = (one.low, one.high) if known else (None, None)
            n = int(one.comparisons)
            lost = sum(v.winner == "unreadable" for v in rows if one.name in (v.a, v.b))
            scores.append(Score(task, one.name, "strength", one.strength, *bounds, n + lost, lost))
        if fitted.position is not None and fitted.position_error is not None:
            effect, half = fitted.position, quantile(0.95) * fitted.position_error
            bounds = _around(effect, half)
            scores.append(Score(task, by, "position_effect", effect, *bounds, len(rows), unread))
    return scores, warnings


def _place(verdict: Verdict) -> tuple[str, ...]:
    return verdict.item, verdict.a, verdict.b, verdict.shown_first, verdict.winner


def _most_often_b(rows: Sequence[Verdict], known: set[str]) -> str:
    as_b = Counter(v.b for v in rows)
    return min(known, key=lambda name: (-as_b[name], name))


def _fitted(read: Sequence[Verdict], base: str) -> tuple[Ratings | None, float]:
    found = contests(read)
    orders = {contest.shown for contest in found}
    for ridge in (0.0, RIDGE):
        try:
            fit = bradley_terry(found, base, position=len(orders) == 2, by_item=True, ridge=ridge)
        except ValueError:
            continue
        return fit, ridge
    return None, 0.0


def paired_models(group: Sequence[Comparison]) -> list[Score]:
    """Two models against the same references: the difference of their win rates, item by item.

    ``group`` holds the comparisons of one criterion and judge. An item's score is its mean over
    the shared references; items that either lacks are left out and counted. The p-value is that of
    the paired t test.
    """
    models: dict[str, dict[str, Comparison]] = {}
    for one in group:
        models.setdefault(one.model, {})[one.reference] = one
    scores: list[Score] = []
    for a, b in itertools.combinations(models, 2):
        shared = [name for name in models[a] if name in models[b]]
        if not shared:
            continue
        ids = sorted(
            {
                item
                for model in (a, b)
                for reference in shared
                for item in models[model][reference].items
            }
        )
        table = [
            (_mean_over(models[a], shared, item), _mean_over(models[b], shared, item))
            for item in ids
        ]
        both = [(x, y) for x, y in table if x is not None and y is not None]
        if not both:
            continue
        found = paired_difference([x for x, _ in both], [y for _, y in both])
        first = next(iter(models[a].values()))
        over = f"{len(shared)} shared references" if len(shared) > 1 else shared[0]
        task = f"{first.criterion} ({first.by}): {a} minus {b}, over {over}"
        bounds: Bounds = (None, None) if math.isnan(found.low) else (found.low, found.high)
        lost = len(ids) - len(both)
        scores.append(Score(task, a, "win_rate_difference", found.value, *bounds, len(ids), lost))
        if found.standard_error > 0:
            p = p_value(found.value / found.standard_error, found.n - 1)
            scores.append(Score(task, a, "paired_t_p", p, None, None, len(ids), lost))
    return scores


def _mean_over(
    by_reference: Mapping[str, Comparison], references: Sequence[str], item: str
) -> float | None:
    values = [item_points(by_reference[name].items.get(item, {})) for name in references]
    read = [value for value in values if value is not None]
    return sum(read) / len(read) if len(read) == len(values) else None


_Ballot = tuple[str, str, str, str, str, Literal["a", "b"]]
"""What is voted on: who votes, the criterion, the item, the pair, and the answer shown first."""


def _ballots(verdicts: Iterable[Verdict]) -> dict[_Ballot, dict[str, list[Verdict]]]:
    """The verdicts on each ballot by rater, of juries with two members or more."""
    ballots: dict[_Ballot, dict[str, list[Verdict]]] = {}
    members: dict[str, set[str]] = {}
    for v in verdicts:
        kind = JURY if v.by.startswith("judge:") else PEOPLE
        if v.by != "judge:overlap":
            order: Literal["a", "b"] = v.shown_first if kind == JURY else "a"
            unit = (kind, v.criterion, v.item, v.a, v.b, order)
            ballots.setdefault(unit, {}).setdefault(v.by, []).append(v)
            members.setdefault(kind, set()).add(v.by)
    return {unit: held for unit, held in ballots.items() if len(members[unit[0]]) > 1}


def _cast(by_rater: Mapping[str, Sequence[Verdict]]) -> list[str]:
    """One vote for each rater who said something that could be read."""
    cast = [
        vote_of([POINTS_OF_A[v.winner] for v in rows if v.winner in POINTS_OF_A])
        for rows in by_rater.values()
    ]
    return [vote for vote in cast if vote is not None]


def lone_votes(verdicts: Iterable[Verdict]) -> list[str]:
    """For each jury, a line on how many of its verdicts are one member's alone, and so no
    majority's; none where all are of two or more."""
    votes: dict[str, list[int]] = {}
    for (kind, *_), by_rater in _ballots(verdicts).items():
        votes.setdefault(kind, []).append(len(_cast(by_rater)))
    return [
        f"{alone:,} of {plural(len(counts), 'verdict')} of {kind} "
        f"{'is' if alone == 1 else 'are'} one rater's alone"
        for kind, counts in votes.items()
        if (alone := counts.count(1))
    ]


def juries(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """The majority's verdict of several judges on each pair in each order, and of several people on
    each pair.

    The winner with more votes than any other; a tie where two lead equally (both_bad votes as a
    tie). Each has one vote: that for the side with more points where somebody judged more than
    once. People are shown a pair in one order or the other, so their votes are counted together
    whichever it was (as in :func:`meadowlark.statistics.human.preference_table`), and their
    majority has no order: it is written as shown ``a`` first. An unreadable verdict does not vote;
    where nobody does, the jury's is unreadable.
    """
    made = []
    for (kind, criterion, item, a, b, order), by_rater in _ballots(verdicts).items():
        voted = _cast(by_rater)
        winner: Winner = majority(voted, "tie") if voted else "unreadable"  # type: ignore[assignment]
        note = ", ".join(f"{by}: {v.winner}" for by, rows in by_rater.items() for v in rows)
        made.append(Verdict(item, criterion, a, b, order, winner, kind, note=note))
    return made


def raters(verdicts: Iterable[Verdict]) -> list[Score]:
    """Agreement between judges, between people, and of each judge with the people's majority.

    Both orders of a rater are one vote. ``n`` counts the pairs of answers that both rated.
    """
    scores = []
    for row in agreement_table(verdicts):
        if row.value is None:
            continue
        ties = "" if row.ties else ", ties left out"
        task = f"agreement on {row.criterion}: {row.between}{ties}"
        metric = f"agreement_{row.coefficient}"
        scores.append(Score(task, row.between, metric, row.value, row.low, row.high, row.n))
    return scores
