"""Adapters, and embeddings trained beside them, are what peft and the options say they are."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from likelihoods import loglikelihoods
from meadowlark.config import parse
from meadowlark.errors import UserError
from meadowlark.records import Record
from meadowlark.train.adapters import adapter_targets, add_lora, embedding_names
from meadowlark.train.attention import use_packed_attention
from meadowlark.train.encode import Encoder
from meadowlark.train.loss import evaluate, summed_loss
from meadowlark.train.model import embed_tokens, load_model, new_llama, save_checkpoint
from meadowlark.train.options import FromScratchOptions, LoraOptions, TrainOptions
from meadowlark.train.pack import Pass, lay_out
from meadowlark.train.run import train
from meadowlark.train.tokenizer import add_tokens, load_tokenizer

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
NEW = ("<|finding|>", "<|plan|>")


def llama(tokenizer: Any, **more: Any) -> Any:
    options = FromScratchOptions(width=32, layers=2, heads=4, kv_heads=2, context=512, **more)
    return new_llama(options, tokenizer, seed=1)


def opt(tokenizer: Any) -> Any:
    from transformers import OPTConfig, OPTForCausalLM

    torch.manual_seed(1)
    return OPTForCausalLM(
        OPTConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            word_embed_proj_dim=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            dropout=0.0,
        )
    )


@pytest.fixture
def batch(tokenizer: Any, records: list[Record]) -> Pass:
    return lay_out(Encoder(tokenizer, max_length=512).encode(records)[0])


@pytest.fixture(params=[False, True], ids=["apart", "tied"])
def base(request: pytest.FixtureRequest, tokenizer: Any, tmp_path: Path) -> Path:
    """A saved small LLaMA with apart or tied embeddings."""
    folder = tmp_path / "base"
    save_checkpoint(llama(tokenizer, tied=request.param), tokenizer, folder)
    return folder


def options(base: Path, rows: Path, **more: Any) -> TrainOptions:
    values: dict[str, Any] = {
        "model": {"base": str(base)},
        "data": {"path": str(rows)},
        "optimiser": {"learning_rate": 1e-2, "batch_rows": 5, "max_steps": 12, "warmup": 0},
    }
    for name, section in more.items():
        values[name] = {**values.get(name, {}), **section}
    return parse(values, TrainOptions, "test")


def test_all_means_every_linear_layer_but_the_head(tokenizer: Any) -> None:
    everything = LoraOptions(targets=("all",))
    mlp = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    assert adapter_targets(llama(tokenizer), everything) == mlp
    assert adapter_targets(llama(tokenizer, tied=True), everything) == mlp
    names = ["fc1", "fc2", "k_proj", "out_proj", "q_proj", "v_proj"]
    assert adapter_targets(opt(tokenizer), everything) == names


def test_names_that_are_no_layers_or_the_trained_head_are_refused(tokenizer: Any) -> None:
    model = llama(tokenizer)
    with pytest.raises(UserError, match=r"no linear layer 'q_prj'\. Did you mean 'q_proj'"):
        adapter_targets(model, LoraOptions(targets=("q_prj",)))
    assert adapter_targets(model, LoraOptions(targets=("lm_head",))) == ["lm_head"]
    with pytest.raises(UserError, match=r"'lm_head' is the head, which lora\.embeddings trains"):
        adapter_targets(model, LoraOptions(targets=("lm_head",), embeddings=True))


@pytest.mark.parametrize(
    ("rslora", "scale"), [(False, 32 / 16), (True, 32 / 4)], ids=["alpha / r", "alpha / sqrt(r)"]
)
def test_an_adapter_adds_its_two_matrices_times_the_scale(
    rslora: bool, scale: float, tokenizer: Any
) -> None:
    """LoRA's alpha / r, rsLoRA's alpha / sqrt(r)."""
    lora = LoraOptions(rank=16, alpha=32, rslora=rslora, targets=("q_proj",))
    model = add_lora(llama(tokenizer), lora, seed=0)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(b)
    x = torch.randn(5, 32)
    expected = layer.base_layer(x) + scale * x @ a.T @ b.T
    torch.testing.assert_close(layer(x), expected)


def test_dora_keeps_a_magnitude_apart_from_the_direction(tokenizer: Any) -> None:
    """DoRA: m · (W + BA·scale) / ‖W + BA·scale‖ by output row, m at first ‖W‖."""
    lora = LoraOptions(rank=4, alpha=8, dora=True, targets=("q_proj",))
    model = add_lora(llama(tokenizer), lora, seed=0)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    magnitude = layer.lora_magnitude_vector["default"].weight
    weight = layer.base_layer.weight
    torch.testing.assert_close(magnitude, weight.norm(dim=1))
    torch.nn.init.normal_(b)
    torch.nn.init.uniform_(magnitude, 0.5, 1.5)
    turned = weight + 2.0 * b @ a
    expected = magnitude[:, None] * turned / turned.norm(dim=1, keepdim=True)
    x = torch.randn(5, 32)
    torch.testing.assert_close(layer(x), x @ expected.T, rtol=1e-4, atol=1e-5)


def test_embeddings_and_head_have_their_own_names(tokenizer: Any) -> None:
    assert embedding_names(llama(tokenizer)) == ["embed_tokens", "lm_head"]
    assert embedding_names(llama(tokenizer, tied=True)) == ["embed_tokens"]
    assert embedding_names(opt(tokenizer)) == ["embed_tokens"]


@pytest.mark.parametrize("make", [llama, opt], ids=["llama", "opt"])
def test_under_autocast_adapters_take_their_input_as_it_is(
    make: Any, tokenizer: Any, batch: Pass
) -> None:
    """No float32 copy of a layer's input is made, and the gradients are those with one."""
    gradients = []
    for autocast in (None, torch.bfloat16):
        model = make(tokenizer).to(torch.bfloat16)
        use_packed_attention(model, 512)
        model = add_lora(model, LoraOptions(), 0, autocast).train()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        assert {weight.dtype for weight in trained} == {torch.float32}
        seen: list[torch.dtype] = []

        def note(_: Any, given: Any, seen: list[torch.dtype] = seen) -> None:
            seen.append(given[0].dtype)

        for name, module in model.named_modules():
            if name.endswith("lora_A.default"):
                module.register_forward_pre_hook(note)
        torch.manual_seed(0)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.02)
        with torch.autocast("cpu", torch.bfloat16):
            loss = summed_loss(model, batch)
        gradients.append(torch.autograd.grad(loss, trained))
        assert set(seen) == {torch.float32 if autocast is None else torch.bfloat16}
    for one, other in zip(*gradients, strict=True):
        assert (one - other).norm() <= 1e-2 * other.norm()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_embeddings_are_trained_in_float32_and_saved_under_their_names(
    base: Path, dtype: str, mixed: Path, tmp_path: Path, records: list[Record]
) -> None:
    from peft import PeftModel

    out = tmp_path / "out"
    asked = options(
        base, mixed, model={"dtype": dtype}, lora={"targets": ["q_proj"], "embeddings": True}
    )
    results = train(asked, out).manifest.results
    assert results["validation_loss_after"] < results["validation_loss_before"] - 0.5
    tied = json.loads((base / "config.json").read_text())["tie_word_embeddings"]
    saved = json.loads((out / "adapter_config.json").read_text())
    named = {name.rpartition(".")[2] for name in saved["modules_to_save"]}
    assert named == ({"embed_tokens"} if tied else {"embed_tokens", "lm_head"})
    weights = load_file(out / "adapter_model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    before = load_file(base / "model.safetensors")["model.embed_tokens.weight"]
    name = "base_model.model.model.embed_tokens.weight"
    assert (weights[name] - before).abs().max() > 1e-3
    tuned = PeftModel.from_pretrained(load_model(base, "float32"), out)
    if tied:
        head, embeddings = tuned.get_output_embeddings(), tuned.get_input_embeddings()
        assert torch.equal(head.weight, embeddings.weight)
        assert torch.equal(head.weight, weights[name])
    use_packed_attention(tuned.get_base_model(), 512)
    held_out, _ = Encoder(load_tokenizer(out, None), max_length=512).encode(records[20:])
    found = evaluate(tuned, held_out, tokens_per_forward=512).loss
    precise = 1e-5 if dtype == "float32" else 2e-2
    assert found == pytest.approx(results["validation_loss_after"], rel=precise)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_new_tokens_start_at_the_mean_of_the_old(base: Path, dtype: str) -> None:
    def grown(seed: int) -> Any:
        model, tokenizer = load_model(base, dtype), load_tokenizer(base, None)
        size = len(tokenizer)
        add_tokens(tokenizer, NEW)
        embed_tokens(model, tokenizer, NEW, seed)
        assert model.config.vocab_size == len(tokenizer) == size + 2
        assert model.get_input_embeddings().weight.shape[0] == size + 2
        assert model.get_output_embeddings().weight.shape[0] == size + 2
        return model

    first, again, other = grown(1), grown(1), grown(2)
    assert first.get_input_embeddings().weight.dtype == getattr(torch, dtype)
    for which in ("get_input_embeddings", "get_output_embeddings"):
        rows = getattr(first, which)().weight.detach().float()
        old, new = rows[:-2], rows[-2:]
        assert (new - old.mean(0)).abs().max() < 0.1 * old.std()
        assert not torch.equal(new[0], new[1])
        assert torch.equal(rows, getattr(again, which)().weight.detach().float())
        assert not torch.equal(new, getattr(other, which)().weight.detach().float()[-2:])


def test_unused_rows_are_taken_before_the_model_grows(tokenizer: Any, tmp_path: Path) -> None:
    """Many models embed more rows than their tokenizer has tokens; none of them shrinks."""
    model = llama(tokenizer)
    model.resize_token_embeddings(len(tokenizer) + 64, mean_resizing=False)
    save_checkpoint(model, tokenizer, tmp_path)
    grown = load_tokenizer(tmp_path, None)
    add_tokens(grown, NEW)
    known = model.get_input_embeddings().weight[: len(tokenizer)].detach().clone()
    embed_tokens(model, grown, NEW, seed=0)
    rows = model.get_input_embeddings().weight.detach()
    assert len(rows) == len(tokenizer) + 64
    assert torch.equal(rows[: len(tokenizer)], known)
    taken = rows[len(tokenizer) : len(tokenizer) + 2]
    assert (taken - known.mean(0)).abs().max() < 0.1 * known.std()


def test_a_token_the_base_has_is_refused(base: Path) -> None:
    with pytest.raises(UserError, match=r"'<\|end\|>' is in the base's tokenizer already"):
        add_tokens(load_tokenizer(base, None), ("<|end|>",))


@pytest.mark.parametrize("adapted", [False, True], ids=["full", "lora"])
def test_a_checkpoint_carries_the_tokens_it_was_given(
    adapted: bool, base: Path, mixed: Path, tmp_path: Path
) -> None:
    from meadowlark.llm.local import open_local
    from meadowlark.records import Turn

    out = tmp_path / "out"
    more = {"lora": {"embeddings": True}} if adapted else {}
    asked = options(base, mixed, model={"added_tokens": list(NEW)}, **more)
    train(asked, out)
    tokenizer = load_tokenizer(out, None)
    ids = tokenizer.convert_tokens_to_ids(list(NEW))
    assert ids == [len(tokenizer) - 2, len(tokenizer) - 1]
    assert tokenizer("a<|plan|>b", add_special_tokens=False)["input_ids"].count(ids[1]) == 1
    served = open_local(f"{base}+{out}" if adapted else str(out))
    assert served.model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert served.model.get_output_embeddings().weight.shape[0] == len(tokenizer)
    weights = load_file(out / ("adapter_model.safetensors" if adapted else "model.safetensors"))
    prefix = "base_model.model." if adapted else ""
    trained = weights[f"{prefix}model.embed_tokens.weight"]
    assert torch.equal(served.model.get_input_embeddings().weight, trained)
    prompt = [Turn("user", "What does the heart do?")]
    ((plan,),) = loglikelihoods(served, [prompt], [["<|plan|>"]])
    assert -20 < plan < 0
