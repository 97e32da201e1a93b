"""The trainer: ``transformers.Trainer`` for optimiser, schedule and checkpoints; ours for the rest.

The whole run is one fixed list of steps (``pack.plan_steps``), handed over as a single sequential
pass, so that a resumed run finds its place exactly. A step sums its loss over as many forward
passes as it needs and divides by all of its supervised tokens. A checkpoint appears under its name
only once it is complete.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from meadowlark.errors import MeadowlarkError, UserError
from meadowlark.progress import Progress
from meadowlark.train import log
from meadowlark.train.encode import Example
from meadowlark.train.loss import evaluate, summed_loss
from meadowlark.train.model import save_weights
from meadowlark.train.options import TrainOptions
from meadowlark.train.pack import Step, best_fit, lay_out

CHECKPOINTS = "checkpoints"
UNFINISHED = "unfinished"
STATE = "trainer_state.json"  # what transformers writes last into a checkpoint


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps; what a kill left half written is removed."""
    shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    found = [path for path in folder.glob("checkpoint-*") if (path / STATE).exists()]
    return max(found, key=_steps_of, default=None)


def _steps_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def autocast_dtype(options: TrainOptions) -> torch.dtype | None:
    """The 16-bit type that the arithmetic runs in, or None for the weights' own."""
    precision = options.run.precision
    if precision == "auto":
        precision = "float32"
        if torch.cuda.is_available():
            precision = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"
    if precision == "float16" and not torch.cuda.is_available():
        raise UserError("run.precision 'float16' needs a GPU; use float32 or bfloat16 on a CPU")
    return None if precision == "float32" else getattr(torch, precision)


class PackedTrainer(Trainer):
    """Trains one model over a plan of steps, logging to ``out`` and keeping one checkpoint."""

    def __init__(
        self,
        model: Any,
        options: TrainOptions,
        examples: Sequence[Example],
        steps: Sequence[Step],
        out: Path,
        validation: Sequence[Example] = (),
        stop_below: float | None = None,
    ) -> None:
        self.options, self.examples, self.steps = options, examples, steps
        self.checkpoints = out / CHECKPOINTS
        self.validation = validation
        self.stop_below = stop_below
        self.autocast = autocast_dtype(options)
        self.lengths = [len(example.input_ids) for example in examples]
        self.log_path = out / log.NAME
        self.tokens_seen = 0
        self._counted = 0  # steps whose tokens are in tokens_seen
        self._mark = (time.monotonic(), 0)
        self.progress: Progress | None = None
        super().__init__(
            model=model,
            args=training_arguments(options, len(steps), self.checkpoints, self.autocast),
            train_dataset=steps,
            eval_dataset=validation or None,
        )
        self.remove_callback(PrinterCallback)

    # ------------------------------------------------------------------ data

    def get_train_dataloader(self) -> DataLoader[Step]:
        """The plan's steps, one after the other."""
        return DataLoader(
            self.steps,  # type: ignore[arg-type]
            batch_size=1,
            sampler=SequentialSampler(self.steps),
            collate_fn=_only,
        )

    def passes(self, rows: Sequence[int]) -> list[list[int]]:
        """The rows of a step as forward passes: packed, or one by one without packing."""
        if not self.options.run.packing:
            return [[row] for row in rows]
        return best_fit(rows, self.lengths, self.options.tokens_per_forward)

    # ------------------------------------------------------------------ steps

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Forward and backward over the rows of a :class:`Step`; returns nats a learned token."""
        model.train()
        supervised = sum(self.examples[row].supervised for row in inputs.rows)
        total = torch.zeros((), device=self.args.device)
        for rows in self.passes(inputs.rows):
            batch = lay_out([self.examples[row] for row in rows], self.args.device)
            with self.compute_loss_context_manager():
                loss = summed_loss(model, batch) / supervised
            self.accelerator.backward(loss)
            total += loss.detach()
        if not torch.isfinite(total):
            raise MeadowlarkError(
                f"the loss of step {self.state.global_step + 1} is {float(total)}; lower "
                "optimiser.learning_rate, or use run.precision = 'float32'"
            )
        self._count_tokens(self.state.global_step + 1)
        if self.progress is not None:
            tokens = sum(self.lengths[row] for row in inputs.rows)
            self.progress.advance(tokens, f"loss {float(total):.3f}")
        return total

    def _count_tokens(self, done: int) -> None:
        for step in self.steps[self._counted : done]:
            self.tokens_seen += sum(self.lengths[row] for row in step.rows)
        self._counted = max(done, self._counted)

    def _get_num_items_in_batch(self, batch_samples: Any, device: Any) -> None:
        """A step counts its own supervised tokens."""

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated from a step, which is no batch of tensors."""
        return 0

    # ------------------------------------------------------------------ evaluating and logging

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Loss and bits a byte on the validation rows' responses, added to the log."""
        self.control.should_evaluate = False  # else the last step's is asked for twice
        if not self.validation:
            return {}
        found = evaluate(
            self.model,
            self.validation,
            tokens_per_forward=self.options.tokens_per_forward,
            autocast=self.autocast,
        )
        line = {"eval_loss": found.loss, "bits_per_byte": found.bits_per_byte}
        self._write(line)
        self._mark = (time.monotonic(), self.tokens_seen)  # evaluating is not training speed
        if self._is_enough(line):
            self.control.should_training_stop = True
        return line

    def _is_enough(self, line: dict[str, Any]) -> bool:
        """Whether an evaluation is below the bits a byte at which training may end."""
        return self.stop_below is not None and line.get("bits_per_byte", math.inf) < self.stop_below

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """One line of the training log for each logged step; closing summaries are not ours."""
        if "loss" not in logs:
            return
        then, tokens = self._mark
        self._mark = (time.monotonic(), self.tokens_seen)
        speed = (self.tokens_seen - tokens) / max(self._mark[0] - then, 1e-9)
        line: dict[str, Any] = {
            key: logs[key] for key in ("loss", "learning_rate", "grad_norm") if key in logs
        }
        self._write({**line, "tokens": self.tokens_seen, "tokens_per_s": round(speed, 1)})

    def _write(self, line: dict[str, Any]) -> None:
        step = self.state.global_step
        epoch = self.steps[step - 1].epoch if step else 0.0
        log.append(self.log_path, {"step": step, "epoch": round(epoch, 6), **line})

    # ------------------------------------------------------------------ checkpoints

    def _get_output_dir(self, trial: Any = None) -> str:
        return str(self.checkpoints / UNFINISHED)

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        super()._save_checkpoint(model, trial)
        name = f"checkpoint-{self.state.global_step}"
        folder = self.checkpoints
        target = folder / name
        shutil.rmtree(target, ignore_errors=True)
        (folder / UNFINISHED / name).rename(target)
        for path in folder.glob("checkpoint-*"):
            if path != target:
                shutil.rmtree(path)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights alone: the tokenizer and the options are in the run's folder already."""
        assert output_dir is not None
        save_weights(self.model, Path(output_dir))

    def fit(self) -> None:
        """Train to the end of the plan, from the newest checkpoint where there is one."""
        checkpoint = newest_checkpoint(self.checkpoints)
        done = _steps_of(checkpoint) if checkpoint is not None else 0
        kept = log.rewind(self.log_path, done if checkpoint is not None else None)
        if not any("eval_loss" in line for line in kept):
            self.state.global_step = 0
            self.evaluate()
        self._count_tokens(done)
        self._mark = (time.monotonic(), self.tokens_seen)
        if done and any(line["step"] == done and self._is_enough(line) for line in kept):
            # Ended on purpose at this very step, and stopped before the result was written.
            self._load_from_checkpoint(str(checkpoint))
            self.state.global_step = done
            return
        total = sum(self.lengths[row] for step in self.steps for row in step.rows)
        with Progress("train", total, "tokens") as self.progress:
            self.progress.start_at(self.tokens_seen)
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        lines = log.read_log(self.log_path)
        last = self.state.global_step
        if not any("eval_loss" in line and line["step"] == last for line in lines):
            self.evaluate()


def _only(steps: list[Step]) -> Step:
    return steps[0]


def training_arguments(
    options: TrainOptions, steps: int, folder: Path, autocast: torch.dtype | None
) -> TrainingArguments:
    """Our options in transformers' words; whatever we do ourselves is switched off there."""
    optimiser, run = options.optimiser, options.run
    warmup = optimiser.warmup
    names = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
    arguments = TrainingArguments(
        output_dir=str(folder),
        use_cpu=not torch.cuda.is_available(),
        max_steps=steps,
        per_device_train_batch_size=1,
        learning_rate=optimiser.learning_rate,
        lr_scheduler_type=names[optimiser.schedule],
        warmup_steps=warmup if isinstance(warmup, int) else round(warmup * steps),
        weight_decay=optimiser.weight_decay,
        adam_beta1=optimiser.beta1,
        adam_beta2=optimiser.beta2,
        adam_epsilon=optimiser.epsilon,
        max_grad_norm=optimiser.max_grad_norm,
        optim="adamw_torch_fused",
        bf16=autocast == torch.bfloat16,
        fp16=autocast == torch.float16,
        seed=run.seed,
        save_strategy="steps",
        save_steps=run.save_every_steps,
        eval_strategy="steps" if run.evaluate_every_steps else "no",
        eval_steps=run.evaluate_every_steps or None,
        logging_strategy="steps",
        logging_steps=run.log_every_steps,
        logging_nan_inf_filter=False,
        log_level="error",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
    )
    arguments._setup_devices  # noqa: B018  (counts the GPUs)
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several would mean DataParallel
    return arguments
