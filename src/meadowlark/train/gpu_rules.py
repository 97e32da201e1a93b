"""What a GPU does otherwise than a CPU, for a dry run on tensors that belong to no device.

PyTorch cannot differentiate on a fake CUDA device unless it was built for CUDA, so the fake tensors
are always a CPU's, under the rules of :func:`as_on_a_gpu`: the attention kernel, autocast's list of
float32 functions, dropout's mask, Liger's kernels, and what kernels allocate inside.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from meadowlark.train import attention

FLOAT32 = frozenset(
    "acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow softplus "
    "layer_norm native_layer_norm rms_norm group_norm frobenius_norm nuclear_norm "
    "cosine_similarity nll_loss kl_div mse_loss dist pdist cdist renorm logsumexp prod softmax "
    "log_softmax cumprod cumsum linalg_vector_norm linalg_matrix_norm sum norm vector_norm".split()
)
"""What autocast keeps in float32 on CUDA (ATen/autocast_mode.h), by Python name; a CPU does not."""


@contextlib.contextmanager
def as_on_a_gpu(model: Any, *, liger: bool) -> Iterator[None]:
    """Code that asks for the device takes the branch of a recent GPU; functions are CUDA's.

    ``liger`` puts what :func:`use_liger_stand_ins` needs in place of the rotary embedding.
    """
    runs = attention._varlen_runs

    def would_run(query: torch.Tensor, dropout: float) -> bool:
        there: Any = SimpleNamespace(
            device=torch.device("cuda", 0), dtype=query.dtype, shape=query.shape
        )
        return runs(there, dropout)

    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(attention, "_varlen_runs", would_run))
        stack.enter_context(mock.patch.object(attention, "_ampere", return_value=True))
        if liger:
            use_liger_stand_ins(model)
            for name in _modules_with_rotation(model):
                stack.enter_context(
                    mock.patch.object(sys.modules[name], "apply_rotary_pos_emb", _rotate)
                )
        stack.enter_context(_CudaRules())
        yield


class _CudaRules(TorchFunctionMode):
    """Functions called as CUDA has them: autocast's float32 list, and dropout with a byte mask."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if func is F.dropout:
            bound = dict(zip(("input", "p", "training", "inplace"), args, strict=False)) | kwargs
            if bound.get("training", True) and 0 < bound.get("p", 0.5) < 1:
                return torch.native_dropout(bound["input"], bound.get("p", 0.5), True)[0]
        if name in FLOAT32 and torch.is_autocast_enabled("cpu"):
            args = tuple(_float32(arg) for arg in args)
            kwargs = {key: _float32(value) for key, value in kwargs.items()}
        return func(*args, **kwargs)


def _float32(value: Any) -> Any:
    half = isinstance(value, torch.Tensor) and value.dtype in (torch.bfloat16, torch.float16)
    return value.float() if half else value


# --------------------------------------------------------------------------- inside kernels


def _flash_backward(args: Any) -> int:
    """PyTorch's FlashAttention 2 (flash_api.cpp, mha_varlen_bwd): gradients of queries in float32
    and row sums, each sample on its own rows; keys' and values' gradients for every query head."""
    query, key, ends = args[1], args[2], args[6]
    tokens, heads, width = query.shape
    rows = tokens + 128 * (ends.shape[0] - 1)
    rounded = -(-width // 32) * 32 if width <= 128 else -(-width // 64) * 64
    size = 4 * rows * heads * (rounded + 1)
    if key.shape[1] != heads:
        size += 2 * key.element_size() * key.shape[0] * heads * width
    return int(size)


HIDDEN: dict[str, Callable[[Any], int]] = {
    "torch_attn::_varlen_attn_backward": _flash_backward,
}
"""Bytes that an operation's CUDA kernel allocates and frees inside, read in its source."""


# --------------------------------------------------------------------------- Liger's kernels


def use_liger_stand_ins(model: Any) -> None:
    """Give the model norms and gated layers that keep and move what Liger's kernels do.

    They compute something else, which on tensors without values nobody sees. (Liger 0.8's
    ops/rms_norm.py, ops/swiglu.py, ops/geglu.py and ops/rope.py.)
    """
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = _norm_of(module)
        elif all(hasattr(module, f"{name}_proj") for name in ("gate", "up", "down")):
            module.forward = _gated_of(module)


def _norm_of(module: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = _Norm.apply(x, module.weight)  # type: ignore[no-untyped-call]
        return made

    return forward


def _gated_of(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    def forward(x: torch.Tensor) -> torch.Tensor:
        product = _Gated.apply(module.gate_proj(x), module.up_proj(x))  # type: ignore[no-untyped-call]
        made: torch.Tensor = module.down_proj(product)
        return made

    return forward


class _Norm(torch.autograd.Function):
    """Keeps its input and one number a row; the gradient is written over the output's."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        rows = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
        ctx.save_for_backward(x, weight, rows)
        return x * 1.0

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        x, weight, _ = ctx.saved_tensors
        return gradients[0].mul_(x), torch.empty_like(weight) if ctx.needs_input_grad[1] else None


class _Gated(torch.autograd.Function):
    """Keeps both inputs, over which their gradients are written."""

    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(gate, up)
        return gate * up

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        gate, up = (kept.detach() for kept in ctx.saved_tensors)
        return gate.mul_(gradients[0]), up.mul_(gradients[0])


class _Turned(torch.autograd.Function):
    """Turns queries or keys where they lie, and so their gradients."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(1, 2).contiguous().mul_(1.0).transpose(1, 2)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> Any:
        return gradients[0].transpose(1, 2).contiguous().mul_(1.0).transpose(1, 2)


def _rotate(q: torch.Tensor, k: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, Any]:
    return _Turned.apply(q), _Turned.apply(k)  # type: ignore[no-untyped-call]


def _modules_with_rotation(model: Any) -> set[str]:
    names = {type(module).__module__ for module in model.modules()}
    return {name for name in names if hasattr(sys.modules[name], "apply_rotary_pos_emb")}
