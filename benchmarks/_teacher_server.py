"""A teacher for benchmarks: a local server whose replies are composed of real questions.

Lists of tasks are made of the questions of MedQuAD, MedQA and HeadQA, answers of MedQuAD's, both as
untidy as real teachers write (glued, bold, renamed, cut, refused, in JSON, HTTP 503), by a hash of
what was asked. Some replies and errors repeat the caller's key. ``/refused`` answers 401 to all.

    MEADOWLARK_DATA=… python benchmarks/_teacher_server.py PORT        runs until it is killed
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import re
import resource
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from aiohttp import web

LATENCY_S = 0.2
OPENINGS = (
    "Answer the question {a}",
    "Tell the reader of a health magazine {a}",
    "Write a quiz card about {a}",
    "Say as a textbook would: {a}",
    "Rewrite for a patient who reads little what is known about {a}",
    "Summarise for the ward round: {a}",
    "Prepare first-year students for {a}",
    "Which specialty should deal with this? {a}",
    "A worried father asks you on the phone, {a}",
    "Draft a leaflet for the waiting room on {a}",
    "Correct what a neighbour believes about {a}",
    "List three points that a new nurse needs for {a}",
)
CLOSINGS = (
    "Then say how far that bears on this one: {b}",
    "His brother adds: {b}",
    "Set a second one on {b}",
    "Compare it with {b}",
    "Leave out all of: {b}",
    "Keep the separate matter apart: {b}",
    "Go by way of the easier {b}",
    "Do the same for {b}",
    "Add when to worry about {b}",
    "End with a sentence on {b}",
)
TYPES = ("Open Q&A", "Text generation", "Rewrites", "Classification", "Chat", "Summarization")
VIEWS = ("Patient", "Medical student", "Registered Nurse", "Expert", "Pharmacist", "Physician")


def digest_of(content: str, max_tokens: int | None) -> bytes:
    """What a reply is made by: the last message and the longest reply."""
    return hashlib.sha256(f"{max_tokens}\0{content}".encode()).digest()


class Teacher:
    """Replies made of real questions.

    The same request gets another reply each time, as from a real teacher; without ``draws`` it gets
    the same one, so that a run which was killed and one which was not meet the same teacher.
    ``answered`` counts the replies to each request by its digest.
    """

    def __init__(self, data: Path, draws: bool = True) -> None:
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
        self.draws = draws
        self.calls = 0
        self.answered: Counter[bytes] = Counter()
        self._refused_once: set[bytes] = set()

    def reply(self, body: dict[str, Any]) -> tuple[str, str] | None:
        """Text and finish reason; None for an error that a second try does not meet."""
        self.calls += 1
        content = body["messages"][-1]["content"]
        digest = digest_of(content, body.get("max_tokens"))
        if digest[0] == 0 and digest not in self._refused_once:
            self._refused_once.add(digest)
            return None
        draw = self.answered[digest] if self.draws else 0
        rng = random.Random(digest + draw.to_bytes(4, "big"))
        self.answered[digest] += 1
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
        made = f"{rng.choice(OPENINGS)} {rng.choice(CLOSINGS)}".format(
            a=question, b=_part(stem, rng)
        )
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
        if fault < 0.032:
            text += " (asked by {key})"
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


def app_of(teacher: Teacher) -> web.Application:
    """The server; ``/used`` tells its calls, how often it repeated a key, and CPU seconds."""
    repeated = 0

    def error(request: web.Request, status: int, message: str) -> web.Response:
        nonlocal repeated
        repeated += 1
        key = request.headers.get("Authorization", "none")
        return web.json_response({"error": {"message": f"{message}: {key}"}}, status=status)

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal repeated
        body = await request.json()
        await asyncio.sleep(LATENCY_S)
        made = teacher.reply(body)
        if made is None:
            return error(request, 503, "busy, come again")
        text, finish = made
        if "{key}" in text:
            repeated += 1
            text = text.replace("{key}", request.headers.get("Authorization", "nobody"))
        asked = sum(len(message["content"]) for message in body["messages"])
        message = {"role": "assistant", "content": text}
        return web.json_response(
            {
                "choices": [{"index": 0, "message": message, "finish_reason": finish}],
                "usage": {"prompt_tokens": asked // 4, "completion_tokens": len(text) // 4},
            }
        )

    async def refuse(request: web.Request) -> web.StreamResponse:
        return error(request, 401, "this key is not known here")

    async def used(_: web.Request) -> web.StreamResponse:
        spent = resource.getrusage(resource.RUSAGE_SELF)
        cpu_s = round(spent.ru_utime + spent.ru_stime, 2)
        return web.json_response(
            {"calls": teacher.calls, "times_a_key_was_repeated": repeated, "cpu_s": cpu_s}
        )

    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", answer)
    app.router.add_post("/refused/v1/chat/completions", refuse)
    app.router.add_get("/used", used)
    return app


if __name__ == "__main__":
    web.run_app(
        app_of(Teacher(Path(os.environ["MEADOWLARK_DATA"]))),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        print=None,
        access_log=None,
    )
