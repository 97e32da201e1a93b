"""``meadowlark plan`` as typed: one screen, exit codes, no network, mistakes in one message."""

import json
from pathlib import Path

import pytest

from meadowlark.cli import run

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))


@pytest.fixture
def rows(tmp_path: Path) -> str:
    file = tmp_path / "rows.jsonl"
    answers = [f"Rest for {i} days, drink water. " * (1 + i % 7) for i in range(60)]
    questions = [f"What helps against cough {i}?" for i in range(60)]
    pairs = zip(questions, answers, strict=True)
    made = [{"instruction": question, "output": answer} for question, answer in pairs]
    file.write_text("".join(json.dumps(row) + "\n" for row in made))
    return str(file)


@pytest.fixture(autouse=True)
def _own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MEADOWLARK_CACHE", str(tmp_path / "cache"))


QUICK = ("medalpaca-7b-lora-int8", "small-from-scratch")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * (path.stem not in QUICK))
        for path in CONFIGS
    ],
)
def test_every_shipped_configuration_can_be_planned_without_network_on_one_screen(
    path: Path, rows: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = tmp_path / "plan.json"
    words = ["plan", str(path), "--data", rows, "--device", "h200", "--json", str(found)]
    code = run(words)
    text = capsys.readouterr().out
    made = json.loads(found.read_text())
    assert code == (0 if made["fits"] else 1)
    assert ("✓ fits" in text) == made["fits"]
    assert len(text.splitlines()) < 45
    assert f"{made['parameters']:,}, {made['trainable_parameters']:,} trained" in text
    assert f"{made['memory']['needed'] / 1e9:,.2f} GB" in text
    assert f"{made['speed']['tokens_per_s']:,.0f} tokens/s" in text
    assert sum(made["memory"]["parts"].values()) < made["memory"]["needed"]
    assert ("estimated" in made["lengths"]) == (made["model"] != "a new LLaMA")


def test_a_run_that_does_not_fit_ends_with_1_and_says_what_would(
    rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(next(path for path in CONFIGS if path.stem == "medalpaca-7b-lora-int8"))
    assert run(["plan", config, "--data", rows, "--device", "rtx4090"]) == 1
    text = capsys.readouterr().out
    assert "✗ does not fit" in text
    assert "the fastest choice that fits: run.gradient_checkpointing = " in text
    assert 'model.quantise = "nf4"' in text[text.index("it would fit with") :]


def test_this_machines_cpu_is_measured(rows: str, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(next(path for path in CONFIGS if path.stem == "small-from-scratch"))
    assert run(["plan", config, "--data", rows, "--device", "cpu", "--limit", "40"]) == 0
    text = capsys.readouterr().out
    assert "measured now" in text
    assert "as encoded for training" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device", "h10"], "Did you mean 'h100'"),
        (["--set", f"model.base={Path(__file__).parent}"], "holds no config.json"),
        (["--set", "run.gradient_checkpointing=33"], "above the model's 32 layers"),
        (["--set", "model.quantise=nf4", "--launch", "2"], "run.parallel = 'ddp'"),
    ],
)
def test_a_mistake_is_one_message(
    words: list[str], message: str, rows: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = str(next(path for path in CONFIGS if path.stem == "medalpaca-7b-lora"))
    assert run(["plan", config, "--data", rows, "--device", "h100", *words]) == 2
    assert message in capsys.readouterr().err
