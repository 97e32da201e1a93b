"""Agreement between raters: irrCAC's published coefficients, PandaLM's, and other libraries'."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meadowlark.errors import UserError
from meadowlark.statistics.agreement import (
    COEFFICIENTS,
    WEIGHTS,
    Coefficient,
    agreement,
    agreement_weights,
    majority,
    without_ties,
)


def from_contingency(table: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """The ratings behind a table of two raters: ``table[i][j]`` items rated i by one, j by the
    other, as rows for :func:`agreement` (with ``categories=range(q)``)."""
    return [
        (i, j) for i, row in enumerate(table) for j, count in enumerate(row) for _ in range(count)
    ]


OURS = {
    "bp": "brennan_prediger",
    "conger": "cohen",
    "cohen": "cohen",
    "fleiss": "fleiss",
    "scott": "fleiss",
    "gwet": "gwet",
    "krippendorff": "krippendorff",
    "pa2": "raw",
}
FIELDS = {
    "coefficient_value": "value",
    "se": "standard_error",
    "ci_lo": "low",
    "ci_hi": "high",
    "p_value": "p_value",
    "pa": "observed",
    "pe": "expected",
}


def irrcac(folder: Path) -> list[tuple[dict[str, Any], Coefficient]]:
    """Every published row with our coefficient of the same data."""
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    data = json.loads((folder / "datasets.json").read_text(encoding="utf-8"))
    found = []
    for row in expected:
        name, weights = row["dataset"], row["weights"]
        if name.startswith("raw_"):
            ratings = [
                [value for column, value in unit.items() if column not in ("Group", "Units")]
                for unit in data[name]
            ]
            found.append((row, agreement(ratings, OURS[row["method"]], weights=weights)))
        else:
            table = data[f"table_{name}"]["values"]
            ours = agreement(
                [(i + 1, j + 1) for i, j in from_contingency(table)],
                OURS[row["method"]],
                categories=range(1, len(table) + 1),
                weights=weights,
                ddof=0,
            )
            found.append((row, ours))
    return found


def test_all_140_coefficients_of_irrcac_to_every_decimal_given(real_data: Path) -> None:
    rows = irrcac(real_data / "judging/agreement_irrcac")
    assert len(rows) == 140
    checked, impossible, wrong = 0, 0, []
    for row, ours in rows:
        for field, attribute in FIELDS.items():
            if field not in row:
                continue
            if row[field] > 1:  # a probability of 6.0, an upper limit of 3.0: slips of the file
                impossible += 1
                continue
            mine = getattr(ours, attribute)
            if field == "p_value" and row["method"] == "bp":
                mine /= 2  # irrCAC's p-value of Brennan-Prediger alone is one-sided
            half = 0.5e-5 if field == "p_value" else 0.5e-3
            checked += 1
            if not abs(mine - row[field]) <= half + 1e-9:
                wrong.append((row["test"], field, mine, row[field]))
    assert wrong == []
    assert (checked, impossible) == (709, 4)


def pandalm(folder: Path) -> list[list[str]]:
    with (folder / "judging/pandalm_humans/labels.csv").open(encoding="utf-8") as file:
        return [[row[f"annotator{k}"] for k in (1, 2, 3)] for row in csv.DictReader(file)]


def test_pandalms_three_annotators_agree_as_published(real_data: Path) -> None:
    ratings = pandalm(real_data)
    assert len(ratings) == 999
    pairs = [(0, 1), (0, 2), (1, 2)]
    kappas = [agreement([(r[i], r[j]) for r in ratings], "cohen").value for i, j in pairs]
    assert sorted(round(kappa, 2) for kappa in kappas) == [0.85, 0.86, 0.88]
    votes = [majority(row) for row in ratings]
    assert [votes.count(label) for label in ("0", "1", "2")] == [105, 422, 472]


def test_raters_who_choose_agree_better_than_those_who_may_tie(real_data: Path) -> None:
    ratings = pandalm(real_data)
    chosen = without_ties(ratings, ties=["0"])
    with_ties = agreement(ratings, "fleiss")
    without = agreement(chosen, "fleiss")
    assert without.value > with_ties.high
    assert agreement(chosen, "krippendorff").n < with_ties.n == 999


def random_ratings(seed: int, items: int = 60, raters: int = 4) -> list[list[int | None]]:
    """Ratings 1 to 4 that agree somewhat, a seventh of them missing, the first two never."""
    generator = np.random.default_rng(seed)
    truth = generator.integers(1, 5, size=(items, 1))
    rated = np.where(
        generator.random((items, raters)) < 0.6, truth, generator.integers(1, 5, (items, raters))
    )
    missing = generator.random((items, raters)) < 1 / 7
    missing[:, :2] = False
    return [
        [None if gone else int(value) for value, gone in zip(row, holes, strict=True)]
        for row, holes in zip(rated, missing, strict=True)
    ]


@pytest.mark.parametrize(
    ("metric", "weights"),
    [
        ("nominal", "identity"),
        ("interval", "quadratic"),
        ("ordinal", "krippendorff_ordinal"),
        ("ratio", "ratio"),
    ],
)
def test_nominal_and_weighted_alpha_of_the_krippendorff_package(metric: str, weights: str) -> None:
    krippendorff = pytest.importorskip("krippendorff")
    for seed in range(5):
        ratings = random_ratings(seed)
        data = np.array(ratings, dtype=float).T
        theirs = krippendorff.alpha(reliability_data=data, level_of_measurement=metric)
        assert np.isnan(data).any()
        assert agreement(ratings, weights=weights).value == pytest.approx(theirs)


@pytest.mark.parametrize("weights", ["identity", "linear", "quadratic"])
def test_cohens_kappa_of_scikit_learn(weights: str) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    for seed in range(5):
        ratings = [row[:2] for row in random_ratings(seed)]
        theirs = metrics.cohen_kappa_score(
            *zip(*ratings, strict=True), weights=None if weights == "identity" else weights
        )
        assert agreement(ratings, "cohen", weights=weights).value == pytest.approx(theirs)


def test_cohens_error_and_fleiss_kappa_of_statsmodels() -> None:
    rater = pytest.importorskip("statsmodels.stats.inter_rater")
    table = [[13, 0, 2], [1, 20, 7], [0, 4, 56]]
    theirs = rater.cohens_kappa(table)
    ours = agreement(from_contingency(table), "cohen", ddof=0)
    assert ours.value == pytest.approx(theirs.kappa)
    assert ours.standard_error == pytest.approx(math.sqrt(theirs.var_kappa))
    full = np.random.default_rng(1).integers(0, 3, size=(40, 5))
    counts, _ = rater.aggregate_raters(full)
    assert agreement(full.tolist(), "fleiss").value == pytest.approx(rater.fleiss_kappa(counts))


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_the_error_is_what_resampling_items_gives(coefficient: str) -> None:
    ratings = random_ratings(3, items=200)
    ours = agreement(ratings, coefficient)
    generator = np.random.default_rng(0)
    again = [
        agreement([ratings[i] for i in generator.integers(0, 200, 200)], coefficient).value
        for _ in range(400)
    ]
    assert ours.standard_error == pytest.approx(np.std(again), rel=0.12)
    assert ours.low < float(np.mean(again)) < ours.high


@pytest.mark.parametrize("coefficient", COEFFICIENTS)
def test_copies_of_an_item_in_one_cluster_are_worth_no_more_than_one(coefficient: str) -> None:
    ratings = [row[:3] for row in random_ratings(5)]
    ratings = [[1 if value is None else value for value in row] for row in ratings]
    once = agreement(ratings, coefficient)
    thrice = agreement(ratings * 3, coefficient, clusters=list(range(60)) * 3)
    # Alpha's small-sample term shrinks with the number of ratings, the others do not change.
    near = 0.01 if coefficient == "krippendorff" else 1e-9
    assert thrice.value == pytest.approx(once.value, rel=near)
    assert thrice.standard_error == pytest.approx(once.standard_error, rel=near)
    assert agreement(ratings * 3, coefficient).standard_error < 0.7 * once.standard_error


@pytest.mark.parametrize("coefficient", [name for name in COEFFICIENTS if name != "raw"])
def test_full_agreement_is_one_and_one_category_only_cannot_be_told(coefficient: str) -> None:
    full = agreement([("a", "a"), ("b", "b"), ("a", "a")], coefficient)
    assert (full.value, full.standard_error) == (1, 0)
    alike = agreement([("a", "a")] * 3, coefficient)
    assert math.isnan(alike.value)
    assert math.isnan(alike.standard_error)
    assert alike.observed == 1


def test_a_scale_named_in_full_lets_gwet_and_brennan_prediger_say_what_kappa_cannot() -> None:
    ratings = [("a", "a")] * 3
    scale = ["a", "b", "tie"]
    assert agreement(ratings, "gwet", categories=scale).value == 1
    assert agreement(ratings, "brennan_prediger", categories=scale).value == 1
    assert math.isnan(agreement(ratings, "cohen", categories=scale).value)


def test_kappas_paradox_high_raw_agreement_a_kappa_below_zero_and_a_high_ac1() -> None:
    ratings = from_contingency([[118, 5], [2, 0]])
    assert agreement(ratings, "raw").value == pytest.approx(0.944)
    by_chance = 0.984 * 0.96 + 0.016 * 0.04
    assert agreement(ratings, "cohen").value == pytest.approx((0.944 - by_chance) / (1 - by_chance))
    by_chance = 2 * 0.972 * 0.028
    assert agreement(ratings, "gwet").value == pytest.approx((0.944 - by_chance) / (1 - by_chance))
    assert agreement(ratings, "cohen").value < 0 < 0.94 < agreement(ratings, "gwet").value


def test_an_item_with_one_rating_counts_as_chance_and_not_as_agreement() -> None:
    ratings: list[list[str | None]] = [["a", "a"], ["b", "a"], ["b", "b"]]
    lone = [*ratings, ["b", None], [None, None]]
    assert agreement(lone, "raw").value == agreement(ratings, "raw").value
    assert agreement(lone, "raw").n == 4
    assert agreement(lone, "krippendorff") == agreement(ratings, "krippendorff")
    assert agreement(lone, "fleiss").expected != agreement(ratings, "fleiss").expected


def test_no_interval_leaves_what_is_possible() -> None:
    """Two items leave one degree of freedom, and an interval that reaches from -6 to 7."""
    ratings = [("a", "a"), ("a", "b")]
    assert (agreement(ratings, "raw").low, agreement(ratings, "raw").high) == (0.0, 1.0)
    assert agreement(ratings, "gwet").low == -1.0
    assert agreement([("a", "a"), ("b", "b")], "raw").low == 1.0


def test_one_item_has_a_value_and_no_error() -> None:
    alone = agreement([("a", "b", "b")], "fleiss")
    assert alone.value == pytest.approx(-0.5)
    assert math.isnan(alone.standard_error)
    assert math.isnan(alone.low)


def test_ratings_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(ValueError, match="two ratings"):
        agreement([("a", None), (None, "b")])
    with pytest.raises(ValueError, match="two ratings"):
        agreement([])
    with pytest.raises(ValueError, match="outside the categories: 'c'"):
        agreement([("a", "c")], categories=["a", "b"])
    with pytest.raises(ValueError, match="different numbers of raters"):
        agreement([("a", "b"), ("a", "b", "c")])
    with pytest.raises(UserError, match="krippendorff"):
        agreement([("a", "b")], "krippendorf")
    with pytest.raises(ValueError, match="2 items but 1 clusters"):
        agreement([("a", "b"), ("a", "a")], clusters=[1])


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_one_for_equals_and_fall_with_distance(name: str) -> None:
    weights = agreement_weights([1, 2, 3, 4], name)
    assert np.allclose(np.diag(weights), 1)
    assert np.allclose(weights, weights.T)
    assert weights.min() == pytest.approx(0)
    if name != "circular":  # in which the last category is a neighbour of the first
        assert (np.diff(weights[0]) <= 1e-12).all()


@pytest.mark.parametrize(
    ("votes", "winner"),
    [
        (["a", "b", "a"], "a"),
        (["a", "b", "tie"], None),
        (["a", None, None], "a"),
        (["a", "a", "b", "b"], None),
        ([None, math.nan], None),
        ([], None),
    ],
)
def test_the_majority_is_more_than_any_other_vote(votes: list[Any], winner: Any) -> None:
    assert majority(votes) == winner
    if winner is None:
        assert majority(votes, undecided="tie") == "tie"
