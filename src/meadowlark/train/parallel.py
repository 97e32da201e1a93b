"""Several processes that train one model together: who this one is, and what they share.

Processes are started by ``torchrun``, ``srun`` or ``meadowlark train --launch N`` and find each
other through the environment (RANK, WORLD_SIZE, MASTER_ADDR ...); accelerate makes the group, NCCL
on GPUs and gloo on CPUs. In one process every function here does nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed

from meadowlark.errors import UserError

Result = TypeVar("Result")


def world_size() -> int:
    """How many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_main() -> bool:
    """Whether this process is the one that writes and reports."""
    return rank() == 0


def join() -> None:
    """Meet the other processes, where there are others."""
    if world_size() > 1 and not distributed.is_initialized():
        from accelerate import PartialState

        PartialState(cpu=not torch.cuda.is_available())


def leave() -> None:
    """Part from the others; to be called by all of them."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def barrier() -> None:
    """Wait for all."""
    if world_size() > 1:
        distributed.barrier()


def summed(*values: float) -> tuple[float, ...]:
    """Each value's sum over all processes, in float64."""
    if world_size() == 1:
        return values
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    total = torch.tensor(values, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return tuple(total.tolist())


def on_main(work: Callable[[], Result]) -> Result:
    """Do ``work`` in the main process; all get its result, or raise its UserError."""
    if world_size() == 1:
        return work()
    outcome: list[tuple[Result | None, UserError | None]] = [(None, None)]
    if is_main():
        try:
            outcome = [(work(), None)]
        except UserError as error:
            outcome = [(None, error)]
    distributed.broadcast_object_list(outcome)
    result, refusal = outcome[0]
    if refusal is not None:
        raise refusal
    return result  # type: ignore[return-value]


@contextmanager
def local_main_first() -> Iterator[None]:
    """A block that the first process of each machine runs before the others of that machine."""
    first = os.environ.get("LOCAL_RANK", "0") == "0"
    if not first:
        barrier()
    yield
    if first:
        barrier()


def launch(processes: int, arguments: list[str]) -> int:
    """Run ``python -m meadowlark`` so many times on this machine, as one training; the exit code.

    A signal that ends this process is passed on, and the others get two minutes to save.
    """
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "120")
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        run_id="meadowlark",
    )
    command = [sys.executable, "-u", "-m", "meadowlark", *arguments]
    try:
        elastic_launch(config, command[0])(*command[1:])
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return next((code for code in codes if code > 0), 1)
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0
