"""Length-controlled win rates: AlpacaEval 2's published ones, and what the number must mean."""

import csv
import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from meadowlark.statistics.length_control import (
    Anchors,
    LengthControlled,
    length_controlled_win_rate,
)

Rows = list[dict[str, str]]


def table(path: Path) -> Rows:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class Published:
    """AlpacaEval 2's annotations by model, its prompts' difficulty, anchors and leaderboard."""

    def __init__(self, folder: Path) -> None:
        gamed = table(folder / "df_gamed_recovered.csv")
        self.difficulty = {row["index"]: float(row["instruction_difficulty"]) for row in gamed}
        self.anchors = Anchors(
            [float(row["preference"]) for row in gamed],
            [math.tanh(float(row["std_delta_len"])) for row in gamed],
            [float(row["instruction_difficulty"]) for row in gamed],
        )
        self.models: dict[str, Rows] = defaultdict(list)
        for row in table(folder / "annotations_compact.csv"):
            self.models[row["model"]].append(row)
        self.rates = {
            row[""]: float(row["length_controlled_winrate"])
            for row in table(folder / "leaderboard.csv")
            if row["length_controlled_winrate"]
        }

    def refit(self, model: str, by_position: bool = False) -> LengthControlled:
        rows = self.models[model]
        in_order = list(self.difficulty.values())
        return length_controlled_win_rate(
            [float(row["preference"]) - 1 for row in rows],
            [float(row["len_1"]) - float(row["len_2"]) for row in rows],
            in_order[: len(rows)] if by_position else [self.difficulty[r["idx"]] for r in rows],
            self.anchors,
        )


@pytest.fixture(scope="module")
def published(real_data: Path) -> Published:
    return Published(real_data / "judging/alpaca_eval2")


def test_every_model_of_alpaca_eval_2_within_035_points_of_its_published_rate(
    published: Published,
) -> None:
    complete = {m for m, rows in published.models.items() if len(rows) == 805}
    compared = sorted(complete & published.rates.keys() - {"gpt4_1106_preview"})
    assert len(compared) == 31
    off = {m: 100 * published.refit(m).value - published.rates[m] for m in compared}
    assert max(map(abs, off.values())) < 0.1, off  # and within 0.35 as asked


def test_rates_of_models_that_lack_a_prompt_were_published_with_difficulties_joined_by_row(
    published: Published,
) -> None:
    lacking = [m for m, rows in published.models.items() if len(rows) < 805]
    assert len(lacking) == 6
    shifted = []
    for model in lacking:
        by_row = published.refit(model, by_position=True)
        by_id = published.refit(model)
        assert 100 * by_row.value == pytest.approx(published.rates[model], abs=0.1)
        # Joined by id the difficulty of a prompt matters as it does for all other models.
        assert 0.85 < by_id.difficulty < 1.05
        shifted.append(published.rates[model] - 100 * by_id.value)
    assert max(map(abs, shifted)) > 2.5


def test_the_baseline_against_itself_is_one_half() -> None:
    same = length_controlled_win_rate([0.5] * 10, [0.0] * 10)
    assert same.value == pytest.approx(0.5)
    assert (same.length, same.n) == (0, 10)


def made(
    seed: int, n: int = 4000, skill: float = -0.5, per_length: float = -1.2
) -> tuple[list[float | None], list[float]]:
    """Verdicts of a judge who likes length, on a model that writes more than the baseline."""
    generator = np.random.default_rng(seed)
    delta = generator.normal(-300, 400, n)
    logit = skill + per_length * np.tanh(delta / delta.std(ddof=1))
    wins = generator.random(n) < 1 / (1 + np.exp(-logit))
    return [float(win) for win in wins], delta.tolist()


def test_what_length_won_is_taken_away() -> None:
    preferences, delta = made(0)
    found = length_controlled_win_rate(preferences, delta)
    raw = float(np.mean([p for p in preferences if p is not None]))
    assert raw > 0.5
    assert found.value == pytest.approx(1 / (1 + math.exp(0.5)), abs=0.03)
    assert found.length == pytest.approx(-1.2, abs=0.2)
    assert found.low < 1 / (1 + math.exp(0.5)) < found.high


def test_the_error_is_what_resampling_prompts_gives() -> None:
    preferences, delta = made(1, n=300)
    found = length_controlled_win_rate(preferences, delta)
    generator = np.random.default_rng(2)
    again = []
    for _ in range(300):
        drawn = generator.integers(0, 300, 300)
        again.append(
            length_controlled_win_rate(
                [preferences[i] for i in drawn], [delta[i] for i in drawn]
            ).value
        )
    assert found.standard_error == pytest.approx(np.std(again), rel=0.12)


def test_prompts_judged_twice_are_no_surer_when_named() -> None:
    preferences, delta = made(3, n=200)
    once = length_controlled_win_rate(preferences, delta)
    twice = length_controlled_win_rate(preferences * 2, delta * 2, clusters=[*range(200)] * 2)
    assert twice.value == pytest.approx(once.value, abs=1e-3)
    assert twice.standard_error == pytest.approx(once.standard_error, rel=0.01)


def test_unreadable_verdicts_are_not_fitted_and_all_wins_stay_finite() -> None:
    preferences, delta = made(4, n=200)
    half = [p if i % 2 else None for i, p in enumerate(preferences)]
    assert length_controlled_win_rate(half, delta).n == 100
    won = length_controlled_win_rate([1.0] * 50, np.linspace(-9, 9, 50).tolist())
    assert 0.99 < won.value < 1
    assert math.isfinite(won.standard_error)
    with pytest.raises(ValueError, match="no preferences"):
        length_controlled_win_rate([None, None], [1, 2])
    with pytest.raises(ValueError, match="2 preferences, 1 lengths"):
        length_controlled_win_rate([1, 0], [1])
    with pytest.raises(ValueError, match="between 0 and 1"):
        length_controlled_win_rate([2.0, 1.0], [1, 3])
