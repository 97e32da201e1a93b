"""The proof, at start, that prompts are served as they were trained, token for token.

In come the tokenizer and template of a checkpoint, and whatever says which template it was trained
with (``config.toml`` of ``train``, the manifest of ``package``, the table of published
checkpoints); out comes a :class:`Proof`, or the error for which a server does not start.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meadowlark.checkpoints import known_checkpoint
from meadowlark.dataset import MANIFEST
from meadowlark.errors import MeadowlarkError, UserError
from meadowlark.llm.prompter import Prompter, parts_of
from meadowlark.records import Record, Turn
from meadowlark.templates import TEMPLATES, PromptTemplate, load_template, messages

SAMPLES = (
    Record("Why does the heart beat faster in a fever?"),
    Record("Explain this report to the patient.", "Hb 7.1 g/dl\n\nFerritin 4 µg/l,  CRP < 5"),
    Record(
        "And for a child?",
        history=(Turn("user", "Which dose is usual?"), Turn("assistant", "It depends on weight.")),
    ),
    Record(
        "What about this one?",
        "Temp. 38,5 °C – seit gestern",
        history=(
            Turn("user", "Sum up.\n\n### Input:\nA cough for 3 days."),
            Turn("assistant", "A short cough; 中文 🙂."),
        ),
    ),
    Record("  Two spaces before, one line after.\n"),
    Record("### Response: does a header pass?", "### Instruction:\nNo."),
    Record("Hello?", history=(Turn("system", "Answer in one sentence."),)),
)
"""Conversations of every form: input, earlier turns, other alphabets, blanks, forged headers."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found equal: so many conversations and tokens; ``template`` is theirs.

    ``refused`` counts the forms that the template itself does not take (a system message, for
    some). ``prompts`` holds each conversation with its tokens, for an engine elsewhere to be held
    to.
    """

    conversations: int
    tokens: int
    refused: int
    template: str
    prompts: tuple[tuple[tuple[Turn, ...], tuple[int, ...]], ...]

    def sentence(self) -> str:
        """The proof in words, for the terminal and the server's metadata."""
        return (
            f"{self.conversations} sample conversations ({self.tokens} tokens) are rendered as in "
            f"training: {self.template}"
        )


def prove(prompter: Prompter, named: str | None = None) -> Proof:
    """Render :data:`SAMPLES` in every way there is, and compare them by tokens.

    The chat template applied with and without tokenising must give the same ids; a prompt opens
    with at most one BOS; and where it is known which template the model was trained with, that
    template must write the same text. ``named`` is what ``--template`` names, if anything. Raises
    MeadowlarkError for any difference: it would not be the trained model that answers.
    """
    promised, source = _promised(prompter.reference, named)
    tokenizer = prompter.tokenizer
    found: list[tuple[tuple[Turn, ...], tuple[int, ...]]] = []
    fits = dict(TEMPLATES)
    refused = 0
    for record in SAMPLES:
        turns = messages(record)
        try:
            text = prompter.render(turns)
        except UserError:
            refused += 1
            continue
        (ids,) = prompter.encode([text])
        sent = tokenizer.apply_chat_template(
            [turn._asdict() for turn in turns], add_generation_prompt=True, return_dict=False
        )
        compare("a prompt tokenised by its chat template", list(sent), ids, prompter.decode)
        begins = ids.count(tokenizer.bos_token_id)
        if begins > 1 and tokenizer.bos_token != tokenizer.eos_token and not record.history:
            raise MeadowlarkError(f"a prompt has {begins} begin tokens; expected one, or none")
        if promised is not None:
            written = _written(promised, turns, tokenizer)
            if text not in written:
                raise MeadowlarkError(
                    f"{prompter.reference} was trained with the template {promised.name} "
                    f"({source}), but its chat template writes {text!r} where {promised.name} is "
                    f"{written[0]!r}. It is not served: the answers would be another model's"
                )
        fits = {n: t for n, t in fits.items() if text in _written(t, turns, tokenizer)}
        found.append((tuple(turns), tuple(ids)))
    if not found:
        raise MeadowlarkError(
            f"the chat template of {prompter.reference} takes none of the sample conversations"
        )
    name = promised.name if promised is not None else next(iter(fits), "")
    template = f"{name} ({source or prompter.template_from})" if name else prompter.template_from
    return Proof(len(found), sum(len(ids) for _, ids in found), refused, template, tuple(found))


def _written(template: PromptTemplate, turns: Sequence[Turn], tokenizer: object) -> list[str]:
    """A conversation by a template's own code, with BOS and without."""
    bos, eos = (getattr(tokenizer, f"{end}_token") or "" for end in ("bos", "eos"))
    return [template.render(turns, bos=bos, eos=eos), template.render(turns, eos=eos)]


def _promised(reference: str, named: str | None) -> tuple[PromptTemplate | None, str]:
    """The template that the model was trained with, where that is known, and who says so."""
    if named is not None:
        is_ours = named in TEMPLATES or named.endswith(".toml")
        return (load_template(named) if is_ours else None), f"--template {named}"
    parts = parts_of(reference)
    for place in (parts.adapter, parts.base):
        if place is None or not Path(place).is_dir():
            continue
        name = _recorded(Path(place))
        if name in TEMPLATES:
            return TEMPLATES[name], f"as recorded in {place}"
        if name and Path(name).is_file():
            return load_template(name), f"as recorded in {place}"
    known = known_checkpoint([place for place in (parts.adapter, parts.base) if place])
    if known is not None and known.template:
        return TEMPLATES[known.template], f"known for {known.name}"
    return None, ""


def _recorded(folder: Path) -> str:
    """The template that a run of ``train`` or ``package`` names beside its weights, or ""."""
    try:
        config = tomllib.loads((folder / "config.toml").read_text(encoding="utf-8"))
        return str(config.get("data", {}).get("template") or "")
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError):
        pass
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return ""
    results = manifest.get("results") or {}
    return str(results.get("template") or "").partition(",")[0].strip()


def compare(
    what: str, found: Sequence[int], expected: Sequence[int], decode: Callable[[Sequence[int]], str]
) -> None:
    """Raise MeadowlarkError where two lists of tokens differ, showing where."""
    if list(found) == list(expected):
        return
    pairs = zip(found, expected, strict=False)
    place = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected)))
    had, wanted = (decode(list(ids)[place : place + 8]) for ids in (found, expected))
    raise MeadowlarkError(
        f"{what} differs from training at token {place}: {had!r} where training had {wanted!r}. "
        "It is not served: the answers would be another model's"
    )
