"""A LLaMA with random weights made where it will train, in 16 or 32 bits or quantised.

LLaMA-7B's shape in under a second on a GPU, without a checkpoint on disk: modules are made on no
device, then filled one by one; a quantised one is quantised as transformers' own loading does it,
so that the whole 16-bit model never exists.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.quantizers import AutoHfQuantizer

VOCABULARY = 32_000
CONTEXT = 4096
"""LLaMA-2's, since one row of the small set is 3,780 tokens long."""


def llama_config(small: bool) -> LlamaConfig:
    """LLaMA-7B's shape; or two narrow layers of the same head size, for a CPU."""
    width, layers, intermediate = (256, 2, 704) if small else (4096, 32, 11_008)
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=width,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=width // 128,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


@torch.no_grad()
def random_llama(
    config: LlamaConfig,
    device: torch.device,
    dtype: torch.dtype,
    quantise: str | None = None,
    seed: int = 0,
) -> Any:
    """Normal weights of standard deviation 0.02 as LLaMA starts from, norms of one.

    ``quantise`` is None, ``int8`` (LLM.int8) or ``nf4`` (with quantised constants) and holds for
    every linear layer but the head, as when a checkpoint is loaded so.
    """
    torch.manual_seed(seed)
    with torch.device("meta"):
        model = LlamaForCausalLM(config).to(dtype)
    quantizer = _quantizer(quantise, dtype)
    if quantizer is not None:
        quantizer.preprocess_model(model=model, dtype=dtype, device_map={"": device})
    for module in model.modules():
        for name, empty in list(module.named_parameters(recurse=False)):
            value = torch.empty(empty.shape, dtype=dtype, device=device)
            value = value.normal_(0, 0.02) if empty.dim() > 1 else value.fill_(1)
            setattr(module, name, _parameter(module, empty, value))
    with torch.device(device):
        model.model.rotary_emb = LlamaRotaryEmbedding(config)
    if quantizer is not None:
        quantizer.postprocess_model(model)
        model.hf_quantizer = quantizer
        if importlib.util.find_spec("meadowlark.train.quantised"):
            from meadowlark.train.quantised import compute_here

            compute_here(model)  # as train.model.load_model does
    return model


def _quantizer(quantise: str | None, dtype: torch.dtype) -> Any:
    if quantise is None:
        return None
    if quantise == "int8":
        words = BitsAndBytesConfig(load_in_8bit=True)
    else:
        words = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    return AutoHfQuantizer.from_config(words)


def _parameter(module: nn.Module, empty: nn.Parameter, value: torch.Tensor) -> nn.Parameter:
    """``value`` as the kind of parameter that is to hold it, quantised where that kind is."""
    kind = type(empty).__name__
    if kind == "Params4bit":
        return type(empty)(value, requires_grad=False, **empty.__dict__).to(value.device)
    if kind == "Int8Params":
        words = {name: held for name, held in empty.__dict__.items() if name not in ("CB", "SCB")}
        made = type(empty)(value, requires_grad=False, **words)
        return made._quantize(value.device)  # what .to does with a weight that comes from the host
    return nn.Parameter(value, requires_grad=empty.requires_grad)
