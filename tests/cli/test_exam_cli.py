"""``exam`` as typed: a user's own definition, what is shown, what is exported, how mistakes end."""

import json
from pathlib import Path

import pytest

from meadowlark.cli import run
from meadowlark.dataset import read_manifest
from tiny_model import make_tiny_model

DEFINITION = """
title = "Ward"
files = ["ward.jsonl"]
[columns]
id = "id"
[form]
instruction = "Choose one."
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_tiny_model(tmp_path / "model")
    tasks = tmp_path / "tasks"
    tasks.mkdir()
    (tasks / "ward.toml").write_text(DEFINITION)
    rows = [
        {"id": f"w{i}", "question": f"Is {i} even?", "choices": ["yes", "no"], "answer": i % 2}
        for i in range(6)
    ]
    (tasks / "ward.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return tmp_path


def exam(folder: Path, *given: str) -> int:
    tasks = ["--tasks", "ward", "--tasks-dir", str(folder / "tasks")]
    return run(["exam", f"hf:{folder / 'model'}", *tasks, *given])


def test_a_users_own_exam_in_two_orders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "out"
    assert exam(folder, "--orders", "2", "--out", str(out)) == 0
    said = capsys.readouterr().out
    for metric in ("accuracy ", "accuracy_over_orders", "rate_same_in_every_order", "chance"):
        assert metric in said
    assert "letters answered" in said
    manifest = read_manifest(out)
    assert manifest.options["orders"] == 2
    assert (manifest.options["by"], manifest.options["scoring"]) == (
        "likelihood",
        "each task's own",
    )
    assert exam(folder, "--orders", "2", "--out", str(out)) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_show_prints_the_prompt_and_what_is_compared(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exam(folder, "--show", "--scoring", "text") == 0
    said = capsys.readouterr().out
    assert "### Instruction:\nChoose one.\n\n### Input:\nIs 0 even?\nA: yes\nB: no" in said
    assert 'compared: "yes", "no"; right: A' in said
    assert exam(folder, "--show", "--plain") == 0
    said = capsys.readouterr().out
    assert "Question: Is 0 even?\nA. yes\nB. no\nAnswer:\n" in said
    assert 'compared: " A", " B"' in said


def test_an_export_prints_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "exported"
    assert exam(folder, "--export-lm-eval", str(out), "--limit", "2") == 0
    said = capsys.readouterr().out
    assert f"pretrained={folder / 'model'},dtype=float32 --include_path {out}" in said
    task = json.loads((out / "meadowlark_ward.yaml").read_text())
    assert task["doc_to_text"].startswith("Choose one.\n\n### Input:\n{{ question }}\n")
    assert len((out / "meadowlark_ward.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--shots", "2"], "ward has no worked examples, so --shots cannot be used with it"),
        (["--plain", "--template", "alpaca"], "--template alpaca has no use in plain prompts"),
        (["--by", "generation", "--plain"], "--plain is for exams by likelihood"),
        (["--scoring", "words"], "'words'"),
    ],
)
def test_mistakes_are_one_message_and_exit_code_2(
    folder: Path, given: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exam(folder, "--out", str(folder / "out"), *given) == 2
    shown = capsys.readouterr()
    assert said in " ".join((shown.out + shown.err).split())
    assert "Traceback" not in shown.err
    assert not (folder / "out").exists()


def test_a_protocol_drops_no_option_without_a_word(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--protocol", "medalpaca-fixed", "--shots", "2", "--out", str(folder / "out")]
    assert exam(folder, *given) == 2
    assert "leave --shots, --tasks-dir away" in capsys.readouterr().err
    assert not (folder / "out").exists()


def test_what_is_to_be_written_is_compared_with_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exam(folder, "--show", "--by", "generation") == 0
    assert "compared" not in (shown := capsys.readouterr().out)
    assert "right: A" in shown
    assert exam(folder, "--export-lm-eval", str(folder / "lm"), "--by", "generation") == 2
    assert "leave --by generation away" in capsys.readouterr().err
