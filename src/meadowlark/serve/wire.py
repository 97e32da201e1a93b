"""OpenAI's chat completions on the wire: a request's JSON in, answers, chunks and errors out.

What is not supported is refused by name rather than left out in silence: a caller who asks for
tools or log-probabilities must not take an answer without them for one with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meadowlark import NOTICE
from meadowlark.llm.chat import FinishReason, Sampling, well_formed
from meadowlark.records import Role, Turn
from meadowlark.serve.voices import Ending

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
MOST_STOPS = 4
UNSUPPORTED = ("tools", "functions", "audio", "prediction", "web_search_options", "logit_bias")
FINISH: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "refused": "content_filter",
    "unknown": "stop",
}


class Refused(Exception):
    """A request that is not answered: its HTTP status, and an error in OpenAI's form."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param = status, code, param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The error as every OpenAI client reads it."""
        kind = "invalid_request_error"
        if self.status == 401:
            kind = "authentication_error"
        elif self.status == 429:
            kind = "rate_limit_error"
        elif self.status >= 500:
            kind = "server_error"
        error = {"message": str(self), "type": kind, "param": self.param, "code": self.code}
        return {"error": error}


@dataclass(frozen=True, slots=True)
class Completion:
    """A chat completion as asked for."""

    model: str
    turns: tuple[Turn, ...]
    sampling: Sampling
    stream: bool = False
    include_usage: bool = False


def parse_json(raw: bytes) -> dict[str, Any]:
    """A body as a JSON object; Refused (400) for anything else."""
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not valid JSON", code="invalid_json") from None
    if not isinstance(body, dict):
        raise Refused(400, "the body is not a JSON object", code="invalid_json")
    return body


def parse_completion(body: Mapping[str, Any]) -> Completion:
    """A request for a chat completion; Refused (400) with the parameter that is at fault.

    Greedy where no temperature is given, as the checkpoint's own generation settings are.
    """
    for name in UNSUPPORTED:
        if body.get(name):
            raise _unsupported(name)
    if body.get("n") not in (None, 1):
        raise _unsupported("n", "only one answer a request")
    if body.get("logprobs") or body.get("top_logprobs"):
        raise _unsupported("logprobs")
    form = body.get("response_format")
    if form is not None and (not isinstance(form, Mapping) or form.get("type") != "text"):
        raise _unsupported("response_format")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise _wrong("model", "expected the name of a model, as /v1/models lists them")
    longest = body.get("max_completion_tokens", body.get("max_tokens"))
    seed = body.get("seed")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, Mapping):
        raise _wrong("stream_options", "expected an object")
    return Completion(
        model,
        parse_turns(body.get("messages")),
        Sampling(
            temperature=_number(body, "temperature", 0.0, 2.0, 0.0),
            top_p=_number(body, "top_p", 0.0, 1.0, None),
            top_k=_whole(body.get("top_k"), "top_k", least=1),
            max_tokens=_whole(longest, "max_tokens", least=1),
            presence_penalty=_number(body, "presence_penalty", -2.0, 2.0, None),
            frequency_penalty=_number(body, "frequency_penalty", -2.0, 2.0, None),
            stop=_stops(body.get("stop")),
            seed=_whole(seed, "seed", least=-(1 << 63)),
        ),
        stream=_flag(body, "stream"),
        include_usage=bool((options or {}).get("include_usage")),
    )


def parse_turns(raw: Any) -> tuple[Turn, ...]:
    """The messages of a request, ending with the user's; Refused (400) where they are none."""
    if not isinstance(raw, list) or not raw:
        raise _wrong("messages", "expected a list of at least one message")
    turns = []
    for number, message in enumerate(raw):
        where = f"messages[{number}]"
        if not isinstance(message, Mapping):
            raise _wrong(where, "expected an object with role and content")
        role = message.get("role")
        if not isinstance(role, str) or role not in ROLES:
            raise _wrong(f"{where}.role", f"expected one of {', '.join(ROLES)}")
        turns.append(Turn(ROLES[role], _text(message.get("content"), f"{where}.content")))
    if turns[-1].role != "user":
        raise _wrong("messages", "the last message must be the user's")
    return tuple(turns)


def _text(content: Any, where: str) -> str:
    if isinstance(content, list):
        parts = []
        for part in content:
            text = part.get("text") if isinstance(part, Mapping) else None
            if not isinstance(text, str) or part.get("type") != "text":
                raise _wrong(where, "only parts of type text are read")
            parts.append(text)
        content = "".join(parts)
    if not isinstance(content, str):
        raise _wrong(where, "expected text")
    return well_formed(content)


def _number(
    body: Mapping[str, Any], name: str, low: float, high: float, default: float | None
) -> float | None:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _wrong(name, "expected a number")
    if not low <= value <= high:
        raise _wrong(name, f"expected a number from {low:g} to {high:g}")
    return float(value)


def _whole(value: Any, name: str, least: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(name, "expected a whole number")
    if not least <= value < 1 << 63:
        raise _wrong(name, f"expected at least {least}")
    return value


def _flag(body: Mapping[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise _wrong(name, "expected true or false")
    return bool(value)


def _stops(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list) or not all(isinstance(s, str) and s for s in stops):
        raise _wrong("stop", "expected a text, or a list of texts that are not empty")
    if len(stops) > MOST_STOPS:
        raise _wrong("stop", f"expected at most {MOST_STOPS}")
    return tuple(stops)


def _wrong(param: str, expected: str) -> Refused:
    return Refused(400, f"{param}: {expected}", code="invalid_value", param=param)


def _unsupported(param: str, why: str = "not supported here") -> Refused:
    return Refused(400, f"{param}: {why}", code="unsupported_parameter", param=param)


# --------------------------------------------------------------------------- answers


def usage(ending: Ending) -> dict[str, int]:
    """The token counts of an answer."""
    return {
        "prompt_tokens": ending.tokens_in,
        "completion_tokens": ending.tokens_out,
        "total_tokens": ending.tokens_in + ending.tokens_out,
    }


def completion(head: Mapping[str, Any], text: str, ending: Ending) -> dict[str, Any]:
    """A whole answer; ``head`` holds its id, time and model."""
    message = {"role": "assistant", "content": text, "refusal": None}
    finish = FINISH[ending.finish]
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": None}
    return {
        **head,
        "object": "chat.completion",
        "choices": [choice],
        "usage": usage(ending),
        "notice": NOTICE,
    }


def chunk(
    head: Mapping[str, Any], delta: Mapping[str, str], finish: str | None = None
) -> dict[str, Any]:
    """A piece of a streamed answer."""
    choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
    return {**head, "object": "chat.completion.chunk", "choices": [choice]}


def event(value: Any) -> bytes:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n".encode()


DONE = b"data: [DONE]\n\n"
