"""What verdicts and grades show, in words: who is preferred to whom, by how much, and how sure.

Reads scores alone; the section that shows them is ``comparisons``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from meadowlark.records import Score
from meadowlark.report.content import (
    Cells,
    Column,
    Prose,
    Table,
    Tile,
    counted,
    number,
    percent,
    plural,
)
from meadowlark.report.read import RunFolder
from meadowlark.report.scores import averaged, is_share

LABELLED = " · "
"""What divides a task from the label of the items that it is about (``difficulty 3``)."""
AVERAGE = "average over "
OVERLAP = "(judge:overlap"
UNNAMED = "unnamed"
"""What stands for a judge whose name its verdicts do not hold (evaluate/verdicts.py)."""
NAMELESS = "a judge model that the verdicts do not name"
NEAR = 0.01
"""An interval that ends so near to equal is borderline: other prompts might tip it."""
DETECTABLE = "smallest_detectable_difference"
"""The metric that says how far from 50 % a true win rate must be for the prompts to show it."""
MOST_NAMED = 6
"""So many reference models are named at a glance; of more, how many."""


def reference_ranks(scores: Sequence[Score]) -> dict[str, int]:
    """The models compared with, from the one hardest to beat to the easiest: the one order of every
    table and plot."""
    rates: dict[str, list[float]] = {}
    for s in scores:
        other = s.task.partition("): against ")[2]
        if s.metric == "win_rate" and other and LABELLED not in other:
            rates.setdefault(other, []).append(s.value)
    ordered = sorted(rates, key=lambda other: sum(rates[other]) / len(rates[other]))
    return {other: rank for rank, other in enumerate(ordered)}


def in_one_order(scores: Sequence[Score]) -> Callable[[tuple[RunFolder, Score]], tuple[int, ...]]:
    """A sort key: by judge, single comparisons before labelled ones before the rest, by model, and
    references by :func:`reference_ranks` with their average last."""
    ranks = reference_ranks(scores)
    judges = list(dict.fromkeys(s.task.partition("): ")[0] for s in scores))
    models = list(dict.fromkeys(s.model for s in scores))

    def key(held: tuple[RunFolder, Score]) -> tuple[int, ...]:
        judge, _, of = held[1].task.partition("): ")
        place = judges.index(judge)
        if not of.startswith(("against ", AVERAGE)):
            return place, 2, 0, 0
        other = of.partition(LABELLED)[0].removeprefix("against ")
        return place, int(LABELLED in of), models.index(held[1].model), ranks.get(other, len(ranks))

    return key


def answers_in_words(scores: Sequence[Score], names: dict[str, str]) -> list[str]:
    """Which model is better, by how much, how sure that is and who says so: a sentence each.

    A model's overall rate is that against its only reference, or of several an average over them
    that is not made of single rates (:func:`findings_of` tells those that are). A jury, or the
    majority of people, speaks for its members.
    """
    found: dict[str, list[Score]] = {}
    for s in overall(scores):
        found.setdefault(s.task.partition("): ")[0], []).append(s)
    differences = {
        (judge, *_models_of(pair)): s
        for s in scores
        if s.metric == "win_rate_difference"
        for judge, _, pair in [s.task.partition("): ")]
    }
    sentences = []
    for judge, own in found.items():
        own.sort(key=lambda s: -s.value)
        for s in own:
            if any(standing(s, scores)):
                continue
            over = "on average " if AVERAGE in s.task else ""
            over += f"against {reference_in_words(s, names)}"
            sentences.append(
                f"According to {rater(judge)}, {names[s.model]} wins {percent(s.value)} {over} (a "
                f"tie counts half; {plural(s.n, 'prompt')}; {_interval_in_words(s, 0.5)}). "
                + _winner_in_words(judge, s)
            )
        # Of many pairs, the neighbours in rank: the others follow, or nearly.
        ranked = list(dict.fromkeys(s.model for s in own))
        for a, b in itertools.pairwise(ranked):
            difference = differences.get((judge, a, b))
            sign = 1
            if difference is None:
                difference, sign = differences.get((judge, b, a)), -1
            if difference is None:
                continue
            s = _times(difference, sign)
            sentences.append(
                f"{names[a]} against {names[b]}, over the same reference models: "
                f"{number(100 * s.value, 1)} percentage points in win rate "
                f"({_interval_in_words(s, 0.0)}). " + _better_in_words(judge, s, names[a], names[b])
            )
    return sentences


def reference_in_words(s: Score, names: dict[str, str]) -> str:
    """Against whom a win rate is: ``4 reference models``, or the only one by name."""
    other = s.task.partition("): ")[2].removeprefix("against ")
    if AVERAGE in other:
        return averaged(other).removeprefix(AVERAGE)
    return names.get(other, other)


def tiles(scores: Sequence[Score], names: dict[str, str]) -> list[Tile]:
    """The first comparison at a glance: a win rate against one model, and against several which of
    them are better and worse, since their average would hide it."""
    found = []
    for s in overall(scores)[:1]:
        judge = s.task.partition("): ")[0]
        overlaps = OVERLAP in judge
        whom = reference_in_words(s, names)
        note = f"against {whom}, according to {rater(judge)}; {plural(s.n, 'prompt')}"
        if any(standing(s, scores)):
            title = "words shared" if overlaps else "preference"
            value = _at_a_glance(s, scores, names)
            if "undecided" in value:
                note += "; undecided: other prompts could tip it"
            found.append(Tile(f"{title}: {names[s.model]}", value, note, wide=True))
        else:
            title = "words shared, win rate" if overlaps else "win rate"
            value = percent(s.value, 0)
            note = f"{names[s.model]} {note}"
            found.append(Tile(title, value, f"{note}; {_interval_in_words(s, 0.5)}"))
    return found


def _at_a_glance(average: Score, scores: Sequence[Score], names: dict[str, str]) -> str:
    """``preferred less than a (borderline); more than b; c: undecided``; of many, how many."""
    overlaps = OVERLAP in average.task
    worse, unknown, better = standing(average, scores)
    many = len(worse) + len(unknown) + len(better) > MOST_NAMED

    def told(those: Sequence[Score]) -> str:
        if many:
            return f"{len(those):,} of {len(worse) + len(unknown) + len(better):,}"
        return ", ".join(
            _reference(s, names) + (" (borderline)" if is_borderline(s, 0.5) else "") for s in those
        )

    parts = []
    if worse:
        parts.append(f"{'fewer words than' if overlaps else 'preferred less than'} {told(worse)}")
    if better:
        parts.append(f"{'more words than' if overlaps else 'preferred more than'} {told(better)}")
    if unknown:
        parts.append(f"{told(unknown)}: undecided")
    return "; ".join(parts)


def _reference(s: Score, names: dict[str, str]) -> str:
    other = s.task.partition("): against ")[2].partition(LABELLED)[0]
    return names.get(other, other)


GRADED = {"rubric_score": "of the rubric’s points", "mean_points": "points on average"}
_OF_GRADES = {"rubric_difference": 100.0, "points_difference": 1.0}


def grades_in_words(scores: Sequence[Score], names: dict[str, str]) -> list[str]:
    """What each model was graded, best first, and which of two was graded better."""
    sentences = []
    graded = [s for s in scores if s.metric in GRADED and LABELLED not in s.task]
    for s in sorted(graded, key=lambda s: (s.task, -s.value)):
        value = percent(s.value) if s.metric == "rubric_score" else number(s.value, 2)
        scale = 100 if s.metric == "rubric_score" else 1
        sure = "no interval: too few answers"
        if s.low is not None and s.high is not None:
            sure = f"95 % interval {number(scale * s.low, 1)} to {number(scale * s.high, 1)}"
        lost = f"; {s.n_unreadable:,} with an unscored grading" if s.n_unreadable else ""
        sentences.append(
            f"According to {rater(s.task.removesuffix(')'))}, {names[s.model]} gets {value} "
            f"{GRADED[s.metric]} ({plural(s.n, 'answer')}; {sure}{lost})."
        )
    for s in scores:
        if s.metric not in _OF_GRADES:
            continue
        judge, _, pair = s.task.partition("): ")
        a, _, b = pair.partition(" minus ")
        factor, a, b = _OF_GRADES[s.metric], names.get(a, a), names.get(b, b)
        sure = "no interval: too few answers"
        if s.low is not None and s.high is not None:
            sure = (
                f"95 % interval {number(factor * s.low, 1)} to {number(factor * s.high, 1)}, "
                "equal is 0"
            )
        sentences.append(
            f"According to {rater(judge)}, {a} minus {b} on the same prompts, "
            f"{number(factor * s.value, 1)} {'percentage points' if factor > 1 else 'points'} "
            f"({sure}). " + _verdict_in_words(s, 0.0, f"{a} is better", f"{b} is better")
        )
    return sentences


def overall(scores: Sequence[Score]) -> list[Score]:
    """For each judge that speaks and each model, its win rate over all references, or the only
    one; where references are several and have no average, each."""
    rates = [s for s in scores if s.metric == "win_rate" and LABELLED not in s.task]
    speakers = speakers_of({s.task.partition("): ")[0] for s in rates})
    groups: dict[tuple[str, str], list[Score]] = {}
    for s in rates:
        judge = s.task.partition("): ")[0]
        if judge in speakers:
            groups.setdefault((judge, s.model), []).append(s)
    found: list[Score] = []
    for own in groups.values():
        average = [s for s in own if AVERAGE in s.task]
        found += average or list({s.task: s for s in own}.values())
    return found


def _models_of(pair: str) -> tuple[str, str]:
    a, _, rest = pair.partition(" minus ")
    return a, rest.rpartition(", over ")[0]


def _times(s: Score, sign: int) -> Score:
    if sign > 0:
        return s
    low = None if s.high is None else -s.high
    return replace(s, value=-s.value, low=low, high=None if s.low is None else -s.low)


def speakers_of(judges: set[str]) -> set[str]:
    """Whose numbers are told in words: the jury or majority where there is one, else everybody."""
    voted = {j for j in judges if j.endswith(("(judge:jury", "(human:majority"))}
    members = {
        j
        for j in judges - voted
        for v in voted
        if j.partition(" (")[0] == v.partition(" (")[0]
        and j.partition(" (")[2].partition(":")[0] == v.partition(" (")[2].partition(":")[0]
    }
    return judges - members


def rater(judge: str) -> str:
    """``preference (judge:x`` in words."""
    criterion, _, by = judge.partition(" (")
    kind, _, name = by.partition(":")
    if name == "overlap":
        words = "the overlap of words (no judgement of quality)"
    elif name == "jury":
        words = "the jury of judge models"
    elif name == "majority":
        words = "the majority of people"
    else:
        words = f"{'the judge model' if kind == 'judge' else 'the person'} {name}"
        if name == UNNAMED:
            words = NAMELESS
    if kind not in ("judge", "human"):
        words = by  # "3 graders"
    if criterion not in ("preference", "rubric") and name != "overlap":
        words += f" on {criterion}"
    return words


def _interval_in_words(s: Score, equal: float) -> str:
    return _limits_in_words(s, f", equal is {number(100 * equal, 0)}")


def _limits_in_words(s: Score, equal: str = "") -> str:
    lost = f"; {s.n_unreadable:,} with an unreadable verdict" if s.n_unreadable else ""
    if s.low is None or s.high is None:
        return f"no interval: too few prompts{lost}"
    return f"95 % interval {number(100 * s.low, 1)} to {number(100 * s.high, 1)}{equal}{lost}"


def _winner_in_words(judge: str, s: Score) -> str:
    """Of a win rate; an overlap of words is never called better."""
    if OVERLAP in judge:
        return _verdict_in_words(
            s,
            0.5,
            "It shares more words with the reference answers",
            "It shares fewer words",
            "share more",
        )
    return _verdict_in_words(s, 0.5, "Better", "Worse")


def standing(average: Score, scores: Sequence[Score]) -> tuple[list[Score], ...]:
    """The win rates that an average over references is made of: those shown to be worse than
    equal, those not shown to differ, and those better. All empty for a rate that is no average."""
    judge, _, of = average.task.partition("): ")
    worse: list[Score] = []
    unknown: list[Score] = []
    better: list[Score] = []
    for s in scores if of.startswith(AVERAGE) else ():
        if s.metric != "win_rate" or s.model != average.model or LABELLED in s.task:
            continue
        if not s.task.startswith(f"{judge}): against "):
            continue
        below = s.high is not None and s.high < 0.5
        above = s.low is not None and s.low > 0.5
        (worse if below else better if above else unknown).append(s)
    return worse, unknown, better


def findings_of(scores: Sequence[Score], names: dict[str, str]) -> list[Any]:
    """What each average over references is made of, a line each; after that the average itself,
    and how far one reference moves it."""
    rows: list[dict[str, Any]] = []
    averages = []
    for average in overall(scores):
        parts = sorted((s for those in standing(average, scores) for s in those), key=_by_value)
        if parts:
            averages.append(_average_in_words(average, parts, names))
        for s in parts:
            rows.append(
                {
                    "by": s.task.partition("): ")[0] + ")",
                    "model": s.model,
                    "reference": s.task.partition("): against ")[2],
                    "win_rate": s.value,
                    "low": s.low,
                    "high": s.high,
                    "n": s.n,
                    "n_unreadable": s.n_unreadable,
                    "finding": _finding(s),
                    "borderline": is_borderline(s, 0.5),
                }
            )
    if not rows:
        return []
    judges = dict.fromkeys(row["by"] for row in rows)
    models = list(dict.fromkeys(row["model"] for row in rows))
    alone = names[models[0]] if len(models) == 1 else ""
    columns = [
        Column(alone or "finding", lambda r: f"{r['finding']} {_last(r, names)}",
               title=lambda r: r["reference"]),
        Column("win rate", lambda r: percent(r["win_rate"]), "number"),
        Column("95 % interval", _limits, "number"),
    ]  # fmt: skip
    if any(row["n_unreadable"] for row in rows):
        columns.append(Column("unread\u00adable", counted("n_unreadable"), "number"))
    if not alone:
        columns.insert(0, Column("model", lambda r: names[r["model"]], "code",
                                 title=lambda r: r["model"]))  # fmt: skip
    if len(judges) > 1:
        columns.insert(0, Column("according to", lambda r: rater(r["by"].removesuffix(")"))))
    n = " or ".join(f"{n:,}" for n in sorted({row["n"] for row in rows}))
    caption = (
        f"How often the answers of {alone or 'each model'} are preferred: the share of {n} "
        "prompts, a tie as half, orders weighed alike. 50 % is equal; undecided means that the "
        "interval holds it."
    )
    if any(row["borderline"] for row in rows):
        caption += " Borderline: the interval ends within one point of 50 %."
    most = 5 * len(rows)  # Bonferroni's bound
    if len(rows) > 1:
        caption += f" {len(rows)} comparisons at once: "
        caption += (
            f"the chance that an interval misses is 5 % for each and up to {most} % for any."
            if most < 100
            else "some intervals are to be expected to miss."
        )
    return [Table("findings", caption, columns, rows, tight=True), *map(Prose, averages)]


def reach(scores: Sequence[Score]) -> str:
    """How small a true difference so many prompts can show, in a sentence; empty where it is not
    known. Of several comparisons, from the one with most prompts to the one with fewest."""
    found = [
        s
        for s in scores
        if s.metric == DETECTABLE and "): against " in s.task and LABELLED not in s.task
    ]
    speakers = speakers_of({s.task.partition("): ")[0] for s in found})
    found = [s for s in found if s.task.partition("): ")[0] in speakers]
    if not found:
        return ""
    most, fewest = (f(found, key=_by_value) for f in (min, max))
    points, n = number(100 * most.value, 1), f"{most.n - most.n_unreadable:,} prompts"
    if fewest.value > most.value:
        points += f" to {number(100 * fewest.value, 1)}"
        n += f" ({fewest.n - fewest.n_unreadable:,} in the smallest comparison)"
    return (
        f"What so many prompts can show: with {n}, a true win rate {points} percentage points "
        "above or below 50 % is found four times in five; a smaller difference may well stay "
        "undecided."
    )


def _by_value(s: Score) -> float:
    return s.value


def _limits(row: Cells) -> str:
    if row["low"] is None or row["high"] is None:
        return "too few prompts"
    return f"{number(100 * row['low'], 1)} to {percent(row['high'])}".replace(" ", "\u00a0")


def _finding(s: Score) -> str:
    """Worse, better or undecided, as the interval says; an overlap of words is never called so."""
    overlaps = OVERLAP in s.task
    if s.high is not None and s.high < 0.5:
        return "fewer words shared than" if overlaps else "preferred less than"
    if s.low is not None and s.low > 0.5:
        return "more words shared than" if overlaps else "preferred more than"
    return "undecided against"


def _last(row: Cells, names: dict[str, str]) -> str:
    """Whom a finding is about, and that it is borderline."""
    reference = names.get(row["reference"], str(row["reference"]))
    return f"{reference}, borderline" if row["borderline"] else reference


def is_borderline(s: Score, equal: float) -> bool:
    """Whether an end of the interval lies so near to equal that other prompts might tip it."""
    if not is_share(s.metric):
        return False
    return any(end is not None and abs(end - equal) <= NEAR for end in (s.low, s.high))


def _average_in_words(average: Score, parts: Sequence[Score], names: dict[str, str]) -> str:
    """The average over references with the caution that it needs: what it is without the reference
    that moves it most."""
    mean = sum(s.value for s in parts) / len(parts)
    odd = max(parts, key=lambda s: abs(s.value - mean))
    without = [s.value for s in parts if s is not odd]
    told = (
        f"The average of {names[average.model]} over the {len(parts)}, the kind of number that "
        f"the AlpaCare paper reports, is {percent(average.value)} "
        f"({_interval_in_words(average, 0.5)})"
    )
    if OVERLAP in average.task:
        told = told.replace(", the kind of number that the AlpaCare paper reports,", "")
    if without:
        told += (
            f"; without {_reference(odd, names)} it is {percent(sum(without) / len(without))}, so "
            "it says little by itself"
        )
    return f"{told}."


def _better_in_words(judge: str, s: Score, a: str, b: str) -> str:
    """Of a difference between two models' win rates, the first minus the second."""
    more, neither = ("shares more words", "share more") if OVERLAP in judge else (
        "is better", "be better",
    )  # fmt: skip
    return _verdict_in_words(s, 0.0, f"{a} {more}", f"{b} {more}", neither)


def _verdict_in_words(
    s: Score, equal: float, better: str, worse: str, neither: str = "be better"
) -> str:
    """What the interval allows to be said."""
    near = " Borderline: the interval ends within one point of equal."
    near = near if is_borderline(s, equal) else ""
    if s.low is not None and s.low > equal:
        return f"{better}, beyond chance.{near}"
    if s.high is not None and s.high < equal:
        return f"{worse}, beyond chance.{near}"
    return f"Neither is shown to {neither}.{near}"
