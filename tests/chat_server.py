"""A local server that speaks chat completions, and misbehaves on request; shared by tests."""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

Handler = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]


def completion(text: str | None, finish: str = "stop", **message: Any) -> web.Response:
    """A well-formed reply that counts one token a word."""
    words = len((text or "").split())
    return web.json_response(
        {
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text, **message},
                    "finish_reason": finish,
                }
            ],
            "usage": {"prompt_tokens": 7, "completion_tokens": words},
        }
    )


def answering(response: web.Response) -> Handler:
    """The same answer every time (a response object can be sent only once, so a copy of it)."""

    async def handler(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return web.Response(
            body=response.body, status=response.status, headers=response.headers.copy()
        )

    return handler


async def reset(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    """Close the connection without a word."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def half_body(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
    """Promise a thousand bytes, send a few and hang up."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b'{"choices": [{"mess')
    assert request.transport is not None
    request.transport.abort()
    return response


def streaming(*parts: bytes, hang_up: bool = False, **headers: str) -> Handler:
    """Server-sent events as given, part by part; the connection breaks at the end if asked."""

    async def handler(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", **headers})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
            await asyncio.sleep(0)  # so that parts arrive apart
        if hang_up:
            assert request.transport is not None
            await asyncio.sleep(0.05)  # what was written must have left
            request.transport.abort()
        return response

    return handler


def chunk(content: str | None = None, finish: str | None = None, **more: Any) -> bytes:
    """One event of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n"


class ChatServer:
    """Runs in a thread while the context is open; ``asked`` holds (headers, body) in order, and
    ``targets`` what stood in the request line."""

    def __init__(self, handler: Handler, tls: ssl.SSLContext | None = None) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.targets: list[str] = []
        self.url = ""
        self._handler = handler
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append((dict(request.headers), body))
        self.targets.append(request._message.path)
        return await self._handler(request, body)

    async def _start(self) -> None:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._tls)
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.url = f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/v1"

    async def _stop(self) -> None:
        await self._runner.cleanup()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def __enter__(self) -> ChatServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(), self._loop).result()
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
