"""What stands before every request: the key, the rate, the size, and errors in OpenAI's form.

A key is compared in constant time and never appears in a log, an error or a page. Without a key the
server answers on loopback only, and there only requests that name loopback as their host, so that
no web page can reach it under a name of its own (DNS rebinding). Logs hold neither prompts,
answers, queries nor headers.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from meadowlark.listening import is_loopback
from meadowlark.serve.wire import Refused

LOG = logging.getLogger("meadowlark.serve")
READ_TIMEOUT_S = 30.0
MOST_CLIENTS = 10_000
OPEN_PATHS = ("/health",)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Limits:
    """What a server takes: bytes a body, requests a minute from one address (0: any number)."""

    body_bytes: int = 1 << 20
    requests_per_minute: int = 600


@dataclass
class Rate:
    """A token bucket for each address: a minute's worth at once, refilled steadily."""

    per_minute: int
    clock: Callable[[], float] = time.monotonic
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, address: str) -> float:
        """Count one request; 0.0 when it may go on, else the seconds until it may."""
        if not self.per_minute:
            return 0.0
        now = self.clock()
        left, then = self._buckets.pop(address, (float(self.per_minute), now))
        left = min(left + (now - then) * self.per_minute / 60, self.per_minute)
        allowed = left >= 1
        self._buckets[address] = (left - 1 if allowed else left, now)
        while len(self._buckets) > MOST_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) * 60 / self.per_minute


class Key:
    """The key that opens the server, kept as its hash."""

    def __init__(self, key: str) -> None:
        self._hash = hashlib.sha256(key.encode()).digest()

    def opens(self, header: str) -> bool:
        """Whether an Authorization header carries the key; takes as long for any other."""
        kind, _, given = header.partition(" ")
        found = hashlib.sha256(given.strip().encode("utf-8", "replace")).digest()
        return hmac.compare_digest(found, self._hash) and kind.lower() == "bearer"


def guard(
    key: Key | None,
    limits: Limits,
    *,
    open_paths: tuple[str, ...] = OPEN_PATHS,
    draining: Callable[[], bool] = lambda: False,
) -> Any:
    """The middleware of every server here. ``open_paths`` need no key: they tell nothing."""
    rate = Rate(limits.requests_per_minute)

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        began = time.monotonic()
        try:
            _admit(request)
            response = await handler(request)
        except Refused as refused:
            response = web.json_response(
                refused.body(), status=refused.status, headers=refused.headers
            )
        except web.HTTPException as error:
            response = _in_form(error, request)
        except asyncio.CancelledError:
            LOG.info("%s %s left after %.2f s", request.method, request.path, _since(began))
            raise
        except ConnectionError:
            LOG.info("%s %s hung up", request.method, request.path)
            raise
        except Exception as error:
            # Not the message: it may hold what somebody asked.
            where = _place(error)
            LOG.error("%s %s failed: %s %s", request.method, request.path, type(error), where)
            failed = Refused(500, "something failed in the server", code="internal_error")
            response = web.json_response(failed.body(), status=500)
        if not response.prepared:
            response.headers.setdefault("X-Content-Type-Options", "nosniff")
            response.headers.setdefault("Cache-Control", "no-store")
        said = (request.method, request.path, response.status, _since(began))
        LOG.info("%s %s %d %.2f s", *said)
        return response

    def _admit(request: web.Request) -> None:
        if request.path in open_paths:
            return
        wait_s = rate.take(request.remote or "")
        if wait_s:
            raise Refused(
                429,
                f"more than {limits.requests_per_minute} requests a minute from this address",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(math.ceil(wait_s))},
            )
        if key is not None:
            if not key.opens(request.headers.get("Authorization", "")):
                raise Refused(
                    401,
                    "no key, or a wrong one; send the server's key as 'Authorization: Bearer KEY'",
                    code="invalid_api_key",
                    headers={"WWW-Authenticate": "Bearer"},
                )
        elif not is_loopback(request.url.host or ""):
            raise Refused(
                403,
                "this server is for this machine only; its host is localhost",
                code="wrong_host",
            )
        if draining():
            raise Refused(503, "the server stops", code="stopping", headers={"Retry-After": "10"})

    return middleware


async def read_body(request: web.Request, limits: Limits) -> bytes:
    """A JSON body within the limit, in time; Refused otherwise."""
    if request.content_type != "application/json":
        raise Refused(415, "send JSON, as Content-Type: application/json", code="not_json")
    if (request.content_length or 0) > limits.body_bytes:
        raise _too_large(limits)
    try:
        async with asyncio.timeout(READ_TIMEOUT_S):
            return await request.read()
    except TimeoutError:
        raise Refused(408, "the body did not come in time", code="timeout") from None
    except web.HTTPRequestEntityTooLarge:
        raise _too_large(limits) from None


def _too_large(limits: Limits) -> Refused:
    message = f"the body is larger than {limits.body_bytes:,} bytes"
    return Refused(413, message, code="request_too_large", headers={"Connection": "close"})


def _in_form(error: web.HTTPException, request: web.Request) -> web.StreamResponse:
    """An error of the router (no such path, wrong method) in OpenAI's form."""
    if error.status < 400:
        return web.Response(status=error.status, headers={"Location": error.headers["Location"]})
    code = "not_found" if error.status == 404 else "invalid_request"
    refused = Refused(error.status, f"{request.method} {request.path}: {error.reason}", code=code)
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    return web.json_response(refused.body(), status=error.status, headers=allow)


def _since(began: float) -> float:
    return time.monotonic() - began


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return ""
    return f"in {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
