"""The section on compared answers: win rates, and how the verdicts fell in each order.

Reads ``scores.json`` and ``verdicts.parquet`` of a judge's run and of the runs that scored it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
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
    counted,
    percent,
    plural,
    slug,
    text,
)
from meadowlark.report.findings import (
    AVERAGE,
    LABELLED,
    NAMELESS,
    UNNAMED,
    answers_in_words,
    findings_of,
    grades_in_words,
    in_one_order,
    is_borderline,
    overall,
    rater,
    reach,
    reference_ranks,
    speakers_of,
)
from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder
from meadowlark.report.scores import against, averaged, compared, model_names, score_table

WINNERS = {
    "a": "first_wins",
    "tie": "ties",
    "both_bad": "both_bad",
    "b": "second_wins",
    "unreadable": "unreadable",
}
"""How a verdict may fall, and the column that counts it."""
MOST_ROWS = 8
MOST_ROWS_OF_A_TABLE = 40
MOST_WARNINGS = 5
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
    blocks += findings_of(told_scores, names)
    told_words = answers_in_words(told_scores, names) + grades_in_words(told_scores, names)
    told_words.append(reach(told_scores))
    blocks += [Prose(sentence) for sentence in told_words if sentence]
    if verdicts:
        order = " ".join(glossary.order_effect(verdicts, told_scores, names))
        blocks.append(Prose(f"{glossary.how_many(verdicts)} {order}".rstrip()))
        limits = glossary.limits(verdicts, set(judges), f"judge:{UNNAMED}")
        blocks.append(Prose(f"What this cannot tell. {limits}"))
    blocks += _warned_of(runs)
    if verdicts:
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
    blocks += _label_plots(told_scores, names, _labelled_by(lineage))
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


def _warned_of(runs: Sequence[RunFolder]) -> list[Any]:
    """What the judging and the scoring warned of, such as what their numbers leave out: in sight,
    or where there is much of it under a line that counts it."""
    lines = [
        line
        for line in dict.fromkeys(line for run in runs for line in run.manifest.warnings)
        if not line.startswith("judge:overlap is ")  # the section's first paragraph says so
    ]
    if not lines:
        return []
    facts = Facts([("What the judging and scoring warn of", lines)])
    if len(lines) <= MOST_WARNINGS:
        return [facts]
    return [Details(f"What the judging and scoring warn of: {plural(len(lines), 'line')}", [facts])]


def verdicts_of(lineage: Lineage, runs: Sequence[RunFolder]) -> list[Verdict]:
    """The verdicts of the last runs that hold any: a score's folder repeats those of its judge."""
    holders = [run for run in runs if run.verdicts]
    repeated = {label for run in holders for label in lineage.ancestors(run)}
    return [v for run in holders if run.label not in repeated for v in run.verdicts]


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
    chosen = speakers_of(set(by_judge))
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
        of = _of(own)
        drawn = plots.bar_plot(
            f"{name}-{number_}",
            f"Win rates by {axis}",
            f"{words}. Equal models have 50 %.",
            categories,
            bars,
            x_label=axis,
            y_label=f"win rate{f', {of}' if of.startswith(AVERAGE) else ''} (%)",
            reference=plots.Reference("equal, 50 %", 0.5),
            counts=[max(s.n for s in own if _category(s, names) == c) for c in categories],
        )
        who = f", according to {rater(judge)}" if len(chosen) > 1 else ""
        by = f", each bar the {of}," if of.startswith(AVERAGE) else f" ({of})" if of else ""
        caption = f"Win rates by {axis}{by} with 95 % intervals{who}. n: prompts behind each."
        if notes is not None:
            caption = " ".join([caption, *notes(own)])
        figures.append(Figure(drawn, caption))
    return figures


def _of(rates: Sequence[Score]) -> str:
    """Against whom most rates of a plot by label are, or over how many reference models they are
    averaged; empty for a plot by reference."""
    whom = [s.task.partition("): ")[2].partition(LABELLED) for s in rates]
    told = Counter(of for of, labelled, _ in whom if labelled)
    return averaged(told.most_common(1)[0][0]) if told else ""


def _over_fewer(rates: Sequence[Score], kind: str, names: dict[str, str]) -> list[str]:
    """Which labels are not averaged over as many reference models as the others, a line each."""
    of = _of(rates)
    odd: dict[str, list[str]] = {}
    for s in rates:
        own = _of([s])
        if own != of:
            odd.setdefault(own, []).append(_category(s, names))
    return [
        f"{kind.capitalize()} {', '.join(dict.fromkeys(labels))}: {own} only, since the others "
        "lack such prompts; it does not compare with the rest."
        for own, labels in odd.items()
    ]


def _category(s: Score, names: dict[str, str]) -> str:
    task, _, label = s.task.partition("): ")[2].partition(LABELLED)
    if label:
        return label.partition(" ")[2]
    other = task.removeprefix("against ")
    return "average" if other.startswith(AVERAGE) else names.get(other, other)


def _label_plots(
    scores: Sequence[Score], names: dict[str, str], labelled_by: str = ""
) -> list[Figure]:
    """Win rates by difficulty, by topic and so on, where scores by label are there."""
    kinds: dict[str, list[Score]] = {}
    for s in scores:
        if LABELLED in s.task and s.metric in ("win_rate", "win_rate_unreadable_lost"):
            kinds.setdefault(s.task.rpartition(LABELLED)[2].partition(" ")[0], []).append(s)
    figures = []
    for kind, own in kinds.items():
        rates = [s for s in own if s.metric == "win_rate"]
        counts: dict[str, int] = {}  # of the bounds too, which a label without a win rate has
        for s in own:
            label = _category(s, names)
            counts[label] = max(counts.get(label, 0), s.n)
        told = {_category(s, names) for s in rates}
        most = sorted(told, key=lambda label: (-counts[label], label))[:MOST_ROWS]
        lines = _labels_in_words(kind, counts, told, len(most), scores)
        scale = glossary.scale(kind, counts, labelled_by)

        def notes(
            shown: Sequence[Score],
            kind: str = kind,
            lines: Sequence[str] = (*filter(None, [scale]), *lines),
        ) -> list[str]:
            fewer = _over_fewer(shown, kind, names)
            return [*lines, *fewer, *_apart_in_words(shown, kind, names)]

        figures += _bar_plots(
            [s for s in rates if _category(s, names) in most],
            names,
            kind,
            f"win-rates-{slug(kind)}",
            notes,
        )
    return figures


def _labels_in_words(
    kind: str, counts: dict[str, int], told: set[str], drawn: int, scores: Sequence[Score]
) -> list[str]:
    """What a plot by label does not show: prompts without a label, labels without a win rate, and
    labels beyond those that it has room for."""
    lines = []
    whole = max((s.n for s in overall(scores)), default=0)
    missing = whole - sum(counts.values())
    if missing > 0:
        has = "has" if missing == 1 else "have"
        lines.append(f"{missing:,} of {plural(whole, 'prompt')} {has} no {kind} here.")
    if drawn < len(told):
        lines.append(
            f"Drawn are the {drawn} with most prompts of {len(told):,}; the scores below have all."
        )
    untold = [label for label in counts if label not in told]
    if untold:
        lines.append(
            f"{kind.capitalize()} {', '.join(untold)}: no win rate, since against a reference "
            "model no verdict could be read."
        )
    return lines


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
        told = [_category(s, names) + " (borderline)" * is_borderline(s, 0.5) for s in those]
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


Judged = tuple[str, str, str, str]
"""Who judged, the criterion, and the two models."""


def in_order(judged: Iterable[Judged], scores: Sequence[Score]) -> list[Judged]:
    """What was judged in the one order of the report: by rater, criterion and model as they come,
    then the model hardest to beat first (:func:`reference_ranks`)."""
    found = list(dict.fromkeys(judged))
    ranks = reference_ranks(scores)
    places = [list(dict.fromkeys(one[part] for one in found)) for part in range(3)]
    return sorted(
        found,
        key=lambda one: (
            *(places[part].index(one[part]) for part in range(3)),
            ranks.get(one[3], len(ranks)),
        ),
    )


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
    for by, criterion, a, b in in_order(counts, scores):
        by_order = counts[by, criterion, a, b]
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
