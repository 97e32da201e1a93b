"""Bases in 8 and 4 bits: bitsandbytes' own weights, their plain values' arithmetic, on a CPU."""

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from training_proofs import power_cut

from meadowlark.config import parse
from meadowlark.errors import UserError
from meadowlark.records import Record
from meadowlark.train.adapters import add_lora
from meadowlark.train.attention import use_packed_attention
from meadowlark.train.encode import Encoder
from meadowlark.train.loss import evaluate, summed_loss
from meadowlark.train.model import (
    _recompute_activations,
    load_model,
    new_llama,
    save_checkpoint,
)
from meadowlark.train.options import FromScratchOptions, LoraOptions, TrainOptions
from meadowlark.train.pack import Pass, lay_out
from meadowlark.train.run import train
from meadowlark.train.tokenizer import load_tokenizer

pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
kinds = pytest.mark.parametrize("kind", ["int8", "nf4"])


@pytest.fixture(scope="module")
def base(tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small LLaMA with biased attention, in float32, with its tokenizer."""
    folder = tmp_path_factory.mktemp("base")
    options = FromScratchOptions(width=64, layers=2, heads=4, kv_heads=2, context=512)
    model = new_llama(options, tokenizer, seed=1)
    model.config.attention_bias = True
    torch.manual_seed(2)
    model = type(model)(model.config)
    for name, weight in model.named_parameters():
        if "norm" not in name:  # large enough that a frozen head can be learned for
            torch.nn.init.normal_(weight, std=0.1)
    save_checkpoint(model, tokenizer, folder)
    return folder


@pytest.fixture
def batch(tokenizer: Any, records: list[Record]) -> Pass:
    return lay_out(Encoder(tokenizer, max_length=512).encode(records)[0])


def dequantised(layer: Any) -> torch.Tensor:
    """The layer's weight by bitsandbytes' own functions."""
    from bitsandbytes import functional

    if layer.weight.dtype == torch.int8:
        made: torch.Tensor = functional.int8_vectorwise_dequant(layer.weight.data, layer.weight.SCB)
    else:
        made = functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    return made


@kinds
@pytest.mark.parametrize("name", ["q_proj", "down_proj"])
def test_a_layer_multiplies_by_the_weight_bitsandbytes_stores(
    kind: str, name: str, base: Path
) -> None:
    model = load_model(base, "float32", kind)
    layer = getattr(
        model.model.layers[0].self_attn if name == "q_proj" else model.model.layers[0].mlp, name
    )
    torch.manual_seed(0)
    x = torch.randn(7, layer.in_features, requires_grad=True)
    weight = dequantised(layer)
    expected = F.linear(x, weight, layer.bias)
    torch.testing.assert_close(layer(x), expected, rtol=1e-5, atol=1e-6)
    (found,) = torch.autograd.grad(layer(x).square().sum(), x)
    (gradient,) = torch.autograd.grad(expected.square().sum(), x)
    torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        half = layer(x)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half.float(), expected, rtol=2e-2, atol=2e-2)


@kinds
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_norms_embeddings_and_head_are_in_the_models_type(
    kind: str, dtype: str, base: Path
) -> None:
    model = load_model(base, dtype, kind)
    other = getattr(torch, dtype)
    packed = torch.int8 if kind == "int8" else torch.uint8
    for name, weight in model.named_parameters():
        quantised = "proj.weight" in name
        assert weight.dtype == (packed if quantised else other), name
        assert not (quantised and weight.requires_grad)
    layer = model.model.layers[0].mlp.up_proj
    size = layer.in_features * layer.out_features
    assert layer.weight.numel() == (size if kind == "int8" else size // 2)
    if kind == "nf4":
        state = layer.weight.quant_state
        assert state.nested  # the blocks' constants are in 8 bits
        assert state.absmax.dtype == torch.uint8


@kinds
def test_gradients_flow_after_an_evaluation_too(kind: str, base: Path, batch: Pass) -> None:
    """bitsandbytes 0.50 repacks 4-bit weights at the first evaluation on some CPUs: lost there."""
    model = load_model(base, "float32", kind)
    use_packed_attention(model, 512)
    model = add_lora(model, LoraOptions(targets=("q_proj",)), seed=0)
    first = model.get_base_model().model.layers[0].self_attn.q_proj.lora_B["default"].weight
    before = torch.autograd.grad(summed_loss(model.train(), batch), first)[0]
    model.eval()
    with torch.no_grad():
        summed_loss(model, batch)
    after = torch.autograd.grad(summed_loss(model.train(), batch), first)[0]
    assert before.norm() > 0
    assert torch.equal(before, after)


@kinds
def test_nothing_of_a_weights_size_is_kept_for_the_backward_pass(
    kind: str, base: Path, batch: Pass
) -> None:
    model = load_model(base, "float32", kind)
    use_packed_attention(model, 512)
    model = add_lora(model, LoraOptions(), seed=0).train()
    held = {weight.data_ptr() for weight in model.parameters()}
    sizes = []

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.is_floating_point() and tensor.data_ptr() not in held:
            sizes.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        summed_loss(model, batch)
    mlp = model.get_base_model().model.layers[0].mlp
    shape = (mlp.up_proj.out_features, mlp.up_proj.in_features)
    assert sizes
    assert shape not in sizes
    assert shape[::-1] not in sizes


@kinds
@pytest.mark.parametrize("dora", [False, True])
def test_recomputing_layers_changes_no_gradient(
    kind: str, dora: bool, base: Path, batch: Pass
) -> None:
    model = load_model(base, "float32", kind)
    use_packed_attention(model, 512)
    lora = LoraOptions(targets=("all",), dora=dora)
    model = add_lora(model, lora, seed=0).train()
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    torch.manual_seed(0)
    for weight in trained:
        weight.data.add_(torch.randn_like(weight) * 0.05)
    kept = torch.autograd.grad(summed_loss(model, batch), trained)
    for layers in (1, True):
        _recompute_activations(model, layers)
        torch.testing.assert_close(torch.autograd.grad(summed_loss(model, batch), trained), kept)


def options(base: Path, rows: Path, kind: str, **more: Any) -> TrainOptions:
    values: dict[str, Any] = {
        "model": {"base": str(base), "quantise": kind},
        "data": {"path": str(rows)},
        "lora": {"rank": 8, "targets": ["all"], "dropout": 0.1},
        "optimiser": {"learning_rate": 1e-2, "batch_rows": 5, "max_steps": 16, "warmup": 0},
        "run": {"save_every_steps": 3, "gradient_checkpointing": 1},
    }
    for name, section in more.items():
        values[name] = {**values[name], **section}
    return parse(values, TrainOptions, "test")


@kinds
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")  # in peft itself
def test_an_adapter_learns_and_loads_in_plain_peft(
    kind: str, base: Path, mixed: Path, tmp_path: Path, records: list[Record]
) -> None:
    """On the base as it is, and on one that transformers quantised without us."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    out = tmp_path / "out"
    results = train(options(base, mixed, kind), out).manifest.results
    after = results["validation_loss_after"]
    assert after < results["validation_loss_before"] - 0.5
    assert {t.dtype for t in load_file(out / "adapter_model.safetensors").values()} == {
        torch.float32
    }
    held_out, _ = Encoder(load_tokenizer(out, None), max_length=512).encode(records[20:])

    def loss(model: Any) -> float:
        tuned = PeftModel.from_pretrained(model, out)
        use_packed_attention(tuned.get_base_model(), 512)
        return evaluate(tuned, held_out, tokens_per_forward=512).loss

    assert loss(load_model(base, "float32", kind)) == pytest.approx(after, rel=1e-5)
    assert loss(load_model(base, "float32")) == pytest.approx(after, rel=5e-2)
    stock = (
        BitsAndBytesConfig(load_in_8bit=True)
        if kind == "int8"
        else BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
        )
    )
    theirs = AutoModelForCausalLM.from_pretrained(
        base, dtype=torch.float32, quantization_config=stock
    )
    assert loss(theirs) == pytest.approx(after, rel=1e-2)


@kinds
def test_a_stop_changes_no_bit(
    kind: str, base: Path, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:

    asked = options(base, mixed, kind, optimiser={"max_steps": 6})
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    train(asked, whole)
    power_cut(4, monkeypatch, asked, stopped)
    train(asked, stopped)
    name = "adapter_model.safetensors"
    assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def test_a_base_quantised_elsewhere_is_trained_upon_or_refused(
    base: Path, tokenizer: Any, mixed: Path, tmp_path: Path, batch: Pass
) -> None:
    quantised = tmp_path / "quantised"
    model = load_model(base, "float32", "nf4")
    save_checkpoint(model, tokenizer, quantised)
    again = load_model(quantised, "float32")
    assert type(again.model.layers[0].mlp.up_proj).__name__ == "Nf4Linear"
    for loaded in (model, again):
        use_packed_attention(loaded, 512)
    with torch.no_grad():
        assert torch.equal(summed_loss(again, batch), summed_loss(model, batch))
    with pytest.raises(UserError, match="quantised already, and not to int8"):
        train(options(quantised, mixed, "int8"), tmp_path / "out")
    full = parse(
        {
            "model": {"base": str(quantised)},
            "data": {"path": str(mixed)},
            "optimiser": {"learning_rate": 1e-3},
        },
        TrainOptions,
        "test",
    )
    with pytest.raises(UserError, match=r"stay frozen: add \[lora\]"):
        train(full, tmp_path / "out")


@kinds
def test_a_quantised_model_can_be_copied(kind: str, base: Path, batch: Pass) -> None:
    """As trainers and tests of others do."""
    model = load_model(base, "float32", kind)
    use_packed_attention(model, 512)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(summed_loss(copy.deepcopy(model), batch), summed_loss(model, batch))
