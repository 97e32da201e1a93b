"""The prompt side of a local checkpoint: which files a reference names, its tokenizer, and the one
chat template by which its prompts are rendered.

A reference is ``PATH_OR_ID``, a folder of LoRA weights, or ``BASE+ADAPTER``. The template is what
``--template`` names, else the checkpoint's own, else that of a known checkpoint; nothing guesses.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadowlark.checkpoints import CHECKPOINTS, Checkpoint, known_checkpoint
from meadowlark.errors import UserError
from meadowlark.records import Turn
from meadowlark.templates import TEMPLATES, load_template


@dataclass(frozen=True, slots=True)
class Prompter:
    """A tokenizer with the chat template in force: turns to text, text to token ids.

    ``template_from`` says in words where the template comes from, for manifests.
    """

    tokenizer: Any
    template_from: str
    reference: str

    def render(self, turns: Sequence[Turn]) -> str:
        """The prompt as any server would render it, BOS included, ready for the answer.

        A last turn of the assistant's is an answer begun: it stands behind the prompt as it is.
        """
        from jinja2 import TemplateError

        if turns and turns[-1][0] == "assistant":
            return self.render(turns[:-1]) + turns[-1][1]

        messages = [{"role": role, "content": content} for role, content in turns]
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True
            )
        except TemplateError as error:
            raise UserError(
                f"the chat template of {self.reference} refuses this conversation: {error}"
            ) from None
        return text

    def encode(self, texts: Sequence[str], *, special_tokens: bool = False) -> list[list[int]]:
        """Token ids of rendered texts; a template has written every special token.

        Text without one gets what the tokenizer itself adds, with ``special_tokens``.
        """
        if not texts:
            return []
        encoded = self.tokenizer(list(texts), add_special_tokens=special_tokens, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of generated ids without special tokens."""
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    def continuation(
        self, prompt: str, prompt_ids: list[int], joint_ids: list[int], text: str
    ) -> list[int]:
        """Ids of ``text`` after ``prompt``: what ``joint_ids`` of both has behind the prompt.

        Where a token reaches across the border the prompt as served would be another; then the
        continuation is tokenised by itself.
        """
        if joint_ids[: len(prompt_ids)] == prompt_ids:
            return joint_ids[len(prompt_ids) :]
        return self.encode([text])[0]


def open_prompter(reference: str, template: str | None, *, plain: bool = False) -> Prompter:
    """The tokenizer and template of a checkpoint, without its weights.

    ``plain`` is for text that is written without a template: then none is needed, and one that is
    named is a mistake.
    """
    import transformers

    logging: Any = transformers.utils.logging
    logging.set_verbosity_error()
    parts = parts_of(reference)
    tokenizer = _tokenizer(parts)
    known = known_checkpoint([p for p in (parts.adapter, parts.base) if p])
    if plain:
        if template is not None:
            raise UserError(f"--template {template} has no use in plain prompts; leave one away")
        where = "none (plain text)"
    elif template is not None:
        tokenizer.chat_template = _named_template(template, known)
        where = f"--template {template}"
    elif tokenizer.chat_template:
        where = "the checkpoint's own"
    elif known is not None and known.template:
        tokenizer.chat_template = known.chat_template()
        where = f"{known.template}, known for {known.name}"
    else:
        raise UserError(
            f"{reference} has no chat template and is not a known checkpoint; nothing is guessed. "
            f"Give --template {' | '.join(TEMPLATES)} | FILE.toml | FILE.jinja, the one it was "
            "trained with (see: meadowlark models)."
        )
    _fill_special_tokens(tokenizer)
    return Prompter(tokenizer, where, reference)


@dataclass(frozen=True, slots=True)
class Parts:
    """The base checkpoint of a reference, and the adapter to put on it, if any."""

    base: str
    adapter: str | None


def parts_of(reference: str) -> Parts:
    """The base and the adapter that a reference names."""
    base, plus, adapter = reference.rpartition("+")
    if plus and not Path(reference).exists():
        return Parts(base, adapter)
    config = Path(reference) / "adapter_config.json"
    if config.exists():
        named = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
        if not named:
            raise UserError(f"{config} names no base model; give hf:BASE+{reference}")
        return Parts(str(named), reference)
    known = CHECKPOINTS.get(reference)
    if known is not None and known.adapter:
        raise UserError(
            f"{reference} is a LoRA adapter for {known.base}; give hf:BASE+{reference} with BASE "
            "the path or hub id of those weights."
        )
    return Parts(reference, None)


def _tokenizer(parts: Parts) -> Any:
    import transformers

    for place in filter(None, (parts.base, parts.adapter)):
        _check_place(place)
    place = parts.base
    if parts.adapter and (Path(parts.adapter) / "tokenizer_config.json").exists():
        place = parts.adapter
    try:
        return transformers.AutoTokenizer.from_pretrained(place, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise cannot_load(place, error) from None


def _check_place(place: str) -> None:
    """Refuse what is neither a folder here nor a hub id, before the hub is asked in vain."""
    organisation, slash, name = place.partition("/")
    a_hub_id = slash and organisation.strip("~. ") and name and "/" not in name
    if not Path(place).is_dir() and (not a_hub_id or Path(organisation).is_dir()):
        raise UserError(f"no such model folder: {place}; give hf:FOLDER or a hub id ORG/NAME")


def cannot_load(place: str, error: Exception) -> UserError:
    """The user error for a folder or hub id that transformers or peft would not load."""
    folder = Path(place)
    if list(folder.glob("*.bin")) and not list(folder.glob("*.safetensors")):
        return UserError(
            f"{place} holds pickled .bin weights; only safetensors are loaded. Convert them: load "
            "them where that is safe with transformers, and save_pretrained(FOLDER)."
        )
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return UserError(f"{place} cannot be loaded as a model: {first}")


def _named_template(name: str, known: Checkpoint | None) -> str:
    """The Jinja text of ``--template``; a known checkpoint's BOS rule holds for it too."""
    if name.endswith((".jinja", ".jinja2")):
        try:
            return Path(name).read_text(encoding="utf-8")
        except OSError:
            raise UserError(f"no such template file: {name}") from None
    if known is not None and known.template == name:
        return known.chat_template()
    return load_template(name).chat_template()


def _fill_special_tokens(tokenizer: Any) -> None:
    """Early LLaMA conversions left BOS and EOS empty: name them when the vocabulary has them."""
    vocabulary = tokenizer.get_vocab()
    if not tokenizer.bos_token and "<s>" in vocabulary:
        tokenizer.bos_token = "<s>"
    if not tokenizer.eos_token and "</s>" in vocabulary:
        tokenizer.eos_token = "</s>"
