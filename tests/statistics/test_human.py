"""The table of a human evaluation: hand-made votes, scipy's tests, and PandaLM's annotators."""

import csv
import json
from pathlib import Path

import pytest
from scipy import stats

from meadowlark.records import Grade, Verdict, Winner
from meadowlark.statistics.human import holm, mean_table, preference_table


def verdict(item: str, by: str, winner: Winner, criterion: str = "correctness") -> Verdict:
    return Verdict(item, criterion, "x", "y", "a", winner, f"human:{by}")


def test_three_raters_decide_by_majority_and_a_split_is_counted_as_one() -> None:
    votes = {
        "1": ["a", "a", "b"],
        "2": ["a", "tie", "b"],
        "3": ["b", "b", "unreadable"],
        "4": ["tie", "tie", "a"],
        "5": ["both_bad", "tie", "b"],
        "6": ["unreadable", "unreadable", "unreadable"],
    }
    rows = preference_table(
        verdict(item, by, winner)  # type: ignore[arg-type]
        for item, winners in votes.items()
        for by, winner in zip(("Ann", "Bo", "Cy"), winners, strict=True)
    )
    (row,) = rows
    assert (row.criterion, row.a, row.b, row.raters) == ("correctness", "x", "y", 3)
    assert (row.n, row.wins, row.ties, row.losses) == (5, 1, 3, 1)
    assert (row.undecided, row.unreadable) == (1, 1)
    assert row.win_rate == 0.5
    assert row.p_value == 1
    assert row.raw_agreement == pytest.approx((1 / 3 + 0 + 1 + 1 / 3 + 1 / 3) / 5)


def test_a_rater_who_flips_with_the_order_has_one_vote_for_a_tie() -> None:
    shown_second = Verdict("1", "correctness", "y", "x", "a", "a", "human:Ann")
    (row,) = preference_table([verdict("1", "Ann", "a"), shown_second])
    assert (row.wins, row.ties, row.losses, row.undecided) == (0, 1, 0, 0)
    assert (row.raw_agreement, row.alpha, row.ac1) == (None, None, None)


def test_criteria_and_pairs_stand_apart_and_all_wins_are_not_certain() -> None:
    rows = preference_table(
        verdict(str(item), "Ann", "a", criterion)
        for criterion in ("helpfulness", "correctness")
        for item in range(12)
    )
    assert [row.criterion for row in rows] == ["correctness", "helpfulness"]
    assert rows[0].win_rate == rows[0].high == 1
    assert rows[0].low == pytest.approx(0.7575, abs=1e-4)  # Wilson's
    assert rows[0].p_value == pytest.approx(2 / 2**12)
    assert json.loads(json.dumps(rows[0]._asdict()))["wins"] == 12


def test_pandalms_annotators_make_a_table_of_their_model_pairs(real_data: Path) -> None:
    named: dict[str, Winner] = {"0": "tie", "1": "a", "2": "b"}
    verdicts = []
    with (real_data / "judging/pandalm_humans/labels.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            first, second = row["cmp_key"].split("_")
            for k in (1, 2, 3):
                by, winner = f"human:{k}", named[row[f"annotator{k}"]]
                verdicts.append(Verdict(row["idx"], "overall", first, second, "a", winner, by))
    rows = preference_table(verdicts)
    assert sum(row.n for row in rows) == 999
    assert sum(row.ties for row in rows) == 105
    assert sum(row.undecided + row.unreadable for row in rows) == 0
    assert {sum(row.wins for row in rows) + sum(row.losses for row in rows)} == {422 + 472}
    for row in rows:
        assert row.low is not None
        assert row.high is not None
        assert row.low <= row.win_rate <= row.high
        assert row.alpha is not None
        assert 0.5 < row.alpha <= 1


def grade(item: int, model: str, points: float | None, by: str = "Ann") -> Grade:
    return Grade(str(item), "helpfulness", model, points, 5, f"human:{by}")


def test_means_and_paired_tests_of_scipy() -> None:
    x, y, z = [4, 5, 3, 4, 5, 2], [3, 4, 3, 2, 4, 2], [5, 5, 4, 5, 5, 3]
    grades = [
        grade(item, model, points)
        for model, all_points in (("x", x), ("y", y), ("z", z))
        for item, points in enumerate(all_points)
    ]
    means, pairs = mean_table(grades)
    low, high = stats.t.interval(0.95, 5, loc=sum(x) / 6, scale=stats.sem(x))
    assert means[0][:6] == pytest.approx(("helpfulness", "x", sum(x) / 6, low, high, 6))
    assert means[0].max_points == 5
    expected = [stats.ttest_rel(*pair).pvalue for pair in ((x, y), (x, z), (y, z))]
    assert [row.p_value for row in pairs] == pytest.approx(expected)
    assert [(row.a, row.b) for row in pairs] == [("x", "y"), ("x", "z"), ("y", "z")]
    assert [row.p_adjusted for row in pairs] == pytest.approx(holm(expected))


def test_raters_of_an_item_count_as_one_and_a_failed_grading_as_none() -> None:
    grades = [grade(1, "x", 5), grade(1, "x", 3, "Bo"), grade(2, "x", 1), grade(2, "x", None, "Bo")]
    means, pairs = mean_table([*grades, grade(1, "y", None)])
    (row,) = means
    assert (row.mean, row.n, row.raters, row.missing) == (2.5, 2, 2, 1)
    assert pairs == []
    alone, _ = mean_table([grade(1, "x", 5)])
    assert alone[0][2:6] == (5, None, None, 1)


def test_holms_adjustment_by_hand_and_of_statsmodels() -> None:
    p = [0.01, 0.04, 0.03, 0.005]
    assert holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1].tolist())
