"""Claim: a demo killed with -9 at ten random moments and run again gives the same rows, scores
and weights as an uninterrupted one.

Runs the demo once without interruption and once with ten kills spread over its running time, then
compares the SHA-256 of every output of every stage. The uninterrupted run's time is the demo's
published time. Writes ``results/demo_killed.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from _stamp import RESULTS as FOLDER
from _stamp import stamp

RESULTS = FOLDER / "demo_killed.json"


def demo(out: Path, log: Path, kill_after_s: float | None = None) -> int | None:
    """Run the demo in its own process group; returns its exit code, or None where it was killed."""
    with log.open("a") as text:
        process = subprocess.Popen(
            [sys.executable, "-m", "meadowlark", "demo", "--out", str(out)],
            stdout=text,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=kill_after_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return None


def outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of every output of every finished stage but the report, which shows times."""
    found = {}
    for manifest in sorted(folder.glob("*/manifest.json")):
        if manifest.parent.name != "report":
            for name, digest in json.loads(manifest.read_text())["outputs"].items():
                found[f"{manifest.parent.name}/{name}"] = digest
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/demo-killed"))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    log = options.folder / "log.txt"

    began = time.monotonic()
    code = demo(options.folder / "whole", log)
    whole_s = time.monotonic() - began
    if code != 0:
        sys.exit(f"the uninterrupted demo failed with exit code {code}; see {log}")

    # Each life of the demo is a random share of a fair part of the whole, so that the kills fall
    # all along it although an earlier life's work is kept.
    draw = random.Random(options.seed)
    lives = [draw.uniform(0.2, 1.0) * whole_s / options.kills * 1.3 for _ in range(options.kills)]
    killed_in = []
    for life in lives:
        if demo(options.folder / "killed", log, kill_after_s=life + 3.0) is None:
            started = sorted((options.folder / "killed").glob("*/started.json"))
            killed_in.append(started[0].parent.name if started else "between stages")
    code = demo(options.folder / "killed", log)
    whole, killed = outputs(options.folder / "whole"), outputs(options.folder / "killed")
    differing = sorted(n for n in whole.keys() | killed.keys() if whole.get(n) != killed.get(n))
    result = {
        **stamp(),
        "demo_s": round(whole_s, 1),
        "kills": len(killed_in),
        "killed_in": killed_in,
        "final_exit_code": code,
        "outputs_compared": len(whole),
        "differing": differing,
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    sys.exit(0 if code == 0 and not differing and len(killed_in) == options.kills else 1)


if __name__ == "__main__":
    main()
