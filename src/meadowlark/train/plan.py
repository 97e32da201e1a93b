"""What a training run will take, before any weights are loaded.

In come the run's options, the model's configuration, the rows' lengths and a device; out comes a
:class:`Plan`: parameters, memory by part at the worst moment, FLOPs, speed and hours, and what
would have to change to fit or could to be faster. ``forecast.py`` has the method. After training
the same figures stand beside what was measured.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig

from meadowlark.errors import UserError
from meadowlark.train.changes import Change, fewest_recomputing, find_changes
from meadowlark.train.device import arithmetic, refuse_what_cannot_be_sharded
from meadowlark.train.devices import Device
from meadowlark.train.dry_run import depth, recomputing
from meadowlark.train.encode import Example
from meadowlark.train.forecast import EFFICIENCY, LAUNCH_S, Case, Forecaster, Memory, Speed
from meadowlark.train.lengths import find_lengths, on_disk
from meadowlark.train.model import refuse_what_the_model_cannot, scratch_config
from meadowlark.train.options import TrainOptions
from meadowlark.train.shapes import known_shape

NAME = "plan.json"
"""The plan of a run beside what it measured, in the run's folder."""


class Rows(Protocol):
    """What :func:`predict` asks of data: tokens of each row, and how many of them are learned."""

    @property
    def lengths(self) -> npt.NDArray[np.int64]: ...

    @property
    def supervised(self) -> npt.NDArray[np.int64]: ...


@dataclass(frozen=True, slots=True)
class Plan:
    """The prediction for a run: memory of one device, FLOPs of a token, time of all steps.

    ``flops_per_token`` are those that the model needs, ``flops_done_per_token`` count recomputing
    besides; both are of a token of the rows, of which the share ``computed`` is computed, since
    what rows begin with alike is computed once. ``matrix_flops`` is the rate of one device that
    ``speed.mfu`` is over. ``packing`` is how full passes are. ``least_recomputing`` is the smallest
    number of layers that must recompute for the run to fit: the fastest choice; None where all do
    not suffice, or nobody asked. ``changes`` fit where the run does not, or are quicker; the
    quickest comes first.
    """

    model: str
    configuration: str
    method: str
    parameters: int
    trainable_parameters: int
    layers: int
    recomputing_layers: int
    least_recomputing: int | None
    device: str
    device_source: str
    processes: int
    parallel: str
    rows: int
    tokens: int
    supervised_tokens: int
    lengths: str
    epochs: int
    steps: int
    passes_per_step: float
    tokens_per_forward: int
    packing: float
    computed: float
    memory: Memory
    flops_per_token: float
    flops_done_per_token: float
    matrix_flops: float
    speed: Speed
    changes: tuple[Change, ...]
    notes: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the device holds the run."""
        return self.memory.fits

    def mfu(self, tokens_per_s: float) -> float:
        """The share of all devices' matrix rate that so many tokens a second use."""
        return tokens_per_s * self.flops_per_token / (self.matrix_flops * self.processes)

    def as_json(self) -> dict[str, Any]:
        """JSON values."""
        return {**asdict(self), "fits": self.fits}


def plan(
    options: TrainOptions, device: Device, *, processes: int = 1, limit: int | None = None
) -> Plan:
    """Find configuration and lengths, and predict."""
    lengths = find_lengths(options, limit)
    config, origin = find_config(options, lengths.vocabulary)
    made = predict(
        options,
        config,
        lengths,
        device,
        processes=processes,
        vocabulary=lengths.vocabulary,
        examples=lengths.examples,
    )
    notes = made.notes
    if lengths.validation_tokens:
        notes += (f"evaluations, of {lengths.validation_tokens:,} tokens each, come on top",)
    return replace(made, configuration=origin, lengths=lengths.origin, notes=notes)


def find_config(options: TrainOptions, vocabulary: int = 0) -> tuple[PretrainedConfig, str]:
    """The model's configuration and where it is from.

    A folder needs a config.json, no weights; a hub id is looked up in the cache, then in the table
    of well-known shapes, then on the hub. ``vocabulary`` is the size of a new tokenizer.
    """
    scratch, base = options.model.from_scratch, options.model.base
    if scratch is not None:
        return scratch_config(scratch, vocabulary or scratch.vocabulary), "[model.from_scratch]"
    assert base is not None
    if not on_disk(base, ("config.json",)):
        if Path(base).is_dir():
            raise UserError(f"{base} holds no config.json, so nothing is known of the model")
        shape = known_shape(base)
        if shape is not None:
            return shape, "a table of well-known models: its configuration is not on this machine"
    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise UserError(
            f"cannot read the configuration of {base!r}: {error}. Expected a folder with a "
            "config.json, or a hub id that is cached or can be reached"
        ) from None
    return config, "its config.json"


def predict(
    options: TrainOptions,
    config: PretrainedConfig,
    rows: Rows,
    device: Device,
    *,
    processes: int = 1,
    vocabulary: int = 0,
    changes: bool = True,
    examples: Sequence[Example] | None = None,
) -> Plan:
    """The prediction for a model of ``config`` trained on ``rows`` on ``device``.

    With several ``processes``, a device each, every one holds a shard or a copy as ``run.parallel``
    says. ``vocabulary`` is the tokenizer's size, added tokens included (0: not known). ``changes``
    also looks for what would fit or be quicker, which takes some seconds. ``examples`` are the rows
    themselves: without them nothing is known of what they begin with alike, and memory and time are
    upper bounds. Raises UserError for what
    the model cannot do.
    """
    options = _as_held(options, config)
    refuse_what_cannot_be_sharded(options, processes)
    config = _as_trained(config, options, vocabulary)
    _refuse(config, options)
    learned, tokens = np.asarray(rows.supervised), np.asarray(rows.lengths)
    forecaster = Forecaster(config, tokens, learned, device, examples)
    layers = depth(config)
    case = Case(options, recomputing(layers, options.run.gradient_checkpointing), processes)
    laid = forecaster.laid_out(case)
    whole = forecaster.dry_run(case, laid.heaviest).whole()
    needed, done = forecaster.flops_per_token(case)
    least = fewest_recomputing(forecaster, case) if changes else None
    return Plan(
        model=options.model.base or "a new LLaMA",
        configuration="as given",
        method=method(options, gpu=device.gpu),
        parameters=whole.parameters,
        trainable_parameters=whole.trained,
        layers=layers,
        recomputing_layers=sum(case.recompute),
        least_recomputing=sum(least.recompute) if least is not None else None,
        device=device.title,
        device_source=device.source,
        processes=processes,
        parallel=options.run.parallel if processes > 1 else "",
        rows=len(tokens),
        tokens=int(tokens.sum()),
        supervised_tokens=int(learned.sum()),
        lengths="as given",
        epochs=options.optimiser.epochs,
        steps=laid.steps,
        passes_per_step=laid.passes_per_step,
        tokens_per_forward=options.tokens_per_forward,
        packing=laid.tokens_per_pass / options.tokens_per_forward,
        computed=laid.computed,
        memory=forecaster.memory(case),
        flops_per_token=needed,
        flops_done_per_token=done,
        matrix_flops=forecaster.matrix_rate(options),
        speed=forecaster.speed(case),
        changes=tuple(find_changes(forecaster, case)) if changes else (),
        notes=tuple(_notes(options, device, processes)),
    )


def _refuse(config: PretrainedConfig, options: TrainOptions) -> None:
    """Refuse what training would refuse on the model's outline."""
    with torch.device("meta"):
        made: Any = AutoModelForCausalLM
        outline = made.from_config(config, trust_remote_code=False)
    run = options.run.model_copy(update={"kernels": "torch"})  # Liger may be elsewhere only
    vocabulary = range(config.get_text_config().vocab_size)
    refuse_what_the_model_cannot(outline, options.model_copy(update={"run": run}), vocabulary)


def method(options: TrainOptions, *, gpu: bool) -> str:
    """A run's method in a few words."""
    if options.lora is None:
        kind = "full fine-tuning" if options.model.from_scratch is None else "from scratch"
        words = f"{kind}, {options.model.dtype} weights"
    else:
        kind = "DoRA" if options.lora.dora else "rsLoRA" if options.lora.rslora else "LoRA"
        base = options.model.quantise or options.model.dtype
        words = f"{kind} of rank {options.lora.rank} on a base in {base}"
    compute = str(arithmetic(options, gpu=gpu) or options.model.dtype).removeprefix("torch.")
    words += f", arithmetic in {compute}, {options.optimiser.name}"
    return words + (", Liger's kernels" if options.run.kernels == "liger" else "")


def _as_held(options: TrainOptions, config: PretrainedConfig) -> TrainOptions:
    """The options with the quantisation that a base brings already."""
    made = getattr(config, "quantization_config", None) or {}
    made = made if isinstance(made, dict) else made.to_dict()
    kinds = {"load_in_8bit": "int8", "load_in_4bit": "nf4"}
    held = next((kind for key, kind in kinds.items() if made.get(key)), options.model.quantise)
    model = options.model.model_copy(update={"quantise": held})
    return options.model_copy(update={"model": model})


def _as_trained(
    config: PretrainedConfig, options: TrainOptions, vocabulary: int
) -> PretrainedConfig:
    """A configuration with embeddings for the added tokens, as ``embed_tokens`` makes them, and
    without a word on how a base is quantised."""
    config = copy.deepcopy(config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    added, text = len(options.model.added_tokens), config.get_text_config()
    if added:
        text.vocab_size = max(text.vocab_size, vocabulary or text.vocab_size + added)
    return config


def _notes(options: TrainOptions, device: Device, processes: int) -> list[str]:
    """What the prediction rests on and leaves out."""
    notes = [
        f"speed assumes {EFFICIENCY:.0%} of the device's matrix rate and bandwidth "
        f"({device.source}) and {LAUNCH_S * 1e6:.0f} µs to start an operation: an assumption until "
        "measured"
    ]
    if options.run.compile and device.gpu:
        notes.append("compiled layers are counted as Liger's kernels, which keep about as much")
    elif options.run.compile:
        notes.append("memory and time are of layers that are not compiled: an upper bound")
    if processes > 1:
        notes.append(f"{processes} processes: shards and traffic by formula, not by a dry run")
    return notes


# --------------------------------------------------------------------------- after training


def beside(made: Plan, lines: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Plan and measurement of a finished run, for :data:`NAME`.

    ``lines`` are those of the training log. A rate is the median over logged steps, the first left
    out where there are others, since it warms up. Memory is what PyTorch's allocator gave out on a
    GPU, the whole process on a CPU.
    """
    steps = [line for line in lines if "tokens_per_s" in line]
    timed = steps[1:] or steps
    measured: dict[str, Any] = {}
    if timed:
        measured = {
            "peak_memory_bytes": max(line["memory_bytes"] for line in steps),
            "tokens_per_s": median(line["tokens_per_s"] for line in timed),
            "mfu": median(line["mfu"] for line in timed),
        }
    predicted = {
        "peak_memory_bytes": made.memory.peak,
        "tokens_per_s": made.speed.tokens_per_s,
        "mfu": made.speed.mfu,
    }
    return {"predicted": predicted, "measured": measured, "plan": made.as_json()}
