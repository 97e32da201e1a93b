"""What the judging came to: win rates from verdicts, two exams compared, or the ROUGE of summaries.

Files or folders of verdicts (or folders of answers) come in; :class:`Score` rows come out, each
with n, unreadable verdicts and an interval by resampling prompts. AlpaCare's scoring: win 1, tie
1/2, loss 0; an item scores the mean over both orders; the headline averages the references.

Where AlpaCare drops an item with one unreadable order, here the item keeps the mean over the orders
that could be read, every unreadable verdict is counted, and two bounds say what the rate would be
had all unreadable verdicts been losses or wins.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from meadowlark.dataset import FILE_OF, Run, fingerprint, open_run
from meadowlark.errors import UserError, unknown
from meadowlark.evaluate import overlap
from meadowlark.evaluate.answered import Answered, read_answered, with_distinct_names
from meadowlark.evaluate.paired_exam import score_exams
from meadowlark.evaluate.summary_scores import summary_scores
from meadowlark.evaluate.verdicts import read_verdicts
from meadowlark.records import Answer, Rejected, Score, Verdict, Winner
from meadowlark.statistics import intervals
from meadowlark.statistics.wins import POINTS, Outcome, average_orders, positional_agreement, tally
from meadowlark.tasks.summaries import SUMMARIES

SEED = 42
Order = Literal["shown_first", "shown_second"]
ORDERS: tuple[Order, ...] = ("shown_first", "shown_second")
OUTCOMES: dict[Winner, Outcome] = {"a": "win", "b": "loss", "tie": "tie", "both_bad": "tie"}
_SWAPPED: dict[Winner, Winner] = {"a": "b", "b": "a"}

Item = dict[Order, list[Outcome | None]]
"""The outcomes of one item in each order, None for an unreadable verdict."""

# --------------------------------------------------------------------------- one comparison


@dataclass(frozen=True)
class Comparison:
    """One model against one reference as one judge saw them; items in the order of their ids."""

    criterion: str
    by: str
    model: str
    reference: str
    items: Mapping[str, Item]

    @property
    def task(self) -> str:
        """The name under which the comparison is scored."""
        return f"{self.criterion} ({self.by}): against {self.reference}"


def oriented(verdicts: Iterable[Verdict], model: str | None = None) -> list[Verdict]:
    """The verdicts with the model compared as ``a`` and its reference as ``b``.

    ``model`` keeps the comparisons with that model, as ``a``. Without it, whichever of two names
    stands as ``a`` more often is the model (the earlier name where both do equally often).
    """
    found = list(verdicts)
    if model is not None:
        names = {name for v in found for name in (v.a, v.b)}
        if model not in names:
            raise unknown("model", model, names)
        return [v if v.a == model else _swapped(v) for v in found if model in (v.a, v.b)]
    as_a = Counter((v.a, v.b) for v in found)
    chosen = {pair: min(((pair), pair[::-1]), key=lambda p: (-as_a[p], p)) for pair in sorted(as_a)}
    return [v if chosen[v.a, v.b] == (v.a, v.b) else _swapped(v) for v in found]


def _swapped(verdict: Verdict) -> Verdict:
    preference = None if verdict.preference is None else 1 - verdict.preference
    return replace(
        verdict,
        a=verdict.b,
        b=verdict.a,
        shown_first="b" if verdict.shown_first == "a" else "a",
        winner=_SWAPPED.get(verdict.winner, verdict.winner),
        preference=preference,
    )


def comparisons(verdicts: Iterable[Verdict]) -> list[Comparison]:
    """Oriented verdicts grouped by criterion, judge, model and reference, in that order."""
    groups: dict[tuple[str, str, str, str], dict[str, Item]] = {}
    for verdict in verdicts:
        key = (verdict.criterion, verdict.by, verdict.a, verdict.b)
        item = groups.setdefault(key, {}).setdefault(
            verdict.item, {"shown_first": [], "shown_second": []}
        )
        order: Order = "shown_first" if verdict.shown_first == "a" else "shown_second"
        item[order].append(OUTCOMES.get(verdict.winner))
    return [
        Comparison(*key, items=dict(sorted(items.items())))
        for key, items in sorted(groups.items(), key=lambda group: group[0])
    ]


def item_score(item: Item, unreadable: float | None = None) -> float | None:
    """One item's score in [0, 1]: the mean over its orders; None where nothing could be read.

    An unreadable verdict is left out, or counts as ``unreadable`` points where that is given.
    """
    return average_orders(
        {order: _points(outcomes, unreadable) for order, outcomes in item.items()}
    )


def _points(outcomes: Iterable[Outcome | None], unreadable: float | None = None) -> list[float]:
    """The points of outcomes; an unreadable one is left out or counts what is given."""
    values = (unreadable if outcome is None else POINTS[outcome] for outcome in outcomes)
    return [value for value in values if value is not None]


def _interval(scores: Sequence[float], seed: int) -> tuple[float | None, float | None]:
    """The bootstrap interval over items; Wilson's where all items agree and redraws cannot vary."""
    if {*scores} <= {0.0} or {*scores} <= {1.0}:
        return intervals.wilson(round(sum(scores)), len(scores))
    return intervals.bootstrap_interval([[s] for s in scores], seed) or (None, None)


BOUNDS: dict[str, float | None] = {
    "win_rate": None,
    "win_rate_unreadable_lost": 0.0,
    "win_rate_unreadable_won": 1.0,
}
"""The order-averaged win rate and its bounds: how many points an unreadable verdict counts."""


def score_comparison(found: Comparison, seed: int = SEED) -> list[Score]:
    """All scores of one comparison.

    ``n`` is the number of items for rates over items, of verdicts for ``wins``, ``ties`` (with
    both_bad), ``losses``, ``unreadable`` and the rate in one order; ``n_unreadable`` counts in the
    same unit those with (or that are) an unreadable verdict. A rate of which nothing could be read
    is absent, while its bounds are there.
    """
    items = list(found.items.values())
    touched = sum(any(None in outcomes for outcomes in item.values()) for item in items)
    verdicts = [outcome for item in items for outcomes in item.values() for outcome in outcomes]
    unreadable = verdicts.count(None)
    scores: list[Score] = []

    def add(
        metric: str,
        value: float,
        bounds: tuple[float | None, float | None],
        n: int,
        n_unreadable: int,
    ) -> None:
        scores.append(Score(found.task, found.model, metric, value, *bounds, n, n_unreadable))

    for metric, points in BOUNDS.items():
        read = [s for s in (item_score(item, points) for item in items) if s is not None]
        if read:
            add(metric, sum(read) / len(read), _interval(read, seed), len(items), touched)
    counts = tally(outcome for outcome in verdicts if outcome is not None)
    for metric, value in (*counts._asdict().items(), ("unreadable", unreadable)):
        add(metric, value, (None, None), len(verdicts), unreadable)
    for order in ORDERS:
        there = [outcome for item in items for outcome in item[order]]
        only = [average_orders({order: _points(item[order])}) for item in items]
        read = [value for value in only if value is not None]
        if read:
            value, bounds = sum(read) / len(read), _interval(read, seed)
            add(f"win_rate_{order}", value, bounds, len(there), there.count(None))
    both = [item for item in items if all(item.values())]
    pairs = [
        (first, second)
        for item in both
        for first, second in zip(*(item[order] for order in ORDERS), strict=False)
        if first is not None and second is not None
    ]
    if pairs:
        agreement = positional_agreement(pairs)
        bounds = intervals.wilson(agreement.same, agreement.n)
        lost = sum(any(None in outcomes for outcomes in item.values()) for item in both)
        add("positional_agreement", agreement.rate, bounds, len(both), lost)
    return scores


# --------------------------------------------------------------------------- all of them


def score_verdicts(
    verdicts: Iterable[Verdict], model: str | None = None, seed: int = SEED
) -> tuple[list[Score], list[Verdict], list[str]]:
    """Scores of every comparison and the averages over references, the verdicts oriented, and
    warnings of what a reader must know."""
    rows = oriented(verdicts, model)
    found = comparisons(rows)
    scores = [score for comparison in found for score in score_comparison(comparison, seed)]
    by_judge: dict[tuple[str, str, str], list[Comparison]] = {}
    for comparison in found:
        key = (comparison.criterion, comparison.by, comparison.model)
        by_judge.setdefault(key, []).append(comparison)
    for group in by_judge.values():
        if len(group) > 1:
            scores += _average(group, seed)
    warnings = [line for comparison in found for line in _warnings(comparison)]
    if any(comparison.by == overlap.BY for comparison in found):
        warnings.append(f"{overlap.BY} is {overlap.NOTICE}")
    return scores, rows, warnings


def _average(group: Sequence[Comparison], seed: int) -> list[Score]:
    """AlpaCare's headline: the mean over references of the mean over items.

    An item is redrawn with its verdicts against all references, since they share its prompt.
    """
    first = group[0]
    task = f"{first.criterion} ({first.by}): average over {len(group)} references"
    ids = sorted({item for comparison in group for item in comparison.items})
    touched = sum(
        any(None in outcomes for c in group for outcomes in c.items.get(i, {}).values())
        for i in ids
    )
    scores = []
    for metric, points in BOUNDS.items():
        table = np.full((len(ids), len(group)), np.nan)
        for column, comparison in enumerate(group):
            for row, item in enumerate(ids):
                value = item_score(comparison.items.get(item, {}), points)
                table[row, column] = np.nan if value is None else value
        if np.isnan(table).all(axis=0).any():
            continue  # one reference has nothing to average; its own scores and warning say so
        mean = float(np.mean([np.nanmean(column) for column in table.T]))
        low: float | None = None
        high: float | None = None
        if len(ids) > 1:
            low, high = intervals.percentiles(intervals.bootstrap_average(table, seed))
        scores.append(Score(task, first.model, metric, mean, low, high, len(ids), touched))
    return scores


def _warnings(found: Comparison) -> list[str]:
    items = found.items.values()
    name = f"{found.model} against {found.reference}"
    one_order = sum(not all(item.values()) for item in items)
    repeated = sum(any(len(outcomes) > 1 for outcomes in item.values()) for item in items)
    unread = sum(item_score(item) is None for item in items)
    lines = {
        f"judged in one order only, so the order shown is not averaged out: {name}": one_order,
        f"judged more than once in one order (averaged): {name}": repeated,
        f"without a readable verdict, in the bounds only: {name}": unread,
    }
    return [f"{count} of {len(items)} items {line}" for line, count in lines.items() if count]


# --------------------------------------------------------------------------- from files to files


@dataclass(frozen=True)
class Scored:
    """What came of the inputs: scores, the oriented verdicts (none for exams), what was no
    verdict, and warnings."""

    scores: list[Score]
    verdicts: list[Verdict]
    rejected: list[Rejected]
    warnings: list[str]


def _is_exam(path: Path) -> bool:
    """Whether a folder holds answers and no verdicts."""
    return (
        path.is_dir()
        and (path / FILE_OF[Answer]).exists()
        and not (path / FILE_OF[Verdict]).exists()
    )


def compute(
    inputs: Sequence[Path],
    *,
    model: str | None = None,
    protocol: str = "brackets",
    seed: int = SEED,
    limit: int | None = None,
) -> Scored:
    """Read the inputs and score them: all verdicts together, or two exam folders as a pair."""
    exams = [_is_exam(path) for path in inputs]
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
    verdicts: list[Verdict] = []
    rejected: list[Rejected] = []
    for path in inputs:
        found, bad = read_verdicts(path, protocol, limit)
        verdicts += found
        rejected += bad
    scores, rows, warnings = score_verdicts(verdicts, model, seed)
    return Scored(scores, rows, rejected, warnings)


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
    protocol: str = "brackets",
    seed: int = SEED,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Score files of verdicts, two exam folders, or one folder of summaries, into ``out``.

    Writes ``scores.json``, ``verdicts.parquet`` (oriented and in our columns; not for exams) and
    ``rejected.parquet``.
    """
    run = open_run(
        "score",
        out,
        options={"model": model, "protocol": protocol, "limit": limit},
        inputs={f"input {number}": path for number, path in enumerate(inputs, start=1)},
        seed=seed,
        force=force,
    )
    if run.complete:
        return run
    found = compute(inputs, model=model, protocol=protocol, seed=seed, limit=limit)
    with run:
        if found.verdicts:
            run.manifest.rows["in"] = len(found.verdicts) + len(found.rejected)
            run.manifest.rows["kept"] = len(found.verdicts)
            run.write(found.verdicts, Verdict)
            run.reject(found.rejected, Verdict)
        run.manifest.warnings += found.warnings
        run.write_json("scores.json", [asdict(s) for s in found.scores])
        unreadable = sum(verdict.winner == "unreadable" for verdict in found.verdicts)
        run.finish(scores=len(found.scores), unreadable_verdicts=unreadable)
    return run
