"""Bradley-Terry ratings: Agresti's two published examples, choix, and what must hold for any."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meadowlark.errors import UserError
from meadowlark.records import Verdict
from meadowlark.statistics.ratings import Contest, bradley_terry, contests


def published(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    return found


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_agrestis_journals_to_every_digit(real_data: Path) -> None:
    folder = real_data / "judging/bradley_terry"
    expected = published(folder)["citations"]
    cited = {row["cited"]: row for row in rows(folder / "citations.csv")}
    names = list(cited)
    played = [
        Contest(a, b, float(cited[a][b]), float(cited[a][b]) + float(cited[b][a]))
        for i, a in enumerate(names)
        for b in names[:i]
    ]
    found = bradley_terry(played, expected["ref"])
    assert len(found.ratings) == 4
    for name in ("Comm Statist", "JASA", "JRSS-B"):
        assert round(found.rating(name).strength, 4) == expected[name]
    assert round(found.deviance, 3) == expected["residual_deviance"]
    assert found.ratings[0].name == "JRSS-B"


@pytest.mark.parametrize("home", [False, True])
def test_agrestis_baseball_with_and_without_home_to_every_digit(
    real_data: Path, home: bool
) -> None:
    folder = real_data / "judging/bradley_terry"
    expected = dict(published(folder)["baseball_home" if home else "baseball"])
    expected.pop("ref", None)
    played = [
        Contest(
            row["home.team"],
            row["away.team"],
            int(row["home.wins"]),
            int(row["home.wins"]) + int(row["away.wins"]),
        )
        for row in rows(folder / "baseball.csv")
    ]
    found = bradley_terry(played, "Baltimore", position=home)
    if home:
        assert found.position is not None
        assert found.position_error is not None
        both = [found.position, found.position_error]
        assert [round(number, 4) for number in both] == expected.pop("at.home")
    else:
        assert found.position is None
    ours = {
        r.name: [round(r.strength, 4), round(r.standard_error, 4)]
        for r in found.ratings
        if r.name != "Baltimore"
    }
    assert ours == expected


def simulated(seed: int, prompts: int, first: float = 0.0) -> list[Contest]:
    """Four models of known strength, each pair judged in both orders on every prompt."""
    generator = np.random.default_rng(seed)
    strength = {"w": 0.0, "x": 0.4, "y": -0.7, "z": 1.1}
    played = []
    for item in range(prompts):
        for a in strength:
            for b in strength:
                if a == b:
                    continue
                logit = strength[a] - strength[b] + first
                won = generator.random() < 1 / (1 + math.exp(-logit))
                played.append(Contest(a, b, float(won), item=str(item)))
    return played


def test_strengths_of_choix() -> None:
    choix = pytest.importorskip("choix")
    played = simulated(1, 40)
    names = ["w", "x", "y", "z"]
    pairs = [
        (names.index(c.first), names.index(c.second))
        if c.points
        else (names.index(c.second), names.index(c.first))
        for c in played
    ]
    theirs = choix.opt_pairwise(4, pairs, method="Newton-CG", tol=1e-9)
    ours = [bradley_terry(played, "w").rating(name).strength for name in names]
    assert ours == pytest.approx((theirs - theirs[0]).tolist(), abs=1e-5)


def test_a_judge_who_prefers_what_comes_first_is_found_out_and_the_ratings_stay() -> None:
    found = bradley_terry(simulated(2, 500, first=0.8), "w", position=True)
    assert found.position == pytest.approx(0.8, abs=0.1)
    assert found.rating("z").strength == pytest.approx(1.1, abs=0.15)
    assert [r.name for r in found.ratings] == ["z", "x", "w", "y"]


def test_swapping_both_names_of_a_contest_changes_nothing() -> None:
    played = simulated(3, 20, first=0.5)
    swapped = [Contest(c.second, c.first, c.n - c.points, c.n, -c.shown, c.item) for c in played]
    ours, theirs = (bradley_terry(c, "w", position=True) for c in (played, swapped))
    assert ours.position == pytest.approx(theirs.position)
    for name in "xyz":
        one, other = ours.rating(name), theirs.rating(name)
        assert one.strength == pytest.approx(other.strength)
        assert one.standard_error == pytest.approx(other.standard_error)


def test_another_reference_moves_all_strengths_alike_and_turns_a_difference_around() -> None:
    played = simulated(4, 30)
    from_w, from_z = bradley_terry(played, "w"), bradley_terry(played, "z")
    for name in "wxyz":
        moved = from_z.rating(name).strength - from_w.rating(name).strength
        assert moved == pytest.approx(-from_w.rating("z").strength)
    assert from_z.rating("w").standard_error == pytest.approx(from_w.rating("z").standard_error)
    assert from_z.deviance == pytest.approx(from_w.deviance)


def test_a_tie_is_half_a_win_and_half_a_loss() -> None:
    ties = bradley_terry([Contest("a", "b", 0.5), Contest("a", "b", 1.0)])
    halves = bradley_terry([Contest("a", "b", 1.5, 2)])
    assert ties.rating("b").strength == pytest.approx(-math.log(3))
    assert halves.rating("b").strength == pytest.approx(-math.log(3))
    assert halves.rating("b").win_rate == pytest.approx(0.25)


def test_two_models_rate_by_the_log_odds_with_its_textbook_error() -> None:
    found = bradley_terry([Contest("b", "a", 30, 40)]).rating("b")
    assert found.strength == pytest.approx(math.log(3))
    assert found.standard_error == pytest.approx(math.sqrt(1 / 30 + 1 / 10))


def test_repeated_verdicts_on_a_prompt_are_worth_no_more_than_one() -> None:
    played = simulated(5, 60)
    once = bradley_terry(played, "w", by_item=True).rating("z")
    thrice = bradley_terry(played * 3, "w", by_item=True).rating("z")
    assert thrice.standard_error == pytest.approx(once.standard_error)
    naive = bradley_terry(played * 3, "w").rating("z")
    assert naive.standard_error == pytest.approx(
        bradley_terry(played, "w").rating("z").standard_error / math.sqrt(3)
    )


def test_what_has_no_finite_answer_is_refused_and_a_ridge_gives_one() -> None:
    swept = [Contest("a", "b", 5, 5), Contest("b", "c", 2, 4)]
    with pytest.raises(ValueError, match="won or lost every comparison"):
        bradley_terry(swept)
    assert bradley_terry(swept, ridge=0.1).ratings[0].name == "a"
    with pytest.raises(ValueError, match="nothing compares c, d with a"):
        bradley_terry([Contest("a", "b", 1, 2), Contest("c", "d", 1, 2)])
    with pytest.raises(ValueError, match="position"):
        bradley_terry([Contest("a", "b", 1, 3)], position=True)
    with pytest.raises(ValueError, match="no comparisons"):
        bradley_terry([])
    with pytest.raises(ValueError, match="not a contest"):
        bradley_terry([Contest("a", "a", 1)])
    with pytest.raises(UserError, match="zz"):
        bradley_terry([Contest("a", "b", 1, 2)], "zz")


def test_verdicts_become_contests_whoever_is_named_a() -> None:
    one = Verdict("1", "preference", "x", "y", "b", "a", "judge:j")
    same = Verdict("1", "preference", "y", "x", "a", "b", "judge:j")
    lost = Verdict("2", "preference", "x", "y", "a", "unreadable", "judge:j")
    bad = Verdict("3", "preference", "x", "y", "a", "both_bad", "judge:j")
    first, second, third = contests([one, same, lost, bad])
    assert first == ("x", "y", 1, 1, -1, "1")
    assert second == ("y", "x", 0, 1, 1, "1")
    assert third == ("x", "y", 0.5, 1, 1, "3")
