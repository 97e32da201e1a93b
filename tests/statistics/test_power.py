"""How many prompts it takes: simulation, arithmetic by hand, and the formula's own inverse."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.statistics.power import (
    detectable_win_rate,
    power_of,
    prompts_needed,
)


@pytest.mark.parametrize(("rate", "ties"), [(0.6, 0.0), (0.55, 0.4), (0.4, 0.2)])
def test_so_many_prompts_find_the_difference_as_often_as_promised(rate: float, ties: float) -> None:
    n = prompts_needed(rate, ties, power=0.8)
    generator = np.random.default_rng(1)
    share_won = rate - ties / 2
    drawn = generator.random((4000, n))
    scores = np.where(drawn < share_won, 1.0, np.where(drawn < share_won + ties, 0.5, 0.0))
    signs = 2 * scores - 1
    z = signs.sum(axis=1) / np.sqrt((signs**2).sum(axis=1))  # the sign test, ties left out
    found = (np.abs(z) > 1.959964).mean()
    assert found == pytest.approx(0.8, abs=0.03)


def test_prompts_needed_are_those_worked_out_by_hand() -> None:
    # n = (1.95996/2 + 0.84162·√(1/4 - δ²))²/δ² by hand
    assert prompts_needed(0.6) == 194
    assert prompts_needed(0.55) == 783
    assert prompts_needed(0.55, 0.5) == 391
    assert prompts_needed(0.45) == prompts_needed(0.55)


rates = st.floats(0.51, 0.74)
shares = st.floats(0, 0.5)


@given(rates, shares, st.sampled_from([0.8, 0.9]))
def test_needed_power_and_detectable_are_one_formula(
    rate: float, ties: float, power: float
) -> None:
    n = prompts_needed(rate, ties, power=power)
    assert power_of(n, rate, ties) >= power - 1e-6
    assert power_of(n - 1, rate, ties) < power + 1e-6
    found = detectable_win_rate(n, ties, power=power)
    assert found <= rate + 1e-6
    assert detectable_win_rate(max(n - 1, 1), ties, power=power) >= rate - 1e-6 or n == 1


def test_the_table_of_the_guide_to_judging() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "judging.md").read_text(encoding="utf-8")
    row = r"^\| ([\d,]+)[^|]* \| ([\d.]+) % \| \| (\d+) \| ([\d,]+) \|$"
    rows = re.findall(row, guide, re.MULTILINE)
    assert len(rows) == 4
    for prompts, rate, points, needed in rows:
        found = 100 * detectable_win_rate(int(prompts.replace(",", "")))
        assert f"{found:.1f}" == rate
        assert f"{prompts_needed(0.5 + int(points) / 100):,}" == needed


def test_alpacares_216_prompts_show_a_win_rate_of_60_per_cent_and_not_one_of_55() -> None:
    assert 0.55 < detectable_win_rate(216) < 0.6
    assert power_of(216, 0.55) < 0.35


def test_what_cannot_be_planned_is_refused() -> None:
    with pytest.raises(ValueError, match="no number of prompts"):
        prompts_needed(0.5)
    with pytest.raises(ValueError, match=r"between 0\.3 and 0\.7, not 0\.8"):
        prompts_needed(0.8, 0.6)
    with pytest.raises(ValueError, match="ties"):
        prompts_needed(0.6, 1.0)
    with pytest.raises(ValueError, match="power"):
        prompts_needed(0.6, power=80)
    with pytest.raises(ValueError, match="negative"):
        power_of(-1, 0.6)
    assert math.isnan(detectable_win_rate(2))
    assert math.isnan(detectable_win_rate(0))
