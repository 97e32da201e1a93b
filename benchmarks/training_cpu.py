"""Claim: on the real small Meadow set our packed trainer turns over at least twice the useful
tokens a second of medAlpaca's way (padding, batch 8, length 256), and no fewer than TRL's
SFTTrainer in the best of its documented CPU settings.

One small LLaMA with the same random weights, LLaMA-2's real tokenizer, the same rows cut to 256
tokens, the same AdamW, precision and threads; a forward pass holds up to 2,048 tokens everywhere
(8 rows of 256, or as many as are packed). Each repeat takes new rows for one optimiser step, timed
from its beginning to its end in every way's real trainer, in turn. *Useful* are the tokens of real
rows: no padding, nothing that was cut away. First TRL's settings are tried in turn, all are
recorded, and the fastest goes on. Writes ``results/training_cpu.json``.

    python benchmarks/training_cpu.py [--repeats 5] [--layers 8] [--precision float32]
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _meadow import llama2_tokenizer, mixed
from _stamp import RESULTS, stamp
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.utils import logging as transformers_logging

from meadowlark.train.attention import use_packed_attention
from meadowlark.train.encode import Example
from meadowlark.train.encoded import Settings, encode
from meadowlark.train.options import TrainOptions
from meadowlark.train.pack import Step
from meadowlark.train.trainer import PackedTrainer

RESULT = RESULTS / "training_cpu.json"
AIM = 2.0
LENGTH, BATCH = 256, 8  # medAlpaca's
FORWARD = LENGTH * BATCH
IGNORED = -100
LEARNING_RATE = 1e-4

TRL_TRIES: dict[str, dict[str, Any]] = {
    "packing bfd, sdpa": {"packing": True, "max_length": FORWARD},
    "packing bfd, eager": {"packing": True, "max_length": FORWARD, "attention": "eager"},
    "packing bfd, sdpa, length 1024": {"packing": True, "max_length": 1024},
    "packing bfd, sdpa, length 512": {"packing": True, "max_length": 512},
    "packing bfd, sdpa, chunked loss": {
        "packing": True,
        "max_length": FORWARD,
        "loss_type": "chunked_nll",
    },
    "padding-free, sdpa": {
        "padding_free": True,
        "max_length": None,
        "per_device_train_batch_size": BATCH,
    },
    "padding, batch 8": {"max_length": LENGTH, "per_device_train_batch_size": BATCH},
    "padding, batch 8, grouped by length": {
        "max_length": LENGTH,
        "per_device_train_batch_size": BATCH,
        "train_sampling_strategy": "group_by_length",
    },
    "padding, batch 8, grouped by length, chunked loss": {
        "max_length": LENGTH,
        "per_device_train_batch_size": BATCH,
        "train_sampling_strategy": "group_by_length",
        "loss_type": "chunked_nll",
    },
}
"""TRL's settings that could be best on a CPU: SFTConfig's words, and ``attention``."""


class StepTimes(TrainerCallback):  # type: ignore[misc]
    """Wall and processor seconds of each optimiser step; AdamW's state is made before the first."""

    def __init__(self) -> None:
        self.wall: list[float] = []
        self.processor: list[float] = []
        self._began = (0.0, 0.0)

    def on_train_begin(self, *_: Any, **found: Any) -> None:
        for group in found["optimizer"].param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        found["optimizer"].step()  # zero gradients move nothing: AdamW's moments stay zero
        found["optimizer"].zero_grad()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self._began = (time.perf_counter(), time.process_time())

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.wall.append(time.perf_counter() - self._began[0])
        self.processor.append(time.process_time() - self._began[1])


# --------------------------------------------------------------------------- the ways

Seconds = tuple[float, float]
Way = Callable[[Any, Sequence[Example], str], Seconds]
"""Wall and processor seconds of one optimiser step of a model over rows, in a precision."""


def ours(model: Any, rows: Sequence[Example], precision: str) -> Seconds:
    """Packed passes of whole rows, what they begin with alike computed once; the loss at the
    supervised positions alone."""
    longest = max(len(row.input_ids) for row in rows)
    options = TrainOptions.model_validate(
        {
            "model": {"base": "random"},
            "data": {"path": "small", "max_length": longest},
            "optimiser": {"learning_rate": LEARNING_RATE, "schedule": "constant"},
            "run": {"tokens_per_forward": FORWARD, "precision": precision},
        }
    )
    use_packed_attention(model, longest)
    # One step more than is run: the last of a plan would write a checkpoint.
    steps = [Step(tuple(range(len(rows))), 0.5), Step((0,), 1.0)]
    with tempfile.TemporaryDirectory() as folder:
        trainer = PackedTrainer(model, options, rows, steps, Path(folder))
        return _one_step(trainer)


def medalpaca(model: Any, rows: Sequence[Example], precision: str) -> Seconds:
    """Rows padded to the longest of eight, the loss on prompt and response, every logit made."""
    model.set_attn_implementation("sdpa")
    data = [{"input_ids": row.input_ids.tolist()} for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=len(rows) // BATCH,
            remove_unused_columns=False,
            **_same(precision),
        )
        return _one_step(
            Trainer(model, arguments, train_dataset=data, data_collator=pad_to_longest)
        )


def pad_to_longest(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Right-padded ids, their mask, and labels on every token that is no padding."""
    longest = max(len(row["input_ids"]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for line, row in enumerate(rows):
        ids[line, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[line, : len(row["input_ids"])] = 1
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": ids.masked_fill(mask == 0, IGNORED),
    }


def trl(settings: dict[str, Any], tokenizer: Any) -> Way:
    """SFTTrainer with such settings over the same ids and the same supervised tokens as ours."""
    from datasets import Dataset, disable_progress_bars
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    attention = settings.get("attention", "sdpa")
    words = {name: value for name, value in settings.items() if name != "attention"}

    def way(model: Any, rows: Sequence[Example], precision: str) -> Seconds:
        model.set_attn_implementation(attention)
        data = Dataset.from_dict(
            {
                "input_ids": [row.input_ids.tolist() for row in rows],
                "labels": [_labels(row) for row in rows],
            }
        )
        with tempfile.TemporaryDirectory() as folder:
            arguments = SFTConfig(
                output_dir=folder,
                gradient_accumulation_steps=1_000,  # the epoch is one step
                **{"per_device_train_batch_size": 1, **_same(precision), **words},
            )
            trainer = SFTTrainer(
                model, arguments, train_dataset=data, processing_class=copy.deepcopy(tokenizer)
            )
            return _one_step(trainer)

    return way


def _labels(row: Example) -> list[int]:
    labels = np.full(len(row.input_ids), IGNORED)
    labels[row.positions()] = row.input_ids[row.positions()]
    return [int(label) for label in labels]


def _same(precision: str) -> dict[str, Any]:
    """What every Hugging Face trainer here is told, as ours tells it (``training_arguments``)."""
    return {
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch_fused",
        "max_grad_norm": 1.0,
        "num_train_epochs": 1,
        "use_cpu": True,
        "bf16": precision == "bfloat16",
        "gradient_checkpointing": False,
        "dataloader_pin_memory": False,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "log_level": "error",
    }


def _one_step(trainer: Trainer) -> Seconds:
    times = StepTimes()
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(times)
    trainer.add_callback(_StopAfterOne())
    trainer.train()
    assert trainer.state.global_step == len(times.wall) == 1, "one optimiser step was to be timed"
    return times.wall[0], times.processor[0]


class _StopAfterOne(TrainerCallback):  # type: ignore[misc]
    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        control.should_training_stop = True


# --------------------------------------------------------------------------- measuring


def small_llama(layers: int, width: int, vocabulary: int) -> LlamaForCausalLM:
    """LLaMA-2's proportions, made small, with random weights."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=-(-width * 8 // 3 // 32) * 32,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=4096,
    )
    return LlamaForCausalLM(config)


def cut(row: Example) -> Example | None:
    """A row cut to medAlpaca's 256 tokens; None where nothing of the response is left."""
    spans = tuple((start, min(end, LENGTH)) for start, end in row.spans if start < LENGTH)
    return replace(row, input_ids=row.input_ids[:LENGTH], spans=spans) if spans else None


def padded_tokens(rows: Sequence[Example]) -> int:
    """What medAlpaca's way computes for these rows, padding included, in the given order."""
    lengths = [len(row.input_ids) for row in rows]
    groups = [lengths[start : start + BATCH] for start in range(0, len(lengths), BATCH)]
    return sum(max(group) * len(group) for group in groups)


def measure(
    ways: dict[str, tuple[Way, Sequence[Sequence[Example]]]], base: Any, precision: str
) -> dict[str, dict[str, Any]]:
    """Each way over its batches, one batch of each in turn; the first batch warms up."""
    taken: dict[str, list[Seconds]] = {name: [] for name in ways}
    repeats = min(len(batches) for _, batches in ways.values())
    for number in range(repeats):
        for name, (way, batches) in ways.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the trainers' remarks on logging and loading
                took = way(copy.deepcopy(base), batches[number], precision)
            if number:
                taken[name].append(took)
            print(f"{precision} {number}/{repeats - 1} {name}: {took[0]:.2f} s", flush=True)
    found = {}
    for name, (_, batches) in ways.items():
        useful = [sum(len(row.input_ids) for row in batch) for batch in batches[1:repeats]]
        learned = [sum(row.supervised for row in batch) for batch in batches[1:repeats]]
        wall = [wall for wall, _ in taken[name]]
        found[name] = {
            "useful_tokens_per_s": spread([n / s for n, s in zip(useful, wall, strict=True)]),
            "supervised_tokens_per_s": spread([n / s for n, s in zip(learned, wall, strict=True)]),
            "useful_tokens": sum(useful),
            "seconds": [round(s, 3) for s in wall],
            "processor_seconds": [round(s, 3) for _, s in taken[name]],
        }
    return found


def spread(values: Sequence[float], digits: int = 1) -> dict[str, float]:
    """Median, lowest and highest."""
    return {
        "median": round(statistics.median(values), digits),
        "low": round(min(values), digits),
        "high": round(max(values), digits),
    }


def batches_of(
    rows: Sequence[Example], size: int, count: int, seed: int = 0
) -> list[list[Example]]:
    """``count`` batches of different random rows."""
    order = np.random.default_rng(seed).permutation(len(rows))
    return [[rows[row] for row in order[n * size : (n + 1) * size]] for n in range(count)]


def compare(
    base: Any,
    tokenizer: Any,
    short: Sequence[Sequence[Example]],
    whole: Sequence[Sequence[Example]],
    precision: str,
    tries: dict[str, dict[str, Any]],
) -> dict[str, Any]:
    """TRL's settings tried, then the best of them, medAlpaca's way and ours side by side."""
    tried: dict[str, Any] = {}
    for name, settings in tries.items():
        try:
            way = {name: (trl(settings, tokenizer), short[:3])}
            tried[name] = {"settings": settings, **measure(way, base, precision)[name]}
        except (ValueError, RuntimeError, NotImplementedError, TypeError) as error:
            tried[name] = {"settings": settings, "failed": f"{type(error).__name__}: {error}"}
    worked = {name: found for name, found in tried.items() if "failed" not in found}
    best = max(worked, key=lambda name: worked[name]["useful_tokens_per_s"]["median"])
    ways: dict[str, tuple[Way, Sequence[Sequence[Example]]]] = {
        "ours": (ours, short),
        "medalpaca": (medalpaca, short),
        "trl": (trl(tries[best], tokenizer), short),
        "ours, rows whole": (ours, whole),
    }
    found = measure(ways, base, precision)
    rate = {name: row["useful_tokens_per_s"]["median"] for name, row in found.items()}

    def ratio(peer: str, seconds: str = "seconds") -> dict[str, float]:
        """Of the repeats' own ratios, each over the same rows."""
        pairs = zip(found[peer][seconds], found["ours"][seconds], strict=True)
        return spread([theirs / ours for theirs, ours in pairs], digits=2)

    return {
        "ways": found,
        "trl_best": best,
        "trl_tries": tried,
        "ours_over_medalpaca": {**ratio("medalpaca"), "aim": AIM},
        "ours_over_medalpaca_by_processor_time": ratio("medalpaca", "processor_seconds"),
        "ours_over_trl": ratio("trl"),
        "ours_over_trl_by_processor_time": ratio("trl", "processor_seconds"),
        "ours_rows_whole_over_medalpaca": round(rate["ours, rows whole"] / rate["medalpaca"], 2),
        "reaches_the_aim": ratio("medalpaca")["median"] >= AIM,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="timed steps of each way")
    parser.add_argument("--rows", type=int, default=16, help="rows of a step, a multiple of 8")
    parser.add_argument("--layers", type=int, default=8)
    parser.add_argument("--width", type=int, default=512, help="a multiple of 64")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16", "both"), default="both", help="arithmetic"
    )
    parser.add_argument("--tries", type=int, default=len(TRL_TRIES), help="TRL settings to try")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.rows % BATCH:
        parser.error(f"--rows {options.rows} is no multiple of {BATCH}")
    torch.set_num_threads(options.threads)
    logging.disable(logging.WARNING)
    transformers_logging.set_verbosity_error()
    with tempfile.TemporaryDirectory() as name:
        tokenizer = llama2_tokenizer(Path(name) / "tokenizer")
        folder = mixed(Path(name) / "mixed")
        encoded = encode(folder, tokenizer, Settings(max_length=100_000), workers=1)
        rows = [encoded[row] for row in range(len(encoded))]
    count = options.repeats + 1
    shortened = [shorter for row in rows if (shorter := cut(row)) is not None]
    short = batches_of(shortened, options.rows, count)
    whole = batches_of(rows, options.rows, count)
    base = small_llama(options.layers, options.width, len(tokenizer))
    head = base.lm_head.weight.numel()
    layers = sum(p.numel() for p in base.model.layers.parameters())
    precisions = ("float32", "bfloat16") if options.precision == "both" else (options.precision,)
    tries = dict(list(TRL_TRIES.items())[: options.tries])
    result = {
        **stamp(("numpy", "torch", "transformers", "trl", "datasets")),
        "threads": torch.get_num_threads(),
        "model": {
            "layers": options.layers,
            "width": options.width,
            "parameters": sum(p.numel() for p in base.parameters()),
            "head_share_of_matrix_work": round(head / (head + layers), 3),
        },
        "data": {
            "rows": len(rows),
            "tokens": int(encoded.lengths.sum()),
            "supervised_share": round(float(encoded.supervised.sum() / encoded.lengths.sum()), 3),
            "longer_than_256": int((encoded.lengths > LENGTH).sum()),
            "rows_with_nothing_learned_at_256": len(rows) - len(shortened),
            "padding_share_of_medalpaca": round(
                1
                - sum(len(row.input_ids) for batch in short for row in batch)
                / sum(padded_tokens(batch) for batch in short),
                3,
            ),
        },
        "step": {"rows": options.rows, "tokens_per_forward_at_most": FORWARD},
        "optimiser": _same("float32"),
        "precision": {
            precision: compare(base, tokenizer, short, whole, precision, tries)
            for precision in precisions
        },
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    for precision, found in result["precision"].items():
        for name, way in found["ways"].items():
            print(f"{precision} {name}: {way['useful_tokens_per_s']} useful tokens/s")
        print(f"{precision} ours / medAlpaca: {found['ours_over_medalpaca']}")
        print(f"{precision} ours / TRL ({found['trl_best']}): {found['ours_over_trl']}")


if __name__ == "__main__":
    main()
