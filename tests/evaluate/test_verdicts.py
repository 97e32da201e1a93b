"""Reading verdicts: the layouts of files, and the real transcripts."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from meadowlark.dataset import write_table
from meadowlark.errors import UserError
from meadowlark.evaluate.score import compute
from meadowlark.evaluate.verdicts import names_from, read_verdicts
from meadowlark.records import Verdict, to_json, to_table


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Tuned-7b__Test-generations-ref-gpt-4_model_first.json", ("Tuned-7b", "gpt-4", True)),
        (
            "Tuned__Test-generations-ref-text-davinci-003_reference_first.json",
            ("Tuned", "text-davinci-003", False),
        ),
        ("org__tuned__test-ref-gpt-3.5_model_first.jsonl", ("org__tuned", "gpt-3.5", True)),
        ("tuned-ref-claude-2.json", ("tuned", "claude-2", None)),
        ("tuned_model_first.json", ("tuned", "reference", True)),
        ("judged.json", ("judged", "reference", None)),
    ],
)
def test_the_models_are_read_from_a_transcripts_name(name: str, expected: tuple[Any, ...]) -> None:
    assert names_from(Path("folder") / name) == expected


def _transcript(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_the_rows_order_counts_before_the_file_names(tmp_path: Path) -> None:
    rows = [
        {"model_output_id": 7, "model_response_first": True, "response": "[[A]]"},
        {"model_output_id": 7, "model_response_first": False, "response": "[[A]]"},
        {"model_output_id": "8", "response": "[[A]]"},
        {"model_output_id": "9", "model_response_first": "false", "response": "[[B]]"},
        {"model_output_id": "10", "model_response_first": True, "response": None},
    ]
    file = _transcript(tmp_path / "m__t-ref-r_reference_first.json", rows)
    found, rejected = read_verdicts(file)
    assert [(v.item, v.shown_first, v.winner) for v in found] == [
        ("7", "a", "a"),
        ("7", "b", "b"),
        ("8", "b", "b"),
        ("9", "b", "a"),
        ("10", "a", "unreadable"),
    ]
    assert {(v.a, v.b) for v in found} == {("m", "r")}
    assert not rejected


def test_a_bad_row_is_rejected_with_its_number_and_the_rest_is_read(tmp_path: Path) -> None:
    good = {"model_output_id": "1", "model_response_first": True, "response": "[[C]]"}
    rows = [good, {"response": "[[A]]"}, "noise", {**good, "model_output_id": None}]
    found, rejected = read_verdicts(_transcript(tmp_path / "m__t-ref-r.json", rows))
    assert [v.winner for v in found] == ["tie"]
    assert [r.reason for r in rejected] == ["not a verdict"] * 3
    assert "row 2: no model_output_id" in rejected[0].detail
    assert "row 3: not a JSON object: noise" in rejected[1].detail


def test_a_transcript_that_says_no_order_anywhere_is_no_verdict(tmp_path: Path) -> None:
    rows = [{"model_output_id": "1", "response": "[[A]]"}]
    with pytest.raises(UserError, match="says who was shown first"):
        read_verdicts(_transcript(tmp_path / "m__t-ref-r.json", rows))


def test_a_transcript_is_read_by_the_reading_asked_for(tmp_path: Path) -> None:
    rows = [{"model_output_id": "1", "model_response_first": True, "response": "Output (b)."}]
    file = _transcript(tmp_path / "m__t-ref-r.json", rows)
    assert read_verdicts(file)[0][0].winner == "unreadable"
    assert read_verdicts(file, "alpacare")[0][0].winner == "b"


def test_our_own_verdicts_are_read_again_only_when_asked_to_be(tmp_path: Path) -> None:
    said = Verdict("1", "c", "x", "y", "b", "unreadable", "judge:m", raw="Output (a) is a Tie")
    person = Verdict("1", "c", "x", "y", "a", "b", "human:ann", raw="Tie")
    other = Verdict("2", "c", "x", "y", "a", "a", "judge:overlap", 0.7)
    write_table(tmp_path / "verdicts.parquet", to_table([said, person, other], Verdict))
    assert read_verdicts(tmp_path)[0] == [said, person, other]
    again = read_verdicts(tmp_path, "alpacare")[0]
    assert [v.winner for v in again] == ["tie", "b", "a"]
    assert read_verdicts(tmp_path, "strict")[0][0].winner == "unreadable"


def test_our_own_verdicts_are_the_same_in_every_file(tmp_path: Path) -> None:
    rows = [
        Verdict("1", "c", "x", "y", "a", "both_bad", "human:ann", None, "note", "raw"),
        Verdict("2", "c", "x", "y", "b", "a", "human:ann", 0.75),
    ]
    write_table(tmp_path / "verdicts.parquet", to_table(rows, Verdict))
    lines = [json.dumps(to_json(row)) for row in rows]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    header = ",".join(to_json(rows[0]))
    values = [",".join("" if v is None else str(v) for v in to_json(r).values()) for r in rows]
    (tmp_path / "rows.csv").write_text("\n".join([header, *values]))
    for path in (tmp_path, tmp_path / "rows.jsonl", tmp_path / "rows.csv"):
        assert read_verdicts(path) == (rows, [])
    assert read_verdicts(tmp_path, limit=1) == (rows[:1], [])


@pytest.mark.parametrize(
    "change", [{"winner": "A"}, {"shown_first": "x"}, {"b": "x"}, {"item": ""}, {"preference": "?"}]
)
def test_a_verdict_that_means_nothing_is_rejected(tmp_path: Path, change: dict[str, str]) -> None:
    good = to_json(Verdict("1", "c", "x", "y", "a", "tie", "human:ann"))
    found, rejected = read_verdicts(_transcript(tmp_path / "v.json", [good, {**good, **change}]))
    assert (len(found), len(rejected)) == (1, 1)


def test_a_file_in_no_known_layout_is_refused_with_the_layouts(tmp_path: Path) -> None:
    file = _transcript(tmp_path / "v.json", [{"question": "x"}])
    with pytest.raises(UserError, match=r"keys question\. Known: meadowlark .*transcript"):
        read_verdicts(file)
    with pytest.raises(UserError, match="holds no verdicts"):
        read_verdicts(_transcript(tmp_path / "empty.json", []))


def test_the_real_transcripts_read_the_same_without_what_was_extracted(
    real_data: Path, tmp_path: Path
) -> None:
    files = sorted((real_data / "judging" / "verdicts").glob("*.json"))
    assert len(files) == 8
    for file in files:
        rows = json.loads(file.read_text())
        bare = [
            {k: v for k, v in r.items() if k not in ("final_verdict", "extracted_verdict")}
            for r in rows
        ]
        found, rejected = read_verdicts(_transcript(tmp_path / file.name, bare))
        assert not rejected
        assert found == read_verdicts(file)[0]
        theirs = Counter({"WIN": "a", "LOSE": "b", "TIE": "tie"}[r["final_verdict"]] for r in rows)
        assert Counter(v.winner for v in found) == theirs


def test_a_reading_is_refused_where_there_is_no_judges_text(tmp_path: Path) -> None:
    annotation = {"instruction": "i", "generator_1": "b", "generator_2": "m", "preference": 2}
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps([annotation]))
    with pytest.raises(UserError, match="annotations are preferences; leave it out"):
        read_verdicts(file, "strict")
    assert len(read_verdicts(file)[0]) == 1
    person = Verdict("1", "c", "m", "r", "a", "a", "human:ann")
    file = tmp_path / "people.jsonl"
    file.write_text(json.dumps(to_json(person)))
    with pytest.raises(UserError, match="no verdict here has one"):
        compute([file], reading="strict")
    assert compute([file]).scores
