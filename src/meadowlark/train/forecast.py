"""Memory and speed of one way to run a training: options, layers that recompute, devices.

A :class:`Forecaster` lays the rows out in steps and passes as training does, dry-runs the passes
that matter, and keeps what it found. Memory is that of the worst pass; time is a roofline over
the operations of a typical one, times one stated efficiency. What several devices share and send
each other is by formula.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PretrainedConfig

from meadowlark.errors import UserError
from meadowlark.train.device import arithmetic
from meadowlark.train.devices import Device, rate
from meadowlark.train.dry_run import DryRun, Load, dry_run, recomputing
from meadowlark.train.encode import Example
from meadowlark.train.ledger import (
    DONE,
    GRADIENTS,
    MOVED,
    NEEDED,
    OPTIMISER,
    PARTS,
    QUADRATIC,
    WEIGHTS,
    Bytes,
)
from meadowlark.train.options import TrainOptions
from meadowlark.train.pack import passes_of, plan_steps
from meadowlark.train.prefix import common_parts, dropout_of

EFFICIENCY = 0.8
"""Of the rate of a large product and of a large copy, what a step's operations reach: assumed, one
figure for all methods and devices. It puts LoRA on an H100 within 5 % of what NeMo AutoModel
published, and on a 4090 a third below torchtune's (tested); `make bench-gpu` measures it."""
LAUNCH_S = 15e-6
"""What starting an operation costs the CPU in eager mode, so that short passes are bound by it."""
SPARE = 0.04
"""Of what comes and goes within a step, what the allocator's gaps cost besides."""
THREADS = 2
"""Threads with a cuBLAS workspace each: the main one and the one that runs backward."""
STARTING = "starting operations"
HOST_BANDWIDTH = 25e9
"""Bytes a second between a GPU and its host (PCIe 4, 16 lanes)."""
SAMPLED_STEPS = 1000
"""Of a data set of more steps an epoch, so many are packed, and the rest is taken to be alike."""
SAMPLED_PASSES = 200
"""Of so many passes it is looked up what their rows begin with alike: half of them those with the
longest rows, which share the least, the others all over the data."""
ALIKE = 0.5
"""Share of the largest pass's tokens from which another may stand for it in time."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes on one device at the worst moment of a step.

    ``parts`` are tensors, ``workspace`` cuBLAS'. ``needed`` adds the context and the allocator's
    gaps: what must be there. Of it, ``pageable`` may move to the host. ``peak`` is what the log's
    memory_bytes should come to: tensors and workspaces on a GPU, the whole process on a CPU.
    """

    parts: dict[str, int]
    workspace: int
    peak: int
    context: int
    spare: int
    needed: int
    available: int
    pageable: int = 0

    @property
    def fits(self) -> bool:
        """Whether the device holds it."""
        return self.needed - self.pageable <= self.available

    @property
    def paged(self) -> int:
        """Bytes that do move to the host."""
        return min(max(self.needed - self.available, 0), self.pageable)


@dataclass(frozen=True, slots=True)
class Speed:
    """Seconds of a step and of all, tokens a second of all devices, and how well they are used.

    ``mfu`` is the FLOPs that the model needs over the devices' matrix rate, ``hfu`` those done.
    ``bound_by`` is what most of the time goes to.
    """

    step_s: float
    training_s: float
    tokens_per_s: float
    mfu: float
    hfu: float
    bound_by: str


@dataclass(frozen=True, slots=True)
class Case:
    """One way to run a training: options, which layers recompute, and how many devices."""

    options: TrainOptions
    recompute: tuple[bool, ...]
    processes: int = 1

    @property
    def sharded(self) -> bool:
        """Whether each device holds a shard."""
        return self.processes > 1 and self.options.run.parallel == "fsdp"

    @property
    def copied(self) -> bool:
        """Whether each of several devices holds all."""
        return self.processes > 1 and not self.sharded


@dataclass(frozen=True, slots=True)
class LaidOut:
    """The data as steps and passes; figures a pass are of one device, tokens those of the rows.

    ``computed`` is the share of them that is computed, since what rows of a pass begin with alike
    is computed once. ``heaviest`` has the samples of the pass that computes most and as many
    learned tokens as any, ``typical`` stands for all in time: the same one where passes are alike.
    """

    steps: int
    passes_per_step: float
    tokens_per_step: float
    tokens_per_pass: float
    computed: float
    supervised_per_token: float
    pairs_per_token: float
    heaviest: Load
    typical: Load


class Forecaster:
    """Forecasts for one model, data set and kind of device; every dry run is made once.

    ``rows`` are those of ``lengths``; without them nothing is taken to begin alike.
    """

    def __init__(
        self,
        config: PretrainedConfig,
        lengths: npt.NDArray[np.int64],
        supervised: npt.NDArray[np.int64],
        device: Device,
        rows: Sequence[Example] | None = None,
    ) -> None:
        self.config, self.device, self.rows = config, device, rows
        self.has_dropout = bool(dropout_of(config))
        self.lengths, self.supervised = lengths.tolist(), supervised.tolist()
        self._found: dict[Any, DryRun] = {}
        self._laid: dict[Any, LaidOut] = {}

    # ------------------------------------------------------------------ data

    def laid_out(self, case: Case) -> LaidOut:
        """The rows of the first epoch in steps and passes."""
        options = case.options
        run, data = options.run, options.data
        key = (
            options.tokens_per_forward,
            run.packing,
            run.compile,
            data.max_length,
            case.processes,
            self._shares(options),
        )
        if key not in self._laid:
            self._laid[key] = self._lay_out(case)
        return self._laid[key]

    def _shares(self, options: TrainOptions) -> bool:
        """Whether training computes once what rows begin with alike (``PackedTrainer``)."""
        dropout = self.has_dropout or (options.lora is not None and options.lora.dropout)
        run = options.run
        return bool(self.rows is not None and run.packing and not run.compile and not dropout)

    def _lay_out(self, case: Case) -> LaidOut:
        options = case.options
        planned = plan_steps(
            self.lengths,
            seed=options.run.seed,
            epochs=1,
            batch_rows=options.optimiser.batch_rows,
            batch_tokens=options.optimiser.batch_tokens,
        )
        steps = len(planned) * options.optimiser.epochs
        if options.optimiser.max_steps is not None:
            steps = min(steps, options.optimiser.max_steps)
        sampled = planned[: min(SAMPLED_STEPS, steps)]
        passes: list[list[int]] = []
        for step in sampled:
            of_step = passes_of(
                step.rows,
                self.lengths,
                options.tokens_per_forward,
                packing=options.run.packing,
                parts=case.processes,
            )
            passes += [rows for rows, _ in of_step]
        loads = [self._load(rows, options) for rows in passes]
        whole = sum(sum(load.lengths) for load in loads) / len(loads)
        computed = 1.0
        count, supervised = len(loads), max(load.supervised for load in loads)
        if self._shares(options):
            loads, computed = self._sharing(passes, loads)
        rows = [row for step in sampled for row in step.rows]
        tokens = sum(self.lengths[row] for row in rows)
        by_size = sorted(loads, key=lambda load: (load.tokens, load.supervised))
        heaviest = replace(by_size[-1], supervised=supervised)
        typical = by_size[len(by_size) // 2]
        if typical.tokens > ALIKE * heaviest.tokens:
            typical = heaviest  # one dry run for both
        return LaidOut(
            steps=steps,
            passes_per_step=count / len(sampled),
            tokens_per_step=tokens / len(sampled),
            tokens_per_pass=whole,
            computed=computed,
            supervised_per_token=sum(self.supervised[row] for row in rows) / tokens,
            pairs_per_token=_pairs(self.lengths[row] for row in rows) / tokens,
            heaviest=heaviest,
            typical=typical,
        )

    def _load(self, rows: Sequence[int], options: TrainOptions) -> Load:
        lengths = [self.lengths[row] for row in rows]
        if options.run.compile:  # filled up, as pack.lay_out does
            while (room := options.tokens_per_forward - sum(lengths)) > 0:
                lengths.append(min(room, options.data.max_length))
        return Load(tuple(lengths), sum(self.supervised[row] for row in rows))

    def _sharing(
        self, passes: Sequence[Sequence[int]], loads: Sequence[Load]
    ) -> tuple[list[Load], float]:
        """Some passes with what their rows begin with alike, and the share of tokens computed."""
        rows = self.rows
        assert rows is not None
        longest = sorted(range(len(loads)), key=lambda number: -max(loads[number].lengths))
        places = np.linspace(0, len(loads) - 1, SAMPLED_PASSES // 2).round().astype(int)
        evenly = sorted({int(place) for place in places})
        found: dict[int, Load] = {}
        for number in {*evenly, *longest[: SAMPLED_PASSES // 2]}:
            ids = [rows[row].input_ids for row in passes[number]]
            parts = common_parts(ids) if len(ids) > 1 else []
            shared = tuple((len(group) - 1, stop - start) for group, start, stop in parts)
            found[number] = replace(loads[number], shared=shared)
        some = [found[number] for number in evenly]
        computed = sum(load.tokens for load in some) / sum(sum(load.lengths) for load in some)
        return list(found.values()), computed

    # ------------------------------------------------------------------ memory

    def dry_run(self, case: Case, load: Load) -> DryRun:
        """A step of a case over passes of ``load``."""
        count, layers = sum(case.recompute), len(case.recompute)
        share = "none" if count == 0 else "all" if count == layers else "some"
        key = (_key(case), load, share)
        if key not in self._found:
            which = recomputing(layers, layers // 2) if share == "some" else case.recompute
            self._found[key] = dry_run(
                self.config, _as_met(case), load, gpu=self.device.gpu, recompute=which
            )
        return self._found[key].at(self.config, case.recompute)

    def memory(self, case: Case) -> Memory:
        """Memory of the worst pass."""
        laid = self.laid_out(case)
        passes = 2 if laid.passes_per_step > 1 else 1
        dry = self.dry_run(case, laid.heaviest)
        worst = _shards(case, dry, passes) if case.sharded else dry.peak(passes)
        if case.copied:
            worst[GRADIENTS] += dry.whole().gradients  # the buckets of DDP
        tensors = int(worst.sum())
        workspace = THREADS * self.device.workspace
        comes_and_goes = tensors - int(worst[WEIGHTS] + worst[OPTIMISER])
        spare = int(SPARE * comes_and_goes) if self.device.gpu else 0
        needed = tensors + workspace + self.device.context + spare
        paged = case.options.optimiser.name.startswith("paged") and self.device.gpu
        return Memory(
            parts=dict(zip(PARTS, worst.tolist(), strict=True)),
            workspace=workspace,
            peak=tensors + workspace if self.device.gpu else needed,
            context=self.device.context,
            spare=spare,
            needed=needed,
            available=self.device.memory_bytes,
            pageable=int(worst[OPTIMISER]) if paged else 0,
        )

    # ------------------------------------------------------------------ time

    def matrix_rate(self, options: TrainOptions) -> float:
        """FLOP/s of one device in the type that the arithmetic runs in."""
        compute = arithmetic(options, gpu=self.device.gpu)
        name = str(compute).removeprefix("torch.") if compute else options.model.dtype
        return rate(self.device, name)

    def flops_per_token(self, case: Case) -> tuple[float, float]:
        """Matrix FLOPs a token, those that the model needs and those done.

        Counted in a typical pass; the shares of head and attention, which go with the learned
        tokens and with the squares of lengths, are made those of all rows.
        """
        laid = self.laid_out(case)
        kept = replace(case, recompute=(False,) * len(case.recompute))
        return (
            _flops_per_token(self.dry_run(kept, laid.typical), laid, NEEDED),
            _flops_per_token(self.dry_run(case, laid.typical), laid, DONE),
        )

    def speed(self, case: Case) -> Speed:
        """Time, by a roofline over the operations of a typical pass."""
        laid, options = self.laid_out(case), case.options
        dry = self.dry_run(case, laid.typical)
        work = np.concatenate([s.work for s in dry.pass_of(dry.later)])
        products = work[:, DONE] / (self.matrix_rate(options) * EFFICIENCY)
        seconds = np.maximum(products, work[:, MOVED] / (self.device.bandwidth * EFFICIENCY))
        seconds *= laid.tokens_per_pass * laid.computed / laid.typical.tokens
        is_product = work[:, DONE] > 0
        sent = self._sending_s(case, dry)
        ways = {
            "computing": float(seconds.sum()),
            STARTING: len(work) * LAUNCH_S,
            "traffic between devices": sent if case.sharded else 0.0,
        }
        bound_by = max(ways, key=lambda way: ways[way])
        if bound_by == "computing":
            more = float(seconds[is_product].sum()) >= float(seconds[~is_product].sum())
            bound_by = "matrix products" if more else "memory traffic"
        # A GPU computes while the CPU starts what comes next; a CPU does one after the other.
        pass_s = max(ways.values()) if self.device.gpu else sum(ways.values())
        step_s = laid.passes_per_step * pass_s
        step_s += self._optimiser_s(case, dry) + (sent if case.copied else 0.0)
        needed, done = self.flops_per_token(case)
        tokens_per_s = laid.tokens_per_step / step_s
        whole_rate = self.matrix_rate(options) * case.processes
        return Speed(
            step_s=step_s,
            training_s=step_s * laid.steps,
            tokens_per_s=tokens_per_s,
            mfu=tokens_per_s * needed / whole_rate,
            hfu=tokens_per_s * done / whole_rate,
            bound_by=bound_by,
        )

    def _optimiser_s(self, case: Case, dry: DryRun) -> float:
        """Seconds to clip (three times over the gradients) and to step (all read, all but the
        gradients written), and for paged state to come and go."""
        whole = dry.whole()
        moved = (4 + 2) * whole.gradients + 2 * whole.optimiser
        seconds = moved / (self.device.bandwidth * EFFICIENCY)
        if case.sharded:
            seconds /= case.processes
        if case.options.optimiser.name.startswith("paged"):
            seconds += 2 * self.memory(case).paged / HOST_BANDWIDTH
        return seconds

    def _sending_s(self, case: Case, dry: DryRun) -> float:
        """Seconds on a device's link: of shards a pass (weights twice, gradients once), of whole
        copies a step (gradients twice)."""
        if case.processes == 1:
            return 0.0
        if not self.device.link:
            raise UserError(f"nothing is known of the links between several {self.device.title}")
        whole = dry.whole()
        moved = 2 * whole.weights + whole.gradients if case.sharded else 2 * whole.gradients
        return moved * (case.processes - 1) / case.processes / self.device.link


def _pairs(lengths: Any) -> float:
    return float(sum(n * (n + 1) / 2 for n in lengths))


def _flops_per_token(dry: DryRun, laid: LaidOut, column: int) -> float:
    one, load = dry.later, laid.typical
    work = np.concatenate([stretch.work for stretch in dry.pass_of(one)])
    head = one.head.work[:, column].sum()
    attention = work[work[:, QUADRATIC] > 0, column].sum()
    linear = work[:, column].sum() - head - attention
    return float(
        linear / load.tokens * laid.computed
        + head / load.supervised * laid.supervised_per_token
        + attention / _pairs(load.lengths) * laid.pairs_per_token
    )


def _key(case: Case) -> str:
    """All that a dry run depends on besides the pass and the layers that recompute."""
    values = _as_met(case).model_dump(mode="json")
    del values["data"], values["run"]["gradient_checkpointing"], values["run"]["tokens_per_forward"]
    return json.dumps(values, sort_keys=True)


# --------------------------------------------------------------------------- shards


def _as_met(case: Case) -> TrainOptions:
    """Options with the weights as a device meets them: float32 shards in the arithmetic's type."""
    options = case.options
    if not case.sharded or options.model.dtype != "float32" or options.lora is not None:
        return options
    compute = arithmetic(options, gpu=True)
    if compute is None:
        return options
    name = str(compute).removeprefix("torch.")
    return options.model_copy(update={"model": options.model.model_copy(update={"dtype": name})})


def _shards(case: Case, dry: DryRun, passes: int) -> Bytes:
    """Bytes by part under FSDP2 (``shards.py``), on the device with the largest share.

    Of what lasts a shard; of weights besides, those of the layer at work, of the next, and of what
    is around the layers; of gradients those of a layer, once more in float32 where they are
    averaged in it.
    """
    whole, around = dry.whole(), dry.around
    layer = max(dry.layers, key=lambda counted: counted.weights)
    wider = 1 if _as_met(case) is case.options else 2  # float32 shards of what meets in 16 bits
    state = 1 if "8bit" in case.options.optimiser.name else wider
    worst = dry.peak(passes, lasting=False)
    worst[WEIGHTS] = wider * whole.weights // case.processes + 2 * layer.weights + around.weights
    worst[GRADIENTS] = wider * whole.gradients // case.processes
    worst[GRADIENTS] += max(layer.gradients, around.gradients) * (1 + (wider if wider > 1 else 0))
    worst[OPTIMISER] = state * whole.optimiser // case.processes
    return worst
