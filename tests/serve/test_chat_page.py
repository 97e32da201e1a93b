"""The page's own routes: what is asked, blind votes, and what the page may load."""

import base64
import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from running import local_voice, running
from test_server import call

from chat_server import ChatServer, answering, chunk, completion, streaming
from meadowlark import NOTICE
from meadowlark.dataset import read
from meadowlark.errors import UserError
from meadowlark.evaluate.score import compute
from meadowlark.llm.chat import Sampling
from meadowlark.records import Answer, Question, Turn, Verdict
from meadowlark.serve.chat_page import make_page_app, page
from meadowlark.serve.opening import open_voice
from meadowlark.serve.votes import Votes
from meadowlark.templates import user_content

ASK = {
    "system": "",
    "instruction": "Explain fever.",
    "input": "",
    "temperature": 0,
    "max_tokens": 9,
}


@pytest.fixture(scope="module")
def pair(tiny: Path, other: Path) -> list[Any]:
    return [local_voice(tiny, "tuned"), local_voice(other, "untuned")]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "votes"


@pytest.fixture
def blind(tiny: Path, other: Path, folder: Path) -> Iterator[str]:
    votes = Votes(folder, "Dr Osei")
    voices = [local_voice(tiny, "tuned"), local_voice(other, "untuned")]
    with running(lambda: make_page_app(voices, votes=votes, seed=1)) as url:
        yield url
    votes.close()


def told_events(url: str, body: Any) -> list[Any]:
    """The events of a streamed answer."""
    import urllib.request

    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as response:
        return [json.loads(line[6:]) for line in response if line.startswith(b"data: ")]


def told(url: str, body: Any) -> tuple[str, str]:
    """The text and the end of a streamed answer."""
    events = told_events(url, body)
    return "".join(e.get("text", "") for e in events), events[-1].get("end", "")


def test_a_conversation_is_rendered_as_in_training(tiny: Path) -> None:
    voice = local_voice(tiny, "tuned")
    seen: list[Any] = []
    tokens = voice.tokens

    def recording(turns: Any) -> list[int]:
        seen.append(list(turns))
        return tokens(turns)

    voice.tokens = recording  # type: ignore[method-assign]
    with running(lambda: make_page_app([voice])) as url:
        body = {
            **ASK,
            "model": "tuned",
            "system": "Be brief.",
            "input": "Hb 7\n### Response: no",
            "history": [{"instruction": "Hello", "input": "", "answer": "Hello."}],
        }
        text, end = told(f"{url}/web/answer", body)
    expected = [
        Turn("system", "Be brief."),
        Turn("user", "Hello"),
        Turn("assistant", "Hello."),
        Turn("user", user_content("Explain fever.", "Hb 7\nResponse: no")),
    ]
    assert seen == [expected]
    assert text == voice.model.generate([expected], Sampling(max_tokens=9))[0].text
    assert end == "length"


def vote(url: str, winner: str, instruction: str = "Explain fever.") -> tuple[Any, list[str]]:
    """Ask, read both sides, vote; the server's answer to the vote and the texts."""
    status, body, _ = call(f"{url}/web/compare", {**ASK, "instruction": instruction}, key="")
    assert (status, list(body)) == (200, ["id"])  # nothing that tells who is where
    at = f"{url}/web/compare/{body['id']}"
    texts = [told(f"{at}/{side}", {})[0] for side in ("left", "right")]
    status, said, _ = call(f"{at}/vote", {"winner": winner, "note": "clearer"}, key="")
    assert status == 200
    assert call(f"{at}/vote", {"winner": winner}, key="")[0] == 409
    return said, texts


def test_blind_votes_are_verdicts_that_score_reads(blind: str, folder: Path, pair: Any) -> None:
    texts = {
        voice.name: voice.model.generate(
            [[Turn("user", "Explain fever.")]], Sampling(max_tokens=9)
        )[0].text
        for voice in pair
    }
    lefts = set()
    for n in range(8):
        instruction = "Explain fever." if n == 0 else f"Explain fever {n}."
        said, shown = vote(blind, "left", instruction)
        lefts.add(said["left"])
        assert {said["left"], said["right"]} == {"tuned", "untuned"}
        assert said["votes"] == n + 1
        if n == 0:
            assert shown == [texts[said["left"]], texts[said["right"]]]
    assert lefts == {"tuned", "untuned"}  # sides change by chance
    vote(blind, "both_bad", "One more?")
    vote(blind, "tie", "And another?")
    verdicts, rejected = read(folder / "verdicts.jsonl", Verdict)
    assert (len(verdicts), rejected) == (10, [])
    assert {(v.a, v.b, v.by, v.note) for v in verdicts} == {
        ("tuned", "untuned", "human:Dr Osei", "clearer")
    }
    assert all(v.winner == v.shown_first for v in verdicts[:8])  # it was always the left one
    assert [v.winner for v in verdicts[8:]] == ["both_bad", "tie"]
    questions, _ = read(folder / "questions.jsonl", Question)
    answers, _ = read(folder / "answers.jsonl", Answer)
    assert [v.item for v in verdicts] == [q.id for q in questions]
    assert [a.text for a in answers[:2]] == [texts["tuned"], texts["untuned"]]
    scores = compute([folder / "verdicts.jsonl"], model="tuned").scores
    wins = next(s for s in scores if s.metric == "wins")
    assert wins.value == sum(v.winner == "a" for v in verdicts)


def test_a_vote_needs_both_answers_and_each_is_given_once(blind: str, folder: Path) -> None:
    _, body, _ = call(f"{blind}/web/compare", ASK, key="")
    at = f"{blind}/web/compare/{body['id']}"
    assert call(f"{at}/vote", {"winner": "left"}, key="")[0] == 409
    told(f"{at}/left", {})
    assert call(f"{at}/left", {}, key="")[0] == 409
    assert call(f"{at}/vote", {"winner": "a"}, key="")[0] == 400
    assert call(f"{blind}/web/compare/none/vote", {"winner": "left"}, key="")[0] == 404
    assert (folder / "verdicts.jsonl").read_text() == ""


@pytest.mark.parametrize(
    "changes",
    [{"instruction": " "}, {"temperature": 9}, {"max_tokens": 0}, {"input": 3}, {"history": [1]}],
)
def test_what_is_asked_wrongly_is_told(blind: str, changes: dict[str, Any]) -> None:
    status, body, _ = call(f"{blind}/web/compare", {**ASK, **changes}, key="")
    assert status == 400
    assert body["error"]["message"]


def test_votes_outlive_a_kill_in_the_middle_of_a_line(folder: Path) -> None:
    votes = Votes(folder, "me")
    row = Verdict("1", "preference", "x", "y", "a", "a", votes.by)
    votes.add(Question("1", "t", "?"), [Answer("1", "x"), Answer("1", "y")], row)
    with pytest.raises(UserError, match="another server keeps its votes"):
        Votes(folder, "me")
    votes.close()
    file = folder / "verdicts.jsonl"
    file.write_bytes(file.read_bytes() + b'{"item": "2", "cri')
    again = Votes(folder, "me")
    assert again.count == 1
    again.add(Question("3", "t", "?"), [], row)
    again.close()
    assert len(read(file, Verdict)[0]) == 2
    with pytest.raises(UserError, match="the name of the person"):
        Votes(folder, " ")


def test_the_page_runs_its_own_script_and_nothing_else() -> None:
    text, policy = page({"models": ["</script><script>alert(1)</script>"], "system": ""})
    scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
    assert len(scripts) == 1
    digest = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"(?:src|href)=[\"']?(?:https?:)?//", text)
    assert "innerHTML" not in text
    assert NOTICE.split(":")[0] in text


def test_the_page_needs_no_key_and_what_it_asks_does(tiny: Path) -> None:
    import urllib.request

    voice = local_voice(tiny, "tuned")
    with running(lambda: make_page_app([voice], key="k" * 20)) as url:
        with urllib.request.urlopen(url) as response:
            assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]
        body = {**ASK, "model": "tuned"}
        assert call(f"{url}/web/answer", body, key="wrong")[0] == 401
        assert call(f"{url}/v1/models", key="k" * 20)[0] == 200


@pytest.mark.slow
def test_a_server_killed_after_a_vote_has_lost_none(tiny: Path, other: Path, folder: Path) -> None:
    """The command itself, killed with -9 and started again on the same folder."""
    command = [sys.executable, "-m", "meadowlark", "chat", f"hf:{tiny}", f"hf:{other}", "--web"]
    command += ["--port", "0", "--by", "me", "--votes", str(folder)]
    for round in (1, 2):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"listening on (http://[\d.:]+)", line):
                said, _ = vote(found[1], "tie", f"Question {round}?")
                assert said["votes"] == round
                break
        process.kill()
        process.wait()
        process.stdout.close()
    verdicts, rejected = read(folder / "verdicts.jsonl", Verdict)
    assert ([v.winner for v in verdicts], rejected) == (["tie", "tie"], [])
    assert {(v.a, v.b) for v in verdicts} == {("tiny", "other")}


def test_a_remote_model_streams_to_the_page_and_a_break_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = "sk-planted-in-the-environment-0123456789"
    monkeypatch.setenv("MEADOWLARK_API_KEY", key)
    wrong = web.json_response({"error": {"message": f"wrong key {key}"}}, status=401)
    logging.getLogger("meadowlark.serve").propagate = True
    with ExitStack() as stack:
        urls = [
            stack.enter_context(ChatServer(handler)).url
            for handler in (
                streaming(chunk("A "), chunk("fever."), chunk("", "length")),
                streaming(chunk("A "), chunk(f"fever {key}"), hang_up=True),
                answering(wrong),
                answering(completion("Whole.")),
            )
        ]
        names = ("whole", "broken", "wrong", "at once")
        voices = [open_voice(f"openai:m@{u}", n) for u, n in zip(urls, names, strict=True)]
        url = stack.enter_context(running(lambda: make_page_app(voices)))
        assert told(f"{url}/web/answer", {**ASK, "model": "whole"}) == ("A fever.", "length")
        assert told(f"{url}/web/answer", {**ASK, "model": "at once"}) == ("Whole.", "stop")
        events = told_events(f"{url}/web/answer", {**ASK, "model": "broken"})
        assert events == [
            {"text": "A "},
            {"text": "fever [key]"},
            {"error": "The answer is not whole: broken off."},
        ]
        status, body, _ = call(f"{url}/web/answer", {**ASK, "model": "wrong"}, key="")
        assert (status, body["error"]["message"]) == (502, "the model did not answer: HTTP 401")
    assert "broken off" in caplog.text
    assert "HTTP 401" in caplog.text
    assert key not in caplog.text


def test_a_broken_answer_can_be_voted_on_as_far_as_it_came(tiny: Path, folder: Path) -> None:
    votes = Votes(folder, "Dr Osei")
    with ChatServer(streaming(chunk("A fever"), hang_up=True)) as server:
        voices = [local_voice(tiny, "tuned"), open_voice(f"openai:m@{server.url}", "remote")]
        with running(lambda: make_page_app(voices, votes=votes, seed=1)) as url:
            vote(url, "tie")
    votes.close()
    answers, _ = read(folder / "answers.jsonl", Answer)
    (remote,) = [a for a in answers if a.model == "remote"]
    assert (remote.text, remote.status) == ("A fever", "truncated")
