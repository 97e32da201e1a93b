"""What every benchmark result carries: the command, the commit, the hardware and the versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results"
UNKNOWN = "unknown"


def stamp(
    packages: Iterable[str] = ("numpy", "pyarrow", "torch", "transformers"),
) -> dict[str, Any]:
    """Command, commit (with ``-dirty`` where files differ), processor, cores, versions."""
    versions = {"python": platform.python_version()}
    for package in packages:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    commit, changed = _git("rev-parse", "HEAD"), _git("status", "--porcelain")
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit + ("-dirty" if changed and commit != UNKNOWN else ""),
        "hardware": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "system": platform.platform(),
        },
        "versions": versions,
    }


def _git(*arguments: str) -> str:
    if shutil.which("git") is None:  # as on the GPU machine, where a copy without .git runs
        return UNKNOWN
    command = ["git", "-C", str(ROOT), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else UNKNOWN


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
