"""The architectures of well-known base models, for a plan where not even their configuration is.

Used only when a base's ``config.json`` is neither in a folder nor in the hub's cache, and said so
in what is printed. The numbers are those of the models' published configurations; a test compares
the parameters they give with the published counts.
"""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PretrainedConfig

_LLAMA = {"model_type": "llama", "vocab_size": 32_000, "rms_norm_eps": 1e-6}
_LLAMA_3 = {"model_type": "llama", "vocab_size": 128_256, "max_position_embeddings": 131_072}


def _shape(
    base: dict[str, Any], width: int, inner: int, layers: int, heads: int, **other: Any
) -> dict[str, Any]:
    return {
        **base,
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        **other,
    }


_1 = {"max_position_embeddings": 2048}
_2 = {"max_position_embeddings": 4096}
_3 = {"num_key_value_heads": 8, "head_dim": 128}
SHAPES: dict[str, dict[str, Any]] = {
    "llama-7b": _shape(_LLAMA, 4096, 11_008, 32, 32, **_1),
    "llama-13b": _shape(_LLAMA, 5120, 13_824, 40, 40, **_1),
    "llama-30b": _shape(_LLAMA, 6656, 17_920, 60, 52, **_1),
    "llama-65b": _shape(_LLAMA, 8192, 22_016, 80, 64, **_1),
    "llama-2-7b": _shape(_LLAMA, 4096, 11_008, 32, 32, **_2),
    "llama-2-13b": _shape(_LLAMA, 5120, 13_824, 40, 40, **_2),
    "llama-2-70b": _shape(_LLAMA, 8192, 28_672, 80, 64, num_key_value_heads=8, **_2),
    "llama-3.1-8b": _shape(_LLAMA_3, 4096, 14_336, 32, 32, **_3),
    "llama-3.2-1b": _shape(
        _LLAMA_3, 2048, 8192, 16, 32, num_key_value_heads=8, head_dim=64, tie_word_embeddings=True
    ),
    "llama-3.2-3b": _shape(_LLAMA_3, 3072, 8192, 28, 24, tie_word_embeddings=True, **_3),
}
"""By the last part of the hub id, in lower case, without ``-hf`` and ``-instruct``."""


def known_shape(base: str) -> PretrainedConfig | None:
    """The configuration of a base by its hub id, or None where it is not in the table."""
    name = base.rstrip("/").rpartition("/")[2].lower()
    for suffix in ("-hf", "-instruct", "-chat"):
        name = name.removesuffix(suffix)
    name = name.replace("meta-llama-", "llama-")
    if name not in SHAPES:
        return None
    shape = dict(SHAPES[name])
    config: PretrainedConfig = AutoConfig.for_model(shape.pop("model_type"), **shape)
    return config
