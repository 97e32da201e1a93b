"""A web server's life, from the address it takes to its end by a signal; every server's here.

An address is taken before what is to be served is loaded, so that one that is in use is told at
once; nobody is let in before :func:`run`. SIGTERM or Ctrl-C lets what is at work end.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import signal
import socket
from collections.abc import Awaitable, Callable

from aiohttp import web

from meadowlark.errors import UserError

LAST_S = 1.0
"""Seconds that connections get to close once nothing is waited for any more."""


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine and no other."""
    host = host.strip("[]").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def take_address(host: str, port: int) -> socket.socket:
    """A socket bound to an address (``port`` 0 takes a free one), on which nobody is let in yet.

    UserError where the address cannot be had.
    """
    try:
        found = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        taken = socket.socket(family, kind, protocol)
        try:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            taken.bind(address)
        except OSError:
            taken.close()
            raise
    except OSError as error:  # socket.gaierror is one
        raise UserError(
            f"{host}:{port} cannot be listened on ({error.strerror or error}); another --port?"
        ) from None
    return taken


def url_of(host: str, taken: socket.socket) -> str:
    """The URL of an address as it was asked for, with the port that it got."""
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{taken.getsockname()[1]}"


async def run(
    app: web.Application,
    taken: socket.socket,
    *,
    grace_s: float,
    cancels_when_left: bool = False,
    stopping: Callable[[], None] = lambda: None,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve on an address until SIGTERM or SIGINT, then end what is at work.

    ``ready`` is called once the server listens, ``stopping`` at the signal; what is not answered
    ``grace_s`` seconds later is cut off, and so it is at a second signal. ``cancels_when_left``
    ends the work on a request whose client has gone.
    """
    at_work = 0

    @web.middleware
    async def counted(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        nonlocal at_work
        at_work += 1
        try:
            return await handler(request)
        finally:
            at_work -= 1

    app.middlewares.append(counted)
    runner = web.AppRunner(
        app,
        access_log=None,
        handler_cancellation=cancels_when_left,
        shutdown_timeout=LAST_S,
        handle_signals=False,
    )
    await runner.setup()
    stop, hurry = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        (hurry if stop.is_set() else stop).set()

    signals = (signal.SIGTERM, signal.SIGINT)
    with contextlib.suppress(ValueError, RuntimeError):  # not the main thread: a test
        for number in signals:
            loop.add_signal_handler(number, signalled)
    try:
        try:
            await web.SockSite(runner, taken).start()
        except OSError as error:  # somebody listens there since
            raise UserError(f"the address cannot be listened on: {error.strerror}") from None
        ready()
        await stop.wait()
        stopping()
        deadline = loop.time() + grace_s
        while at_work and loop.time() < deadline and not hurry.is_set():
            await asyncio.sleep(0.02)
    finally:
        await runner.cleanup()
        with contextlib.suppress(ValueError, RuntimeError):
            for number in signals:
                loop.remove_signal_handler(number)
