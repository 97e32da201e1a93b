"""kill -9 at random moments: the rows of an uninterrupted run, no committed reply asked again."""

from __future__ import annotations

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
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from aiohttp import web

from chat_server import ChatServer, completion
from meadowlark.llm import ScriptedModel
from meadowlark.synth.respond import respond

KILLS = 20
KEY = "sk-planted-in-the-environment-4711"
SCRIPT = """
import os, sys, traceback
from pathlib import Path
from meadowlark.synth.generate import generate
from meadowlark.synth.respond import respond
from meadowlark.synth.task_requests import RequestForm

def work(seeds, url, folder):
    teacher = f"openai:tiny@{url}"
    generate(Path(seeds), teacher, 60, folder / "tasks", threshold=None, form=RequestForm(tasks=4))
    respond(folder / "tasks", teacher, folder / "answers")

for line in sys.stdin:  # one run a line, each in a process of its own that can be killed
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work(*sys.argv[1:], Path(line.strip()))
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    print(pid, flush=True)
    sys.stdin.readline()
    print(os.waitpid(pid, 0)[1], flush=True)
"""


def content_of(body: dict[str, Any]) -> str:
    return json.dumps(body["messages"], sort_keys=True)


async def teacher(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Replies by content alone, some with the caller's key, after a delay that differs."""
    await asyncio.sleep(random.uniform(0.005, 0.05))
    name = hashlib.sha256(content_of(body).encode()).hexdigest()
    if "List of 7 tasks" not in body["messages"][-1]["content"]:
        whom = f" for {request.headers['Authorization']}" if name < "2" else ""
        return completion(f"An answer to {name}{whom}.")
    layout = (
        "###\n{n}. Type: chat\nTopic: t\nView: nurse\nDifficulty: 2\nInstruction: {i}\nInput: {n}"
    )
    return completion("\n".join(layout.format(n=n, i=f"Do {name} {n}") for n in range(4, 8)))


def committed(folder: Path) -> set[str]:
    """The messages of every request whose reply is in a journal, read from a copy of it."""
    done: set[str] = set()
    for path in folder.glob("*/journal.sqlite"):
        copy = folder.parent / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        for name in ("journal.sqlite", "journal.sqlite-wal"):
            if path.with_name(name).exists():
                shutil.copy(path.with_name(name), copy)
        with closing(sqlite3.connect(copy / "journal.sqlite")) as journal:
            try:
                rows = journal.execute("SELECT request FROM calls WHERE state = 'done'").fetchall()
            except sqlite3.OperationalError:  # killed before the table was made
                continue
        for (request,) in rows:
            turns = json.loads(request)["turns"]
            messages = [{"role": role, "content": content} for role, content in turns]
            done.add(content_of({"messages": messages}))
    return done


class Runs:
    """A process that has loaded everything and forks one run after the other."""

    def __init__(self, seeds: Path, url: str) -> None:
        self.errors = seeds.with_name("errors.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(seeds), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env={**os.environ, "MEADOWLARK_API_KEY": KEY, "OMP_NUM_THREADS": "1"},
        )

    def _say(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def run(self, folder: Path, kill_when: Callable[[], None] | None = None) -> int:
        """One run into ``folder``; returns its wait status (9 when it was killed)."""
        answer = self._say(str(folder))
        assert answer.strip().isdigit(), answer
        if kill_when is not None:
            kill_when()
            os.kill(int(answer), signal.SIGKILL)  # not reaped yet, so the number is still its own
        answer = self._say("wait")
        assert answer.strip().isdigit(), answer
        return int(answer)

    def close(self) -> str:
        out, _ = self.process.communicate()
        self.errors.seek(0)
        with self.errors:
            return out + self.errors.read()


def test_twenty_kills_give_the_same_rows_and_ask_nothing_twice(
    tmp_path: Path, search_for: Callable[[Path, str], dict[str, Any]]
) -> None:
    seeds = tmp_path / "seeds.jsonl"
    rows = [{"instruction": f"Seed {n}", "type": "chat", "view": "nurse"} for n in range(20)]
    seeds.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rng = random.Random(20)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with ChatServer(teacher) as server:
        runs = Runs(seeds, server.url)
        try:
            assert runs.run(whole) == 0
            assert server.asked[0][0]["Authorization"] == f"Bearer {KEY}"
            asked_again, statuses, progress = 0, [], []

            def moment() -> None:
                """After a few requests more or a few milliseconds, whichever is drawn."""
                if rng.random() < 0.3:
                    return time.sleep(rng.uniform(0.0, 0.3))
                many, end = rng.randrange(1, 12), time.monotonic() + 2
                while len(server.asked) < many and time.monotonic() < end:
                    time.sleep(0.002)
                return time.sleep(rng.uniform(0.0, 0.12))

            for _ in range(KILLS):
                before = committed(killed)
                server.asked.clear()
                progress.append(len(before))
                statuses.append(runs.run(killed, moment))
                asked_again += sum(content_of(body) in before for _, body in server.asked)
            before = committed(killed)
            server.asked.clear()
            assert runs.run(killed) == 0
            asked_again += sum(content_of(body) in before for _, body in server.asked)
        finally:
            said = runs.close()
            print(said)
    assert "Traceback" not in said, said
    assert statuses.count(signal.SIGKILL) >= 5
    assert len(set(progress)) >= 3  # the kills came at different points of the work
    assert asked_again == 0
    for name in ("tasks/rows.parquet", "tasks/rejected.parquet", "answers/rows.parquet"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    left = {p.name for p in killed.rglob("*") if p.is_file()}
    cards = {"README.md", "manifest.json"}
    assert left == {"rows.parquet", "rejected.parquet", "journal.sqlite"} | cards
    assert KEY not in said
    keys = search_for(tmp_path, KEY)
    assert keys["found_in"] == []
    assert keys["cut_out_of_journals"] > 0  # the server did repeat it


def test_a_run_killed_while_it_wrote_its_first_file_begins_again(tmp_path: Path) -> None:
    data, out = tmp_path / "d.jsonl", tmp_path / "out"
    data.write_text('{"instruction": "Name a vitamin."}')
    out.mkdir()
    (out / ".lock").touch()
    (out / "started.json.tmp").write_text('{"stage": "resp')
    run = respond(data, "openai:m@http://h/v1", out, model=ScriptedModel(["Vitamin C."]))
    assert run.manifest.rows["kept"] == 1
    assert sorted(p.suffix for p in out.iterdir()) == [
        *(".json", ".md", ".parquet", ".parquet", ".sqlite")
    ]
