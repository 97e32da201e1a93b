"""``openai:NAME@BASE_URL``: any server that speaks OpenAI's chat completions, over thin aiohttp.

One call in, one reply (whole, or piece by piece) or one classified error out: no retry and no state
beyond the connection pool. Which key goes to which server is told in ``llm.keys``.
"""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import urlsplit

from meadowlark.llm.chat import ChatReply, ChatRequest, FinishReason, TokenLogprob, well_formed
from meadowlark.llm.endpoint import (
    Access,
    Endpoint,
    Response,
    checked_url,
    count_of,
    error_of,
    usage_of,
)
from meadowlark.llm.prices import OPENAI_HOST, Price, known_price
from meadowlark.llm.rates import Limits, Quota
from meadowlark.llm.streaming import Pieces, Progress, listen

OPENAI_URL = f"https://{OPENAI_HOST}/v1"
_FINISH: dict[Any, FinishReason] = {
    "stop": "stop",
    "eos": "stop",
    "length": "length",
    "max_tokens": "length",
    "content_filter": "refused",
}


class OpenAIModel:
    """A model behind ``POST BASE_URL/chat/completions``.

    With an ``api_version`` it is one on Azure: the version goes into the URL and the key into the
    header ``api-key``.
    """

    def __init__(
        self,
        name: str,
        base_url: str = OPENAI_URL,
        access: Access | None = None,
        *,
        price: Price | None = None,
        limits: Limits | None = None,
    ) -> None:
        access = access or Access()
        url = checked_url(base_url)
        azure = bool(access.api_version)
        self.name = name
        self.price = price or known_price(url, name)
        self.limits = limits or Limits()
        self._server = Endpoint(
            url,
            "/chat/completions",
            access,
            "api-key: {}" if azure else "Authorization: Bearer {}",
            query=f"api-version={access.api_version}" if azure else "",
        )
        self.endpoint = self._server.identity
        # OpenAI's newer models know only the new name, other servers often only the old one.
        official = urlsplit(url).hostname == OPENAI_HOST
        self._max_tokens = "max_completion_tokens" if official else "max_tokens"

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Send one request; raises :class:`CallFailed` with what a retry can do about it."""
        return self._read(await self._server.post(chat_body(self.name, request, self._max_tokens)))

    async def pieces(self, request: ChatRequest) -> Pieces:
        """The reply as the server streams it, or whole from one that does not stream."""
        body = chat_body(self.name, request, self._max_tokens)
        streamed = {**body, "stream": True}
        counted = {**streamed, "stream_options": {"include_usage": True}}
        found = listen(self._server, (counted, streamed, body), take_chunk, self._read)
        async with contextlib.aclosing(found):
            async for item in found:
                yield item

    def _read(self, response: Response) -> ChatReply:
        if response.status == 400 and error_of(response.body)[0] == "content_filter":
            return ChatReply("", "refused", raw=self._server.text_of(response))
        return self._server.parsed(response, self.name, parse_reply)

    async def close(self) -> None:
        """Close the connection pool."""
        await self._server.close()


def chat_body(model: str, request: ChatRequest, max_tokens: str = "max_tokens") -> dict[str, Any]:
    """The JSON body of a chat completion: what the request leaves open is left to the server."""
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in request.turns],
        **request.sampling.given(),
    }
    if "max_tokens" in body:
        body[max_tokens] = body.pop("max_tokens")
    if "logprobs" in body:
        alternatives = body["logprobs"]
        body["logprobs"] = True
        if alternatives:
            body["top_logprobs"] = alternatives
    if request.schema is not None:
        form = {"name": "reply", "schema": request.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    return body


def parse_reply(body: Any, raw: str = "", quota: Quota | None = None) -> ChatReply:
    """A chat completion's body as a reply; raises one of MALFORMED otherwise."""
    choice = body["choices"][0]
    message = choice["message"]
    content = _text_of(message)
    finish = _FINISH.get(choice.get("finish_reason"), "unknown")
    if message.get("refusal") and not content:
        content, finish = message["refusal"], "refused"
    usage = usage_of(body)
    return ChatReply(
        well_formed(content),
        finish,
        count_of(usage.get("prompt_tokens")),
        count_of(usage.get("completion_tokens")),
        logprobs=_logprobs(choice.get("logprobs")),
        raw=raw,
        quota=quota,
    )


def take_chunk(chunk: Any, progress: Progress) -> str:
    """The text of one chunk of a streamed completion; what else it tells goes to ``progress``.

    Raises one of MALFORMED for what is none. Chunks without choices (a count of tokens, a filter's
    remarks) have no text.
    """
    usage = usage_of(chunk)
    progress.tokens_in = count_of(usage.get("prompt_tokens")) or progress.tokens_in
    progress.tokens_out = count_of(usage.get("completion_tokens")) or progress.tokens_out
    text = ""
    for choice in chunk.get("choices") or ():
        if choice.get("index") or 0:
            continue
        message = choice.get("delta") or {}
        if refusal := message.get("refusal"):
            progress.finish = "refused"
        text += _text_of(message) or refusal or ""
        if (reason := choice.get("finish_reason")) and progress.finish is None:
            progress.finish = _FINISH.get(reason, "unknown")
    return text


def _text_of(message: Any) -> str:
    """The text of a message, whole or a piece; TypeError where it is none."""
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(part.get("text", "") for part in content)
    if content is not None and not isinstance(content, str):
        raise TypeError("the content is not text")
    return content or ""


def _logprobs(raw: Any) -> tuple[TokenLogprob, ...]:
    """The log-probabilities of a choice, empty where there are none."""
    return tuple(
        TokenLogprob(
            well_formed(at["token"]),
            float(at["logprob"]),
            tuple(
                (well_formed(t["token"]), float(t["logprob"])) for t in at.get("top_logprobs") or ()
            ),
        )
        for at in (raw or {}).get("content") or ()
    )
