"""Every family through the same code: packed is alone is transformers' own, and a kill is no end.

Tiny models with random weights. Windows are 16 tokens and every sample but one is longer.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_proofs import power_cut

from meadowlark.config import parse
from meadowlark.errors import UserError
from meadowlark.train import attention
from meadowlark.train.attention import PROVED, use_packed_attention
from meadowlark.train.encode import Example
from meadowlark.train.loss import summed_loss
from meadowlark.train.options import TrainOptions
from meadowlark.train.pack import lay_out
from meadowlark.train.run import train

VOCABULARY = 424
COMMON = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
LLAMA_3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
WINDOW: dict[str, Any] = {"sliding_window": 16}
GEMMA = {"head_dim": 8, "query_pre_attn_scalar": 8}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama-1-2": ("llama", {**COMMON, "num_key_value_heads": 4}),
    "llama-3": ("llama", {**COMMON, "rope_parameters": LLAMA_3}),
    "llama-3.2 (tied)": (
        "llama",
        {**COMMON, "rope_parameters": LLAMA_3, "tie_word_embeddings": True},
    ),
    "mistral": ("mistral", {**COMMON, **WINDOW, "head_dim": 8}),
    "qwen-2": ("qwen2", COMMON),
    "qwen-2 (windows)": (
        "qwen2",
        {**COMMON, **WINDOW, "use_sliding_window": True, "max_window_layers": 1},
    ),
    "qwen-3": ("qwen3", {**COMMON, "head_dim": 16}),
    "gemma-1": ("gemma", {**COMMON, "head_dim": 8}),
    "gemma-2": ("gemma2", {**COMMON, **WINDOW, **GEMMA}),
    "gemma-3": ("gemma3_text", {**COMMON, **WINDOW, **GEMMA, "sliding_window_pattern": 2}),
    "smollm-3": ("smollm3", {**COMMON, "no_rope_layer_interval": 2}),
    "opt": (
        "opt",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "word_embed_proj_dim": 32,
            "ffn_dim": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 512,
            "dropout": 0.0,
        },
    ),
}
family = pytest.mark.parametrize("name", FAMILIES)


def build(name: str) -> Any:
    """The family's model with weights large enough that attention is far from uniform."""
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, values = FAMILIES[name]
    torch.manual_seed(1)
    config = AutoConfig.for_model(kind, pad_token_id=0, bos_token_id=1, eos_token_id=2, **values)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for weight in model.parameters():
        if weight.dim() > 1:
            torch.nn.init.normal_(weight, std=0.2)
    return model


def samples(*lengths: int, alike: int = 0) -> list[Example]:
    """Random rows that begin with so many tokens alike, the second half of each supervised."""
    rng = np.random.default_rng(alike)
    rows = [rng.integers(3, VOCABULARY, n).astype(np.int32) for n in lengths]
    for row in rows:
        row[:alike] = rows[0][:alike]
    return [Example("", row, ((len(row) // 2, len(row)),), 1) for row in rows]


def apart(found: Any, expected: Any) -> float:
    """‖found - expected‖ / ‖expected‖ over all gradients together."""
    one, two = (torch.cat([g.flatten() for g in some]) for some in (found, expected))
    return float((one - two).norm() / two.norm())


def learned(model: Any, *batches: Any) -> tuple[float, Any]:
    """The summed loss over passes and its gradients."""
    loss = torch.stack([summed_loss(model, batch) for batch in batches]).sum()
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


def own(model: Any, examples: list[Example]) -> tuple[float, Any]:
    """Loss and gradients by transformers' own attention and loss, row by row."""
    model.set_attn_implementation("eager")
    losses = []
    for example in examples:
        ids = torch.tensor(example.input_ids.tolist())[None]
        labels = ids.clone()
        labels[0, : example.first_supervised] = -100
        losses.append(model(input_ids=ids, labels=labels).loss * example.supervised)
    loss = torch.stack(losses).sum()
    return loss.item(), torch.autograd.grad(loss, list(model.parameters()))


@family
def test_packed_equals_alone_equals_transformers_own(name: str) -> None:
    """Some rows begin alike: what they share is computed once, past a window's width too."""
    examples = [*samples(5, 40, 90, 17), *samples(33, 70, 44, alike=27)]
    model = build(name)
    model.train()
    their_loss, theirs = own(model, examples)
    use_packed_attention(model, 128)
    batch = lay_out(examples, share=True)
    assert batch.input_ids.numel() == sum(batch.samples.lengths) - 2 * 27
    packed_loss, packed = learned(model, batch)
    alone_loss, alone = learned(model, *(lay_out([example]) for example in examples))
    assert packed_loss == pytest.approx(alone_loss, rel=1e-6)
    assert packed_loss == pytest.approx(their_loss, rel=1e-6)
    assert apart(packed, alone) < 1e-6
    assert apart(packed, theirs) < 3e-6


def test_all_proved_types_are_tried_here() -> None:
    assert {kind for kind, _ in FAMILIES.values()} == PROVED


@pytest.mark.parametrize("name", ["mistral", "qwen-2 (windows)", "gemma-2", "gemma-3"])
def test_a_window_that_is_off_by_one_would_be_seen(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = samples(40, 90)
    model = build(name)
    their_loss, _ = own(model, examples)
    one = attention._alone

    def wider(q: Any, k: Any, v: Any, scale: Any, drop: Any, window: Any, cap: Any) -> Any:
        return one(q, k, v, scale, drop, window and window + 1, cap)

    monkeypatch.setattr(attention, "_alone", wider)
    use_packed_attention(model, 128)
    loss, _ = learned(model, lay_out(examples))
    assert abs(loss - their_loss) > 1e-5 * their_loss


@pytest.mark.parametrize("name", ["llama-3", "mistral", "gemma-2", "opt"])
def test_generation_through_packed_attention_equals_transformers_own(name: str) -> None:
    model = build(name).eval()
    prompt = torch.tensor(samples(30)[0].input_ids.tolist())[None]
    asked: dict[str, Any] = {
        "attention_mask": torch.ones_like(prompt),
        "max_new_tokens": 12,
        "do_sample": False,
        "pad_token_id": 0,
    }
    model.set_attn_implementation("eager")
    expected = model.generate(prompt, **asked)
    use_packed_attention(model, 128)
    assert torch.equal(model.generate(prompt, **asked), expected)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in ("llama-1-2", "qwen-2")])
def test_it_learns_and_a_stop_changes_no_bit(
    name: str, tokenizer: Any, mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meadowlark.train.tokenizer import save_tokenizer

    base = tmp_path / "base"
    build(name).save_pretrained(base)
    save_tokenizer(tokenizer, base)
    options = parse(
        {
            "model": {"base": str(base)},
            "data": {"path": str(mixed)},
            "optimiser": {"learning_rate": 5e-3, "batch_rows": 5, "max_steps": 8, "warmup": 0},
            "run": {"save_every_steps": 3, "gradient_checkpointing": 1},
        },
        TrainOptions,
        "test",
    )
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    results = train(options, whole).manifest.results
    assert results["validation_loss_after"] < results["validation_loss_before"] - 0.5
    power_cut(5, monkeypatch, options, stopped)
    assert train(options, stopped).manifest.resumed == 1
    found, expected = (load_file(run / "model.safetensors") for run in (stopped, whole))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_other_attention_is_refused_by_its_configuration() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    def made(kind: str, **values: Any) -> Any:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                AutoConfig.for_model(kind, **{**COMMON, "pad_token_id": 0, **values})
            )

    for model, fault in (
        (made("phi3", sliding_window=64), "sliding window of 64 tokens below max_length 128"),
        (made("bloom"), "positions that cannot restart"),
        (made("mamba"), "a recurrent state"),
        (made("llama4_text"), "chunked attention layers"),
        (made("gemma3_text", use_bidirectional_attention=True), "attention to later tokens"),
    ):
        with pytest.raises(UserError, match=fault):
            use_packed_attention(model, 128)
    use_packed_attention(made("phi3", sliding_window=64), 64)
