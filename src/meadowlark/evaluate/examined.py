"""The model that an evaluation is about: its name in the answers, and what a manifest records.

A model spec comes in; options, input files and a way to open the model go out, without loading
anything until it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from meadowlark.llm import identify, open_chat_model
from meadowlark.llm.chat import ChatModel
from meadowlark.llm.prompter import Prompter, open_prompter, parts_of

if TYPE_CHECKING:
    from meadowlark.llm.local import TransformersModel


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under evaluation. ``local`` says that it is an ``hf:`` checkpoint."""

    spec: str
    name: str
    local: bool
    template: str | None
    options: dict[str, Any]
    inputs: dict[str, Path]

    @property
    def reference(self) -> str:
        """The spec without its provider."""
        return self.spec.partition(":")[2]

    def open_local(self, *, plain: bool = False) -> TransformersModel:
        """Load the checkpoint; ``plain`` as in :func:`open_prompter`."""
        from meadowlark.llm.local import open_local

        return open_local(self.reference, self.template, plain=plain)

    def open_prompter(self, *, plain: bool = False) -> Prompter:
        """Load its tokenizer and template only."""
        return open_prompter(self.reference, self.template, plain=plain)

    def open_chat(self) -> ChatModel:
        """The model as one that is asked request by request."""
        return open_chat_model(self.spec, template=self.template)


def examined(spec: str, template: str | None, name: str) -> Subject:
    """The subject that a spec names; ``name`` replaces the name made from the spec."""
    known_as, inputs = identify(spec)
    provider, typed, rest = spec.partition(":")
    if provider == "hf":
        parts = parts_of(rest)
        places = {"model": parts.base, "adapter": parts.adapter}
        inputs = {key: Path(p) for key, p in places.items() if p and Path(p).is_dir()}
    if template is not None and Path(template).is_file():
        inputs = {**inputs, "template": Path(template)}
    made = {"hf": rest.rstrip("/"), "recorded": Path(rest).stem}.get(provider)
    # A spec without a colon is a name of the user's own, from models.toml.
    name = name or made or (rest.partition("@")[0] if typed else spec)
    options = {"model": known_as, "name": name, "template": template}
    return Subject(spec, name, provider == "hf", template, options, inputs)
