"""The GPU benchmark's code runs here in small, so that it does not break before a GPU comes."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu" / "training.py"


def test_the_gpu_benchmark_runs_in_small_on_any_device() -> None:
    command = [sys.executable, str(SCRIPT), "--small"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["packed_equals_alone"]["relative_difference"] < 1e-2
    assert found["lora"]["trainable"] < found["full"]["trainable"] == found["full"]["parameters"]
    assert found["full"]["tokens_per_s"] > 0
