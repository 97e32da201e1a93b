"""Rates from wins, ties and losses: AlpacaEval's and LLMBar's published numbers to the last digit,
and what order averaging must keep."""

import csv
import json
import math
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.statistics.agreement import agreement
from meadowlark.statistics.wins import (
    Outcome,
    average_orders,
    positional_agreement,
    preference_rate,
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


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(
    ("version", "models", "numbers"), [("alpaca_eval1", 52, 364), ("alpaca_eval2", 38, 266)]
)
def test_alpaca_evals_rates_and_errors_to_1e_9_for_every_model_present(
    real_data: Path, version: str, models: int, numbers: int
) -> None:
    folder = real_data / "judging" / version
    preferences: dict[str, list[float | None]] = defaultdict(list)
    for row in rows(folder / "annotations_compact.csv"):
        given = float(row["preference"] or "nan")
        preference = 0.5 if given in (0.0, 1.5) else given - 1  # both 0 and 1.5 mean a draw
        preferences[row["model"]].append(None if math.isnan(given) else preference)
    published = {row[""]: row for row in rows(folder / "leaderboard.csv")}
    checked = 0
    compared = preferences.keys() & published.keys()
    for model in compared:
        ours = preference_rate(preferences[model])
        for field, mine in {
            "win_rate": 100 * ours.win_rate,
            "standard_error": 100 * ours.standard_error,
            "discrete_win_rate": 100 * ours.discrete_win_rate,
            "n_wins": ours.wins,
            "n_wins_base": ours.losses,
            "n_draws": ours.ties,
            "n_total": ours.n,
        }.items():
            assert abs(mine - float(published[model][field])) < 1e-9, (model, field)
            checked += 1
    assert (len(compared), checked) == (models, numbers)


def test_llmbars_accuracies_and_agreement_of_both_orders_in_all_499_runs(real_data: Path) -> None:
    folder = real_data / "judging/llmbar_both_orders"
    runs: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows(folder / "winners.csv"):
        runs[row["run"]].append(row)
    published = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    assert len(published) == 499
    for run, expected in published.items():
        found = runs[run]
        right = [[row[order] == row["label"] for row in found] for order in ORDERS]
        # LLMBar counts two orders that could not be read as equal; of the others ours is theirs.
        nothing = sum(not row[ORDERS[0]] and not row[ORDERS[1]] for row in found)
        read = [pair for row in found if all(pair := (row[ORDERS[0]], row[ORDERS[1]]))]
        same = positional_agreement([(NAMED[a], NAMED[b]) for a, b in read])
        for field, count in {
            "correct_False": sum(right[0]),
            "correct_True": sum(right[1]),
            "correct_both": sum(map(all, zip(*right, strict=True))),
            "equal": same.same + nothing,
        }.items():
            assert expected[field].startswith(f"{count} / {len(found)} = "), (run, field)
            assert expected[field].endswith(f"{count / len(found) * 100}%"), (run, field)
        # Its kappa asks whether the first output won, so an unreadable verdict is a "no" there.
        first_won = [(row[ORDERS[0]] == "1", row[ORDERS[1]] == "1") for row in found]
        kappa = agreement(first_won, "cohen", categories=[False, True]).value
        kappa = 0.0 if math.isnan(kappa) else kappa
        assert kappa == pytest.approx(expected["kappa_agreement"], abs=1e-12), run


ORDERS = ("winner_order1", "winner_order2")
NAMED: dict[str, Outcome] = {"1": "win", "2": "loss"}


def test_a_preference_rate_counts_what_could_not_be_read_and_needs_something() -> None:
    found = preference_rate([1, 0.5, 0.2, None, math.nan])
    assert found[3:] == (1, 1, 1, 3, 2)
    assert found.win_rate == pytest.approx(1.7 / 3)
    assert found.discrete_win_rate == 0.5
    assert math.isnan(preference_rate([1]).standard_error)
    with pytest.raises(ValueError, match="no values"):
        preference_rate([None])
    with pytest.raises(ValueError, match="between 0 and 1"):
        preference_rate([1.5])
