"""Assertions that several tests share: what a training must equal, whoever asks."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from meadowlark.config import parse
from meadowlark.errors import MeadowlarkError
from meadowlark.records import Record
from meadowlark.train import log, loss, pack, trainer
from meadowlark.train.encode import Encoder, Example
from meadowlark.train.model import load_model
from meadowlark.train.options import TrainOptions
from meadowlark.train.pack import plan_steps
from meadowlark.train.run import train
from meadowlark.train.tokenizer import load_tokenizer

SCRATCH = {"width": 32, "layers": 2, "heads": 2, "vocabulary": 420, "context": 512}


def options(rows: Path, **sections: Any) -> TrainOptions:
    """A small run over ``rows``: 3 epochs of 5 steps, a checkpoint every 4 steps."""
    values: dict[str, Any] = {
        "model": {"from_scratch": SCRATCH},
        "data": {"path": str(rows), "template": "alpaca"},
        "optimiser": {"learning_rate": 3e-3, "batch_rows": 4, "epochs": 3},
        "run": {"save_every_steps": 4},
    }
    for name, section in sections.items():
        values[name] = section if name in ("model", "lora") else {**values[name], **section}
    return parse(values, TrainOptions, "test")


def power_cut(step: int, monkeypatch: pytest.MonkeyPatch, told: TrainOptions, out: Path) -> None:
    """Train into ``out`` until an error that comes after so many steps."""
    own = trainer.PackedTrainer.training_step

    def failing(self: Any, *arguments: Any, **named: Any) -> torch.Tensor:
        if self.state.global_step == step:
            raise MeadowlarkError("power cut")
        return own(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.PackedTrainer, "training_step", failing)
        with pytest.raises(MeadowlarkError, match="power cut"):
            train(told, out)


def plain_loss(model: Any, example: Example) -> torch.Tensor:
    """transformers' own loss on one row by itself, labels masked with -100, summed."""
    ids = torch.tensor(example.input_ids.tolist())[None]
    labels = torch.full_like(ids, -100)
    for start, end in example.spans:
        labels[0, start:end] = ids[0, start:end]
    return model(input_ids=ids, labels=labels).loss * example.supervised


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(model.parameters())))


def packed_equals_transformers_on_single_rows(
    model: Any, examples: Sequence[Example], implementation: str = "sdpa"
) -> None:
    """Loss and gradients of one packed pass, against transformers' own row by row."""
    packed = loss.summed_loss(model, pack.lay_out(examples, share=True))
    packed_gradients = gradients(model, packed)
    model.set_attn_implementation(implementation)
    single = sum((plain_loss(model, e) for e in examples), torch.zeros(()))
    single_gradients = gradients(model, single)
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(packed_gradients, single_gradients, rtol=1e-3, atol=2e-4)


def trains_as_a_loop_written_by_hand(mixed: Path, records: Sequence[Record], out: Path) -> None:
    """Row by row with transformers' own loss, AdamW, clipping and a cosine by its formula.

    The log's loss and gradient norm of every step are compared besides the weights: AdamW and
    clipping hide most of what a wrong normaliser does to weights.
    """
    optimiser = {"weight_decay": 0.1, "warmup": 2, "max_steps": 8, "max_grad_norm": 0.5}
    train(options(mixed, optimiser=optimiser, run={"tokens_per_forward": 512}), out)
    model, tokenizer = load_model(out / "initial", "float32"), load_tokenizer(out, None)
    model.train()
    examples, _ = Encoder(tokenizer, max_length=512).encode(records[:20])
    lengths = [len(example.input_ids) for example in examples]
    decayed = [p for p in model.parameters() if p.dim() > 1]
    norms = [p for p in model.parameters() if p.dim() == 1]
    adam = torch.optim.AdamW(
        [{"params": decayed}, {"params": norms, "weight_decay": 0.0}], lr=3e-3, weight_decay=0.1
    )
    logged = [line for line in log.read_log(out / log.NAME) if "loss" in line]
    for number, step in enumerate(
        plan_steps(lengths, seed=42, epochs=3, batch_rows=4, max_steps=8)
    ):
        rate = number / 2 if number < 2 else 0.5 * (1 + math.cos(math.pi * (number - 2) / 6))
        for group in adam.param_groups:
            group["lr"] = 3e-3 * rate
        supervised = sum(examples[row].supervised for row in step.rows)
        total = 0.0
        for row in step.rows:
            nats = plain_loss(model, examples[row]) / supervised
            nats.backward()
            total += nats.item()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        assert logged[number]["loss"] == pytest.approx(total, rel=1e-3)
        assert logged[number]["grad_norm"] == pytest.approx(norm.item(), rel=1e-2)
        adam.step()
        adam.zero_grad()
    ours = load_file(out / "model.safetensors")
    start = load_file(out / "initial" / "model.safetensors")
    for name, weights in model.state_dict().items():
        if name in ours:
            torch.testing.assert_close(ours[name], weights, rtol=0, atol=2e-4)
            assert (ours[name] - start[name]).abs().max() > 5e-3


def eight_passes_of_a_row_equal_one_of_eight_rows(
    mixed: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Accumulation 8 x 1 and 1 x 8: one loss, one gradient, to a millionth in float32."""
    from meadowlark.train.trainer import PackedTrainer

    found = []
    step = PackedTrainer.training_step

    def watched(self: Any, model: Any, inputs: Any, *more: Any) -> torch.Tensor:
        loss = step(self, model, inputs, *more)
        gradient = torch.cat([p.grad.flatten() for p in model.parameters()]).double()
        found.append((len(self.passes(inputs.rows)), float(loss), gradient))
        return loss

    with monkeypatch.context() as patch:
        patch.setattr(PackedTrainer, "training_step", watched)
        told = {"batch_rows": 8, "max_steps": 1}
        for number, packing in enumerate((False, True)):
            asked = options(mixed, optimiser=told, run={"packing": packing})
            train(asked, folder / str(number))
    (eight, first, apart), (one, second, together) = found
    assert (eight, one) == (8, 1)
    assert first == pytest.approx(second, rel=1e-6)
    assert float((apart - together).norm() / together.norm()) < 1e-6
