"""Scores from grades: rubrics as in HealthBench, ratings on a scale, and models compared by them.

Folders of grades come in; :class:`Score` rows go out. An unscored criterion is left out and
counted, and two bounds say what the score would be had it been graded worst or best.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from meadowlark.dataset import FILE_OF, read
from meadowlark.errors import UserError
from meadowlark.evaluate.grade import RUBRIC
from meadowlark.progress import plural
from meadowlark.records import Grade, Score
from meadowlark.statistics.human import mean_table
from meadowlark.statistics.paired import paired_difference
from meadowlark.statistics.rubrics import Criterion, Example, example_score, rubric_scores

Tags = dict[tuple[str, str], tuple[str, ...]]


def holds_grades(path: Path) -> bool:
    """Whether a folder holds grades."""
    return path.is_dir() and (path / FILE_OF[Grade]).exists()


def score_grades(inputs: Sequence[Path], seed: int, limit: int | None = None) -> list[Score]:
    """The scores of all folders together: by rubric where a folder has one, else by the scale.

    The same grader's grades of one model in two folders must not overlap: a UserError. ``limit``
    takes the first items of each folder, since an item with some of its criteria has no score.
    """
    scales: list[Grade] = []
    rubrics: dict[tuple[str, str], dict[str, list[Grade]]] = {}
    tags: Tags = {}
    seen: set[tuple[str, str, str, str]] = set()
    for folder in inputs:
        rows = _of_first_items(read(folder, Grade)[0], limit)
        for grade in rows:
            key = (grade.item, grade.criterion, grade.model, grade.by)
            if key in seen:
                raise UserError(
                    f"{folder}: {grade.by} graded {grade.model} on the item {grade.item!r} in "
                    "another input too, so that it would count twice"
                )
            seen.add(key)
        file = folder / RUBRIC
        if not file.exists():
            scales += rows
            continue
        for row in json.loads(file.read_text(encoding="utf-8")):
            tags[row["item"], ""] = tuple(row["tags"])
            for one in row["criteria"]:
                tags[row["item"], one["criterion"]] = tuple(one["tags"])
        for grade in rows:
            by_item = rubrics.setdefault((grade.model, grade.by), {})
            by_item.setdefault(grade.item, []).append(grade)
    scores = [
        score
        for (model, by), items in sorted(rubrics.items())
        for score in _rubric(model, by, items, tags, seed)
    ]
    return scores + _rubric_differences(rubrics) + _scales(scales)


def ungraded(inputs: Sequence[Path], limit: int | None = None) -> list[str]:
    """A warning for each model of whose grades by one grader none could be read: it has no score.

    A rubric's criteria are taken together, a scale's each by itself.
    """
    found: dict[tuple[str, str, str], list[Grade]] = {}
    for folder in inputs:
        by_rubric = (folder / RUBRIC).exists()
        for grade in _of_first_items(read(folder, Grade)[0], limit):
            name = "the rubric" if by_rubric else grade.criterion
            found.setdefault((grade.model, name, grade.by), []).append(grade)
    return [
        f"no score of {model} by {by} ({name}): of {plural(len(rows), 'grade')} none could be read"
        for (model, name, by), rows in sorted(found.items())
        if all(grade.points is None for grade in rows)
    ]


def _of_first_items(grades: Sequence[Grade], limit: int | None) -> list[Grade]:
    """All grades of the first items."""
    kept = {*list(dict.fromkeys(grade.item for grade in grades))[:limit]}
    return [grade for grade in grades if grade.item in kept]


def _rubric_differences(
    rubrics: Mapping[tuple[str, str], Mapping[str, Sequence[Grade]]],
) -> list[Score]:
    """Two models under one grader: the mean difference of their unclipped scores, item by item.

    Over the items on which both have a score. ``n`` counts the items that either was graded on, of
    which those without both scores, or with an unscored criterion, are the unscored.
    """
    found = []
    for (a, by), (b, other) in itertools.combinations(sorted(rubrics), 2):
        if by != other:
            continue
        pairs = []
        unscored = 0
        items = sorted(rubrics[a, by].keys() | rubrics[b, by].keys())
        for item in items:
            both = [rubrics[model, by].get(item, ()) for model in (a, b)]
            scores = [example_score(Criterion(g.max_points, g.points) for g in one) for one in both]
            if scores[0] is not None and scores[1] is not None:
                pairs.append((scores[0], scores[1]))
                unscored += any(g.points is None for one in both for g in one)
            else:
                unscored += 1
        if not pairs:
            continue
        difference = paired_difference([x for x, _ in pairs], [y for _, y in pairs])
        known = not math.isnan(difference.low)
        low, high = (difference.low, difference.high) if known else (None, None)
        task = f"rubric ({by}): {a} minus {b}"
        found.append(
            Score(task, a, "rubric_difference", difference.value, low, high, len(items), unscored)
        )
    return found


def _rubric(
    model: str, by: str, items: dict[str, list[Grade]], tags: Tags, seed: int
) -> list[Score]:
    examples = [
        Example(
            [Criterion(g.max_points, g.points, tags.get((item, g.criterion), ())) for g in grades],
            tags.get((item, ""), ()),
        )
        for item, grades in sorted(items.items())
    ]
    made = []
    for tag, found in rubric_scores(examples, seed).items():
        task = f"rubric ({by})" + ("" if tag == "overall_score" else f" · {tag}")
        sizes = (found.n, found.n_unscored)
        made.append(Score(task, model, "rubric_score", found.value, found.low, found.high, *sizes))
        if found.n_unscored:
            made += [
                Score(task, model, "rubric_score_unscored_lost", found.worst, None, None, *sizes),
                Score(task, model, "rubric_score_unscored_won", found.best, None, None, *sizes),
            ]
    return made


def _scales(grades: Iterable[Grade]) -> list[Score]:
    by_grader: dict[str, list[Grade]] = {}
    for grade in grades:
        by_grader.setdefault(grade.by, []).append(grade)
    if len(by_grader) > 1:
        by_grader[f"{len(by_grader)} graders"] = [g for one in by_grader.values() for g in one]
    scores = []
    for by, rows in by_grader.items():
        means, differences = mean_table(rows)
        items: dict[tuple[str, str], set[str]] = {}
        for grade in rows:
            items.setdefault((grade.criterion, grade.model), set()).add(grade.item)
        for mean in means:
            task = f"{mean.criterion} ({by})"
            sizes = (mean.n, mean.missing)
            bounds = (mean.low, mean.high)
            scores.append(Score(task, mean.model, "mean_points", mean.mean, *bounds, *sizes))
        for one in differences:
            task = f"{one.criterion} ({by}): {one.a} minus {one.b}"
            n = len(items[one.criterion, one.a] | items[one.criterion, one.b])
            sizes = (n, n - one.n)
            bounds = (one.low, one.high)
            scores.append(Score(task, one.a, "points_difference", one.difference, *bounds, *sizes))
            if one.p_adjusted is not None:
                p = one.p_adjusted
                scores.append(Score(task, one.a, "paired_t_p_holm", p, None, None, *sizes))
    return scores
