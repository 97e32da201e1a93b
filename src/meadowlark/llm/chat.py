"""What every model takes and gives: a chat request with its sampling, a reply, and the protocol.

A request is the whole of what is sent, so its key (with endpoint and model) can stand for it in a
journal. ``label`` is ours: it names the request in journals and recordings and is never sent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

from meadowlark.records import Turn

FinishReason = Literal["stop", "length", "refused", "unknown"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to draw a reply. ``None`` leaves a parameter to the server. ``max_tokens`` counts new
    tokens."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    max_tokens: int | None = None
    presence_penalty: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call: the turns, the sampling, and which draw of the same request it is (from 0)."""

    turns: tuple[Turn, ...]
    sampling: Sampling = Sampling()
    draw: int = 0
    label: str = ""

    def content(self) -> dict[str, Any]:
        """All that makes one request different from another, as plain JSON."""
        sampling = {k: v for k, v in asdict(self.sampling).items() if v not in (None, ())}
        return {"turns": [list(t) for t in self.turns], "sampling": sampling, "draw": self.draw}

    def key(self, endpoint: str, model: str) -> str:
        """SHA-256 of the whole request with its endpoint and model: 64 hex digits."""
        whole = {"endpoint": endpoint, "model": model, **self.content()}
        text = json.dumps(whole, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What came back. Token counts are the server's own, 0 where it gave none."""

    text: str
    finish: FinishReason = "stop"
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0


class ChatModel(Protocol):
    """A model that answers chat requests. ``endpoint`` and ``name`` identify it in a journal."""

    name: str
    endpoint: str

    async def reply(self, request: ChatRequest) -> ChatReply:
        """Answer one request; raises an error of ``llm.errors`` when it cannot."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class LocalModel(Protocol):
    """A model in this process: batches of prompts, and likelihoods of given continuations.

    Only ``hf:`` models are one. Prompts are turns, rendered by the checkpoint's own template.
    """

    name: str

    def generate(self, prompts: Sequence[Sequence[Turn]], sampling: Sampling) -> list[ChatReply]:
        """One reply for each prompt, in order."""
        ...

    def loglikelihoods(
        self, prompts: Sequence[Sequence[Turn]], continuations: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """For each prompt, the log-likelihood (nats, summed over tokens) of each continuation."""
        ...
