"""Faults in a configuration are named before anything is read."""

from pathlib import Path

import pytest

from meadowlark.config import load
from meadowlark.errors import UserError
from meadowlark.train.options import TrainOptions, to_toml

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
GOOD = """
[model.from_scratch]
[data]
path = "mixed"
template = "alpaca"
[optimiser]
learning_rate = 1e-3
"""


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_loads_and_its_resolved_form_is_the_same(
    path: Path, tmp_path: Path
) -> None:
    options = load(path, TrainOptions)
    resolved = tmp_path / "config.toml"
    resolved.write_text(to_toml(options), encoding="utf-8")
    assert load(resolved, TrainOptions) == options


def test_the_shipped_configurations_hold_the_published_hyperparameters() -> None:
    """PAPERS.md, sections 1 and 2, "Training"."""
    by_name = {path.stem: load(path, TrainOptions) for path in CONFIGS}
    alpacare = by_name["alpacare-7b"]
    assert (alpacare.optimiser.learning_rate, alpacare.optimiser.epochs) == (2e-5, 3)
    assert (alpacare.optimiser.batch_rows, alpacare.optimiser.warmup) == (128, 0.03)
    assert (alpacare.data.max_length, alpacare.data.loss_on) == (1024, "response")
    assert (alpacare.data.template, alpacare.lora) == ("alpaca", None)
    medalpaca = by_name["medalpaca-7b-lora"]
    assert (medalpaca.optimiser.learning_rate, medalpaca.optimiser.warmup) == (2e-5, 100)
    assert (medalpaca.optimiser.batch_rows, medalpaca.data.max_length) == (128, 256)
    assert (medalpaca.data.loss_on, medalpaca.data.template) == ("all", "medalpaca")
    assert medalpaca.lora is not None
    assert (medalpaca.lora.rank, medalpaca.lora.alpha, medalpaca.lora.dropout) == (8, 16, 0.1)
    assert medalpaca.lora.targets == ("q_proj", "v_proj")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.learningrate=1", "Did you mean 'learning_rate'"),
        ("optimizer.epochs=1", "Did you mean 'optimiser'"),
        ("model.base=here", "either model.base or"),
        ("lora.rank=4", "needs model.base"),
        ("data.max_length=4096", "above model.from_scratch.context"),
        ("model.from_scratch.heads=5", "width 192 over 5 heads"),
        ("model.dtype=float16", "cannot be fully fine-tuned"),
        ("optimiser.warmup=1.5", "optimiser.warmup"),
        ("optimiser.batch_rows=0", "optimiser.batch_rows"),
        ("data.too_long=cut", "reject"),
    ],
)
def test_a_fault_names_the_key_and_what_was_expected(
    override: str, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.toml"
    path.write_text(GOOD)
    assert load(path, TrainOptions).optimiser.learning_rate == 1e-3
    with pytest.raises(UserError, match=message):
        load(path, TrainOptions, [override])


def test_warm_up_is_steps_or_a_fraction(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text(GOOD)
    for text, value in (("100", 100), ("0.03", 0.03), ("0", 0)):
        found = load(path, TrainOptions, [f"optimiser.warmup={text}"]).optimiser.warmup
        assert (found, type(found)) == (value, type(value))
