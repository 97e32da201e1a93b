"""The section on compared answers: win rates, and how the verdicts fell in each order.

Reads ``scores.json`` and ``verdicts.parquet`` of a judge's run and of the runs that scored it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
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
from meadowlark.report.scores import against, compared, model_names, score_table

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
    rates = [s for _, s in scored if s.metric == "win_rate"]
    told_scores = [s for _, s in scored]
    told_words = answers_in_words(told_scores, names) + grades_in_words(told_scores, names)
    blocks += [Prose(sentence) for sentence in told_words]
    if verdicts:
        order = " ".join(glossary.order_effect(verdicts, told_scores))
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
    blocks += _label_plots(rates, names)
    if scored:
        if verdicts:  # the table of verdicts has the counts, by order
            scored = [(run, s) for run, s in scored if s.metric not in COUNTS]
        caption = (
            "Scores with 95 % intervals. n says what it counts; unreadable are those of n with an "
            "unreadable verdict."
        )
        table = score_table("comparison_scores", caption, scored, names, {}, glossary.unit)
        meanings = Facts(glossary.meanings(s.metric for _, s in scored))
        if len(scored) > MOST_ROWS_OF_A_TABLE:
            blocks.append(Details("Every score, and what each means", [meanings, table]))
        else:
            blocks += [table, Details("What each score means", [meanings])]
    if verdicts:
        blocks += _verdict_blocks(verdicts, names)
    words = ["a judge model without a name" if j == f"judge:{UNNAMED}" else j for j in judges]
    lead = f"Judged by {', '.join(words)}." if judges else ""
    if any("overlap" in judge for judge in judges):
        lead += (
            " The overlap judge prefers the answer that shares more words with a reference: "
            "a measure of form, not of medical quality."
        )
    return Section("answers", "Answers compared", lead, blocks)


def verdicts_of(lineage: Lineage, runs: Sequence[RunFolder]) -> list[Verdict]:
    """The verdicts of the last runs that hold any: a score's folder repeats those of its judge."""
    holders = [run for run in runs if run.verdicts]
    repeated = {label for run in holders for label in lineage.ancestors(run)}
    return [v for run in holders if run.label not in repeated for v in run.verdicts]


# --------------------------------------------------------------------------- in words


def answers_in_words(scores: Sequence[Score], names: dict[str, str]) -> list[str]:
    """Which model is better, by how much, how sure that is and who says so: a sentence each.

    A model's overall rate is its average over references, or that against its only one. A jury, or
    the majority of people, speaks for its members.
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
            over = "on average " if AVERAGE in s.task else ""
            over += f"against {reference_in_words(s, names)}"
            sentences.append(
                f"{_who(judge)}: {names[s.model]} wins {percent(s.value)} {over} (a tie "
                f"counts half; {plural(s.n, 'prompt')}; {_interval_in_words(s, 0.5)}). "
                + (_one_by_one(judge, s, scores, names) or _winner_in_words(judge, s))
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
                f"{names[a]} against {names[b]}, over the same references: "
                f"{number(100 * s.value, 1)} percentage points in win rate "
                f"({_interval_in_words(s, 0.0)}). " + _better_in_words(judge, s, names[a], names[b])
            )
    return sentences


def reference_in_words(s: Score, names: dict[str, str]) -> str:
    """Against whom a win rate is: ``4 references``, or the only one by name."""
    other = s.task.partition("): ")[2].removeprefix("against ")
    return other.removeprefix(AVERAGE) if AVERAGE in other else names.get(other, other)


def tiles(scores: Sequence[Score], names: dict[str, str]) -> list[Tile]:
    """The first comparison at a glance: a win rate against one model, and against several how many
    of them are better and worse, since their average would hide it."""
    found = []
    for s in overall(scores)[:1]:
        judge = s.task.partition("): ")[0]
        who = _who(judge, start=False)
        whom = reference_in_words(s, names)
        worse, unknown, better = standing(s, scores)
        alike = len(worse) + len(unknown) + len(better)
        note = f"{names[s.model]} against {whom}, by {who}; {plural(s.n, 'prompt')}"
        if alike:
            value = f"better than {len(better)}, worse than {len(worse)}"
            if OVERLAP in judge:
                value = f"more than {len(better)}, less than {len(worse)}"
            title = "words shared" if OVERLAP in judge else "preference"
            if unknown:
                note += f"; {len(unknown)} undecided"
            found.append(Tile(f"{title}, against {alike} models", value, note))
        else:
            title = "words shared, win rate" if OVERLAP in judge else "win rate"
            value = percent(s.value, 0)
            found.append(Tile(title, value, f"{note}; {_interval_in_words(s, 0.5)}"))
    return found


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
            sure = f"95 %: {number(scale * s.low, 1)} to {number(scale * s.high, 1)}"
        lost = f"; {s.n_unreadable:,} with an unscored grading" if s.n_unreadable else ""
        sentences.append(
            f"{_who(s.task.removesuffix(')'))}: {names[s.model]} gets {value} {GRADED[s.metric]} "
            f"({plural(s.n, 'answer')}; {sure}{lost})."
        )
    for s in scores:
        if s.metric not in _OF_GRADES:
            continue
        judge, _, pair = s.task.partition("): ")
        a, _, b = pair.partition(" minus ")
        factor, a, b = _OF_GRADES[s.metric], names.get(a, a), names.get(b, b)
        sure = "no interval: too few answers"
        if s.low is not None and s.high is not None:
            sure = f"95 %: {number(factor * s.low, 1)} to {number(factor * s.high, 1)}, equal is 0"
        sentences.append(
            f"{_who(judge)}: {a} minus {b} on the same prompts, {number(factor * s.value, 1)} "
            f"{'percentage points' if factor > 1 else 'points'} ({sure}). "
            + _verdict_in_words(s, 0.0, f"{a} is better", f"{b} is better")
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


def _who(judge: str, *, start: bool = True) -> str:
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
            words = "a judge model that the verdicts do not name"
    if kind not in ("judge", "human"):
        words = by  # "3 graders"
    if criterion not in ("preference", "rubric") and name != "overlap":
        words += f" on {criterion}"
    return words[0].upper() + words[1:] if start else words


def _interval_in_words(s: Score, equal: float) -> str:
    return _limits_in_words(s, f", equal is {number(100 * equal, 0)}")


def _limits_in_words(s: Score, equal: str = "") -> str:
    lost = f"; {s.n_unreadable:,} with an unreadable verdict" if s.n_unreadable else ""
    if s.low is None or s.high is None:
        return f"no interval: too few prompts{lost}"
    return f"95 %: {number(100 * s.low, 1)} to {number(100 * s.high, 1)}{equal}{lost}"


def _winner_in_words(judge: str, s: Score) -> str:
    """Of a win rate; an overlap of words is never called better."""
    if OVERLAP in judge:
        return _verdict_in_words(
            s,
            0.5,
            "It shares more words with the references",
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


def _one_by_one(judge: str, average: Score, scores: Sequence[Score], names: dict[str, str]) -> str:
    """What an average over references is made of: better than these, worse than those. Empty for
    a rate that is no average, of which the average's own verdict would hide the rest."""
    overlaps = OVERLAP in judge
    headings = (
        "fewer words shared than by" if overlaps else "worse than",
        "not shown to differ from",
        "more words shared than by" if overlaps else "better than",
    )
    found = []
    for how, those in zip(headings, standing(average, scores), strict=True):
        told = []
        for s in those:
            other = s.task.partition("): against ")[2]
            told.append(f"{names.get(other, other)} ({percent(s.value)}; {_limits_in_words(s)})")
        if told:
            found.append(f"{how} {', '.join(told)}")
    return f"One by one: {'; '.join(found)}." if found else ""


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
    if s.low is not None and s.low > equal:
        return f"{better}, beyond chance."
    if s.high is not None and s.high < equal:
        return f"{worse}, beyond chance."
    return f"Neither is shown to {neither}."


# --------------------------------------------------------------------------- plots


def _bar_plots(rates: Sequence[Score], names: dict[str, str], axis: str, name: str) -> list[Figure]:
    """Win rates as bars, a group for each reference or label, one plot a judge."""
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
            reference=plots.Reference("equal", 0.5),
            counts=[max(s.n for s in own if _category(s, names) == c) for c in categories],
        )
        over = _over(own)
        caption = (
            f"Win rates by {axis}{over}, with 95 % intervals; {_who(judge, start=False)}. "
            "n: prompts behind each."
        )
        figures.append(Figure(drawn, caption))
    return figures


def _over(rates: Sequence[Score]) -> str:
    """Against whom, where every rate of a plot by label is against the same."""
    whom = {s.task.partition("): ")[2].partition(LABELLED)[0] for s in rates}
    return f" ({whom.pop()})" if len(whom) == 1 else ""


def _category(s: Score, names: dict[str, str]) -> str:
    task, _, label = s.task.partition("): ")[2].partition(LABELLED)
    if label:
        return label.partition(" ")[2]
    other = task.removeprefix("against ")
    return "average" if other.startswith(AVERAGE) else names.get(other, other)


def _label_plots(rates: Sequence[Score], names: dict[str, str]) -> list[Figure]:
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
        figures += _bar_plots(
            [s for s in own if _category(s, names) in most], names, kind, f"win-rates-{slug(kind)}"
        )
    return figures


def _rate_plot(rates: Sequence[Score], names: dict[str, str]) -> Figure:
    kinds = {s.task.partition("): ")[0] for s in rates}
    alone = len({s.model for s in rates}) == 1
    rows = [against(score, names, several=len(kinds) > 1, alone=alone) for score in rates]
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
        f"n = {n} prompts; {plural(lost, 'prompt')} with an unreadable verdict.",
    )


def _place_shown(row: Cells) -> str:
    """Where the first model's answer stood: first, second, or both orders together."""
    return {row["a"]: "first", row["b"]: "second"}.get(row["shown_first"], "both")


def _verdict_blocks(verdicts: Sequence[Verdict], names: dict[str, str]) -> list[Any]:
    counts: dict[tuple[str, str, str, str], dict[str, Counter[str]]] = {}
    for v in verdicts:
        by_order = counts.setdefault((v.by, v.criterion, v.a, v.b), {})
        by_order.setdefault(v.shown_first, Counter())[v.winner] += 1
    rows: list[dict[str, Any]] = []
    bars = []
    for (by, criterion, a, b), by_order in counts.items():
        total: Counter[str] = sum(by_order.values(), Counter())
        n = sum(total.values())
        title = f"{names[a]} against {names[b]}"
        if len({by for by, *_ in counts}) > 1:
            title += f", {by}"
        bars.append((title, [total[w] / n for w in WINNERS]))
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
    alone = len({row["a"] for row in rows}) == 1
    model = names[rows[0]["a"]] if alone else "the first model"
    kinds = [(f"{model} wins", "s0 bar"), ("tie", "tie"), ("both bad", "bad"),
             (f"the {'other' if alone else 'second'} wins", "s1 bar"),
             ("unreadable", "unreadable")]  # fmt: skip
    words = "; ".join(
        f"{title}: "
        + ", ".join(f"{kind} {percent(s)}" for (kind, _), s in zip(kinds, shares, strict=True))
        for title, shares in bars
    )
    drawn = plots.share_plot("verdicts", "How the verdicts fell", f"{words}.", bars, kinds)
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
    if not any(row["both_bad"] for row in rows):
        columns = [column for column in columns if column.label != "both bad"]
    who = _who(f"{rows[0]['criterion']} ({rows[0]['by']}", start=False)
    caption = (
        "Verdicts"
        + (f" on {model}" if alone else "")
        + ", all and by order"
        + (f", by {who}" if single else "")
        + f". Shown: where the answer of {model} stood. A judge that looks only at the content "
        "gives the same in both orders."
    )
    told_of = f"{len(verdicts):,} verdicts"
    blocks = [
        Figure(drawn, f"How the verdicts fell. n = {told_of}, both orders."),
        Table("verdicts", caption, columns, rows, tight=True),
    ]
    return blocks if len(bars) <= MOST_ROWS else [Details(f"How the {told_of} fell", blocks)]
