"""The section on compared answers: win rates, and how the verdicts fell in each order.

Reads ``scores.json`` and ``verdicts.parquet`` of a judge's run and of the runs that scored it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from meadowlark.records import Score, Verdict
from meadowlark.report import glossary, plots
from meadowlark.report.content import (
    Cells,
    Column,
    Details,
    Facts,
    Figure,
    Link,
    Prose,
    Section,
    Table,
    Tile,
    counted,
    number,
    percent,
    plural,
    slug,
    text,
)
from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder
from meadowlark.report.scores import against, averaged, compared, is_share, model_names, score_table

WINNERS = {
    "a": "first_wins",
    "tie": "ties",
    "both_bad": "both_bad",
    "b": "second_wins",
    "unreadable": "unreadable",
}
"""How a verdict may fall, and the column that counts it."""
LABELLED = " · "
"""What divides a task from the label of the items that it is about (``difficulty 3``)."""
AVERAGE = "average over "
OVERLAP = "(judge:overlap"
UNNAMED = "unnamed"
"""What stands for a judge whose name its verdicts do not hold (evaluate/verdicts.py)."""
NAMELESS = "a judge model that the verdicts do not name"
NEAR = 0.01
"""An interval that ends so near to equal is borderline: other prompts might tip it."""
MOST_NAMED = 6
"""So many reference models are named at a glance; of more, how many."""
MOST_ROWS = 8
MOST_ROWS_OF_A_TABLE = 40
COUNTS = ("wins", "ties", "losses", "unreadable")
"""Metrics that the table of verdicts shows by order, and the table of scores not again."""


def section(lineage: Lineage) -> Section | None:
    """The section on answers compared by a judge or by people, or None where none were."""
    runs = compared(lineage)
    scored = [(run, s) for run in runs for s in run.scores]
    names = model_names(lineage.runs)
    verdicts = verdicts_of(lineage, runs)
    if not scored and not verdicts:
        return None
    blocks: list[Any] = []
    judges = sorted({v.by for v in verdicts})
    told_scores = [s for _, s in scored]
    scored = sorted(scored, key=in_one_order(told_scores))
    told_scores = [s for _, s in scored]
    rates = [s for s in told_scores if s.metric == "win_rate"]
    blocks += _findings(told_scores, names)
    told_words = answers_in_words(told_scores, names) + grades_in_words(told_scores, names)
    blocks += [Prose(sentence) for sentence in told_words]
    if verdicts:
        order = " ".join(glossary.order_effect(verdicts, told_scores, names))
        blocks.append(Prose(f"{glossary.how_many(verdicts)} {order}".rstrip()))
        limits = glossary.limits(verdicts, set(judges), f"judge:{UNNAMED}")
        blocks.append(Prose(f"What this cannot tell. {limits}"))
        blocks.append(
            Link(
                "verdicts.html",
                "Every prompt with its answers and verdicts (verdicts.html, beside this page)",
            )
        )
    whole = [s for s in rates if LABELLED not in s.task]
    if whole and len(whole) <= MOST_ROWS:
        blocks.append(_rate_plot(whole, names))
    elif whole:
        blocks += _bar_plots(whole, names, "reference", "win-rates")
    blocks += _label_plots(rates, names, _labelled_by(lineage))
    if scored:
        if verdicts:  # the table of verdicts has the counts, by order
            scored = [(run, s) for run, s in scored if s.metric not in COUNTS]
        caption = (
            "Scores with 95 % intervals. n says what it counts; unreadable are those of n with a "
            "verdict that names no winner."
        )
        table = score_table("comparison_scores", caption, scored, names, {}, glossary.unit)
        meanings = Facts(glossary.meanings(s.metric for _, s in scored))
        if len(scored) > MOST_ROWS_OF_A_TABLE:
            told = (
                f"Every score, and what each means: {plural(len(scored), 'number')} in "
                f"{plural(len({s.metric for _, s in scored}), 'metric')}, each with interval and n"
            )
            blocks.append(Details(told, [meanings, table]))
        else:
            blocks += [table, Details("What each score means", [meanings])]
    if verdicts:
        blocks += _verdict_blocks(verdicts, names, told_scores)
    words = [NAMELESS if j == f"judge:{UNNAMED}" else j for j in judges]
    lead = f"Judged by {', '.join(words)}." if judges else ""
    if any(AVERAGE in s.task for s in rates):
        lead += (
            " Reference models are those that a model is compared with; their answers are not "
            "taken as correct."
        )
    if any("overlap" in judge for judge in judges):
        lead += (
            " The overlap judge prefers the answer that shares more words with a reference "
            "answer: a measure of form, not of medical quality."
        )
    return Section("answers", "Answers compared", lead, blocks)


def verdicts_of(lineage: Lineage, runs: Sequence[RunFolder]) -> list[Verdict]:
    """The verdicts of the last runs that hold any: a score's folder repeats those of its judge."""
    holders = [run for run in runs if run.verdicts]
    repeated = {label for run in holders for label in lineage.ancestors(run)}
    return [v for run in holders if run.label not in repeated for v in run.verdicts]


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


# --------------------------------------------------------------------------- in words


def answers_in_words(scores: Sequence[Score], names: dict[str, str]) -> list[str]:
    """Which model is better, by how much, how sure that is and who says so: a sentence each.

    A model's overall rate is that against its only reference, or of several an average over them
    that is not made of single rates (:func:`_findings` tells those that are). A jury, or the
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
                f"According to {_who(judge)}, {names[s.model]} wins {percent(s.value)} {over} (a "
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
        note = f"against {whom}, according to {_who(judge)}; {plural(s.n, 'prompt')}"
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
            _reference(s, names) + (" (borderline)" if _borderline(s, 0.5) else "") for s in those
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
            f"According to {_who(s.task.removesuffix(')'))}, {names[s.model]} gets {value} "
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
            f"According to {_who(judge)}, {a} minus {b} on the same prompts, "
            f"{number(factor * s.value, 1)} {'percentage points' if factor > 1 else 'points'} "
            f"({sure}). " + _verdict_in_words(s, 0.0, f"{a} is better", f"{b} is better")
        )
    return sentences


def overall(scores: Sequence[Score]) -> list[Score]:
    """For each judge that speaks and each model, its win rate over all references, or the only
    one; where references are several and have no average, each."""
    rates = [s for s in scores if s.metric == "win_rate" and LABELLED not in s.task]
    speakers = _speakers({s.task.partition("): ")[0] for s in rates})
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


def _speakers(judges: set[str]) -> set[str]:
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


def _who(judge: str) -> str:
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


def _findings(scores: Sequence[Score], names: dict[str, str]) -> list[Any]:
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
                    "borderline": _borderline(s, 0.5),
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
        columns.insert(0, Column("according to", lambda r: _who(r["by"].removesuffix(")"))))
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


def _borderline(s: Score, equal: float) -> bool:
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
    near = near if _borderline(s, equal) else ""
    if s.low is not None and s.low > equal:
        return f"{better}, beyond chance.{near}"
    if s.high is not None and s.high < equal:
        return f"{worse}, beyond chance.{near}"
    return f"Neither is shown to {neither}.{near}"


# --------------------------------------------------------------------------- plots


Notes = Callable[[Sequence[Score]], list[str]]


def _bar_plots(
    rates: Sequence[Score], names: dict[str, str], axis: str, name: str, notes: Notes | None = None
) -> list[Figure]:
    """Win rates as bars, a group for each reference or label, one plot a judge; ``notes`` adds to
    the caption what is to be said of a plot's rates."""
    by_judge: dict[str, list[Score]] = {}
    for s in rates:
        by_judge.setdefault(s.task.partition("): ")[0], []).append(s)
    figures = []
    chosen = _speakers(set(by_judge))
    for number_, (judge, own) in enumerate((j, s) for j, s in by_judge.items() if j in chosen):
        categories = list(dict.fromkeys(_category(s, names) for s in own))
        models = list(dict.fromkeys(s.model for s in own))
        bars = []
        for model in models:
            mine = {_category(s, names): s for s in own if s.model == model}
            values = [mine[c].value if c in mine else None for c in categories]
            intervals = [
                (mine[c].low, mine[c].high)
                if c in mine and mine[c].low is not None and mine[c].high is not None
                else None
                for c in categories
            ]
            bars.append(plots.Bars(names[model], values, intervals))  # type: ignore[arg-type]
        words = "; ".join(
            f"{names[s.model]}, {_category(s, names)}: {percent(s.value)}" for s in own
        )
        drawn = plots.bar_plot(
            f"{name}-{number_}",
            f"Win rates by {axis}",
            f"{words}. Equal models have 50 %.",
            categories,
            bars,
            x_label=axis,
            y_label="win rate (%)",
            reference=plots.Reference("equal, 50 %", 0.5),
            counts=[max(s.n for s in own if _category(s, names) == c) for c in categories],
        )
        who = f", according to {_who(judge)}" if len(chosen) > 1 else ""
        caption = (
            f"Win rates by {axis}{_over(own)} with 95 % intervals{who}. n: prompts behind each."
        )
        if notes is not None:
            caption = " ".join([caption, *notes(own)])
        figures.append(Figure(drawn, caption))
    return figures


def _over(rates: Sequence[Score]) -> str:
    """Against whom, where every rate of a plot by label is against the same."""
    whom = {s.task.partition("): ")[2].partition(LABELLED)[0] for s in rates}
    return f" ({averaged(whom.pop())})" if len(whom) == 1 else ""


def _category(s: Score, names: dict[str, str]) -> str:
    task, _, label = s.task.partition("): ")[2].partition(LABELLED)
    if label:
        return label.partition(" ")[2]
    other = task.removeprefix("against ")
    return "average" if other.startswith(AVERAGE) else names.get(other, other)


def _label_plots(
    rates: Sequence[Score], names: dict[str, str], labelled_by: str = ""
) -> list[Figure]:
    """Win rates by difficulty, by topic and so on, where scores by label are there."""
    kinds: dict[str, list[Score]] = {}
    for s in rates:
        if LABELLED in s.task:
            kinds.setdefault(s.task.rpartition(LABELLED)[2].partition(" ")[0], []).append(s)
    figures = []
    for kind, own in kinds.items():
        counts: dict[str, int] = {}
        for s in own:
            label = _category(s, names)
            counts[label] = max(counts.get(label, 0), s.n)
        most = sorted(counts, key=lambda label: (-counts[label], label))[:MOST_ROWS]
        scale = glossary.scale(kind, counts, labelled_by)
        whole = max((s.n for s in overall(rates)), default=0)
        missing = whole - sum(counts.values())

        def notes(
            shown: Sequence[Score],
            kind: str = kind,
            scale: str = scale,
            missing: int = missing,
            whole: int = whole,
        ) -> list[str]:
            lines = [scale] if scale else []
            if missing > 0:
                told = (
                    f"{missing:,} of {plural(whole, 'prompt')} {'has' if missing == 1 else 'have'}"
                )
                lines.append(f"{told} no {kind} here.")
            return lines + _apart_in_words(shown, kind, names)

        figures += _bar_plots(
            [s for s in own if _category(s, names) in most],
            names,
            kind,
            f"win-rates-{slug(kind)}",
            notes,
        )
    return figures


def _apart_in_words(rates: Sequence[Score], kind: str, names: dict[str, str]) -> list[str]:
    """Which labels' intervals lie above and below 50 %, and whether all overlap; of one model."""
    known = [(s, s.low, s.high) for s in rates if s.low is not None and s.high is not None]
    if len(known) < len(rates) or len({s.model for s in rates}) > 1:
        return []
    lines = []
    for side, those in (
        ("Above", [s for s, low, _ in known if low > 0.5]),
        ("Below", [s for s, _, high in known if high < 0.5]),
    ):
        told = [_category(s, names) + " (borderline)" * _borderline(s, 0.5) for s in those]
        if told:
            lines.append(f"{side} 50 %: {kind} {', '.join(told)}.")
    if not lines:
        return [f"Every interval holds 50 %: no difference by {kind} is shown."]
    if max(low for _, low, _ in known) <= min(high for _, _, high in known):
        lines.append(f"All intervals overlap, so a difference by {kind} is not certain.")
    return lines


def _labelled_by(lineage: Lineage) -> str:
    """The file that gave the items their labels, or the task whose questions bear them."""
    files = [link.origin.label for link in lineage.links if link.name == "groups"]
    tasks = [question.task for run in lineage.runs for question in run.questions if question.group]
    return next(iter([*files, *tasks]), "")


def _rate_plot(rates: Sequence[Score], names: dict[str, str]) -> Figure:
    kinds = {s.task.partition("): ")[0] for s in rates}
    alone = len({s.model for s in rates}) == 1
    rows = [
        replace(
            against(score, names, several=len(kinds) > 1, alone=alone), apart=AVERAGE in score.task
        )
        for score in rates
    ]
    drawn = plots.interval_plot(
        "win-rates",
        "Win rates",
        "; ".join(f"{r.label}: {r.shown}" for r in rows) + ". Equal models have 50 %.",
        rows,
        x_label="win rate (%)",
        references=[plots.Reference("equal 50 %", 0.5)],
    )
    n = ", ".join(f"{n:,}" for n in dict.fromkeys(s.n for s in rates))
    lost = sum(s.n_unreadable for s in rates)
    return Figure(
        drawn,
        f"Win rates{f' of {names[rates[0].model]}' if alone else ''} with 95 % intervals. "
        f"n = {n} prompts; {plural(lost, 'prompt')} with an unreadable verdict."
        + (" The average, AlpaCare’s number, stands apart." if any(r.apart for r in rows) else ""),
    )


def _place_shown(row: Cells) -> str:
    """Where the first model's answer stood: first, second, or both orders together."""
    return {row["a"]: "first", row["b"]: "second"}.get(row["shown_first"], "both, in all")


def _verdict_blocks(
    verdicts: Sequence[Verdict], names: dict[str, str], scores: Sequence[Score]
) -> list[Any]:
    counts: dict[tuple[str, str, str, str], dict[str, Counter[str]]] = {}
    for v in verdicts:
        by_order = counts.setdefault((v.by, v.criterion, v.a, v.b), {})
        by_order.setdefault(v.shown_first, Counter())[v.winner] += 1
    rows: list[dict[str, Any]] = []
    bars = []
    told_n = []
    alone = len({a for _, _, a, _ in counts}) == 1
    ranks = reference_ranks(scores)
    places = {
        name: [*dict.fromkeys(k[n] for k in counts)] for n, name in enumerate(("by", "c", "a"))
    }
    ordered = sorted(
        counts.items(),
        key=lambda held: (
            *(places[name].index(held[0][n]) for n, name in enumerate(("by", "c", "a"))),
            ranks.get(held[0][3], len(ranks)),
        ),
    )
    for (by, criterion, a, b), by_order in ordered:
        total: Counter[str] = sum(by_order.values(), Counter())
        n = sum(total.values())
        title = f"against {names[b]}" if alone else f"{names[a]} against {names[b]}"
        if len({by for by, *_ in counts}) > 1:
            title += f", {by}"
        bars.append((title, [total[w] / n for w in WINNERS]))
        told_n.append(f"n = {n:,}")
        for order in (None, "a", "b"):
            one = total if order is None else by_order.get(order, Counter())
            if not one:
                continue
            rows.append(
                {
                    "by": by,
                    "criterion": criterion,
                    "a": a,
                    "b": b,
                    "shown_first": "either" if order is None else (a if order == "a" else b),
                    "n": sum(one.values()),
                    **{key: one[w] for w, key in WINNERS.items()},
                }
            )
    model = names[rows[0]["a"]] if alone else "the first model"
    kinds = [(f"{model} wins", "s0 bar"), ("tie", "tie"), ("both bad", "bad"),
             (f"the {'other' if alone else 'second'} wins", "s1 bar"),
             ("unreadable", "unreadable")]  # fmt: skip
    words = "; ".join(
        f"{title}: "
        + ", ".join(f"{kind} {percent(s)}" for (kind, _), s in zip(kinds, shares, strict=True))
        for title, shares in bars
    )
    drawn = plots.share_plot("verdicts", "How the verdicts fell", f"{words}.", bars, kinds, told_n)
    told = [Column("judge", text("by")), Column("criterion", text("criterion"))]
    single = len({(row["by"], row["criterion"]) for row in rows}) == 1
    first, second = ("won", "lost") if alone else ("first wins", "second wins")
    models = [
        Column("first model", lambda r: names[r["a"]], "code", title=lambda r: r["a"]),
        Column("second model", lambda r: names[r["b"]], "code", title=lambda r: r["b"]),
    ]
    if alone:
        models = [Column("against", lambda r: names[r["b"]], "code", title=lambda r: r["b"])]
    columns = [
        *([] if single else told),
        *models,
        Column("shown", _place_shown),
        Column("verdicts", counted("n"), "number"),
        Column(first, counted("first_wins"), "number"),
        Column("tied", counted("ties"), "number"),
        Column("both bad", counted("both_bad"), "number"),
        Column(second, counted("second_wins"), "number"),
        Column("unread\u00adable", counted("unreadable"), "number"),
    ]
    for key, heading in (("both_bad", "both bad"), ("unreadable", "unread\u00adable")):
        if not any(row[key] for row in rows):
            columns = [column for column in columns if column.label != heading]
    unreadable = "Unreadable: the judge’s reply names no winner. "
    caption = (
        (f"Verdicts on {model}. " if alone else "Verdicts. ")
        + f"Shown: where the answer of {model} stood; bold lines are the sum of the two below "
        "them. A judge that looks only at the content gives the same in both. "
        + (unreadable if any(row["unreadable"] for row in rows) else "None was unreadable.")
    ).rstrip()
    told_of = plural(len(verdicts), "verdict")
    orders = len({v.shown_first for v in verdicts})
    blocks = [
        Figure(
            drawn,
            f"How the verdicts fell. n = {told_of}, {'both orders' if orders == 2 else 'one order'}"
            "; beside each bar its own n, and shares too small to be written on it.",
        ),
        Table("verdicts", caption, columns, rows, tight=True, total=_is_sum),
    ]
    if not scores and len(bars) <= MOST_ROWS:
        return blocks
    return [Details(f"How the {told_of} fell: won, tied and lost in each order", blocks)]


def _is_sum(row: Cells) -> bool:
    return bool(row["shown_first"] == "either")
