"""``meadowlark score``: what verdicts, two exams, or summaries, come to."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meadowlark.cli.options import Force, Limit, Seed, stdout, summarise

if TYPE_CHECKING:
    from meadowlark.records import Score

Metrics = dict[str, "Score"]
ROUGE = {"rouge_1_f1": "ROUGE-1", "rouge_2_f1": "ROUGE-2", "rouge_l_f1": "ROUGE-L"}


def score(
    verdicts: Annotated[
        list[Path],
        typer.Argument(
            help="Folders or files of verdicts; folders of grades; two exam folders; or one "
            "folder of summaries."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder to write; without it the scores are only shown."),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", help="Score this model; the others are references.")
    ] = None,
    reading: Annotated[
        str | None,
        typer.Option(
            "--reading",
            "--protocol",
            help="How a judge's text is read: brackets ([[A]]; a transcript's default), strict, "
            "alpacare or letter. Our own verdicts are read again only with this, and without "
            "log-probabilities; annotations have no text to read.",
        ),
    ] = None,
    groups: Annotated[
        Path | None,
        typer.Option(
            "--groups",
            help="A file that labels items (by id or instruction) with difficulty, topic, view or "
            "type; else the questions' own groups.",
        ),
    ] = None,
    seed: Seed = 42,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Win rates from verdicts, points from grades, two exams compared, or summaries' ROUGE.

    Verdicts: a win counts 1, a tie 1/2, a loss 0; an item scores the mean
    over both orders, a model the mean over items, and with several references
    the mean over those (AlpaCare's headline). The interval (95 %) comes from
    redrawing prompts. Nothing unreadable vanishes: such a verdict is counted,
    its item keeps the order that could be read, and two bounds say what the
    rate would be had all unreadable ones been lost or won.

    "detectable" is how many points from 50 a true win rate must be for so
    many prompts to show it four times in five (fewer where ties are common).

    A person has one vote on a pair: the last one counts, and earlier ones
    (in the order of the rows) are counted in rejected.parquet. What an average
    leaves out is warned of: items without a label or without a verdict against
    some reference, labels that a reference lacks.

    Beside it stand MT-bench's convention (win_rate_consistent: a win in both
    orders, else a tie), AlpacaEval's preference rate with its discrete rate,
    the win rate at equal length, rates by difficulty and topic, Bradley-Terry
    strengths with the judge's position effect, paired differences between
    models, a jury of several judges, and agreement between judges and people.
    All are in scores.json; annotations.json is AlpacaEval's layout. Of people's
    verdicts human_evaluation.json is the table: by criterion and pair, wins by
    the raters' majority, with interval, sign test and agreement.

    Read are our own verdicts (a folder, .parquet, .json, .jsonl, .csv),
    AlpacaEval's annotations, and raw judge transcripts: a .json list with
    model_output_id, response, and model_response_first, in a file named
    MODEL__TASK-ref-REFERENCE_model_first.json. Of a transcript only the
    judge's own text counts, not what was extracted from it before.

    Grades: by a rubric the clipped mean of HealthBench over examples, and each
    tag's; on a scale the mean points, and differences between models. What
    could not be graded is unscored and counted; a rubric's score has two bounds.

    Two exam folders: the difference in accuracy of the first minus the second
    on the same questions, with an interval, the exact McNemar test, and the
    smallest difference that such a comparison finds four times in five.

    One folder of answers to a summarisation task (meqsum, mediqa): the mean
    ROUGE-1, -2 and -L, F1 with stemming as ROUGE-1.5.5 gives it.

    \b
    Examples:
      meadowlark score runs/verdicts
      meadowlark score judged/*_first.json --out runs/scores
      meadowlark score runs/verdicts --groups MedInstruct-test.jsonl --out runs/scores
      meadowlark score runs/grades --out runs/points
      meadowlark score runs/exam-after runs/exam-before --out runs/exam-difference
      meadowlark score runs/meqsum-answers --out runs/meqsum-rouge
    """
    from meadowlark.evaluate.score import compute
    from meadowlark.evaluate.score import score as stage
    from meadowlark.records import Score

    if out is None:
        found = compute(
            verdicts, model=model, reading=reading, groups=groups, seed=seed, limit=limit
        )
        _show(found.scores)
        for warning in found.warnings:
            stdout.print(f"  warning: {warning}", markup=False, style="yellow")
        for reason, count in Counter(one.reason for one in found.rejected).items():
            stdout.print(f"  {count:>8,}  {reason}", markup=False, style="yellow")
        return
    run = stage(
        verdicts,
        out,
        model=model,
        reading=reading,
        groups=groups,
        seed=seed,
        limit=limit,
        force=force,
    )
    _show([Score(**row) for row in json.loads((out / "scores.json").read_text("utf-8"))])
    summarise(run, out, done_before=run.done_before)


def _show(scores: list[Score]) -> None:
    """Print scores as tables, one for each model and judge, and one for each pair of exams."""
    rows: dict[tuple[str, str], Metrics] = {}
    for found in scores:
        rows.setdefault((found.task, found.model), {})[found.metric] = found
    tables: dict[str, list[tuple[str, Metrics]]] = {}
    for (task, model), row in rows.items():
        subject, _, rest = task.rpartition(": ")
        if "win_rate_unreadable_lost" in row:
            heading = f"Win rate of {model} in per cent, both orders averaged: {subject}"
            tables.setdefault(heading, []).append((rest, row))
        elif ROUGE.keys() & row.keys():
            heading = "ROUGE of summaries, F1 in per cent"
            tables.setdefault(heading, []).append((f"{model} on {task}", row))
        elif {"accuracy", "accuracy_difference"} & row.keys():
            heading = f"Accuracy in per cent on the same questions: {subject}"
            name = model if rest == "shared questions" else f"{model} {rest}"
            tables.setdefault(heading, []).append((name, row))
        else:
            for metric, one in row.items():
                if metric in SHOWN:
                    heading = f"{SHOWN[metric]}: {subject or task}"
                    name = rest if subject and metric not in OF_MODELS else model
                    tables.setdefault(heading, []).append((name, {metric: one}))
    for heading, found_lines in tables.items():
        lines = [(name, row) for name, row in found_lines if not _is_small_group(name, row)]
        cells = [_cells(row) for _, row in lines]
        columns = [name for name in cells[0] if any(row[name] for row in cells)]
        widths = {c: max(len(c), *(len(row[c]) for row in cells)) for c in columns}
        stdout.print(f"\n{heading}", markup=False, style="bold")
        stdout.print("  ".join(c.rjust(widths[c]) for c in columns), markup=False, style="dim")
        for (name, _), shown in zip(lines, cells, strict=True):
            numbers = "  ".join(shown[c].rjust(widths[c]) for c in columns)
            stdout.print(f"{numbers}  {name}", markup=False)
        if left := len(found_lines) - len(lines):
            kind = "group" if left == 1 else "groups"
            words = f"and {left} {kind} of fewer than {FEWEST_ITEMS} items, scored and not shown"
            stdout.print(words, markup=False, style="dim")
    stdout.print()


def _is_small_group(name: str, row: Metrics) -> bool:
    """Whether a line is a topic or difficulty of a few items, which tells nobody anything."""
    lost = row.get("win_rate_unreadable_lost")
    return " · " in name and lost is not None and lost.n < FEWEST_ITEMS


FEWEST_ITEMS = 5
"""A group of so many items has a line of its own on the terminal; scores.json has them all."""
SHOWN = {
    "win_rate_difference": "Difference of win rates in percentage points",
    "strength": "Strength in logits",
    "position_effect": "How much being shown first helps, in logits",
    "agreement_raw": "Share of equal votes",
    "agreement_gwet": "Gwet's AC1",
    "agreement_krippendorff": "Krippendorff's alpha",
    "rubric_score": "Rubric score in per cent",
    "rubric_difference": "Difference of rubric scores in percentage points",
    "mean_points": "Mean points",
    "points_difference": "Difference of mean points",
}
"""Metrics that are shown beside win rates and accuracies, and in which words."""
OF_MODELS = ("strength", "position_effect", "rubric_score", "mean_points")
"""Metrics whose lines are models; of the others, a line is what the task compares."""
SHARES = ("win_rate_difference", "rubric_difference", "agreement_raw", "rubric_score")


def _cells(row: Metrics) -> dict[str, str]:
    if "win_rate_unreadable_lost" in row:
        return _judged_cells(row)
    if ROUGE.keys() & row.keys():
        return _rouge_cells(row)
    ((metric, one),) = row.items() if len(row) == 1 else ((("", None)),)
    if one is None or metric not in SHOWN:
        return _exam_cells(row)
    if metric in SHARES:
        value, interval = _percent(one), _interval(one)
    else:
        value = f"{one.value:.3f}"
        known = one.low is not None and one.high is not None
        interval = f"{one.low:.3f} to {one.high:.3f}" if known else ""
    unread = str(one.n_unreadable) if one.n_unreadable else ""
    return {"value": value, "95 % interval": interval, "n": str(one.n), "unreadable": unread}


def _rouge_cells(row: Metrics) -> dict[str, str]:
    first = next(iter(row.values()))
    cells = {}
    for metric, name in ROUGE.items():
        cells[name] = _percent(row.get(metric))
        cells[f"{name} 95 % interval"] = _interval(row.get(metric))
    return {**cells, "items": str(first.n), "not received": str(first.n_unreadable or "")}


def _judged_cells(row: Metrics) -> dict[str, str]:
    counts = [f"{row[m].value:.0f}" for m in ("wins", "ties", "losses") if m in row]
    lost, won = (row[f"win_rate_unreadable_{end}"] for end in ("lost", "won"))
    bounds = f"{_percent(lost)} to {_percent(won)}" if lost.n_unreadable else ""
    return {
        "rate": _percent(row.get("win_rate")) or "?",
        "95 % interval": _interval(row.get("win_rate")),
        "items": str(lost.n),
        "won/tied/lost": "/".join(counts),
        "unreadable": f"{row['unreadable'].value:.0f}" if "unreadable" in row else "",
        "had they been lost or won": bounds,
        "first": _percent(row.get("win_rate_shown_first")),
        "second": _percent(row.get("win_rate_shown_second")),
        "agree": _percent(row.get("positional_agreement")),
        "detectable": _percent(row.get("smallest_detectable_difference")),
    }


def _exam_cells(row: Metrics) -> dict[str, str]:
    only = [f"{row[m].value:.0f}" for m in ("only_this_right", "only_other_right") if m in row]
    main = row.get("accuracy") or row.get("accuracy_difference")
    sign = "+" if "accuracy_difference" in row else ""
    return {
        "value": _percent(main, sign),
        "95 % interval": _interval(main, sign),
        "questions": str(main.n) if main else "",
        "only this/other right": "/".join(only),
        "McNemar p": f"{row['mcnemar_p'].value:.3g}" if "mcnemar_p" in row else "",
        "detectable": _percent(row.get("smallest_detectable_difference")),
    }


def _percent(score: Score | None, sign: str = "") -> str:
    return f"{100 * score.value:{sign}.1f}" if score else ""


def _interval(score: Score | None, sign: str = "") -> str:
    if score is None or score.low is None or score.high is None:
        return ""
    return f"{100 * score.low:{sign}.1f} to {100 * score.high:{sign}.1f}"
