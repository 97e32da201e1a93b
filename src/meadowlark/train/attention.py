"""Attention in which packed samples cannot see each other, as a transformers attention function.

One forward pass holds several samples one behind the other. On a GPU with 16-bit tensors they go
through ``torch.nn.attention.varlen`` in one kernel; elsewhere each sample gets its own causal SDPA
call, so that isolation holds by construction and no T x T mask is ever made (measured on 2 cores:
1.5 times the speed of a block-diagonal mask at 1,000 tokens, 9 times at 4,000). Sliding windows
(Mistral, Qwen 2, Gemma 2 and 3) and soft-capped scores (Gemma 2) are each layer's own.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, PretrainedConfig
from transformers.integrations.sdpa_attention import repeat_kv

from meadowlark.errors import UserError
from meadowlark.train.pack import Samples
from meadowlark.train.prefix import computed_tokens, whole_samples

NAME = "meadowlark_packed"
PROVED = frozenset(
    {"llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "smollm3", "opt"}
)
"""Model types for which tests show packed = alone = transformers' own (test_train_families.py)."""
SHARES_KEYS = "enable_gqa" in inspect.signature(varlen_attn).parameters
"""Whether the GPU kernel shares a key head among several query heads by itself (torch 2.13)."""


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    samples: Samples | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: torch.Tensor | None = None,
    position_bias: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each of ``samples``.

    ``query`` has shape (1, heads, T, d); ``key`` and ``value`` may have fewer heads. Returns
    (1, T, heads, d). ``sliding_window`` counts the tokens seen, the token itself included;
    ``softcap`` c makes of a score s c·tanh(s/c). Without ``samples`` (generation) every row is one
    sample, of which the queries are the last tokens. Where ``samples`` share beginnings, T counts
    the computed tokens, while attention is over whole samples.
    """
    if s_aux is not None or position_bias is not None:
        raise UserError(
            f"{type(module).__name__} adds a learned term to its attention scores, which packed "
            "training does not know"
        )
    assert attention_mask is None, "packed attention is told of samples, not given a mask"
    device = query.device.type
    if torch.is_autocast_enabled(device):
        # Rotary embedding computes in float32; the kernels want one 16-bit type.
        dtype = torch.get_autocast_dtype(device)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    shared = samples.shared if samples is not None else None
    if shared is not None:
        query, key, value = (whole_samples(tensor, shared) for tensor in (query, key, value))
    if samples is not None and softcap is None and _varlen_runs(query, dropout):
        whole = _varlen(query, key, value, samples, scaling, sliding_window)
        return computed_tokens(whole, shared), None
    groups = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    if samples is None:
        result = _alone(query, key, value, scaling, dropout, sliding_window, softcap)
    else:
        result = _one_by_one(query, key, value, samples, scaling, dropout, sliding_window, softcap)
    return computed_tokens(result.transpose(1, 2), shared).contiguous(), None


def _varlen_runs(query: torch.Tensor, dropout: float) -> bool:
    """Whether the GPU kernel can take this: Ampere or later, 16 bits, head size within 256."""
    if query.device.type != "cuda" or dropout or query.shape[-1] > 256 or query.shape[-1] % 8:
        return False
    return query.dtype in (torch.bfloat16, torch.float16) and _ampere(query.device.index)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _ampere(device: int | None) -> bool:
    return torch.cuda.get_device_capability(device) >= (8, 0)


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    samples: Samples,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    """All samples in one FlashAttention call; not run where this project was written (no GPU).

    The kernel counts a window without the token itself. One that no sample outgrows is left away.
    """
    groups = query.shape[1] // key.shape[1]
    if not SHARES_KEYS:
        key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    shared: dict[str, Any] = {"enable_gqa": True} if SHARES_KEYS and groups > 1 else {}
    q, k, v = (tensor[0].transpose(0, 1).contiguous() for tensor in (query, key, value))
    ends, longest = samples.cumulative, samples.longest
    before = window - 1 if window is not None and window < longest else -1
    result = varlen_attn(
        q, k, v, ends, ends, longest, longest, scale=scaling, window_size=(before, 0), **shared
    )
    assert isinstance(result, torch.Tensor)
    return result[None]


@torch.compiler.disable  # type: ignore[untyped-decorator]  # every pass has other lengths: each would be compiled anew
def _one_by_one(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    samples: Samples,
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    split = [torch.split(tensor, samples.lengths, dim=2) for tensor in (query, key, value)]
    return torch.cat(
        [
            _alone(q, k, v, scaling, dropout, window, softcap)
            for q, k, v in zip(*split, strict=True)
        ],
        dim=2,
    )


def _alone(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scaling: float | None,
    dropout: float,
    window: int | None,
    softcap: float | None,
) -> torch.Tensor:
    """Causal attention of the last S tokens (query: B, heads, S, d) over all L of one sample."""
    last, all_ = query.shape[2], key.shape[2]
    banded = window is not None and all_ > window
    if softcap is None and not banded and last in (1, all_):
        return F.scaled_dot_product_attention(
            query, key, value, is_causal=last > 1, scale=scaling, dropout_p=dropout
        )
    place = torch.arange(all_, device=query.device)
    distance = place[all_ - last :, None] - place
    seen = distance >= 0
    if window is not None:
        seen &= distance < window
    if softcap is None:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=seen, scale=scaling, dropout_p=dropout
        )
    scores = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)
    scores = torch.tanh(scores / softcap) * softcap
    weights = scores.masked_fill(~seen, -torch.inf).softmax(-1, dtype=torch.float32)
    return F.dropout(weights.to(value.dtype), dropout) @ value


def use_packed_attention(model: Any, max_length: int) -> None:
    """Switch a transformers model to :func:`packed_attention`.

    Models in which a token meets the past in other ways are refused, since the result would
    silently be another model's. Of a model type outside :data:`PROVED` that is what its
    configuration tells; ``proof.prove`` then tries it out.
    """
    refuse_other_attention(model, max_length)
    AttentionInterface.register(NAME, packed_attention)
    model.set_attn_implementation(NAME)


def refuse_other_attention(model: Any, max_length: int) -> None:
    """Raise UserError where :func:`packed_attention` cannot stand for a model's attention."""
    config: PretrainedConfig = model.config.get_text_config()
    faults = []
    if not getattr(model, "_supports_attention_backend", False):
        faults.append("no exchangeable attention")
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        faults.append("positions that cannot restart")
    if getattr(model, "_is_stateful", False):
        faults.append("a recurrent state")
    kinds = set(getattr(config, "layer_types", None) or [])
    for kind in sorted(kinds - {"full_attention", "sliding_attention"}):
        faults.append(f"{kind.replace('_', ' ')} layers")
    if getattr(config, "use_bidirectional_attention", False):
        faults.append("attention to later tokens")
    if config.model_type not in PROVED:
        window = getattr(config, "sliding_window", None)
        used = getattr(config, "use_sliding_window", True)
        if window and used and window < max_length:
            faults.append(f"a sliding window of {window} tokens below max_length {max_length}")
        if getattr(config, "attn_logit_softcapping", None):
            faults.append("soft-capped attention")
    if faults:
        raise UserError(
            f"a {config.model_type} model cannot be trained here: it has {', '.join(faults)}"
        )
