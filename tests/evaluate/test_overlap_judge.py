"""The overlap judge: who wins, what is rejected and why, and how it names itself."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from meadowlark.dataset import read, read_manifest, write_table
from meadowlark.errors import UserError
from meadowlark.evaluate.overlap import compare, judge_overlap
from meadowlark.evaluate.score import compute
from meadowlark.records import Answer, AnswerStatus, Question, Verdict, to_table

TARGET = "rest, drink water and see a doctor"
words = st.lists(st.sampled_from([*TARGET.replace(",", "").split(), "pill", "now"])).map(" ".join)


def answer(text: str, status: AnswerStatus = "ok") -> Answer:
    return Answer("q", "m", text=text, status=status)


@pytest.mark.parametrize(
    ("a", "b", "winner"),
    [
        ("drink water and see a doctor", "take this pill", "a"),
        ("take this pill", "Drink WATER!", "b"),
        ("drink water", "see doctor", "tie"),
        ("take this pill", "call me", "tie"),
        ("", "take this pill", "b"),
        ("take this pill", " \n", "a"),
        ("", "  ", "both_bad"),
    ],
)
def test_the_answer_that_shares_more_words_wins(a: str, b: str, winner: str) -> None:
    assert compare(answer(a), answer(b), TARGET)[0] == winner


def test_a_failed_request_is_unreadable_not_lost() -> None:
    found = compare(answer("", "failed"), answer("drink water"), TARGET)
    assert found[:2] == ("unreadable", None)


@given(words, words, st.floats(0, 0.5))
def test_overlaps_are_rouge_scores_and_sides_do_not_matter(a: str, b: str, within: float) -> None:
    winner, preference, note = compare(answer(a), answer(b), TARGET, within)
    scorer = RougeScorer(["rougeL"])
    first, second = (scorer.score(TARGET, text)["rougeL"].fmeasure for text in (a, b))
    assert note.startswith(f"ROUGE-L F1 {first:.4f} against {second:.4f}")
    turned = compare(answer(b), answer(a), TARGET, within)
    assert turned[0] == {"a": "b", "b": "a"}.get(winner, winner)
    if preference is not None:
        assert turned[1] == pytest.approx(1 - preference)
    if winner == "a":
        assert first > second or not b
    if winner == "tie":
        assert abs(first - second) <= within


def answered(folder: Path, model: str, texts: dict[str, str], questions: list[Question]) -> Path:
    folder.mkdir(parents=True)
    write_table(folder / "questions.parquet", to_table(questions, Question))
    answers = [Answer(item, model, text=text) for item, text in texts.items()]
    write_table(folder / "answers.parquet", to_table(answers, Answer))
    return folder


def test_a_folder_of_verdicts_in_both_orders(tmp_path: Path) -> None:
    questions = [
        Question("1", "t", "p", target=TARGET),
        Question("2", "t", "p", target=TARGET),
        Question("3", "t", "p"),
        Question("4", "t", "p", target="水"),
        Question("5", "t", "p", ("x", "y"), "A"),
        Question("6", "t", "p", target=TARGET),
        Question("7", "t", "p", target=TARGET),
    ]
    theirs = [*questions[:6], Question("7", "t", "another prompt", target=TARGET)]
    texts = {str(n): "drink water" for n in range(1, 8)}
    tuned = answered(tmp_path / "tuned", "tuned", texts, questions)
    few = {k: "take a pill" for k in texts if k != "6"}
    first = answered(tmp_path / "first", "untuned", few, theirs)
    second = answered(tmp_path / "second", "base", {**few, "2": "drink water"}, theirs)
    run = judge_overlap(tuned, [first, second], tmp_path / "out")
    rows, _ = read(tmp_path / "out", Verdict)
    assert [(v.item, v.b, v.shown_first, v.winner) for v in rows] == [
        (item, reference, order, winner)
        for item, reference, winner in [
            ("1", "untuned", "a"),
            ("2", "untuned", "a"),
            ("1", "base", "a"),
            ("2", "base", "tie"),
        ]
        for order in "ab"
    ]
    assert {v.by for v in rows} == {"judge:overlap"}
    assert run.manifest.rows == {
        "in": 14,
        "kept": 4,
        "rejected": {
            "no reference answer": 4,
            "a multiple-choice question": 2,
            "different questions under one id": 2,
            "no answer": 2,
        },
    }
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert {r["detail"] for r in rejected if r["reason"] == "no answer"} == {"untuned", "base"}
    assert "not a judgement of quality" in read_manifest(tmp_path / "out").results["judge"]
    means = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert {(s["model"], s["n"]) for s in means} == {("tuned", 2), ("untuned", 2), ("base", 2)}
    tuned_mean = next(s for s in means if s["model"] == "tuned")["value"]
    assert tuned_mean == pytest.approx(2 * (2 / 2 * 2 / 7) / (2 / 2 + 2 / 7))

    scored = compute([tmp_path / "out"])
    assert any("not a judgement of quality" in line for line in scored.warnings)
    assert {s.value for s in scored.scores if s.metric == "positional_agreement"} == {1.0}
    assert judge_overlap(tuned, [first, second], tmp_path / "out").done_before
    judge_overlap(tuned, [first, second], tmp_path / "again")
    assert read_manifest(tmp_path / "again").outputs == run.manifest.outputs
    limited = judge_overlap(tuned, [first], tmp_path / "limited", limit=1)
    assert limited.manifest.rows["in"] == 1


def test_what_cannot_be_judged_leaves_no_folder(tmp_path: Path) -> None:
    questions = [Question("1", "t", "p", target=TARGET)]
    one = answered(tmp_path / "one", "m", {"1": "x"}, questions)
    stranger = answered(tmp_path / "two", "m", {"2": "x"}, questions)
    for bad, message in (
        (stranger, "no question for the answered item '2'"),
        (one, "lie under the same name"),
    ):
        with pytest.raises(UserError, match=message):
            judge_overlap(one, [bad], tmp_path / "out")
    with pytest.raises(UserError, match="--tie-within 2"):
        judge_overlap(one, [stranger], tmp_path / "out", tie_within=2)
    assert not (tmp_path / "out").exists()


def test_a_question_asked_twice_is_one_and_two_under_one_id_are_refused(tmp_path: Path) -> None:
    question = Question("1", "t", "p", target=TARGET)
    one = answered(tmp_path / "one", "m", {"1": "drink"}, [question, question])
    two = answered(tmp_path / "two", "n", {"1": "x"}, [question])
    run = judge_overlap(one, [two], tmp_path / "out")
    assert run.manifest.rows["in"] == run.manifest.rows["kept"] == 1
    three = answered(
        tmp_path / "three", "n", {"1": "x"}, [question, Question("1", "t", "q", target=TARGET)]
    )
    with pytest.raises(UserError, match="share the id '1'"):
        judge_overlap(one, [three], tmp_path / "other")


def test_answers_of_a_file_overlap_with_the_reference_answer_too(tmp_path: Path) -> None:
    """A file of answers holds no targets; those of the questions are what all are compared with."""
    questions = [Question(i, "t", f"Prompt {i}", target=TARGET) for i in "12"]
    mine = answered(tmp_path / "m", "wisent", {"1": TARGET, "2": "pill"}, questions)
    file = tmp_path / "ibis.jsonl"
    rows = [
        {"prompt": f"Prompt {i}", "response": text}
        for i, text in (("2", TARGET), ("1", "pill"), ("9", "never asked"))
    ]
    file.write_text("\n".join(map(json.dumps, rows)))
    run = judge_overlap(mine, [f"ibis={file}"], tmp_path / "o")
    scores = {s["model"]: s for s in json.loads((tmp_path / "o" / "scores.json").read_text())}
    assert scores["wisent"]["value"] == scores["ibis"]["value"] == 0.5
    assert run.manifest.warnings == [
        "1 answer of ibis to questions that wisent was not asked, which nobody judged"
    ]
