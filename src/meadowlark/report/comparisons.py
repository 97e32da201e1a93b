"""The section on compared answers: win rates, and how the verdicts fell in each order.

Reads ``scores.json`` and ``verdicts.parquet`` of a judge's run and of the runs that scored it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from meadowlark.records import Score, Verdict
from meadowlark.report import plots
from meadowlark.report.content import (
    Column,
    Figure,
    Section,
    Table,
    counted,
    percent,
    plural,
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
COUNTS = ("wins", "ties", "losses", "unreadable")
"""Metrics that the table of verdicts shows by order, and the table of scores not again."""


def section(lineage: Lineage) -> Section | None:
    """The section on answers compared by a judge or by people, or None where none were."""
    runs = compared(lineage)
    scored = [(run, s) for run in runs for s in run.scores]
    names = model_names(lineage.runs)
    verdicts = _verdicts(lineage, runs)
    if not scored and not verdicts:
        return None
    blocks: list[Any] = []
    judges = sorted({v.by for v in verdicts})
    rates = [s for _, s in scored if s.metric == "win_rate"]
    if rates:
        blocks.append(_rate_plot(rates, names))
    if scored:
        if verdicts:  # the table of verdicts has the counts, by order
            scored = [(run, s) for run, s in scored if s.metric not in COUNTS]
        caption = (
            "Scores with 95 % intervals. A win counts 1, a tie ½; unreadable verdicts are left out "
            "and counted, and two bounds count them all as lost or as won."
        )
        blocks.append(score_table("comparison_scores", caption, scored, names, {}))
    if verdicts:
        blocks += _verdict_blocks(verdicts, names)
    lead = f"Judged by {', '.join(judges)}." if judges else ""
    if any("overlap" in judge for judge in judges):
        lead += (
            " The overlap judge prefers the answer that shares more words with a reference: "
            "a measure of form, not of medical quality."
        )
    return Section("answers", "Answers compared", lead, blocks)


def _verdicts(lineage: Lineage, runs: Sequence[RunFolder]) -> list[Verdict]:
    """The verdicts of the last runs that hold any: a score's folder repeats those of its judge."""
    holders = [run for run in runs if run.verdicts]
    repeated = {label for run in holders for label in lineage.ancestors(run)}
    return [v for run in holders if run.label not in repeated for v in run.verdicts]


def _rate_plot(rates: Sequence[Score], names: dict[str, str]) -> Figure:
    kinds = {s.task.partition(": against ")[0] for s in rates}
    rows = [against(score, names, several=len(kinds) > 1) for score in rates]
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
        drawn, f"Win rates with 95 % intervals. n = {n} items; {plural(lost, 'item')} unreadable."
    )


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
    kinds = [("first wins", "s0 bar"), ("tie", "tie"), ("both bad", "bad"),
             ("second wins", "s1 bar"), ("unreadable", "unreadable")]  # fmt: skip
    words = "; ".join(
        f"{title}: "
        + ", ".join(f"{kind} {percent(s)}" for (kind, _), s in zip(kinds, shares, strict=True))
        for title, shares in bars
    )
    drawn = plots.share_plot("verdicts", "How the verdicts fell", f"{words}.", bars, kinds)
    told = [Column("judge", text("by")), Column("criterion", text("criterion"))]
    single = len({(row["by"], row["criterion"]) for row in rows}) == 1
    columns = [
        *([] if single else told),
        Column("first model", lambda r: names[r["a"]], "code", title=lambda r: r["a"]),
        Column("second model", lambda r: names[r["b"]], "code", title=lambda r: r["b"]),
        Column("shown first", lambda r: names.get(r["shown_first"], "either"), "code"),
        Column("n", counted("n"), "number"),
        Column("first wins", counted("first_wins"), "number"),
        Column("tie", counted("ties"), "number"),
        Column("both bad", counted("both_bad"), "number"),
        Column("second wins", counted("second_wins"), "number"),
        Column("unreadable", counted("unreadable"), "number"),
    ]
    caption = (
        "Verdicts, all and by which answer was shown first"
        + (f", by {rows[0]['by']} for {rows[0]['criterion']}" if single else "")
        + ". A judge that looks only at the content gives the same in both orders."
    )
    return [
        Figure(drawn, f"How the verdicts fell. n = {len(verdicts):,} verdicts, both orders."),
        Table("verdicts", caption, columns, rows),
    ]
