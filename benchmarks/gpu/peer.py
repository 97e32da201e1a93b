"""TRL's SFTTrainer beside our LoRA bf16: the same model, rows, masks, optimiser and clock.

It gets our encoded ids and labels (its tokenisation is no part of the comparison), best-fit
packing, no recompute, LoRA as published, and Liger's kernels. Which attention and loss suit it best
is tried, as our own settings are: without the flash-attn package, which the image lacks, its packed
samples stay apart under SDPA with a mask or under flex attention.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from llama import llama_config, random_llama
from modes import QV, SMALL_FORWARD, SMALL_STEP_TOKENS, STEP_TOKENS
from peft import LoraConfig
from timing import Clock, peak_bytes, reset_peak
from transformers.trainer_callback import PrinterCallback
from trl import SFTConfig, SFTTrainer

if TYPE_CHECKING:
    from mode import Row, Setup

IGNORED = -100
SETTINGS: dict[str, dict[str, Any]] = {
    "4k sdpa": {"max_length": 4096, "attention": "sdpa"},
    "4k sdpa, chunked loss": {
        "max_length": 4096,
        "attention": "sdpa",
        "loss_type": "chunked_nll",
    },
    "8k sdpa, chunked loss": {
        "max_length": 8192,
        "attention": "sdpa",
        "loss_type": "chunked_nll",
    },
    "4k flex attention, chunked loss": {
        "max_length": 4096,
        "attention": "flex_attention",
        "loss_type": "chunked_nll",
    },
}


class Counting(SFTTrainer):  # type: ignore[misc]
    """Counts what each optimiser step is given: tokens, and tokens that are learned."""

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words)
        self.sizes: dict[int, list[int]] = {}
        self.samples: dict[int, list[int]] = {}

    def training_step(self, model: Any, inputs: Any, *rest: Any) -> torch.Tensor:
        size = self.sizes.setdefault(self.state.global_step, [0, 0])
        size[0] += inputs["input_ids"].numel()
        size[1] += int((inputs["labels"] != IGNORED).sum())
        lengths = inputs["cu_seq_lens_q"].diff().tolist()
        self.samples.setdefault(self.state.global_step, []).extend(lengths)
        loss: torch.Tensor = super().training_step(model, inputs, *rest)
        return loss


def run(at: Setup) -> Iterator[Row]:
    """The settings under SDPA tried and the fastest of them in full; then flex attention, which has
    to be compiled first, in full where it is faster.
    """
    from mode import attempt

    disable_progress_bars()
    data = Dataset.from_dict(
        {
            "input_ids": [row.input_ids.tolist() for row in at.rows],
            "labels": [_labels(row) for row in at.rows],
        }
    )
    rates: dict[str, float] = {}

    def tried(name: str) -> Row:
        found = attempt(partial(train, SETTINGS[name], data, at, *at.steps(tried=True)))
        if found["status"] == "ok":
            rates[name] = found["tokens_per_s"]
        return {"setting": name, "tried": True, **found}

    def in_full() -> Row:
        best = max(rates, key=lambda name: rates[name])
        found = attempt(partial(train, SETTINGS[best], data, at, *at.steps(tried=False)))
        return {"setting": best, **found}

    flex = [name for name, setting in SETTINGS.items() if setting["attention"] != "sdpa"]
    for name in SETTINGS:
        if name not in flex:
            yield tried(name)
    if rates:
        yield in_full()
    before = max(rates.values(), default=0.0)
    if at.small:  # flex attention has no gradient on a CPU
        return
    for name in flex:
        yield tried(name)
    if max(rates.values(), default=0.0) > before:
        yield in_full()


def _labels(row: Any) -> list[int]:
    labels = np.full(len(row.input_ids), IGNORED)
    labels[row.positions()] = row.input_ids[row.positions()]
    return [int(label) for label in labels]


def train(setting: dict[str, Any], data: Dataset, at: Setup, warm_up: int, timed: int) -> Row:
    """Steps of TRL's trainer in one setting, timed."""
    from mode import rates, step_flops

    config = llama_config(at.small)
    model = random_llama(config, at.device, torch.bfloat16)
    model.set_attn_implementation(setting["attention"])
    length = SMALL_FORWARD if at.small else setting["max_length"]
    step_tokens = SMALL_STEP_TOKENS if at.small else STEP_TOKENS
    words = {
        "max_length": length,
        "packing": True,
        "packing_strategy": "bfd",
        "loss_type": setting.get("loss_type", "nll"),
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": max(round(step_tokens / length), 1),
        "use_liger_kernel": not at.small,
        "gradient_checkpointing": False,
        "bf16": True,
        "optim": "adamw_torch_fused",
        "learning_rate": 2e-5,
        "max_grad_norm": 1.0,
        "lr_scheduler_type": "cosine",
        "seed": 42,
    }
    adapter = LoraConfig(
        r=QV["rank"],
        lora_alpha=QV["alpha"],
        target_modules=list(QV["targets"]),
        task_type="CAUSAL_LM",
    )
    clock = Clock(at.device, warm_up, timed)
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=clock.steps + 2,
            use_cpu=at.device.type == "cpu",
            save_strategy="no",
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            log_level="error",
            **words,
        )
        trainer = Counting(
            model,
            arguments,
            train_dataset=data,
            processing_class=at.tokenizer,
            peft_config=adapter,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.add_callback(clock)
        reset_peak(at.device)
        trainer.train()
    losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    steps = range(warm_up, warm_up + timed)
    sizes = [(trainer.sizes[n][0], trainer.sizes[n][0], trainer.sizes[n][1]) for n in steps]
    flops = [
        # Every logit is made, whatever is learned, so the head counts for every token.
        step_flops(trainer.samples[n], tokens, tokens, True, config)
        for n, (tokens, _, _) in zip(steps, sizes, strict=True)
    ]
    return {
        "config": {**words, "attention": setting["attention"], "lora": QV},
        "losses": [losses[0], losses[-1]],
        **rates(sizes, clock.seconds, flops, at),
        "peak_bytes": peak_bytes(at.device),
    }
