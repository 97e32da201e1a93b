"""Who agrees with whom: votes made of verdicts, and PandaLM's judges against its annotators."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from meadowlark.records import Verdict, Winner
from meadowlark.statistics.raters import (
    REPLACED,
    AgreementRow,
    Unit,
    agreement_table,
    last_votes,
    votes,
)


def verdict(
    item: str, by: str, winner: Winner, a: str = "x", b: str = "y", first: str = "a"
) -> Verdict:
    return Verdict(item, "preference", a, b, first, winner, by)  # type: ignore[arg-type]


def test_a_vote_is_for_a_model_however_the_pair_was_written_and_shown() -> None:
    (found,) = votes(
        [
            verdict("1", "human:Ann", "a"),
            verdict("1", "judge:j", "b", "y", "x"),
            verdict("1", "judge:j", "a", first="b"),
            verdict("2", "judge:j", "a"),
            verdict("2", "judge:j", "a", "y", "x"),
            verdict("3", "human:Ann", "both_bad"),
            verdict("3", "judge:j", "unreadable"),
        ]
    )
    assert found.units == [Unit("1", "x", "y"), Unit("2", "x", "y"), Unit("3", "x", "y")]
    assert found.raters == ["human:Ann", "judge:j"]
    assert found.table == [["a", "a"], [None, "tie"], ["tie", None]]


def test_a_persons_last_vote_counts_and_the_earlier_ones_are_told() -> None:
    first, second = verdict("1", "human:Ann", "a"), verdict("1", "human:Ann", "b")
    swapped = verdict("1", "human:Ann", "tie", "y", "x", first="b")  # x shown first here too
    others = [
        verdict("1", "human:Bo", "a"),
        verdict("2", "human:Ann", "a"),
        verdict("1", "human:Ann", "a", first="b"),  # the other order is no second vote
        verdict("1", "human:Ann", "unreadable"),
        verdict("1", "judge:j", "a"),
        verdict("1", "judge:j", "b"),  # a judge model's second draw is one more draw
    ]
    kept, replaced = last_votes([first, others[0], second, *others[1:]])
    assert kept == [others[0], second, *others[1:]]
    assert [(one.row, one.reason, one.detail) for one in replaced] == [
        (first, REPLACED, "human:Ann said later: y")
    ]
    kept, replaced = last_votes([first, second, swapped])
    assert kept == [swapped]
    assert [one.detail for one in replaced] == ["human:Ann said later: tie"] * 2


NAMED: dict[str, Winner] = {"0": "tie", "Tie": "tie", "1": "a", "2": "b", "garbage": "unreadable"}
BY = {
    "annotator1": "human:1",
    "annotator2": "human:2",
    "annotator3": "human:3",
    "gpt35": "judge:gpt-3.5",
    "pandalm7b": "judge:pandalm",
}


def pandalm(folder: Path) -> Iterator[Verdict]:
    with (folder / "judging/pandalm_humans/labels.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            a, b = row["cmp_key"].split("_")
            for column, by in BY.items():
                yield verdict(row["idx"], by, NAMED[row[column]], a, b)


def by_name(rows: list[AgreementRow]) -> dict[tuple[str, bool, str], AgreementRow]:
    return {(row.between, row.ties, row.coefficient): row for row in rows}


def test_pandalms_judges_agree_with_the_majority_less_than_people_do(real_data: Path) -> None:
    rows = by_name(agreement_table(pandalm(real_data)))
    of_judge = "judge:pandalm and the people's majority"
    assert rows[of_judge, True, "raw"].value == pytest.approx(667 / 999)
    assert rows[of_judge, True, "raw"].n == 999
    unread = rows["judge:gpt-3.5 and the people's majority", True, "raw"]
    assert unread.n == 999 - 25  # garbage is missing, and neither agreement nor a tie
    assert unread.value == pytest.approx(697 / 974)
    for name in ("raw", "krippendorff", "gwet", "fleiss", "brennan_prediger"):
        people, judge = rows["people", True, name], rows[of_judge, True, name]
        assert people.low is not None
        assert judge.high is not None
        assert judge.high < people.low
        assert people.raters == 3
        no_ties = rows["people", False, name]
        assert no_ties.value is not None
        assert people.value is not None
        assert no_ties.value > people.value
        assert no_ties.n < people.n == 999
    assert ("people", True, "cohen") not in rows
    assert rows[of_judge, True, "cohen"].value is not None
    assert rows["judges", True, "raw"].raters == 2
    assert len(rows) == 2 * (5 + 6 + 6 + 6)


def test_one_rater_agrees_with_nobody() -> None:
    assert agreement_table([verdict("1", "human:Ann", "a")]) == []
    assert agreement_table([]) == []
    apart = [verdict("1", "human:Ann", "a"), verdict("2", "human:Bo", "a")]
    assert agreement_table(apart) == []


def test_one_person_is_the_majority_and_what_cannot_be_told_is_none() -> None:
    both = [verdict(item, by, "a") for item in "12" for by in ("human:Ann", "judge:j")]
    rows = by_name(agreement_table(both))
    between = "judge:j and the people's majority"
    assert {name for name, _, _ in rows} == {between}
    assert rows[between, True, "raw"].value == 1
    assert rows[between, True, "cohen"].value is None
    assert rows[between, True, "gwet"].value == 1
    assert "NaN" not in json.dumps([row._asdict() for row in rows.values()])


def test_a_prompt_judged_against_many_references_is_one_cluster() -> None:
    pattern: list[tuple[Winner, Winner]] = [("a", "a"), ("a", "b"), ("b", "b"), ("tie", "b")]
    one = [
        verdict(str(item), by, winner, "x", f"y{reference}")
        for item in range(12)
        for reference in range(3)
        for by, winner in zip(("human:A", "human:B"), pattern[item % 4], strict=True)
    ]
    alone = [v for v in one if v.b == "y0"]
    wide, narrow = by_name(agreement_table(one)), by_name(agreement_table(alone))
    key = ("people", True, "gwet")
    assert (wide[key].n, wide[key].items) == (36, 12)
    assert wide[key].standard_error == pytest.approx(narrow[key].standard_error)
