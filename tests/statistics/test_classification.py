"""Accuracy and macro-F1 are those that PubMedQA publishes, and scikit-learn's where it is there."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.statistics.classification import accuracy, macro_f1

LABELS = ["yes", "no", "maybe"]


def test_the_human_predictions_of_pubmedqa_give_the_published_numbers(real_data: Path) -> None:
    """The leaderboard's single human: 78.00 accuracy, 72.19 macro-F1 on the official 500."""
    path = real_data / "judging" / "pubmedqa_human" / "test500.csv"
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    gold, human = ([row[key] for row in rows] for key in ("gold", "reasoning_required"))
    assert len(rows) == 500
    assert round(100 * accuracy(gold, human), 2) == 78.00
    assert round(100 * macro_f1(gold, human), 2) == 72.19


def test_an_item_without_an_answer_is_wrong_and_is_no_label_of_its_own() -> None:
    gold, predicted = ["yes", "no"], ["yes", ""]
    assert accuracy(gold, predicted) == 0.5
    assert macro_f1(gold, predicted, ["yes", "no"]) == 0.5


@given(st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS)), min_size=1))
def test_macro_f1_is_that_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    gold, predicted = zip(*pairs, strict=True)
    theirs = sklearn.f1_score(gold, predicted, average="macro", zero_division=0.0)
    assert macro_f1(gold, predicted) == pytest.approx(theirs)


def test_nothing_to_score_is_an_error() -> None:
    with pytest.raises(ValueError, match="no items"):
        accuracy([], [])
    with pytest.raises(ValueError, match="1 right labels but 2"):
        macro_f1(["yes"], ["yes", "no"])
