"""Student's t against scipy, and in the corners where a naive formula loses its digits."""

import math

import pytest
from scipy import stats

from meadowlark.statistics.student import p_value, t_quantile


@pytest.mark.parametrize("df", [1, 2, 3, 7.5, 30, 999, 1e5, 1e9])
@pytest.mark.parametrize("t", [0.0, 1e-6, 0.3, -1.0, 1.959964, 5.0, 40.0])
def test_p_values_are_scipys(df: float, t: float) -> None:
    assert p_value(t, df) == pytest.approx(2 * stats.t.sf(abs(t), df), rel=1e-7, abs=1e-300)


@pytest.mark.parametrize("df", [1, 2, 3, 7.5, 30, 999, 1e5, 1e9])
@pytest.mark.parametrize("level", [0.01, 0.5, 0.9, 0.95, 0.999])
def test_quantiles_are_scipys(df: float, level: float) -> None:
    assert t_quantile(level, df) == pytest.approx(stats.t.ppf(0.5 + level / 2, df), rel=1e-7)


def test_what_cannot_be_said_is_not_said() -> None:
    assert math.isnan(p_value(2.0, 0))
    assert math.isnan(p_value(math.nan, 3))
    assert math.isnan(t_quantile(0.95, 0))
    assert p_value(math.inf, 3) == p_value(-math.inf, 3) == 0
    with pytest.raises(ValueError, match="level"):
        t_quantile(95, 3)
