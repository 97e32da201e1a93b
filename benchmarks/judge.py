"""Claim: the published answers are judged end to end, and every verdict ends read or counted.

Seven models' answers to MedInstruct-test against four references, both orders, by ``meadowlark
judge`` in processes of its own, through a local server whose judge is scripted by the content of a
request (tests/scripted_judge.py): clear choices in many forms, both letters, refusals, empty text,
and 429s, half a JSON, timeouts, resets and HTTP 500 on the way. Three of the seven runs are killed
with SIGKILL and resumed. Every verdict is compared with what the script meant, the bounds are
computed anew, and the counts and rates written to ``results/judge.json``. No text is kept in it.
The rate is that of a server with so many faults: to 429s and timeouts the dispatcher answers by
fewer requests in flight, and a request that never comes whole is waited for to its fifth try.

    MEADOWLARK_DATA=… python benchmarks/judge.py [--in-flight 64]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from _stamp import RESULTS, ROOT, stamp

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "src"))

from chat_server import ChatServer
from scripted_judge import LATENCY_S, TIMEOUT_S, ScriptedJudge, committed, plan

MODELS = (
    "AlpaCare-7b",
    "AlpaCare-13b",
    "alpaca",
    "alpaca-7b-llama-2",
    "alpaca-13b",
    "ChatDoctor",
    "medalpaca-7b",
)
REFERENCES = ("text-davinci-003", "gpt-3.5-turbo", "gpt-4", "claude-2")
KILLED = {"alpaca": 3, "ChatDoctor": 2, "medalpaca-7b": 1}
"""How often a model's run is killed."""
REQUESTS_A_KILL = 350


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--out", type=Path, default=RESULTS / "judge.json")
    asked = parser.parse_args()
    data = Path(os.environ["MEADOWLARK_DATA"]) / "alpacare"
    stamped = stamp(("aiohttp", "numpy", "pyarrow"))
    judge = ScriptedJudge()
    runs: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as made, ChatServer(judge) as server:
        folder = Path(made)
        (folder / "models.toml").write_text(
            f'[scripted]\nkind = "openai"\nmodel = "tiny"\nurl = "{server.url}"\n'
            f'key_variable = ""\ntimeout_s = {TIMEOUT_S}\nprice = {{input = 0.5, output = 1.5}}\n'
        )
        for model in MODELS:
            runs[model] = judged(model, data, folder, judge, server, asked.in_flight)
            print(model, json.dumps(runs[model]), flush=True)
    straight = [run for run in runs.values() if not run["kills"]]
    verdicts = sum(run["verdicts"] for run in runs.values())
    result = {
        **stamped,
        "judged": f"{len(MODELS)} models x {len(REFERENCES)} references x 2 orders x 216 prompts",
        "in_flight": asked.in_flight,
        "latency_s": LATENCY_S,
        "verdicts": verdicts,
        "winners": dict(sum((Counter(run["winners"]) for run in runs.values()), Counter())),
        "unlike_the_script": sum(run["unlike_the_script"] for run in runs.values()),
        "judged_twice": sum(run["judged_twice"] for run in runs.values()),
        "missing": sum(run["missing"] for run in runs.values()),
        "on_disk_and_asked_again": sum(run["on_disk_and_asked_again"] for run in runs.values()),
        "not_yet_on_disk_and_asked_again": sum(n - 1 for n in judge.answered.values()),
        "kills": sum(run["kills"] for run in runs.values()),
        "bounds_wrong": sum(run["bounds_wrong"] for run in runs.values()),
        "went_wrong_on_the_way": dict(judge.happened),
        "verdicts_a_second_without_kills": round(
            sum(run["verdicts"] for run in straight) / sum(run["wall_s"] for run in straight), 1
        ),
        "runs": runs,
    }
    faults = (
        "unlike_the_script",
        "judged_twice",
        "missing",
        "bounds_wrong",
        "on_disk_and_asked_again",
    )
    wrong = [name for name in faults if result[name]]
    asked.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{verdicts:,} verdicts in {asked.out}")
    if wrong:
        sys.exit(f"not as claimed: {', '.join(wrong)}")


def judged(
    model: str, data: Path, folder: Path, judge: ScriptedJudge, server: ChatServer, in_flight: int
) -> dict[str, Any]:
    """Judge one model's answers, with kills where it is to have them, and check what came out."""
    mine = f"{model}={data / 'model_outputs' / model / 'medinstruct.json'}"
    others = [f"{n}={data / 'reference_outputs' / n / 'medsi_output.jsonl'}" for n in REFERENCES]
    out = folder / model
    command = [sys.executable, "-m", "meadowlark", "judge", mine, *others, "--judge", "scripted"]
    command += ["--models", str(folder / "models.toml"), "-j", str(in_flight), "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    kills = 0
    on_disk: dict[str, int] = {}  # how often each was answered when it was first seen there
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    for _ in range(KILLED.get(model, 0)):
        kills += killed(command, environment, judge)
        for content in committed(out / "journal.sqlite"):
            on_disk.setdefault(content, judge.answered[content])
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{model}: exit {done.returncode}\n{done.stderr}")
    wall_s = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    server.asked.clear()
    server.targets.clear()
    manifest = json.loads((out / "manifest.json").read_text())
    return {
        "wall_s": round(wall_s, 2),
        "cpu_s": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "kills": kills,
        "on_disk_and_asked_again": sum(judge.answered[c] > n for c, n in on_disk.items()),
        "cost_usd": manifest["cost_usd"],
        **checked(mine, others, out),
    }


def killed(command: list[str], environment: dict[str, str], judge: ScriptedJudge) -> int:
    """Start the command and kill it after some hundred replies; 0 where it ended before."""
    begun = judge.answered.total()
    wait = random.Random(begun).randint(REQUESTS_A_KILL // 2, REQUESTS_A_KILL)
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    pause = threading.Event()
    while judge.answered.total() - begun < wait and process.poll() is None:
        pause.wait(0.002)
    ended = process.poll() is not None
    process.kill()
    process.wait()
    return 0 if ended else 1


def checked(mine: str, others: list[str], out: Path) -> dict[str, Any]:
    """Every verdict beside what the script meant, and the bounds computed from the rows."""
    from meadowlark.dataset import read
    from meadowlark.evaluate.judge import comparing
    from meadowlark.evaluate.protocols import protocol_of
    from meadowlark.evaluate.score import compute
    from meadowlark.evaluate.verdicts import winner_of
    from meadowlark.records import Verdict

    work = comparing(mine, others, protocol_of("alpacare"), None)
    expected = {}
    for pair, request in work.asked():
        one = plan([{"content": content} for _, content in request.turns])
        key = (pair.item, work.others[pair.reference].model, pair.shown_first)
        expected[key] = (winner_of(one.choice, pair.shown_first), one.text)
    found = read(out, Verdict)[0]
    got = {(v.item, v.b, v.shown_first): (v.winner, v.raw) for v in found}
    scores = {(s.task, s.metric): s.value for s in compute([out]).scores}
    wrong = 0
    for reference in REFERENCES:
        task = f"preference (judge:scripted): against {reference}"
        for end, counted in (("lost", 0.0), ("won", 1.0)):
            points = {"a": 1.0, "b": 0.0, "tie": 0.5, "unreadable": counted}
            rows = [points[v.winner] for v in found if v.b == reference]
            wrong += abs(scores[task, f"win_rate_unreadable_{end}"] - sum(rows) / len(rows)) > 1e-9
    return {
        "verdicts": len(found),
        "winners": dict(Counter(v.winner for v in found)),
        "unlike_the_script": sum(got.get(key) != value for key, value in expected.items()),
        "judged_twice": len(found) - len(got),
        "missing": len(expected.keys() - got.keys()),
        "bounds_wrong": wrong,
    }


if __name__ == "__main__":
    main()
