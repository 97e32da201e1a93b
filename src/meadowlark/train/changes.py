"""What would have to change for a training to fit its device, or could for it to be faster.

For the method as it is, and for others that hold less, the quickest way within memory is looked
for: the fewest layers that recompute, or smaller passes. Every change comes with the memory and
the time it leads to.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from meadowlark.train.attention import PROVED
from meadowlark.train.dry_run import recomputing
from meadowlark.train.forecast import STARTING, Case, Forecaster, Memory, Speed
from meadowlark.train.options import LoraOptions, TrainOptions

ROUNDED = "weights are rounded to bfloat16 at each step"
ADAPTER = "an adapter is trained, not all weights"
FROZEN = "the frozen base is rounded"
LIGER = {"run.kernels": "liger"}
MOST_DEVICES = 16
SHOWN = 7
WORTH = 0.98
"""A run that fits is told of what takes less than this share of its time."""


@dataclass(frozen=True, slots=True)
class Change:
    """Settings to change, the memory and time they lead to, and what else they change."""

    settings: tuple[str, ...]
    processes: int
    memory: Memory
    speed: Speed
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Method:
    """Settings that make another method of it, by dotted key, and what must be known of that."""

    settings: dict[str, Any]
    note: str = ""
    processes: int = 1


def find_changes(forecaster: Forecaster, case: Case) -> list[Change]:
    """Changes that fit, the quickest first and more devices last; for a run that fits already,
    only what is quicker on the same devices."""
    if forecaster.memory(case).fits:
        return _quicker(forecaster, case)
    found = [_change(forecaster, case, way, "") for way in _ways(forecaster, case, both=True)]
    for method in _methods(forecaster, case):
        options = with_settings(case.options, method.settings)
        ways = _ways(
            forecaster, replace(case, options=options, processes=method.processes), both=False
        )
        found += [_change(forecaster, case, way, method.note) for way in ways]
    return sorted(found, key=lambda change: (change.processes, change.speed.training_s))[:SHOWN]


def _quicker(forecaster: Forecaster, case: Case) -> list[Change]:
    """What takes less time and fits: fewer layers that recompute; larger passes where these are
    too short to keep the device busy."""
    ways = []
    if any(case.recompute):
        fewest = fewest_recomputing(forecaster, case)
        ways += [fewest] if fewest is not None else []
    if _may_take_liger(forecaster, case):
        ways.append(replace(case, options=with_settings(case.options, LIGER)))
    if forecaster.speed(case).bound_by == STARTING and case.options.run.packing:
        tokens = 2 * case.options.tokens_per_forward
        larger = with_settings(case.options, {"run.tokens_per_forward": tokens})
        ways.append(replace(case, options=larger))
    limit = WORTH * forecaster.speed(case).training_s
    found = [_change(forecaster, case, way, "") for way in ways if forecaster.memory(way).fits]
    found = [change for change in found if change.speed.training_s < limit]
    return sorted(found, key=lambda change: change.speed.training_s)


def _change(forecaster: Forecaster, before: Case, after: Case, note: str) -> Change:
    return Change(
        settings=tuple(_differences(before, after)),
        processes=after.processes,
        memory=forecaster.memory(after),
        speed=forecaster.speed(after),
        note=note,
    )


def _differences(before: Case, after: Case) -> Iterator[str]:
    """The settings that differ, as they are written in the file."""
    old, new = before.options.model_dump(mode="json"), after.options.model_dump(mode="json")
    if before.processes != after.processes:
        yield f"--launch {after.processes} (FSDP)"
    for table, values in new.items():
        if old[table] is None and values is not None:
            yield f"[{table}]"
        elif values is not None:
            for key, value in values.items():
                if value != old[table][key] and key != "gradient_checkpointing":
                    yield f"{table}.{key} = {json.dumps(value)}"
    count, layers = sum(after.recompute), len(after.recompute)
    if after.recompute != before.recompute:
        value = "true" if count == layers else "false" if count == 0 else str(count)
        yield f"run.gradient_checkpointing = {value}"


# --------------------------------------------------------------------------- ways within memory


def _ways(forecaster: Forecaster, case: Case, *, both: bool) -> list[Case]:
    """The ways in which a method fits: as it is, with smaller passes, with layers recomputing.

    Smaller passes cost less as a rule, so recomputing is looked at where they are not enough, or
    ``both`` are wanted; and both together where neither is.
    """
    layers = len(case.recompute)
    keeping = replace(case, recompute=recomputing(layers, False))
    if forecaster.memory(keeping).fits:
        return [keeping]
    smaller = _smaller_passes(forecaster, keeping)
    fewest = fewest_recomputing(forecaster, case) if both or smaller is None else None
    if smaller is None and fewest is None:
        least = replace(case, recompute=recomputing(layers, True))
        together = _smaller_passes(forecaster, least)
        fewest = fewest_recomputing(forecaster, together) if together is not None else None
    return [way for way in (smaller, fewest) if way is not None]


def fewest_recomputing(forecaster: Forecaster, case: Case) -> Case | None:
    """The case with the smallest number of recomputing layers that fits, if any does."""
    layers = len(case.recompute)

    def fits(count: int) -> bool:
        return forecaster.memory(replace(case, recompute=recomputing(layers, count))).fits

    if fits(0):
        return replace(case, recompute=recomputing(layers, 0))
    if not fits(layers):
        return None
    low, high = 0, layers  # low does not fit, high does
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return replace(case, recompute=recomputing(layers, high))


def _smaller_passes(forecaster: Forecaster, case: Case) -> Case | None:
    """The case with ``run.tokens_per_forward`` halved as often as it takes to fit, if that is
    enough."""
    options, memory = case.options, forecaster.memory(case)
    lasting = memory.parts["weights"] + memory.parts["optimiser"] - memory.pageable
    if not options.run.packing or lasting > memory.available:
        return None
    tokens = options.tokens_per_forward
    while tokens > options.data.max_length:
        tokens = max(tokens // 2, options.data.max_length)
        # What comes and goes is at least in proportion to the tokens, but for gradients.
        goes = memory.needed - lasting - memory.parts["gradients"] - memory.parts["copies"]
        if lasting + goes * tokens / options.tokens_per_forward > memory.available:
            continue
        tried = replace(case, options=with_settings(options, {"run.tokens_per_forward": tokens}))
        if forecaster.memory(tried).fits:
            return tried
    return None


# --------------------------------------------------------------------------- other methods


def _methods(forecaster: Forecaster, case: Case) -> Iterator[_Method]:
    """Other methods that hold less than a case's, each once."""
    options = case.options
    quantises = importlib.util.find_spec("bitsandbytes") is not None
    if _may_take_liger(forecaster, case):
        yield _Method(LIGER)
    half: dict[str, Any] = {"model.dtype": "bfloat16"}
    if options.run.precision == "float16":
        half["run.precision"] = "bfloat16"
    if options.lora is None:
        eight = {"optimiser.name": "adamw_8bit"}
        if quantises and options.optimiser.name == "adamw":
            yield _Method(eight)
        if options.model.dtype == "float32":
            yield _Method(half, ROUNDED)
            if quantises and options.optimiser.name == "adamw":
                yield _Method({**eight, **half}, ROUNDED)
        if options.model.base is not None:
            lora = LoraOptions(embeddings=bool(options.model.added_tokens))
            yield _Method({"lora": lora, **half}, ADAPTER)
            if quantises:
                yield _Method({"lora": lora, **half, "model.quantise": "nf4"}, ADAPTER)
    else:
        if options.model.dtype == "float32":
            yield _Method(half, FROZEN)
        for kind in ("int8", "nf4"):
            if quantises and options.model.quantise not in (kind, "nf4"):
                yield _Method({**half, "model.quantise": kind}, FROZEN)
    whole = options.model.quantise is not None or options.optimiser.name != "adamw"
    if forecaster.device.gpu and forecaster.device.link and not whole:
        processes = _enough_processes(forecaster, case)
        if processes is not None:
            yield _Method({"run.parallel": "fsdp"}, processes=processes)


def _may_take_liger(forecaster: Forecaster, case: Case) -> bool:
    run, known = case.options.run, PROVED - {"opt"}
    possible = forecaster.device.gpu and forecaster.config.get_text_config().model_type in known
    return possible and run.kernels == "torch" and not run.compile


def _enough_processes(forecaster: Forecaster, case: Case) -> int | None:
    """How many devices, doubled until they do, hold the run in shards with every layer
    recomputing; None where :data:`MOST_DEVICES` do not."""
    memory = forecaster.memory(case)
    lasting = memory.parts["weights"] + memory.parts["gradients"] + memory.parts["optimiser"]
    options = with_settings(case.options, {"run.parallel": "fsdp"})
    recompute = recomputing(len(case.recompute), True)
    processes = 2 * case.processes
    while processes <= MOST_DEVICES:
        shards = Case(options, recompute, processes)
        if lasting / processes < memory.available and forecaster.memory(shards).fits:
            return processes
        processes *= 2
    return None


def with_settings(options: TrainOptions, settings: dict[str, Any]) -> TrainOptions:
    """Options with other values under dotted keys (``run.packing``) or for whole tables."""
    for key, value in settings.items():
        table, _, name = key.partition(".")
        if name:
            value = getattr(options, table).model_copy(update={name: value})
        options = options.model_copy(update={table: value})
    return options
