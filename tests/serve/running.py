"""Servers for tests: the application in a thread of its own, on a free port of loopback."""

import asyncio
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from meadowlark.serve.opening import open_voice
from meadowlark.serve.server import make_app
from meadowlark.serve.voices import LocalVoice


@contextmanager
def running(app_of: Any) -> Iterator[str]:
    """Serve what ``app_of()`` makes (in the server's own loop); gives the address."""
    loop = asyncio.new_event_loop()
    began = threading.Event()
    where: list[str] = []
    stop = asyncio.Event()

    async def main() -> None:
        runner = web.AppRunner(
            app_of(), access_log=None, handler_cancellation=True, shutdown_timeout=1.0
        )
        await runner.setup()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        where.append(f"http://127.0.0.1:{port}")
        began.set()
        await stop.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(main(),))
    thread.start()
    assert began.wait(60)
    try:
        yield where[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


def local_voice(folder: Path, name: str = "tiny", **how: Any) -> LocalVoice:
    voice = open_voice(f"hf:{folder}", name, **how)
    assert isinstance(voice, LocalVoice)
    return voice


@contextmanager
def serving(voices: Sequence[Any], **options: Any) -> Iterator[str]:
    with running(lambda: make_app(voices, **options)) as url:
        yield url
