"""One server that takes JSON and gives JSON: connection, key, proxy, certificates, and its errors.

Both adapters stand on it. A body goes in; a status, headers and a body come out, or a classified
error: no retry, no state beyond the connection pool. What a server repeats of a key is cut out of
what is shown or kept of its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import json
import math
import re
import select
import ssl
import time
import urllib.request
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import aiohttp

from meadowlark.errors import UserError
from meadowlark.llm.chat import ChatReply
from meadowlark.llm.errors import CallFailed
from meadowlark.llm.keys import OTHER_KEY, provider_key, read_key
from meadowlark.llm.prices import loopback
from meadowlark.llm.rates import Quota
from meadowlark.llm.redaction import Redaction

TIMEOUT_S = 600.0
CONNECT_TIMEOUT_S = 20.0
REST_S = 0.002
"""How long a connection rests before it is used again: what a broken gateway sends twice comes in
meanwhile and closes it, instead of being taken for the next reply."""
MOST_READ = 1 << 20
"""Bytes of a body among which a message's beginning is looked for."""
_TOO_LONG = re.compile(
    r"context (?:length|window|size)|(?:prompt|input) is too long|too many (?:input )?tokens"
    r"|maximum (?:model |input |sequence )?length|reduce the length|max_model_len",
    re.IGNORECASE,
)
_TOO_LONG_CODES = ("context_length_exceeded", "request_too_large", "string_above_max_length")
_NO_MONEY_CODES = ("insufficient_quota", "billing_hard_limit_reached", "billing_error")
_NO_MONEY = re.compile(r"credit balance is too low|exceeded your current quota", re.IGNORECASE)
_WRONG_FOR_ALL = (
    "unsupported_parameter",
    "unsupported_value",
    "model_not_found",
    "invalid_api_key",
    "DeploymentNotFound",
)
MALFORMED = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading a body raises when it is not what was asked for."""
_QUOTA_HEADERS = [
    [form.format(what, part) for what in ("requests", "tokens") for part in ("limit", "remaining")]
    for form in ("x-ratelimit-{1}-{0}", "anthropic-ratelimit-{0}-{1}")
]


@dataclass(frozen=True)
class Access:
    """How to get at a server beyond its URL; what a user's ``models.toml`` says.

    ``key_variable`` names the environment variable with the key: None takes the key of a typed
    URL (``llm.keys``), the empty string none. ``body`` holds fields that every request carries.
    """

    key_variable: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str = field(default="", repr=False)
    ca_file: Path | None = None
    api_version: str = ""
    timeout_s: float = TIMEOUT_S
    body: Mapping[str, Any] = field(default_factory=dict)
    secrets: tuple[str, ...] = field(default=(), repr=False)

    def variable_for(self, url: str) -> str:
        """The name of the environment variable whose key goes to ``url``."""
        if self.key_variable is not None:
            return self.key_variable
        return provider_key(url) or OTHER_KEY


def checked_url(url: str) -> str:
    """A server's URL without a final slash; UserError for one that is none or holds a secret."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number, a bracket that is not closed
        sound = False
    if not sound:
        raise UserError(
            f"{url!r} is not a server's URL; expected for example http://localhost:8000/v1"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UserError(
            "a server's URL must not hold a password, a query or a key (it is written into "
            "journals); name the key's variable, or the API version, in models.toml"
        )
    return url.rstrip("/")


class Response(NamedTuple):
    """What a server sent; a text of it is shown or kept only after ``Endpoint.scrub``."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Opened:
    """An answer that is still coming. ``chunks`` gives its bytes as they arrive, once."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status, self.headers = response.status, response.headers
        self._response = response

    def chunks(self) -> AsyncIterator[bytes]:
        """What arrives, in pieces of any size."""
        return self._response.content.iter_any()

    async def whole(self, start: bytes = b"") -> Response:
        """The answer at its end; ``start`` is what was read of it already."""
        return Response(self.status, self.headers, start + await self._response.content.read())


class _Connector(aiohttp.TCPConnector):
    """A pool that does not reuse a connection on which something came that nobody had asked for:
    it would be taken for the answer to the next request.

    What reached this machine before a request is sent is never taken for its answer. HTTP/1.1 does
    not tell what comes still later from the answer, so a server that once sent what nobody had
    asked for gets a connection for each request from then on.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._answered: weakref.WeakSet[Any] = weakref.WeakSet()
        self._distrusted: set[Any] = set()

    async def connect(self, req: Any, *args: Any, **options: Any) -> Any:
        while True:
            connection = await super().connect(req, *args, **options)
            protocol: Any = connection.protocol
            if protocol not in self._answered:
                self._answered.add(protocol)
                return connection
            try:
                if req.connection_key not in self._distrusted:
                    await asyncio.sleep(REST_S)
                    sound = protocol.is_connected() and not protocol.should_close
                    if sound and not _unread(protocol.transport):
                        return connection
                    if protocol.is_connected() and protocol.should_close:
                        self._distrusted.add(req.connection_key)
            except BaseException:
                connection.close()
                raise
            connection.close()


def _unread(transport: asyncio.Transport) -> bool:
    """Whether something (or the server's farewell) waits to be read that the loop has not seen."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))


class Endpoint:
    """A path of a server to post to. ``url`` is what messages show of it.

    ``key_header`` is the header that carries the key, as ``x-api-key: {}``; ``headers`` are others.
    ``identity`` tells in a journal where a request went, and the fields that every one carries.
    """

    def __init__(
        self,
        base_url: str,
        path: str,
        access: Access,
        key_header: str,
        *,
        headers: Mapping[str, str] | None = None,
        query: str = "",
    ) -> None:
        self.url = base_url + path
        body = dict(access.body)
        self.identity = f"{self.url} {json.dumps(body, sort_keys=True)}" if body else self.url
        self._body = body
        self._target = f"{self.url}?{query}" if query else self.url
        self._variable = access.variable_for(base_url)
        key = read_key(self._variable)
        if not key and provider_key(base_url):
            raise UserError(f"{base_url} needs a key: set {self._variable} in the environment")
        self._headers = {"Content-Type": "application/json", **(headers or {})}
        if key:
            name, _, form = key_header.partition(": ")
            self._headers[name] = form.format(key)
        self._headers.update(access.headers)
        self._proxy = access.proxy or _proxy_of_environment(base_url)
        self._ssl = _context(access.ca_file)
        self._timeout = aiohttp.ClientTimeout(
            total=access.timeout_s, sock_connect=CONNECT_TIMEOUT_S
        )
        password = unquote(urlsplit(self._proxy).password or "")
        # What is cut out of all that is shown or kept.
        self.redaction = Redaction((key, password, *access.secrets))
        self._session: aiohttp.ClientSession | None = None

    async def post(self, body: Mapping[str, Any]) -> Response:
        """Send JSON; raises :class:`CallFailed` where nothing whole came back in time."""
        async with self._asked(body, self._timeout) as response:
            raw = await response.read()
        return Response(response.status, response.headers, raw)

    @contextlib.asynccontextmanager
    async def opened(self, body: Mapping[str, Any]) -> AsyncIterator[Opened]:
        """Send JSON, and read the answer as it comes: the time limit is one for each part of it.

        Raises :class:`CallFailed` where nothing comes, also while it is read.
        """
        waits = aiohttp.ClientTimeout(sock_read=self._timeout.total, sock_connect=CONNECT_TIMEOUT_S)
        async with self._asked(body, waits) as response:
            yield Opened(response)

    @contextlib.asynccontextmanager
    async def _asked(
        self, body: Mapping[str, Any], timeout: aiohttp.ClientTimeout
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to JSON, still to be read; what goes wrong with it then is classified too."""
        if self._session is None:
            self._session = self._open()
        whole = {**body, **self._body}
        data = json.dumps(whole, ensure_ascii=False).encode("utf-8", "replace")
        try:
            async with self._session.post(
                self._target,
                data=data,
                headers=self._headers,
                allow_redirects=False,
                proxy=self._proxy or None,
                timeout=timeout,
            ) as response:
                yield response
        except TimeoutError:
            raise CallFailed(
                "timeout", f"{self.url} did not answer in time", retryable=True
            ) from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise CallFailed(
                "connection failed",
                f"{self.url} cannot be reached, or hung up "
                f"({type(error).__name__}: {self.scrub(str(error))})",
                retryable=True,
            ) from None

    def _open(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=_Connector(limit=0, ssl=self._ssl),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def close(self) -> None:
        """Close the connection pool."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def failure(self, response: Response, model: str) -> CallFailed:
        """What a status other than 200 says: whether a retry helps, and whom it concerns."""
        status = response.status
        code, said = error_of(response.body)
        message = f"{self.url} answered {status}: {self.start_of(response.body)}"
        no_money = code in _NO_MONEY_CODES or bool(_NO_MONEY.search(said))
        too_long = status == 413 or (
            status in (400, 422) and (code in _TOO_LONG_CODES or bool(_TOO_LONG.search(said)))
        )
        if status in (401, 403):
            variable = self._variable
            message += f". Set the key in {variable}" if variable else ". No key was sent"
        elif status == 404:
            message += f". Is {model!r} served there, and is the URL right (does it end in /v1)?"
        elif 300 <= status < 400:
            message += f". It redirects to {self.scrub(response.headers.get('Location', '?'))}"
        wait_s = retry_after_s(response.headers)
        return CallFailed(
            "too long" if too_long else f"HTTP {status}",
            message,
            retryable=(status in (408, 409, 425, 429) or status >= 500) and not no_money,
            retry_after_s=wait_s,
            overloaded=status in (429, 529) or (status == 503 and wait_s is not None),
            endpoint_wide=status in (401, 402, 403, 404, 405)
            or status < 400
            or no_money
            or code in _WRONG_FOR_ALL,
            request_only=too_long,
            quota=quota_of(response.headers),
        )

    def parsed(
        self, response: Response, model: str, parse: Callable[[Any, str, Quota | None], ChatReply]
    ) -> ChatReply:
        """What ``parse`` reads from body, raw text and quota; else raises :class:`CallFailed`."""
        if response.status != 200:
            raise self.failure(response, model)
        raw = self.text_of(response)
        try:
            return parse(json.loads(raw), raw, quota_of(response.headers))
        except MALFORMED as error:
            raise self._malformed(response, error) from None

    def _malformed(self, response: Response, error: Exception) -> CallFailed:
        """The error for a 200 whose body is not what was asked for."""
        return CallFailed(
            "malformed reply",
            f"{self.url} answered with what is no reply ({self.scrub(repr(error))}): "
            f"{self.start_of(response.body)}",
            retryable=True,
        )

    def start_of(self, raw: bytes) -> str:
        """The beginning of a body on one line, for a message."""
        # Scrubbed before it is cut: of a key that the cut goes through, half would be left.
        text = " ".join(self.scrub(raw[:MOST_READ].decode("utf-8", "replace")).split())
        return text[:300] or "an empty body"

    def text_of(self, response: Response) -> str:
        """A whole body as text."""
        return self.scrub(response.body.decode("utf-8", "replace"))

    def scrub(self, text: str) -> str:
        """A text without any key: some servers repeat them, in their errors or elsewhere."""
        return self.redaction.cut(text)


def _context(ca_file: Path | None) -> ssl.SSLContext | bool:
    """The certificates to trust: the machine's, and those of ``ca_file``."""
    if ca_file is None:
        return True
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(ca_file)
    except OSError as error:  # ssl.SSLError is one
        raise UserError(
            f"{ca_file} cannot be used as a CA file: {error.strerror or error}"
        ) from None
    return context


def _proxy_of_environment(url: str) -> str:
    """The proxy that HTTP_PROXY, HTTPS_PROXY and NO_PROXY name for a URL; none for this machine."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if loopback(host) or urllib.request.proxy_bypass(host):
        return ""
    return urllib.request.getproxies().get(parts.scheme, "")


# --------------------------------------------------------------------------- reading answers


def error_of(raw: bytes) -> tuple[str, str]:
    """The code and message of an error's body, whose form both APIs share; empty without one."""
    try:
        error = json.loads(raw)["error"]
        if isinstance(error, str):
            return "", error
        return str(error.get("code") or error.get("type") or ""), str(error.get("message") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def count_of(value: Any) -> int:
    """A count of tokens; 0 where there is none, or what cannot be one: the reply is paid for, and
    is not thrown away for that."""
    try:
        count = int(value or 0)
    except (TypeError, ValueError, OverflowError):
        return 0
    return count if 0 <= count < 1 << 40 else 0


def usage_of(body: Any) -> Mapping[str, Any]:
    """The counts of tokens that a reply's body states; empty where there are none."""
    usage = body.get("usage")
    return usage if isinstance(usage, Mapping) else {}


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by ``Retry-After`` (seconds or a date) or ``retry-after-ms``; else None.

    A date is compared with the server's own Date, so that a wrong clock on either side does no
    harm.
    """
    exact = _number(headers.get("retry-after-ms"))
    if exact is not None:
        return exact / 1000
    header = headers.get("Retry-After")
    if not header:
        return None
    seconds = _number(header)
    if seconds is not None:
        return seconds
    until = _timestamp(header)
    if until is None:
        return None
    now = _timestamp(headers.get("Date", ""))
    return max(0.0, until - (time.time() if now is None else now))


def quota_of(headers: Mapping[str, str]) -> Quota | None:
    """What OpenAI's or Anthropic's headers say of the limits; None where there are none."""
    for names in _QUOTA_HEADERS:
        values = [_number(headers.get(name)) for name in names]
        if any(value is not None for value in values):
            return Quota(*values)
    return None


def _number(text: str | None) -> float | None:
    """A header's finite number of 0 or more, or None."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if value >= 0 and math.isfinite(value) else None


def _timestamp(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
