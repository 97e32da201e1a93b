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
from meadowlark.llm.anthropic_api import ANTHROPIC_URL, AnthropicModel
from meadowlark.llm.asking import Asking
from meadowlark.llm.catalogue import FORMS, Entry, find_model
from meadowlark.llm.chat import (
    ChatModel,
    ChatReply,
    ChatRequest,
    FinishReason,
    LocalModel,
    Sampling,
    TokenLogprob,
)
from meadowlark.llm.dispatch import Outcome, Policy
from meadowlark.llm.journal import Journal
from meadowlark.llm.openai_api import OPENAI_URL, OpenAIModel
from meadowlark.llm.prices import Price, unpriced
from meadowlark.llm.rates import Limits
from meadowlark.llm.recorded import RecordedModel
from meadowlark.llm.scripted import ScriptedModel
from meadowlark.llm.spending import Estimate, estimate

__all__ = [
    "PROVIDERS",
    "AnthropicModel",
    "Asking",
    "ChatModel",
    "ChatReply",
    "ChatRequest",
    "Estimate",
    "FinishReason",
    "Journal",
    "Limits",
    "LocalModel",
    "OpenAIModel",
    "Outcome",
    "Policy",
    "Price",
    "RecordedModel",
    "Sampling",
    "ScriptedModel",
    "TokenLogprob",
    "estimate",
    "identify",
    "open_chat_model",
    "open_model",
    "open_teacher",
]


def _at_url(provider: str, rest: str, default_url: str) -> tuple[str, str]:
    """Name and base URL of ``NAME[@BASE_URL]``."""
    found = re.fullmatch(r"(?P<name>.+?)@(?P<url>https?://.*)", rest)
    if found:
        return found["name"], found["url"]
    if "@" in rest:
        name, _, url = rest.rpartition("@")
        raise UserError(
            f"{provider}:{rest}: {url!r} is no URL. Did you mean '{provider}:{name}@http://{url}'?"
        )
    return rest, default_url


def _openai(rest: str, template: str | None) -> ChatModel:
    return OpenAIModel(*_at_url("openai", rest, OPENAI_URL))


def _anthropic(rest: str, template: str | None) -> ChatModel:
    return AnthropicModel(*_at_url("anthropic", rest, ANTHROPIC_URL))


def _recorded(rest: str, template: str | None) -> ChatModel:
    return RecordedModel(Path(rest))


def _local(rest: str, template: str | None) -> LocalModel:
    from meadowlark.llm.local import open_local

    return open_local(rest, template)


PROVIDERS: dict[str, Callable[[str, str | None], ChatModel | LocalModel]] = {
    "anthropic": _anthropic,
    "hf": _local,
    "openai": _openai,
    "recorded": _recorded,
}


def open_model(
    spec: str, *, template: str | None = None, models: Path | None = None
) -> ChatModel | LocalModel:
    """The model that a spec names; ``template`` is for checkpoints that carry none.

    A spec without a colon is a name in the user's ``models.toml`` (``models``, or where
    ``llm.catalogue`` looks for it). Raises UserError for a spec that cannot be understood. Nothing
    is sent yet.
    """
    if ":" not in spec:
        return _of_catalogue(spec, find_model(spec, models))
    provider, rest = _split(spec)
    return PROVIDERS[provider](rest, template)


def _of_catalogue(name: str, entry: Entry) -> ChatModel:
    make: type[OpenAIModel | AnthropicModel] = OpenAIModel
    url = OPENAI_URL
    if entry.kind == "anthropic":
        make, url = AnthropicModel, ANTHROPIC_URL
    return make(
        entry.model,
        entry.url or url,
        entry.access(name),
        price=entry.known_price,
        limits=entry.known_limits,
    )


def open_chat_model(
    spec: str, *, template: str | None = None, models: Path | None = None
) -> ChatModel:
    """The model that a spec names, to be asked one request at a time (every kind can be)."""
    model = open_model(spec, template=template, models=models)
    assert hasattr(model, "reply"), "every provider's model answers single requests"
    return cast(ChatModel, model)


def open_teacher(spec: str, *, models: Path | None = None, price: Price | None = None) -> ChatModel:
    """A model whose calls are counted in money: ``price`` goes before what is known of it.

    UserError where no price is known: an unknown price is not zero.
    """
    model = open_chat_model(spec, models=models)
    if price is not None:
        model.price = price
    if model.price is None:
        raise unpriced(model.name, model.endpoint)
    return model


def identify(spec: str, models: Path | None = None) -> tuple[str, dict[str, Path]]:
    """A spec as a manifest keeps it, and the files behind it that are inputs of a run.

    A recording is known by its content, not by where it lies, and a name of ``models.toml`` by what
    it stands for.
    """
    if ":" not in spec:
        return find_model(spec, models).spec, {}
    provider, rest = _split(spec)
    return ("recorded", {"recording": Path(rest)}) if provider == "recorded" else (spec, {})


def _split(spec: str) -> tuple[str, str]:
    provider, _, rest = spec.partition(":")
    if not rest:
        raise UserError(f"{spec!r} names no model; expected {FORMS}")
    if provider not in PROVIDERS:
        raise UserError(f"{unknown('kind of model', provider, PROVIDERS)} A model is {FORMS}.")
    return provider, rest
