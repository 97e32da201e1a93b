"""Timing the steps of any transformers Trainer by the device's clock, and what they amount to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class Clock(TrainerCallback):  # type: ignore[misc]
    """Times ``timed`` optimiser steps after ``warm_up``, from beginning to end, and stops training.

    The device is waited for at both ends. With ``profile`` one more step is run under
    torch.profiler and its table of kernels written there.
    """

    def __init__(
        self, device: torch.device, warm_up: int, timed: int, profile: Path | None = None
    ) -> None:
        self.device, self.warm_up, self.timed, self.profile = device, warm_up, timed, profile
        self.seconds: list[float] = []
        self._began = 0.0
        self._profiler: Any = None

    @property
    def steps(self) -> int:
        """How many steps are run in all."""
        return self.warm_up + self.timed + (self.profile is not None)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.profile is not None and state.global_step == self.warm_up + self.timed:
            kinds = [torch.profiler.ProfilerActivity.CPU]
            if self.device.type == "cuda":
                kinds.append(torch.profiler.ProfilerActivity.CUDA)
            self._profiler = torch.profiler.profile(activities=kinds)
            self._profiler.start()
        wait(self.device)
        self._began = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        wait(self.device)
        took = time.perf_counter() - self._began
        if self.warm_up < state.global_step <= self.warm_up + self.timed:
            self.seconds.append(took)
        if self._profiler is not None:
            self._profiler.stop()
            self._write(took)
        if state.global_step >= self.steps:
            control.should_training_stop = True

    def _write(self, took: float) -> None:
        assert self.profile is not None
        by = "self_device_time_total" if self.device.type == "cuda" else "self_cpu_time_total"
        table = self._profiler.key_averages().table(
            sort_by=by, row_limit=40, max_name_column_width=90
        )
        self.profile.write_text(f"one step under the profiler: {took:.3f} s\n{table}\n")
        self._profiler = None


def spread(values: Sequence[float], digits: int = 4) -> dict[str, float]:
    """Median, lowest and highest."""
    return {
        "median": round(statistics.median(values), digits),
        "low": round(min(values), digits),
        "high": round(max(values), digits),
    }


def reset_peak(device: torch.device) -> None:
    """Forget the memory that was needed so far, and give back what is not in use."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_bytes(device: torch.device) -> dict[str, int | None]:
    """The most memory that tensors had since :func:`reset_peak`, and that was held for them."""
    if device.type != "cuda":
        return {"allocated": None, "reserved": None}
    return {
        "allocated": torch.cuda.max_memory_allocated(),
        "reserved": torch.cuda.max_memory_reserved(),
    }


def best_seconds(action: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Median seconds of an action after three warm-ups, each repeat timed by device events."""
    for _ in range(3):
        action()
    taken = []
    for _ in range(repeats):
        if device.type == "cuda":
            began = torch.cuda.Event(enable_timing=True)
            ended = torch.cuda.Event(enable_timing=True)
            began.record()
            action()
            ended.record()
            torch.cuda.synchronize()
            taken.append(began.elapsed_time(ended) / 1e3)
        else:
            before = time.perf_counter()
            action()
            taken.append(time.perf_counter() - before)
    return statistics.median(taken)
