"""The published answers judged through a scripted server that misbehaves, killed and resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from chat_server import ChatServer
from meadowlark.dataset import read
from meadowlark.evaluate.judge import comparing
from meadowlark.evaluate.protocols import protocol_of
from meadowlark.evaluate.score import compute
from meadowlark.evaluate.verdicts import winner_of
from meadowlark.records import Verdict
from scripted_judge import TIMEOUT_S, ScriptedJudge, committed, plan

ITEMS = 40
CONCURRENCY = 16
REFERENCES = ("gpt-4", "claude-2")


def test_every_verdict_ends_read_or_counted_none_twice_killed_and_resumed(
    real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "alpacare"
    mine = f"AlpaCare-7b={folder / 'model_outputs' / 'AlpaCare-7b' / 'medinstruct.json'}"
    others = [
        f"{name}={folder / 'reference_outputs' / name / 'medsi_output.jsonl'}"
        for name in REFERENCES
    ]
    work = comparing(mine, others, protocol_of("alpacare"), ITEMS)
    expected = {}
    for pair, request in work.asked():
        messages = [{"role": role, "content": content} for role, content in request.turns]
        one = plan(messages)
        key = (pair.item, work.others[pair.reference].model, pair.shown_first)
        expected[key] = (winner_of(one.choice, pair.shown_first), one.text)  # type: ignore[arg-type]
    assert len(expected) == ITEMS * len(REFERENCES) * 2

    judge = ScriptedJudge()
    out = tmp_path / "out"
    with ChatServer(judge) as server:
        models = tmp_path / "models.toml"
        models.write_text(
            f'[scripted]\nkind = "openai"\nmodel = "tiny"\nurl = "{server.url}"\n'
            f'key_variable = ""\ntimeout_s = {TIMEOUT_S}\nprice = {{input = 1.0, output = 2.0}}\n'
        )
        command = [sys.executable, "-m", "meadowlark", "judge", mine, *others]
        command += ["--judge", "scripted", "--models", str(models), "--limit", str(ITEMS)]
        command += ["-j", str(CONCURRENCY), "--out", str(out)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while judge.answered.total() < 60 and process.poll() is None:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / "manifest.json").exists()
        on_disk, before = committed(out / "journal.sqlite"), judge.answered.total()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    found = read(out, Verdict)[0]
    got = {(v.item, v.b, v.shown_first): (v.winner, v.raw) for v in found}
    assert len(found) == len(got) == len(expected)
    assert got == expected
    assert {v.by for v in found} == {"judge:scripted"}
    # What was not on disk at the kill, and nothing else, is asked again.
    assert on_disk
    assert all(judge.answered[content] == 1 for content in on_disk)
    again = sum(count - 1 for count in judge.answered.values())
    assert again <= before - len(on_disk) + CONCURRENCY
    assert {"429", "half a JSON", "timeout", "reset", "HTTP 500"} <= judge.happened.keys()
    manifest = json.loads((out / "manifest.json").read_text())
    unreadable = sum(winner == "unreadable" for winner, _ in expected.values())
    assert manifest["results"]["unreadable"] == unreadable > 0
    assert "rejected" in manifest["rows"]
    assert not manifest["rows"]["rejected"]
    assert_bounds(found, out)


def assert_bounds(found: list[Verdict], out: Path) -> None:
    """The rate with every unreadable verdict as lost and as won, computed anew from the rows."""
    scores = {(s.task, s.metric): s for s in compute([out]).scores}
    for reference in REFERENCES:
        task = f"preference (judge:scripted): against {reference}"
        for end, counted in (("lost", 0.0), ("won", 1.0)):
            points = {"a": 1.0, "b": 0.0, "tie": 0.5, "unreadable": counted}
            rows = [points[v.winner] for v in found if v.b == reference]
            score = scores[task, f"win_rate_unreadable_{end}"]
            assert abs(score.value - sum(rows) / len(rows)) < 1e-12
            assert score.n == ITEMS
        low, rate, high = (
            scores[task, f"win_rate{end}"].value
            for end in ("_unreadable_lost", "", "_unreadable_won")
        )
        assert low < rate < high
