"""``package``: a checkpoint becomes a folder that any server loads, with a model card.

In comes a folder that ``train`` finished, or one in the Hugging Face layout from elsewhere; out
goes the whole model or the adapter as safetensors, configuration and tokenizer that transformers 4
and 5, vLLM and llama.cpp read alike, a Modelfile for Ollama, README.md and the manifest. No file of
it names a path of this machine, for the folder is made to leave it.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from huggingface_hub import ModelCard, try_to_load_from_cache
from transformers import AutoConfig, GenerationConfig
from transformers.utils import logging as transformers_logging

from meadowlark.dataset import MANIFEST, Manifest, Run, open_run, read_manifest
from meadowlark.errors import MeadowlarkError, UserError
from meadowlark.llm.prompter import open_prompter
from meadowlark.records import Score, from_dict
from meadowlark.templates import TEMPLATES, PromptTemplate, load_template
from meadowlark.train import served, weights
from meadowlark.train.ancestry import Ancestry, ancestry, is_about, made_by, made_of
from meadowlark.train.card import Contents, Evaluated, licences, model_card
from meadowlark.train.options import Dtype
from meadowlark.train.tokenizer import BEGIN, load_tokenizer
from meadowlark.train.trained import ADAPTER_CONFIG, Trained, hub_id, read_trained

UNFINISHED = "unfinished"
BASES_OWN = "the base model's own"
Form = Literal["full", "merged", "adapter"]
TERMS = ("LICENSE", "LICENCE", "NOTICE", "USE_POLICY")
ADAPTER_KEYS = (
    *("peft_type", "task_type", "inference_mode", "r", "lora_alpha", "lora_dropout"),
    *("target_modules", "modules_to_save", "bias", "fan_in_fan_out", "use_rslora", "use_dora"),
)
"""What every version of peft and vLLM knows of an adapter's configuration; other keys are written
only where they say something."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be made: ``form``, ``dtype`` and why that one, ``base`` (the place of the weights
    to merge into, None without a merge) and ``base_name`` (the hub id to call it by, if given)."""

    form: Form
    dtype: str
    why_dtype: str
    base: str | None
    base_name: str | None


def package(
    checkpoint: Path,
    out: Path,
    *,
    merge: bool = False,
    dtype: str | None = None,
    base: str | None = None,
    base_name: str | None = None,
    template: str | None = None,
    scores: Sequence[Path] = (),
    licence: str | None = None,
    languages: Sequence[str] = ("en",),
    force: bool = False,
) -> Run:
    """Package ``checkpoint`` into ``out``.

    ``merge`` puts an adapter into its base; ``base`` says where that is now, ``base_name`` what its
    hub id is. ``dtype`` is what the weights are stored in; :func:`serving_dtype` chooses. A folder
    that train did not make may need ``template``. ``scores`` are evaluation folders for the card,
    ``licence`` and ``languages`` what it is to name. Raises UserError for what cannot be packaged,
    MeadowlarkError where the package would not be served as it was trained.
    """
    trained = read_trained(checkpoint)
    _check(trained, out, merge, dtype, base, base_name, template)
    plan = _plan(trained, merge, dtype, base, base_name)
    inputs = {"checkpoint": checkpoint}
    if plan.base is not None and Path(plan.base).is_dir():
        inputs["base"] = Path(plan.base)
    if template is not None and Path(template).is_file():
        inputs["template"] = Path(template)
    inputs |= {f"scores {number}": path for number, path in enumerate(scores, start=1)}
    run = open_run(
        "package",
        out,
        options={
            "merge": merge,
            "dtype": plan.dtype,
            "base": None if "base" in inputs else plan.base,
            "base_name": plan.base_name,
            "template": Path(template).name if template and "template" in inputs else template,
            "licence": licence,
            "languages": list(languages),
        },
        inputs=inputs,
        force=force,
    )
    if run.complete:
        return run
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with run, _workshop(out) as work:
        _check_base(trained, run.manifest)
        evaluated = _evaluated(scores, run.manifest)
        _forget_paths(run.manifest)
        tokenizer, template_from = _tokenizer(trained, template, plan.base)
        ours = _our_template(trained, tokenizer, template)
        if ours is not None and template_from == BASES_OWN:
            template_from = f"{ours.name}, which the base model brought"
        how, ends = _write_weights(trained, plan, tokenizer, work)
        served.save_served_tokenizer(tokenizer, work, _pieces(trained, plan.base))
        served.save_served_generation(tokenizer, ends, work)
        proof = served.prove_rendering(tokenizer, work, ends, ours)
        is_learned = tokenizer.bos_token == BEGIN  # llama.cpp cannot make a model.gguf of it
        if ours is not None and plan.form != "adapter" and not is_learned:
            text = served.modelfile(ours, tokenizer, proof, ends)
            (work / "Modelfile").write_text(text, encoding="utf-8")
        _copy_terms(trained, plan.base, work)
        past = ancestry(trained.manifest) if trained.manifest else Ancestry((), ())
        base_id = plan.base_name or hub_id(plan.base or "") or trained.base_id
        contents = Contents(
            name=out.resolve().name,
            form=plan.form,
            dtype=plan.dtype,
            why_dtype=plan.why_dtype,
            trained=trained,
            sha256=run.manifest.inputs["checkpoint"]["sha256"],
            base=base_id,
            base_licence=_base_licence(trained, plan.base, past),
            template=template_from,
            proof=proof,
            ends=tuple(tokenizer.convert_ids_to_tokens(end) for end in ends),
            bos=tokenizer.bos_token or "",
            has_modelfile=(work / "Modelfile").exists(),
            not_for_llama_cpp=served.not_for_llama_cpp(tokenizer, work),
            ancestry=past,
            made_of=made_of(trained.manifest) if trained.manifest else {},
            evaluated=evaluated,
            licence=licence,
            languages=tuple(languages),
            warnings=tuple(_warnings(trained, plan.form, base_id)),
        )
        (work / "README.md").write_text(model_card(contents), encoding="utf-8")
        run.manifest.warnings += contents.warnings
        run.manifest.licences = licences(contents)
        _into_place(run, work)
        run.finish(
            form=plan.form,
            dtype=plan.dtype,
            dtype_because=plan.why_dtype,
            weights=how,
            template=template_from,
            begin_tokens=proof.bos,
            end_tokens=list(contents.ends),
            proved_conversations=proof.conversations,
            proved_tokens=proof.tokens,
        )
    return run


# --------------------------------------------------------------------------- what is asked


def _check(
    trained: Trained,
    out: Path,
    merge: bool,
    dtype: str | None,
    base: str | None,
    base_name: str | None,
    template: str | None,
) -> None:
    """Refuse what cannot go together, before anything is hashed or written."""
    folder, place = trained.folder.resolve(), out.resolve()
    if place == folder or folder in place.parents or place in folder.parents:
        raise UserError(f"--out {out} and the checkpoint {trained.folder} hold each other")
    if merge and base and place in (Path(base).resolve(), *Path(base).resolve().parents):
        raise UserError(f"--out {out} holds the base {base}")
    if dtype is not None and dtype not in get_args(Dtype):
        raise UserError(f"--dtype {dtype!r}: expected {', '.join(get_args(Dtype))}")
    if merge and not trained.is_adapter:
        raise UserError(
            f"--merge is for adapters: {trained.folder} holds full weights; leave it out"
        )
    if base is not None and not trained.is_adapter:
        raise UserError(f"--base is for adapters: {trained.folder} holds full weights")
    if base is not None and not merge and not hub_id(base):
        raise UserError(
            f"--base {base} is the place of weights to merge into: add --merge. To name the base "
            "of an adapter give --base-name ORG/NAME"
        )
    if base_name is not None and not hub_id(base_name):
        raise UserError(f"--base-name {base_name!r} is no hub id; expected ORG/NAME")
    if template is not None and trained.manifest is not None:
        raise UserError(
            f"{trained.folder} brings the template it was trained with; --template is for folders "
            "that train did not make"
        )


def _plan(
    trained: Trained, merge: bool, dtype: str | None, base: str | None, base_name: str | None
) -> Plan:
    form: Form = "merged" if merge else "adapter" if trained.is_adapter else "full"
    chosen, why = (dtype, "as asked") if dtype else serving_dtype(trained, form)
    if not merge:  # then a base that was given is a hub id: _check saw to that
        return Plan(form, chosen, why, None, base_name or base)
    return Plan(form, chosen, why, _base_place(trained, base), base_name)


def _base_place(trained: Trained, base: str | None) -> str:
    """Where the base's weights are: as given, else as the adapter says."""
    place = base or trained.base
    if not place:
        raise UserError(f"{trained.folder} names no base to merge into; give --base FOLDER_OR_ID")
    local = base is None and trained.manifest is not None and "base" in trained.manifest.inputs
    if not Path(place).is_dir() and not hub_id(place, local=local):
        raise UserError(
            f"the base {place} is not there (any more); say where its weights are: "
            "--base FOLDER_OR_ID"
        )
    return place


def _check_base(trained: Trained, asked: Manifest) -> None:
    """Refuse to merge into a folder that is not the base the adapter was trained on."""
    recorded = (trained.manifest.inputs if trained.manifest else {}).get("base", {}).get("sha256")
    given = asked.inputs.get("base")
    if given is None:
        return
    if recorded and recorded != given["sha256"]:
        raise UserError(
            f"{given['path']} is not the base that {trained.folder} was trained on: its content "
            "differs from what the training's manifest holds"
        )


def serving_dtype(trained: Trained, form: Form) -> tuple[str, str]:
    """The type to store weights in where nobody asked for one, and why."""
    stored = weights.stored_dtype(trained)
    if form == "adapter":
        kept = stored if stored in get_args(Dtype) else "float32"
        return kept, "as trained, since an adapter is small and takes its base's precision"
    if trained.known is not None and trained.known.precision in get_args(Dtype):
        return trained.known.precision, "as its published answers were made"
    if trained.manifest is None and form == "full" and stored in get_args(Dtype):
        return stored, "as it came"
    if trained.config.get("run.precision") == "float16":
        return "float16", "the arithmetic that it was trained with"
    return "bfloat16", (
        "half the memory of float32 with the same range, so that nothing overflows, where servers "
        "would cast float32 weights to float16 unasked"
    )


# --------------------------------------------------------------------------- what is written


def _tokenizer(trained: Trained, template: str | None, base: str | None) -> tuple[Any, str]:
    """The tokenizer that the model was trained with, and where its template comes from."""
    if trained.manifest is not None:
        named = trained.config.get("data.template")
        if named and named not in TEMPLATES:
            named = Path(named).name
        return load_tokenizer(trained.folder, None), named or BASES_OWN
    place = str(trained.folder)
    if trained.is_adapter:
        place = f"{base or trained.base}+{place}"
    prompter = open_prompter(place, template)
    if prompter.tokenizer.eos_token_id is None:
        raise UserError(f"{trained.folder}: its tokenizer has no end token, so no answer could end")
    words = prompter.template_from.removeprefix("--template ")
    return prompter.tokenizer, Path(words).name if Path(words).is_file() else words


def _pieces(trained: Trained, base: str | None) -> Path | None:
    """The SentencePiece file of a checkpoint, or of its base where that lies on this machine."""
    for place in (str(trained.folder), base, trained.base):
        if not place:
            continue
        path = Path(place) / served.PIECES
        if path.is_file():
            return path
        found = try_to_load_from_cache(place, served.PIECES) if hub_id(place) == place else None
        if isinstance(found, str):
            return Path(found)
    return None


def _our_template(trained: Trained, tokenizer: Any, template: str | None) -> PromptTemplate | None:
    """What the tokenizer holds in Jinja as a template of ours, where it is one that is here."""
    named = str(template or trained.config.get("data.template") or "")
    if not named and trained.known is not None:
        named = trained.known.template
    if named in TEMPLATES:
        return TEMPLATES[named]
    if named.endswith(".toml") and Path(named).is_file():
        found = load_template(named)
        return found if found.chat_template() == tokenizer.chat_template else None
    same = [t for t in TEMPLATES.values() if t.chat_template() == tokenizer.chat_template]
    return same[0] if same else None


def _write_weights(
    trained: Trained, plan: Plan, tokenizer: Any, work: Path
) -> tuple[str, list[int]]:
    """The weights with their config.json or adapter_config.json.

    Returns how they came there, and the tokens that end an answer.
    """
    folder, dtype = trained.folder, plan.dtype
    stored = weights.stored_dtype(trained)
    if plan.form == "adapter":
        _write_adapter_config(trained, plan.base_name or trained.base_id, work)
        if stored in (dtype, "mixed"):
            return weights.place_weights(trained, work), served.end_tokens(tokenizer, None)
        weights.convert_adapter(trained, dtype, work)
        return f"converted to {dtype}", served.end_tokens(tokenizer, None)
    if plan.form == "full" and stored == dtype:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        has_own = (folder / "generation_config.json").exists()
        held = GenerationConfig.from_pretrained(folder) if has_own else None
        how = weights.place_weights(trained, work)
    else:
        if plan.base is not None:
            model, how = weights.merge(plan.base, folder, dtype), "merged in float32"
        else:
            model, how = weights.load(folder, dtype), f"converted to {dtype}"
        config, held = model.config, model.generation_config
        weights.save(model, dtype, work)
    _check_vocabulary(config, tokenizer)
    served.save_served_config(config, tokenizer, dtype, work)
    return how, served.end_tokens(tokenizer, held)


def _check_vocabulary(config: Any, tokenizer: Any) -> None:
    rows = getattr(config, "vocab_size", None)
    if rows is not None and len(tokenizer) > rows:
        raise UserError(f"the tokenizer has {len(tokenizer):,} tokens, the model embeds {rows:,}")


def _write_adapter_config(trained: Trained, base_id: str, work: Path) -> None:
    """adapter_config.json without this machine's paths or one version's defaults.

    A base without a hub id is not named at all: a path would be wrong elsewhere, and a bare name
    would be looked up on the hub.
    """
    held = trained.adapter_config
    telling = _telling(held)
    values = {
        key: value
        for key, value in held.items()
        if key in ADAPTER_KEYS or (key in telling and value not in (None, False, {}, []))
    }
    modules = held.get("target_modules")
    # peft keeps the names as a set, whose order changes from process to process.
    values["target_modules"] = sorted(modules) if isinstance(modules, list) else modules
    values["base_model_name_or_path"] = base_id or None
    text = json.dumps(values, indent=2, ensure_ascii=False, sort_keys=True)
    (work / ADAPTER_CONFIG).write_text(text + "\n", encoding="utf-8")


def _telling(held: dict[str, Any]) -> set[str]:
    """The keys of an adapter's configuration whose values are not peft's defaults."""
    from peft import LoraConfig

    usual = LoraConfig().to_dict()  # type: ignore[no-untyped-call]
    return {key for key, value in held.items() if key not in usual or usual[key] != value}


def _copy_terms(trained: Trained, base: str | None, work: Path) -> None:
    """Licence texts that lie beside the weights have to go with them."""
    for place in (trained.folder, Path(base or trained.base or ".")):
        named = place != Path(".") and place.is_dir()
        for path in sorted(place.iterdir()) if named else ():
            if path.is_file() and path.stem.upper() in TERMS and not (work / path.name).exists():
                shutil.copyfile(path, work / path.name)


@contextmanager
def _workshop(out: Path) -> Iterator[Path]:
    """A folder in ``out`` to make everything in. Where that fails nothing of it stays, so that it
    is not in the way of the corrected command."""
    work = out / UNFINISHED
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        yield work
    except MeadowlarkError:
        shutil.rmtree(work)
        raise


def _into_place(run: Run, work: Path) -> None:
    """Move the finished files to where they belong, readable by whoever serves them."""
    mode = (work / "tokenizer_config.json").stat().st_mode
    for path in sorted(work.iterdir()):
        if path.stat().st_nlink == 1:  # a linked file's mode is its checkpoint's too
            path.chmod(mode)
        path.replace(run.folder / path.name)
        run.wrote(path.name)
    work.rmdir()


def _forget_paths(manifest: Manifest) -> None:
    """Leave the names of inputs, whose hashes say which they were, and of paths in the command."""
    for given in manifest.inputs.values():
        given["path"] = Path(given["path"]).resolve().name
    words = []
    for word in shlex.split(manifest.command):
        option, equals, value = word.rpartition("=")  # --base=FOLDER
        words.append(option + equals + (Path(value).name if Path(value).is_absolute() else value))
    manifest.command = shlex.join(words)


# --------------------------------------------------------------------------- what the card says


def _evaluated(folders: Sequence[Path], manifest: Manifest) -> tuple[Evaluated, ...]:
    """The scores in evaluation folders, and whether they rest on this very checkpoint."""
    checkpoint = manifest.inputs["checkpoint"]["sha256"]
    found = []
    for number, folder in enumerate(folders, start=1):
        path = folder / "scores.json"
        if not path.exists():
            raise UserError(f"--scores {folder}: no scores.json there; give the folder of an exam")
        try:
            known = Score.__slots__
            rows = json.loads(path.read_text(encoding="utf-8"))
            scores = [from_dict({k: v for k, v in r.items() if k in known}, Score) for r in rows]
        except (json.JSONDecodeError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is no list of scores: {error}") from None
        sha256 = manifest.inputs[f"scores {number}"]["sha256"]
        proved = (folder / MANIFEST).exists() and is_about(read_manifest(folder), checkpoint)
        found.append(Evaluated(folder.resolve().name, sha256, proved, tuple(scores)))
        if not proved:
            manifest.warnings.append(
                f"the scores in {folder.name} are not shown by their manifests to be about this "
                "checkpoint; the card says so"
            )
    return tuple(found)


def _base_licence(trained: Trained, base: str | None, past: Ancestry) -> str | None:
    """The licence that the base's card names; empty where unknown, None where there is no base.

    A base that we trained from nothing has no terms but those of its rows, which are counted in.
    """
    if trained.known is not None and trained.known.licence != "see hub page":
        return trained.known.licence.lower().replace(" ", "-")
    if trained.manifest is None:
        return ""
    named = trained.config.get("model.base")
    if not named:
        return None
    place = Path(base or named)
    card = place / "README.md"
    if card.exists():
        data = ModelCard.load(card, ignore_metadata_errors=True).data
        return str(data.get("license") or "")
    given = trained.manifest.inputs.get("base", {})
    folder = made_by(Path(str(given.get("path", ""))), str(given.get("sha256", "")))
    trainings = [run.manifest for run in past.runs if run.manifest.stage == "train"]
    roots = [m for m in trainings if m.options.get("model.base") is None]
    return None if folder is not None and roots else ""


def _warnings(trained: Trained, form: Form, base: str) -> list[str]:
    found = []
    if trained.quantised:
        words = {"int8": "8 bits (LLM.int8)", "nf4": "4 bits (NF4)"}[trained.quantised]
        found.append(
            f"The adapter was trained on its base held in {words}; "
            + (
                "here it is merged into the unquantised base. The weights it was fitted to differ "
                "from these by the rounding, so answers may differ a little from training's"
                if form == "merged"
                else "on the unquantised base answers may differ a little from training's"
            )
        )
    if form == "adapter" and not base:
        found.append(
            "The base was a local folder without a hub id, so adapter_config.json names none: "
            "whoever loads the adapter has to give it (--base-name ORG/NAME would name it)"
        )
    if form == "adapter" and trained.config.get("model.added_tokens"):
        found.append(
            "Tokens were added: the base's embeddings must be resized before the adapter is put "
            "on, which servers do not do. Package it with --merge for them"
        )
    return found
