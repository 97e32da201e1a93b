"""What training does on a GPU: every mode of the issue's table in one call, under eight minutes.

First the card's ceilings and that packed attention is right; then LoRA bf16 and TRL beside it,
int8, NF4, full bf16 and fp32 (``modes.py``), each a process with a time-out. The result is written
again after every process, so that a stop loses one mode at most. It needs what
``benchmarks/gpu/prepare.py`` put into ``.bench-gpu`` where data and network are, and a Python with
torch, transformers, peft, accelerate and pyarrow; the rest travels as wheels. ``--small`` runs the
same code on two narrow layers, on a CPU too, where a test runs it.

    python3 benchmarks/gpu/run.py [--modes lora-bf16,lora-nf4] [--budget-s 470] [--small]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from _stamp import RESULTS, stamp  # noqa: E402  (the folder above, which is no package)
from modes import (  # noqa: E402
    BY_NAME,
    COMPILED,
    EPOCH_S,
    INT8_TIMES,
    MFU,
    MODES,
    NF4_TIMES,
    PLAN_ERROR,
    Mode,
)

Row = dict[str, Any]
SMALL_LIMIT_S = 600.0
"""For a mode in small, where the budget is not kept: a slow CPU may need it."""
PACKAGES = (
    "torch",
    "triton",
    "transformers",
    "accelerate",
    "peft",
    "numpy",
    "pyarrow",
    "bitsandbytes",
    "liger_kernel",
    "trl",
    "datasets",
)
NOT_RUN: Row = {
    "why": "no GPU was at hand: the rows below are the same script's on two narrow layers, which "
    "show that it runs and say nothing of a GPU's speed or memory",
    "ready": "`make bench-gpu` prepares .bench-gpu here and measures where nvidia-smi is found; "
    "predictions to hold against it are in benchmarks/gpu/NOTES.md",
    "has_not_run_on_a_gpu": [mode.name for mode in MODES],
}
CARRIED = ("pydantic", "bitsandbytes", "liger_kernel", "trl", "datasets")
EXPANDABLE = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
"""So that passes of other sizes leave no gaps; left away where the driver does not do it."""
IMITATED = "Imitated"
"""In the name of a card that computes nothing (``rehearse.py``)."""
PATIENCE = 2.5
"""A mode that takes so many times what it is expected to is ended, so that the others run."""
REPORT = """import json, torch
gpu = torch.cuda.is_available()
found = torch.cuda.get_device_properties(0) if gpu else None
if gpu:
    torch.ones(1 << 24, device="cuda").sum().item()
print(json.dumps({"name": found.name if gpu else "cpu",
    "memory_bytes": found.total_memory if gpu else None,
    "multiprocessors": found.multi_processor_count if gpu else None}))"""


def unpack(data: Path, site: Path) -> list[str]:
    """The carried wheels into a folder that Python can import from; their names.

    Only where they are of this Python's version and it lacks something of them.
    """
    manifest = data / "manifest.json"
    made_for = json.loads(manifest.read_text())["python"] if manifest.exists() else ""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if made_for != here or all(importlib.util.find_spec(name) for name in CARRIED):
        return []
    wheels = sorted((data / "wheels").glob("*.whl"))
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(site)
    return [wheel.name for wheel in wheels]


def environment(site: Path) -> dict[str, str]:
    """What the modes' processes see: the wheels, this source, nothing from the network."""
    path = [str(site), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(part for part in path if part),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }


def found_device(env: dict[str, str]) -> tuple[Row, dict[str, str]]:
    """What device there is, and the environment in which it can be used."""
    said = ""
    for tried in ({**env, **EXPANDABLE}, env):
        command = [sys.executable, "-c", REPORT]
        report = subprocess.run(command, env=tried, capture_output=True, text=True, check=False)
        if report.returncode == 0:
            return json.loads(report.stdout.splitlines()[-1]), tried
        said = report.stderr
    sys.exit(f"torch does not work here:\n{said}")


def run_mode(
    mode: Mode,
    options: argparse.Namespace,
    env: dict[str, str],
    limit_s: float,
    flops: float | None,
) -> list[Row]:
    """The rows of one mode's process; what it wrote before a time-out or a crash counts."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "rows.jsonl"
        command = [sys.executable, str(HERE / "mode.py"), mode.name]
        command += ["--data", str(options.data), "--out", str(out)]
        command += ["--artefacts", str(options.artefacts), "--limit-s", f"{limit_s:.0f}"]
        command += ["--small"] if options.small else []
        command += ["--matrix-flops", str(flops)] if flops else []
        log = Path(name) / "log.txt"
        began = time.monotonic()
        failure: Row | None = None
        with log.open("w") as file:
            try:
                done = subprocess.run(
                    command, env=env, stdout=file, stderr=subprocess.STDOUT, timeout=limit_s
                )
                if done.returncode:
                    failure = {"status": "failed", "reason": f"exit code {done.returncode}"}
            except subprocess.TimeoutExpired:
                failure = {"status": "timed out", "reason": f"after {limit_s:.0f} s"}
        took = round(time.monotonic() - began, 1)
        rows = [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []
        said = log.read_text(errors="replace").strip()
    with (options.artefacts / "log.txt").open("a") as whole:  # one: few files come back
        whole.write(f"== {mode.name}, {took} s\n{said}\n")
    if failure is not None:
        rows.append({"mode": mode.name, **failure, "log": said.splitlines()[-1:]})
    return [{**row, "process_s": took} for row in rows]


# --------------------------------------------------------------------------- aims


def in_full(rows: list[Row], mode: str) -> list[Row]:
    """A mode's rows that were measured in full."""
    return [row for row in rows if row["mode"] == mode and _ok(row) and not row.get("tried")]


def _ok(row: Row) -> bool:
    return row.get("status") == "ok" and "tokens_per_s" in row


def fastest(rows: list[Row], mode: str) -> Row | None:
    """A mode's fastest row measured in full."""
    return max(in_full(rows, mode), key=lambda row: row["tokens_per_s"], default=None)


def aims(rows: list[Row]) -> list[Row]:
    """The issue's aims beside what was measured; ``passed`` is None where nothing was."""
    found: list[Row] = []

    def aim(name: str, at_most: float | None, at_least: float | None, value: float | None) -> None:
        passed = None
        if value is not None:
            passed = value <= at_most if at_most is not None else value >= (at_least or 0)
        bound = {"at_most": at_most} if at_most is not None else {"at_least": at_least}
        found.append({"aim": name, **bound, "measured": value, "passed": passed})

    lora = fastest(rows, "lora-bf16") or fastest(rows, COMPILED)
    compiled = fastest(rows, COMPILED)
    if lora and compiled and compiled["tokens_per_s"] > lora["tokens_per_s"]:
        lora = compiled
    aim("LoRA bf16, seconds an epoch", EPOCH_S, None, lora and lora["epoch_s"])
    aim("LoRA bf16, MFU", None, MFU, lora and lora["mfu"])
    for mode, times in (("lora-int8", INT8_TIMES), ("lora-nf4", NF4_TIMES)):
        other = fastest(rows, mode)
        ratio = lora and other and round(other["epoch_s"] / lora["epoch_s"], 3)
        aim(f"{mode}, times LoRA bf16's epoch", times, None, ratio)
    for mode in MODES:
        if mode.memory_aim_bytes:
            peaks = [row["peak_bytes"]["allocated"] for row in in_full(rows, mode.name)]
            known = [peak for peak in peaks if peak is not None]
            least = round(min(known) / 1e9, 2) if known else None
            aim(f"{mode.name}, GB at most held", mode.memory_aim_bytes / 1e9, None, least)
    over = [
        row["predicted"].get("over_measured", {}).get("peak_bytes")
        for mode in MODES
        for row in in_full(rows, mode.name)
        if "predicted" in row
    ]
    off = [abs(ratio - 1) for ratio in over if ratio is not None]
    aim("plan, largest error of memory", PLAN_ERROR, None, round(max(off), 4) if off else None)
    peer = fastest(rows, "trl-lora-bf16")
    ratio = lora and peer and round(lora["tokens_per_s"] / peer["tokens_per_s"], 3)
    aim("LoRA bf16, times TRL's tokens/s", None, 1.0, ratio)
    return found


def table(rows: list[Row]) -> str:
    """The rows in short, for the end of the output."""
    lines = [f"{'mode':22}{'setting':34}{'status':14}{'tok/s':>9}{'epoch s':>9}{'MFU':>7}{'GB':>7}"]
    for row in rows:
        peak = (row.get("peak_bytes") or {}).get("allocated")
        cells = [
            f"{row['mode']:22}{row.get('setting', ''):34.33}",
            f"{row['status'] + (' (tried)' if row.get('tried') else ''):14.13}",
            f"{row.get('tokens_per_s', float('nan')):9.0f}" if _ok(row) else f"{'':9}",
            f"{row['epoch_s']:9.1f}" if _ok(row) else f"{'':9}",
            f"{row['mfu']:7.1%}" if row.get("mfu") else f"{'':7}",
            f"{peak / 1e9:7.1f}" if peak else "",
            f"  {row.get('reason', '')}"[:80],
        ]
        lines.append("".join(cells).rstrip())
    return "\n".join(lines)


# --------------------------------------------------------------------------- the call


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--modes", default=",".join(BY_NAME), help="which, by comma")
    parser.add_argument("--budget-s", type=float, default=470, help="for the whole call")
    parser.add_argument("--patience", type=float, default=PATIENCE, help="see PATIENCE")
    parser.add_argument("--data", type=Path, default=ROOT / ".bench-gpu")
    parser.add_argument("--small", action="store_true", help="two narrow layers, on any device")
    parser.add_argument("--out", type=Path, help="the result; $OUT and benchmarks/results else")
    options = parser.parse_args()
    began = time.monotonic()
    unknown = set(options.modes.split(",")) - set(BY_NAME)
    if unknown:
        parser.error(f"no mode {', '.join(sorted(unknown))}; known: {', '.join(BY_NAME)}")
    with tempfile.TemporaryDirectory() as name:
        site = Path(name) / "site"
        site.mkdir()
        wheels = unpack(options.data, site)
        env = environment(site)
        # Our own imports see the wheels' versions too.
        sys.path.insert(0, str(site))
        device, env = found_device(env)
        if device["name"] == "cpu" and not options.small:
            sys.exit("no GPU here; `--small` runs the same code on a CPU")
        measure(options, env, device, wheels, began)


def measure(
    options: argparse.Namespace,
    env: dict[str, str],
    device: Row,
    wheels: list[str],
    began: float,
) -> None:
    """Run the modes in order of priority and write the result after each."""
    back = Path(os.environ["OUT"]) if os.environ.get("OUT") else None
    out = options.out or (back or RESULTS) / "training_gpu.json"
    if options.small and out.exists() and json.loads(out.read_text())["ran"]:
        sys.exit(f"{out} holds a real run, which a small one does not replace; give --out")
    options.artefacts = options.out.parent if options.out else back or ROOT / "runs" / "bench-gpu"
    for folder in (out.parent, options.artefacts):
        folder.mkdir(parents=True, exist_ok=True)
    manifest = options.data / "manifest.json"
    result: Row = {
        **stamp(PACKAGES),
        "ran": not options.small and IMITATED not in device["name"],
        **(NOT_RUN if options.small else {}),
        "device": device,
        "prepared": json.loads(manifest.read_text()) if manifest.exists() else None,
        "wheels": wheels,
        "rows": [],
    }
    rows: list[Row] = result["rows"]
    flops: float | None = None
    wanted = [mode for mode in MODES if mode.name in options.modes.split(",")]
    for mode in wanted:
        left = options.budget_s - (time.monotonic() - began)
        if not options.small and left < mode.expected_s:
            reason = f"{left:.0f} s of the budget were left, {mode.expected_s} are needed"
            rows.append({"mode": mode.name, "status": "not run", "reason": reason})
        else:
            limit = (
                SMALL_LIMIT_S if options.small else min(left, options.patience * mode.expected_s)
            )
            rows += run_mode(mode, options, env, limit, flops)
        for row in rows:
            flops = row.get("matrix_flops_per_s", flops)
        result["seconds"] = round(time.monotonic() - began, 1)
        result["aims"] = aims(rows) if not options.small else "not judged on a small model"
        beside = out.with_suffix(".tmp")
        beside.write_text(json.dumps(result, indent=2) + "\n")
        beside.replace(out)
        print(f"{result['seconds']:6.1f} s  {mode.name}", flush=True)
    print(table(rows))
    for line in result["aims"] if not options.small else []:
        print(json.dumps(line))
    print(f"{result['seconds']} s; {out}")
    wrong = [row for row in rows if row["status"] == "wrong"]
    failed = [row for row in rows if row["status"] in ("failed", "timed out")]
    if wrong or failed:
        sys.exit(f"{len(wrong)} wrong and {len(failed)} failed rows")


if __name__ == "__main__":
    main()
