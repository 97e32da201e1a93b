"""Claim: on four real sources a small model trained from nothing beats a bigram model of the same
rows in bits a byte, and the real exams, prompts and verdict files run through the same commands.

Runs recipes/real-small.sh (which does nothing for what is already there) and collects the result
from the manifests and scores of its folders into ``results/real_small.json``. MEADOWLARK_DATA names
the folder of real data.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from _stamp import RESULTS, ROOT, stamp


def manifest(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return found


def scores(folder: Path, metric: str) -> dict[str, Any]:
    """Value, interval and n of one metric, by task, in per cent."""
    return {
        score["task"]: {
            "percent": 100 * score["value"],
            "low": 100 * score["low"] if score["low"] is not None else None,
            "high": 100 * score["high"] if score["high"] is not None else None,
            "n": score["n"],
            "unreadable": score["n_unreadable"],
        }
        for score in json.loads((folder / "scores.json").read_text())
        if score["metric"] == metric
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("runs/real-small"))
    folder = parser.parse_args().folder
    if "MEADOWLARK_DATA" not in os.environ:
        sys.exit("MEADOWLARK_DATA names no folder of real data; nothing was measured")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    recipe = [str(ROOT / "recipes" / "real-small.sh"), str(folder.resolve())]
    subprocess.run(recipe, check=True, env={**os.environ, "PATH": path})
    stages = {path.parent.name: manifest(path.parent) for path in folder.glob("*/manifest.json")}
    training = stages["model"]["results"]
    answers = {name: stages[name]["results"] for name in stages if name.startswith("answers-")}
    result = {
        **stamp(),
        "made_by": stages["model"]["code_version"],
        "stage_s": {name: stage["seconds"] for name, stage in sorted(stages.items())},
        "total_min": round(sum(stage["seconds"] for stage in stages.values()) / 60, 1),
        "rows": {
            name: stage["rows"]
            for name, stage in sorted(stages.items())
            if stage["stage"] in ("convert", "filter", "mix", "train")
        },
        "training": {k: v for k, v in training.items() if isinstance(v, int | float)},
        "exam": scores(folder / "exam", "accuracy"),
        "answers": answers,
        "published_verdicts": scores(folder / "published-verdicts", "win_rate"),
    }
    (RESULTS / "real_small.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
