"""Compiled layers compute what layers compute, compiled once; Liger is told to leave the loss."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from meadowlark.config import parse
from meadowlark.errors import UserError
from meadowlark.train import attention, kernels
from meadowlark.train.adapters import add_lora
from meadowlark.train.attention import use_packed_attention
from meadowlark.train.encode import Example
from meadowlark.train.loss import summed_loss
from meadowlark.train.model import (
    _recompute_activations,
    decoder_layers,
    load_model,
    new_llama,
    save_checkpoint,
)
from meadowlark.train.options import FromScratchOptions, LoraOptions, TrainOptions
from meadowlark.train.pack import Pass, Samples, lay_out
from meadowlark.train.run import train

ROWS = ((5, 40, 90, 17), (60, 61), (12, 13, 14, 15, 90))


def passes(vocabulary: int) -> list[Pass]:
    """Passes of other rows each, filled up to one size."""
    rng = np.random.default_rng(0)
    return [
        lay_out(
            [
                Example("", rng.integers(3, vocabulary, n).astype(np.int32), ((n // 2, n),), 1)
                for n in lengths
            ],
            fill=256,
            longest=128,
        )
        for lengths in ROWS
    ]


def gradients(model: Any, batch: Pass) -> torch.Tensor:
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    made = torch.autograd.grad(summed_loss(model, batch), trained)
    return torch.cat([gradient.flatten() for gradient in made])


def by_borders(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    samples: Samples,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """What the GPU's kernel is given and gives: attention told of samples by their borders."""
    place = torch.arange(query.shape[2])
    sample = torch.searchsorted(samples.cumulative[1:].long(), place, right=True)
    seen = (sample[:, None] == sample) & (place[:, None] >= place)
    groups = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(groups, 1) for tensor in (key, value))
    made: torch.Tensor = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=scaling
    )
    return made.transpose(1, 2)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not:UserWarning")
@pytest.mark.parametrize("recomputing", [0, 1])
def test_layers_are_compiled_once_for_passes_of_one_size(
    recomputing: int, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU: the rows' lengths are no part of what is compiled, and nothing breaks it."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f: compile_(f, backend=counter, fullgraph=True))
    monkeypatch.setattr(attention, "_varlen_runs", lambda query, dropout: True)
    monkeypatch.setattr(attention, "_varlen", by_borders)
    torch._dynamo.reset()
    model.train()
    batches = passes(model.config.vocab_size)
    expected = [gradients(model, batch) for batch in batches]
    if recomputing:
        _recompute_activations(model, recomputing)
    kernels.compile_layers(decoder_layers(model))
    for batch, wanted in zip(batches, expected, strict=True):
        assert (gradients(model, batch) - wanted).norm() < 1e-5 * wanted.norm()
    # Layers that recompute are others, but for transformers 5.17.
    assert 1 <= counter.frame_count <= 1 + recomputing
    torch._dynamo.reset()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not:UserWarning")
@pytest.mark.parametrize("kind", [None, "nf4"])
def test_compiled_gradients_equal_eager_ones(
    kind: str | None, tokenizer: Any, tmp_path: Path
) -> None:
    """By inductor on the CPU: an adapter on all layers, one of which recomputes."""
    options = FromScratchOptions(width=64, layers=2, heads=4, kv_heads=2, context=512)
    save_checkpoint(new_llama(options, tokenizer, seed=1), tokenizer, tmp_path)
    model = load_model(tmp_path, "float32", kind)
    use_packed_attention(model, 128)
    _recompute_activations(model, 1)
    model = add_lora(model, LoraOptions(targets=("all",), rank=4), seed=0).train()
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)
    batches = passes(len(tokenizer))
    expected = [gradients(model, batch) for batch in batches]
    torch._dynamo.reset()
    kernels.compile_layers(decoder_layers(model))
    for batch, wanted in zip(batches, expected, strict=True):
        assert (gradients(model, batch) - wanted).norm() < 1e-5 * wanted.norm()
    assert _weights_kept(model, batches[0]) == 0
    torch._dynamo.reset()


def _weights_kept(model: Any, batch: Pass) -> int:
    """How many tensors of an MLP weight's shape are kept for the backward pass, beside weights."""
    mlp = model.get_base_model().model.layers[1].mlp
    shape = (mlp.up_proj.out_features, mlp.up_proj.in_features)
    held = {weight.data_ptr() for weight in model.parameters()}
    kept = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tuple(tensor.shape) in (shape, shape[::-1]) and tensor.data_ptr() not in held
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        summed_loss(model, batch)
    return kept


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not:UserWarning")
def test_a_compiled_run_learns_what_an_eager_one_does(mixed: Path, tmp_path: Path) -> None:
    found = []
    for compiled in (False, True):
        options = parse(
            {
                "model": {
                    "from_scratch": {
                        "width": 32,
                        "layers": 2,
                        "heads": 2,
                        "vocabulary": 420,
                        "context": 512,
                    }
                },
                "data": {"path": str(mixed), "template": "alpaca"},
                "optimiser": {"learning_rate": 3e-3, "batch_rows": 5, "max_steps": 6},
                "run": {"compile": compiled, "tokens_per_forward": 1024},
            },
            TrainOptions,
            "test",
        )
        run = train(options, tmp_path / str(compiled))
        found.append(run.manifest.results["validation_loss_after"])
    torch._dynamo.reset()
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_liger_gets_the_model_without_the_loss(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Liger itself needs a GPU to be imported; here a module with its two names stands for it."""
    called: dict[str, Any] = {}
    module = ModuleType("liger_kernel.transformers.monkey_patch")
    module.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}  # type: ignore[attr-defined]
    module._apply_liger_kernel_to_instance = lambda model, **flags: called.update(  # type: ignore[attr-defined]
        model=model, **flags
    )
    for name in ("liger_kernel", "liger_kernel.transformers"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    kernels.use_liger(model)
    assert called == {"model": model, "cross_entropy": False, "fused_linear_cross_entropy": False}
    with pytest.raises(UserError, match="'liger' has none for a opt model"):
        kernels.refuse_without_liger("opt")
