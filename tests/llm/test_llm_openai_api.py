"""The adapter for chat completions, against a local server that misbehaves as real ones do."""

from __future__ import annotations

import asyncio
import email.utils
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chat_server import ChatServer, Handler, completion, half_body, reset
from meadowlark.errors import UserError
from meadowlark.llm import Asking, ChatReply, ChatRequest, Journal, Policy, Sampling
from meadowlark.llm.errors import CallFailed
from meadowlark.llm.openai_api import OpenAIModel, parse_reply, retry_after_s
from meadowlark.records import Turn

KEY = "sk-planted-0123456789"
REQUEST = ChatRequest(
    (Turn("system", "Be brief."), Turn("user", "Was ist Hämoglobin?")),
    Sampling(temperature=0.5, max_tokens=9, stop=("###",)),
    label="one",
)


def ask_once(handler: Handler, **options: Any) -> tuple[ChatReply, ChatServer]:
    async def once(url: str) -> ChatReply:
        model = OpenAIModel("tiny", url, **options)
        try:
            return await model.reply(REQUEST)
        finally:
            await model.close()

    with ChatServer(handler) as server:
        return asyncio.run(once(server.url)), server


def answering(response: web.Response) -> Handler:
    """The same answer every time (a response object can be sent only once, so a copy of it)."""

    async def handler(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return web.Response(
            body=response.body, status=response.status, headers=response.headers.copy()
        )

    return handler


def failure_of(handler: Handler, **options: Any) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        ask_once(handler, **options)
    return caught.value


def test_a_request_is_sent_whole_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    reply, server = ask_once(answering(completion("An oxygen carrier.")))
    assert reply == ChatReply("An oxygen carrier.", "stop", 7, 3)
    headers, body = server.asked[0]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Was ist Hämoglobin?"},
        ],
        "temperature": 0.5,
        "max_tokens": 9,
        "stop": ["###"],
    }


def test_without_a_key_no_authorization_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("MEADOWLARK_API_KEY", raising=False)
    _, server = ask_once(answering(completion("yes")))
    assert "Authorization" not in server.asked[0][0]
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        OpenAIModel("gpt-4o")


@pytest.mark.parametrize(
    ("status", "retryable", "endpoint_wide"),
    [
        (400, False, False),
        (401, False, True),
        (403, False, True),
        (404, False, True),
        (413, False, False),
        (422, False, False),
        (307, False, True),
        (408, True, False),
        (429, True, False),
        (500, True, False),
        (502, True, False),
        (503, True, False),
        (529, True, False),
    ],
)
def test_what_a_status_says_about_trying_again(
    status: int, retryable: bool, endpoint_wide: bool
) -> None:
    failure = failure_of(answering(web.json_response({"error": {"message": "no"}}, status=status)))
    assert failure.kind == f"HTTP {status}"
    assert (failure.retryable, failure.endpoint_wide) == (retryable, endpoint_wide)


def test_a_used_up_account_is_not_tried_again() -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    failure = failure_of(answering(web.json_response(body, status=429)))
    assert not failure.retryable
    assert failure.endpoint_wide


@pytest.mark.parametrize("handler", [reset, half_body])
def test_a_broken_connection_may_be_tried_again(handler: Handler) -> None:
    failure = failure_of(handler)
    assert (failure.kind, failure.retryable) == ("connection failed", True)


@pytest.mark.parametrize(
    "body",
    [
        "<html><body>502 Bad gateway</body></html>",
        "",
        "[]",
        "null",
        '{"choices": []}',
        '{"error": {"message": "overloaded"}}',
        '{"choices": [{"message": {"content": 5}}]}',
    ],
)
def test_what_is_no_chat_completion_may_be_tried_again(body: str) -> None:
    failure = failure_of(answering(web.Response(text=body, content_type="application/json")))
    assert (failure.kind, failure.retryable) == ("malformed reply", True)


def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    async def slow(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(5)
        return completion("late")

    failure = failure_of(slow, timeout_s=0.05)
    assert (failure.kind, failure.retryable) == ("timeout", True)


def test_a_key_that_the_server_repeats_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEADOWLARK_API_KEY", KEY)
    said = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    failure = failure_of(answering(web.json_response(said, status=401)))
    assert KEY not in str(failure)
    assert "[key]" in str(failure)


def test_retry_after_in_both_its_forms() -> None:
    soon = email.utils.formatdate(time.time() + 30, usegmt=True)
    past = email.utils.formatdate(time.time() - 30, usegmt=True)
    assert retry_after_s("2") == 2.0
    assert retry_after_s("0.25") == 0.25
    assert retry_after_s(soon) == pytest.approx(30, abs=2)
    assert retry_after_s(past) == 0.0
    assert retry_after_s("tomorrow") is None
    assert retry_after_s(None) is None


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"message": {"content": "a"}, "finish_reason": "length"}, ChatReply("a", "length")),
        ({"message": {"content": None}, "finish_reason": "stop"}, ChatReply("", "stop")),
        ({"message": {"content": "a"}, "finish_reason": "new"}, ChatReply("a", "unknown")),
        ({"message": {"content": ""}, "finish_reason": "content_filter"}, ChatReply("", "refused")),
        ({"message": {"content": None, "refusal": "No."}}, ChatReply("No.", "refused")),
        (
            {"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}},
            ChatReply("ab", "unknown"),
        ),
    ],
)
def test_how_a_reply_ended(choice: dict[str, Any], expected: ChatReply) -> None:
    assert parse_reply({"choices": [choice]}) == expected


def test_a_content_filters_refusal_is_a_reply() -> None:
    body = {"error": {"code": "content_filter", "message": "filtered"}}
    reply, _ = ask_once(answering(web.json_response(body, status=400)))
    assert reply == ChatReply("", "refused")


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://h/v1", "http://me:secret@h/v1", "http://h/v1?key=secret"]
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(UserError) as caught:
        OpenAIModel("tiny", url)
    assert "secret" not in str(caught.value)


def test_a_hostile_server_costs_tries_but_no_reply_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    seen: dict[str, int] = {}
    soon = email.utils.formatdate(time.time() - 3600, usegmt=True)  # a clock that is wrong
    troubles: list[Handler] = [
        answering(web.json_response({}, status=429, headers={"Retry-After": "0.01"})),
        answering(web.json_response({}, status=429, headers={"Retry-After": soon})),
        answering(web.Response(text="oops", status=500)),
        reset,
        half_body,
        answering(web.Response(text="<html>", content_type="text/html")),
    ]

    async def handler(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        text = body["messages"][-1]["content"]
        number = int(text.split()[-1])
        tries = seen[text] = seen.get(text, 0) + 1
        if number == 13:
            return web.json_response({"error": {"message": f"too long {KEY}"}}, status=400)
        if tries <= number % 4:
            return await troubles[(number + tries) % len(troubles)](request, body)
        return completion(f"answer {number}")

    requests = [ChatRequest((Turn("user", f"question {i}"),), label=str(i)) for i in range(40)]
    policy = Policy(concurrency=8, backoff_s=0.001, attempts=5)
    path = tmp_path / "journal.sqlite"
    with ChatServer(handler) as server:
        for again in (False, True):
            model = OpenAIModel("tiny", server.url)
            with (
                Journal(path) as journal,
                Asking(model, requests, journal=journal, policy=policy) as asking,
            ):
                ended = list(asking)
                asking.write_failed(tmp_path)
            replies = [o.reply.text if o.reply else o.reason for _, o in ended]
            expected = [f"answer {i}" if i != 13 else "HTTP 400" for i in range(40)]
            assert [r.label for r, _ in ended] == [str(i) for i in range(40)]
            assert replies == expected
            assert asking.counts.from_journal == (39 if again else 0)
    assert seen["question 13"] == 2  # a failed request is asked again by the next run
    assert all(n == int(text.split()[-1]) % 4 + 1 for text, n in seen.items() if "13" not in text)
    assert '"HTTP 400"' in (tmp_path / "failed.jsonl").read_text()
    for file in tmp_path.iterdir():
        assert KEY.encode() not in file.read_bytes()
