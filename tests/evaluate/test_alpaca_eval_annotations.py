"""AlpacaEval's annotation rows: the order its judge saw, what a preference means, and both ways."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.evaluate.alpaca_eval import (
    annotation_item,
    shown_switched,
    to_annotations,
    verdict_from_annotation,
)
from meadowlark.evaluate.verdicts import read_verdicts
from meadowlark.records import Answer, Question, Verdict

ROW: dict[str, Any] = {
    "instruction": "Name a vaccine.",
    "output_1": "BCG.",
    "generator_1": "baseline",
    "output_2": "The measles vaccine.",
    "generator_2": "model",
    "annotator": "some_judge",
    "preference": 1.8,
}


def json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_order_that_alpaca_evals_judge_saw_is_known_for_every_stored_completion(
    real_data: Path,
) -> None:
    folder = real_data / "judging/alpaca_eval2"
    instructions = {
        row["idx"]: row["instruction"] for row in json_lines(folder / "instructions.jsonl")
    }
    decided = 0
    for row in json_lines(folder / "judge_completions_compact.jsonl"):
        chance = {token: math.exp(logprob) for token, logprob in row["top_logprobs"] or ()}
        first, second = chance.get("m", 0.0), chance.get("M", 0.0)
        if not first + second or row["preference"] is None:
            continue
        for_second_shown = second / (first + second)
        switched = shown_switched(instructions[row["idx"]])
        for_model = 1 - for_second_shown if switched else for_second_shown
        assert row["preference"] - 1 == pytest.approx(for_model, abs=1e-6)
        decided += 1
    assert decided == 4013


@pytest.mark.parametrize(
    ("given", "winner", "preference"),
    [
        (2, "a", 1.0),
        (1, "b", 0.0),
        (1.8, "a", 0.8),
        ("1.25", "b", 0.25),
        (1.5, "tie", 0.5),
        (0, "tie", 0.5),
        (None, "unreadable", None),
        (math.nan, "unreadable", None),
        ("", "unreadable", None),
    ],
)
def test_a_preference_is_for_the_second_generator(
    given: Any, winner: str, preference: float | None
) -> None:
    verdict = verdict_from_annotation({**ROW, "preference": given})
    assert (verdict.a, verdict.b, verdict.winner) == ("model", "baseline", winner)
    assert verdict.preference == (None if preference is None else pytest.approx(preference))
    assert verdict.by == "judge:some_judge"


def test_items_are_known_by_their_instruction_and_never_by_the_row() -> None:
    verdict = verdict_from_annotation(ROW)
    assert verdict.item == annotation_item("Name a vaccine.")
    assert verdict_from_annotation({**ROW, "preference": 1}).item == verdict.item
    assert verdict_from_annotation({**ROW, "instruction": "Name two."}).item != verdict.item
    assert verdict.note == "order by AlpacaEval's rule"
    said = verdict_from_annotation({**ROW, "is_switched_outputs": True})
    assert (said.shown_first, said.note) == ("a", "")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"preference": 3}, "from 1 to 2"),
        ({"preference": "first"}, "could not convert"),
        ({"generator_1": "model"}, "two different models"),
        ({"instruction": ""}, "instruction is no text"),
        ({"generator_2": None}, "generator_2 is no text"),
    ],
)
def test_a_row_that_is_no_annotation_is_refused(change: dict[str, Any], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        verdict_from_annotation({**ROW, **change})


names = st.sampled_from(["judge:j", "human:Ann"])
winners = st.sampled_from(["a", "b", "tie", "unreadable"])


@given(winners, names, st.sampled_from(["a", "b"]), st.text(), st.floats(0.51, 1))
def test_a_verdict_written_and_read_again_is_the_same(
    winner: Any, by: str, shown_first: Any, raw: str, strength: float
) -> None:
    preference = {"a": strength, "b": 1 - strength, "tie": 0.5, "unreadable": None}[winner]
    verdict = Verdict(
        "q1", "preference", "model", "base", shown_first, winner, by, preference, raw=raw
    )
    questions = [Question("q1", "task", "What?\n\n### Input:\nThis.")]
    answers = [Answer("q1", "model", text="one"), Answer("q1", "base", text="two")]
    (row,) = to_annotations([verdict], questions, answers)
    assert (row["output_1"], row["output_2"]) == ("two", "one")
    assert row["instruction"] == "What?\n\nThis."
    again = verdict_from_annotation(json.loads(json.dumps(row)))
    assert again.preference == (None if preference is None else pytest.approx(preference))
    assert again == Verdict(
        "q1", "preference", "model", "base", shown_first, winner, by, again.preference, raw=raw
    )


def test_a_verdict_without_its_texts_is_not_written() -> None:
    verdict = Verdict("q1", "preference", "model", "base", "a", "a", "judge:j")
    with pytest.raises(ValueError, match="no question 'q1'"):
        to_annotations([verdict], [], [])
    with pytest.raises(ValueError, match="no answer of base to 'q1'"):
        to_annotations([verdict], [Question("q1", "t", "What?")], [Answer("q1", "model", text="x")])


def test_an_annotation_file_is_read_where_verdicts_are(tmp_path: Path) -> None:
    file = tmp_path / "annotations.json"
    rows = [ROW, {**ROW, "instruction": "Name two.", "preference": 9}]
    file.write_text(json.dumps(rows), encoding="utf-8")
    (verdict,), (rejected,) = read_verdicts(file)
    assert verdict == verdict_from_annotation(ROW)
    assert "preference 9 is neither 0 nor from 1 to 2" in rejected.detail
