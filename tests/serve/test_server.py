"""The server over plain HTTP: what is asked wrongly, by too many, or left in the middle."""

import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from running import local_voice, serving

from meadowlark import NOTICE
from meadowlark.llm.chat import Sampling
from meadowlark.records import Turn
from meadowlark.serve.guard import Limits, Rate
from meadowlark.serve.voices import LocalVoice

KEY = "sk-a-key-that-nobody-may-see"
MESSAGES = [{"role": "user", "content": "Explain fever."}]
ASK: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, "max_tokens": 12}


@pytest.fixture(scope="module")
def voice(tiny: Path) -> LocalVoice:
    return local_voice(tiny)


@pytest.fixture(scope="module")
def url(voice: LocalVoice) -> Iterator[str]:
    limits = Limits(body_bytes=50_000, requests_per_minute=0)
    with serving([voice], key=KEY, limits=limits) as at:
        yield at


def call(url: str, body: Any = None, *, key: str = KEY, **how: Any) -> tuple[int, Any, Any]:
    """Status, JSON and headers of one request; a POST where there is a body."""

    async def one() -> tuple[int, Any, Any]:
        headers = {"Authorization": f"Bearer {key}", **how.pop("headers", {})}
        data = body if isinstance(body, bytes | str) or body is None else json.dumps(body)
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                "GET" if data is None else "POST", url, data=data, headers=headers, **how
            ) as response,
        ):
            return response.status, await response.json(), response.headers

    return asyncio.run(one())


def complete(url: str, **changes: Any) -> tuple[int, Any, Any]:
    return call(f"{url}/v1/chat/completions", {**ASK, **changes})


def test_an_answer_has_its_tokens_counted_and_the_notice(url: str, voice: LocalVoice) -> None:
    status, body, _ = complete(url)
    expected = voice.model.generate([[Turn("user", "Explain fever.")]], Sampling(max_tokens=12))[0]
    assert status == 200
    assert body["choices"][0]["message"]["content"] == expected.text
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"] == {
        "prompt_tokens": expected.tokens_in,
        "completion_tokens": 12,
        "total_tokens": expected.tokens_in + 12,
    }
    assert body["notice"] == NOTICE


def test_models_tell_what_is_proved_and_that_this_is_research(url: str) -> None:
    _, body, _ = call(f"{url}/v1/models")
    (model,) = body["data"]
    assert (model["id"], model["notice"], model["max_model_len"]) == ("tiny", NOTICE, 2048)
    assert "rendered as in training: alpaca" in model["meadowlark"]["proof"]
    assert call(f"{url}/v1/models/tiny")[1] == model
    assert call(f"{url}/v1/models/none")[0] == 404


def test_health_needs_no_key_and_tells_nothing_else(url: str) -> None:
    assert call(f"{url}/health", key="")[:2] == (200, {"status": "ok"})


def test_the_tokens_of_a_conversation_are_trainings(url: str, voice: LocalVoice) -> None:
    turns, ids = voice.proof.prompts[1]
    messages = [turn._asdict() for turn in turns]
    _, body, _ = call(f"{url}/tokenize", {"model": "tiny", "messages": messages})
    assert body == {"count": len(ids), "max_model_len": 2048, "tokens": list(ids)}


@pytest.mark.parametrize("key", ["", "wrong", KEY + "x", KEY[:-1], "\u00e9"])
def test_a_wrong_key_opens_nothing(url: str, key: str) -> None:
    for path in ("/v1/models", "/v1/models/tiny", "/nowhere"):
        status, body, headers = call(url + path, key=key)
        assert (status, body["error"]["code"]) == (401, "invalid_api_key")
        assert headers["WWW-Authenticate"] == "Bearer"
        assert KEY not in json.dumps(body)
    assert call(f"{url}/v1/chat/completions", ASK, key=key)[0] == 401


def test_a_body_that_is_too_large_is_refused_with_or_without_its_length(url: str) -> None:
    body = json.dumps({**ASK, "messages": [{"role": "user", "content": "x" * 60_000}]}).encode()

    async def chunked() -> Any:
        for start in range(0, len(body), 8_192):
            yield body[start : start + 8_192]

    async def send(data: Any) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/v1/chat/completions", data=data, headers=headers) as response,
        ):
            return response.status, await response.json()

    for data in (body, chunked()):
        status, answer = asyncio.run(send(data))
        assert (status, answer["error"]["code"]) == (413, "request_too_large")
    assert complete(url)[0] == 200


@pytest.mark.parametrize(
    "body",
    ['{"model": "tiny", ', "[]", "null", '"text"', "[" * 40_000, b"\xff\xfe{", "", "NaN"],
)
def test_malformed_json_is_400(url: str, body: Any) -> None:
    status, answer, _ = call(f"{url}/v1/chat/completions", body)
    assert (status, answer["error"]["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(
    ("changes", "status", "param"),
    [
        ({"model": "other"}, 404, "model"),
        ({"model": 3}, 400, "model"),
        ({"messages": []}, 400, "messages"),
        ({"messages": "hello"}, 400, "messages"),
        ({"messages": [{"role": "assistant", "content": "a"}]}, 400, "messages"),
        ({"messages": [{"role": "tool", "content": "a"}]}, 400, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 3}]}, 400, "messages[0].content"),
        ({"messages": [*MESSAGES, *MESSAGES]}, 400, "messages"),  # the template refuses
        ({"temperature": "hot"}, 400, "temperature"),
        ({"temperature": 3}, 400, "temperature"),
        ({"temperature": float("nan")}, 400, "temperature"),
        ({"max_tokens": 0}, 400, "max_tokens"),
        ({"max_tokens": 1.5}, 400, "max_tokens"),
        ({"stop": [""]}, 400, "stop"),
        ({"stop": list("abcde")}, 400, "stop"),
        ({"seed": True}, 400, "seed"),
        ({"stream": "yes"}, 400, "stream"),
        ({"n": 2}, 400, "n"),
        ({"tools": [{}]}, 400, "tools"),
        ({"logprobs": True}, 400, "logprobs"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format"),
        ({"messages": [{"role": "user", "content": "pain " * 3000}]}, 400, "messages"),
    ],
)
def test_what_is_asked_wrongly_is_named(
    url: str, changes: dict[str, Any], status: int, param: str
) -> None:
    found, body, _ = complete(url, **changes)
    assert (found, body["error"]["param"]) == (status, param)
    assert set(body["error"]) == {"message", "type", "param", "code"}


def test_only_json_is_read_and_unknown_paths_are_errors_in_form(url: str) -> None:
    text = {"Content-Type": "text/plain"}
    assert call(f"{url}/v1/chat/completions", json.dumps(ASK), headers=text)[0] == 415
    assert call(f"{url}/v1/completions", ASK)[1]["error"]["code"] == "not_found"
    assert call(f"{url}/v1/models", ASK)[0] == 405


def test_text_in_parts_and_lone_surrogates_are_read(url: str) -> None:
    parts = [{"type": "text", "text": "Explain "}, {"type": "text", "text": "fever."}]
    whole = complete(url)[1]["choices"]
    assert complete(url, messages=[{"role": "user", "content": parts}])[1]["choices"] == whole
    body = json.dumps({**ASK, "messages": [{"role": "user", "content": "\ud800"}]})
    assert call(f"{url}/v1/chat/completions", body)[0] == 200


def test_64_clients_at_once_get_what_each_gets_alone(url: str, voice: LocalVoice) -> None:
    asked = [f"Explain fever number {n}." for n in range(64)]

    async def one(session: aiohttp.ClientSession, text: str) -> str:
        body = {**ASK, "messages": [{"role": "user", "content": text}]}
        async with session.post(f"{url}/v1/chat/completions", json=body) as response:
            assert response.status == 200
            return str((await response.json())["choices"][0]["message"]["content"])

    async def all_of_them() -> list[str]:
        headers = {"Authorization": f"Bearer {KEY}"}
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(headers=headers, connector=connector) as session:
            return await asyncio.gather(*(one(session, text) for text in asked))

    before = voice.batch.steps
    found = asyncio.run(all_of_them())
    prompts = [[Turn("user", text)] for text in asked]
    alone = [voice.model.generate([p], Sampling(max_tokens=12))[0].text for p in prompts]
    assert found == alone
    assert voice.batch.steps - before < 64 * 12 / 4  # answered together, not one by one
    assert voice.batch.most_rows > 8


def wait_until(holds: Any, what: str) -> None:
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.005)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_in_the_middle_ends_its_generation(
    url: str, voice: LocalVoice, stream: bool
) -> None:
    body = {**ASK, "max_tokens": 1900, "stream": stream}

    async def leave() -> None:
        headers = {"Authorization": f"Bearer {KEY}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            if stream:
                async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                    await response.content.readline()
                    response.close()
                return
            asking = asyncio.ensure_future(session.post(f"{url}/v1/chat/completions", json=body))
            while not voice.batch.active:
                await asyncio.sleep(0.005)
            asking.cancel()

    before = voice.batch.steps
    asyncio.run(leave())
    wait_until(lambda: not voice.batch.active, "the generation goes on")
    assert voice.batch.steps - before < 1500
    assert complete(url)[0] == 200


def test_neither_key_nor_text_is_logged(url: str, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("meadowlark.serve").propagate = True
    with caplog.at_level(logging.DEBUG):
        complete(url)
        call(f"{url}/v1/models?api_key={KEY}", key="wrong-key-in-a-header")
        call(f"{url}/v1/chat/completions", "{")
    assert "POST /v1/chat/completions 200" in caplog.text
    assert "GET /v1/models 401" in caplog.text
    for secret in (KEY, "wrong-key-in-a-header", "fever"):
        assert secret not in caplog.text


def test_a_failure_within_is_500_and_tells_nothing(
    url: str, voice: LocalVoice, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any) -> None:
        raise ValueError("Explain fever.")

    with monkeypatch.context() as patch:
        patch.setattr(voice, "tokens", fails)
        status, body, _ = complete(url)
        assert (status, body["error"]["code"]) == (500, "internal_error")
    with monkeypatch.context() as patch:
        patch.setattr(voice.model, "_logits", fails)
        assert complete(url)[0] == 502
        assert complete(url, messages=MESSAGES, stream=True)[0] == 502
    assert "fever" not in caplog.text
    assert complete(url)[0] == 200


def test_a_full_waiting_room_says_when_to_come_again(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meadowlark.serve.voices.MOST_WAITING", 0)
    status, body, headers = complete(url)
    assert (status, body["error"]["code"], headers["Retry-After"]) == (429, "overloaded", "5")


def test_too_many_requests_from_one_address_are_429(tiny: Path) -> None:
    with serving([local_voice(tiny)], limits=Limits(requests_per_minute=3)) as url:
        assert [call(f"{url}/v1/models")[0] for _ in range(3)] == [200] * 3
        status, body, headers = call(f"{url}/v1/models")
        assert (status, body["error"]["type"]) == (429, "rate_limit_error")
        assert 1 <= int(headers["Retry-After"]) <= 20
        assert call(f"{url}/health")[0] == 200


def test_the_rate_refills_with_time_and_addresses_do_not_share() -> None:
    now = [0.0]
    rate = Rate(6, clock=lambda: now[0])
    assert [rate.take("a") for _ in range(7)] == [0.0] * 6 + [pytest.approx(10.0)]
    assert rate.take("b") == 0.0
    now[0] += 10.5
    assert rate.take("a") == 0.0
    assert rate.take("a") > 0


def test_without_a_key_no_other_host_name_reaches_the_server(tiny: Path) -> None:
    with serving([local_voice(tiny)]) as url:
        assert call(f"{url}/v1/models")[0] == 200
        assert call(f"{url}/v1/models", headers={"Host": "localhost:80"})[0] == 200
        status, body, _ = call(f"{url}/v1/models", headers={"Host": "evil.example"})
        assert (status, body["error"]["code"]) == (403, "wrong_host")


def test_a_server_told_to_stop_ends_what_it_has_begun(tiny: Path) -> None:
    """The command itself: it says where it listens, and SIGTERM lets an answer in flight end."""
    command = [sys.executable, "-m", "meadowlark", "serve", f"hf:{tiny}", "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert process.stdout is not None
    line = ""
    said = []
    while "listening on" not in line:
        line = process.stdout.readline()
        assert line, process.stderr and process.stderr.read()
        said.append(line)
    found = re.search(r"http://127\.0\.0\.1:\d+", line)
    assert found
    assert "rendered as in training: alpaca" in "".join(said)

    async def stopped_in_the_middle() -> tuple[list[bytes], int]:
        body = {**ASK, "max_tokens": 400, "stream": True}
        url = f"{found[0]}/v1/chat/completions"
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as response:
            await response.content.readline()
            process.send_signal(signal.SIGTERM)
            while True:  # until the signal has arrived there
                async with session.get(f"{found[0]}/health") as health:
                    if health.status == 503:
                        break
            async with session.post(url, json=ASK) as refused:
                status = refused.status
            return [line async for line in response.content if line.strip()], status

    lines, refused = asyncio.run(stopped_in_the_middle())
    assert refused == 503
    assert lines[-1] == b"data: [DONE]\n"
    assert json.loads(lines[-2].removeprefix(b"data:"))["choices"][0]["finish_reason"] == "length"
    assert process.wait(20) == 0
    assert process.stderr is not None
    errors = process.stderr.read()
    assert "Traceback" not in errors
    process.stdout.close()
    process.stderr.close()
