"""A command run beside a watch on its memory: seconds, and the most that it and the processes it
started held at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

EVERY_S = 0.2


def watched(command: list[str]) -> dict[str, Any]:
    """Run a command to its end; a failure ends the script with what it printed.

    ``own`` memory is what no file stands behind (RssAnon), summed over the processes at one moment;
    ``resident`` is the most that one of them ever held, mapped files included (VmHWM).
    """
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    own = resident = 0
    last = began
    while process.poll() is None:
        held = [_memory(pid) for pid in _family(process.pid)]
        own = max(own, sum(anonymous for anonymous, _ in held))
        resident = max([resident, *(most for _, most in held)])
        last = time.perf_counter()
        try:
            process.wait(EVERY_S)
        except subprocess.TimeoutExpired:
            continue
    seconds = time.perf_counter() - began
    output = process.stdout.read() if process.stdout else ""
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}\n{output}")
    assert last >= began
    return {
        "seconds": round(seconds, 2),
        "peak_own_memory_bytes_of_all_processes": own,
        "peak_resident_bytes_of_the_largest_process": resident,
    }


def _family(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue  # it has just ended
    return found


def _memory(pid: int) -> tuple[int, int]:
    """Bytes without a file behind them, and the most ever resident."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0, 0
    values = {name: text.split() for name, _, text in (line.partition(":") for line in lines)}
    return tuple(1024 * int(values.get(name, ["0"])[0]) for name in ("RssAnon", "VmHWM"))  # type: ignore[return-value]
