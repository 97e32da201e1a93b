"""Win rates: hand-made cases, what must hold for any verdicts, and the real eight files."""

import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadowlark.dataset import read_manifest, write_table
from meadowlark.errors import FolderDiffers, UserError
from meadowlark.evaluate.comparison import oriented
from meadowlark.evaluate.score import compute, score, score_verdicts
from meadowlark.records import Score, Verdict, from_table, to_json, to_table

TASK = "c (judge:j): against r"


def verdict(item: str, first: str, winner: str, **other: str) -> Verdict:
    values: dict[str, Any] = {"criterion": "c", "a": "m", "b": "r", "by": "judge:j", **other}
    return Verdict(item=item, shown_first=first, winner=winner, **values)  # type: ignore[arg-type]


def both(item: str, first: str, second: str, **other: str) -> list[Verdict]:
    return [verdict(item, "a", first, **other), verdict(item, "b", second, **other)]


def metrics(scores: list[Score], task: str = TASK) -> dict[str, Score]:
    return {s.metric: s for s in scores if s.task == task}


def test_win_rates_and_bounds_are_those_worked_out_by_hand() -> None:
    rows = [
        *both("1", "a", "a"),  # 1
        *both("2", "a", "b"),  # 1/2
        *both("3", "tie", "b"),  # 1/4
        *both("4", "unreadable", "both_bad"),  # 1/2 from the order that could be read
        *both("5", "unreadable", "unreadable"),  # in the bounds only
    ]
    scores, _, warnings = score_verdicts(rows)
    found = metrics(scores)
    values = {name: s.value for name, s in found.items()}
    assert values == {
        "win_rate": 2.25 / 4,
        "win_rate_unreadable_lost": (1 + 0.5 + 0.25 + 0.25 + 0) / 5,
        "win_rate_unreadable_won": (1 + 0.5 + 0.25 + 0.75 + 1) / 5,
        "wins": 3,
        "ties": 2,
        "losses": 2,
        "unreadable": 3,
        "win_rate_shown_first": 2.5 / 3,
        "win_rate_shown_second": 1.5 / 4,
        "positional_agreement": 1 / 3,
        "win_rate_alpacare": (1 + 0.5 + 0.25) / 3,  # an item with an unreadable order is dropped
        "win_rate_consistent": (1 + 0.5 + 0.5) / 3,  # MT-bench: a disagreement is a tie
    }
    assert (found["win_rate"].n, found["win_rate"].n_unreadable) == (5, 2)
    assert (found["wins"].n, found["wins"].n_unreadable) == (10, 3)
    assert (found["win_rate_shown_second"].n, found["win_rate_shown_second"].n_unreadable) == (5, 1)
    assert (found["positional_agreement"].n, found["positional_agreement"].n_unreadable) == (5, 2)
    assert warnings == [
        "1 of 5 items without a readable verdict, in the bounds only: m against r (c, judge:j)"
    ]


def test_a_judge_that_always_takes_the_first_gives_one_half_and_no_agreement() -> None:
    found = metrics(score_verdicts([v for i in "12345" for v in both(i, "a", "b")])[0])
    assert found["win_rate"].value == 0.5
    assert found["win_rate_shown_first"].value == 1
    assert found["win_rate_shown_second"].value == 0
    assert found["positional_agreement"].value == 0


def test_winning_everything_still_has_a_width() -> None:
    found = metrics(score_verdicts([v for i in "12345" for v in both(i, "a", "a")])[0])
    low, high = found["win_rate"].low, found["win_rate"].high
    assert high == 1
    assert low == pytest.approx(0.5655, abs=1e-4)  # Wilson's for 5 of 5


def test_a_single_order_is_scored_and_said() -> None:
    scores, _, warnings = score_verdicts([verdict("1", "a", "a"), *both("2", "a", "b")])
    assert metrics(scores)["win_rate"].value == 0.75
    assert metrics(scores)["positional_agreement"].n == 1
    assert "1 of 2 items judged in one order only" in warnings[0]


def test_a_repeated_verdict_does_not_outweigh_the_other_order() -> None:
    rows = [*both("1", "a", "b"), verdict("1", "a", "a"), verdict("1", "a", "a")]
    scores, _, warnings = score_verdicts(rows)
    assert metrics(scores)["win_rate"].value == 0.5
    assert "judged more than once" in warnings[0]


def test_nothing_readable_leaves_only_bounds() -> None:
    scores, _, warnings = score_verdicts(both("1", "unreadable", "unreadable"))
    found = metrics(scores)
    assert "win_rate" not in found
    assert found["win_rate_unreadable_lost"].value == 0
    assert found["win_rate_unreadable_won"].value == 1
    assert found["unreadable"].value == found["unreadable"].n == 2
    assert len(warnings) == 1


def test_the_headline_is_the_mean_over_references_whatever_their_size() -> None:
    rows = [
        *[v for i in "1234" for v in both(i, "a", "a")],
        *both("1", "b", "b", b="s"),
        *both("2", "b", "tie", b="s"),
    ]
    found = metrics(score_verdicts(rows)[0], "c (judge:j): average over 2 references")
    assert found["win_rate"].value == pytest.approx((1 + 0.125) / 2)
    assert found["win_rate"].n == 4
    low, high = found["win_rate"].low, found["win_rate"].high
    assert low is not None
    assert high is not None
    assert low <= found["win_rate"].value <= high


def test_judges_and_criteria_are_scored_apart() -> None:
    rows = [
        *both("1", "a", "a"),
        *both("1", "b", "b", by="human:ann"),
        *both("1", "a", "b", criterion="d"),
    ]
    tasks = {s.task: s.value for s in score_verdicts(rows)[0] if s.metric == "win_rate"}
    assert tasks == {
        TASK: 1,
        "c (human:ann): against r": 0,
        "d (judge:j): against r": 0.5,
    }


def test_a_model_can_be_chosen_from_either_side() -> None:
    rows = [*both("1", "a", "tie"), *both("2", "a", "a")]
    turned = [
        replace(
            v,
            a="r",
            b="m",
            shown_first="ab"[v.shown_first == "a"],
            winner={"a": "b"}.get(v.winner, v.winner),
        )
        for v in rows
    ]
    assert score_verdicts(turned, model="m")[0] == score_verdicts(rows)[0]
    assert oriented(oriented(rows, "r"), "m") == rows
    against_m = score_verdicts(rows, model="r")[0]
    assert next(s.value for s in against_m if s.metric == "win_rate") == 1 - 0.875
    with pytest.raises(UserError, match="unknown model 'q'"):
        score_verdicts(rows, model="q")


def test_mixed_sides_are_one_comparison_seen_from_the_name_more_often_first() -> None:
    rows = [verdict("1", "a", "a"), verdict("2", "a", "a"), verdict("1", "a", "b", a="r", b="m")]
    scores, kept, _ = score_verdicts(rows)
    assert {(v.a, v.b) for v in kept} == {("m", "r")}
    assert metrics(scores)["wins"].value == 3
    assert kept[2].shown_first == "b"


winners = st.sampled_from(["a", "b", "tie", "both_bad", "unreadable"])
some_verdicts = st.lists(
    st.builds(
        verdict,
        item=st.sampled_from("12345"),
        first=st.sampled_from("ab"),
        winner=winners,
        b=st.sampled_from("rs"),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=60, deadline=None)
@given(some_verdicts, st.randoms(use_true_random=False))
def test_for_any_verdicts_order_changes_nothing_and_bounds_hold(
    rows: list[Verdict], shuffler: random.Random
) -> None:
    scores, kept, _ = score_verdicts(rows, model="m")
    assert len(kept) == len(rows)
    shuffled = rows[:]
    shuffler.shuffle(shuffled)
    again = score_verdicts(shuffled, model="m")[0]
    stable = [s for s in scores if s.metric != "positional_agreement"]
    assert [s for s in again if s.metric != "positional_agreement"] == stable
    for task in {s.task for s in scores}:
        found = metrics(scores, task)
        assert all(math.isfinite(s.value) for s in found.values())
        if "win_rate_unreadable_lost" not in found:
            assert found.keys() <= {"strength", "position_effect"}
            continue
        lost, won = found["win_rate_unreadable_lost"], found["win_rate_unreadable_won"]
        if "win_rate" in found:
            assert lost.value - 1e-12 <= found["win_rate"].value <= won.value + 1e-12
        assert 0 <= lost.value <= won.value <= 1
        if "wins" in found:
            counted = sum(found[m].value for m in ("wins", "ties", "losses", "unreadable"))
            theirs = [v for v in rows if task.endswith(f"against {v.b}")]
            assert counted == len(theirs) == found["wins"].n
            assert found["unreadable"].value == sum(v.winner == "unreadable" for v in theirs)
            assert lost.n == len({v.item for v in theirs})
        for s in found.values():
            if s.low is not None and s.high is not None:
                assert 0 <= s.low <= s.high <= 1


def test_a_folder_of_scores_is_whole_and_repeatable(tmp_path: Path) -> None:
    rows = [v for i in range(20) for v in both(str(i), random.Random(i).choice("ab"), "tie")]
    lines = [json.dumps(to_json(v)) for v in rows]
    file = tmp_path / "v.jsonl"
    file.write_text("\n".join([*lines, "{broken"]))
    run = score([file], tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert manifest.rows == {"in": 41, "kept": 40, "rejected": {"not a verdict": 1}}
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert [Score(**s) for s in written] == score_verdicts(rows)[0]
    assert from_table(pq.read_table(tmp_path / "out" / "verdicts.parquet"), Verdict) == rows
    assert not run.done_before
    assert score([file], tmp_path / "out").done_before
    score([file], tmp_path / "again")
    assert read_manifest(tmp_path / "again").outputs == manifest.outputs
    with pytest.raises(FolderDiffers, match="seed"):
        score([file], tmp_path / "out", seed=1)


def test_the_same_verdicts_twice_are_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_table(tmp_path / name / "verdicts.parquet", to_table(both("1", "a", "b"), Verdict))
    with pytest.raises(UserError, match="would count twice"):
        compute([tmp_path / "one", tmp_path / "two"])


@pytest.mark.parametrize("stripped", [False, True])
def test_the_real_eight_files_give_their_published_win_rates(
    real_data: Path, tmp_path: Path, stripped: bool
) -> None:
    files = sorted((real_data / "judging" / "verdicts").glob("*.json"))
    if stripped:
        for file in files:
            kept = ("model_output_id", "model_response_first", "response")
            rows = [{key: row[key] for key in kept} for row in json.loads(file.read_text())]
            (tmp_path / file.name).write_text(json.dumps(rows))
        files = sorted(tmp_path.glob("*.json"))
    assert len(files) == 8
    scores = compute(files).scores
    rates = {s.task.partition(": ")[2]: s for s in scores if s.metric == "win_rate"}
    in_percent = {task: round(100 * s.value, 1) for task, s in rates.items()}
    assert in_percent == {
        "against claude-2": 20.7,
        "against gpt-3.5-turbo": 47.9,
        "against gpt-4": 44.2,
        "against text-davinci-003": 91.2,
        "average over 4 references": 51.0,
    }
    assert {s.n for s in rates.values()} == {216}
    assert all(s.value == 0 for s in scores if s.metric == "unreadable")


def test_peoples_verdicts_make_the_table_of_a_human_evaluation(tmp_path: Path) -> None:
    rows = [
        *(verdict(str(n), "a", "a", by=by) for n in range(6) for by in ("human:x", "human:y")),
        *(verdict(str(n), "a", "b", by="judge:j") for n in range(6)),
    ]
    write_table(tmp_path / "rows.parquet", to_table(rows, Verdict))
    score([tmp_path / "rows.parquet"], tmp_path / "out")
    (row,) = json.loads((tmp_path / "out" / "human_evaluation.json").read_text())
    assert (row["a"], row["b"], row["raters"], row["n"], row["wins"]) == ("m", "r", 2, 6, 6)
    assert row["p_value"] == pytest.approx(2 * 0.5**6)  # the exact sign test of 6 to 0
    assert row["raw_agreement"] == 1
    write_table(tmp_path / "judged.parquet", to_table(rows[-6:], Verdict))
    score([tmp_path / "judged.parquet"], tmp_path / "judged")
    assert not (tmp_path / "judged" / "human_evaluation.json").exists()


def test_a_person_who_votes_again_counts_once_and_the_first_vote_is_kept_aside(
    tmp_path: Path,
) -> None:
    again = verdict("1", "a", "a", by="human:x")
    rows = [
        verdict("1", "a", "b", by="human:x"),
        *(verdict("1", "a", "b", by=f"human:{name}") for name in "yz"),
        *(verdict("2", "a", "tie", by=f"human:{name}") for name in "xyz"),
        again,
        again,
    ]
    file = tmp_path / "verdicts.jsonl"
    file.write_text("\n".join(json.dumps(to_json(v)) for v in rows))
    before = file.read_bytes()
    score([file], tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    reason = "replaced by a later vote of the same person"
    assert manifest.rows == {"in": 8, "kept": 6, "rejected": {reason: 2}}
    assert (
        f"2 of the verdicts by human:x are {reason}, and count nowhere; see rejected.parquet"
    ) in manifest.warnings
    assert not [line for line in manifest.warnings if "judged more than once" in line]
    aside = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [(row["by"], row["winner"], row["detail"]) for row in aside] == [
        ("human:x", "b", "human:x said later: m"),
        ("human:x", "a", "human:x said later: m"),
    ]
    (table,) = json.loads((tmp_path / "out" / "human_evaluation.json").read_text())
    assert (table["raters"], table["n"], table["losses"], table["ties"]) == (3, 2, 1, 1)
    assert file.read_bytes() == before


@pytest.mark.parametrize("option", ["reading", "groups"])
def test_an_option_for_verdicts_is_refused_for_grades(tmp_path: Path, option: str) -> None:
    (tmp_path / "grades.parquet").write_bytes(b"")
    values: dict[str, Any] = {option: "strict" if option == "reading" else tmp_path}
    with pytest.raises(UserError, match=f"--{option} is for verdicts"):
        compute([tmp_path], **values)
