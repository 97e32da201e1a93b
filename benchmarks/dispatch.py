"""Claim: one process asks at the speed of the endpoint: at least 1,000 requests a second with 500
in flight, journal on, replies parsed and committed; and at least 95 % of a limit of 3,000 requests
a minute is used, whether the server states it, names a time to wait, or only says 429.

The server (_chat_server.py, 200 ms, 2,500 characters a reply) runs in a process of its own, on
loopback. Beside it, in the same run: AlpaCare's loop shape (five at a time, with a barrier), plain
aiohttp (the floor), and with --peers the openai SDK, LiteLLM and distilabel from a Python of their
own, each for fewer requests. results/dispatch.json comes out. CPU seconds are those of the asking
process; they mean something even on a busy machine, the rates do not.

    python benchmarks/dispatch.py [--requests 20000] [--in-flight 500] [--peers PYTHON]

PYTHON is that of an environment with openai[aiohttp], litellm and distilabel[openai].
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from _chat_server import LIMIT_PER_MINUTE, running
from _dispatch_peers import messages
from _stamp import RESULTS, stamp

from meadowlark.llm import Asking, ChatRequest, Journal, OpenAIModel, Policy, Sampling
from meadowlark.records import Turn

PEERS = {"alpacare": 200, "aiohttp": 10_000, "openai": 4000, "openai-aiohttp": 6000,
         "litellm": 3000, "distilabel": 3000}  # fmt: skip
"""Requests of each, some ten seconds' worth. Warm-up is in their time as in ours, imports are in
neither."""
OURS = ("alpacare", "aiohttp")
RESULT = RESULTS / "dispatch.json"
SETTLED_S = 10.0


def request(number: int) -> ChatRequest:
    turns = tuple(Turn(m["role"], m["content"]) for m in messages(number))  # type: ignore[arg-type]
    return ChatRequest(turns, Sampling(temperature=1.0, max_tokens=600), label=str(number))


def ours(url: str, requests: int, at_once: int, folder: Path) -> dict[str, Any]:
    """Ask, parse, commit; then read back from the journal that every reply is there, once."""
    path = folder / "journal.sqlite"
    wall, cpu = time.perf_counter(), time.process_time()
    characters = 0
    policy = Policy(concurrency=at_once)
    model = OpenAIModel("tiny", f"{url}/free/v1")
    with (
        Journal(path) as journal,
        Asking(model, map(request, range(requests)), journal=journal, policy=policy) as asking,
    ):
        for number, (asked, outcome) in enumerate(asking):
            assert asked.label == str(number), "out of order"
            assert outcome.reply is not None, outcome.error
            characters += len(outcome.reply.text)
    seconds, cpu_s = time.perf_counter() - wall, time.process_time() - cpu
    with closing(sqlite3.connect(path)) as kept:
        query = "SELECT state, count(*), sum(length(reply)) FROM calls GROUP BY state"
        assert kept.execute(query).fetchall() == [("done", requests, characters)]
    return {
        "answered": requests,
        "seconds": round(seconds, 3),
        "requests_a_second": round(requests / seconds, 1),
        "cpu_ms_a_request": round(1000 * cpu_s / requests, 4),
        "characters_a_reply": characters // requests,
        "journal_kb_a_request": round(path.stat().st_size / 1000 / requests, 2),
    }


def peer(python: str, name: str, url: str, requests: int, at_once: int) -> dict[str, Any]:
    script = Path(__file__).with_name("_dispatch_peers.py")
    command = [python, str(script), name, f"{url}/free/v1", str(requests), str(at_once)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": "no end after 300 s"}
    try:
        found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    except (IndexError, ValueError):
        return {"failed": done.stderr.strip()[-300:] or f"exit code {done.returncode}"}
    if found.get("answered"):
        seconds, cpu_s = found.pop("seconds"), found.pop("cpu_s")
        found |= {
            "seconds": round(seconds, 3),
            "requests_a_second": round(found["answered"] / seconds, 1),
            "cpu_ms_a_request": round(1000 * cpu_s / found["answered"], 4),
        }
    return found


def limited(url: str, way: str, seconds: float) -> dict[str, Any]:
    """The share of the limit that is used once settled, and what was refused on the way."""
    allowed_s = LIMIT_PER_MINUTE / 60
    requests = int(allowed_s * seconds)
    model = OpenAIModel("tiny", f"{url}/{way}/v1")
    attempts: Counter[int] = Counter()
    answered_at: list[float] = []
    began = time.perf_counter()
    policy = Policy(concurrency=200)
    with Asking(model, map(request, range(requests)), policy=policy) as asking:
        for _, outcome in asking:
            assert outcome.reply is not None, outcome.error
            attempts[outcome.attempts] += 1
            answered_at.append(time.perf_counter() - began)
    # The last second is left out: nothing is in flight behind it.
    end = answered_at[-1] - 1.0
    settled = sum(SETTLED_S <= at < end for at in answered_at)
    refused = sum((tries - 1) * n for tries, n in attempts.items())
    return {
        "requests": requests,
        "seconds": round(answered_at[-1], 2),
        "limit_used_percent": round(100 * settled / (allowed_s * (end - SETTLED_S)), 2),
        "refused_percent": round(100 * refused / requests, 2),
        "most_tries_of_one": max(attempts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each limited run")
    parser.add_argument("--peers", help="a Python that has openai, litellm and distilabel")
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    with running() as url:
        runs = []
        for _ in range(given.repeats):
            with tempfile.TemporaryDirectory() as folder:
                runs.append(ours(url, given.requests, given.in_flight, Path(folder)))
        best = max(runs, key=lambda run: run["requests_a_second"])
        peers = {}
        for name, requests in PEERS.items():
            python = sys.executable if name in OURS else given.peers
            if python is None:
                peers[name] = {"not_measured": "give --peers"}
                continue
            found = peer(python, name, url, requests, given.in_flight)
            if "requests_a_second" in found:
                rate, cpu_ms = best["requests_a_second"], best["cpu_ms_a_request"]
                found["ours_is_times_as_fast"] = round(rate / found["requests_a_second"], 2)
                found["its_cpu_is_times_ours"] = round(found["cpu_ms_a_request"] / cpu_ms, 2)
            peers[name] = found
        limits = {way: limited(url, way, given.seconds) for way in ("bare", "retry", "headers")}
    result = {
        "claim": "1,000 requests/s with 500 in flight in one process, 95 % of a limit used",
        "in_flight": given.in_flight,
        "meadowlark": best,
        "meadowlark_runs": [run["requests_a_second"] for run in runs],
        "peers": peers,
        "limit_of_3000_a_minute": limits,
        **stamp(("aiohttp", "yarl", "multidict")),
    }
    given.result.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
