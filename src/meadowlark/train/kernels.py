"""Faster ways to compute the same layers: Liger's fused kernels, or torch's compiler.

Both replace norms, activations and rotations, of which a layer has many small ones; attention and
the loss stay ours. The matrix products are the same either way.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from meadowlark.errors import UserError


def refuse_without_liger(model_type: str) -> None:
    """Raise UserError where Liger has no kernels for a model type."""
    logging.getLogger("liger_kernel").setLevel(logging.ERROR)  # names each backend it lacks
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN as KNOWN

    if model_type not in KNOWN:
        raise UserError(
            f"run.kernels 'liger' has none for a {model_type} model; use 'torch', or run.compile"
        )


def use_liger(model: Any) -> None:
    """Give a loaded model Liger's RMSNorm, SwiGLU or GeGLU and rotary embedding, in place.

    Loss and gradients are the same (seen under Triton's interpreter, in float32 to 1e-6, for all
    families but OPT, for which there are none). To be called before adapters are added. The rotary
    embedding is replaced for the whole process, as Liger does it, so that a model of the same
    family on a CPU no longer runs there.
    """
    from liger_kernel.transformers.monkey_patch import _apply_liger_kernel_to_instance

    refuse_without_liger(model.config.model_type)
    _apply_liger_kernel_to_instance(model, cross_entropy=False, fused_linear_cross_entropy=False)


def compile_layers(layers: list[Any]) -> None:
    """Compile each decoder layer's forward; all layers of one shape share what is compiled.

    To be called when the layers are sharded, if they are: the shards' hooks stay outside. Passes
    must all have one size (``pack.lay_out`` with ``fill``), or each would be compiled anew.
    """
    for layer in layers:
        layer.forward = torch.compile(layer.forward)
