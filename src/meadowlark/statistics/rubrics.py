"""Rubric scores in the manner of HealthBench: criteria with positive and negative points.

What a grader gave on every criterion of every example comes in; the score of all examples and of
every tag, each with its error, comes out. A criterion that could not be graded is unscored, never
"not met". Source: Arora et al., "HealthBench" (2025).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from meadowlark.statistics.intervals import bootstrap, percentiles

Unscored = Literal["left_out", "worst", "best"]


class Criterion(NamedTuple):
    """One criterion as graded: ``points`` if it is met (below 0 for a fault), ``earned`` of them.

    ``earned`` is ``points`` where it was met, 0 where not, something between for partial credit,
    None where the grading failed. These are a ``Grade``'s ``max_points`` and ``points``.
    """

    points: float
    earned: float | None
    tags: tuple[str, ...] = ()


class Example(NamedTuple):
    """One answer's criteria; ``tags`` are those of the prompt (its theme)."""

    criteria: Sequence[Criterion]
    tags: tuple[str, ...] = ()


class RubricScore(NamedTuple):
    """A score in [0, 1] over ``n`` examples, its bootstrap standard deviation and 95 % interval.

    ``worst`` and ``best`` are the score had every unscored criterion been graded against the answer
    or for it, over these and the examples that have no other; ``n_unscored`` examples have one at
    least. The deviation is NaN and the interval None with
    fewer than two examples.
    """

    value: float
    bootstrap_std: float
    low: float | None
    high: float | None
    worst: float
    best: float
    n: int
    n_unscored: int


def example_score(criteria: Iterable[Criterion], unscored: Unscored = "left_out") -> float | None:
    """Σ earned / Σ positive points of one example; at most 1, below 0 where faults prevail.

    Unscored criteria are left out of both sums, or count as the worst or best that grading could
    have given. None where no criterion with positive points is left, since nothing could be earned.
    """
    earned = possible = 0.0
    for criterion in criteria:
        points, got = criterion.points, criterion.earned
        if got is None:
            if unscored == "left_out":
                continue
            got = min(points, 0.0) if unscored == "worst" else max(points, 0.0)
        elif not min(points, 0.0) <= got <= max(points, 0.0):
            raise ValueError(f"{got} points earned of {points}")
        earned += got
        possible += max(points, 0.0)
    return earned / possible if possible > 0 else None


def _clipped_mean(scores: Sequence[float]) -> float:
    return float(np.clip(np.mean(scores), 0.0, 1.0))


def rubric_score(
    examples: Iterable[Sequence[Criterion]], seed: int, resamples: int = 1000
) -> RubricScore | None:
    """clip(mean of example scores, 0, 1), never the mean of clipped scores; None without any.

    The error is the standard deviation, and the interval the percentiles, of the clipped means of
    ``resamples`` redraws of whole examples. Examples without a score enter the bounds alone.
    """
    found = list(examples)
    scores = [score for score in map(example_score, found) if score is not None]
    if not scores:
        return None
    worst, best = (
        [score for criteria in found if (score := example_score(criteria, kind)) is not None]
        for kind in ("worst", "best")
    )
    std, low, high = math.nan, None, None
    if len(scores) > 1:
        redrawn = np.clip(bootstrap([[score] for score in scores], seed, resamples), 0.0, 1.0)
        std = float(redrawn.std())
        low, high = percentiles(redrawn)
    return RubricScore(
        _clipped_mean(scores),
        std,
        low,
        high,
        _clipped_mean(worst),
        _clipped_mean(best),
        len(scores),
        sum(any(c.earned is None for c in criteria) for criteria in found),
    )


def rubric_scores(
    examples: Iterable[Example], seed: int, resamples: int = 1000
) -> dict[str, RubricScore]:
    """The score of all examples under ``overall_score``, and of every tag under its name.

    A prompt's tag averages the scores of its examples; a criterion's tag averages, over the
    examples that have such criteria with positive points among them, the scores of those criteria
    alone. A tag that could be scored nowhere is absent.
    """
    parts: dict[str, list[Sequence[Criterion]]] = {"overall_score": []}
    for example in examples:
        parts["overall_score"].append(example.criteria)
        for tag in example.tags:
            parts.setdefault(tag, []).append(example.criteria)
        by_tag: dict[str, list[Criterion]] = {}
        for criterion in example.criteria:
            for tag in criterion.tags:
                by_tag.setdefault(tag, []).append(criterion)
        for tag, criteria in by_tag.items():
            parts.setdefault(tag, []).append(criteria)
    scores = {tag: rubric_score(found, seed, resamples) for tag, found in parts.items()}
    return {tag: score for tag, score in scores.items() if score is not None}
