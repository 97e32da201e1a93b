"""A server that misbehaves in every way that real ones do: every request ends, once, with its
reason; no reply is lost, doubled or given to another request; the key is found nowhere."""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import logging
import random
import re
import sqlite3
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chat_server import ChatServer, Handler, answering, completion, half_body, reset
from meadowlark.llm import AnthropicModel, Asking, ChatRequest, Journal, OpenAIModel, Policy
from meadowlark.llm.errors import CallFailed
from meadowlark.records import Turn

KEY = "sk-planted-in-the-environment-0123456789"
REQUESTS = 150
UNASKED = "a reply that nobody asked for"


def message(text: str, stop: str = "end_turn") -> web.Response:
    """A reply in Anthropic's form."""
    content = [{"type": "text", "text": text}]
    usage = {"input_tokens": 7, "output_tokens": len(text.split())}
    return web.json_response({"content": content, "stop_reason": stop, "usage": usage})


def spoken(kind: type, text: str, finish: str = "") -> web.Response:
    """A reply in the form of an adapter."""
    if kind is OpenAIModel:
        return completion(text, "content_filter" if finish == "refused" else "stop")
    return message(text, "refusal" if finish == "refused" else "end_turn")


def error(status: int, message: str = "no", **headers: str) -> Handler:
    body = {"error": {"message": f"{message} (your key is {KEY})", "type": "x"}}
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return answering(web.json_response(body, status=status, headers=names))


def text_of(body: str) -> Handler:
    return answering(web.Response(text=body, content_type="text/html"))


def wrong_clock(offset_s: float) -> Handler:
    """A 429 that asks to wait until now, by a clock that is wrong."""
    now = email.utils.formatdate(time.time() + offset_s, usegmt=True)
    return error(429, "slow down", Retry_After=now, Date=now)


async def delayed_reset(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    await asyncio.sleep(0.02)
    return await reset(request, body)


TROUBLES: list[Handler] = [
    error(429),
    error(429, Retry_After="0.01"),
    error(429, retry_after_ms="5"),
    error(429, x_ratelimit_limit_requests="600000", x_ratelimit_remaining_requests="0"),
    wrong_clock(-3600),
    wrong_clock(86400),
    error(503, Retry_After="0"),
    error(529),
    error(500),
    error(502),
    error(408),
    answering(web.Response(text="<html>Bad gateway</html>", status=504)),
    reset,
    delayed_reset,
    half_body,
    text_of("<html>Please log in</html>"),
    text_of(""),
    text_of("{"),
    text_of("[]"),
    text_of('{"error": {"message": "overloaded"}}'),
    text_of('{"choices": [], "content": []}'[:12]),
    text_of('{"choices": [{"message": {"content": 5}}], "content": [{"type": 5}]}'),
    answering(web.Response(body=b"not gzip", headers={"Content-Encoding": "gzip"})),
]
ENDS = ("ok", "slow", "twice", "echo", "refused", "too long", "wrong", "never")


def raw(response: web.Response) -> bytes:
    """A whole response as it goes over the wire."""
    assert isinstance(response.body, bytes)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(response.body) + response.body


class Twice(web.StreamResponse):
    """Two responses to one request, in one piece: no request can be sent in between."""

    def __init__(self, asked: web.Response, unasked: web.Response) -> None:
        super().__init__()
        self._keep_alive = True
        self._raw = raw(asked) + raw(unasked)

    async def prepare(self, request: web.BaseRequest) -> None:
        assert request.transport is not None
        request.transport.write(self._raw)

    async def write_eof(self, data: bytes = b"") -> None:
        """All is written."""


class Hostile:
    """Replies to request ``n`` with its troubles first, in order, and its own end then."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.tries: Counter[int] = Counter()
        rng = random.Random(11)
        self.troubles = [
            rng.choices(TROUBLES, k=rng.choice((0, 0, 1, 2, 3))) for _ in range(REQUESTS)
        ]
        self.ends = [rng.choices(ENDS, (8, 4, 4, 2, 2, 2, 1, 1))[0] for _ in range(REQUESTS)]

    async def __call__(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        number = int(body["messages"][-1]["content"].split()[-1])
        troubles, end = self.troubles[number], self.ends[number]
        tries = self.tries[number]
        self.tries[number] += 1
        if end == "never":
            return await error(500)(request, body)
        if tries < len(troubles):
            return await troubles[tries](request, body)
        if end == "too long":
            return await error(400, "prompt is too long: 9 tokens > 8")(request, body)
        if end == "wrong":
            return await error(422, "no such thing")(request, body)
        if end == "slow":
            await asyncio.sleep(0.1)
        if end == "refused":
            return spoken(self.kind, "I would rather not.", "refused")
        text = f"answer {number}" + (f", {KEY}" if end == "echo" else "")
        response = spoken(self.kind, text)
        if end == "twice":
            return Twice(response, spoken(self.kind, UNASKED))
        return response

    def expected(self, number: int) -> str:
        return {
            "echo": f"answer {number}, [key]",
            "refused": "I would rather not.",
            "too long": "too long",
            "wrong": "HTTP 422",
            "never": "HTTP 500",
        }.get(self.ends[number], f"answer {number}")

    @property
    def failing(self) -> set[int]:
        return {n for n, end in enumerate(self.ends) if end in ("too long", "wrong", "never")}


@pytest.mark.parametrize("kind", [OpenAIModel, AnthropicModel])
def test_every_request_ends_once_with_its_reason_and_the_key_is_found_nowhere(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str], search_for: Callable[[Path, str], dict[str, Any]],
) -> None:  # fmt: skip
    monkeypatch.setenv("MEADOWLARK_API_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    hostile = Hostile(kind)
    requests = [
        ChatRequest((Turn("user", f"question {n}"),), label=str(n)) for n in range(REQUESTS)
    ]
    policy = Policy(concurrency=16, backoff_s=0.002, backoff_max_s=0.02, attempts=5)
    path = tmp_path / "journal.sqlite"
    said: list[str] = []
    with ChatServer(hostile) as server:
        for again in (False, True):
            before = Counter(hostile.tries)
            model = kind("tiny", server.url)
            with (
                Journal(path) as journal,
                Asking(model, requests, journal=journal, policy=policy) as asking,
            ):
                ended = list(asking)
                asking.write_failed(tmp_path)
            assert [asked.label for asked, _ in ended] == [str(n) for n in range(REQUESTS)]
            replies = [o.reply.text if o.reply else o.reason for _, o in ended]
            assert replies == [hostile.expected(n) for n in range(REQUESTS)]
            for _, outcome in ended:
                if outcome.error is not None:
                    said += [str(outcome.error), *traceback.format_exception(outcome.error)]
            asked = {n for n, tries in hostile.tries.items() if tries > before[n]}
            assert asked == (hostile.failing if again else set(range(REQUESTS)))
    assert server.asked[0][0][{OpenAIModel: "Authorization"}.get(kind, "x-api-key")].endswith(KEY)
    for number, end in enumerate(hostile.ends):
        tries = hostile.tries[number]
        assert tries == (10 if end == "never" else len(hostile.troubles[number]) + 1 + (
            number in hostile.failing
        ))  # fmt: skip
    with closing(sqlite3.connect(path)) as kept:
        states = dict(kept.execute("SELECT state, count(*) FROM calls GROUP BY state").fetchall())
        rows = kept.execute("SELECT request, reply FROM calls WHERE state = 'done'").fetchall()
    failing = len(hostile.failing)
    assert states == {"done": REQUESTS - failing, "failed": failing}
    for request, reply in rows:
        number = int(json.loads(request)["turns"][0][1].split()[-1])
        assert reply == hostile.expected(number)
    failed = [json.loads(t) for t in (tmp_path / "failed.jsonl").read_text().splitlines()]
    assert {int(line["failed"]["label"]) for line in failed} == hostile.failing
    out, err = capfd.readouterr()
    for text in (*said, *caplog.messages, out, err):
        assert KEY not in text
    assert search_for(tmp_path, KEY)["found_in"] == []
    assert any("[key]" in text for text in said)


def test_what_came_before_a_request_was_sent_is_not_its_answer() -> None:
    """A second reply reaches this machine while its loop is at other work, so that nothing has
    read it when the next request goes out; then no connection of that server is used twice."""
    written = threading.Event()
    connections: list[Any] = []

    async def doubling(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        connections.append(transport)

        def unasked() -> None:
            transport.write(raw(completion(UNASKED)))
            written.set()

        if len(connections) == 2:
            asyncio.get_running_loop().call_later(0.05, unasked)
        return completion(body["messages"][-1]["content"])

    async def asked(model: OpenAIModel) -> list[str]:
        texts = []
        try:
            for number in range(5):
                request = ChatRequest((Turn("user", f"question {number}"),))
                texts.append((await model.reply(request)).text)
                if number == 1:
                    assert written.wait(10)
        finally:
            await model.close()
        return texts

    with ChatServer(doubling) as server:
        texts = asyncio.run(asked(OpenAIModel("tiny", server.url)))
    assert texts == [f"question {number}" for number in range(5)]
    assert connections[0] is connections[1]
    assert len({id(connection) for connection in connections}) == 4


def test_the_greeting_of_a_new_connection_is_no_reason_to_open_another() -> None:
    """A server that speaks first is refused as one, at once: not tried for ever."""
    greeted = 0

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal greeted
        greeted += 1
        writer.write(b"220 mail.example ESMTP\r\n")
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async def ask() -> None:
        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        model = OpenAIModel("tiny", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        with pytest.raises(CallFailed, match="hung up"):
            await asyncio.wait_for(model.reply(ChatRequest((Turn("user", "q"),))), 10)
        await model.close()
        server.close()
        await server.wait_closed()

    asyncio.run(ask())
    assert greeted <= 2  # aiohttp tries a request once more where a connection breaks


def test_a_server_that_has_gone_mad_ends_the_run_with_its_last_words(tmp_path: Path) -> None:
    """Nothing but nonsense: asking stops after a window of failures, and names the last."""
    requests = (ChatRequest((Turn("user", f"q {n}"),), label=str(n)) for n in range(10_000))
    policy = Policy(concurrency=8, backoff_s=0.001, backoff_max_s=0.002, attempts=2)
    with ChatServer(text_of("<html>Please log in</html>")) as server:
        model = OpenAIModel("tiny", server.url)
        with Journal(tmp_path / "j.sqlite") as journal:
            asking = Asking(model, requests, journal=journal, policy=policy)
            with pytest.raises(Exception, match=r"asking stopped.*Please log in"), asking:
                list(asking)
        assert len(server.asked) < 120


@pytest.mark.parametrize(
    ("status", "words"), [(401, r"\[key\].*Set the key in MEADOWLARK_API_KEY"), (404, "Is 'tiny'")]
)
def test_a_refused_key_ends_the_run_at_once_and_is_not_shown(
    status: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEADOWLARK_API_KEY", KEY)
    requests = (ChatRequest((Turn("user", f"q {n}"),), label=str(n)) for n in range(10_000))
    with ChatServer(error(status, "wrong")) as server:
        model = OpenAIModel("tiny", server.url)
        with Journal(tmp_path / "j.sqlite") as journal:
            asking = Asking(model, requests, journal=journal, policy=Policy(concurrency=8))
            with pytest.raises(CallFailed, match=words) as caught, asking:
                list(asking)
        assert len(server.asked) <= 16
    assert KEY not in "".join(traceback.format_exception(caught.value))
    assert re.search(rb"planned|in_flight", (tmp_path / "j.sqlite").read_bytes())
    assert KEY.encode() not in (tmp_path / "j.sqlite").read_bytes()
