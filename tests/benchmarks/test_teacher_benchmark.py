"""The end-to-end benchmark runs: a first hundred tasks, answered, counted, nothing lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

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


def committed(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / name).read_text())
    return found


def test_the_committed_run_is_whole_and_holds_no_key() -> None:
    found = committed("teacher_52k.json")
    assert found["count"] == found["generate"]["rows"]["kept"] == 52_000
    rows = found["respond"]["rows"]
    assert rows["in"] == rows["kept"] + sum(rows["rejected"].values()) == 52_000
    assert found["planted_keys"]["found_in"] == []
    assert found["planted_keys"]["cut_out_of_journals"] > 0
    # Filtering as it goes: ten times the tasks take no more than ten times the CPU of a tenth.
    assert found["generate"]["cpu_s"] < 10 * found["generate_a_tenth"]["cpu_s"]


def test_the_committed_kills_changed_lost_and_doubled_nothing() -> None:
    found = committed("teacher_killed.json")
    assert found["kills"] == len(found["killed"]) >= 20
    assert len({kill["committed"] for kill in found["killed"]}) >= 10  # at different points
    assert found["committed_replies_asked_again"] == 0
    assert found["outputs_differing"] == []
    assert found["planted_keys"]["found_in"] == []
    assert found["planted_keys"]["cut_out_of_journals"] > 0


def test_the_committed_rates_are_those_asked_for() -> None:
    found = committed("dispatch.json")
    assert found["meadowlark"]["requests_a_second"] >= 1000
    for peer in ("alpacare", "openai", "openai-aiohttp", "litellm", "distilabel"):
        assert found["peers"][peer]["ours_is_times_as_fast"] > 1
    for way in ("bare", "retry", "headers"):
        assert found["limit_of_3000_a_minute"][way]["limit_used_percent"] >= 95
