"""The training stage: rows and a TOML of options become a checkpoint that any server loads.

Into ``out`` go the model's files (or the adapter's), the tokenizer with the prompt template
compiled into it, ``train_log.jsonl``, the resolved ``config.toml``, ``rejected.parquet`` and the
manifest. A run that was killed goes on from its last checkpoint and ends with the same weights.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.text import Text
from transformers.utils import logging as transformers_logging

from meadowlark.dataset import FILE_OF, Run, open_run, read
from meadowlark.errors import UserError
from meadowlark.progress import console
from meadowlark.records import Record, Rejected
from meadowlark.templates import TEMPLATES, load_template
from meadowlark.train import log
from meadowlark.train.bigram import bigram_baseline
from meadowlark.train.encode import Encoder, Example
from meadowlark.train.model import load_model, new_llama, parameters, prepare, save_checkpoint
from meadowlark.train.options import TrainOptions, to_toml
from meadowlark.train.pack import plan_steps
from meadowlark.train.tokenizer import learn_tokenizer, learning_texts, load_tokenizer
from meadowlark.train.trainer import CHECKPOINTS, PackedTrainer

INITIAL = "initial"
VALIDATION = "validation.parquet"


def train(
    options: TrainOptions, out: Path, *, limit: int | None = None, force: bool = False
) -> Run:
    """Train as ``options`` say on their data and write the result to ``out``.

    ``limit`` reads only that many training and validation rows. Raises UserError for what cannot
    be loaded or trained; rows that cannot be used are rejected with a reason.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("train runs in one process on one device; start it without torchrun")
    run = open_run(
        "train",
        out,
        options={**options.compared(), "limit": limit},
        inputs=_inputs(options),
        seed=options.run.seed,
        growing=(),  # more rows or epochs change every step of the schedule
        force=force,
    )
    if run.complete:
        shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
        return run
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with run:
        if options.run.threads:
            torch.set_num_threads(options.run.threads)
        training, validation, rejected = _rows(options, limit)
        model, tokenizer = _model(options, training, out)
        examples, held_out = _encode(run, options, tokenizer, training, validation, rejected)
        (out / "config.toml").write_text(to_toml(options), encoding="utf-8")
        run.wrote("config.toml")
        _show(examples[0], tokenizer)
        steps = plan_steps(
            [len(example.input_ids) for example in examples],
            seed=options.run.seed,
            epochs=options.optimiser.epochs,
            batch_rows=options.optimiser.batch_rows,
            batch_tokens=options.optimiser.batch_tokens,
            max_steps=options.optimiser.max_steps,
        )
        model = prepare(model, options, tokenizer)
        baseline: dict[str, Any] = {}
        if held_out:
            bigram, smoothing = bigram_baseline(examples, held_out, len(tokenizer))
            baseline = {"bigram_bits_per_byte": bigram.bits_per_byte, "bigram_smoothing": smoothing}
        stop_below = baseline.get("bigram_bits_per_byte") if options.run.stop_below_bigram else None
        trainer = PackedTrainer(model, options, examples, steps, out, held_out, stop_below)
        trainer.fit()
        for name in save_checkpoint(trainer.model, tokenizer, out):
            run.wrote(name)
        run.wrote(log.NAME)
        total, trained = parameters(trainer.model)
        results: dict[str, Any] = {
            "parameters": total,
            "trainable_parameters": trained,
            "steps": trainer.state.global_step,
            "steps_planned": len(steps),
            "epochs": steps[trainer.state.global_step - 1].epoch,
            "tokens_seen": trainer.tokens_seen,
            **log.summary(out / log.NAME),
            **baseline,
        }
        run.finish(**results, device=str(trainer.args.device), threads=torch.get_num_threads())
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)
    return run


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


def _rows(
    options: TrainOptions, limit: int | None
) -> tuple[list[Record], list[Record], list[Rejected]]:
    data = options.data
    training, rejected = read(data.path, Record, limit)
    path = data.validation
    if path is None and data.path.is_dir() and (data.path / VALIDATION).exists():
        path = data.path / VALIDATION
    validation: list[Record] = []
    if path is not None:
        validation, unread = read(path, Record, limit)
        rejected += unread
    if not training:
        raise UserError(f"{data.path} holds no rows in {FILE_OF[Record]} that can be read")
    return training, validation, rejected


def _model(options: TrainOptions, training: Sequence[Record], out: Path) -> tuple[Any, Any]:
    """The model and its tokenizer, before the first step."""
    scratch, template = options.model.from_scratch, options.data.template
    if scratch is None:
        assert options.model.base is not None
        tokenizer = load_tokenizer(options.model.base, template)
        return load_model(options.model.base, options.model.dtype), tokenizer
    assert template is not None
    folder = out / INITIAL if scratch.keep_initial else out / CHECKPOINTS / INITIAL
    if not folder.exists():
        tokenizer = learn_tokenizer(
            learning_texts(training, load_template(template)), scratch.vocabulary, scratch.context
        )
        tokenizer.chat_template = load_template(template).chat_template()
        beside = folder.with_name(folder.name + ".tmp")
        shutil.rmtree(beside, ignore_errors=True)
        save_checkpoint(new_llama(scratch, tokenizer, options.run.seed), tokenizer, beside)
        beside.rename(folder)
    return load_model(folder, options.model.dtype), load_tokenizer(folder, None)


def _encode(
    run: Run,
    options: TrainOptions,
    tokenizer: Any,
    training: Sequence[Record],
    validation: Sequence[Record],
    rejected: list[Rejected],
) -> tuple[list[Example], list[Example]]:
    """Both sets encoded, with their rejects and counts in the run's folder.

    Validation is always on responses alone, whatever the loss is on, so that runs compare.
    """
    data = options.data
    encoder = Encoder(
        tokenizer, max_length=data.max_length, too_long=data.too_long, loss_on=data.loss_on
    )
    examples, refused = encoder.encode(training)
    encoder.loss_on = "response"
    held_out, unheld = encoder.encode(validation, "encode validation")
    rejected = [*rejected, *refused, *unheld]
    run.reject(rejected, Record)
    run.manifest.rows |= {"in": len(training), "kept": len(examples), "validation": len(held_out)}
    by_id = {record.id: record.licence for record in training}
    licences = Counter(by_id[example.id] for example in examples)
    run.manifest.licences = dict(sorted(licences.items()))
    if encoder.cut:
        run.manifest.results["inputs_cut"] = encoder.cut
    if not held_out:
        run.manifest.warnings.append("no validation rows: nothing shows what was learned")
    if not examples:
        reasons = ", ".join(f"{r} ({n:,})" for r, n in run.manifest.rows["rejected"].items())
        raise UserError(f"no row of {data.path} can be trained on: {reasons}")
    if (run.folder / INITIAL).exists():
        run.wrote(INITIAL)
    return examples, held_out


def _show(example: Example, tokenizer: Any) -> None:
    """Print one row as the model sees it, with what is learned set apart."""
    ids = example.input_ids.tolist()
    prompt = tokenizer.decode(ids[: example.first_supervised])
    learned = tokenizer.decode(ids[example.first_supervised :])
    title = f"first row {example.id}: {len(ids)} tokens, {example.supervised} of them learned"
    text = Text(f"{title} (⟦ … ⟧)\n", style="bold")
    text.append(prompt, style="not bold dim")
    text.append(f"⟦{learned}⟧", style="not bold green")
    console.print(text, soft_wrap=True)
