"""Claim: a demo killed with -9 at ten random moments and run again gives the same rows, scores
and weights as an uninterrupted one.

Runs the demo once without interruption and once with ten kills at random moments of training and of
stages drawn at random, then compares the SHA-256 of every output of every stage. The uninterrupted
run's time is the demo's published time. Writes ``results/demo_killed.json``.
"""

from __future__ import annotations

import argparse
import hashlib
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

from meadowlark.demo import steps
from meadowlark.train.log import MEASURED

RESULTS = FOLDER / "demo_killed.json"


def start(out: Path, log: Path) -> subprocess.Popen[bytes]:
    """The demo in its own process group, its output appended to ``log``."""
    with log.open("a") as text:
        return subprocess.Popen(
            [sys.executable, "-m", "meadowlark", "demo", "--out", str(out)],
            stdout=text,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def killed_in_stage(out: Path, log: Path, stage: str, after_s: float) -> str:
    """Run the demo until ``stage`` has begun, wait, kill it; returns what the kill fell into."""
    process = start(out, log)
    while not list((out / stage).glob("*.json")):
        if process.poll() is not None:
            sys.exit(f"the demo ended with {process.returncode} before {stage}; see {log}")
        time.sleep(0.002)
    time.sleep(after_s)
    if process.poll() is not None:
        sys.exit(f"the demo ended with {process.returncode} before it was killed in {stage}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    unfinished = sorted(path.parent.name for path in out.glob("*/started.json"))
    return ", ".join(unfinished) or "between stages"


def outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of every output of every finished stage but the report, which shows times.

    Speed and memory of the training log are left out, of the resolved configuration the data path.
    """
    found = {}
    for manifest in sorted(folder.glob("*/manifest.json")):
        if manifest.parent.name != "report":
            for name, digest in json.loads(manifest.read_text())["outputs"].items():
                found[f"{manifest.parent.name}/{name}"] = digest
    log = (folder / "model" / "train_log.jsonl").read_text().splitlines()
    lines = [{k: v for k, v in json.loads(x).items() if k not in MEASURED} for x in log]
    found["model/train_log.jsonl"] = _digest(json.dumps(lines))
    config = (folder / "model" / "config.toml").read_text().splitlines()
    found["model/config.toml"] = _digest("\n".join(x for x in config if not x.startswith("path")))
    return found


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


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
    code = start(options.folder / "whole", log).wait()
    whole_s = time.monotonic() - began
    if code != 0:
        sys.exit(f"the uninterrupted demo failed with exit code {code}; see {log}")
    seconds = {
        path.parent.name: json.loads(path.read_text())["seconds"]
        for path in (options.folder / "whole").glob("*/manifest.json")
    }

    # Four kills in training, which takes most of the time, the others in stages drawn at random,
    # each after a random share of what that stage took (shared by the kills that fall into it).
    order = [step.arguments[-1].rpartition("/")[2] for step in steps(Path("out"))]
    draw = random.Random(options.seed)
    others = draw.sample([name for name in order if name != "model"], options.kills - 4)
    plan = sorted([*others, *["model"] * 4], key=order.index)
    killed_in = [
        killed_in_stage(
            options.folder / "killed",
            log,
            stage,
            draw.random() * seconds[stage] / plan.count(stage),
        )
        for stage in plan
    ]
    code = start(options.folder / "killed", log).wait()
    whole, killed = outputs(options.folder / "whole"), outputs(options.folder / "killed")
    differing = sorted(n for n in whole.keys() | killed.keys() if whole.get(n) != killed.get(n))
    result = {
        **stamp(),
        "demo_s": round(whole_s, 1),
        "kills": len(killed_in),
        "aimed_at": plan,
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
