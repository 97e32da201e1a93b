"""What every model takes and gives: a chat request with its sampling, a reply, and the protocol.

A request is the whole of what is sent, so its key (with endpoint and model) can stand for it in a
journal. ``label`` is ours: it names the request in journals and recordings and is never sent.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

from meadowlark.errors import UserError
from meadowlark.llm.prices import Price
from meadowlark.llm.rates import Limits, Quota
from meadowlark.records import Turn
from meadowlark.records import well_formed as well_formed

FinishReason = Literal["stop", "length", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw a reply. ``None`` leaves a parameter to the server.

    ``max_tokens`` counts new tokens. ``logprobs`` asks for the log-probability of every token of
    the reply, and of that many likelier or next-likely tokens beside it (0: none beside it).
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    logprobs: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.given().items():
            if isinstance(value, float) and not math.isfinite(value):
                raise UserError(f"{name.replace('_', '-')} is {value}; expected a finite number")

    def given(self) -> dict[str, Any]:
        """The parameters that are not left to the server."""
        values = ((name, getattr(self, name)) for name in _SAMPLING)
        return {name: value for name, value in values if value is not None and value != ()}


_SAMPLING = tuple(f.name for f in dataclasses.fields(Sampling))


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call: the turns, the sampling, and which draw of the same request it is (from 0).

    ``schema`` is a JSON schema that the reply's text must follow, where the server can see to it.
    """

    turns: tuple[Turn, ...]
    sampling: Sampling = Sampling()
    draw: int = 0
    label: str = ""
    schema: Mapping[str, Any] | None = None

    def content(self) -> dict[str, Any]:
        """All that makes one request different from another, as plain JSON."""
        turns = [list(turn) for turn in self.turns]
        content = {"turns": turns, "sampling": self.sampling.given(), "draw": self.draw}
        return content if self.schema is None else {**content, "schema": self.schema}

    def text(self) -> str:
        """The content as canonical JSON text: what a journal keeps and a key is made of."""
        return well_formed(_CANONICAL.encode(self.content()))

    def key(self, endpoint: str, model: str) -> str:
        """SHA-256 of the whole request with its endpoint and model: 64 hex digits."""
        return key_of(self.text(), endpoint, model)

    @property
    def size(self) -> int:
        """Characters of all turns."""
        return sum(len(turn[1]) for turn in self.turns)


_CANONICAL = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def key_of(text: str, endpoint: str, model: str) -> str:
    """The key of a request's :meth:`ChatRequest.text` with its endpoint and model."""
    return hashlib.sha256(f"{endpoint}\0{model}\0{text}".encode()).hexdigest()


class TokenLogprob(NamedTuple):
    """One token of a reply, its log-probability (nats), and the ``top`` tokens in its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back. Token counts are the server's own, 0 where it gave none.

    ``cost_usd`` is filled in by dispatch. ``raw`` is the body as received (without any key), and
    ``quota`` what its headers said of the limits; neither makes one reply differ from another.
    """

    text: str
    finish: FinishReason = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0
    logprobs: tuple[TokenLogprob, ...] = ()
    raw: str = field(default="", compare=False, repr=False)
    quota: Quota | None = field(default=None, compare=False, repr=False)


class ChatModel(Protocol):
    """A model that answers chat requests. ``endpoint`` and ``name`` identify it in a journal.

    ``price`` is None where nobody knows it, which is not free. ``limits`` are those known
    beforehand.
    """

    name: str
    endpoint: str
    price: Price | None
    limits: Limits

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Answer one request; raises an error of ``llm.errors`` when it cannot."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class LocalModel(Protocol):
    """A model in this process, which answers batches of prompts.

    Only ``hf:`` models are one. Prompts are turns, rendered by the checkpoint's own template.
    """

    name: str

    def generate(self, prompts: Sequence[Sequence[Turn]], sampling: Sampling) -> list[ChatReply]:
        """One reply for each prompt, in order."""
        ...
