"""``openai:NAME@BASE_URL``: any server that speaks OpenAI's chat completions, over thin aiohttp.

One call in, one reply or one classified error out: no retry and no state beyond the connection
pool. The key comes from MEADOWLARK_API_KEY or OPENAI_API_KEY and goes into one header only.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import time
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from meadowlark.errors import UserError
from meadowlark.llm.chat import ChatReply, ChatRequest, FinishReason
from meadowlark.llm.errors import CallFailed

OPENAI_URL = "https://api.openai.com/v1"
KEY_VARIABLES = ("MEADOWLARK_API_KEY", "OPENAI_API_KEY")
TIMEOUT_S = 300.0
CONNECT_TIMEOUT_S = 20.0
_FINISH: dict[Any, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "refused",
}
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def api_key() -> str:
    """The key from the environment, or the empty string; servers of one's own need none."""
    for name in KEY_VARIABLES:
        key = os.environ.get(name, "").strip()
        if key:
            if not (key.isascii() and key.isprintable()):
                raise UserError(f"{name} holds characters that no key has; set it again")
            return key
    return ""


class OpenAIModel:
    """A model behind ``POST BASE_URL/chat/completions``."""

    def __init__(self, name: str, base_url: str = OPENAI_URL, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UserError(
                f"{base_url!r} is not a server's URL; expected for example http://localhost:8000/v1"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise UserError(
                "a server's URL must not hold a password, a query or a key (it is written into "
                f"journals); put the key into {KEY_VARIABLES[0]}"
            )
        self.name = name
        self.endpoint = base_url.rstrip("/") + "/chat/completions"
        self._loopback = parts.hostname in _LOOPBACK
        self._key = api_key()
        if not self._key and parts.hostname == urlsplit(OPENAI_URL).hostname:
            raise UserError(f"{OPENAI_URL} needs a key: set OPENAI_API_KEY in the environment")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S)
        self._session: aiohttp.ClientSession | None = None

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Send one request; raises :class:`CallFailed` with what a retry can do about it."""
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            self._session = aiohttp.ClientSession(
                headers=headers,
                timeout=self._timeout,
                connector=aiohttp.TCPConnector(limit=0),
                trust_env=not self._loopback,
            )
        body = json.dumps(chat_body(self.name, request), ensure_ascii=False).encode(
            "utf-8", "replace"
        )
        json_type = {"Content-Type": "application/json"}
        try:
            async with self._session.post(
                self.endpoint, data=body, headers=json_type, allow_redirects=False
            ) as response:
                raw = await response.read()
                if response.status != 200:
                    return self._refusal_or_error(response, raw)
        except TimeoutError:
            raise CallFailed(
                "timeout", f"{self.endpoint} did not answer in time", retryable=True
            ) from None
        except (aiohttp.ClientError, OSError, asyncio.IncompleteReadError) as error:
            raise CallFailed(
                "connection failed",
                f"{self.endpoint} cannot be reached, or hung up "
                f"({type(error).__name__}: {self._scrub(str(error))})",
                retryable=True,
            ) from None
        try:
            return parse_reply(json.loads(raw))
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise CallFailed(
                "malformed reply",
                f"{self.endpoint} answered with what is no chat completion ({error!r}): "
                f"{self._start_of(raw)}",
                retryable=True,
            ) from None

    async def close(self) -> None:
        """Close the connection pool."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _refusal_or_error(self, response: aiohttp.ClientResponse, raw: bytes) -> ChatReply:
        """A content filter's refusal is a reply; any other status is an error."""
        status = response.status
        if status == 400 and _error_code(raw) == "content_filter":
            return ChatReply("", "refused")
        said = self._start_of(raw)
        message = f"{self.endpoint} answered {status}: {said}"
        if status in (401, 403):
            message += f". Set the key in {' or '.join(KEY_VARIABLES)}"
        elif status == 404:
            message += f". Is {self.name!r} served there, and does the URL end in /v1?"
        elif 300 <= status < 400:
            message += f". It redirects to {self._scrub(response.headers.get('Location', '?'))}"
        out_of_money = status == 429 and _error_code(raw) == "insufficient_quota"
        raise CallFailed(
            f"HTTP {status}",
            message,
            retryable=(status in (408, 409, 425, 429) or status >= 500) and not out_of_money,
            retry_after_s=retry_after_s(response.headers.get("Retry-After")),
            endpoint_wide=status in (401, 402, 403, 404, 405) or status < 400 or out_of_money,
        )

    def _start_of(self, raw: bytes) -> str:
        text = " ".join(raw[:2000].decode("utf-8", "replace").split())[:300]
        return self._scrub(text) or "an empty body"

    def _scrub(self, text: str) -> str:
        """Some servers repeat the key in their errors; ours never do."""
        return text.replace(self._key, "[key]") if self._key else text


def chat_body(model: str, request: ChatRequest) -> dict[str, Any]:
    """The JSON body of a chat completion: what the request leaves open is left to the server."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in request.turns],
    }
    sampling = request.content()["sampling"]
    if "stop" in sampling:
        sampling["stop"] = list(sampling["stop"])
    return {**body, **sampling}


def parse_reply(body: Any) -> ChatReply:
    """A chat completion's body as a reply; raises KeyError, TypeError or ValueError otherwise."""
    choice = body["choices"][0]
    message = choice["message"]
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError("the content is not text")
    finish = _FINISH.get(choice.get("finish_reason"), "unknown")
    if message.get("refusal") and not content:
        content, finish = message["refusal"], "refused"
    usage = body.get("usage") or {}
    return ChatReply(
        content or "",
        finish,
        int(usage.get("prompt_tokens") or 0),
        int(usage.get("completion_tokens") or 0),
    )


def retry_after_s(header: str | None) -> float | None:
    """Seconds to wait by a Retry-After header, which holds seconds or a date; None if unusable."""
    if not header:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        date = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, date.timestamp() - time.time())


def _error_code(raw: bytes) -> str:
    try:
        error = json.loads(raw)["error"]
        return str(error.get("code") or error.get("type") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
