"""``serve MODEL``: OpenAI's chat completions over models in this process or an engine beside it.

Why an engine of our own where there is no vLLM. ``transformers serve`` 5.23 was tried for the
place: with continuous batching it takes the sampling of the first request for all that follow
(asked at temperature 5 with two seeds after a greedy request, it gave the greedy answer twice),
drops ``stop`` and ``stream_options``, knows no BASE+ADAPTER, and opens no way to prove what it
tokenises. ``llm.continuous`` batches on the code that ``answer`` and ``exam`` use, so that all give
the same tokens.

    GET  /health               no key needed
    GET  /v1/models            the models, with the research-use notice
    POST /v1/chat/completions  streaming and not
    POST /tokenize             the tokens of a conversation, in vLLM's form
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aiohttp import web

from meadowlark import NOTICE, __version__, listening
from meadowlark.errors import MeadowlarkError, UserError
from meadowlark.llm.errors import CallFailed
from meadowlark.serve.guard import LOG, Key, Limits, guard, read_body
from meadowlark.serve.voices import Busy, Ending, LocalVoice, TooLong, Voice
from meadowlark.serve.wire import (
    DONE,
    FINISH,
    Completion,
    Refused,
    chunk,
    completion,
    event,
    parse_completion,
    parse_json,
    parse_turns,
    usage,
)

VOICES = web.AppKey("voices", dict[str, Voice])
LIMITS = web.AppKey("limits", Limits)
DRAINING = web.AppKey("draining", asyncio.Event)
BEGAN = int(time.time())


def make_app(
    voices: Sequence[Voice],
    *,
    key: str = "",
    limits: Limits | None = None,
    open_paths: tuple[str, ...] = (),
) -> web.Application:
    """The server's application. ``key`` must be sent with every request, unless empty.

    ``open_paths`` are those that need no key beside ``/health``.
    """
    limits = limits or Limits()
    draining = asyncio.Event()
    lock = Key(key) if key else None
    opened = ("/health", *open_paths)
    app = web.Application(
        middlewares=[guard(lock, limits, open_paths=opened, draining=draining.is_set)],
        client_max_size=limits.body_bytes,
    )
    app[VOICES] = {voice.name: voice for voice in voices}
    app[LIMITS], app[DRAINING] = limits, draining
    app.router.add_get("/health", _health)
    app.router.add_get("/v1/models", _models)
    app.router.add_get("/v1/models/{name:.+}", _model)
    app.router.add_post("/v1/chat/completions", _complete)
    app.router.add_post("/tokenize", _tokenize)

    async def close(app: web.Application) -> None:
        for voice in app[VOICES].values():
            await voice.close()

    app.on_cleanup.append(close)
    return app


async def run(
    app: web.Application,
    taken: socket.socket,
    *,
    grace_s: float,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGTERM or SIGINT; then take nothing new, and end what is at work.

    A client that leaves ends its own answer; ``grace_s`` and ``ready`` are :func:`listening.run`'s.
    """
    await listening.run(
        app,
        taken,
        grace_s=grace_s,
        cancels_when_left=True,
        stopping=app[DRAINING].set,
        ready=ready,
    )


# --------------------------------------------------------------------------- routes


async def _health(request: web.Request) -> web.Response:
    stopping = request.app[DRAINING].is_set()
    healthy = not stopping and all(map(_alive, request.app[VOICES].values()))
    status = "ok" if healthy else "stopping" if stopping else "failed"
    return web.json_response({"status": status}, status=200 if healthy else 503)


def _alive(voice: Voice) -> bool:
    return not isinstance(voice, LocalVoice) or voice.batch.alive


def _described(voice: Voice) -> dict[str, Any]:
    about: dict[str, Any] = {
        "id": voice.name,
        "object": "model",
        "created": BEGAN,
        "owned_by": "meadowlark",
        "notice": NOTICE,
        "meadowlark": {"version": __version__, "engine": voice.engine},
    }
    if isinstance(voice, LocalVoice):
        about["max_model_len"] = voice.model.context_length
        about["meadowlark"].update(voice.model.describe(), proof=voice.proof.sentence())
    return about


async def _models(request: web.Request) -> web.Response:
    found = [_described(voice) for voice in request.app[VOICES].values()]
    return web.json_response({"object": "list", "data": found, "notice": NOTICE})


async def _model(request: web.Request) -> web.Response:
    return web.json_response(_described(voice_of(request, request.match_info["name"])))


def voice_of(request: web.Request, name: str) -> Voice:
    """The model with this name; Refused (404) where there is none."""
    voices = request.app[VOICES]
    if name not in voices:
        raise Refused(
            404,
            f"no model {name[:200]!r} here; there are: {', '.join(voices)}",
            code="model_not_found",
            param="model",
        )
    return voices[name]


async def _tokenize(request: web.Request) -> web.Response:
    body = parse_json(await read_body(request, request.app[LIMITS]))
    first = next(iter(request.app[VOICES].values()))
    voice = voice_of(request, str(body.get("model") or first.name))
    if not isinstance(voice, LocalVoice):
        raise Refused(400, "this model's tokens are not known here", code="unsupported_parameter")
    turns = parse_turns(body.get("messages"))
    with refusals():
        ids = voice.tokens(turns)
    found = {"count": len(ids), "max_model_len": voice.model.context_length, "tokens": ids}
    return web.json_response(found)


async def _complete(request: web.Request) -> web.StreamResponse:
    asked = parse_completion(parse_json(await read_body(request, request.app[LIMITS])))
    voice = voice_of(request, asked.model)
    head = {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "created": int(time.time()),
        "model": voice.name,
    }
    if asked.stream:
        return await _streamed(request, voice, asked, head)
    pieces: list[str] = []
    ending = Ending("unknown", 0, 0)
    with refusals():
        async with contextlib.aclosing(voice.answer(asked.turns, asked.sampling)) as answer:
            async for item in answer:
                if isinstance(item, Ending):
                    ending = item
                else:
                    pieces.append(item)
    return web.json_response(completion(head, "".join(pieces), ending))


async def _streamed(
    request: web.Request, voice: Voice, asked: Completion, head: dict[str, Any]
) -> web.StreamResponse:
    """An answer as server-sent events; a refusal before its first piece is an ordinary error."""
    async with contextlib.aclosing(voice.answer(asked.turns, asked.sampling)) as pieces:
        with refusals():
            item = await anext(pieces)
        response = await begin_events(request)
        await response.write(event(chunk(head, {"role": "assistant", "content": ""})))
        try:
            while not isinstance(item, Ending):
                await response.write(event(chunk(head, {"content": item})))
                item = await anext(pieces)
        except ConnectionError:
            raise
        except Exception as error:
            failed = Refused(500, in_the_middle(error), code="model_failed")
            await response.write(event(failed.body()))
            return response
        await response.write(event(chunk(head, {}, FINISH[item.finish])))
        if asked.include_usage:
            counted = {**chunk(head, {}), "choices": [], "usage": usage(item)}
            await response.write(event(counted))
        await response.write(DONE)
        await response.write_eof()
    return response


# --------------------------------------------------------------------------- what pages need too


async def begin_events(request: web.Request) -> web.StreamResponse:
    """A response that server-sent events are written to, begun."""
    headers = {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        "X-Content-Type-Options": "nosniff",
    }
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    return response


def in_the_middle(error: Exception) -> str:
    """What is told, and logged, of an answer that did not come to its end."""
    kind = error.kind if isinstance(error, CallFailed) else "the model failed"
    LOG.warning("an answer ended in the middle: %s", kind)
    return f"The answer is not whole: {kind}."


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """What a model refuses, as what the wire says of it."""
    try:
        yield
    except Busy as error:
        after = {"Retry-After": str(error.after_s)}
        raise Refused(429, str(error), code="overloaded", headers=after) from None
    except TooLong as error:
        code = "context_length_exceeded"
        raise Refused(400, str(error), code=code, param="messages") from None
    except UserError as error:
        raise Refused(400, str(error), code="invalid_value", param="messages") from None
    except CallFailed as error:
        raise _refused_by(error) from None
    except MeadowlarkError:
        raise Refused(502, "the model did not answer", code="model_failed") from None


def _refused_by(error: CallFailed) -> Refused:
    """What the wire says of a server behind this one: the kind of its failure, none of its text."""
    LOG.warning("the model did not answer: %s", error.kind)
    said = f"the model did not answer: {error.kind}"
    if error.overloaded:
        after = {"Retry-After": str(math.ceil(error.retry_after_s or Busy.after_s))}
        return Refused(429, said, code="overloaded", headers=after)
    if error.request_only:
        return Refused(400, said, code="context_length_exceeded", param="messages")
    return Refused(502, said, code="model_failed")
