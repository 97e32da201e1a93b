"""One way to talk to any model: a request, a reply, and ``open_model(spec)`` that answers.

The same types serve teachers, judges, examined models and chat, whether they are remote, local or
recorded. Adapters hold no retry and no state: dispatch and journal stand above them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

from meadowlark.errors import UserError, unknown
from meadowlark.llm.chat import (
    ChatModel,
    ChatReply,
    ChatRequest,
    FinishReason,
    LocalModel,
    Sampling,
)
from meadowlark.llm.dispatch import Asking, Outcome, Policy, ask
from meadowlark.llm.journal import Journal
from meadowlark.llm.openai_api import OPENAI_URL, OpenAIModel
from meadowlark.llm.recorded import RecordedModel
from meadowlark.llm.scripted import ScriptedModel

__all__ = [
    "PROVIDERS",
    "Asking",
    "ChatModel",
    "ChatReply",
    "ChatRequest",
    "FinishReason",
    "Journal",
    "LocalModel",
    "OpenAIModel",
    "Outcome",
    "Policy",
    "RecordedModel",
    "Sampling",
    "ScriptedModel",
    "ask",
    "identify",
    "open_chat_model",
    "open_model",
]

FORMS = "hf:PATH[+ADAPTER], openai:NAME@BASE_URL, recorded:FILE"


def _openai(rest: str, template: str | None) -> ChatModel:
    found = re.fullmatch(r"(?P<name>.+?)@(?P<url>https?://.*)", rest)
    if found:
        return OpenAIModel(found["name"], found["url"])
    if "@" in rest:
        name, _, url = rest.rpartition("@")
        raise UserError(
            f"openai:{rest}: {url!r} is no URL. Did you mean 'openai:{name}@http://{url}'?"
        )
    return OpenAIModel(rest, OPENAI_URL)


def _recorded(rest: str, template: str | None) -> ChatModel:
    return RecordedModel(Path(rest))


def _local(rest: str, template: str | None) -> LocalModel:
    from meadowlark.llm.local import open_local

    return open_local(rest, template)


PROVIDERS: dict[str, Callable[[str, str | None], ChatModel | LocalModel]] = {
    "hf": _local,
    "openai": _openai,
    "recorded": _recorded,
}


def open_model(spec: str, *, template: str | None = None) -> ChatModel | LocalModel:
    """The model that a spec names; ``template`` is for checkpoints that carry none.

    Raises UserError for a spec that cannot be understood. Nothing is sent yet.
    """
    provider, rest = _split(spec)
    return PROVIDERS[provider](rest, template)


def open_chat_model(spec: str, *, template: str | None = None) -> ChatModel:
    """The model that a spec names, to be asked one request at a time (every kind can be)."""
    model = open_model(spec, template=template)
    assert hasattr(model, "reply"), "every provider's model answers single requests"
    return cast(ChatModel, model)


def identify(spec: str) -> tuple[str, dict[str, Path]]:
    """A spec as a manifest keeps it, and the files behind it that are inputs of a run.

    A recording is known by its content, not by where it lies.
    """
    provider, rest = _split(spec)
    return ("recorded", {"recording": Path(rest)}) if provider == "recorded" else (spec, {})


def _split(spec: str) -> tuple[str, str]:
    provider, colon, rest = spec.partition(":")
    if not colon or not rest:
        raise UserError(f"{spec!r} names no model; expected one of {FORMS}")
    if provider not in PROVIDERS:
        raise UserError(f"{unknown('kind of model', provider, PROVIDERS)} A model is {FORMS}.")
    return provider, rest
