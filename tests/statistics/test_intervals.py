"""Intervals against published tables, hand-made cases and what resampling must keep."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadowlark.statistics import intervals


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_is_method_3_of_newcombe_1998(
    successes: int, n: int, low: float, high: float
) -> None:
    assert intervals.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_holds_the_proportion_within_zero_and_one(n: int, data: st.DataObject) -> None:
    successes = data.draw(st.integers(0, n))
    low, high = intervals.wilson(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high
    mirrored = intervals.wilson(n - successes, n)
    assert mirrored == pytest.approx((1 - high, 1 - low))


def test_wilson_of_nothing_says_nothing_and_refuses_nonsense() -> None:
    assert intervals.wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="5 successes of 4"):
        intervals.wilson(5, 4)
    with pytest.raises(ValueError, match="level"):
        intervals.wilson(1, 4, level=95)


def test_wilson_equals_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for successes, n, level in [(0, 7, 0.95), (3, 7, 0.9), (412, 1273, 0.99)]:
        expected = stats.binomtest(successes, n).proportion_ci(level, "wilson")
        assert intervals.wilson(successes, n, level) == pytest.approx(tuple(expected))


def test_without_clusters_the_error_is_s_over_root_n() -> None:
    values = [1.0, 2.0, 4.0, 9.0]
    mean, error = intervals.clustered_mean(values)
    assert mean == 4.0
    assert error == pytest.approx(np.std(values, ddof=1) / 2)
    assert intervals.mean_interval(values) == pytest.approx(
        (4 - 1.959964 * error, 4 + 1.959964 * error)
    )


def test_the_clustered_error_of_a_case_done_by_hand() -> None:
    # mean 1/2; residuals summed by cluster: x -1/2 + -1/2 = -1, y 1/2 + 1/2 = 1, z 0
    values, clusters = [0, 0, 1, 1, 0.5], ["x", "x", "y", "y", "z"]
    mean, error = intervals.clustered_mean(values, clusters)
    assert mean == 0.5
    assert error == pytest.approx(math.sqrt((1 + 1 + 0) * 3 / 2) / 5)


@given(st.lists(st.floats(-10, 10), min_size=2, max_size=30))
def test_asking_every_question_twice_makes_nobody_surer(values: list[float]) -> None:
    _, once = intervals.clustered_mean(values)
    clusters = [*range(len(values)), *range(len(values))]
    _, twice = intervals.clustered_mean(values + values, clusters)
    assert twice == pytest.approx(once, abs=1e-9)


def test_one_cluster_has_a_mean_but_no_interval() -> None:
    mean, error = intervals.clustered_mean([1, 2], ["x", "x"])
    assert mean == 1.5
    assert math.isnan(error)
    assert intervals.clustered_interval([1, 2], ["x", "x"]) is None
    assert intervals.mean_interval([1.0]) is None
    with pytest.raises(ValueError, match="no values"):
        intervals.mean_interval([])
    with pytest.raises(ValueError, match="2 values but 1 clusters"):
        intervals.clustered_mean([1, 2], ["x"])


def test_the_bootstrap_spreads_as_the_standard_error_says() -> None:
    values = np.random.default_rng(0).normal(size=400)
    _, error = intervals.clustered_mean(values)
    redrawn = intervals.bootstrap([[v] for v in values], seed=1, resamples=4000)
    assert redrawn.std() == pytest.approx(error, rel=0.05)
    low, high = intervals.bootstrap_interval([[v] for v in values], seed=1) or (0, 0)
    assert (low, high) == pytest.approx(intervals.mean_interval(values), abs=0.15 * error)


def test_prompts_are_redrawn_not_rows() -> None:
    once = intervals.bootstrap([[0], [1], [1]], seed=3)
    assert np.array_equal(once, intervals.bootstrap([[0] * 5, [1] * 5, [1] * 5], seed=3))
    assert not np.array_equal(once, intervals.bootstrap([[0], [1], [1]], seed=4))
    assert np.array_equal(once, intervals.bootstrap([[0], [1], [], [1]], seed=3))
    assert set(np.round(once * 3)) == {0, 1, 2, 3}


def test_an_average_redraws_a_prompt_with_all_its_columns() -> None:
    column = np.array([0.0, 1.0, 1.0, 0.5])
    opposite = np.stack([column, 1 - column], axis=1)
    assert np.allclose(intervals.bootstrap_average(opposite, seed=1), 0.5)
    single = intervals.bootstrap_average(column[:, None], seed=1)
    assert np.array_equal(single, intervals.bootstrap([[v] for v in column], seed=1))


def test_an_average_takes_missing_values_and_empty_rows() -> None:
    table = np.array([[1.0, np.nan], [0.0, 1.0], [np.nan, np.nan]])
    redrawn = intervals.bootstrap_average(table, seed=1)
    # both rows (1/2 and 1), the first twice (1, the second column absent), the second twice
    assert set(np.round(redrawn, 6)) == {0.75, 1.0, 0.5}
    with pytest.raises(ValueError, match="no values"):
        intervals.bootstrap_average(np.full((2, 2), np.nan), seed=1)


def test_batches_do_not_change_what_is_redrawn() -> None:
    many = np.random.default_rng(0).random(3000)  # 2000 redraws of these take several batches
    redrawn = intervals.bootstrap([[v] for v in many], seed=5)
    assert redrawn.mean() == pytest.approx(many.mean(), abs=0.001)
    assert len(set(redrawn)) > 1990


def test_one_prompt_gives_no_bootstrap_interval() -> None:
    assert intervals.bootstrap_interval([[1.0, 0.0]], seed=1) is None
    with pytest.raises(ValueError, match="no values"):
        intervals.bootstrap([[]], seed=1)


def test_a_rate_that_never_varied_is_not_certain() -> None:
    for n in (1, 12, 200):
        assert intervals.rate_interval([1.0] * n, 1) == pytest.approx(intervals.wilson(n, n))
        assert intervals.rate_interval([0.0] * n, 1) == pytest.approx(intervals.wilson(0, n))
        low, high = intervals.rate_interval([0.5] * n, 1) or (0, 0)
        differing = intervals.wilson(0, n)[1]
        assert (low, high) == pytest.approx((0.5 - differing / 2, 0.5 + differing / 2))
    assert intervals.rate_interval([], 1) is None


def test_a_rate_that_varied_has_the_bootstrap_interval() -> None:
    scores = [1.0, 0.5, 0.0, 1.0, 1.0, 0.5]
    assert intervals.rate_interval(scores, 7) == intervals.bootstrap_interval(
        [[score] for score in scores], 7
    )


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.integers(0, 4)), min_size=2, max_size=30).filter(
        lambda rows: len({cluster for _, cluster in rows}) > 1
    )
)
@settings(max_examples=30, deadline=None)
def test_the_clustered_error_of_statsmodels(rows: list[tuple[float, int]]) -> None:
    statsmodels = pytest.importorskip("statsmodels.api")
    values, clusters = [value for value, _ in rows], [cluster for _, cluster in rows]
    theirs = statsmodels.OLS(values, np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": np.array(clusters)}
    )
    mean, error = intervals.clustered_mean(values, clusters)
    assert mean == pytest.approx(theirs.params[0], abs=1e-12)
    assert error == pytest.approx(theirs.bse[0], abs=1e-9)


@pytest.mark.parametrize("scores", [[], [0.5], [1.0, 0.0], [0.5] * 9, [1.0] * 9])
def test_no_edge_gives_an_interval_without_its_mean(scores: list[float]) -> None:
    assert (intervals.rate_interval(scores, 1) is None) == (not scores)
    for found in (
        intervals.rate_interval(scores, 1),
        intervals.bootstrap_interval([[score] for score in scores], 1),
        intervals.mean_interval(scores) if scores else None,
    ):
        if found is not None:
            low, high = found
            assert low <= sum(scores) / len(scores) <= high
