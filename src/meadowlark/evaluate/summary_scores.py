"""Scores of summaries: the mean ROUGE-1, -2 and -L of a model's answers with their references.

An answered folder comes in, one :class:`Score` a task and measure goes out, with an interval by
redrawing items. F1 of ROUGE-1.5.5 with stemming, as MeQSum and MEDIQA are reported.
"""

from __future__ import annotations

from collections.abc import Sequence

from meadowlark.answered import Answered
from meadowlark.errors import UserError
from meadowlark.evaluate.rouge155 import MEASURES, rouge155
from meadowlark.progress import plural
from meadowlark.records import Score
from meadowlark.statistics.intervals import bootstrap_interval


def summary_scores(
    given: Answered, seed: int, limit: int | None = None
) -> tuple[list[Score], list[str]]:
    """Scores by task and measure, and warnings; ``limit`` takes the first items.

    An item scores the mean over its draws. An empty answer scores 0; one the server failed to give
    is left out and counted as unreadable. Questions without a reference are a UserError, since
    there is nothing to compare with.
    """
    items = list(given.answers)[:limit]
    lacking = [item for item in items if not given.questions[item].target.strip()]
    if lacking:
        raise UserError(
            f"{given.folder}: {len(lacking)} of {len(items)} questions have no reference text "
            f"(the first is {lacking[0]!r}), so there is nothing to score the answers against"
        )
    values: dict[str, dict[str, list[float]]] = {}
    failed: dict[str, int] = {}
    for item in items:
        question = given.questions[item]
        texts = [a.text for a in given.answers[item] if a.status != "failed"]
        failed[question.task] = failed.get(question.task, 0) + (not texts)
        found = [rouge155(text, question.target) for text in texts]
        for measure in MEASURES:
            column = values.setdefault(question.task, {}).setdefault(measure, [])
            if found:
                column.append(sum(one[measure].f1 for one in found) / len(found))
    scores = [
        _score(task, given.model, f"{measure}_f1", column, failed[task], seed)
        for task, measures in values.items()
        for measure, column in measures.items()
        if column
    ]
    lost = sum(failed.values())
    warnings = [f"left out: {plural(lost, 'answer')} that never came"] if lost else []
    return scores, warnings


def _score(
    task: str, model: str, metric: str, values: Sequence[float], failed: int, seed: int
) -> Score:
    low, high = bootstrap_interval([[value] for value in values], seed) or (None, None)
    mean = sum(values) / len(values)
    return Score(task, model, metric, mean, low, high, len(values) + failed, failed)
