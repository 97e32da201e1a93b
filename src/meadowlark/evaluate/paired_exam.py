"""Two exams on the same questions compared: is one model better, and could so many items tell?

Two folders that ``meadowlark exam`` wrote come in; accuracies, their paired difference with an
interval clustered by question group, the exact McNemar test and the smallest difference that such
a comparison detects come out, and warnings of what would make it unfair or unsure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from meadowlark.answered import Answered
from meadowlark.dataset import MANIFEST, read_manifest
from meadowlark.errors import UserError
from meadowlark.progress import plural
from meadowlark.records import Question, Score
from meadowlark.statistics.intervals import clustered_interval
from meadowlark.statistics.paired import mcnemar_exact, paired_difference, smallest_detectable

FEWEST_CLUSTERS = 30
"""Below so many clusters a clustered interval is somewhat too narrow."""
ASKED = ("by", "scoring", "plain", "shots", "orders", "max_tokens")
"""The options of an exam that decide how a question is put and an answer is found."""


@dataclass(frozen=True)
class _Pair:
    """One question answered by both: the share of right draws of each (several are the orders of
    the choices), whether the first was right, and whether any could not be read."""

    question: Question
    a: float
    b: float
    first_a: bool
    first_b: bool
    unreadable: bool


def score_exams(
    a: Answered, b: Answered, limit: int | None = None
) -> tuple[list[Score], list[str]]:
    """Scores of ``a`` against ``b`` by task (and all tasks together), and warnings.

    An answer from which no choice could be read counts as wrong and in ``n_unreadable``; a
    question that either model's server failed to answer is left out and warned of. Where all
    questions of a task share one group, or have none, each question is its own cluster. ``limit``
    takes the first questions.
    """
    pairs, warnings = _joined(a, b)
    pairs = pairs[:limit]
    warnings += _asked_otherwise(a, b)
    tasks: dict[str, list[_Pair]] = {}
    for pair in pairs:
        tasks.setdefault(pair.question.task or "exam", []).append(pair)
    if len(tasks) > 1:
        tasks[f"all {len(tasks)} tasks"] = pairs
    scores = []
    for task, found in tasks.items():
        scores += _task_scores(task, found, a.model, b.model)
        clusters = len(set(clusters_of([pair.question for pair in found])))
        if clusters < min(FEWEST_CLUSTERS, len(found)):
            warnings.append(
                f"{task}: its questions fall into {clusters} groups; with fewer than "
                f"{FEWEST_CLUSTERS} the intervals are somewhat narrow"
            )
    return scores, warnings


def _asked_otherwise(a: Answered, b: Answered) -> list[str]:
    """What differs in how the two were asked, by their manifests; nothing where there is none."""
    if not all((side.folder / MANIFEST).exists() for side in (a, b)):
        return []
    one, other = (read_manifest(side.folder).options for side in (a, b))
    differs = [
        f"{name} {one.get(name)} and {other.get(name)}"
        for name in ASKED
        if one.get(name) != other.get(name)
    ]
    if not differs:
        return []
    return [f"the two were not asked alike, which a difference may come from: {'; '.join(differs)}"]


def _joined(a: Answered, b: Answered) -> tuple[list[_Pair], list[str]]:
    pairs: list[_Pair] = []
    alone = failed = free = 0
    for item, question in a.questions.items():
        if item not in a.answers or item not in b.answers:
            alone += 1
            continue
        theirs = b.questions[item]
        if (theirs.prompt, theirs.choices, theirs.target) != (
            question.prompt,
            question.choices,
            question.target,
        ):
            raise UserError(
                f"the question {item!r} differs between {a.folder} and {b.folder}; a paired "
                "comparison needs the same questions in both"
            )
        if not question.choices:
            free += 1
            continue
        draws = (*a.answers[item], *b.answers[item])
        if any(answer.status == "failed" for answer in draws):
            failed += 1
            continue
        unread = not all(answer.extracted for answer in draws)
        first_a, first_b = (_first_right(side, item) for side in (a, b))
        pairs.append(_Pair(question, _right(a, item), _right(b, item), first_a, first_b, unread))
    alone += len(b.questions.keys() - a.questions.keys())
    if not pairs:
        reason = "free-form answers need `meadowlark judge` first" if free else "none is shared"
        raise UserError(f"no exam question to compare in {a.folder} and {b.folder}: {reason}")
    notes = {"answered by one model only": alone, "failed for a model": failed, "free-form": free}
    return pairs, [f"{plural(n, 'question')} left out: {why}" for why, n in notes.items() if n]


def _right(side: Answered, item: str) -> float:
    target = side.questions[item].target
    draws = side.answers[item]
    return sum(answer.extracted == target for answer in draws) / len(draws)


def _first_right(side: Answered, item: str) -> bool:
    return side.answers[item][0].extracted == side.questions[item].target


def clusters_of(questions: Sequence[Question]) -> list[str]:
    """The cluster of each question: its task and group, or itself where it has no group.

    With a single group in all, nothing could be said by clusters, so each stands alone.
    """
    named = [f"{q.task}\n{q.group}" if q.group else f"{q.task}\n\n{q.id}" for q in questions]
    return named if len(set(named)) > 1 else [q.id for q in questions]


def _task_scores(task: str, pairs: Sequence[_Pair], a: str, b: str) -> list[Score]:
    n, unreadable = len(pairs), sum(pair.unreadable for pair in pairs)
    clusters = clusters_of([pair.question for pair in pairs])
    right_a, right_b = [pair.a for pair in pairs], [pair.b for pair in pairs]
    against = f"{task}: against {b}"
    scores = [
        _accuracy(task, a, right_a, clusters, unreadable),
        _accuracy(task, b, right_b, clusters, unreadable),
    ]
    found = paired_difference(right_a, right_b, clusters)
    known = not math.isnan(found.standard_error)
    low, high = (found.low, found.high) if known else (None, None)
    scores.append(Score(against, a, "accuracy_difference", found.value, low, high, n, unreadable))
    alone: dict[str, float] = {}
    if known and found.standard_error:  # an error of 0 says that nothing differed, not how well
        alone["smallest_detectable_difference"] = smallest_detectable(found.standard_error)
    only_a = sum(pair.first_a and not pair.first_b for pair in pairs)
    only_b = sum(pair.first_b and not pair.first_a for pair in pairs)
    alone |= {"only_this_right": only_a, "only_other_right": only_b}
    alone["mcnemar_p"] = mcnemar_exact(only_a, only_b)
    return scores + [Score(against, a, m, v, None, None, n, unreadable) for m, v in alone.items()]


def _accuracy(
    task: str, model: str, right: list[float], clusters: list[str], unreadable: int
) -> Score:
    low, high = clustered_interval(right, clusters) or (None, None)
    if low is not None and high is not None:
        low, high = max(0.0, low), min(1.0, high)
    value, n = sum(right) / len(right), len(right)
    return Score(f"{task}: shared questions", model, "accuracy", value, low, high, n, unreadable)
