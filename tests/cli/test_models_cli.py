import pytest

from meadowlark.checkpoints import CHECKPOINTS, known_checkpoint
from meadowlark.cli import run


def test_the_table_is_plain_when_piped(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(CHECKPOINTS)
    assert lines[0].split()[:2] == ["name", "base"]
    assert all(line.isascii() for line in lines)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("medalpaca/medalpaca-7b", ["medalpaca", "no", "full weights"]),
        ("alpacare-LLAMA2-7b", ["alpaca", "yes", "CC BY-NC 4.0"]),
        ("medalpaca-lora-30b-8bit", ["LoRA adapter", "int8", "hf:BASE+medalpaca/"]),
    ],
)
def test_a_card_says_template_bos_and_precision(
    capsys: pytest.CaptureFixture[str], name: str, expected: list[str]
) -> None:
    assert run(["models", name]) == 0
    card = capsys.readouterr().out
    for text in expected:
        assert text in card


def test_a_misspelt_checkpoint_is_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "medalpaca/medalpacca-7b"]) == 2
    assert "Did you mean 'medalpaca/medalpaca-7b'" in capsys.readouterr().err


def test_all_checkpoints_of_both_papers_are_known() -> None:
    paca = [f"medalpaca-{size}" for size in ("7b", "13b", "30b")]
    lora = ["7b-16bit", "7b-8bit", "13b-16bit", "13b-8bit", "30b-8bit"]
    names = [f"medalpaca/{n}" for n in [*paca, *(f"medalpaca-lora-{n}" for n in lora)]]
    care = ["llama1-7b", "llama2-7b", "llama-13b", "llama2-13b"]
    names += [f"xz97/AlpaCare-{n}" for n in care]
    names += ["chavinlo/alpaca-native", "chavinlo/alpaca-13b", "tloen/alpaca-lora-7b"]
    assert set(names) == set(CHECKPOINTS)


def test_a_download_is_known_by_its_folders_name_only() -> None:
    assert (
        known_checkpoint(["/models/AlpaCare-llama2-7b/"]) is CHECKPOINTS["xz97/AlpaCare-llama2-7b"]
    )
    assert known_checkpoint(["/models/AlpaCare-llama2-7b/checkpoint-3"]) is None
