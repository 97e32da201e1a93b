"""The sections on evaluation: exams with chance levels and letters, and compared answers.

Reads ``scores.json``, ``questions.parquet``, ``answers.parquet`` and ``verdicts.parquet``. A score
belongs to the comparison of answers when verdicts are among what it was made from, else to exams.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from meadowlark.records import Question, Score, Verdict
from meadowlark.report import plots
from meadowlark.report.content import (
    ABSENT,
    Cells,
    Column,
    Details,
    Figure,
    Heading,
    Prose,
    Section,
    Table,
    counted,
    number,
    percent,
    plural,
    short,
    shorten,
    slug,
    text,
)
from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder, short_models

WINNERS = {
    "a": "first_wins",
    "tie": "ties",
    "both_bad": "both_bad",
    "b": "second_wins",
    "unreadable": "unreadable",
}
"""How a verdict may fall, and the column that counts it."""
SHARES = ("accuracy", "win_rate", "agreement", "difference", "share", "rate")
"""Parts of a metric's name that say its value is a fraction of the items, shown in per cent."""
PLOTTED = ("accuracy", "accuracy_per_character")
COUNTS = ("wins", "ties", "losses", "unreadable")
NO_LETTER = "none"
RIGHT = "right answers"
ONE_LETTER = 0.9
"""From this share of one letter on, an accuracy says nothing about knowledge."""


def is_share(metric: str) -> bool:
    """Whether a metric's value is a fraction of the items, to be shown in per cent."""
    return any(word in metric for word in SHARES)


def compared(lineage: Lineage) -> list[RunFolder]:
    """The runs whose scores or verdicts compare answers."""
    judged = {run.label for run in lineage.runs if run.has("verdicts.parquet")}
    return [r for r in lineage.runs if ({r.label} | lineage.ancestors(r)) & judged]


def examined(lineage: Lineage) -> list[RunFolder]:
    """The runs whose scores are about questions with a right answer."""
    others = {run.label for run in compared(lineage)}
    return [run for run in lineage.runs if run.label not in others and run.scores]


def chance_levels(runs: Sequence[RunFolder]) -> dict[str, float]:
    """For each task and group of it, the accuracy of guessing evenly: the mean of 1 / choices."""
    found: dict[str, float] = {}
    for task, questions in questions_by_task(runs).items():
        groups = {task: questions}
        for question in questions:
            name = f"{task}/{question.group or 'no group'}"
            groups.setdefault(name, []).append(question)
        for name, members in groups.items():
            found[name] = sum(1 / len(q.choices) for q in members) / len(members)
    return found


def questions_by_task(runs: Sequence[RunFolder]) -> dict[str, list[Question]]:
    """The multiple-choice questions of the runs by task, each once."""
    found: dict[str, dict[str, Question]] = {}
    for run in runs:
        for question in run.questions:
            if question.choices:
                found.setdefault(question.task, {}).setdefault(question.id, question)
    return {task: list(one.values()) for task, one in found.items()}


def model_names(runs: Sequence[RunFolder]) -> dict[str, str]:
    """Short names of every model that any of the runs scored, answered with or compared."""
    models: set[str] = set()
    for run in runs:
        models |= {s.model for s in run.scores}
        models |= {a.model for a in run.answers}
        models |= {m for v in run.verdicts for m in (v.a, v.b)}
    return short_models(models)


def rename(words: str, names: dict[str, str]) -> str:
    """A model's name as shown, also where it stands inside a task's name."""
    if words in names or not names:
        return names.get(words, words)
    longest_first = sorted(names, key=len, reverse=True)
    anywhere = "|".join(re.escape(full) for full in longest_first)
    # Only whole names: a model called "a" is not in every word.
    return re.sub(rf"(?<![\w/])({anywhere})(?![\w/])", lambda m: names[m[1]], words)


def exam_section(lineage: Lineage) -> Section | None:
    """The section on exams, or None where no run was one."""
    runs = examined(lineage)
    if not runs:
        return None
    names = model_names(lineage.runs)
    chance = chance_levels(runs)
    scores = [(run, score) for run in runs for score in run.scores]
    tasks = questions_by_task(runs)
    # The level of chance is a column; groups of a task are told apart below.
    single = [(run, s) for run, s in scores if run.stage != "score" and s.metric != "chance"]
    groups = [(run, s) for run, s in single if s.task in chance and s.task not in tasks]
    single = [pair for pair in single if pair not in groups]
    paired = [(run, s) for run, s in scores if run.stage == "score"]
    blocks: list[Any] = []
    plotted = [s for _, s in single if s.metric in PLOTTED]
    for index, task in enumerate(dict.fromkeys(s.task for s in plotted)):
        of_task = [s for s in plotted if s.task == task]
        blocks.append(_exam_plot(index, task, of_task, chance.get(task), names))
    if single:
        caption = "Scores with 95 % intervals. Chance: the accuracy of guessing evenly."
        if any(s.metric == "accuracy_clustered" for _, s in single):
            caption += " Clustered: the interval lets questions of one group be alike."
        blocks.append(_score_table("exam_scores", caption, single, names, chance))
    if groups:
        caption = "Scores of each group of questions, with 95 % intervals."
        table = _score_table("exam_groups", caption, groups, names, chance)
        n = len({s.task for _, s in groups})
        blocks.append(Details(f"By group of questions: {plural(n, 'group')}", [table]))
    if paired:
        differences = [s for _, s in paired if s.metric == "accuracy_difference"]
        if differences:
            blocks.append(_difference_plot(differences, names))
        caption = (
            "Two models on the same questions, with 95 % intervals. A difference whose interval "
            "holds 0 is none that this exam can show."
        )
        blocks.append(_score_table("exam_differences", caption, paired, names, {}))
    blocks += _letters(runs, names)
    return Section("exams", "Exams", "", blocks)


def _exam_plot(
    index: int, task: str, scores: Sequence[Score], chance: float | None, names: dict[str, str]
) -> Figure:
    references = [plots.Reference(f"chance {percent(chance)}", chance)] if chance else []
    several = len({s.metric for s in scores}) > 1
    rows = [_interval(s, names, with_metric=several) for s in scores]
    words = "; ".join(f"{r.label}: {r.shown}" for r in rows)
    drawn = plots.interval_plot(
        f"exam-{index}",
        f"Accuracy on {task}",
        f"{words}." + (f" Chance: {percent(chance)}." if chance else ""),
        rows,
        x_label="accuracy (%)",
        references=references,
    )
    n = ", ".join(f"{n:,}" for n in dict.fromkeys(s.n for s in scores))
    dashed = " The dotted line is the chance level." if chance else ""
    return Figure(drawn, f"{task}: accuracy with 95 % intervals. n = {n} questions.{dashed}")


def _difference_plot(scores: Sequence[Score], names: dict[str, str]) -> Figure:
    rows = [_against(s, names, several=len({s.task for s in scores}) > 1) for s in scores]
    drawn = plots.interval_plot(
        "differences",
        "Differences in accuracy on the same questions",
        "; ".join(f"{r.label}: {r.shown}" for r in rows) + ". No difference is 0.",
        rows,
        x_label="difference in accuracy (percentage points)",
        references=[plots.Reference("no difference", 0.0)],
    )
    n = ", ".join(f"{n:,}" for n in dict.fromkeys(s.n for s in scores))
    return Figure(drawn, f"Difference in accuracy with 95 % intervals. n = {n} shared questions.")


def _against(score: Score, names: dict[str, str], *, several: bool) -> plots.Interval:
    """``X against Y``, with the rest of the task's name where there are several of them."""
    one = _interval(score, names)
    task, found, other = rename(score.task, names).partition(": against ")
    words = f"{one.label} against {other}" if found else one.label
    if several:
        words = f"{words} · {task}"
    return plots.Interval(shorten(words, 38), one.value, one.low, one.high, one.shown)


def _interval(score: Score, names: dict[str, str], *, with_metric: bool = False) -> plots.Interval:
    name = rename(score.model, names)
    label = f"{name}, {score.metric.replace('_', ' ')}" if with_metric else name
    return plots.Interval(label, score.value, score.low, score.high, shown(score))


def shown(score: Score) -> str:
    """A score as ``38.3 % [26.9, 51.0]``."""
    if not is_share(score.metric):
        return f"{short(score.value)}{_bracket(score, 1, 3)}"
    return f"{percent(score.value)}{_bracket(score, 100, 1)}"


def _bracket(score: Score, scale: float, digits: int) -> str:
    if score.low is None or score.high is None:
        return ""
    return f" [{number(scale * score.low, digits)}, {number(scale * score.high, digits)}]"


def _score_table(
    name: str,
    caption: str,
    scores: Sequence[tuple[RunFolder, Score]],
    names: dict[str, str],
    chance: dict[str, float],
) -> Table:
    rows = [
        {
            "run": run.label,
            "task": s.task,
            "model": s.model,
            "metric": s.metric,
            "value": s.value,
            "low": s.low,
            "high": s.high,
            "n": s.n,
            "n_unreadable": s.n_unreadable,
            "chance": chance.get(s.task) if "accuracy" in s.metric else None,
        }
        for run, s in scores
    ]
    columns = [
        Column("task", lambda r: _task(r["task"], names), title=lambda r: r["task"]),
        Column("model", lambda r: rename(r["model"], names), "code", title=lambda r: r["model"]),
        Column("metric", lambda r: r["metric"].replace("_", " ")),
        Column("value", _value, "number"),
        Column("95 % interval", _limits, "number"),
    ]
    if any(row["chance"] is not None for row in rows):
        columns.append(Column("chance", lambda r: percent(r["chance"]), "number"))
    columns += [
        Column("n", counted("n"), "number"),
        Column("unreadable", counted("n_unreadable"), "number"),
    ]
    return Table(name, caption, columns, rows)


def _task(task: str, names: dict[str, str]) -> str:
    """A task as shown; of a judged comparison only the model compared with."""
    _, judged, other = task.partition("): against ")
    return f"against {rename(other, names)}" if judged else rename(task, names)


def _value(row: Cells) -> str:
    return percent(row["value"]) if is_share(row["metric"]) else short(row["value"])


def _limits(row: Cells) -> str:
    if row["low"] is None or row["high"] is None:
        return ABSENT
    if is_share(row["metric"]):
        return f"{number(100 * row['low'], 1)} to {percent(row['high'])}"
    return f"{number(row['low'], 3)} to {number(row['high'], 3)}"


def _letters(runs: Sequence[RunFolder], names: dict[str, str]) -> list[Any]:
    """Which letters the models chose beside which were right, a figure and a table a task."""
    blocks: list[Any] = []
    for index, (task, questions) in enumerate(questions_by_task(runs).items()):
        asked = {q.id: q for q in questions}
        most = max(len(q.choices) for q in questions)
        letters = [chr(ord("A") + i) for i in range(most)] + [NO_LETTER]
        counts: dict[str, Counter[str]] = {}
        for run in runs:
            ids = {q.id for q in run.questions if q.task == task}
            for answer in run.answers:
                if answer.item in ids and answer.item in asked:
                    letter = answer.extracted if answer.extracted in letters else NO_LETTER
                    one = counts.setdefault(names.get(answer.model, answer.model), Counter())
                    one[letter] += 1
        if not counts:
            continue
        if not any(one[NO_LETTER] for one in counts.values()):
            letters.pop()
        counts[RIGHT] = Counter(q.target for q in questions)
        blocks += _letter_blocks(index, task, letters, counts)
    if blocks:
        words = "A model that prefers one letter whatever is asked shows here."
        blocks[:0] = [Heading("Which letters were chosen"), Prose(words)]
    return blocks


def _letter_blocks(
    index: int, task: str, letters: Sequence[str], counts: dict[str, Counter[str]]
) -> list[Any]:
    sums = {who: sum(one.values()) for who, one in counts.items()}
    groups = [
        plots.Bars(who, [one[letter] / sums[who] for letter in letters])
        for who, one in counts.items()
    ]
    words = "; ".join(
        f"{who}: " + ", ".join(f"{x} {percent(one[x] / sums[who], 0)}" for x in letters)
        for who, one in counts.items()
    )
    n = ", ".join(f"{who} {total:,}" for who, total in sums.items())
    drawn = plots.bar_plot(
        f"letters-{index}",
        f"Letters chosen in {task}",
        f"{words}.",
        letters,
        groups,
        x_label="letter",
        y_label="answers (%)",
    )
    rows = [
        {"task": task, "who": who, "n": sums[who], **{x: one[x] for x in letters}}
        for who, one in counts.items()
    ]
    columns = [Column("answers of", text("who")), Column("n", counted("n"), "number")]
    columns += [Column(x, counted(x), "number") for x in letters]
    name = f"letters_{slug(task)}"
    fixed = [
        Prose(
            f"{who} says {letter} in {percent(one[letter] / sums[who], 0)} of its answers to "
            f"{task}: its accuracy is the share of questions with that right answer, and no "
            "knowledge.",
            "warning",
        )
        for who, one in counts.items()
        for letter in letters
        if letter != NO_LETTER and one[letter] >= ONE_LETTER * sums[who] and who != RIGHT
    ]
    return [
        *fixed,
        Figure(drawn, f"{task}: letters chosen. n: {n} answers."),
        Table(name, f"{task}: answers by letter.", columns, rows),
    ]


# --------------------------------------------------------------------------- compared answers


def comparison_section(lineage: Lineage) -> Section | None:
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
        blocks.append(_score_table("comparison_scores", caption, scored, names, {}))
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
    rows = [_against(score, names, several=len(kinds) > 1) for score in rates]
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
        + ". A judge that looks only at the content "
        "gives the same in both orders."
    )
    return [
        Figure(drawn, f"How the verdicts fell. n = {len(verdicts):,} verdicts, both orders."),
        Table("verdicts", caption, columns, rows),
    ]


def bounds(score: Score) -> str:
    """A score's interval in words for a small space: ``95 %: 41 to 63``."""
    assert score.low is not None
    assert score.high is not None
    return f"95 %: {number(100 * score.low, 0)} to {number(100 * score.high, 0)}"


def subject(score: Score, names: dict[str, str]) -> str:
    """Who is scored against whom."""
    return _against(score, names, several=False).label
