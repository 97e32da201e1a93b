"""AdamW in 8 bits on a CPU: its state is 8 bits, it learns, and a stop changes no bit."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from training_proofs import power_cut

from meadowlark.config import parse
from meadowlark.train.options import TrainOptions
from meadowlark.train.run import train
from meadowlark.train.trainer import PackedTrainer

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
SCRATCH = {"width": 64, "layers": 2, "heads": 2, "vocabulary": 420, "context": 512}
SMALLEST_IN_8_BITS = 4096


def options(rows: Path) -> TrainOptions:
    return parse(
        {
            "model": {"from_scratch": SCRATCH},
            "data": {"path": str(rows), "template": "alpaca"},
            "optimiser": {"name": "adamw_8bit", "learning_rate": 3e-3, "batch_rows": 5},
            "run": {"save_every_steps": 4},
        },
        TrainOptions,
        "test",
    )


def test_state_is_in_8_bits_it_learns_and_a_stop_changes_no_bit(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 steps. Embeddings keep a state of 32 bits, as bitsandbytes advises, and so do norms."""
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    seen: dict[str, Any] = {}
    step = PackedTrainer.training_step

    def watching(self: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        seen["trainer"] = self
        return step(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PackedTrainer, "training_step", watching)
        results = train(options(mixed), whole).manifest.results
    assert results["validation_loss_after"] < results["validation_loss_before"] - 0.3
    trainer = seen["trainer"]
    state = trainer.optimizer.optimizer.state
    for name, weight in trainer.model.named_parameters():
        small = weight.numel() < SMALLEST_IN_8_BITS or "embed_tokens" in name
        wanted = torch.float32 if small else torch.uint8
        assert {state[weight][moment].dtype for moment in ("state1", "state2")} == {wanted}, name
    assert sum(state[w]["state1"].dtype == torch.uint8 for w in trainer.model.parameters()) == 15

    power_cut(6, monkeypatch, options(mixed), stopped)
    assert train(options(mixed), stopped).manifest.resumed == 1
    found, expected = (load_file(run / "model.safetensors") for run in (stopped, whole))
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_its_first_step_is_adamws(mixed: Path, tmp_path: Path) -> None:
    """From a zero state both move every weight by the learning rate against its gradient."""
    moved = []
    for name in ("adamw", "adamw_8bit"):
        values = options(mixed).model_dump(mode="json")
        values["optimiser"] |= {"name": name, "max_steps": 1, "warmup": 0}
        out = tmp_path / name
        train(parse(values, TrainOptions, "test"), out)
        before = load_file(out / "initial" / "model.safetensors")
        after = load_file(out / "model.safetensors")
        moved.append(torch.cat([(after[key] - before[key]).flatten() for key in before]))
    exact, found = moved
    assert (found - exact).norm() < 0.02 * exact.norm()
