"""``meadowlark check`` as typed: one screen, exit codes, row ids, mistakes in one message."""

import json
from pathlib import Path

import pytest

from meadowlark.cli import run

CONFIG = """
[model.from_scratch]
width = 32
layers = 2
heads = 2
vocabulary = 420
context = 512
[data]
path = "nowhere"
template = "alpaca"
[optimiser]
learning_rate = 1e-3
"""


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEADOWLARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "run.toml"
    path.write_text(CONFIG)
    return str(path)


def write(folder: Path, rows: list[dict[str, str]]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(file)


def good(n: int) -> list[dict[str, str]]:
    return [
        {"instruction": f"What helps against cough {i}?", "output": f"Rest for {i} days. " * 6}
        for i in range(n)
    ]


def test_good_rows_pass_on_one_screen(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["mix", write(tmp_path, good(60)), "--val", "9", "--out", str(tmp_path / "m")]) == 0
    capsys.readouterr()
    found = tmp_path / "found.json"
    words = ["check", config, "--data", str(tmp_path / "m"), "--against", "demo_exam"]
    assert run([*words, "--json", str(found)]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 50
    for part in (
        "shortest ",
        "### Response:⟦Rest for ",
        "<|end|>⟧",
        "training rows    51 in, 51 kept, 0 rejected",
        "validation rows  9 in, 9 kept, 0 rejected",
        "of them learned",
        "█",
        "demo_exam        0 of 80 questions found, in 0 training rows",
        "none stated 51: not known for 51 rows",
        "✓ nothing found wanting",
    ):
        assert part in text, part
    told = json.loads(found.read_text())
    assert told["passed"] is True
    assert told["summary"]["rows"]["training"]["kept"] == 51
    assert [e["kind"] for e in told["examples"]] == ["shortest", "median", "longest"]
    assert run([*words, "--examples", "0", "--limit", "5"]) == 0
    text = capsys.readouterr().out
    assert "⟦" not in text
    assert "training rows    5 in" in text


def test_what_is_wrong_is_exit_1_with_the_ids_on_screen_and_all_of_them_in_the_file(
    config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exam = tmp_path / "ward.jsonl"
    question = "Which organ makes the bile that is needed to digest fat, in one word, please?"
    choices = ["Heart", "Liver", "Lung", "Skin"]
    exam.write_text(json.dumps({"question": question, "choices": choices, "answer": "B"}) + "\n")
    silent = [
        {"instruction": f"Say [red]nothing[/red] \x1b[2J {i}", "output": ""} for i in range(5)
    ]
    planted = [{"instruction": question.upper(), "output": "Liver."}]
    data = write(tmp_path, [*good(9), *silent, *planted])
    found = tmp_path / "found.json"
    words = ["check", config, "--data", data, "--against", str(exam), "--json", str(found)]
    assert run(words) == 1
    text = capsys.readouterr().out
    told = json.loads(found.read_text())
    assert told["passed"] is False
    by_name = {fault["name"]: fault["rows"] for fault in told["faults"]}
    ids = [row["id"] for row in by_name["rows that cannot be trained on: no output to learn from"]]
    assert len(set(ids)) == 5
    assert ids[0] in text
    assert ids[4] not in text
    assert "and 2 more" in text
    (contaminated,) = by_name["evaluation questions in the training rows: ward"]
    assert contaminated["id"] in text
    assert told["contamination"][0]["passage"] == " ".join(
        question.lower().replace(",", "").replace("?", "").split()
    )
    assert "2 kinds of fault" in text
    assert "warning no validation rows" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "data.los_on=all"], "Did you mean 'loss_on'"),
        (["--data", "/nowhere/at/all"], "no such file or folder: /nowhere/at/all"),
        (["--against", "medqa"], "give --exams DIR with medqa/"),
        (["--against", "medqq"], "Did you mean 'medqa'"),
        (["--against", "medqa", "--exams", "/tmp/none"], "not found below --exams /tmp/none"),
        (["--against", "missing.jsonl"], "no such file of questions: missing.jsonl"),
    ],
)
def test_a_mistake_is_exit_2_and_one_message(
    words: list[str],
    message: str,
    config: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write(tmp_path, good(9))
    assert run(["check", config, "--data", data, *words]) == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "Traceback" not in told.err
    assert told.out == ""
