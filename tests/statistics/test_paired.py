"""The paired test and difference against published and hand-made numbers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.statistics.paired import mcnemar_exact, paired_difference, smallest_detectable


@pytest.mark.parametrize(
    ("b", "c", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 5, 1.0),
        (10, 2, 2 * (1 + 12 + 66) / 4096),
        (0, 6, 2 / 64),
        (121, 59, 4.434e-6),  # the textbook table 101 121 59 33 (chi-square 21.35)
    ],
)
def test_mcnemar_is_the_binomial_test_at_one_half(b: int, c: int, p: float) -> None:
    assert mcnemar_exact(b, c) == pytest.approx(p, rel=1e-3)
    assert mcnemar_exact(c, b) == mcnemar_exact(b, c)


def test_mcnemar_of_thousands_neither_overflows_nor_loses_its_tail() -> None:
    # the normal approximation with continuity correction
    z = (abs(3000 - 3200) - 1) / math.sqrt(6200)
    assert mcnemar_exact(3000, 3200) == pytest.approx(math.erfc(z / math.sqrt(2)), rel=0.01)
    assert 0 < mcnemar_exact(100, 900) < 1e-150
    with pytest.raises(ValueError, match="negative"):
        mcnemar_exact(-1, 2)


def test_mcnemar_equals_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for b, c in [(3, 9), (17, 17), (40, 12)]:
        assert mcnemar_exact(b, c) == pytest.approx(stats.binomtest(b, b + c).pvalue)


def test_a_paired_difference_by_hand() -> None:
    found = paired_difference([1, 1, 0, 1], [0, 1, 0, 0])  # differences 1 0 0 1
    assert found.value == 0.5
    assert found.standard_error == pytest.approx(math.sqrt(1 / 3) / 2)
    assert found.high - found.value == pytest.approx(1.959964 * found.standard_error)
    assert found.n == 4


def test_clusters_widen_a_difference_that_clusters_share() -> None:
    a, b = [1] * 5 + [0] * 5, [0] * 10
    alone = paired_difference(a, b)
    shared = paired_difference(a, b, ["x"] * 5 + ["y"] * 5)
    assert shared.value == alone.value
    assert shared.standard_error > 2 * alone.standard_error


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=40))
def test_swapping_the_systems_only_turns_the_sign(pairs: list[tuple[float, float]]) -> None:
    a, b = zip(*pairs, strict=True)
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert there.value == pytest.approx(-back.value)
    assert there.low == pytest.approx(-back.high)


def test_unequal_lengths_are_refused_and_one_item_has_no_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired_difference([1], [1, 0])
    assert math.isnan(paired_difference([1], [0]).standard_error)


def test_the_smallest_detectable_difference_is_2_8_standard_errors() -> None:
    assert smallest_detectable(0.05) == pytest.approx(0.05 * (1.959964 + 0.841621), rel=1e-6)
    assert smallest_detectable(0.05, power=0.9) > smallest_detectable(0.05)


def test_systems_that_never_differ_have_no_difference_and_one_cluster_no_error() -> None:
    same = paired_difference([1, 0, 1], [1, 0, 1])
    assert same == (0, 0, 0, 0, 3)
    assert mcnemar_exact(0, 0) == 1
    alone = paired_difference([1, 0, 1], [0, 0, 1], clusters=["p", "p", "p"])
    assert alone.value == pytest.approx(1 / 3)
    assert math.isnan(alone.standard_error)
    with pytest.raises(ValueError, match="no values"):
        paired_difference([], [])
