"""Summaries are scored by ROUGE, each task by itself, and what was never received is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meadowlark.cli import run as command_line
from meadowlark.dataset import open_run
from meadowlark.errors import UserError
from meadowlark.evaluate.rouge155 import rouge155
from meadowlark.evaluate.score import compute
from meadowlark.records import Answer, Question
from meadowlark.tasks import TASKS, load, resolve

ASKED = [
    Question("a", "meqsum", "Long a", target="Who makes this drug?"),
    Question("b", "meqsum", "Long b", target="Where is it sold?"),
    Question("c", "mediqa", "Long c", target="How is it taken?"),
]


def folder(out: Path, answers: list[Answer], asked: list[Question] = ASKED) -> Path:
    run = open_run("answer", out, options={}, inputs={})
    with run:
        run.write(asked, Question)
        run.write(answers, Answer)
        run.finish()
    return out


def test_each_task_has_its_mean_of_each_measure(tmp_path: Path) -> None:
    said = {"a": "who makes the drug", "b": "", "c": "how is it taken"}
    found = compute([folder(tmp_path / "run", [Answer(i, "m", text=t) for i, t in said.items()])])
    values = {(s.task, s.metric): s for s in found.scores}
    expected = rouge155(said["a"], ASKED[0].target)
    for measure in ("rouge_1", "rouge_2", "rouge_l"):
        own = values["meqsum", f"{measure}_f1"]
        assert own.value == pytest.approx(expected[measure].f1 / 2)  # the empty one scores 0
        assert own.n == 2
        assert own.low is not None
        assert own.low <= own.value <= own.high  # type: ignore[operator]
        assert values["mediqa", f"{measure}_f1"].value == 1


def test_an_answer_never_received_is_left_out_and_counted(tmp_path: Path) -> None:
    answers = [Answer("a", "m", text=ASKED[0].target), Answer("b", "m", status="failed")]
    found = compute([folder(tmp_path / "run", answers)])
    assert [(s.value, s.n, s.n_unreadable) for s in found.scores] == [(1.0, 2, 1)] * 3
    assert found.warnings == ["left out: 1 answer that never came"]


def test_what_is_no_summary_is_refused(tmp_path: Path) -> None:
    bare = [Question("q", "meqsum", "Long")]
    with pytest.raises(UserError, match="no reference text"):
        compute([folder(tmp_path / "bare", [Answer("q", "m", text="x")], bare)])
    asked = [Question("q", "ward", "Why?", target="Because.")]
    with pytest.raises(UserError, match=r"answers ward; .* or summaries \(mediqa, meqsum\)"):
        compute([folder(tmp_path / "free", [Answer("q", "m", text="x")], asked)])


def test_the_command_shows_the_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(tmp_path / "run", [Answer("a", "m", text=ASKED[0].target)])
    assert command_line(["score", str(run), "--out", str(tmp_path / "scores")]) == 0
    shown = capsys.readouterr().out
    assert "ROUGE-L" in shown
    assert "m on meqsum" in shown
    rows = json.loads((tmp_path / "scores" / "scores.json").read_text())
    assert {row["metric"] for row in rows} == {"rouge_1_f1", "rouge_2_f1", "rouge_l_f1"}


@pytest.mark.parametrize(("name", "count"), [("meqsum", 1000), ("mediqa", 80)])
def test_the_published_files_are_read_as_they_are(name: str, count: int, real_data: Path) -> None:
    pytest.importorskip("openpyxl")
    questions, rejected = load(resolve(name, real_data))
    assert (len(questions), rejected) == (count, [])
    assert all(q.target and q.prompt.startswith("Summarise") for q in questions)


def test_a_line_without_its_bars_names_file_and_line(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["question_id", "answer_id", "Answer"])
    book.active.append(["5", "5_Answer1", "Because."])
    names = TASKS["mediqa"].files
    book.save(tmp_path / names[0])
    (tmp_path / names[1]).write_text("5||Why?\n", encoding="utf-8")
    (tmp_path / names[2]).write_text("5|Because\n", encoding="utf-8")
    with pytest.raises(UserError, match=rf"{names[2]}, line 1: expected id\|\|text"):
        load(resolve(f"mediqa={tmp_path}", None))
    (tmp_path / names[2]).write_text("6||Because\n", encoding="utf-8")
    with pytest.raises(UserError, match="question 5: nothing in"):
        load(resolve(f"mediqa={tmp_path}", None))
