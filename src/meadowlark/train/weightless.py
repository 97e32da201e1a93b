"""A model without weights, ready to be trained: the real code on tensors that have no memory.

Built from a configuration and put through the very functions that training uses, quantised layers
and adapters included. On a GPU it runs under the rules of ``gpu_rules.py``.
"""

from __future__ import annotations

import contextlib
import copy
import importlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import AutoModelForCausalLM, PretrainedConfig

from meadowlark.train.attention import use_packed_attention
from meadowlark.train.device import arithmetic
from meadowlark.train.loss import learn_in_chunks
from meadowlark.train.model import adapt
from meadowlark.train.options import TrainOptions


def weightless(
    config: PretrainedConfig,
    options: TrainOptions,
    fake: FakeTensorMode,
    *,
    gpu: bool,
    recompute: bool,
) -> Any:
    """The model as training would have it after ``prepare``, its tensors fake.

    Added tokens are in the configuration already.
    """
    halves = options.model.dtype != "float32"
    dtype = torch.bfloat16 if halves else torch.float32
    compute = compute_dtype(options, gpu=gpu)
    run = options.run.model_copy(
        update={
            "gradient_checkpointing": recompute,
            "precision": "float32" if compute is None else "bfloat16",
        }
    )
    planned = options.model_copy(update={"run": run})
    with _undisturbed(), torch.device("meta"):
        made: Any = AutoModelForCausalLM
        model = made.from_config(config, dtype=dtype, trust_remote_code=False)
        if options.model.quantise is not None:
            _quantise(model, options.model.quantise, compute or dtype)
        use_packed_attention(model, options.data.max_length)
        learn_in_chunks(model)
        model = adapt(model, planned)
    _make_fake(model, fake)
    return model


def compute_dtype(options: TrainOptions, *, gpu: bool) -> torch.dtype | None:
    """The arithmetic's type; any 16 bits are bfloat16, which takes as much and runs on a CPU."""
    return None if arithmetic(options, gpu=gpu) is None else torch.bfloat16


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Random numbers go on after the block as if it had not been."""
    ours, numpys = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(ours)
    np.random.set_state(numpys)


def _make_fake(model: nn.Module, fake: FakeTensorMode) -> None:
    """Replace meta tensors by fake ones of the CPU, shared ones by shared ones."""
    made: dict[int, Any] = {}
    originals: list[Any] = []  # kept, so that no id is given twice

    def of(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            convert = fake.fake_tensor_converter.from_meta_and_device
            return convert(fake, value.data, torch.device("cpu"))
        if hasattr(value, "absmax"):  # bitsandbytes' QuantState
            changed = copy.copy(value)
            for key, part in vars(value).items():
                setattr(changed, key, of(part))
            return changed
        return value

    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in made:
                originals.append(parameter)
                own = nn.Parameter(of(parameter), requires_grad=parameter.requires_grad)
                for key, value in vars(parameter).items():
                    setattr(own, key, of(value))
                made[id(parameter)] = own
            module._parameters[name] = made[id(parameter)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = of(buffer)


def lasting_tensors(module: nn.Module) -> Iterator[torch.Tensor]:
    """All tensors that a model keeps: parameters, buffers, and the scales of quantised weights."""
    for parameter in module.parameters():
        yield parameter
        yield from _attached(vars(parameter))
    yield from module.buffers()


def _attached(values: dict[str, Any]) -> Iterator[torch.Tensor]:
    for value in values.values():
        if isinstance(value, torch.Tensor):
            yield value
        elif hasattr(value, "absmax"):
            yield from _attached(vars(value))


def weights_in(parameter: torch.Tensor) -> int:
    """How many weights a parameter stands for; NF4 holds two in a byte."""
    state = getattr(parameter, "quant_state", None)
    return int(np.prod(state.shape)) if state is not None else parameter.numel()


# --------------------------------------------------------------------------- quantised layers


def _quantise(model: Any, kind: str, compute: torch.dtype) -> None:
    """Put bitsandbytes' layers in place of all linear ones but the head, as transformers does."""
    from meadowlark.train.quantised import compute_here

    head = model.get_output_embeddings()
    make = _nf4 if kind == "nf4" else _int8
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and module is not head:
            model.set_submodule(name, make(module, compute))
    setattr(model, "is_loaded_in_4bit" if kind == "nf4" else "is_loaded_in_8bit", True)
    compute_here(model)


def _nf4(linear: nn.Linear, compute: torch.dtype) -> nn.Module:
    """4 bits a weight, a scale in 8 bits for each 64, a float32 one for each 256 of those."""
    bnb: Any = importlib.import_module("bitsandbytes")
    shape, weights = (linear.out_features, linear.in_features), linear.weight.numel()
    blocks = -(-weights // 64)
    scales = bnb.functional.QuantState(
        absmax=torch.empty(-(-blocks // 256)),
        code=torch.empty(256),
        blocksize=256,
        dtype=torch.float32,
    )
    state = bnb.functional.QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8),
        shape=torch.Size(shape),
        code=torch.empty(16),
        blocksize=64,
        quant_type="nf4",
        dtype=linear.weight.dtype,
        offset=torch.empty(()),
        state2=scales,
    )
    made = bnb.nn.Linear4bit(
        shape[1], shape[0], linear.bias is not None, compute_dtype=compute, quant_type="nf4"
    )
    made.weight = bnb.nn.Params4bit(
        torch.empty(-(-weights // 2), 1, dtype=torch.uint8),
        quant_state=state,
        quant_type="nf4",
        bnb_quantized=True,
        module=made,
    )
    made.bias = linear.bias
    made.requires_grad_(False)
    assert isinstance(made, nn.Module)
    return made


def _int8(linear: nn.Linear, compute: torch.dtype) -> nn.Module:
    """A byte a weight and a float32 scale a row."""
    bnb: Any = importlib.import_module("bitsandbytes")
    made = bnb.nn.Linear8bitLt(
        linear.in_features,
        linear.out_features,
        linear.bias is not None,
        has_fp16_weights=False,
        threshold=0.0,
    )
    weight = torch.empty(linear.out_features, linear.in_features, dtype=torch.int8)
    made.weight = bnb.nn.Int8Params(
        weight, requires_grad=False, CB=weight, SCB=torch.empty(linear.out_features)
    )
    made.bias = linear.bias
    made.requires_grad_(False)
    assert isinstance(made, nn.Module)
    return made
