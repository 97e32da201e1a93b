"""What the sections on evaluation share: which runs, which names, and how a score is shown.

A score belongs to the comparison of answers (``comparisons``) when verdicts are among what it was
made from, else to exams (``exams``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from meadowlark.records import Question, Score
from meadowlark.report import plots
from meadowlark.report.content import (
    ABSENT,
    Cells,
    Column,
    Table,
    counted,
    number,
    percent,
    short,
    shorten,
)
from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder, short_models

SHARES = ("accuracy", "win_rate", "agreement", "difference", "share", "rate", "rubric_score", "f1")
"""Parts of a metric's name that say its value is a fraction of the items, shown in per cent."""
NO_SHARES = ("length_difference", "points_difference")


def is_share(metric: str) -> bool:
    """Whether a metric's value is a fraction of the items, to be shown in per cent."""
    coefficient = metric.startswith("agreement_") and metric != "agreement_raw"
    if coefficient or metric in NO_SHARES:
        return False
    return any(word in metric for word in SHARES)


def compared(lineage: Lineage) -> list[RunFolder]:
    """The runs whose scores, verdicts or grades are about free-form answers."""
    held = ("verdicts.parquet", "grades.parquet")
    judged = {run.label for run in lineage.runs if any(map(run.has, held))}
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


def averaged(words: str) -> str:
    """A task's name as a reader understands it who was not told what a reference is."""
    return re.sub(r"(average over [\d,]+) references", r"\1 reference models", words)


def against(
    score: Score, names: dict[str, str], *, several: bool, alone: bool = False
) -> plots.Interval:
    """``X against Y``, with the rest of the task's name where there are several of them, and
    without X where it is ``alone``."""
    one = interval(score, names)
    task, found, other = averaged(rename(score.task, names)).rpartition(": ")
    words = one.label if not found else other if alone else f"{one.label} {other}"
    if several:
        words = f"{words} · {task}"
    return plots.Interval(shorten(words, 38), one.value, one.low, one.high, one.shown)


def interval(score: Score, names: dict[str, str], *, with_metric: bool = False) -> plots.Interval:
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


def score_table(
    name: str,
    caption: str,
    scores: Sequence[tuple[RunFolder, Score]],
    names: dict[str, str],
    chance: dict[str, float],
    unit: Callable[[str], str] = lambda metric: "",
) -> Table:
    """Scores as rows; ``unit`` tells what the n of a metric counts."""
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
        Column("metric", lambda r: metric_in_words(r["metric"])),
        Column("value", _value, "number"),
        Column("95 % interval", _limits, "number"),
    ]
    if any(row["chance"] is not None for row in rows):
        columns.append(Column("chance", lambda r: percent(r["chance"]), "number"))
    columns += [
        Column("n", lambda r: f"{counted('n')(r)} {unit(r['metric'])}".rstrip(), "number"),
        Column("unread\u00adable", counted("n_unreadable"), "number"),
    ]
    return Table(name, caption, columns, rows, tight=True)


def metric_in_words(metric: str) -> str:
    """``win_rate`` as ``win rate``, ``rouge_l_f1`` as ``ROUGE-L F1``."""
    words = re.sub(r"^rouge_(\w)", lambda found: f"ROUGE-{found[1].upper()}", metric)
    words = words.replace("mcnemar", "McNemar").replace("alpacare", "AlpaCare")
    words = words.replace("_", " ")
    return re.sub(r"\bf1\b", "F1", words)


def _task(task: str, names: dict[str, str]) -> str:
    """A task as shown; of a judged comparison only the model compared with."""
    _, judged, of = task.partition("): ")
    alone = judged and of.startswith(("against ", "average over "))
    return averaged(rename(of if alone else task, names))


def _value(row: Cells) -> str:
    return percent(row["value"]) if is_share(row["metric"]) else short(row["value"])


def _limits(row: Cells) -> str:
    if row["low"] is None or row["high"] is None:
        return ABSENT
    if is_share(row["metric"]):
        return f"{number(100 * row['low'], 1)} to {percent(row['high'])}"
    return f"{number(row['low'], 3)} to {number(row['high'], 3)}"


def bounds(score: Score) -> str:
    """A score's interval in words for a small space: ``95 %: 41 to 63``."""
    assert score.low is not None
    assert score.high is not None
    return f"95 %: {number(100 * score.low, 0)} to {number(100 * score.high, 0)}"
