"""Claim: generate and respond, killed with -9 at twenty random moments and run again, give the rows
of an uninterrupted run; no reply that was committed is asked for again, none is lost or doubled.

The server (_teacher_server.py) runs in a thread here, replies after 200 ms with text composed of
real questions, the same to the same request, and counts. Both commands run once undisturbed; then,
into fresh folders and as often as it takes for twenty kills, each is killed at moments drawn from
the time that it took undisturbed or from the replies that it still needs, and run again until it
ends. After a kill the journal says what was committed: none of that may be asked for later. Keys
planted in the environment are looked for in everything written. Writes
``results/teacher_killed.json``.

    MEADOWLARK_DATA=… python benchmarks/teacher_killed.py [--kills 20] [--count 400]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from _planted_key import KEYS, searched
from _stamp import RESULTS, stamp
from _teacher_server import LATENCY_S, Teacher, app_of, digest_of
from aiohttp import web
from teacher_52k import check_answers

COMPARED = ("rows.parquet", "rejected.parquet")
IN_FLIGHT = {"tasks": 4, "answers": 32}


@contextmanager
def serving(teacher: Teacher) -> Iterator[str]:
    """The server in a thread while the context is open, and its URL."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    runner = web.AppRunner(app_of(teacher), shutdown_timeout=0.1, access_log=None)

    async def start() -> int:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return int(runner.addresses[0][1])

    thread.start()
    try:
        port = asyncio.run_coroutine_threadsafe(start(), loop).result()
        yield f"http://127.0.0.1:{port}"
    finally:
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def calls(folder: Path) -> dict[str, Counter[bytes]]:
    """The requests of a journal by their state, as the server counts them; none before it is.

    A copy is read, so that what a kill left is as it was when the next run opens it.
    """
    found: dict[str, Counter[bytes]] = {state: Counter() for state in ("done", "failed", "other")}
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("journal.sqlite", "journal.sqlite-wal"):
            if (folder / name).exists():
                shutil.copy(folder / name, temporary)
        with closing(sqlite3.connect(Path(temporary) / "journal.sqlite")) as base:
            try:
                rows = base.execute("SELECT request, state FROM calls").fetchall()
            except sqlite3.OperationalError:  # killed before the table was made
                return found
    for text, state in rows:
        request = json.loads(text)
        digest = digest_of(request["turns"][-1][1], request["sampling"].get("max_tokens"))
        found[state if state in found else "other"][digest] += 1
    return found


class Runs:
    """The commands of one pass, their log, and what the server was asked while each ran."""

    def __init__(self, folder: Path, log: Path, url: str, seeds: Path, count: int) -> None:
        self.folder, self.log = folder, log
        teacher = ["--teacher", f"openai:teacher@{url}/v1", "-j"]
        flight = {stage: [*teacher, str(number)] for stage, number in IN_FLIGHT.items()}
        asked = ["--seeds", str(seeds), "-n", str(count)]
        self.commands = {
            "tasks": ["generate", *asked, *flight["tasks"]],
            "answers": ["respond", str(folder / "tasks"), *flight["answers"]],
        }

    def run(self, stage: str, due: Callable[[float], bool] | None = None) -> float | None:
        """Run a stage, or kill it once it is ``due`` by its seconds; those, if it was killed."""
        command = [sys.executable, "-m", "meadowlark", *self.commands[stage]]
        with self.log.open("ab") as text:
            process = subprocess.Popen(
                [*command, "-o", str(self.folder / stage)],
                stdout=text,
                stderr=text,
                env={**os.environ, **KEYS, "OMP_NUM_THREADS": "1"},
            )
        began = time.monotonic()
        while (code := process.poll()) is None:
            if due is not None and due(time.monotonic() - began):
                process.send_signal(signal.SIGKILL)
                code = process.wait()
                break
            time.sleep(0.005)
        if code == -signal.SIGKILL:
            after_s = time.monotonic() - began
            time.sleep(2 * LATENCY_S)  # the server counts a request when it replies
            return after_s
        if code != 0:
            sys.exit(f"{stage} ended with {code}:\n{self.log.read_text()[-3000:]}")
        return None


def drawn(
    draw: random.Random, teacher: Teacher, seconds: float, replies: int
) -> Callable[[float], bool]:
    """Whether the moment of a kill has come: a time within ``seconds``, or so many of ``replies``.

    Which of both is drawn, too: by time many kills fall into the start, by replies none does.
    """
    if draw.random() < 0.3:
        after_s = draw.uniform(0.0, seconds)
        return lambda elapsed_s: elapsed_s >= after_s
    calls = teacher.calls + draw.randint(1, max(1, replies))
    return lambda _: teacher.calls >= calls


def outputs(folder: Path) -> dict[str, str]:
    """SHA-256 of the rows of both stages."""
    return {
        f"{stage}/{name}": hashlib.sha256((folder / stage / name).read_bytes()).hexdigest()
        for stage in IN_FLIGHT
        for name in COMPARED
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--result", type=Path, default=RESULTS / "teacher_killed.json")
    given = parser.parse_args()
    if not os.environ.get("MEADOWLARK_DATA"):
        sys.exit("set MEADOWLARK_DATA to the folder of real data")
    data = Path(os.environ["MEADOWLARK_DATA"])
    teacher = Teacher(data, draws=False)
    with tempfile.TemporaryDirectory() as temporary, serving(teacher) as url:
        result = run(teacher, url, data, Path(temporary), given.kills, given.count, given.seed)
    given.result.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))
    sound = not (result["outputs_differing"] or result["committed_replies_asked_again"])
    sys.exit(0 if sound and not result["planted_keys"]["found_in"] else 1)


def run(
    teacher: Teacher, url: str, data: Path, folder: Path, kills: int, count: int, seed: int
) -> dict[str, Any]:
    """The undisturbed run, the killed ones, and how they compare."""
    log, seeds = folder / "log.txt", data / "alpacare" / "med_seed.json"
    whole = Runs(folder / "whole", log, url, seeds, count)
    took = {}
    for stage in IN_FLIGHT:
        began = time.monotonic()
        assert whole.run(stage) is None
        took[stage] = time.monotonic() - began
    needed_in = {stage: calls(folder / "whole" / stage)["done"].total() for stage in IN_FLIGHT}
    expected, draw = outputs(folder / "whole"), random.Random(seed)
    killed: list[dict[str, Any]] = []
    differing: list[str] = []
    asked_again = paid_again = passes = 0
    while len(killed) < kills:
        passes += 1
        runs = Runs(folder / f"killed-{passes}", log, url, seeds, count)
        for stage in IN_FLIGHT:
            place, segments, after_s = runs.folder / stage, [], 0.0
            while after_s is not None:
                before = calls(place)["done"]
                teacher.answered.clear()
                left = needed_in[stage] - before.total()
                due = drawn(draw, teacher, took[stage], left) if len(killed) < kills else None
                after_s = runs.run(stage, due)
                segments.append((before, Counter(teacher.answered)))
                if after_s is not None:
                    committed = calls(place)["done"].total()
                    kill = {"stage": stage, "after_s": round(after_s, 2), "committed": committed}
                    killed.append(kill)
            needed = calls(place)
            assert not needed["other"], "a call ended neither done nor failed"
            # A request may be drawn more than once; each draw is asked for once in all.
            for before, answered in segments:
                for digest, times in answered.items():
                    asked_again += max(0, times - (needed["done"][digest] - before[digest]))
            replies = sum(answered.total() for _, answered in segments)
            paid_again += replies - needed["done"].total()
        check_answers(runs.folder / "answers", runs.folder / "tasks")
        found = outputs(runs.folder)
        differing += [f"{runs.folder.name}/{n}" for n in expected if found[n] != expected[n]]
    keys = searched(folder)
    assert keys["cut_out_of_journals"], "no reply repeated a key, so its absence shows nothing"
    return {
        **stamp(("aiohttp", "pyarrow", "numba", "numpy")),
        "count": count,
        "latency_s": LATENCY_S,
        "in_flight": IN_FLIGHT,
        "seconds_undisturbed": {stage: round(seconds, 2) for stage, seconds in took.items()},
        "kills": len(killed),
        "killed": killed,
        "passes": passes,
        "replies_needed_in_a_pass": needed_in,
        "committed_replies_asked_again": asked_again,
        "replies_in_flight_at_a_kill_and_asked_again": paid_again,
        "outputs_compared": passes * len(expected),
        "outputs_differing": differing,
        "planted_keys": keys,
    }


if __name__ == "__main__":
    main()
