"""The small files by which a server loads a model, and the proof that it then reads as trained.

In come a tokenizer with its chat template and a model's configuration; out go files that
transformers 5 reads, and servers pinned to transformers 4 (4.45 and 4.57 were tried), llama.cpp
and vLLM alike. What transformers 5 alone would write leaves 4 without a chat template, with a
rotary base of 10,000 whatever the model's, or unable to load the tokenizer at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, GenerationConfig, PretrainedConfig

from meadowlark.errors import MeadowlarkError
from meadowlark.records import Record, Turn
from meadowlark.templates import PromptTemplate, messages
from meadowlark.train.encode import Encoder
from meadowlark.train.tokenizer import BEGIN, save_tokenizer
from meadowlark.train.trained import read_json

PIECES = "tokenizer.model"
TOKEN_FIELDS = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
SAMPLES = (
    Record("What does the liver do?", "", "It makes bile, among much else."),
    Record("Sum up the note.", "Seen today: a cough for 3 days,\nno fever.", "A short cough."),
    Record(
        "And at night?",
        "",
        "Call the on-call doctor.",
        (Turn("user", "Whom do I ask by day?"), Turn("assistant", "Your own doctor.")),
    ),
    Record("Ist das gefährlich? – 38,5 °C", "", "Fever; α and β waves, 中文, 🙂."),
    Record("Hello?", "", "Hello.", (Turn("system", "Answer in one sentence."),)),
)
"""Conversations in every form: with input, with earlier turns, beyond ASCII, with a system text."""


def save_served_tokenizer(tokenizer: Any, folder: Path, pieces: Path | None = None) -> None:
    """Write tokenizer and chat template so that every server renders and tokenises alike.

    ``pieces`` is the base's SentencePiece file, where it has one: llama.cpp takes scores from it,
    which tokenizer.json has not, and splits words wrongly without.

    What the tokenizer adds to text by itself stays as its base had it, though a chat template
    writes its own BOS: servers know not to add another, and llama.cpp recognises a tokenizer by
    what it adds (without its BOS, LLaMA 3's is taken for another and some words split wrongly).
    Only where training had no BOS at all is a SentencePiece-like tokenizer told to add none, since
    llama.cpp would open every prompt with one.
    """
    save_tokenizer(tokenizer, folder)
    path = folder / "tokenizer_config.json"
    config = read_json(path)
    config["chat_template"] = tokenizer.chat_template  # transformers below 4.51 reads no file
    config["model_input_names"] = ["input_ids", "attention_mask"]  # 4 would add token_type_ids
    extra = config.pop("extra_special_tokens", None)  # in 5 a list, in 4 a dictionary or nothing
    if isinstance(extra, dict):
        extra = list(extra.values())
    if extra:
        config["additional_special_tokens"] = extra
    if config.get("add_prefix_space", False) is None:
        del config["add_prefix_space"]
    if pieces is not None:
        shutil.copyfile(pieces, folder / PIECES)
        # What was added to those pieces: llama.cpp looks for it here, transformers 5 writes none.
        config["added_tokens_decoder"] = {
            str(number): {name: getattr(token, name) for name in TOKEN_FIELDS}
            for number, token in sorted(tokenizer.added_tokens_decoder.items())
        }
    if falls_back_to_bytes(folder) and writes_bos(tokenizer) and not _spaces_after_bos(tokenizer):
        config["add_prefix_space"] = False  # llama.cpp would put a space behind each special token
    if (folder / "tokenizer.json").exists():
        # A model's own class rebuilds parts of tokenizer.json by rules that differ by version.
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if adds_bos(tokenizer) and not writes_bos(tokenizer) and falls_back_to_bytes(folder):
        config["add_bos_token"] = False
        _add_nothing(folder / "tokenizer.json")
    _write_json(path, config)


def adds_bos(tokenizer: Any) -> bool:
    """Whether the tokenizer puts a BOS before text that no template rendered."""
    return tokenizer.bos_token_id in tokenizer("a")["input_ids"][:1]


def writes_bos(tokenizer: Any) -> bool:
    """Whether the chat template opens a prompt with BOS."""
    turns = [{"role": "user", "content": "a"}]
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    return bool(tokenizer.bos_token) and text.startswith(tokenizer.bos_token)


def _spaces_after_bos(tokenizer: Any) -> bool:
    """Whether text behind a BOS is read as if a space stood before it, as SentencePiece has it."""
    ids = tokenizer(f"{tokenizer.bos_token}a", add_special_tokens=False)["input_ids"]
    return bool(tokenizer.convert_ids_to_tokens(ids)[1].startswith("▁"))


def falls_back_to_bytes(folder: Path) -> bool:
    """Whether this is a tokenizer of SentencePiece's kind, as LLaMA 1 and 2 and Mistral have."""
    path = folder / "tokenizer.json"
    return path.exists() and bool(read_json(path).get("model", {}).get("byte_fallback"))


def _add_nothing(path: Path) -> None:
    """Take the special tokens out of the post-processor in a tokenizer.json."""
    values = read_json(path)
    processor = values.get("post_processor") or {}
    for part in (processor, *processor.get("processors", ())):
        if part.get("type") == "TemplateProcessing":
            for form in ("single", "pair"):
                part[form] = [piece for piece in part[form] if "SpecialToken" not in piece]
            part["special_tokens"] = {}
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_served_config(config: PretrainedConfig, tokenizer: Any, dtype: str, folder: Path) -> None:
    """Write config.json: cache on, the type the weights are in, the tokenizer's special tokens.

    ``torch_dtype``, ``rope_theta`` and ``rope_scaling`` say once more what transformers 4 does not
    find under ``dtype`` and ``rope_parameters``.
    """
    values = json.loads(config.to_json_string(use_diff=True))
    values.pop("_name_or_path", None)
    values["use_cache"] = True
    values["dtype"] = values["torch_dtype"] = dtype
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if getattr(tokenizer, name) is not None:
            values[name] = getattr(tokenizer, name)
    rope = values.get("rope_parameters") or {}
    if "rope_theta" in rope:
        values["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            values["rope_scaling"] = {k: v for k, v in rope.items() if k != "rope_theta"}
    _write_json(folder / "config.json", values)


def end_tokens(tokenizer: Any, held: GenerationConfig | None) -> list[int]:
    """Every token that ends an answer, the trained one first, then those the base ended with."""
    named = getattr(held, "eos_token_id", None)
    others = named if isinstance(named, list | tuple) else [named]
    return list(dict.fromkeys(i for i in (tokenizer.eos_token_id, *others) if i is not None))


def save_served_generation(tokenizer: Any, ends: Sequence[int], folder: Path) -> None:
    """Write generation_config.json: where an answer ends, and greedy decoding.

    Sampling values of the base are left out: they were chosen for another model, and together
    with greedy decoding transformers refuses to save them. No bound on an answer's length either,
    since vLLM would take it as the most that any request may ask for.
    """
    pad = tokenizer.pad_token_id
    config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else list(ends),
        pad_token_id=ends[0] if pad is None else pad,
        do_sample=False,
    )
    config.save_pretrained(folder)


def _write_json(path: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8")


# --------------------------------------------------------------------------- the proof


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found equal: so many sample conversations and tokens, with so many BOS each.

    ``adds_bos`` says that the packaged tokenizer would add one more to text not known to be
    rendered. ``prompt`` is the first sample's rendered prompt. ``refused`` counts the forms that
    the template itself does not take (a system message, for some).
    """

    conversations: int
    tokens: int
    bos: int
    adds_bos: bool
    refused: int
    prompt: str


def prove_rendering(
    trained: Any, folder: Path, ends: Sequence[int], template: PromptTemplate | None
) -> Proof:
    """Render :data:`SAMPLES` through the packaged folder and compare with training, by tokens.

    ``trained`` is the tokenizer that training used, through training's own encoder. The packaged
    prompt must have the same ids when its tokenizer applies the template, as servers do, and when
    the rendered text is tokenised afterwards; it must open with one BOS or none; answers must have
    the same ids and end with one of ``ends``; ``template``, where given, must write the same text.
    Raises MeadowlarkError for any difference: such a folder would not be the trained model.
    """
    served: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    encoder = Encoder(trained, max_length=1 << 20)
    tokens = refused = 0
    shown: list[tuple[str, int]] = []
    for record in SAMPLES:
        examples, rejected = encoder.encode([record])
        if rejected:
            refused += 1
            continue
        ids = examples[0].input_ids.tolist()
        first = examples[0].first_supervised
        turns = [turn._asdict() for turn in messages(record)]
        text = served.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        sent = served.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        _equal("a prompt as a server renders it", list(sent), ids[:first], served)
        again = served(text, add_special_tokens=False)["input_ids"]
        _equal("a rendered prompt tokenised afterwards", again, ids[:first], served)
        answer = served.decode(ids[first:], skip_special_tokens=True)
        if answer.strip() != record.output.strip():
            raise MeadowlarkError(f"the answer {record.output!r} comes back as {answer!r}")
        if ids[-1] not in ends:
            raise MeadowlarkError(f"training ended answers with token {ids[-1]}, not one of {ends}")
        if template is not None:
            bos = served.bos_token or ""
            written = template.render(messages(record), bos=bos, eos=served.eos_token)
            if text not in (written, written.removeprefix(bos)):
                raise MeadowlarkError(
                    f"the chat template writes {text!r} where {template.name} is {written!r}"
                )
        tokens += len(ids)
        shown.append((text, ids[:first].count(served.bos_token_id)))
    if not shown:
        raise MeadowlarkError("the chat template takes none of the sample conversations")
    counts = {bos for _, bos in shown}
    if counts not in ({0}, {1}) and served.bos_token != served.eos_token:
        raise MeadowlarkError(f"prompts open with {counts} begin tokens; expected one, or none")
    text, bos_tokens = shown[0]
    return Proof(len(shown), tokens, bos_tokens, adds_bos(served), refused, text)


def _equal(what: str, found: list[int], expected: list[int], tokenizer: Any) -> None:
    if found == expected:
        return
    place = next(
        (i for i, pair in enumerate(zip(found, expected, strict=False)) if pair[0] != pair[1]),
        min(len(found), len(expected)),
    )
    had, wanted = (tokenizer.decode(ids[place : place + 8]) for ids in (found, expected))
    raise MeadowlarkError(
        f"{what} differs from training at token {place}: {had!r} where training had {wanted!r}. "
        "This package would not be served as it was trained"
    )


# --------------------------------------------------------------------------- llama.cpp, Ollama


def not_for_llama_cpp(tokenizer: Any, folder: Path) -> str:
    """Why llama.cpp's converter cannot take a packaged folder as it is; empty where it can."""
    if falls_back_to_bytes(folder) and not (folder / PIECES).exists():
        return (
            f"the base's {PIECES} was not on the machine that packaged this. Put it into this "
            "folder first: without it words are split wrongly, and nothing says so"
        )
    if tokenizer.bos_token == BEGIN:
        return (
            "its converter knows tokenizers like this one by a list of published ones, and one "
            "that was learned from the training rows is not among them"
        )
    return ""


def modelfile(template: PromptTemplate, tokenizer: Any, proof: Proof, ends: Sequence[int]) -> str:
    """A Modelfile for Ollama beside a ``model.gguf``: the template, the end, greedy answers.

    Ollama reads no Jinja template; left alone it takes whichever of its own resembles it most. It
    does add the BOS that the tokenizer adds, so the template here writes one only where that does
    not.
    """
    opens = tokenizer.bos_token if proof.bos and not proof.adds_bos else ""
    written = template.go_template(bos=opens, eos=tokenizer.eos_token)
    stops = [tokenizer.convert_ids_to_tokens(end) for end in ends]
    return "\n".join(
        [
            "# For Ollama of March 2025 or later, beside the model.gguf that README.md says how to"
            " make.",
            "# Research use only: not for decisions about anybody's care.",
            "FROM ./model.gguf",
            f'TEMPLATE """{written}"""',
            *(f'PARAMETER stop "{stop}"' for stop in stops),
            "PARAMETER temperature 0",
            "",
        ]
    )
