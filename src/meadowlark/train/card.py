"""The model card of a package: what the model is, was made of, can and must not be used for.

In comes :class:`Contents`, what the package holds and what its manifests say; out comes README.md
in the hub's format, YAML front matter first. The warning stands before everything else, nothing is
claimed that no manifest holds, and no path of this machine is named.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from meadowlark import __version__
from meadowlark.dataset import Manifest
from meadowlark.licences import combine, hub_licence, is_non_commercial
from meadowlark.records import Score
from meadowlark.templates import INPUT_MARKER
from meadowlark.train.ancestry import Ancestry
from meadowlark.train.served import Proof
from meadowlark.train.trained import Trained

WARNING = (
    "> **Research use only.** This model is not a medical device and was not made to be one. No "
    "answer of it was reviewed by a clinician. It states false things fluently. Do not use it for "
    "decisions about anybody's care: not to diagnose, to treat, to triage, to dose, or to advise "
    "a patient."
)
SMALL = 100_000_000
"""Models from nothing below so many parameters get a sentence on what not to expect."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The scores of one evaluation folder; ``proved`` says that its manifests lead to the very
    weights that were packaged."""

    name: str
    sha256: str
    proved: bool
    scores: tuple[Score, ...]


@dataclass(frozen=True, slots=True)
class Contents:
    """What a package holds, for its card.

    ``form`` is ``full``, ``merged`` or ``adapter``; ``base`` a hub id or empty; ``base_licence``
    as its own card names it, empty where that is not known and None where there is no base.
    ``made_of`` counts training rows by (source, licence). ``ends`` are the end tokens' texts.
    ``not_for_llama_cpp`` is the reason, where there is one.
    """

    name: str
    form: str
    dtype: str
    why_dtype: str
    trained: Trained
    sha256: str
    base: str
    base_licence: str | None
    template: str
    proof: Proof
    ends: tuple[str, ...]
    bos: str
    has_modelfile: bool
    not_for_llama_cpp: str
    ancestry: Ancestry
    made_of: dict[tuple[str, str], int]
    evaluated: tuple[Evaluated, ...]
    licence: str | None
    languages: tuple[str, ...]
    warnings: tuple[str, ...]


def model_card(contents: Contents) -> str:
    """README.md, as text."""
    sections = [
        f"# {contents.name}",
        WARNING,
        _summary(contents),
        *(f"**Note.** {warning}." for warning in contents.warnings),
        _use(contents),
        _prompt(contents),
        _data(contents),
        _training(contents),
        _results(contents),
        _licence(contents),
        _limits(contents),
        _provenance(contents),
    ]
    front = f"---\n{_front_matter(contents).to_yaml(line_break=chr(10))}\n---\n"
    return front + "\n\n".join(section for section in sections if section) + "\n"


# --------------------------------------------------------------------------- front matter


def _front_matter(contents: Contents) -> ModelCardData:
    licence, licence_name = hub_licence_of(contents)
    adapter = contents.form == "adapter"
    tags = ["medical", "meadowlark", "instruction-tuned", "research-use-only"]
    if is_non_commercial(licences(contents)):
        tags.append("non-commercial")
    if adapter:
        tags.append("lora")
    extra: dict[str, Any] = {}
    if contents.base:
        extra["base_model_relation"] = "adapter" if adapter else "finetune"
    return ModelCardData(
        license=licence,
        license_name=licence_name or None,
        license_link="README.md" if licence_name else None,
        language=list(contents.languages),
        library_name="peft" if adapter else "transformers",
        pipeline_tag="text-generation",
        base_model=contents.base or None,
        datasets=_hub_datasets(contents.ancestry) or None,
        tags=tags,
        **extra,
    )


def hub_licence_of(contents: Contents) -> tuple[str, str]:
    """``license`` and ``license_name`` for the hub: what was said, else what the manifests hold.

    With a base whose licence is another, or is not known, no identifier covers both.
    """
    if contents.licence:
        return contents.licence, ""
    identifier, name = hub_licence(licences(contents))
    if contents.base_licence in (None, identifier):
        return identifier, name
    if contents.trained.manifest is None and contents.base_licence:
        return contents.base_licence, ""
    return "other", name or ("mixed" if contents.base_licence else "unknown")


def licences(contents: Contents) -> dict[str, int]:
    """Rows by licence, of this training and of those of ours that it builds on."""
    found = dict(contents.trained.manifest.licences) if contents.trained.manifest else {}
    for licence, rows in contents.ancestry.licences().items():
        found[licence] = found.get(licence, 0) + rows
    return found


def _hub_datasets(ancestry: Ancestry) -> list[str]:
    return sorted({name for run in ancestry.runs for name in run.manifest.results.get("hub", ())})


# --------------------------------------------------------------------------- what it is


def _summary(contents: Contents) -> str:
    trained, config = contents.trained, contents.trained.config
    where = _base_words(contents)
    if trained.manifest is None:
        origin = (
            "Who trained this model, on what, is not known to the tool that packaged it: the "
            "folder came without the manifest of a Meadowlark training run."
        )
        if trained.known is not None:
            known = trained.known
            origin += (
                f" Its name is that of {known.name} ({known.family}, from {known.base}), and it is "
                f"prompted as that one was trained. {known.note}"
            )
    elif contents.base_licence is None and not config.get("model.base"):
        origin = "A small language model trained from nothing (random weights) with Meadowlark."
    else:
        how = "LoRA" if config.get("lora.rank") else "full fine-tuning"
        variants = [n for n in ("rslora", "dora") if config.get(f"lora.{n}")]
        if variants:
            how = " + ".join({"rslora": "rsLoRA", "dora": "DoRA"}[n] for n in variants)
        origin = f"{where}, fine-tuned with Meadowlark on medical instructions ({how})."
    form = {
        "full": "These are whole weights",
        "merged": "The adapter is merged into the weights of its base, computed in float32",
        "adapter": "This is the adapter alone: it needs the weights of its base",
    }[contents.form]
    return f"{origin.strip()} {form}. Stored in {contents.dtype}: {contents.why_dtype}."


def _base_words(contents: Contents) -> str:
    if contents.base:
        return f"[{contents.base}](https://huggingface.co/{contents.base})"
    if contents.trained.base:
        return f"A base model from a local folder named `{Path(contents.trained.base).name}`"
    return "A base model that is not named"


def _use(contents: Contents) -> str:
    blocks = ["## How to use it"]
    name = contents.name
    if contents.form == "adapter":
        base = contents.base or "FOLDER_OF_THE_BASE"
        blocks.append(_code("python", _PEFT.format(name=name, base=base, grow=_grow(contents))))
        if not contents.base:
            blocks.append(
                "The base was a local folder, which this package does not name. It has to be the "
                f"one with the SHA-256 below (see Provenance); `{name}` on another base is another "
                "model."
            )
        unsupported = _not_in_vllm(contents)
        if unsupported:
            blocks.append(
                f"vLLM, llama.cpp and `transformers serve` cannot serve this adapter "
                f"({unsupported}): package it with `--merge`."
            )
        else:
            rank = contents.trained.adapter_config.get("r", "RANK")
            blocks.append("vLLM, which takes template and tokenizer from here:")
            blocks.append(
                _code(
                    "sh",
                    f"vllm serve {base} --tokenizer {name} --chat-template "
                    f"{name}/chat_template.jinja \\\n    --enable-lora --max-lora-rank {rank} "
                    f"--lora-modules {name}={name}",
                )
            )
            blocks.append(
                "llama.cpp, Ollama and `transformers serve` take merged weights: package it with "
                "`--merge`."
            )
        return "\n\n".join(blocks)
    blocks.append(_code("python", _TRANSFORMERS.format(name=name)))
    blocks.append(
        "As a server with the OpenAI interface (vLLM samples unless asked for temperature 0):"
    )
    blocks.append(
        _code("sh", f"transformers serve {name}\nvllm serve {name} --dtype {contents.dtype}")
    )
    if contents.not_for_llama_cpp:
        blocks.append(f"llama.cpp and Ollama: {contents.not_for_llama_cpp}.")
        if not contents.has_modelfile:
            return "\n\n".join(blocks)
    blocks.append("llama.cpp, whose converter reads this folder:")
    convert = f"python convert_hf_to_gguf.py {name} --outfile {name}/model.gguf --outtype auto"
    blocks.append(_code("sh", f"{convert}\nllama-server --jinja -m {name}/model.gguf"))
    if contents.has_modelfile:
        blocks.append(
            "Ollama, after that conversion. It reads no Jinja, so `Modelfile` holds the same "
            "template in its own language:"
        )
        blocks.append(_code("sh", f"cd {name} && ollama create {name.lower()} -f Modelfile"))
    else:
        blocks.append(
            "Ollama reads no Jinja template and guesses one instead. This model's is not one that "
            "Meadowlark can translate: write a Modelfile with a TEMPLATE that renders the prompt "
            "below, or send rendered prompts with `raw`."
        )
    return "\n\n".join(blocks)


_TRANSFORMERS = """\
from transformers import AutoModelForCausalLM, AutoTokenizer

name = "{name}"  # this folder, or its id on the hub
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, dtype="auto")
messages = [{{"role": "user", "content": "What does the liver do?"}}]
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
made = model.generate(**prompt, max_new_tokens=256)
print(tokenizer.decode(made[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))"""

_PEFT = """\
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

name, base = "{name}", "{base}"  # folders, or ids on the hub
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
{grow}model = PeftModel.from_pretrained(model, name)
messages = [{{"role": "user", "content": "What does the liver do?"}}]
prompt = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_dict=True, return_tensors="pt"
)
made = model.generate(**prompt, max_new_tokens=256, eos_token_id=tokenizer.eos_token_id)
print(tokenizer.decode(made[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True))"""


def _grow(contents: Contents) -> str:
    if not contents.trained.config.get("model.added_tokens"):
        return ""
    return "model.resize_token_embeddings(len(tokenizer))  # tokens were added\n"


def _not_in_vllm(contents: Contents) -> str:
    config = contents.trained.adapter_config
    found = {"use_dora": "DoRA", "modules_to_save": "trained embeddings"}
    return ", ".join(words for key, words in found.items() if config.get(key))


def _prompt(contents: Contents) -> str:
    proof = contents.proof
    opens = f"one `{contents.bos}`" if proof.bos else "no begin token"
    ends = " or ".join(f"`{end}`" for end in contents.ends)
    marker = json.dumps(INPUT_MARKER)
    lines = [
        "## The prompt",
        f"Template: {contents.template}. It is compiled into the tokenizer's chat template, which "
        f"opens a prompt with {opens}, as training did. {_bos_rule(contents)} An answer ends with "
        f"{ends}.",
        f"An instruction with an input is one message: the instruction, {marker} (as JSON), the "
        "input. The first proof sample renders as:",
        _code("text", proof.prompt),
    ]
    shown = f"{proof.conversations} sample conversations ({proof.tokens} tokens)"
    how = (
        f"When this was packaged, {shown} rendered and tokenised through these files gave token "
        "for token what "
    )
    how += "training encoded." if contents.trained.manifest else "the unpackaged folder gives."
    if proof.refused:
        how += f" The template itself takes {proof.refused} of the samples' forms not at all."
    return "\n\n".join([*lines, how])


def _bos_rule(contents: Contents) -> str:
    if contents.proof.bos and contents.proof.adds_bos:
        return (
            "The tokenizer adds the same token to any other text, so tokenise what the template "
            "rendered with `add_special_tokens=False`, as servers do: there must not be two."
        )
    if contents.proof.bos:
        return "The tokenizer itself adds none, so there are never two."
    if contents.proof.adds_bos:
        return (
            "The tokenizer adds one to any other text; tokenise what the template rendered with "
            "`add_special_tokens=False`. llama.cpp adds it all the same, which training did not "
            "have."
        )
    return "The tokenizer adds none either."


def _code(language: str, text: str) -> str:
    fence = "````" if "```" in text else "```"
    return f"{fence}{language}\n{text}\n{fence}"


# --------------------------------------------------------------------------- what it is made of


def _data(contents: Contents) -> str:
    manifest = contents.trained.manifest
    lines = ["## Training data"]
    if manifest is None:
        return "\n\n".join([*lines, "Not known: the folder came without a training manifest."])
    lines.append(
        f"{_counted(manifest)} {_rejected(manifest)} None of these rows is shipped here, and none "
        "was reviewed by a clinician for this model unless its source says so."
    )
    if contents.made_of:
        head = "| source | licence | rows |\n|---|---|---:|"
        rows = [
            f"| {_cell(source or 'not named')} | {_cell(licence or 'not stated')} | {count:,} |"
            for (source, licence), count in contents.made_of.items()
        ]
        lines.append("Rows given to training, before those above were rejected:")
        lines.append("\n".join([head, *rows]))
    elif manifest.licences:
        head = "| licence | rows |\n|---|---:|"
        rows = [f"| {_cell(k or 'not stated')} | {n:,} |" for k, n in manifest.licences.items()]
        lines.append("\n".join([head, *rows]))
        lines.append("The data set is not here any more, so its sources cannot be listed.")
    steps = _steps(contents.ancestry)
    if steps:
        lines += ["The runs behind it, nearest first:", steps]
    return "\n\n".join(lines)


def _counted(manifest: Manifest) -> str:
    rows = manifest.rows
    words = f"{rows.get('kept', 0):,} rows of {rows.get('in', 0):,} were learned from"
    if rows.get("validation"):
        words += f", {rows['validation']:,} more held out for validation"
    return words + "."


def _rejected(manifest: Manifest) -> str:
    rejected: dict[str, int] = manifest.rows.get("rejected", {})
    if not rejected:
        return "None was rejected."
    reasons = "; ".join(f"{reason} ({count:,})" for reason, count in rejected.items())
    return f"Rejected: {reasons}."


def _steps(ancestry: Ancestry) -> str:
    rows = []
    for run in ancestry.runs:
        of, what = run.manifest.rows, run.manifest.options
        rejected: dict[str, int] = of.get("rejected", {})
        why = "; ".join(f"{reason} ({n:,})" for reason, n in list(rejected.items())[:4])
        detail = what.get("source") or _portable(what.get("teacher") or "")
        cells = [
            run.manifest.stage,
            f"{run.name}{f' ({detail})' if detail else ''}",
            f"{of['kept']:,}" if "kept" in of else "",
            f"{sum(rejected.values()):,}{f': {why}' if why else ''}" if "rejected" in of else "",
            "; ".join(f"{k or 'not stated'} ({n:,})" for k, n in run.manifest.licences.items()),
        ]
        rows.append("| " + " | ".join(map(_cell, cells)) + " |")
    if not rows:
        return ""
    head = "| step | of | rows kept | rejected | licences |\n|---|---|---:|---|---|"
    return "\n".join([head, *rows])


def _training(contents: Contents) -> str:
    manifest, config = contents.trained.manifest, contents.trained.config
    if manifest is None:
        return ""
    found, environment = manifest.results, contents.trained.environment
    facts = [
        ("parameters", _number(found.get("parameters"))),
        ("of them trained", _number(found.get("trainable_parameters"))),
        ("optimiser steps", _number(found.get("steps"))),
        ("epochs", _number(found.get("epochs"))),
        ("tokens seen", _number(found.get("tokens_seen"))),
        ("processes", _number(found.get("processes"))),
        ("device", ", ".join(environment.get("gpus") or ()) or str(found.get("device") or "")),
        ("time", f"{manifest.seconds:,.0f} s" if manifest.seconds else ""),
        ("software", _software(environment, manifest)),
    ]
    table = ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in facts if value)]
    parts = ["## Training", "\n".join(table)]
    if config:
        parts += ["Every option, defaults included:", _code("toml", _options(config))]
    return "\n\n".join(parts)


def _software(environment: dict[str, Any], manifest: Manifest) -> str:
    versions = {"meadowlark": manifest.code_version, **environment.get("versions", {})}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _options(config: dict[str, Any]) -> str:
    return "\n".join(
        f"{key} = {json.dumps(_portable(value), ensure_ascii=False)}"
        for key, value in config.items()
    )


def _portable(value: Any) -> Any:
    """A value without a path of this machine: of an absolute one, its last part.

    Also in the specs of models, ``hf:BASE+ADAPTER``.
    """
    if not isinstance(value, str):
        return value
    scheme, colon, rest = value.partition(":")
    if colon and scheme in ("hf", "recorded"):
        return f"{scheme}:{_portable(rest)}"
    parts = value.split("+")
    return "+".join(Path(p).name if Path(p).is_absolute() or p[:1] == "~" else p for p in parts)


# --------------------------------------------------------------------------- what it achieves


def _results(contents: Contents) -> str:
    manifest = contents.trained.manifest
    lines = ["## Results"]
    found = manifest.results if manifest is not None else {}
    if "validation_loss_after" in found:
        rows = [
            ("loss, nats a token", "validation_loss"),
            ("bits a byte of the answers", "validation_bits_per_byte"),
        ]
        table = ["| held-out rows, answers only | before | after |", "|---|---:|---:|"]
        for words, key in rows:
            before, after = (_number(found.get(f"{key}_{when}")) for when in ("before", "after"))
            table.append(f"| {words} | {before} | {after} |")
        lines.append("\n".join(table))
        if "bigram_bits_per_byte" in found:
            lines.append(
                f"A bigram model of the same rows needs {_number(found['bigram_bits_per_byte'])} "
                "bits a byte. A lower loss says that answers of this kind became more likely, not "
                "that they are right."
            )
    for evaluated in contents.evaluated:
        proved = (
            "its manifests lead to the very checkpoint that was packaged, before any change of "
            "precision"
            if evaluated.proved
            else "its manifests do not show that it is about this checkpoint"
        )
        lines.append(f"Evaluation `{evaluated.name}` ({proved}):")
        table = [
            "| task | model | metric | value | 95 % interval | n | unreadable |",
            "|---|---|---|---:|---|---:|---:|",
        ]
        whole = [score for score in evaluated.scores if "/" not in score.task]  # no groups of one
        table += [_score(score) for score in whole or evaluated.scores]
        lines.append("\n".join(table))
    if len(lines) == 1:
        lines.append("None are known: nothing shows how good this model is.")
    elif not contents.evaluated:
        lines.append("No exam and no comparison of answers was given to the tool that packaged it.")
    return "\n\n".join(lines)


def _score(score: Score) -> str:
    bounds = ""
    if score.low is not None and score.high is not None:
        bounds = f"{score.low:.4g} to {score.high:.4g}"
    cells = [
        score.task,
        str(_portable(score.model)),
        score.metric,
        f"{score.value:.4g}",
        bounds,
        f"{score.n:,}",
        f"{score.n_unreadable:,}",
    ]
    return "| " + " | ".join(map(_cell, cells)) + " |"


# --------------------------------------------------------------------------- terms and limits


def _licence(contents: Contents) -> str:
    lines = ["## Licence"]
    found = licences(contents)
    if found:
        obligations, warnings = combine(found)
        lines.append(f"From the licences of the training rows: {obligations}.")
        lines += [f"- {warning}." for warning in warnings]
        if is_non_commercial(found):
            lines.append("**Not for commercial use**, because rows under such terms are in it.")
    else:
        lines.append("The licences of the training rows are not known.")
    if contents.base_licence == "":
        named = contents.base or "the base model"
        lines.append(
            f"The terms of {named} hold as well; they are not recorded here, so look them up."
        )
    elif contents.base_licence is not None:
        lines.append(f"The terms of the base model hold as well: `{contents.base_licence}`.")
    lines.append("This is a summary made from manifests, and no legal advice.")
    return "\n\n".join(lines)


def _limits(contents: Contents) -> str:
    config, manifest = contents.trained.config, contents.trained.manifest
    limits = [
        "Answers may be wrong, out of date, incomplete or harmful, in fluent and confident words.",
        "Nobody examined how answers differ by a patient's age, sex, origin or language.",
        "It has no knowledge of a particular patient, no sources, and no way to look anything up.",
        f"Language of its training data, as stated by whoever packaged it: "
        f"{', '.join(contents.languages)}. Other languages were not tried.",
    ]
    if config.get("data.max_length"):
        limits.append(
            f"Rows were at most {config['data.max_length']:,} tokens long; longer conversations "
            "are beyond what it was tuned on."
        )
    parameters = (manifest.results.get("parameters") or SMALL) if manifest else SMALL
    if manifest is not None and not config.get("model.base") and parameters < SMALL:
        limits.append(
            f"With {parameters:,} parameters trained from nothing it learned form more than "
            "content: expect words and sentences, not knowledge."
        )
    return "\n".join(["## Known limits", "", *(f"- {limit}" for limit in limits)])


def _provenance(contents: Contents) -> str:
    manifest = contents.trained.manifest
    rows = [("checkpoint that was packaged", contents.trained.folder.resolve().name)]
    hashes = [contents.sha256]
    if manifest is not None:
        for name, given in sorted(manifest.inputs.items()):
            rows.append((f"training input: {name}", Path(str(given.get("path", ""))).name))
            hashes.append(str(given.get("sha256", "")))
    for run in contents.ancestry.runs:
        rows.append((f"made by {run.manifest.stage}", run.name))
        hashes.append(run.sha256)
    known = set(hashes)
    for name, sha256 in contents.ancestry.outside:
        if sha256 not in known:
            rows.append(("file from outside", name))
            hashes.append(sha256)
    for evaluated in contents.evaluated:
        rows.append(("evaluation", evaluated.name))
        hashes.append(evaluated.sha256)
    table = ["| what | name | SHA-256 |", "|---|---|---|"]
    table += [
        f"| {_cell(what)} | {_cell(name)} | `{sha256}` |"
        for (what, name), sha256 in zip(rows, hashes, strict=True)
    ]
    last = f"Packaged by Meadowlark {__version__}; `manifest.json` has the hash of every file here."
    return "\n\n".join(["## Provenance", "\n".join(table), last])


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _cell(text: object) -> str:
    """Text that cannot end a table's cell."""
    return " ".join(str(text).replace("|", "\\|").split())
