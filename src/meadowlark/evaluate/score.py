"""What the judging came to: win rates, points of grades, exams compared, the ROUGE of summaries.

Files or folders of verdicts or grades (or folders of answers) come in; :class:`Score` rows come
out, each with n, what could not be read and an interval by resampling prompts. AlpaCare's scoring:
win 1, tie 1/2, loss 0; an item scores the mean over both orders; the headline averages references.

Where AlpaCare drops an item with one unreadable order, here the item keeps the mean over the orders
that could be read, every unreadable verdict is counted, and two bounds say what the rate would be
had all unreadable verdicts been losses or wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from meadowlark.answered import Answered, read_answered, with_distinct_names
from meadowlark.dataset import (
    FILE_OF,
    MANIFEST,
    Run,
    fingerprint,
    open_run,
    read,
    read_manifest,
)
from meadowlark.errors import UserError, unknown
from meadowlark.evaluate import measures, overlap
from meadowlark.evaluate.alpaca_eval import to_annotations
from meadowlark.evaluate.comparison import (
    DETECTABLE,
    RATES,
    SEED,
    Comparison,
    comparisons,
    detectable_difference,
    is_whole,
    item_points,
    oriented,
    score_comparison,
)
from meadowlark.evaluate.graded import holds_grades, score_grades, ungraded
from meadowlark.evaluate.paired_exam import score_exams
from meadowlark.evaluate.summary_scores import summary_scores
from meadowlark.evaluate.texts import Texts, read_texts
from meadowlark.evaluate.verdicts import read_verdicts
from meadowlark.progress import plural
from meadowlark.records import Answer, Question, Rejected, Score, Verdict
from meadowlark.statistics import intervals
from meadowlark.statistics.human import preference_table
from meadowlark.statistics.raters import REPLACED, last_votes
from meadowlark.tasks.summaries import SUMMARIES

JURIES = (measures.JURY, measures.PEOPLE)
ANNOTATIONS = "annotations.json"
"""AlpacaEval's layout of the verdicts, written where their prompts and answers are known."""
HUMAN_EVALUATION = "human_evaluation.json"
"""The table of people's verdicts (statistics/human.py), written where there are any."""

# --------------------------------------------------------------------------- all of them


def score_verdicts(
    verdicts: Iterable[Verdict],
    model: str | None = None,
    seed: int = SEED,
    texts: Texts | None = None,
) -> tuple[list[Score], list[Verdict], list[str]]:
    """Scores of every comparison and the averages over references, the verdicts oriented, and
    warnings of what a reader must know.

    A jury of several judges, and the majority of several people, are scored beside the members.
    ``texts`` adds what needs lengths, difficulty or topic.
    """
    texts = texts or Texts()
    rows = oriented(verdicts, model)
    voted = measures.juries(rows)
    by_pair: dict[tuple[str, str, str, str], list[Verdict]] = {}
    for v in (*rows, *voted):
        by_pair.setdefault((v.criterion, v.by, v.a, v.b), []).append(v)
    found = comparisons((*rows, *voted))
    scores: list[Score] = []
    for one in found:
        own = by_pair[one.criterion, one.by, one.model, one.reference]
        whole = score_comparison(one, seed)
        if one.by == measures.PEOPLE:  # a majority over both orders has none of its own
            whole = [s for s in whole if not s.metric.startswith("win_rate_shown_")]
        scores += whole
        scores += measures.consistent(one, seed)
        scores += measures.preferences(one, own)
        scores += measures.lengths(one, own, texts)
    lines = _unlabelled(rows, texts)
    by_judge: dict[tuple[str, str], list[Comparison]] = {}
    for one in found:
        by_judge.setdefault((one.criterion, one.by), []).append(one)
    for judged in by_judge.values():
        for name in dict.fromkeys(one.model for one in judged):
            group = [one for one in judged if one.model == name]
            made = [_average(group, seed)] if len(group) > 1 else []
            for added, told in (*made, _by_label(group, texts, seed)):
                scores += added
                lines += told if group[0].by not in JURIES else []
        scores += measures.paired_models(judged)
    rated, unrated = measures.ratings((*rows, *voted))
    scores += rated + measures.raters(rows)
    warnings = [line for one in found if one.by not in JURIES for line in _warnings(one)]
    warnings += lines + measures.lone_votes(rows) + unrated
    if any(one.by == overlap.BY for one in found):
        warnings.append(f"{overlap.BY} is {overlap.NOTICE}")
    return scores, rows, warnings


def _average(
    group: Sequence[Comparison], seed: int, label: str = ""
) -> tuple[list[Score], list[str]]:
    """AlpaCare's headline: the mean over references of the mean over items; and what it leaves out.

    An item is redrawn with its verdicts against all references, since they share its prompt. ``n``
    counts the items judged against any of the references.
    """
    first = group[0]
    what = f"average over {len(group)} references"
    if len(group) == 1:
        what = f"against {first.reference}"
    task = f"{first.criterion} ({first.by}): {what}{label}"
    ids = sorted({item for comparison in group for item in comparison.items})
    held = [[comparison.items.get(item) for comparison in group] for item in ids]
    whose = f"({first.model}, {first.criterion}, {first.by})"
    scores: list[Score] = []
    lines: list[str] = []

    def touched(metric: str) -> int:
        return sum(any(i is not None and not is_whole(metric, i) for i in row) for row in held)

    for metric, points in RATES.items():
        values = [[None if item is None else points(item) for item in row] for row in held]
        table = np.array([[np.nan if v is None else v for v in row] for row in values])
        empty = np.isnan(table).all(axis=0)
        if empty.any():
            if metric == "win_rate":
                names = ", ".join(c.reference for c, no in zip(group, empty, strict=True) if no)
                lines.append(
                    f"no win rate {what}{label} {whose}, its bounds only: nothing could be read "
                    f"against {names}"
                )
            continue
        mean = float(np.mean([np.nanmean(column) for column in table.T]))
        low: float | None = None
        high: float | None = None
        read = table[~np.isnan(table)]
        if len(ids) > 1 and read.min() < read.max():
            low, high = intervals.percentiles(intervals.bootstrap_average(table, seed))
        else:  # redraws cannot vary
            rows = [float(np.nanmean(row)) for row in table if not np.isnan(row).all()]
            low, high = intervals.rate_interval(rows, seed) or (None, None)
        lost = touched(metric)
        scores.append(Score(task, first.model, metric, mean, low, high, len(ids), lost))
    lost = touched("win_rate")
    detectable = detectable_difference(len(ids) - lost)
    if detectable is not None:
        scores.append(Score(task, first.model, DETECTABLE, detectable, None, None, len(ids), lost))
    partly = sum(None in row for row in held)
    if partly and not label:
        lines.append(
            f"{partly:,} of {plural(len(ids), 'item')} not judged against every reference "
            f"{whose}: the average takes each reference over the items that it has"
        )
    return scores, lines


def _by_label(
    group: Sequence[Comparison], texts: Texts, seed: int
) -> tuple[list[Score], list[str]]:
    """The win rate over the items of each label (difficulty 3, topic cardiology), and which
    references lack a label's items.

    Such a label is averaged over the references that have it, and its task's name says over how
    many that is.
    """
    scores: list[Score] = []
    lines: list[str] = []
    first = group[0]
    for kind, labels in sorted(texts.labels.items()):
        for label in sorted(set(labels.values())):
            own = [
                replace(
                    one, items={i: item for i, item in one.items.items() if labels.get(i) == label}
                )
                for one in group
            ]
            lacking = [one.reference for one in own if not one.items]
            own = [one for one in own if one.items]
            if not own:
                continue
            made, told = _average(own, seed, f" · {kind} {label}")
            scores += made
            lines += told
            if lacking:
                lines.append(
                    f"{kind} {label}: no item was judged against {', '.join(lacking)}, so it is "
                    f"scored over {len(own)} of {len(group)} references and does not compare with "
                    f"the others ({first.model}, {first.criterion}, {first.by})"
                )
    return scores, lines


def _unlabelled(verdicts: Sequence[Verdict], texts: Texts) -> list[str]:
    """For each kind of label, how many of the items judged have none, since they are in no score by
    it."""
    judged = {verdict.item for verdict in verdicts}
    return [
        f"{count:,} of {plural(len(judged), 'item')} without a {kind}, in no score by {kind}"
        for kind, labels in sorted(texts.labels.items())
        if (count := len(judged - labels.keys()))
    ]


def _warnings(found: Comparison) -> list[str]:
    items = found.items.values()
    name = f"{found.model} against {found.reference} ({found.criterion}, {found.by})"
    one_order = sum(not all(item.values()) for item in items)
    repeated = sum(any(len(outcomes) > 1 for outcomes in item.values()) for item in items)
    unread = sum(item_points(item) is None for item in items)
    lines = {
        f"judged in one order only, so the order shown is not averaged out: {name}": one_order,
        f"judged more than once in one order (averaged): {name}": repeated,
        f"without a readable verdict, in the bounds only: {name}": unread,
    }
    return [
        f"{count:,} of {plural(len(items), 'item')} {line}"
        for line, count in lines.items()
        if count
    ]


# --------------------------------------------------------------------------- from files to files


@dataclass(frozen=True)
class Scored:
    """What came of the inputs: scores, the oriented verdicts (none for exams and grades), what was
    no verdict or replaced by a later one, warnings, and the verdicts in AlpacaEval's layout where
    their texts are known."""

    scores: list[Score]
    verdicts: list[Verdict]
    rejected: list[Rejected]
    warnings: list[str]
    annotations: list[dict[str, Any]] = field(default_factory=list)


def _is_exam(path: Path) -> bool:
    """Whether a folder holds answers, and neither verdicts nor grades."""
    return (
        path.is_dir()
        and (path / FILE_OF[Answer]).exists()
        and not (path / FILE_OF[Verdict]).exists()
        and not holds_grades(path)
    )


def compute(
    inputs: Sequence[Path],
    *,
    model: str | None = None,
    reading: str | None = None,
    groups: Path | None = None,
    seed: int = SEED,
    limit: int | None = None,
) -> Scored:
    """Read the inputs and score them: all verdicts or grades together, or two exams as a pair.

    ``groups`` is a file that labels items with difficulty, topic, view or type.
    """
    exams = [_is_exam(path) for path in inputs]
    if any(exams) or any(map(holds_grades, inputs)):
        of_verdicts = {"--reading": reading, "--groups": groups}
        if exams != [True, True]:
            of_verdicts["--model"] = model
        for option, given in of_verdicts.items():
            if given is not None:
                raise UserError(f"{option} is for verdicts; leave it out for answers and grades")
    if exams == [True]:
        return _one_folder(read_answered(inputs[0]), seed, limit)
    if any(exams):
        if not all(exams) or len(inputs) != 2:
            raise UserError(
                "give files and folders of verdicts, exactly two exam folders to compare, or one "
                "folder of summaries; got "
                + ", ".join(
                    f"{path} ({'answers' if exam else 'verdicts'})"
                    for path, exam in zip(inputs, exams, strict=True)
                )
            )
        a, b = with_distinct_names([read_answered(path) for path in inputs])
        if model not in (None, a.model, b.model):
            raise unknown("model", str(model), (a.model, b.model))
        scores, warnings = score_exams(*((b, a) if model == b.model else (a, b)), limit)
        return Scored(scores, [], [], warnings)
    hashes: dict[str, Path] = {}
    for path in inputs:
        twin = hashes.setdefault(fingerprint(path), path)
        if twin is not path:
            raise UserError(f"{path} holds the same as {twin}; each verdict would count twice")
    graded = [holds_grades(path) for path in inputs]
    if any(graded):
        if not all(graded):
            raise UserError("score folders of grades and of verdicts in separate commands")
        warnings = ungraded(inputs, limit) + _left_out(inputs)
        return Scored(score_grades(inputs, seed, limit), [], [], warnings)
    verdicts: list[Verdict] = []
    rejected: list[Rejected] = []
    for path in inputs:
        found, bad = read_verdicts(path, reading, limit)
        verdicts += found
        rejected += bad
    if reading is not None and not any(v.raw and v.by.startswith("judge:") for v in verdicts):
        raise UserError("--reading reads a judge's text, and no verdict here has one; leave it out")
    verdicts, replaced = last_votes(verdicts)
    texts = read_texts(inputs, groups)
    scores, rows, warnings = score_verdicts(verdicts, model, seed, texts)
    counts = Counter(one.row.by for one in replaced)
    warnings += [
        f"{count:,} of the verdicts by {by} {'is' if count == 1 else 'are'} {REPLACED}, and count "
        "nowhere; see rejected.parquet"
        for by, count in sorted(counts.items())
    ]
    rejected += replaced
    warnings += _left_out(inputs)
    return Scored(scores, rows, rejected, warnings, _annotations(rows, inputs))


def _left_out(inputs: Sequence[Path]) -> list[str]:
    """A warning for each folder of judging that left something unjudged, which no score counts."""
    lines = []
    for path in inputs:
        if not (path / MANIFEST).exists():
            continue
        manifest = read_manifest(path)
        reasons: dict[str, int] = manifest.rows.get("rejected") or {}
        if manifest.stage == "judge" and reasons:
            named = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            lines.append(f"nobody judged, and no score counts, of {path}: {named}")
    return lines


def _annotations(rows: Sequence[Verdict], inputs: Sequence[Path]) -> list[dict[str, Any]]:
    """The verdicts in AlpacaEval's layout; empty where the text of one is not known."""
    folders = [p for p in inputs if p.is_dir() and (p / FILE_OF[Answer]).exists()]
    questions = [question for path in folders for question in read(path, Question)[0]]
    answers = [answer for path in folders for answer in read(path, Answer)[0]]
    try:
        return to_annotations(rows, questions, answers)
    except ValueError:
        return []


def _one_folder(given: Answered, seed: int, limit: int | None) -> Scored:
    """The ROUGE of summaries; word overlap says little of any other answer, and is refused."""
    others = sorted({q.task for q in given.questions.values()} - SUMMARIES)
    if others:
        raise UserError(
            f"{given.folder} answers {', '.join(others)}; give verdicts on its answers, exactly "
            f"two exam folders to compare, or summaries ({', '.join(sorted(SUMMARIES))})"
        )
    scores, warnings = summary_scores(given, seed, limit)
    return Scored(scores, [], [], warnings)


def score(
    inputs: Sequence[Path],
    out: Path,
    *,
    model: str | None = None,
    reading: str | None = None,
    groups: Path | None = None,
    seed: int = SEED,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Score files of verdicts, two exam folders, or one folder of summaries, into ``out``.

    Writes ``scores.json``, and for verdicts ``verdicts.parquet`` (oriented and in our columns),
    ``rejected.parquet``, of people's verdicts ``human_evaluation.json`` and, where prompts and
    answers are known, AlpacaEval's ``annotations.json``.
    """
    run = open_run(
        "score",
        out,
        options={"model": model, "reading": reading, "limit": limit},
        inputs={f"input {number}": path for number, path in enumerate(inputs, start=1)}
        | ({"groups": groups} if groups is not None else {}),
        seed=seed,
        force=force,
    )
    if run.complete:
        return run
    found = compute(inputs, model=model, reading=reading, groups=groups, seed=seed, limit=limit)
    with run:
        if found.verdicts:
            run.manifest.rows["in"] = len(found.verdicts) + len(found.rejected)
            run.manifest.rows["kept"] = len(found.verdicts)
            run.write(found.verdicts, Verdict)
            run.reject(found.rejected, Verdict)
        people = [v for v in found.verdicts if v.by.startswith("human:")]
        if people:
            rows = [row._asdict() for row in preference_table(people, seed)]
            run.write_json(HUMAN_EVALUATION, rows)
        if found.annotations:
            run.write_json(ANNOTATIONS, found.annotations)
        run.manifest.warnings += found.warnings
        run.write_json("scores.json", [asdict(s) for s in found.scores])
        unreadable = sum(verdict.winner == "unreadable" for verdict in found.verdicts)
        run.finish(scores=len(found.scores), unreadable_verdicts=unreadable)
    return run
