"""The section on exams: accuracies beside chance, differences, and which letters were chosen.

Reads ``scores.json``, ``questions.parquet`` and ``answers.parquet``. A model that gives one letter
whatever is asked is named as such, since its accuracy would look like knowledge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from meadowlark.records import Score
from meadowlark.report import papers, plots
from meadowlark.report.content import (
    Column,
    Details,
    Figure,
    Heading,
    Prose,
    Section,
    Table,
    counted,
    percent,
    plural,
    slug,
    text,
)
from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder
from meadowlark.report.scores import (
    against,
    chance_levels,
    examined,
    interval,
    model_names,
    questions_by_task,
    score_table,
)

PLOTTED = ("accuracy", "accuracy_per_character")
NO_LETTER = "none"
RIGHT = "right answers"
ONE_LETTER = 0.9
"""From this share of one letter on, an accuracy says nothing about knowledge."""


def section(lineage: Lineage) -> Section | None:
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
    whole = tasks.keys() | {s.task for _, s in single if "/" not in s.task}
    groups = [(run, s) for run, s in single if _is_group(s.task, whole)]
    single = [pair for pair in single if pair not in groups]
    summaries = [(run, s) for run, s in scores if s.metric.startswith("rouge_")]
    paired = [(run, s) for run, s in scores if run.stage == "score" and (run, s) not in summaries]
    blocks: list[Any] = []
    plotted = [s for _, s in single if s.metric in PLOTTED]
    for index, task in enumerate(dict.fromkeys(s.task for s in plotted)):
        of_task = [s for s in plotted if s.task == task]
        blocks.append(_exam_plot(index, task, of_task, chance.get(task), names))
    if single:
        caption = "Scores with 95 % intervals. Chance: the accuracy of guessing evenly."
        if any(s.metric == "accuracy_clustered" for _, s in single):
            caption += " Clustered: the interval lets questions of one group be alike."
        if any(s.metric.endswith("_clean") for _, s in single):
            caption += " Clean: without the questions that stand in the training data."
        blocks.append(score_table("exam_scores", caption, single, names, chance))
    if groups:
        caption = "Scores of each group of questions, with 95 % intervals."
        table = score_table("exam_groups", caption, groups, names, chance)
        n = len({s.task for _, s in groups})
        blocks.append(Details(f"By group of questions: {plural(n, 'group')}", [table]))
    if summaries:
        caption = "ROUGE of summaries (F1, stemmed, as ROUGE-1.5.5), with 95 % intervals."
        blocks.append(score_table("rouge_scores", caption, summaries, names, {}))
    if paired:
        differences = [s for _, s in paired if s.metric == "accuracy_difference"]
        if differences:
            blocks.append(_difference_plot(differences, names))
        caption = (
            "Two models on the same questions, with 95 % intervals. A difference whose interval "
            "holds 0 is none that this exam can show. Only this or other right: questions that "
            "one of the two alone answers rightly."
        )
        blocks.append(score_table("exam_differences", caption, paired, names, {}))
    blocks += papers.blocks(runs, names)
    blocks += _letters(runs, names)
    return Section("exams", "Exams", "", blocks)


def _is_group(task: str, whole: Collection[str]) -> bool:
    """Whether a score is of one group of a task's questions, as ``mmlu/anatomy``."""
    return task not in whole and task.rpartition("/")[0] in whole


def _exam_plot(
    index: int, task: str, scores: Sequence[Score], chance: float | None, names: dict[str, str]
) -> Figure:
    references = [plots.Reference(f"chance {percent(chance)}", chance)] if chance else []
    several = len({s.metric for s in scores}) > 1
    rows = [interval(s, names, with_metric=several) for s in scores]
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
    rows = [against(s, names, several=len({s.task for s in scores}) > 1) for s in scores]
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
            f"{task}: its accuracy tells how often that letter is right, not what it knows.",
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
