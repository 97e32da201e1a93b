"""``anthropic:NAME[@BASE_URL]``: a server that speaks Anthropic's messages, over thin aiohttp.

As for ``openai:``, one call in, one reply or one classified error out. A JSON schema is asked for
by a tool that the model must use. The API has no presence or frequency penalty and gives no
log-probabilities, which is said before anything is sent; it takes no seed, so a seed is left out.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from meadowlark.errors import UserError
from meadowlark.llm.chat import ChatReply, ChatRequest, FinishReason, well_formed
from meadowlark.llm.endpoint import Access, Endpoint, Response, checked_url, count_of, usage_of
from meadowlark.llm.prices import ANTHROPIC_HOST, Price, known_price
from meadowlark.llm.rates import Limits, Quota
from meadowlark.llm.streaming import Pieces, Progress, listen

ANTHROPIC_URL = f"https://{ANTHROPIC_HOST}"
API_VERSION = "2023-06-01"
MAX_TOKENS = 4096
"""The API must be told the longest reply; this where a request leaves it open."""
_FINISH: dict[Any, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "refused",
}
_LACKS = {
    "presence_penalty": "no presence penalty: give 0",
    "frequency_penalty": "no frequency penalty: give 0",
    "logprobs": "no log-probabilities",
}
_TOOL = "reply"


class AnthropicModel:
    """A model behind ``POST BASE_URL/v1/messages``."""

    def __init__(
        self,
        name: str,
        base_url: str = ANTHROPIC_URL,
        access: Access | None = None,
        *,
        price: Price | None = None,
        limits: Limits | None = None,
    ) -> None:
        access = access or Access()
        url = checked_url(base_url).removesuffix("/v1")
        self.name = name
        self.price = price or known_price(url, name)
        self.limits = limits or Limits()
        version = {"anthropic-version": access.api_version or API_VERSION}
        self._server = Endpoint(url, "/v1/messages", access, "x-api-key: {}", headers=version)
        self.endpoint = self._server.identity

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Send one request; raises :class:`CallFailed` with what a retry can do about it."""
        return self._read(await self._server.post(messages_body(self.name, request)))

    async def pieces(self, request: ChatRequest) -> Pieces:
        """The reply as the server streams it; one to be in a schema comes whole."""
        body = messages_body(self.name, request)
        bodies = (body,) if request.schema is not None else ({**body, "stream": True}, body)
        found = listen(self._server, bodies, take_event, self._read)
        async with contextlib.aclosing(found):
            async for item in found:
                yield item

    def _read(self, response: Response) -> ChatReply:
        return self._server.parsed(response, self.name, parse_reply)

    async def close(self) -> None:
        """Close the connection pool."""
        await self._server.close()


def messages_body(model: str, request: ChatRequest) -> dict[str, Any]:
    """The JSON body of a message: system turns apart, the longest reply always stated."""
    sampling = request.sampling.given()
    for name, words in _LACKS.items():
        value = sampling.pop(name, None)
        if value or (name == "logprobs" and value is not None):
            raise UserError(f"Anthropic's API has {words} ({name.replace('_', '-')})")
    sampling.pop("seed", None)
    if sampling.get("top_p") == 1:  # says nothing, and newer models refuse it beside a temperature
        del sampling["top_p"]
    if "stop" in sampling:
        sampling["stop_sequences"] = sampling.pop("stop")
    system = "\n\n".join(turn.content for turn in request.turns if turn.role == "system")
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": MAX_TOKENS,
        "messages": [
            {"role": turn.role, "content": turn.content}
            for turn in request.turns
            if turn.role != "system"
        ],
        **sampling,
    }
    if system:
        body["system"] = system
    if request.schema is not None:
        words = "Gives the reply in the form that is asked for."
        body["tools"] = [{"name": _TOOL, "description": words, "input_schema": request.schema}]
        body["tool_choice"] = {"type": "tool", "name": _TOOL}
    return body


def parse_reply(body: Any, raw: str = "", quota: Quota | None = None) -> ChatReply:
    """A message's body as a reply; raises one of MALFORMED otherwise.

    The input of the tool is the reply's text, as JSON; thinking is left in the raw body.
    """
    texts: list[str] = []
    for block in body["content"]:
        if block["type"] == "text":
            texts.append(block["text"])
        elif block["type"] == "tool_use":
            texts = [json.dumps(block["input"], ensure_ascii=False)]
            break
    usage = usage_of(body)
    return ChatReply(
        well_formed("".join(texts)),
        _FINISH.get(body["stop_reason"], "unknown"),
        _tokens_in(usage),
        count_of(usage.get("output_tokens")),
        raw=raw,
        quota=quota,
    )


def take_event(event: Any, progress: Progress) -> str:
    """The text of one event of a streamed message; what else it tells goes to ``progress``.

    Raises one of MALFORMED for what is none.
    """
    kind = event["type"]
    if kind == "content_block_start":
        return str(event["content_block"].get("text") or "")
    if kind == "content_block_delta":
        return str(event["delta"].get("text") or "")
    if kind in ("message_start", "message_delta"):
        told = event["message"] if kind == "message_start" else event
        usage = usage_of(told)
        progress.tokens_in = _tokens_in(usage) or progress.tokens_in
        progress.tokens_out = count_of(usage.get("output_tokens")) or progress.tokens_out
        if reason := (event.get("delta") or {}).get("stop_reason"):
            progress.finish = _FINISH.get(reason, "unknown")
    return ""


def _tokens_in(usage: Any) -> int:
    read = ("input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens")
    return sum(count_of(usage.get(name)) for name in read)
