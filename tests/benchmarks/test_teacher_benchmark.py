"""The end-to-end benchmark runs: a first hundred tasks, answered, counted, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_hundred_tasks_end_to_end(real_data: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    script = ROOT / "benchmarks" / "teacher_52k.py"
    options = ["--count", "100", "--in-flight", "20", "--result", str(result)]
    done = subprocess.run(
        [sys.executable, str(script), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), "MEADOWLARK_DATA": str(real_data)},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(result.read_text())
    assert found["generate"]["rows"]["kept"] == 100
    rows = found["respond"]["rows"]
    assert rows["in"] == 100
    assert rows["kept"] + sum(rows["rejected"].values()) == 100
    assert found["server"]["calls"] >= found["generate"]["calls"] + found["respond"]["calls"]
    assert found["generate"]["tokens"]["out"] > 0
    assert found["cost_of_these_tokens"]["a large model"]["usd"] > 0
    assert found["planted_keys"]["found_in"] == []
    assert found["server"]["times_a_key_was_repeated"] > 0
