"""Models opened to be served: proved first, then loaded, each under a name of its own.

A model comes in as a MODEL of the command line; a :class:`Voice` comes out. Weights are loaded only
once it is proved that prompts are rendered as in training, so a wrong template costs a second and
not the minutes of loading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meadowlark.errors import UserError
from meadowlark.llm import PROVIDERS, open_chat_model
from meadowlark.serve.proof import Proof, prove
from meadowlark.serve.voices import LocalVoice, RemoteVoice, Voice

if TYPE_CHECKING:
    from meadowlark.llm.local import Quantised


def name_of(spec: str) -> str:
    """What a model is called: its hub id, the last part of its path, or its name at the server.

    A folder called ``model``, as runs have it, takes its run's name before it.
    """
    provider, _, rest = spec.partition(":")
    if provider != "hf":
        return rest.partition("@http")[0] if provider in ("openai", "anthropic") else spec
    place = rest.rpartition("+")[2] if not Path(rest).exists() else rest
    path = Path(place)
    if not path.is_dir():
        return place
    path = path.resolve()
    return f"{path.parent.name}-{path.name}" if path.name == "model" else path.name


def names_of(specs: Sequence[str]) -> list[str]:
    """A name for each, no two alike."""
    made = [name_of(spec) for spec in specs]
    seen: Counter[str] = Counter()
    names = []
    for name in made:
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names


def open_proof(reference: str, template: str | None) -> Proof:
    """The proof of a local checkpoint's prompts, without its weights."""
    from meadowlark.llm.prompter import open_prompter

    return prove(open_prompter(reference, template), template)


def open_voice(
    spec: str,
    name: str,
    *,
    template: str | None = None,
    quantise: Quantised | None = None,
    context: int | None = None,
    models: Path | None = None,
) -> Voice:
    """The voice of any MODEL; UserError or MeadowlarkError for one that cannot be served."""
    provider, _, reference = spec.partition(":")
    if provider != "hf" or not reference:
        if quantise is not None or context is not None:
            raise UserError(
                f"--quantise and --context are for hf: models only, not {spec!r}; expected one of "
                f"{', '.join(f'{p}:…' for p in PROVIDERS)}"
            )
        return RemoteVoice(name, open_chat_model(spec, template=template, models=models))
    from meadowlark.llm.local import open_local

    proof = open_proof(reference, template)
    model = open_local(reference, template, context_length=context, quantise=quantise)
    return LocalVoice(name, model, proof)
