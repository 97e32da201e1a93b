"""Frozen linear layers held in 8 or 4 bits by bitsandbytes, and how they compute under an adapter.

``int8`` is LLM.int8()'s format (a scale for each output row), ``nf4`` is QLoRA's (blocks of 64,
their constants quantised once more). A weight is put back into the arithmetic's type where it is
used, once forward and once backward; activations are never quantised, and nothing else is kept for
the backward pass. Imports bitsandbytes, so it is imported only where it is asked for.

Why not the layers of bitsandbytes 0.50 themselves. Its int8 layer quantises activations on a GPU
(not on a CPU), finds outliers with a wait for the GPU in every layer, and keeps every layer's input
for a gradient that nobody needs. Its 4-bit layer repacks its weights on some CPUs at the first
evaluation, after which no gradient flows through it. The stored weights are theirs to the bit, so
that adapters and checkpoints are those of any other tool.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import bitsandbytes as bnb
import torch
import torch.nn.functional as F
from transformers import BitsAndBytesConfig

Kind = Literal["int8", "nf4"]
OUTLIERS = 6.0
"""LLM.int8()'s threshold, as everyone has it: for who runs the model with activations in int8."""


def quantisation(kind: Kind, compute: torch.dtype) -> Any:
    """How transformers is to quantise the linear layers, all but the head, as it loads them."""
    configuration: Any = BitsAndBytesConfig
    if kind == "int8":
        return configuration(load_in_8bit=True, llm_int8_threshold=OUTLIERS)
    return configuration(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


class Int8Linear(bnb.nn.Linear8bitLt):  # type: ignore[name-defined,misc]
    """A frozen linear layer in LLM.int8()'s format."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` (..., inputs) times the weight, in the arithmetic's type."""
        scale = self.state.SCB if self.weight.SCB is None else self.weight.SCB
        return _product(x, [self.weight.data, scale], self.bias, list(self.weight.shape), "int8")


class Nf4Linear(bnb.nn.Linear4bit):  # type: ignore[name-defined,misc]
    """A frozen linear layer in NF4 (or FP4, where the base brings that)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``x`` (..., inputs) times the weight, in the arithmetic's type."""
        state = self.weight.quant_state
        parts, blocks = [self.weight.data, state.absmax], [state.blocksize]
        if state.nested:
            parts += [state.state2.absmax, state.state2.code, state.offset]
            blocks += [state.state2.blocksize]
        return _product(x, parts, self.bias, list(state.shape), state.quant_type, blocks)


def compute_here(model: Any) -> Any:
    """Make the quantised layers of a loaded model :class:`Int8Linear` and :class:`Nf4Linear`."""
    for module in model.modules():
        if type(module) is Int8Linear.__base__:
            module.__class__ = Int8Linear
        elif type(module) is Nf4Linear.__base__:
            module.__class__ = Nf4Linear
    return model


def _product(
    x: torch.Tensor,
    parts: list[torch.Tensor],
    bias: torch.Tensor | None,
    shape: list[int],
    kind: str,
    blocks: Sequence[int] = (),
) -> torch.Tensor:
    device = x.device.type
    if torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))
    made: torch.Tensor = _Product.apply(x, parts, shape, kind, list(blocks))  # type: ignore[no-untyped-call]
    return made if bias is None else made + bias.to(made.dtype)


class _Product(torch.autograd.Function):
    """x Wᵀ for a frozen W that exists only while it is multiplied."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        parts: list[torch.Tensor],
        shape: list[int],
        kind: str,
        blocks: list[int],
    ) -> torch.Tensor:
        ctx.save_for_backward(*parts)
        ctx.form = (shape, kind, blocks)
        return _multiply(x, parts, shape, kind, blocks, False)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (by_output,) = gradients
        shape, kind, blocks = ctx.form
        by_x = _multiply(by_output, list(ctx.saved_tensors), shape, kind, blocks, True)
        return by_x, None, None, None, None


def _multiply(
    x: torch.Tensor,
    parts: list[torch.Tensor],
    shape: list[int],
    kind: str,
    blocks: list[int],
    back: bool,
) -> torch.Tensor:
    """x Wᵀ, or x W going ``back``, for the quantised W (``shape``: outputs, inputs)."""
    if torch.compiler.is_compiling():
        made: torch.Tensor = _opaque(x, parts, shape, kind, blocks, back)
        return made
    weight = whole(parts, shape, kind, blocks, x.dtype)
    return x @ weight if back else F.linear(x, weight)


@torch.library.custom_op("meadowlark::frozen_product", mutates_args=())
def _opaque(
    x: torch.Tensor,
    parts: list[torch.Tensor],
    shape: list[int],
    kind: str,
    blocks: list[int],
    back: bool,
) -> torch.Tensor:
    """:func:`_multiply` for a compiler: one that sees W made twice makes it once, and keeps it."""
    return _multiply(x, parts, shape, kind, blocks, back)


@_opaque.register_fake
def _(
    x: torch.Tensor,
    parts: list[torch.Tensor],
    shape: list[int],
    kind: str,
    blocks: list[int],
    back: bool,
) -> torch.Tensor:
    return x.new_empty(*x.shape[:-1], shape[1] if back else shape[0])


def whole(
    parts: Sequence[torch.Tensor],
    shape: Sequence[int],
    kind: str,
    blocks: Sequence[int],
    dtype: torch.dtype,
) -> torch.Tensor:
    """The weight (outputs, inputs) in ``dtype``.

    int8: each row's integers times its scale / 127. 4 bits: blocks of a code times the block's
    constant, which may itself be a code of ``blocks[1]`` times a constant, plus an offset.
    """
    if kind == "int8":
        weight, scale = parts
        made = torch.empty(weight.shape, dtype=dtype, device=weight.device)
        return torch.mul(weight, scale[:, None] / 127.0, out=made)
    operators = torch.ops.bitsandbytes
    packed, constants, *nested = parts
    if nested:
        outer, code, offset = nested
        constants = offset + operators.dequantize_blockwise(
            constants, outer, code, blocks[1], torch.float32
        )
    weight = operators.dequantize_4bit(packed, constants, blocks[0], kind, shape, dtype)
    assert isinstance(weight, torch.Tensor)
    return weight
