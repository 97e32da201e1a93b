"""Claim: on a fresh clone `make demo` ends with a report, and `make test` passes within 25 minutes,
installation included.

Clones the committed state into a temporary folder, runs both there (in this order, so that the
demo's time holds the installation) and writes ``results/fresh_clone.json``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from _stamp import RESULTS, ROOT, stamp


def make(target: str, folder: Path) -> tuple[dict[str, Any], str]:
    """Run one target; exit code and seconds, and what it printed."""
    began = time.monotonic()
    ours = ("VIRTUAL_ENV", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if k not in ours}
    done = subprocess.run(
        ["make", target],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    result = {"exit_code": done.returncode, "s": round(time.monotonic() - began, 1)}
    return result, done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        clone = Path(temporary) / "meadowlark"
        subprocess.run(["git", "clone", "-q", str(ROOT), str(clone)], check=True)
        demo, printed = make("demo", clone)
        report = re.search(r"^Report: (\S+)$", printed, re.M)
        demo["report_written"] = report is not None and Path(report[1]).exists()
        test, printed = make("test", clone)
        lines = printed.strip().splitlines()
        test["summary"] = next((line for line in reversed(lines) if " in " in line), lines[-1])
        if test["exit_code"]:
            print("\n".join(lines[-80:]), file=sys.stderr)
    result = {
        **stamp(),
        "real_data": "MEADOWLARK_DATA" in os.environ,
        "demo": demo,
        "test": test,
        "total_min": round((demo["s"] + test["s"]) / 60, 1),
    }
    (RESULTS / "fresh_clone.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    sys.exit(0 if demo["exit_code"] == test["exit_code"] == 0 and demo["report_written"] else 1)


if __name__ == "__main__":
    main()
