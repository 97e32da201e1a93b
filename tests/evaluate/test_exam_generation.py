"""Exams by generation: at full concurrency over HTTP, resumed after kill -9, letters read back."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chat_server import ChatServer, completion
from meadowlark.dataset import JOURNAL, read
from meadowlark.errors import UserError
from meadowlark.evaluate import partial
from meadowlark.evaluate.exam import ExamOptions, exam
from meadowlark.llm.local import TransformersModel
from meadowlark.records import Answer, Question
from tiny_model import make_tiny_model

COUNT = 40
ORGANS = ("the heart", "the liver", "the lung")


def ward(folder: Path, count: int = COUNT) -> str:
    rows = [
        {
            "id": f"q{i}",
            "question": f"Which organ is number {i}?",
            "choices": ORGANS,
            "answer": "ABC"[i % 3],
        }
        for i in range(count)
    ]
    (folder / "ward.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(folder / "ward.jsonl")


def number_of(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].partition("number ")[2].partition("?")[0])


def reply_to(number: int) -> str:
    """Right for most; some say nothing of use, or nothing."""
    return {3: "I cannot tell.", 4: "A patient should rest.", 5: ""}.get(
        number, f"The answer is {'ABC'[number % 3]}."
    )


async def knowing(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    return completion(reply_to(number_of(body)))


def spec(server: ChatServer) -> str:
    return f"openai:tiny@{server.url}"


def test_no_answer_is_kept_apart_from_a_wrong_one(tmp_path: Path) -> None:
    with ChatServer(knowing) as server:
        run = exam(spec(server), [ward(tmp_path)], tmp_path / "out")
        sent = server.asked[0][1]
    answers, _ = read(tmp_path / "out", Answer)
    unread = [a.item for a in answers if not a.extracted]
    assert unread == ["q3", "q4", "q5"]
    assert all(a.logprobs == () and a.text == reply_to(int(a.item[1:])) for a in answers)
    scores = {s["metric"]: s for s in json.loads((run.folder / "scores.json").read_text())}
    assert set(scores) == {"accuracy", "macro_f1", "chance"}
    assert scores["accuracy"]["value"] == 37 / 40
    assert (scores["accuracy"]["n"], scores["accuracy"]["n_unreadable"]) == (40, 3)
    said = run.manifest.results["tasks"]["ward"]
    assert said["letters_answered"]["none"] == 3
    assert sum(said["read_from"].values()) == 40
    assert said["read_from"]["declared"] == 37
    assert said["read_from"]["empty"] == 1
    assert (sent["temperature"], sent["max_tokens"]) == (0.0, 256)
    assert sent["messages"][0]["content"].endswith("A: the heart\nB: the liver\nC: the lung")


def test_a_question_that_got_no_reply_is_said_and_asked_again_on_demand(tmp_path: Path) -> None:
    async def failing(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        number = number_of(body)
        return web.Response(status=400) if number in broken else completion(reply_to(number))

    broken = {7, 8}
    with ChatServer(failing) as server:
        run = exam(spec(server), [ward(tmp_path)], tmp_path / "out")
        assert "2 questions got no reply from the model" in run.manifest.warnings[0]
        assert run.manifest.results["tasks"]["ward"]["read_from"]["failed"] == 2
        broken.clear()
        again = exam(spec(server), [ward(tmp_path)], tmp_path / "out", force=True)
        assert len(server.asked) == COUNT + 2
    assert again.manifest.warnings == []
    assert "failed" not in again.manifest.results["tasks"]["ward"]["read_from"]


def test_prompts_that_fill_the_context_are_said_and_cut_replies_are_no_cut_prompts(
    tmp_path: Path,
) -> None:
    how = ExamOptions(by="generation", max_tokens=4)
    folder = make_tiny_model(tmp_path / "short", context=64)
    run = exam(f"hf:{folder}", [ward(tmp_path, 5)], tmp_path / "cut", how=how)
    assert any("5 prompts fill the context of 64 tokens" in w for w in run.manifest.warnings)
    folder = make_tiny_model(tmp_path / "long", context=512)
    run = exam(f"hf:{folder}", [ward(tmp_path, 5)], tmp_path / "whole", how=how)
    assert run.manifest.warnings == []
    answers, _ = read(run.folder, Answer)
    said = run.manifest.results["tasks"]["ward"]
    cut = sum(answer.status == "truncated" for answer in answers)
    assert (said["prompts_cut"], said.get("replies_cut", 0)) == (0, cut)
    assert cut > 0


def test_a_turned_order_is_read_back_into_the_questions_own_letters(tmp_path: Path) -> None:
    """A model that always says A chooses another text in each order."""

    async def always_a(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return completion("A")

    with ChatServer(always_a) as server:
        run = exam(spec(server), [ward(tmp_path, 6)], tmp_path / "out", how=ExamOptions(orders=3))
    answers, _ = read(tmp_path / "out", Answer)
    assert [(a.draw, a.extracted) for a in answers] == [
        (draw, "ABC"[draw]) for draw in range(3) for _ in range(6)
    ]
    scores = {s["metric"]: s["value"] for s in json.loads((run.folder / "scores.json").read_text())}
    assert scores["accuracy_over_orders"] == pytest.approx(1 / 3)
    assert scores["rate_same_in_every_order"] == scores["accuracy_in_every_order"] == 0
    assert run.manifest.results["tasks"]["ward"]["places_answered"] == {"A": 18}


def test_a_remote_model_is_asked_at_full_concurrency(tmp_path: Path) -> None:
    """No reply is given before eight requests are there together."""
    flying = Counter[str]()
    together = asyncio.Event()

    async def waiting(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        flying["now"] += 1
        flying["most"] = max(flying["most"], flying["now"])
        if flying["now"] == 8:
            together.set()
        await together.wait()
        flying["now"] -= 1
        return await knowing(request, body)

    with ChatServer(waiting) as server:
        exam(spec(server), [ward(tmp_path)], tmp_path / "out", how=ExamOptions(concurrency=8))
        assert len(server.asked) == COUNT
    assert flying["most"] == 8


SCRIPT = """
import sys
from pathlib import Path
from meadowlark.evaluate.exam import ExamOptions, exam
spec, ward, out = sys.argv[1:]
exam(spec, [ward], Path(out), how=ExamOptions(concurrency=4))
"""


def committed(path: Path) -> int:
    """How many replies a journal holds for good."""
    with closing(sqlite3.connect(path)) as journal:
        found = journal.execute("SELECT count(*) FROM calls WHERE state = 'done'").fetchone()
    return int(found[0])


def test_an_exam_killed_with_kill_9_asks_nothing_again(tmp_path: Path) -> None:
    held = asyncio.Event()
    stuck = asyncio.Event()

    async def until_the_twentieth(request: web.Request, body: dict[str, Any]) -> Any:
        if len(server.asked) > 20 and not held.is_set():
            stuck.set()
            await held.wait()
        return await knowing(request, body)

    async def kill_when_stuck(pid: int) -> None:
        await stuck.wait()
        while committed(tmp_path / "killed" / JOURNAL) < 17:  # the others may be in flight
            await asyncio.sleep(0.01)
        os.kill(pid, signal.SIGKILL)

    path = ward(tmp_path)
    with ChatServer(until_the_twentieth) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, spec(server), path, str(tmp_path / "killed")],
            stderr=subprocess.DEVNULL,
        )
        done = asyncio.run_coroutine_threadsafe(kill_when_stuck(process.pid), server._loop)
        done.result(timeout=120)
        assert process.wait() == -signal.SIGKILL
        kept = committed(tmp_path / "killed" / JOURNAL)
        assert 17 <= kept <= 20
        before = len(server.asked)
        server._loop.call_soon_threadsafe(held.set)
        run = exam(spec(server), [path], tmp_path / "killed", how=ExamOptions(concurrency=4))
        assert len(server.asked) - before == COUNT - kept
        assert run.manifest.results["requests_from_journal"] == kept
        exam(spec(server), [path], tmp_path / "straight", how=ExamOptions(concurrency=4))
    for name in ("answers.parquet", "scores.json"):
        one, other = (tmp_path / folder / name for folder in ("straight", "killed"))
        assert one.read_bytes() == other.read_bytes()


class Killed(BaseException):
    """Stands for kill -9: nothing of ours catches it."""


def test_a_local_model_can_be_examined_by_what_it_writes_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "WINDOW", 4)
    model = f"hf:{make_tiny_model(tmp_path / 'model')}"
    how = ExamOptions(by="generation", max_tokens=6)
    path = ward(tmp_path, 12)
    exam(model, [path], tmp_path / "straight", how=how)
    whole, calls = TransformersModel.generate, []

    def counted(self: TransformersModel, prompts: Any, sampling: Any) -> Any:
        if len(calls) == 1 and not (tmp_path / "again").exists():
            raise Killed
        calls.append(len(prompts))
        return whole(self, prompts, sampling)

    monkeypatch.setattr(TransformersModel, "generate", counted)
    with pytest.raises(Killed):
        exam(model, [path], tmp_path / "killed", how=how)
    (tmp_path / "again").touch()
    run = exam(model, [path], tmp_path / "killed", how=how)
    assert sum(calls) == 12
    one, other = (tmp_path / folder / "answers.parquet" for folder in ("straight", "killed"))
    assert one.read_bytes() == other.read_bytes()
    assert 12 <= run.manifest.tokens["out"] <= 12 * 6
    assert len(read(tmp_path / "killed", Question)[0]) == 12


def test_the_tokens_of_a_raised_exam_are_those_of_all_its_answers_killed_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "WINDOW", 4)
    model = f"hf:{make_tiny_model(tmp_path / 'model')}"
    how = ExamOptions(by="generation", max_tokens=6)
    path = ward(tmp_path, 16)
    straight = exam(model, [path], tmp_path / "straight", how=how).manifest.tokens
    raised = tmp_path / "raised"
    few = exam(model, [path], raised, how=how, limit=4).manifest.tokens
    # As a kill after the manifest was written leaves it: these lines are counted there.
    line = {"item": "q0", "model": model, "text": "A", "tokens_in": 10**6, "tokens_out": 10**6}
    (raised / partial.PARTIAL).write_text(json.dumps(line) + "\n")
    whole, left = TransformersModel.generate, [1]

    def counted(self: TransformersModel, prompts: Any, sampling: Any) -> Any:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return whole(self, prompts, sampling)

    monkeypatch.setattr(TransformersModel, "generate", counted)
    with pytest.raises(Killed):
        exam(model, [path], raised, how=how)
    assert not (raised / "manifest.json").exists()
    left[0] = 99
    found = exam(model, [path], raised, how=how).manifest.tokens
    assert few["in"] < found["in"]
    assert found == straight
    assert not (raised / partial.PARTIAL).exists()


def test_what_generation_cannot_use_is_said(tmp_path: Path) -> None:
    remote = "openai:gpt-4o@http://localhost:1/v1"
    with pytest.raises(UserError, match="only hf: models give the likelihood"):
        exam(remote, ["demo_exam"], tmp_path / "out", how=ExamOptions(by="likelihood"))
    for given, option in (
        (ExamOptions(plain=True), "--plain"),
        (ExamOptions(scoring="text"), "--scoring"),
        (ExamOptions(unconditional=True), "--unconditional"),
    ):
        with pytest.raises(UserError, match=f"{option} is for exams by likelihood"):
            exam(remote, ["demo_exam"], tmp_path / "out", how=given)
    assert not (tmp_path / "out").exists()


def test_a_written_answer_that_was_cut_is_no_prompt_that_was_cut(tmp_path: Path) -> None:
    async def cut(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return completion("The answer is A. The heart", finish="length")

    with ChatServer(cut) as server:
        run = exam(spec(server), [ward(tmp_path, 4)], tmp_path / "out")
    said = run.manifest.results["tasks"]["ward"]
    assert said["replies_cut"] == 4
    assert said["prompts_cut"] == 0
    assert run.manifest.warnings == []
