"""What a device can hold and do: the table behind predictions of memory and speed.

A figure is from the maker's data sheet, or was measured on the device: an 8192 x 8192 x 8192
product and a copy within its memory. What `make bench-gpu` measured goes before both. A device that
is here but not in the table, and any CPU, is measured when it is asked for, in less than a second.
"""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from meadowlark.errors import UserError, unknown

RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "training_gpu.json"
"""What `make bench-gpu` wrote, in a checkout."""
GIB = 1024**3
MIB = 1024**2
MEASURED_S = 0.1
"""How long a rate is measured for."""
DRIVER_SHARE = 0.985
"""Of the memory on a data sheet, what a GPU's driver leaves."""


@dataclass(frozen=True, slots=True)
class Device:
    """A device: bytes of memory, dense FLOP/s by the name of a type, bytes a second.

    ``bandwidth`` counts bytes read and written within its memory, ``link`` bytes a second between
    two such devices in one machine, in each direction. ``workspace`` is what one cuBLAS handle
    takes from PyTorch's allocator; ``context`` what else is there before training: CUDA's context
    with PyTorch's kernels, on a CPU the process as it is.
    """

    name: str
    title: str
    memory_bytes: int
    flops: Mapping[str, float]
    bandwidth: float
    link: float = 0.0
    source: str = "data sheet"
    workspace: int = 0
    context: int = 600_000_000

    @property
    def gpu(self) -> bool:
        """Whether it is a GPU."""
        return self.name != "cpu"


def _gpu(
    name: str,
    title: str,
    gib: float,
    half: float,
    single: float,
    bandwidth: float,
    link: float,
    *,
    hopper: bool = False,
    source: str = "data sheet",
) -> Device:
    """``half`` and ``single`` in TFLOP/s (16-bit with float32 sums; float32 without TF32)."""
    share = DRIVER_SHARE if source == "data sheet" else 1.0
    return Device(
        name=name,
        title=title,
        memory_bytes=int(gib * share * GIB),
        flops={"bfloat16": half * 1e12, "float16": half * 1e12, "float32": single * 1e12},
        bandwidth=bandwidth * 1e12,
        link=link * 1e9,
        source=source,
        # PyTorch's default, CUBLAS_WORKSPACE_CONFIG unset: 32 MiB from Hopper on, else 8 MiB.
        workspace=32 * MIB if hopper else 8 * MIB + 128 * 1024,
    )


_MEASURED = "measured on one (memory, 16-bit and bandwidth); float32 and link: data sheet"
DEVICES: dict[str, Device] = {
    device.name: device
    for device in (
        _gpu("b200", "NVIDIA B200", 180, 2250, 75, 8.0, 900, hopper=True),
        _gpu("h200", "NVIDIA H200", 139, 790, 67, 4.3, 450, hopper=True, source=_MEASURED),
        _gpu("h100", "NVIDIA H100 80GB", 78, 798, 67, 3.0, 450, hopper=True, source=_MEASURED),
        _gpu("a100-80", "NVIDIA A100 80GB", 80, 312, 19.5, 2.04, 300),
        _gpu("a100-40", "NVIDIA A100 40GB", 40, 312, 19.5, 1.56, 300),
        _gpu("l40s", "NVIDIA L40S", 48, 362, 91.6, 0.864, 32),
        _gpu("a6000", "NVIDIA RTX A6000", 48, 155, 38.7, 0.768, 32),
        _gpu("a10", "NVIDIA A10", 24, 125, 31.2, 0.600, 32),
        _gpu("l4", "NVIDIA L4", 24, 121, 30.3, 0.300, 32),
        _gpu("rtx5090", "NVIDIA GeForce RTX 5090", 32, 210, 105, 1.79, 64),
        _gpu("rtx4090", "NVIDIA GeForce RTX 4090", 24, 165, 82.6, 1.01, 32),
        _gpu("rtx3090", "NVIDIA GeForce RTX 3090", 24, 71, 35.6, 0.936, 32),
    )
}


def find_device(name: str | None = None) -> Device:
    """A device by name, ``cpu`` being this machine's; without a name the one found here."""
    if name == "cpu" or (name is None and not torch.cuda.is_available()):
        return this_cpu()
    if name is None:
        return this_gpu()
    if name in DEVICES:
        return with_results(DEVICES[name])
    raise unknown("device", name, [*DEVICES, "cpu"])


def known(title: str, memory_bytes: int) -> Device | None:
    """The device of the table that calls itself ``title`` and has about so much memory."""
    words = title.upper().replace("-", " ").split()
    for entry in DEVICES.values():
        chip = entry.name.partition("-")[0].removeprefix("rtx").upper()
        if chip in words and 0.85 < memory_bytes / entry.memory_bytes < 1.15:
            return replace(entry, title=title, memory_bytes=memory_bytes)
    return None


def with_results(device: Device, results: Path = RESULTS) -> Device:
    """The device with the rates that `make bench-gpu` measured, where it ran on one like it."""
    if not results.exists():
        return device
    found = json.loads(results.read_text(encoding="utf-8"))
    on, rows = found.get("device", {}), found.get("rows", [])
    if not found.get("ran") or not on.get("memory_bytes"):
        return device
    same = known(on["name"], on["memory_bytes"])
    ceilings = next((row for row in rows if "matrix_flops_per_s" in row), None)
    if same is None or same.name != device.name or ceilings is None:
        return device
    half = ceilings["matrix_flops_per_s"]
    return replace(
        device,
        flops={**device.flops, "bfloat16": half, "float16": half},
        bandwidth=ceilings["copy_bytes_per_s"],
        source=f"16-bit rate and bandwidth measured by `make bench-gpu` on {on['name']}",
    )


def this_gpu() -> Device:
    """The GPU found here: its own memory, and rates from the table, or measured now."""
    found = torch.cuda.get_device_properties(0)
    memory = int(found.total_memory)
    entry = known(found.name, memory)
    if entry is not None:
        return with_results(entry)
    half = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    rate = _matrix_rate("cuda", half, 4096)
    return Device(
        name="gpu",
        title=found.name,
        memory_bytes=memory,
        flops={
            "bfloat16": rate,
            "float16": rate,
            "float32": _matrix_rate("cuda", torch.float32, 2048),
        },
        bandwidth=_copy_rate("cuda", 256 * MIB),
        source="measured now",
        workspace=32 * MIB,
    )


def this_cpu() -> Device:
    """This machine's CPU with the threads PyTorch uses, measured once, and its memory."""
    return replace(_measured_cpu(torch.get_num_threads()), context=process_bytes())


@functools.cache
def _measured_cpu(threads: int) -> Device:
    bandwidth = _copy_rate("cpu", 64 * MIB)
    return Device(
        name="cpu",
        title=f"this machine's CPU, {threads} thread{'s' * (threads != 1)}",
        memory_bytes=memory_allowed(),
        flops={
            "bfloat16": _matrix_rate("cpu", torch.bfloat16, 512),
            "float32": _matrix_rate("cpu", torch.float32, 512),
        },
        bandwidth=bandwidth,
        link=bandwidth / 2,  # between processes of one machine
        source="measured now",
    )


def process_bytes() -> int:
    """Bytes that this process holds in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def memory_allowed() -> int:
    """Bytes of this machine's memory, or what its container may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists() and (allowed := limit.read_text().strip()).isdigit():
        total = min(total, int(allowed))
    return total


def _matrix_rate(where: str, dtype: torch.dtype, side: int) -> float:
    """FLOP/s of a square product, the best of a few."""
    left = torch.randn(side, side, device=where).to(dtype)
    right = torch.randn(side, side, device=where).to(dtype)
    return 2.0 * side**3 / _best_seconds(where, lambda: left @ right)


def _copy_rate(where: str, size: int) -> float:
    """Bytes read and written a second by a copy."""
    source = torch.ones(size // 4, device=where)
    target = torch.empty_like(source)
    return 2.0 * size / _best_seconds(where, lambda: target.copy_(source))


def _best_seconds(where: str, work: Callable[[], object]) -> float:
    """The quickest of as many as fit into :data:`MEASURED_S`: others may be using the device."""
    best, ends = float("inf"), time.perf_counter() + MEASURED_S
    while time.perf_counter() < ends:
        _finish(where)
        began = time.perf_counter()
        work()
        _finish(where)
        best = min(best, time.perf_counter() - began)
    return best


def _finish(where: str) -> None:
    if where == "cuda":
        torch.cuda.synchronize()


def rate(of: Device, dtype: str) -> float:
    """FLOP/s of a device in a type; an error where it has none."""
    if dtype not in of.flops:
        raise UserError(f"{of.title} does not compute in {dtype}")
    return of.flops[dtype]
