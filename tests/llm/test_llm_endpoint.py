"""The connection under both adapters: keys and their servers, proxies, certificates, headers."""

from __future__ import annotations

import asyncio
import email.utils
import shutil
import ssl
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chat_server import ChatServer, answering, completion
from meadowlark.errors import UserError
from meadowlark.llm import AnthropicModel, ChatRequest, OpenAIModel
from meadowlark.llm.endpoint import Access, quota_of, retry_after_s
from meadowlark.llm.errors import CallFailed
from meadowlark.llm.keys import OTHER_KEY, PROVIDER_KEYS
from meadowlark.llm.rates import Quota
from meadowlark.records import Turn

KEY_VARIABLES = (*PROVIDER_KEYS.values(), OTHER_KEY)
REQUEST = ChatRequest((Turn("user", "q"),))
KEYS = {name: f"planted-for-{name}" for name in KEY_VARIABLES}


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, key in KEYS.items():
        monkeypatch.setenv(name, key)


async def reply_of(model: OpenAIModel) -> str:
    try:
        return (await model.reply(REQUEST)).text
    finally:
        await model.close()


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("kind", "url", "variable"),
    [
        (OpenAIModel, "https://api.openai.com/v1", "OPENAI_API_KEY"),
        (OpenAIModel, "https://api.openai.com:443/v1", "OPENAI_API_KEY"),
        (OpenAIModel, "https://gateway.example/v1", "MEADOWLARK_API_KEY"),
        (OpenAIModel, "http://localhost:8000/v1", "MEADOWLARK_API_KEY"),
        # Look-alikes of a provider's address are not the provider.
        (OpenAIModel, "http://api.openai.com/v1", "MEADOWLARK_API_KEY"),
        (OpenAIModel, "https://api.openai.com:8443/v1", "MEADOWLARK_API_KEY"),
        (OpenAIModel, "https://api.openai.com.evil.example/v1", "MEADOWLARK_API_KEY"),
        (OpenAIModel, "https://evil.example/https://api.openai.com/v1", "MEADOWLARK_API_KEY"),
        (AnthropicModel, "https://api.anthropic.com", "ANTHROPIC_API_KEY"),
        (AnthropicModel, "https://gateway.example", "MEADOWLARK_API_KEY"),
    ],
)
def test_a_key_goes_to_its_own_server_only(kind: Any, url: str, variable: str) -> None:
    headers = kind("m", url)._server._headers
    sent = {name for name, key in KEYS.items() if any(key in value for value in headers.values())}
    assert sent == {variable}


@pytest.mark.usefixtures("keys")
def test_a_variable_that_was_named_is_the_only_one_that_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOSPITAL_KEY", "for-the-hospital")
    for variable, expected in (("HOSPITAL_KEY", "Bearer for-the-hospital"), ("", None)):
        access = Access(key_variable=variable)
        headers = OpenAIModel("m", "https://gateway.example/v1", access)._server._headers
        assert headers.get("Authorization") == expected
        assert not any(key in str(headers) for key in KEYS.values())


@pytest.mark.parametrize(
    ("kind", "variable"), [(OpenAIModel, "OPENAI_API_KEY"), (AnthropicModel, "ANTHROPIC_API_KEY")]
)
def test_a_provider_without_its_key_is_a_users_mistake(
    kind: Any, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEADOWLARK_API_KEY", "another server's")
    with pytest.raises(UserError, match=f"set {variable} in the environment"):
        kind("m")


@pytest.mark.usefixtures("keys")
def test_no_key_is_shown_by_an_object(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T", "token-in-a-header")
    access = Access(headers={"X": "token-in-a-header"}, proxy="http://me:pass-of-proxy@p:1")
    model = OpenAIModel("m", "https://gateway.example/v1", access)
    shown = f"{model!r} {model._server!r} {access!r} {model.endpoint}"
    assert not any(s in shown for s in ("planted", "token-in", "pass-of-proxy"))


def test_a_proxy_is_asked_and_told_its_password_and_the_target(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MEADOWLARK_API_KEY", raising=False)
    with ChatServer(answering(completion("by proxy"))) as server:
        proxy = f"http://me:secret-of-mine@127.0.0.1:{server.port}"
        model = OpenAIModel("m", "http://gateway.example/v1", Access(proxy=proxy))
        assert asyncio.run(reply_of(model)) == "by proxy"
    assert server.targets == ["http://gateway.example/v1/chat/completions"]
    assert server.asked[0][0]["Proxy-Authorization"].startswith("Basic ")


def test_the_environments_proxy_is_used_but_not_for_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    proxies = [
        OpenAIModel("m", f"http://{host}/v1")._server._proxy
        for host in ("gateway.example", "inside.example", "localhost:8000", "127.0.0.1")
    ]
    assert proxies == ["http://proxy.example:3128", "", "", ""]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1 with its key, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    file = tmp_path / "server.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
            "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1",
            "-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "ca.pem"),
        ],
        check=True,
        capture_output=True,
    )  # fmt: skip
    file.write_text((tmp_path / "key.pem").read_text() + (tmp_path / "ca.pem").read_text())
    return file


def test_a_hospitals_own_certificate_is_trusted_when_it_is_named(certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with ChatServer(answering(completion("yes")), tls) as server:
        trusting = Access(ca_file=certificate.with_name("ca.pem"))
        assert asyncio.run(reply_of(OpenAIModel("m", server.url, trusting))) == "yes"
        with pytest.raises(CallFailed, match="ertificate") as caught:
            asyncio.run(reply_of(OpenAIModel("m", server.url)))
    assert caught.value.kind == "connection failed"


@pytest.mark.parametrize("text", [None, "no certificate"])
def test_a_ca_file_that_is_none_is_a_users_mistake(text: str | None, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=r"ca\.pem cannot be used as a CA file"):
        OpenAIModel("m", "https://gateway.example/v1", Access(ca_file=file))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "2"}, 2.0),
        ({"Retry-After": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "Retry-After": "2"}, 1.5),
        ({"Retry-After": 30}, 30.0),
        ({"Retry-After": -30}, 0.0),
        # The server's clock is an hour late, or a day early: only the difference counts.
        ({"Retry-After": -3570, "Date": -3600}, 30.0),
        ({"Retry-After": 86430, "Date": 86400}, 30.0),
        ({"Retry-After": "tomorrow"}, None),
        ({"Retry-After": "inf"}, None),
        ({"Retry-After": "nan"}, None),
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "Mon, 99 Xxx 2026 00:00:00 GMT"}, None),
        ({}, None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str | int], seconds: float | None) -> None:
    """A number stands for the HTTP date that many seconds from now."""
    now = time.time()
    written = {
        name: value if isinstance(value, str) else email.utils.formatdate(now + value, usegmt=True)
        for name, value in headers.items()
    }
    found = retry_after_s(written)
    assert found == (None if seconds is None else pytest.approx(seconds, abs=1.1))


@pytest.mark.parametrize(
    ("headers", "quota"),
    [
        (
            {"x-ratelimit-limit-requests": "3000", "x-ratelimit-remaining-requests": "2999"},
            Quota(3000, 2999),
        ),
        (
            {"x-ratelimit-limit-tokens": "1e5", "x-ratelimit-remaining-tokens": "-3"},
            Quota(None, None, 1e5, None),
        ),
        ({"anthropic-ratelimit-tokens-remaining": "7"}, Quota(tokens_left=7)),
        ({"x-ratelimit-limit-requests": "many"}, None),
        ({}, None),
    ],
)
def test_limits_are_read_from_headers(headers: dict[str, str], quota: Quota | None) -> None:
    assert quota_of(headers) == quota


def test_a_reply_that_nobody_asked_for_is_not_taken_for_the_next_one() -> None:
    """A server sends its first reply twice on a connection that is kept alive."""

    async def twice() -> list[str]:
        served = 0

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal served
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(head.partition(b"content-length: ")[2].split()[0]))
                body = completion(f"reply {served}").body
                served += 1
                assert isinstance(body, bytes)
                whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
                writer.write(whole)
                await writer.drain()
                if served == 1:
                    await asyncio.sleep(0.02)  # the client has put the connection back by now
                    writer.write(whole)
                    sent.set()

        sent = asyncio.Event()
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        model = OpenAIModel("m", f"http://127.0.0.1:{port}/v1")
        texts = [(await model.reply(REQUEST)).text]
        await sent.wait()
        await asyncio.sleep(0.02)
        texts += [(await model.reply(REQUEST)).text for _ in range(2)]
        await model.close()
        server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        return texts

    assert asyncio.run(twice()) == ["reply 0", "reply 1", "reply 2"]


def test_a_body_that_cannot_be_unpacked_may_be_tried_again() -> None:
    async def garbled(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=b"no gzip at all", headers={"Content-Encoding": "gzip"})

    with ChatServer(garbled) as server, pytest.raises(CallFailed) as caught:
        asyncio.run(reply_of(OpenAIModel("m", server.url)))
    assert (caught.value.kind, caught.value.retryable) == ("connection failed", True)
