"""Low-rank adapters around a loaded model, through peft: LoRA, rsLoRA, DoRA.

Whatever is trained is held in float32, be the base in 16, 8 or 4 bits: a step of 2e-5 is less than
a 16-bit number can show. What comes out loads in plain peft.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers import set_seed

from meadowlark.errors import UserError, did_you_mean
from meadowlark.train.options import LoraOptions

ALL = "all"


def adapter_targets(model: Any, options: LoraOptions) -> list[str]:
    """The names of the linear layers to adapt, as peft takes them.

    Raises UserError for a name that no linear layer of the model has, and for the head where it is
    trained in full besides.
    """
    head = model.get_output_embeddings()
    linear = {
        name.rpartition(".")[2]: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    }
    if options.targets == (ALL,):
        return sorted(name for name, module in linear.items() if module is not head)
    for target in options.targets:
        if target not in linear:
            raise UserError(
                f"lora.targets: the model has no linear layer {target!r}."
                f"{did_you_mean(target, linear)} Known: {', '.join(sorted(linear))}."
            )
        if linear[target] is head and options.embeddings:
            raise UserError(
                f"lora.targets: {target!r} is the head, which lora.embeddings trains in full"
            )
    return list(options.targets)


def add_lora(
    model: Any, options: LoraOptions, seed: int, autocast: torch.dtype | None = None
) -> Any:
    """``model`` with fresh float32 adapters on the named linear layers, all else frozen.

    With ``lora.embeddings`` the input embeddings and the head are trained in full besides, tied
    where the model ties them. ``autocast`` is the arithmetic's 16-bit type, where it has one.
    """
    from peft import LoraConfig, get_peft_model

    more: dict[str, Any] = {}
    if options.embeddings:
        names = embedding_names(model)
        # Of tied ones peft takes the input's name and ties its copy of the head to it.
        more = {"modules_to_save": names, "ensure_weight_tying": len(names) == 1}
    config = LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=adapter_targets(model, options),
        use_rslora=options.rslora,
        use_dora=options.dora,
        task_type="CAUSAL_LM",
        **more,
    )
    set_seed(seed)
    with warnings.catch_warnings():
        # peft still asks for a property that transformers renamed; the answer is right.
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing", FutureWarning)
        adapted = get_peft_model(model, config)
    module: Any
    for module in adapted.modules():
        if autocast is not None and hasattr(module, "lora_A"):
            # Else every adapter's input goes to float32, and at once back for the product.
            module.cast_input_dtype_enabled = False
    if options.embeddings:
        _hold_in_float32(adapted)
    return adapted


def embedding_names(model: Any) -> list[str]:
    """The input embeddings' and the head's names in the model; tied ones are the input's alone."""
    name_of = {module: name.rpartition(".")[2] for name, module in model.named_modules()}
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    tied = head is None or head.weight is embeddings.weight
    return [name_of[module] for module in ([embeddings] if tied else [embeddings, head])]


def _hold_in_float32(model: Any) -> None:
    """Make peft's trained copies of embeddings and head float32 among layers of another type."""
    for wrapper in (model.get_input_embeddings(), model.get_output_embeddings()):
        for copy in wrapper.modules_to_save.values():
            dtype = wrapper.original_module.weight.dtype
            copy.float()
            if isinstance(copy, nn.Embedding):
                copy.register_forward_hook(lambda _, __, made, dtype=dtype: made.to(dtype))
            else:
                copy.register_forward_pre_hook(_in_float32)


def _in_float32(_: nn.Module, inputs: Sequence[Any]) -> tuple[Any, ...]:
    """The head's input in its weights' type; autocast makes both 16 bits again."""
    return (inputs[0].float(), *inputs[1:])
