"""Rates from wins, ties and losses: hand-made cases and what order averaging must keep."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.statistics.wins import (
    Outcome,
    average_orders,
    positional_agreement,
    tally,
    win_rate,
)

outcomes = st.lists(st.sampled_from(["win", "tie", "loss"]), min_size=1)
MIRROR: dict[Outcome, Outcome] = {"win": "loss", "tie": "tie", "loss": "win"}


def test_a_tie_is_half_a_win() -> None:
    assert win_rate(["win", "tie", "loss", "win"]) == 0.625
    assert tally(["win", "tie", "loss", "win"]) == (2, 1, 1)
    with pytest.raises(ValueError, match="no outcomes"):
        win_rate([])


@given(outcomes)
def test_the_others_win_rate_is_what_is_left(found: list[Outcome]) -> None:
    assert win_rate(found) + win_rate([MIRROR[o] for o in found]) == pytest.approx(1)
    assert tally(found).n == len(found)


def test_orders_weigh_the_same_however_often_each_was_judged() -> None:
    assert average_orders({"first": [1, 1, 1], "second": [0]}) == 0.5
    assert average_orders({"first": [1], "second": []}) == 1
    assert average_orders({"first": [], "second": []}) is None


def test_a_judge_who_takes_the_first_answer_never_agrees_with_itself() -> None:
    assert positional_agreement([("win", "loss")] * 4).rate == 0
    assert positional_agreement([("win", "win"), ("tie", "tie"), ("tie", "win")]) == (2, 3)
    with pytest.raises(ValueError, match="both orders"):
        _ = positional_agreement([]).rate
