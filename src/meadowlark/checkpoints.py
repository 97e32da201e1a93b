"""The published checkpoints of both papers and of the models they compare with, by hub name.

All of them predate chat templates, so what they were trained with is recorded here: prompt
template, whether a prompt opens with BOS, and the precision to load them in. Sources: PAPERS.md,
section 2 ("Published checkpoints", "Known faults"), and the hub pages' licence fields where read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meadowlark.errors import UserError, unknown

SEE_HUB = "see hub page"
BOS_IN_TEMPLATE = "{{- bos_token -}}"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What must be known of a checkpoint to prompt it as it was trained.

    ``name`` is the hub id; ``template`` a name of ``templates.TEMPLATES``, empty for a base model
    that was never given one. ``bos`` says whether a prompt opens with BOS. ``adapter`` marks LoRA
    weights, to be put on ``base``.
    """

    name: str
    family: str
    base: str
    template: str
    bos: bool
    precision: str
    adapter: bool = False
    licence: str = SEE_HUB
    note: str = ""

    def chat_template(self) -> str:
        """The chat template to use where the checkpoint has none; empty for a base model."""
        from meadowlark.templates import load_template

        if not self.template:
            return ""
        compiled = load_template(self.template).chat_template()
        return compiled if self.bos else compiled.replace(BOS_IN_TEMPLATE, "", 1)


_NO_BOS = (
    "Trained without BOS although the authors' own inference adds one; Meadowlark prompts it as it "
    "was trained."
)
_BIN = "The hub holds pickled .bin shards; only safetensors are loaded, so convert them first."


def _medalpaca(size: str) -> Checkpoint:
    return Checkpoint(
        name=f"medalpaca/medalpaca-{size}",
        family="medAlpaca",
        base=f"LLaMA {size.upper()}",
        template="medalpaca",
        bos=False,
        precision="float16",
        note=_NO_BOS,
    )


def _medalpaca_lora(size: str, bits: int) -> Checkpoint:
    how = "base loaded in int8" if bits == 8 else "base in half precision"
    return Checkpoint(
        name=f"medalpaca/medalpaca-lora-{size}-{bits}bit",
        family="medAlpaca",
        base=f"LLaMA {size.upper()}",
        template="medalpaca",
        bos=False,
        precision="int8" if bits == 8 else "float16",
        adapter=True,
        note=f"LoRA r 8, alpha 16 on q_proj and v_proj, trained with the {how}. {_NO_BOS}",
    )


def _alpacare(name: str, base: str, recipe: str) -> Checkpoint:
    return Checkpoint(
        name=f"xz97/AlpaCare-{name}",
        family="AlpaCare",
        base=base,
        template="alpaca",
        bos=True,
        precision="float16",
        licence="CC BY-NC 4.0",
        note=f"Trained {recipe}; its published answers were drawn with float16 weights. {_BIN}",
    )


_7B, _13B = "3 epochs at 2e-5", "5 epochs at 1e-5"
_ALL = [
    _alpacare("llama1-7b", "LLaMA 7B", _7B),
    _alpacare("llama2-7b", "LLaMA-2 7B", _7B),
    _alpacare("llama-13b", "LLaMA 13B", _13B),
    _alpacare("llama2-13b", "LLaMA-2 13B", _13B),
    _medalpaca("7b"),
    _medalpaca("13b"),
    _medalpaca("30b"),
    _medalpaca_lora("7b", 16),
    _medalpaca_lora("7b", 8),
    _medalpaca_lora("13b", 16),
    _medalpaca_lora("13b", 8),
    _medalpaca_lora("30b", 8),
    Checkpoint("chavinlo/alpaca-native", "Alpaca", "LLaMA 7B", "alpaca", True, "float16"),
    Checkpoint("chavinlo/alpaca-13b", "Alpaca", "LLaMA 13B", "alpaca", True, "float16"),
    Checkpoint(
        "tloen/alpaca-lora-7b",
        "Alpaca-LoRA",
        "LLaMA 7B",
        "alpaca-lora",
        True,
        "float16",
        adapter=True,
        note="Its adapter_config.json may name a base that has left the hub: give BASE+ADAPTER.",
    ),
]

CHECKPOINTS: dict[str, Checkpoint] = {checkpoint.name: checkpoint for checkpoint in _ALL}


def known_checkpoint(references: Iterable[str]) -> Checkpoint | None:
    """The first of the references that is in the table, with or without its organisation.

    A local folder counts when its last part is a checkpoint's name: a download keeps it.
    """
    by_last = {name.rpartition("/")[2].lower(): c for name, c in CHECKPOINTS.items()}
    for reference in references:
        last = reference.rstrip("/").rpartition("/")[2].lower()
        if reference in CHECKPOINTS:
            return CHECKPOINTS[reference]
        if last in by_last:
            return by_last[last]
    return None


def checkpoint(name: str) -> Checkpoint:
    """A checkpoint of the table by its hub id or the last part of it; UserError if unknown."""
    found = known_checkpoint([name])
    if found is None:
        error = unknown("checkpoint", name, CHECKPOINTS)
        raise UserError(
            f"{error} Any other LLaMA-family checkpoint works too: its own chat template is used, "
            "or --template NAME."
        )
    return found
