"""Rubric scores: HealthBench's aggregation to the last digit, and what a failed grading is."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.statistics.rubrics import (
    Criterion,
    Example,
    example_score,
    rubric_score,
    rubric_scores,
)


def graded(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "graded.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def example(row: dict[str, Any]) -> Example:
    criteria = [
        Criterion(c["points"], c["points"] if c["met"] else 0, tuple(c["tags"]))
        for c in row["rubric"]
    ]
    return Example(criteria, tuple(row["example_tags"]))


def test_healthbenchs_overall_and_all_69_tags_to_the_last_digit(real_data: Path) -> None:
    folder = real_data / "judging/healthbench_m42"
    published = json.loads((folder / "final_metrics.json").read_text(encoding="utf-8"))
    ours = rubric_scores([example(row) for row in graded(folder)], seed=42)
    names = {name for name in published if not name.endswith((":n_samples", ":bootstrap_std"))}
    assert names - {"score"} == ours.keys()  # it writes the overall score twice
    assert len(names) == 70
    assert round(ours["overall_score"].value, 6) == 0.485298
    for name, score in ours.items():
        assert score.value == pytest.approx(published[name], abs=1e-12), name
        assert score.n == published[f"{name}:n_samples"], name
        if score.n > 1:  # theirs is one unseeded draw of 1,000 redraws
            theirs = published[f"{name}:bootstrap_std"]
            assert score.bootstrap_std == pytest.approx(theirs, rel=0.15, abs=1e-9), name
        assert (score.worst, score.best, score.n_unscored) == (score.value, score.value, 0)


def test_healthbenchs_scores_of_every_single_example(real_data: Path) -> None:
    for row in graded(real_data / "judging/healthbench_m42"):
        score = example_score(example(row).criteria)
        assert score == pytest.approx(row["metrics"]["overall_score"], abs=1e-12)


def test_faults_take_away_and_the_mean_is_clipped_and_not_the_examples() -> None:
    poor = [Criterion(5, 0), Criterion(-10, -10)]
    good = [Criterion(5, 5), Criterion(-10, 0)]
    assert example_score(poor) == -2
    assert example_score(good) == 1
    one_of_four = rubric_score([good, good, good, poor], seed=1)
    assert one_of_four is not None
    assert one_of_four.value == 0.25
    worst = rubric_score([poor, good], seed=1)
    assert worst is not None
    assert worst.value == 0


def test_a_failed_grading_is_not_a_criterion_missed() -> None:
    failed = [Criterion(6, 6), Criterion(4, None), Criterion(-5, None)]
    assert example_score(failed) == 1
    assert example_score(failed, "worst") == pytest.approx(0.1)
    assert example_score(failed, "best") == 1
    full = [Criterion(6, 3), Criterion(4, 4)]
    lost = rubric_score([full, [Criterion(5, None)]], seed=1)
    assert lost is not None
    assert (lost.n, lost.n_unscored) == (1, 1)
    assert (lost.worst, lost.value, lost.best) == pytest.approx((0.35, 0.7, 0.85))
    found = rubric_score([failed, full], seed=1)
    assert found is not None
    assert (found.n, found.n_unscored) == (2, 1)
    assert (found.worst, found.value, found.best) == pytest.approx((0.4, 0.85, 0.85))


def test_what_cannot_earn_anything_has_no_score() -> None:
    assert example_score([Criterion(-5, 0)]) is None
    assert example_score([Criterion(5, None)]) is None
    assert example_score([]) is None
    assert rubric_score([[Criterion(5, None)]], seed=1) is None
    found = rubric_scores([Example([Criterion(5, 5, ("axis",)), Criterion(-2, 0, ("fault",))])], 1)
    assert found.keys() == {"overall_score", "axis"}
    assert math.isnan(found["axis"].bootstrap_std)
    assert found["axis"].low is None
    with pytest.raises(ValueError, match="7 points earned of 5"):
        example_score([Criterion(5, 7)])


points = st.integers(-10, 10).filter(bool)


@given(st.lists(st.tuples(points, st.sampled_from([True, False, None])), min_size=1))
def test_bounds_hold_whatever_the_failed_gradings_would_have_said(
    graded: list[tuple[int, bool | None]],
) -> None:
    criteria = [Criterion(p, None if met is None else p * met) for p, met in graded]
    worst, best = example_score(criteria, "worst"), example_score(criteria, "best")
    if worst is None or best is None:
        assert all(p < 0 for p, _ in graded)
        return
    for answer in (True, False):
        decided = [
            Criterion(c.points, c.points * answer) if c.earned is None else c for c in criteria
        ]
        score = example_score(decided)
        assert score is not None
        assert worst - 1e-12 <= score <= best + 1e-12 <= 1 + 1e-9
