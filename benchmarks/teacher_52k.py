"""Claim: 52,000 tasks are generated end to end, answers included, in bounded memory, nothing lost.

A teacher of our own, a server in a process of its own, replies after 200 ms with lists composed of
the real questions of MedQuAD, MedQA and HeadQA, as untidy as real teachers write (glued, bold,
renamed, cut, refused, in JSON, HTTP 503), by the content of the request and how often it was
answered before. ``meadowlark
generate``, ``respond`` and ``stats`` run as processes of their own, with AlpaCare's 167 seeds; what
each took (wall and CPU seconds, peak memory), the yield, the reasons, the tokens and what they
would cost are written to ``results/teacher_52k.json``. No text of the data is kept in it.

    MEADOWLARK_DATA=… python benchmarks/teacher_52k.py [--count 52000] [--in-flight 500]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import re
import resource
import shlex
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from _stamp import RESULTS, stamp

LATENCY_S = 0.2
PRICES_USD = {"a small model": (0.15, 0.60), "a large model": (2.50, 10.00)}
"""Dollars for a million tokens in and out: examples for the cost table, no vendor's list."""
FRAMES = (
    "Answer the question {a} and say how far it bears on this one: {b}",
    "A reader of a health magazine asks {a} Her brother adds: {b} Reply to both in one paragraph.",
    "Write two quiz cards, the first about {a} the second about {b}",
    "Compare what a textbook would say to {a} with what it would say to {b}",
    "Rewrite for a patient who reads little what is known about {a} Leave out all of: {b}",
    "Summarise for the ward round: {a} Keep apart from it the separate matter: {b}",
    "You teach first-year students. Prepare them for {a} by way of the easier {b}",
    "Classify both of these by the specialty that should reply: {a} {b}",
)
TYPES = ("Open Q&A", "Text generation", "Rewrites", "Classification", "Chat", "Summarization")
VIEWS = ("Patient", "Medical student", "Registered Nurse", "Expert", "Pharmacist", "Physician")


# ------------------------------------------------------------------------- the teacher, a server


class Teacher:
    """Replies made of real questions, by a request's content and how often it was answered."""

    def __init__(self, data: Path) -> None:
        from meadowlark.records import Record
        from meadowlark.sources import medquad

        archive = data / "meadow" / "medquad" / "medquad_all.tar.gz"
        pairs = [r for r in medquad.rows(archive) if isinstance(r, Record)]
        self.questions = [pair.input.strip() for pair in pairs]
        self.topics = [pair.tags.get("topic", "Medicine") for pair in pairs]
        self.answers = [" ".join(pair.output.split())[:1400] for pair in pairs]
        self.choices: list[tuple[str, list[str]]] = []
        for name in ("train", "dev"):
            exams = json.loads((data / "exams" / "headqa" / f"{name}_HEAD_EN.json").read_text())
            for exam in exams["exams"].values():
                for one in exam["data"]:
                    texts = [answer["atext"] for answer in one["answers"]]
                    self.choices.append((one["qtext"], texts))
        lines = (data / "exams" / "medqa" / "phrases_no_exclude_test.jsonl").read_text()
        for line in lines.splitlines():
            row = json.loads(line)
            self.choices.append((row["question"], list(row["options"].values())))
        self.calls = 0
        self._answered: Counter[bytes] = Counter()

    def reply(self, turns: list[dict[str, str]]) -> tuple[str, str] | None:
        """Text and finish reason; None for an error that a second try does not meet."""
        self.calls += 1
        content = turns[-1]["content"]
        if self.calls % 400 == 0:
            return None
        digest = hashlib.sha256(content.encode()).digest()
        rng = random.Random(digest + bytes([self._answered[digest]]))
        self._answered[digest] += 1
        asked = re.search(r"write tasks (\d+) to (\d+)\.", content)
        if asked:
            return self._tasks(rng, int(asked[1]), int(asked[2]))
        return self._answer(rng, content)

    def _tasks(self, rng: random.Random, first: int, last: int) -> tuple[str, str]:
        fault = rng.random()
        if fault < 0.005:
            return "I'm sorry, but I can't help with writing these tasks.", "stop"
        tasks = [self._task(rng) for _ in range(first, last + 1)]
        if fault < 0.02:
            return json.dumps({"tasks": tasks}, ensure_ascii=False), "stop"
        text = "\n".join(self._block(rng, n, task) for n, task in enumerate(tasks, start=first))
        if fault < 0.04:
            text = re.sub(r"(?m)^(\d+\. )?(\w+):", r"\1**\2:**", text)
        elif fault < 0.06:
            text = text.replace("###\n", "")
        elif fault < 0.08:
            text = text.replace("View:", "Point of view:").replace("Type:", "Task type:")
        elif fault < 0.09:
            text = f"```\n{text}\n```"
        if fault > 0.97:
            return text[: int(len(text) * rng.uniform(0.5, 0.95))], "length"
        return text, "stop"

    def _task(self, rng: random.Random) -> dict[str, Any]:
        at = rng.randrange(len(self.questions))
        question, (stem, choices) = self.questions[at], rng.choice(self.choices)
        labels: dict[str, Any] = {
            "type": rng.choice(TYPES),
            "topic": self.topics[at],
            "view": rng.choice(VIEWS),
            "difficulty": rng.choices((1, 2, 3, 4, 5), (15, 25, 30, 22, 8))[0],
        }
        kind = rng.random()
        if kind < 0.1:  # a question as it is: soon all are known
            return {**labels, "instruction": question, "input": "<noinput>"}
        if kind < 0.2:
            labels["type"] = rng.choice(("Multiple-choice Q&A", "USMLE style Q&A"))
            lettered = [f"{chr(65 + n)}) {text}" for n, text in enumerate(choices)]
            return {
                **labels,
                "instruction": f"Choose the right answer on {self.topics[at]}, {_part(stem, rng)}",
                "input": "\n".join([stem, *lettered]),
            }
        made = rng.choice(FRAMES).format(a=question, b=_part(stem, rng))
        context = self.answers[rng.randrange(len(self.answers))][:500]
        return {
            **labels,
            "instruction": " ".join(made.split()),
            "input": context if rng.random() < 0.67 else "<noinput>",
        }

    def _block(self, rng: random.Random, number: int, task: dict[str, Any]) -> str:
        """One task in the layout; one in fifty lacks a field, or the next is glued to it."""
        names = ["type", "topic", "view", "difficulty", "instruction", "input"]
        if rng.random() < 0.01:
            names.remove(rng.choice(("input", "instruction", "view")))
        glue = " " if rng.random() < 0.01 else "\n"
        lines = glue.join(f"{name.title()}: {task[name]}" for name in names)
        return f"###\n{number}. {lines}"

    def _answer(self, rng: random.Random, content: str) -> tuple[str, str]:
        fault = rng.random()
        text = rng.choice(self.answers) or "Yes."
        if fault < 0.01:
            return "I'm sorry, but I cannot provide medical advice.", "stop"
        if fault < 0.02:
            return text, "length"
        if fault < 0.022:
            return "", "stop"
        letters = re.findall(r"(?m)^([A-J])\) ", content)
        if letters and fault > 0.05:
            return f"{text}\n\nThe answer is ({rng.choice(letters)}).", "stop"
        return text, "stop"


def _part(text: str, rng: random.Random) -> str:
    """Eight to eighteen words in a row of a real question, so that no two tasks need be alike."""
    words = text.split()
    length = rng.randint(8, 18)
    at = rng.randrange(max(1, len(words) - length))
    return " ".join(words[at : at + length])


def serve(port: int, data: Path) -> None:
    """Run the server until it is killed; ``/used`` tells its calls and CPU seconds."""
    from aiohttp import web

    teacher = Teacher(data)

    async def answer(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        await asyncio.sleep(LATENCY_S)
        made = teacher.reply(body["messages"])
        if made is None:
            return web.json_response({"error": {"message": "busy"}}, status=503)
        text, finish = made
        asked = sum(len(message["content"]) for message in body["messages"])
        return web.json_response(
            {
                "choices": [
                    {
                        "index": 0,
                        "message": {"role": "assistant", "content": text},
                        "finish_reason": finish,
                    }
                ],
                "usage": {"prompt_tokens": asked // 4, "completion_tokens": len(text) // 4},
            }
        )

    async def used(_: web.Request) -> web.StreamResponse:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        return web.json_response(
            {"calls": teacher.calls, "cpu_s": round(spent.ru_utime + spent.ru_stime, 2)}
        )

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_get("/used", used)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


# ------------------------------------------------------------------------------ the measurement


def started_server(data: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server process that answers, and its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, __file__, "--serve", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "MEADOWLARK_DATA": str(data)})
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            asked(url)
            return process, url
        except OSError:
            if process.poll() is not None:
                sys.exit(f"the server ended with {process.returncode}")
            time.sleep(0.1)
    process.kill()
    return sys.exit("the server did not begin to answer within a minute")


def asked(url: str) -> dict[str, float]:
    """The server's calls and CPU seconds so far."""
    with urllib.request.urlopen(f"{url}/used", timeout=5) as response:
        return dict(json.load(response))


def measured(arguments: list[str], log: Path) -> dict[str, float]:
    """Run one command as a process of its own: wall and CPU seconds, peak memory of the process."""
    began = time.monotonic()
    with log.open("ab") as text:
        process = subprocess.Popen(
            [sys.executable, "-m", "meadowlark", *arguments],
            stdout=text,
            stderr=text,
            env={**os.environ, "OPENAI_API_KEY": "none-needed"},
        )
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(
            f"{shlex.join(arguments)} ended with {process.returncode}:\n{log.read_text()[-3000:]}"
        )
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_memory_mb": round(used.ru_maxrss / 1024, 1),
    }


def journal_states(folder: Path) -> dict[str, int]:
    """How many calls ended in which state: all must be done or failed."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
        rows = journal.execute("SELECT state, count(*) FROM calls GROUP BY state").fetchall()
    return {str(state): int(count) for state, count in rows}


def stage_result(folder: Path, took: dict[str, float], tasks: int) -> dict[str, Any]:
    """What a stage's manifest says beside what it took."""
    manifest = json.loads((folder / "manifest.json").read_text())
    states = journal_states(folder)
    lost = {state: n for state, n in states.items() if state not in ("done", "failed")}
    assert not lost, f"calls in {folder} ended neither done nor failed: {lost}"
    calls = sum(states.values())
    return {
        **took,
        "cpu_ms_a_task": round(1000 * took["cpu_s"] / tasks, 3),
        "calls": calls,
        "calls_a_second": round(calls / took["seconds"], 1),
        "cpu_ms_a_call": round(1000 * took["cpu_s"] / calls, 3),
        "calls_by_state": states,
        "rows": manifest["rows"],
        "results": {
            name: value
            for name, value in manifest["results"].items()
            if isinstance(value, int | float | str)
        },
        "warnings": manifest["warnings"],
        "tokens": manifest["tokens"],
        "cost_usd_in_manifest": manifest["cost_usd"],
        "journal_mb": round((folder / "journal.sqlite").stat().st_size / 1e6, 1),
        "rows_mb": round((folder / "rows.parquet").stat().st_size / 1e6, 1),
    }


def costs(*stages: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What the tokens of all stages would cost at each of the example prices."""
    total_in = sum(stage["tokens"].get("in", 0) for stage in stages)
    total_out = sum(stage["tokens"].get("out", 0) for stage in stages)
    return {
        name: {
            "usd_a_million_in": price_in,
            "usd_a_million_out": price_out,
            "usd": round((total_in * price_in + total_out * price_out) / 1e6, 2),
        }
        for name, (price_in, price_out) in PRICES_USD.items()
    }


def check_answers(folder: Path, tasks: Path) -> None:
    """Every task is answered or rejected, once; every answer has a text and its task as parent."""
    import pyarrow.parquet as pq

    asked_for = pq.read_table(tasks / "rows.parquet", columns=["id"]).column("id").to_pylist()
    kept = pq.read_table(folder / "rows.parquet", columns=["output", "parents"])
    rejected = pq.read_table(folder / "rejected.parquet", columns=["id"]).column("id").to_pylist()
    parents = [ids[0] for ids in kept.column("parents").to_pylist()]
    assert all(text.strip() for text in kept.column("output").to_pylist())
    assert sorted(parents + rejected) == sorted(asked_for), "a task was lost or doubled"
    there = set(parents)
    assert parents == [one for one in asked_for if one in there], "the order changed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=52_000)
    parser.add_argument("--in-flight", type=int, default=500)
    parser.add_argument("--out", type=Path, help="folder of the runs; a temporary one if not given")
    parser.add_argument("--result", type=Path, default=RESULTS / "teacher_52k.json")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument(
        "--teacher-options", default="", help="more options for generate and respond, as one word"
    )
    given = parser.parse_args()
    if not os.environ.get("MEADOWLARK_DATA"):
        sys.exit("set MEADOWLARK_DATA to the folder of real data")
    data = Path(os.environ["MEADOWLARK_DATA"])
    if given.serve:
        serve(given.serve, data)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / "log.txt"
        server, url = started_server(data)
        teacher = ["--teacher", f"openai:teacher@{url}/v1", "-j", str(given.in_flight)]
        teacher += shlex.split(given.teacher_options)
        try:
            seeds = data / "alpacare" / "med_seed.json"
            tasks, answers = folder / "tasks", folder / "answers"
            took = measured(
                [
                    "generate",
                    "--seeds",
                    str(seeds),
                    "-n",
                    str(given.count),
                    "-o",
                    str(tasks),
                    *teacher,
                ],
                log,
            )
            generated = stage_result(tasks, took, given.count)
            took = measured(["respond", str(tasks), "-o", str(answers), *teacher], log)
            answered = stage_result(answers, took, given.count)
            used = asked(url)
        finally:
            server.terminate()
            server.wait()
        took = measured(["stats", str(seeds), str(answers), "-o", str(folder / "stats")], log)
        check_answers(answers, tasks)
        described = json.loads((folder / "stats" / "stats.json").read_text())["datasets"]
        report = measured(["report", str(folder), "-o", str(folder / "report")], log)
        page = folder / "report"
    assert generated["rows"]["kept"] == given.count, generated["warnings"]
    result = {
        **stamp(("aiohttp", "pyarrow", "numba", "numpy")),
        "count": given.count,
        "in_flight": given.in_flight,
        "latency_s": LATENCY_S,
        "generate": generated,
        "respond": answered,
        "stats": took,
        "report": {**report, "page_is_not_committed": f"{page.name}/ shows rows of the real data"},
        "described": {name: summary(one) for name, one in described.items()},
        "seconds": round(sum(s["seconds"] for s in (generated, answered, took, report)), 1),
        "cpu_s": round(sum(s["cpu_s"] for s in (generated, answered, took, report)), 1),
        "cost_of_these_tokens": costs(generated, answered),
        "server": used,
    }
    given.result.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def summary(described: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a description, without any text of its rows: labels by our vocabulary."""
    from meadowlark.labels import TYPES, VIEWS

    known = {"type": set(TYPES), "view": set(VIEWS), "difficulty": set("12345")}
    labels: dict[str, Counter[str]] = {}
    for name, values in known.items():
        labels[name] = Counter()
        for value, rows in described["labels"].get(name, {}).items():
            labels[name][value if value in values else "other"] += rows
    return {
        "rows": described["rows"],
        "without_input": described["without_input"],
        "labels": labels,
        "characters": described["characters"],
        "linguistic_entropy_bits": described["linguistic_entropy_bits"],
        "verbs_by": described["verb_noun"]["method"],
    }


if __name__ == "__main__":
    main()
