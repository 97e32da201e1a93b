"""Strict configuration: typos become suggestions, faults become lines."""

from pathlib import Path

import pytest
from pydantic import Field

from meadowlark.config import Options, load
from meadowlark.errors import UserError


class Optimiser(Options):
    learning_rate: float = Field(2e-5, gt=0)
    epochs: int = 3


class Whole(Options):
    name: str
    optimiser: Optimiser = Optimiser()


def write(folder: Path, text: str) -> Path:
    file = folder / "run.toml"
    file.write_text(text)
    return file


def test_overrides_are_toml_values_or_bare_words(tmp_path: Path) -> None:
    file = write(tmp_path, 'name = "a"\n')
    options = load(file, Whole, ["optimiser.learning_rate=1e-3", "name=tiny"])
    assert options.optimiser.learning_rate == 1e-3
    assert options.name == "tiny"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a"\n[optimiser]\nlearning_rat = 1', "Did you mean 'learning_rate'"),
        ('nam = "a"', "Did you mean 'name'"),
        ("", "name: missing"),
        ('name = "a"\n[optimiser]\nepochs = "many"', "optimiser.epochs = 'many'"),
        ('name = "a"\n[optimiser]\nlearning_rate = -1', "greater than 0"),
        ("name = ", "not valid TOML"),
    ],
)
def test_a_fault_names_key_value_and_expectation(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(write(tmp_path, text), Whole)


def test_a_missing_file_and_a_bad_override_are_user_errors(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such configuration"):
        load(tmp_path / "absent.toml", Whole)
    with pytest.raises(UserError, match=r"section\.key=VALUE"):
        load(write(tmp_path, 'name = "a"'), Whole, ["epochs"])


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_that_is_none_or_infinite_is_a_fault(tmp_path: Path, number: str) -> None:
    file = write(tmp_path, f'name = "a"\n[optimiser]\nlearning_rate = {number}\n')
    with pytest.raises(UserError, match=r"optimiser\.learning_rate"):
        load(file, Whole)
