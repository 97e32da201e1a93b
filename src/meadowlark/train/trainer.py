"""The trainer: ``transformers.Trainer`` for optimiser, schedule and checkpoints; ours for the rest.

The whole run is one fixed list of steps (``pack.plan_steps``), handed over as a single sequential
pass, so that a resumed run finds its place exactly. A step sums its loss over as many forward
passes as it needs, on as many processes as there are, and divides by all of its supervised tokens.
A checkpoint appears under its name only once it is complete. SIGTERM and Ctrl-C end the run after
the step at work, with a checkpoint.
"""

from __future__ import annotations

import contextlib
import importlib
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate.utils import AutocastKwargs
from torch.utils.data import DataLoader, SequentialSampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from meadowlark.errors import MeadowlarkError, Stopped
from meadowlark.progress import Progress
from meadowlark.train import log, parallel
from meadowlark.train.device import autocast_dtype
from meadowlark.train.encode import Example
from meadowlark.train.loss import Evaluation, evaluate, learn_in_chunks, summed_loss
from meadowlark.train.model import save_weights
from meadowlark.train.options import RunOptions, TrainOptions
from meadowlark.train.pack import Step, lay_out, passes_of
from meadowlark.train.plan import Plan
from meadowlark.train.prefix import why_not
from meadowlark.train.samples import SAMPLES, Sampler
from meadowlark.train.shards import Sharded, gathered, is_sharded, load_shards, save_shards

CHECKPOINTS = "checkpoints"
UNFINISHED = "unfinished"
STATE = "trainer_state.json"  # what transformers writes last into a checkpoint
SCHEDULER = "scheduler.pt"
BEST = "best-"


def newest_checkpoint(folder: Path) -> Path | None:
    """The complete checkpoint with the most steps; what a kill left half written is removed."""
    if parallel.is_main():
        shutil.rmtree(folder / UNFINISHED, ignore_errors=True)
    found = [path for path in folder.glob("checkpoint-*") if (path / STATE).exists()]
    return max(found, key=_steps_of, default=None)


def _steps_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


class PackedTrainer(Trainer):
    """Trains one model over a plan of steps, logging to ``out`` and keeping one checkpoint.

    ``plan`` tells of the FLOPs of a token, so that the log has an MFU.
    """

    def __init__(
        self,
        model: Any,
        options: TrainOptions,
        examples: Sequence[Example],
        steps: Sequence[Step],
        out: Path,
        validation: Sequence[Example] = (),
        stop_below: float | None = None,
        *,
        sampler: Sampler | None = None,
        plan: Plan | None = None,
    ) -> None:
        self.plan = plan
        self.options, self.examples, self.steps = options, examples, steps
        self.checkpoints = out / CHECKPOINTS
        self.validation = validation
        self.stop_below = stop_below
        self.sampler = sampler
        self.autocast = autocast_dtype(options)
        self.lengths = _lengths(examples)
        self.log_path = out / log.NAME
        self.samples_path = out / SAMPLES
        self.tokens_seen = 0
        self._counted = 0  # steps whose tokens are in tokens_seen
        self.unshared = why_not(model)  # else what rows of a pass begin with alike is shared
        if options.run.compile:
            self.unshared = "run.compile fills every pass to one size"
        elif not options.run.packing:
            self.unshared = "run.packing is off"
        self._computed = [0, 0]  # tokens of passes since the last line, and of their samples
        self._mark = (time.monotonic(), 0)
        self._signal = 0  # the signal this process has had
        self._stopping = False  # whether any process has had one
        self._mfu: float | None = None  # at the last logged step
        self._evaluations: list[dict[str, Any]] = []
        self.progress: Progress | None = None
        learn_in_chunks(model)  # before accelerate keeps the model's forward
        arguments = training_arguments(options, len(steps), self.checkpoints, self.autocast)
        super().__init__(
            model=model,
            args=arguments,
            train_dataset=steps,
            eval_dataset=validation or None,
            callbacks=[_Course(self), *_trackers(options.run, out)],
        )
        self.remove_callback(PrinterCallback)
        # Every weight is used once a pass: keeping its 16-bit copy gains nothing, and costs 2 bytes
        # a parameter beside recomputed activations.
        self.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)

    # ------------------------------------------------------------------ data

    def get_train_dataloader(self) -> DataLoader[Step]:
        """The plan's steps, one after the other, the same on every process."""
        return DataLoader(
            self.steps,  # type: ignore[arg-type]
            batch_size=1,
            sampler=SequentialSampler(self.steps),
            collate_fn=_only,
        )

    def passes(self, rows: Sequence[int]) -> list[tuple[list[int], bool]]:
        """This process's forward passes over the rows of a step, and whether each counts."""
        return passes_of(
            rows,
            self.lengths,
            self.options.tokens_per_forward,
            packing=self.options.run.packing,
            part=parallel.rank(),
            parts=parallel.world_size(),
        )

    # ------------------------------------------------------------------ steps

    def training_step(
        self, model: Any, inputs: Any, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Forward and backward over the rows of a :class:`Step`; returns nats a learned token.

        Processes average their gradients, so each one's sum is taken times their number.
        """
        model.train()
        world = parallel.world_size()
        rows = [self.examples[row] for row in inputs.rows]
        supervised = sum(example.supervised for example in rows)
        at = dict(zip(inputs.rows, rows, strict=True))
        fill = self.options.tokens_per_forward if self.options.run.compile else None
        total = torch.zeros((), device=self.args.device)
        passes = self.passes(inputs.rows)
        for number, (chosen, counts) in enumerate(passes):
            batch = lay_out(
                [at[row] for row in chosen],
                self.args.device,
                fill=fill,
                longest=self.options.data.max_length,
                share=not self.unshared,
            )
            self._computed[0] += batch.input_ids.numel()
            self._computed[1] += sum(batch.samples.lengths)
            with self._gradients_meet(model, number == len(passes) - 1):
                with self.compute_loss_context_manager():
                    loss = summed_loss(model, batch) * (counts / supervised)
                self.accelerator.backward(loss * world if world > 1 else loss)
            total += loss.detach()
        if world > 1:
            mean, stopping = parallel.summed(float(total), float(bool(self._signal)))
            total.fill_(mean)
            self._stopping = bool(stopping)
        else:
            self._stopping = bool(self._signal)
        if not torch.isfinite(total):
            raise MeadowlarkError(
                f"the loss of step {self.state.global_step + 1} is {float(total)}; lower "
                "optimiser.learning_rate, or use run.precision = 'float32'"
            )
        before = self.tokens_seen
        self._count_tokens(self.state.global_step + 1)
        if self.progress is not None:
            used = f", MFU {self._mfu:.0%}" if self._mfu is not None else ""
            note = f"loss {float(total):.3f}, {_peak_memory_bytes() / 1e9:.1f} GB{used}"
            self.progress.advance(self.tokens_seen - before, note)
        return total

    def _gradients_meet(self, model: Any, last: bool) -> contextlib.AbstractContextManager[Any]:
        """Whole copies of a model average their gradients once a step; shards in every pass."""
        if last or parallel.world_size() == 1 or is_sharded(self.model):
            return contextlib.nullcontext()
        meet: contextlib.AbstractContextManager[Any] = self.accelerator.no_sync(model)
        return meet

    def _count_tokens(self, done: int) -> None:
        for step in self.steps[self._counted : done]:
            self.tokens_seen += sum(int(self.lengths[row]) for row in step.rows)
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
        found = self.evaluation()
        line = {"eval_loss": found.loss, "bits_per_byte": found.bits_per_byte}
        self._evaluations.append(self._write(line))
        if self.options.run.keep_best and self.best_step() == self.state.global_step:
            self._keep_best()
        if self._is_enough(self._evaluations):
            self.control.should_training_stop = True
        self._mark = (time.monotonic(), self.tokens_seen)  # evaluating is not training speed
        return line

    def evaluation(self) -> Evaluation:
        """How well the validation rows' responses are predicted now."""
        return evaluate(
            self.model,
            self.validation,
            tokens_per_forward=self.options.tokens_per_forward,
            autocast=self.autocast,
            lengths=_lengths(self.validation),
            share=True,  # dropout is off
        )

    def best_step(self) -> int | None:
        """The step of the evaluation with the fewest bits a byte; the first of equals."""
        best = min(self._evaluations, key=lambda line: line["bits_per_byte"], default=None)
        return best["step"] if best is not None else None

    def _is_enough(self, evaluations: Sequence[dict[str, Any]]) -> bool:
        """Whether training may end after these evaluations: good enough, or no longer better."""
        if not evaluations:
            return False
        bits = [line["bits_per_byte"] for line in evaluations]
        if self.stop_below is not None and bits[-1] < self.stop_below:
            return True
        patience = self.options.run.patience
        return 0 < patience < len(bits) and min(bits[-patience:]) >= min(bits[:-patience])

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
        line |= {"tokens": self.tokens_seen, "tokens_per_s": round(speed, 1)}
        line["memory_bytes"] = _peak_memory_bytes()
        (computed, whole), self._computed = self._computed, [0, 0]
        computed_share = computed / whole if whole else 1.0
        if computed_share < 1.0:
            line["shared"] = round(1 - computed_share, 3)
        if self.plan is not None:
            self._mfu = self.plan.mfu(speed * computed_share / self.plan.computed)
            line["mfu"] = round(self._mfu, 4)
        self._write(line)

    def _write(self, line: dict[str, Any]) -> dict[str, Any]:
        step = self.state.global_step
        epoch = self.steps[step - 1].epoch if step else 0.0
        whole = {"step": step, "epoch": round(epoch, 6), **line}
        if parallel.is_main():
            log.append(self.log_path, whole)
        if self.options.run.report_to:
            shown = {k.replace("bits_per", "eval_bits_per"): v for k, v in line.items()}
            self.callback_handler.on_log(self.args, self.state, self.control, shown)
        return whole

    def sample(self) -> None:
        """Answer the chosen validation prompts with the model as it is, into ``samples.jsonl``."""
        if self.sampler is None:
            return
        for line in self.sampler.answers(self.model, self.autocast):
            if parallel.is_main():
                log.append(self.samples_path, {"step": self.state.global_step, **line})
        self._mark = (time.monotonic(), self.tokens_seen)

    # ------------------------------------------------------------------ checkpoints

    def _get_output_dir(self, trial: Any = None) -> str:
        return str(self.checkpoints / UNFINISHED)

    def _save_checkpoint(self, model: Any, trial: Any = None) -> None:
        super()._save_checkpoint(model, trial)
        parallel.barrier()
        if parallel.is_main():
            name = f"checkpoint-{self.state.global_step}"
            folder = self.checkpoints
            target = folder / name
            shutil.rmtree(target, ignore_errors=True)
            (folder / UNFINISHED / name).rename(target)
            for path in folder.glob("checkpoint-*"):
                if path != target:
                    shutil.rmtree(path)
        parallel.barrier()

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Weights alone: the tokenizer and the options are in the run's folder already."""
        assert output_dir is not None
        if not is_sharded(self.model):  # else they go with the optimiser's state, below
            save_weights(self.model, Path(output_dir))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not is_sharded(self.model):
            super()._save_optimizer_and_scheduler(output_dir)
            return
        save_shards(self.model, self._bare_optimiser(), Path(output_dir))
        assert self.lr_scheduler is not None
        if parallel.is_main():
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        if not is_sharded(self.model):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None or not is_sharded(self.model):
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        assert self.lr_scheduler is not None
        load_shards(self.model, self._bare_optimiser(), Path(checkpoint))
        schedule = torch.load(Path(checkpoint) / SCHEDULER, weights_only=True)
        self.lr_scheduler.load_state_dict(schedule)

    def _bare_optimiser(self) -> Any:
        return getattr(self.optimizer, "optimizer", self.optimizer)

    def _wrap_model(self, model: Any, training: bool = True, dataloader: Any = None) -> Any:
        if is_sharded(model):
            return Sharded(model)
        return super()._wrap_model(model, training, dataloader)

    def _clip_grad_norm(self, model: Any) -> Any:
        norm: Any = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        return norm.full_tensor() if hasattr(norm, "full_tensor") else norm

    def whole_state(self) -> dict[str, Any] | None:
        """The weights of a sharded model, gathered in the main process; None where none is."""
        if not is_sharded(self.model):
            return None
        return gathered(self.model, trained_only=self.options.lora is not None)

    def _keep_best(self) -> None:
        state = self.whole_state()
        if not parallel.is_main():
            return
        target = self.checkpoints / f"{BEST}{self.state.global_step}"
        beside = self.checkpoints / f"{UNFINISHED}-best"
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(parents=True)
        save_weights(self.model, beside, state)
        shutil.rmtree(target, ignore_errors=True)
        beside.rename(target)
        for path in self.checkpoints.glob(f"{BEST}*"):
            if path != target:
                shutil.rmtree(path)

    def best_weights(self) -> Path | None:
        """The folder of the best evaluation's weights, where they are not the last step's."""
        step = self.best_step()
        if not self.options.run.keep_best or step is None or step == self.state.global_step:
            return None
        return self.checkpoints / f"{BEST}{step}"

    # ------------------------------------------------------------------ the whole run

    def fit(self) -> None:
        """Train to the end of the plan, from the newest checkpoint where there is one.

        Raises :class:`Stopped` after a checkpoint where a signal came.
        """
        checkpoint = newest_checkpoint(self.checkpoints)
        done = _steps_of(checkpoint) if checkpoint is not None else 0
        kept = parallel.on_main(lambda: self._rewind(done if checkpoint else None))
        self._evaluations = [line for line in kept if "eval_loss" in line]
        self._count_tokens(done)
        self._mark = (time.monotonic(), self.tokens_seen)
        ended = [line for line in self._evaluations if line["step"] == done]
        if done and ended and self._is_enough(self._evaluations):
            # Ended on purpose at this very step, and stopped before the result was written.
            self._load_from_checkpoint(str(checkpoint))
            self.state.global_step = done
            return
        total = sum(int(self.lengths[row]) for step in self.steps for row in step.rows)
        with Progress("train", total, "tokens") as self.progress, self._signals():
            self.progress.skip(self.tokens_seen)
            self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if self.stopped():
            raise Stopped(
                f"stopped after step {self.state.global_step:,} of {len(self.steps):,}, with a "
                "checkpoint; the same command goes on from here",
                self._signal or signal.SIGTERM,
            )

    def stopped(self) -> bool:
        """Whether a signal ended the run before its end."""
        return self._stopping and self.state.global_step < len(self.steps)

    def evaluated(self) -> bool:
        """Whether the model was evaluated as it is."""
        return any(line["step"] == self.state.global_step for line in self._evaluations)

    def _rewind(self, step: int | None) -> list[dict[str, Any]]:
        log.rewind(self.samples_path, step)
        for path in self.checkpoints.glob(f"{BEST}*"):
            if step is None or _steps_of(path) > step:
                shutil.rmtree(path)
        return log.rewind(self.log_path, step)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and the first Ctrl-C end the run after the step at work."""

        def asked(number: int, _: FrameType | None) -> None:
            if number == signal.SIGINT and self._signal:
                raise KeyboardInterrupt
            self._signal = number
            if parallel.is_main():
                print("meadowlark: stopping after this step", file=sys.stderr, flush=True)

        before = {}
        with contextlib.suppress(ValueError):  # only a program's main thread gets signals
            before = {s: signal.signal(s, asked) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Course(TrainerCallback):
    """What happens around the steps: first and last evaluation, samples, stopping when asked."""

    def __init__(self, trainer: PackedTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Evaluate before the first step."""
        if not state.global_step and not self.trainer.evaluated():
            self.trainer.evaluate()
        control.should_training_stop = False

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Evaluate after the last step, before trackers close."""
        if not self.trainer.stopped() and not self.trainer.evaluated():
            self.trainer.evaluate()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Sample where it is time; save and end where a signal came."""
        every = self.trainer.options.run.sample_every_steps
        if every and (state.global_step % every == 0 or state.global_step == state.max_steps):
            self.trainer.sample()
        if self.trainer._stopping:
            control.should_save = control.should_training_stop = True


def _trackers(run: RunOptions, out: Path) -> list[TrainerCallback]:
    """The callbacks of the trackers that were asked for; the main process reports."""
    if not parallel.is_main():
        return []
    from transformers.integrations import integration_utils as trackers

    found: list[Any] = []
    if "tensorboard" in run.report_to:
        importlib.import_module("tensorboard")  # else an error without the package's name
        from torch.utils.tensorboard import SummaryWriter

        writer = SummaryWriter(log_dir=str(out / "tensorboard"))
        found.append(trackers.TensorBoardCallback(writer))  # type: ignore[no-untyped-call]
    if "wandb" in run.report_to:
        importlib.import_module("wandb")
        found.append(trackers.WandbCallback())  # type: ignore[no-untyped-call]
    return found


def _only(steps: list[Step]) -> Step:
    return steps[0]


def _lengths(examples: Sequence[Example]) -> Sequence[int]:
    """Tokens of each row; an encoded data set knows them without reading its rows."""
    known: Sequence[int] | None = getattr(examples, "lengths", None)
    return [len(e.input_ids) for e in examples] if known is None else known


def _peak_memory_bytes() -> int:
    """The most memory held so far: on the GPU where there is one, else by this process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
        optim=OPTIMISERS[optimiser.name],
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
        ddp_find_unused_parameters=False,
    )
    arguments._setup_devices  # noqa: B018  (counts the GPUs)
    arguments._n_gpu = min(arguments.n_gpu, 1)  # several would mean DataParallel
    return arguments


OPTIMISERS = {
    "adamw": "adamw_torch_fused",
    "adamw_8bit": "adamw_8bit",
    "paged_adamw": "paged_adamw_32bit",
    "paged_adamw_8bit": "paged_adamw_8bit",
}
"""Our names of optimisers as transformers knows them."""
