"""``meadowlark doctor``: what is installed, what the machine has, and what is missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import shutil
import sys
from pathlib import Path

from meadowlark import __version__
from meadowlark.cli.options import stdout

KEYS = ("MEADOWLARK_API_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "HF_TOKEN")
SETTINGS = ("MEADOWLARK_DATA", "MEADOWLARK_MODELS", "HF_HOME", "OMP_NUM_THREADS")


DEVELOPERS = ("all", "dev", "bench")


def doctor() -> int:
    """Say what is installed and what is missing, with the exact command to install it.

    The exit code is 0 unless a package of the core is missing. Keys are only said to be set or
    not; their values are never read out.

    \b
    Examples:
      meadowlark doctor
    """
    _line("meadowlark", f"{__version__} in {Path(__file__).parents[1]}")
    _line("python", f"{platform.python_version()} ({sys.executable})")
    _line("platform", platform.platform())
    _line("cores", str(len(os.sched_getaffinity(0))))
    _line("memory", _memory())
    disk = shutil.disk_usage(Path.cwd())
    _line("disk here", f"{disk.free / 1e9:,.1f} GB free of {disk.total / 1e9:,.1f} GB")
    _line("gpu", _gpu())
    for key in KEYS:
        _line(key, "set" if os.environ.get(key) else "not set")
    for name in SETTINGS:
        _line(name, os.environ.get(name) or "not set")
    missing_core = False
    for extra, packages in requirements().items():
        stdout.print()
        stdout.print("core" if not extra else f"extra {extra}", style="bold")
        missing = [name for name in packages if _version(name) is None]
        for name in packages:
            _line(f"  {name}", _version(name) or "missing")
        if missing:
            missing_core = missing_core or not extra
            wanted = shlex.join(packages[name] for name in missing)
            stdout.print(f"  to install: {sys.executable} -m pip install {wanted}", markup=False)
    return 1 if missing_core else 0


def _line(name: str, value: str) -> None:
    stdout.print(f"{name:23} {value}", markup=False)


def requirements() -> dict[str, dict[str, str]]:
    """The packages that a user of Meadowlark needs, by extra, with the versions that will do.

    The core's are under the empty name; the developers' extras are left out.
    """
    extras: dict[str, dict[str, str]] = {"": {}}
    for line in importlib.metadata.requires("meadowlark") or []:
        requirement, _, marker = line.partition(";")
        name = re.split(r"[<>=!~\[ (]", requirement.strip(), maxsplit=1)[0]
        found = re.search(r"extra\s*==\s*['\"]([^'\"]+)", marker)
        extra = found[1] if found else ""
        if name != "meadowlark" and extra not in DEVELOPERS:
            extras.setdefault(extra, {})[name] = requirement.strip()
    return extras


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _memory() -> str:
    """Memory of the machine, and what a container allows where that is less."""
    page, pages = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_PHYS_PAGES")
    text = f"{page * pages / 1e9:,.1f} GB"
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.exists():
        allowed = limit.read_text().strip()
        if allowed.isdigit() and int(allowed) < page * pages:
            text += f", of which this container may use {int(allowed) / 1e9:,.1f} GB"
    return text


def _gpu() -> str:
    if importlib.util.find_spec("torch") is None:
        return "unknown: torch is not installed"
    import torch

    if not torch.cuda.is_available():
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a CPU build"
        return f"none that torch {torch.__version__} can use ({built})"
    names = []
    for index in range(torch.cuda.device_count()):
        of = torch.cuda.get_device_properties(index)
        bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
        names.append(f"{of.name}, {of.total_memory / 1e9:,.1f} GB, {bf16}")
    return "; ".join(names)
