"""The life of a web server: its address, its signals, its end."""

import asyncio
import os
import signal
import socket
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from meadowlark.errors import UserError
from meadowlark.listening import is_loopback, run, take_address, url_of


@pytest.mark.parametrize(
    ("host", "is_it"),
    [
        ("127.0.0.1", True),
        ("127.8.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_only(host: str, is_it: bool) -> None:
    assert is_loopback(host) is is_it


def test_an_address_in_use_is_told_and_one_taken_lets_nobody_in_yet() -> None:
    with take_address("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert url_of("127.0.0.1", taken) == f"http://127.0.0.1:{port}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(UserError, match=r"127\.0\.0\.1:\d+ cannot .* in use.* another --port"):
            take_address("127.0.0.1", port)
    with pytest.raises(UserError, match="cannot be listened on"):
        take_address("192.0.2.1", 0)  # nobody's: RFC 5737


def test_an_address_of_ipv6_has_brackets_in_its_url() -> None:
    try:
        taken = take_address("::1", 0)
    except UserError:
        pytest.skip("no IPv6 here")
    with taken:
        assert url_of("::1", taken) == f"http://[::1]:{taken.getsockname()[1]}"


def stopped(signals: int, ends: bool) -> tuple[str, list[str]]:
    """What a client gets that waits for an answer as so many signals come, and what was told."""
    told: list[str] = []
    got: list[str] = []

    async def main(taken: socket.socket) -> None:
        begun, may_end = asyncio.Event(), asyncio.Event()

        async def slow(_: web.Request) -> web.Response:
            begun.set()
            await may_end.wait()
            return web.Response(text="whole")

        def stopping() -> None:
            told.append("stopping")
            if ends:
                may_end.set()
            elif signals > 1:
                os.kill(os.getpid(), signal.SIGINT)

        async def client() -> None:
            try:
                async with (
                    aiohttp.ClientSession() as session,
                    session.post(url_of("127.0.0.1", taken)) as response,
                ):
                    got.append(await response.text())
            except aiohttp.ClientError as error:
                got.append(type(error).__name__)

        app = web.Application()
        app.router.add_post("/", slow)
        asking: list[asyncio.Task[Any]] = []
        serving = asyncio.ensure_future(
            run(
                app,
                taken,
                grace_s=60.0 if ends or signals > 1 else 0.05,
                stopping=stopping,
                ready=lambda: asking.append(asyncio.ensure_future(client())),
            )
        )
        await begun.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await serving
        await asking[0]

    with take_address("127.0.0.1", 0) as taken:
        asyncio.run(main(taken))
    return got[0], told


def test_what_is_at_work_ends_after_a_signal() -> None:
    assert stopped(1, ends=True) == ("whole", ["stopping"])


@pytest.mark.parametrize("signals", [1, 2])
def test_what_takes_longer_than_the_grace_or_a_second_signal_is_cut_off(
    signals: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meadowlark.listening.LAST_S", 0.05)
    found, told = stopped(signals, ends=False)
    assert (found, told) == ("ServerDisconnectedError", ["stopping"])


def test_a_server_whose_address_was_taken_meanwhile_says_so() -> None:
    with take_address("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(("127.0.0.1", port))
            other.listen()
            with pytest.raises(UserError, match="cannot be listened on"):
                asyncio.run(run(web.Application(), taken, grace_s=0.0))
