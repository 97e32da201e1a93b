"""What the device at hand computes in, and what it cannot do: refused before anything is loaded.

``options`` refuses what no machine can do; here it is this machine, its packages and the number of
processes.
"""

from __future__ import annotations

import importlib
import os
import shutil

import torch

from meadowlark.errors import UserError
from meadowlark.train import parallel
from meadowlark.train.options import TrainOptions


def autocast_dtype(options: TrainOptions) -> torch.dtype | None:
    """The 16-bit type that the arithmetic runs in, or None for the weights' own."""
    gpu = torch.cuda.is_available()
    return arithmetic(options, gpu=gpu, bfloat16=gpu and torch.cuda.is_bf16_supported())


def arithmetic(options: TrainOptions, *, gpu: bool, bfloat16: bool = True) -> torch.dtype | None:
    """As :func:`autocast_dtype`, for a device that need not be here."""
    precision = options.run.precision
    if precision == "auto":
        precision = "float32"
        if gpu:
            half = options.model.dtype == "float16" or not bfloat16
            precision = "float16" if half else "bfloat16"
    if precision == "float16" and not gpu:
        raise UserError("run.precision 'float16' needs a GPU; use float32 or bfloat16 on a CPU")
    return None if precision == "float32" else getattr(torch, precision)


def refuse_what_cannot_run(options: TrainOptions) -> None:
    """Raise UserError, or ModuleNotFoundError for a package, where this machine cannot do it."""
    model, run, optimiser = options.model, options.run, options.optimiser.name
    gpu = torch.cuda.is_available()
    autocast_dtype(options)
    if model.dtype == "float16" and not gpu:
        raise UserError("model.dtype 'float16' needs a GPU; use float32 or bfloat16 on a CPU")
    if optimiser != "adamw" or model.quantise:
        importlib.import_module("bitsandbytes")
    if optimiser.startswith("paged") and not gpu:
        raise UserError(
            f"optimiser.name '{optimiser}' needs a GPU: it moves its state to the host's memory, "
            f"where a CPU has it already. Use {optimiser.removeprefix('paged_')!r}"
        )
    if run.kernels == "liger":
        if not gpu:
            raise UserError("run.kernels 'liger' needs a GPU; use 'torch' on a CPU")
        importlib.import_module("liger_kernel")
    if run.compile:
        _refuse_without_compiler(gpu)
    refuse_what_cannot_be_sharded(options, parallel.world_size())


def refuse_what_cannot_be_sharded(options: TrainOptions, processes: int) -> None:
    """Raise UserError for a model or an optimiser of which several processes cannot hold parts."""
    if processes == 1 or options.run.parallel != "fsdp":
        return
    if options.model.quantise:
        raise UserError(
            "a quantised base cannot be sharded; set run.parallel = 'ddp', so that each "
            "process holds the whole (small) model"
        )
    if options.optimiser.name != "adamw":
        raise UserError(
            f"optimiser.name '{options.optimiser.name}' cannot be sharded; use 'adamw', whose "
            "state is divided among the processes, or set run.parallel = 'ddp'"
        )


def _refuse_without_compiler(gpu: bool) -> None:
    if gpu:
        importlib.import_module("triton")
    elif not any(map(shutil.which, (os.environ.get("CXX") or "g++", "clang++"))):
        raise UserError("run.compile needs a C++ compiler on a CPU: install g++, or set CXX")
