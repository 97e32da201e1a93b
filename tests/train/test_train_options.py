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


PUBLISHED = {  # base, epochs, learning rate, rows a step, base's bits where LoRA is trained
    "alpacare-7b": ("meta-llama/Llama-2-7b-hf", 3, 2e-5, 128, None),
    "alpacare-13b": ("meta-llama/Llama-2-13b-hf", 5, 1e-5, 128, None),
    "medalpaca-7b": ("huggyllama/llama-7b", 3, 2e-5, 128, None),
    "medalpaca-13b": ("huggyllama/llama-13b", 3, 2e-5, 256, None),
    "medalpaca-30b": ("huggyllama/llama-30b", 3, 2e-5, 256, None),
    "medalpaca-7b-lora": ("huggyllama/llama-7b", 3, 2e-5, 128, 16),
    "medalpaca-7b-lora-int8": ("huggyllama/llama-7b", 3, 2e-5, 128, 8),
    "medalpaca-13b-lora": ("huggyllama/llama-13b", 3, 2e-5, 128, 16),
    "medalpaca-13b-lora-int8": ("huggyllama/llama-13b", 3, 2e-5, 128, 8),
    "medalpaca-30b-lora-int8": ("huggyllama/llama-30b", 3, 2e-5, 128, 8),
    "medalpaca-llama-3.2-3b": ("meta-llama/Llama-3.2-3B", 3, 2e-5, 8, 16),
}


def test_a_configuration_is_shipped_for_every_published_run() -> None:
    assert {path.stem for path in CONFIGS} - {"real-small", "small-from-scratch"} == set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_shipped_configuration_holds_the_published_hyperparameters(name: str) -> None:
    """PAPERS.md, sections 1 and 2, "Training"."""
    base, epochs, rate, rows, bits = PUBLISHED[name]
    options = load(CONFIGS[0].parent / f"{name}.toml", TrainOptions)
    optimiser, data, run = options.optimiser, options.data, options.run
    assert options.model.base == base
    assert (optimiser.epochs, optimiser.learning_rate, optimiser.batch_rows) == (epochs, rate, rows)
    assert (optimiser.name, optimiser.schedule, optimiser.weight_decay) == ("adamw", "cosine", 0.0)
    assert run.precision == "bfloat16"
    if name.startswith("alpacare"):
        assert (data.template, data.loss_on, data.max_length) == ("alpaca", "response", 1024)
        assert (optimiser.warmup, data.too_long) == (0.03, "reject")
    else:
        assert (data.template, data.loss_on, data.max_length) == ("medalpaca", "all", 256)
        assert (optimiser.warmup, data.too_long) == (100, "cut_input")
        assert (run.evaluate_every_steps, run.keep_best) == (200, True)
    assert options.model.quantise == ("int8" if bits == 8 else None)
    if bits is None:
        assert (options.lora, options.model.dtype, run.gradient_checkpointing) == (
            None, "float32", True,
        )  # fmt: skip
    else:
        lora = options.lora
        assert lora is not None
        assert (lora.rank, lora.alpha, lora.dropout) == (8, 16, 0.1)
        assert (lora.targets, lora.rslora, lora.dora) == (("q_proj", "v_proj"), False, False)
        assert (options.model.dtype, run.gradient_checkpointing) == ("bfloat16", False)


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
