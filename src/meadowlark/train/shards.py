"""A model held in shards by several processes (FSDP2), and checkpoints of its shards.

Every decoder layer and the whole model become units of ``torch.distributed.fsdp.fully_shard``: a
process holds its part of weights, gradients and optimiser state, and a layer's weights meet only
while it computes. Applied here rather than by accelerate, which shards on GPUs only, so that what
runs on a cluster is what is tested on CPUs with gloo.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)

from meadowlark.train import parallel
from meadowlark.train.model import decoder_layers

SHARDS = "shards"


def shard(model: Any, autocast: torch.dtype | None) -> None:
    """Shard ``model`` in place over all processes, a unit for each decoder layer.

    float32 masters meet in the 16-bit type of the arithmetic (``autocast``), which is what
    autocast would have cast them to, and gradients are averaged in float32. A model of several
    types (adapters on a 16-bit base) meets as it is.
    """
    mesh = init_device_mesh(
        "cuda" if torch.cuda.is_available() else "cpu", (parallel.world_size(),)
    )
    types = {parameter.dtype for parameter in model.parameters()}
    policy = MixedPrecisionPolicy()
    if autocast is not None and types == {torch.float32}:
        policy = MixedPrecisionPolicy(param_dtype=autocast, reduce_dtype=torch.float32)
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    register_fsdp_forward_method(model, "generate")


def is_sharded(model: Any) -> bool:
    """Whether :func:`shard` was applied."""
    return isinstance(model, FSDPModule)


class Sharded(nn.Module):
    """A sharded model as something wrapped, so that the trainer does not wrap it again."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.module = model

    def forward(self, *arguments: Any, **named: Any) -> Any:
        """The model's own forward."""
        return self.module(*arguments, **named)


_TRAINED = states.StateDictOptions(ignore_frozen_params=True)


def save_shards(model: Any, optimiser: Any, folder: Path) -> None:
    """Each process's part of the trained weights and of the optimiser's state."""
    save(_state(model, optimiser), checkpoint_id=folder / SHARDS)


def load_shards(model: Any, optimiser: Any, folder: Path) -> None:
    """What :func:`save_shards` wrote, back into place; from any number of processes."""
    state = _state(model, optimiser)
    load(state, checkpoint_id=folder / SHARDS)
    states.set_state_dict(
        model,
        optimiser,
        model_state_dict=state["model"],
        optim_state_dict=state["optimiser"],
        options=states.StateDictOptions(ignore_frozen_params=True, strict=False),
    )


def _state(model: Any, optimiser: Any) -> dict[str, Any]:
    weights, moments = states.get_state_dict(model, optimiser, options=_TRAINED)
    return {"model": weights, "optimiser": moments}


def gathered(model: Any, *, trained_only: bool) -> dict[str, Any]:
    """The weights as whole tensors on the CPU of the main process; empty in the others."""
    options = states.StateDictOptions(
        full_state_dict=True, cpu_offload=True, ignore_frozen_params=trained_only
    )
    weights: dict[str, Any] = states.get_model_state_dict(model, options=options)
    return weights
