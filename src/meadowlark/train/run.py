"""The training stage: rows and a TOML of options become a checkpoint that any server loads.

Into ``out`` go the model's files (or the adapter's), the tokenizer with the prompt template
compiled into it, ``train_log.jsonl``, the resolved ``config.toml``, ``environment.json``,
``plan.json`` (what was predicted beside what was measured), ``samples.jsonl`` where samples were
asked for, ``rejected.parquet`` and the manifest. A run that
was killed goes on from its last checkpoint and ends with the same weights. Several processes do the
work of one: the main one writes.
"""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers.utils import logging as transformers_logging

from meadowlark.dataset import FILE_OF, Run, code_version, open_run, refuse_test_only
from meadowlark.errors import UserError
from meadowlark.progress import console
from meadowlark.records import Record
from meadowlark.templates import TEMPLATES, load_template
from meadowlark.train import log, parallel, plan
from meadowlark.train.bigram import bigram_baseline
from meadowlark.train.data import encode_data, new_tokenizer, validation_path
from meadowlark.train.device import autocast_dtype, refuse_what_cannot_run
from meadowlark.train.devices import find_device
from meadowlark.train.encoded import Encoded
from meadowlark.train.kernels import compile_layers
from meadowlark.train.marked import marked
from meadowlark.train.model import (
    decoder_layers,
    load_base,
    load_model,
    new_llama,
    parameters,
    prepare,
    save_checkpoint,
)
from meadowlark.train.options import TrainOptions, to_toml
from meadowlark.train.pack import plan_steps
from meadowlark.train.plan import Plan
from meadowlark.train.samples import SAMPLES, Sampler
from meadowlark.train.shards import shard
from meadowlark.train.tokenizer import add_tokens, load_tokenizer
from meadowlark.train.trainer import CHECKPOINTS, PackedTrainer

INITIAL = "initial"
BIGRAM_TOKENS = 20_000_000
"""A bigram model of more tokens than this is counted on every n-th row."""
PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "bitsandbytes",
    "liger_kernel",
    "pyarrow",
)


def train(
    options: TrainOptions, out: Path, *, limit: int | None = None, force: bool = False
) -> Run:
    """Train as ``options`` say on their data and write the result to ``out``.

    ``limit`` reads only that many training and validation rows. Raises UserError for what cannot
    be loaded or trained; rows that cannot be used are rejected with a reason. Every process of a
    training calls it alike, and gets the run as it stood when it was opened.
    """
    parallel.join()
    run = parallel.on_main(
        lambda: open_run(
            "train",
            out,
            options={**options.compared(), "limit": limit},
            inputs=_inputs(options),
            seed=options.run.seed,
            growing=(),  # more rows or epochs change every step of the schedule
            force=force,
        )
    )
    if run.complete:
        if parallel.is_main():
            shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        return run
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    parallel.on_main(lambda: _refuse_test_only(options, limit))
    if options.run.threads:
        torch.set_num_threads(options.run.threads)
    with run if parallel.is_main() else nullcontext():
        _train(run, options, limit)
    parallel.barrier()
    if parallel.is_main():
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return run


def _train(run: Run, options: TrainOptions, limit: int | None) -> None:
    refuse_what_cannot_run(options)
    out, main = run.folder, parallel.is_main()
    model, tokenizer = _model(options, limit, out)
    examples, held_out = encode_data(options, tokenizer, limit)
    _account(run, options, examples, held_out)
    if main:
        (out / "config.toml").write_text(to_toml(options), encoding="utf-8")
        run.wrote("config.toml")
        run.write_json("environment.json", _environment())
        console.print(marked(examples[0], tokenizer, "first row"), soft_wrap=True)
    steps = plan_steps(
        examples.lengths.tolist(),
        seed=options.run.seed,
        epochs=options.optimiser.epochs,
        batch_rows=options.optimiser.batch_rows,
        batch_tokens=options.optimiser.batch_tokens,
        max_steps=options.optimiser.max_steps,
    )
    planned = _planned(run, options, model, examples, len(tokenizer)) if main else None
    model = prepare(model, options, tokenizer)
    baseline: dict[str, Any] = {}
    if held_out:
        every = -(-int(examples.lengths.sum()) // BIGRAM_TOKENS)
        bigram, smoothing = bigram_baseline(examples[::every], held_out, len(tokenizer))
        baseline = {"bigram_bits_per_byte": bigram.bits_per_byte, "bigram_smoothing": smoothing}
    sampler = None
    if options.run.sample_every_steps and held_out:
        chosen = held_out[: options.run.samples]
        sampler = Sampler(tokenizer, chosen, options.run.sample_tokens)
    total, trained = parameters(model)
    if parallel.world_size() > 1 and options.run.parallel == "fsdp":
        shard(model, autocast_dtype(options))
    if options.run.compile:
        compile_layers(decoder_layers(model))
    trainer = PackedTrainer(
        model,
        options,
        examples,
        steps,
        out,
        held_out or (),
        baseline.get("bigram_bits_per_byte") if options.run.stop_below_bigram else None,
        sampler=sampler,
        plan=planned,
    )
    trainer.fit()
    state, best = trainer.whole_state(), trainer.best_weights()
    if not main:
        return
    for name in save_checkpoint(trainer.model, tokenizer, out, state, best):
        run.wrote(name)
    run.wrote(log.NAME)
    if (out / SAMPLES).exists():
        run.wrote(SAMPLES)
    compared: dict[str, Any] = {}
    if planned is not None:
        compared = plan.beside(planned, log.read_log(out / log.NAME))
        run.write_json(plan.NAME, compared)
    kept = trainer.best_step() if best is not None else None
    results: dict[str, Any] = {
        "parameters": total,
        "trainable_parameters": trained,
        "steps": trainer.state.global_step,
        "steps_planned": len(steps),
        "epochs": steps[trainer.state.global_step - 1].epoch,
        "tokens_seen": trainer.tokens_seen,
        "shared_beginnings": f"no: {trainer.unshared}" if trainer.unshared else "yes",
        **log.summary(out / log.NAME, kept),
        **baseline,
        **compared.get("measured", {}),
        **{f"planned_{name}": value for name, value in compared.get("predicted", {}).items()},
        **({"best_step": kept} if kept is not None else {}),
    }
    run.finish(
        **results,
        device=str(trainer.args.device),
        processes=parallel.world_size(),
        threads=torch.get_num_threads(),
    )


def _planned(
    run: Run, options: TrainOptions, model: Any, examples: Encoded, vocabulary: int
) -> Plan | None:
    """The run's plan on the device here; None where no prediction can be made of the model."""
    device = find_device()
    if not device.gpu:  # else the weights, which this process holds already, are counted twice
        held = sum(weight.nbytes for weight in model.parameters())
        device = replace(device, context=max(device.context - held, 0))
    try:
        made = plan.predict(
            options,
            model.config,
            examples,
            device,
            processes=parallel.world_size(),
            vocabulary=vocabulary,
            changes=False,
            examples=examples,
        )
    except Exception as error:  # a model that cannot be predicted may yet be trained
        run.manifest.warnings.append(f"no plan, and so no MFU: {type(error).__name__}: {error}")
        return None
    if not made.fits:
        need, have = made.memory.needed / 1e9, made.memory.available / 1e9
        console.print(
            f"meadowlark: the plan needs {need:.1f} GB of memory, {made.device} has {have:.1f}; "
            "`meadowlark plan` says what would fit",
            style="yellow",
            markup=False,
        )
    return made


def _environment() -> dict[str, Any]:
    """What the weights were made with, besides data and options."""
    versions: dict[str, str] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {
        "meadowlark": code_version(),
        "versions": versions,
        "cuda": torch.version.cuda,
        "gpus": gpus,
        "processes": parallel.world_size(),
        "platform": platform.platform(),
    }


def _inputs(options: TrainOptions) -> dict[str, Path]:
    """What the run is made from, to be hashed: data, validation, a local base, a template file."""
    data, found = options.data, {"data": options.data.path}
    if data.validation is not None:
        found["validation"] = data.validation
    if options.model.base is not None and Path(options.model.base).exists():
        found["base"] = Path(options.model.base)
    if data.template is not None and data.template not in TEMPLATES:
        load_template(data.template)  # says what is wrong with it, before it is hashed
        found["template"] = Path(data.template)
    return found


def _refuse_test_only(options: TrainOptions, limit: int | None) -> None:
    """Refuse rows for examining models, also for validation, by which a run may be chosen."""
    for path in filter(None, (options.data.path, validation_path(options.data))):
        refuse_test_only(path, limit)


def _model(options: TrainOptions, limit: int | None, out: Path) -> tuple[Any, Any]:
    """The model and its tokenizer, before the first step."""
    scratch, template = options.model.from_scratch, options.data.template
    if scratch is None:
        assert options.model.base is not None
        tokenizer = load_tokenizer(options.model.base, template)
        add_tokens(tokenizer, options.model.added_tokens)
        return load_base(options, tokenizer), tokenizer
    folder = out / INITIAL if scratch.keep_initial else out / CHECKPOINTS / INITIAL
    if parallel.is_main() and not folder.exists():
        tokenizer = new_tokenizer(options, limit)
        beside = folder.with_name(folder.name + ".tmp")
        shutil.rmtree(beside, ignore_errors=True)
        save_checkpoint(new_llama(scratch, tokenizer, options.run.seed), tokenizer, beside)
        beside.rename(folder)
    parallel.barrier()
    return load_model(folder, options.model.dtype), load_tokenizer(folder, None)


def _account(run: Run, options: TrainOptions, examples: Encoded, held_out: Encoded | None) -> None:
    """Counts, licences and rejected rows into the run; an error where nothing is left."""
    counts = examples.counts
    if not counts.read:
        raise UserError(f"{options.data.path} holds no rows in {FILE_OF[Record]} that can be read")
    if parallel.is_main():
        refused = [examples.rejected(), *([held_out.rejected()] if held_out else [])]
        run.reject(pa.concat_tables(refused), Record)
        run.manifest.rows |= {
            "in": counts.read,
            "kept": counts.kept,
            "validation": len(held_out) if held_out is not None else 0,
        }
        run.manifest.licences = counts.licences
        both = [counts, *([held_out.counts] if held_out is not None else [])]
        for name, number in (
            ("inputs_cut", sum(c.cut for c in both)),
            ("responses_split", sum(c.split for c in both)),
        ):
            if number:
                run.manifest.results[name] = number
        if not held_out:
            run.manifest.warnings.append("no validation rows: nothing shows what was learned")
        if (run.folder / INITIAL).exists():
            run.wrote(INITIAL)
    if not examples:
        reasons = ", ".join(f"{r} ({n:,})" for r, n in counts.rejected.items())
        raise UserError(f"no row of {options.data.path} can be trained on: {reasons}")
