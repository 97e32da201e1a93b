"""A reply while it is being written: server-sent events in, pieces of text out, then the reply.

Both adapters stand on it. A server that does not stream gives its reply in one piece; one that
hangs up in the middle, or says something odd, ends in a classified error after the pieces that
came. Nothing of a key is shown, also where it comes in parts.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import json
import queue
import re
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from meadowlark.llm.chat import ChatModel, ChatReply, ChatRequest, FinishReason, well_formed
from meadowlark.llm.endpoint import MALFORMED, Endpoint, Response
from meadowlark.llm.errors import CallFailed
from meadowlark.llm.unfolding import held_back

Pieces = AsyncGenerator["str | ChatReply", None]
"""Pieces of a reply's text, and last the reply that they add up to."""
BROKEN_OFF = "broken off"
"""The kind of a :class:`CallFailed` for a reply of which only a part came."""
DONE = "[DONE]"
MOST_CHARACTERS = 16 << 20
"""The longest event that is waited for."""
NO_STREAM = (400, 404, 405, 415, 422, 501)
"""What servers answer that cannot stream, or do not know an option of streaming."""
_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")
_HIGH_HALF = re.compile("[\ud800-\udbff]\\Z")


@runtime_checkable
class Streaming(Protocol):
    """A model that can be listened to while it answers."""

    def pieces(self, request: ChatRequest) -> Pieces:
        """The reply piece by piece; raises :class:`CallFailed`, after what came."""
        ...


@dataclass
class Progress:
    """What a stream has told beside its text; ``finish`` is None until the reply has ended."""

    begun: bool = False
    finish: FinishReason | None = None
    tokens_in: int = 0
    tokens_out: int = 0


Take = Callable[[Any, Progress], str]
"""Reads one event's JSON: gives its text, and notes what else it tells; raises MALFORMED."""


async def pieces(model: ChatModel, request: ChatRequest) -> Pieces:
    """A reply piece by piece from any model: whole from one that cannot be listened to."""
    if isinstance(model, Streaming):
        async with contextlib.aclosing(model.pieces(request)) as found:
            async for item in found:
                yield item
        return
    reply = await model.reply(request)
    if reply.text:
        yield reply.text
    yield reply


def spoken(model: ChatModel, request: ChatRequest) -> Iterator[str]:
    """The pieces of a reply for a plain caller, whether an event loop is at work there or not.

    The calls run in a thread of their own. Leaving the iteration, also by Ctrl-C, ends the request;
    the model's connections are closed with it.
    """
    made: queue.SimpleQueue[str | BaseException | None] = queue.SimpleQueue()
    loop = asyncio.new_event_loop()

    async def listening() -> None:
        ended: BaseException | None = None
        try:
            async with contextlib.aclosing(pieces(model, request)) as found:
                async for item in found:
                    if isinstance(item, str):
                        made.put(item)
        except BaseException as error:
            ended = error
        await model.close()
        made.put(ended)

    def work() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    task = loop.create_task(listening())
    thread = threading.Thread(target=work, name="spoken", daemon=True)
    thread.start()
    try:
        while (item := made.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(task.cancel)
        thread.join()


# --------------------------------------------------------------------------- a server's stream


async def listen(
    server: Endpoint,
    bodies: Sequence[Mapping[str, Any]],
    take: Take,
    whole: Callable[[Response], ChatReply],
) -> Pieces:
    """What a server streams. ``bodies`` are the ways to ask for it, the plainest last.

    The next is tried where the server refuses to stream as asked. ``whole`` reads a reply that came
    at once, or raises for what is none. Raises :class:`CallFailed`; one that is ``broken off`` says
    that what came is not the whole.
    """
    for body in bodies:
        shown, progress = Shown(server), Progress()
        try:
            async with server.opened(body) as opened:
                chunks = opened.chunks()
                start = await _start_of(chunks)
                if opened.status != 200 or not _is_stream(start, opened.headers):
                    response = await opened.whole(start)
                    if body is not bodies[-1] and _refuses_to_stream(response):
                        continue
                    reply = whole(response)
                    if reply.text:
                        yield reply.text
                    yield reply
                    return
                async with contextlib.aclosing(_told(server, start, chunks)) as told:
                    async for event in told:
                        if event == DONE:
                            progress.finish = progress.finish or "unknown"
                            break
                        if piece := shown.add(_taken(server, event, take, progress)):
                            yield piece
        except CallFailed as error:
            if piece := shown.end():
                yield piece
            if not progress.begun or error.kind not in ("connection failed", "timeout"):
                raise
            if progress.finish is None:
                raise _broken_off(server, error.kind) from None
        if piece := shown.end():
            yield piece
        if progress.finish is None:
            raise _broken_off(server, "it ended without a reason")
        yield ChatReply(shown.text, progress.finish, progress.tokens_in, progress.tokens_out)
        return


async def _told(
    server: Endpoint, start: bytes, chunks: AsyncIterator[bytes]
) -> AsyncGenerator[Any, None]:
    """The events of a body; CallFailed for what is none."""
    try:
        async with contextlib.aclosing(events(start, chunks)) as found:
            async for event in found:
                yield event
    except ValueError as error:
        raise _malformed(server, str(error), "no JSON") from None


def _taken(server: Endpoint, event: Any, take: Take, progress: Progress) -> str:
    """The text of one event; CallFailed for an error, and for what is no part of a reply."""
    progress.begun = True
    if isinstance(event, dict) and event.get("error"):
        raise CallFailed(
            "failed in the middle",
            f"{server.url} failed while it answered: {_quoted(server, json.dumps(event))}",
            retryable=True,
        )
    try:
        return take(event, progress)
    except MALFORMED as error:
        raise _malformed(server, json.dumps(event), type(error).__name__) from None


def _malformed(server: Endpoint, said: str, why: str) -> CallFailed:
    return CallFailed(
        "malformed reply",
        f"{server.url} sent what is no part of a reply ({why}): {_quoted(server, said)}",
        retryable=True,
    )


def _broken_off(server: Endpoint, why: str) -> CallFailed:
    return CallFailed(
        BROKEN_OFF,
        f"{server.url} broke off in the middle of its answer ({why}); what came is not the whole",
        retryable=True,
    )


def _quoted(server: Endpoint, said: str) -> str:
    return server.start_of(said.encode("utf-8", "replace"))


async def _start_of(chunks: AsyncIterator[bytes]) -> bytes:
    """As much of a body as tells what it is."""
    start = b""
    while len(start.strip()) < len(b"retry:") and (chunk := await anext(chunks, b"")):
        start += chunk
    return start


def _is_stream(start: bytes, headers: Mapping[str, str]) -> bool:
    """Whether a body is one of server-sent events, by how it begins and by its type."""
    begins = start.removeprefix(codecs.BOM_UTF8).lstrip()
    if begins.startswith((b"data:", b"event:", b"id:", b"retry:", b":")):
        return True
    is_said = headers.get("Content-Type", "").lower().startswith("text/event-stream")
    return is_said and not begins.startswith((b"{", b"<"))


def _refuses_to_stream(response: Response) -> bool:
    return response.status in NO_STREAM and b"stream" in response.body.lower()


async def events(start: bytes, chunks: AsyncIterator[bytes]) -> AsyncGenerator[Any, None]:
    """The JSON of each server-sent event of a body, and :data:`DONE` for the mark of the end.

    A ``data`` line is an event where it is whole JSON, so that a server which leaves the blank
    lines out is understood too. Raises ValueError for what is no JSON; an event that the end of the
    body cuts is left out.
    """
    data = ""
    async for line in _lines(start.removeprefix(codecs.BOM_UTF8), chunks):
        name, _, value = line.partition(":")
        if name == "data":
            data += value.removeprefix(" ") + "\n"
            if data.strip() == DONE:
                yield DONE
                return
            try:
                event = json.loads(data)
            except (ValueError, RecursionError):
                continue  # more lines of it may come
            data = ""
            yield event
        elif not line and data.strip():
            raise ValueError(data)


async def _lines(start: bytes, chunks: AsyncIterator[bytes]) -> AsyncGenerator[str, None]:
    """The lines of a body; they end in any of three ways, and come in pieces of any size."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    chunk: bytes | None = start
    rest = ""
    while chunk is not None:
        *lines, rest = _LINE_END.split(rest + decoder.decode(chunk))
        for line in lines:
            yield line
        if len(rest) > MOST_CHARACTERS:
            raise ValueError(rest)
        chunk = await anext(chunks, None)
    yield rest


class Shown:
    """Text that arrives in pieces, as it can be shown: without keys, in whole characters.

    ``text`` is what was shown so far.
    """

    def __init__(self, server: Endpoint) -> None:
        self._server = server
        self._held = ""
        self.text = ""

    def add(self, piece: str) -> str:
        """Take a piece; what can be shown since the last one, often all of it."""
        held = self._server.scrub(_paired(self._held + piece))
        may_be_key = held_back(held, self._server.redaction.spellings)
        keep = max(may_be_key, 1 if _HIGH_HALF.search(held) else 0)
        self._held = held[len(held) - keep :]
        return self._show(held[: len(held) - keep])

    def end(self) -> str:
        """What was held back."""
        rest, self._held = self._held, ""
        return self._show(rest)

    def _show(self, text: str) -> str:
        text = well_formed(text)
        self.text += text
        return text


def _paired(text: str) -> str:
    """The two halves of a character that came in two pieces, put together."""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
