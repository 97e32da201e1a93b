"""``meadowlark plan``: what a training run will take, before it costs anything."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meadowlark.cli.options import Limit, stdout
from meadowlark.progress import duration
from meadowlark.terminal import printable

if TYPE_CHECKING:
    from meadowlark.train.changes import Change
    from meadowlark.train.plan import Plan

PARTS = {
    "weights": "weights",
    "gradients": "gradients",
    "optimiser": "optimiser",
    "copies": "16-bit copies of weights",
    "activations": "activations",
    "logits": "logits",
    "temporary": "temporary",
}


def plan(
    config: Annotated[Path, typer.Argument(help="TOML file with the run's options, as for train.")],
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            help="A GPU by its short name (h100, a100-80, rtx4090 ...), or cpu; else the one here.",
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one option; repeatable."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Rows to train on, in place of data.path.")
    ] = None,
    launch: Annotated[
        int, typer.Option("--launch", min=1, help="So many processes, a device each.")
    ] = 1,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write the whole plan to this file.")
    ] = None,
    limit: Limit = None,
) -> int:
    """Predict the memory, speed and time of a training run before it starts.

    Loads no weights: the model's own code runs a step on tensors without
    memory, over passes of the data's real lengths. Says what memory goes to at
    the worst moment, FLOPs a token, tokens a second and hours on the device,
    the least recomputation that fits, and what to change where the run does
    not fit or could be quicker. Where the base's tokenizer is not on this
    machine, lengths are estimated, which is said. Exit code 0: it fits. 1: it
    does not. 2: a mistake in the options.

    \b
    Examples:
      meadowlark plan configs/small-from-scratch.toml --data mixed
      meadowlark plan configs/medalpaca-7b-lora.toml --data mixed --device rtx4090
      meadowlark plan configs/alpacare-7b.toml --data mixed --device h100 --launch 4
      meadowlark plan run.toml --set model.quantise=nf4 --device l4 --json plan.json
    """
    from meadowlark.config import load
    from meadowlark.dataset import write_json
    from meadowlark.train.options import TrainOptions

    overrides = list(settings or [])
    if data is not None:
        import json as text

        overrides.append(f"data.path={text.dumps(str(data), ensure_ascii=False)}")
    options = load(config, TrainOptions, overrides)
    from meadowlark.train.devices import find_device
    from meadowlark.train.plan import plan as stage

    made = stage(options, find_device(device), processes=launch, limit=limit)
    if json is not None:
        write_json(json, made.as_json())
    _show(made)
    _conclude(made)
    return 0 if made.fits else 1


def _show(made: Plan) -> None:
    memory, speed = made.memory, made.speed
    _line("model", f"{made.model}, by {made.configuration}")
    trained = made.trainable_parameters
    _line(
        "parameters", f"{made.parameters:,}, {trained:,} trained ({trained / made.parameters:.2%})"
    )
    _line("method", made.method)
    learned = made.supervised_tokens / made.tokens
    _line("rows", f"{made.rows:,}, {made.tokens:,} tokens, {learned:.1%} learned; {made.lengths}")
    epochs = f"{made.epochs:,} epoch{'s' * (made.epochs != 1)}"
    passes = f"{made.passes_per_step:.1f} passes of up to {made.tokens_per_forward:,} tokens"
    _line("steps", f"{made.steps:,} in {epochs}; {passes} a step, {made.packing:.0%} full")
    if made.computed < 1:
        _line("computed", f"{made.computed:.0%} of the tokens: beginnings that rows share, once")
    _line("device", f"{_devices(made)} with {_gb(memory.available)}: {made.device_source}")
    stdout.print()
    for key, label in PARTS.items():
        if memory.parts[key]:
            _line(f"  {label}", f"{_gb(memory.parts[key]):>12}")
    around = memory.needed - sum(memory.parts.values())
    _line("  around the tensors", f"{_gb(around):>12}")
    share = memory.needed / memory.available
    _line("memory at its peak", f"{_gb(memory.needed):>12}, {share:.0%} of the device's")
    if memory.paged:
        _line("  of it on the host", f"{_gb(memory.paged):>12}")
    _line("recomputed", _recomputed(made))
    stdout.print()
    again = made.flops_done_per_token / made.flops_per_token - 1
    more = f"; {again:.0%} more with what is computed again" if made.recomputing_layers else ""
    per_weight = made.flops_per_token / made.parameters
    flops = f"{_scaled(made.flops_per_token)}, {per_weight:.1f} a parameter{more}"
    _line("FLOPs a token", flops)
    rate = f"MFU {speed.mfu:.0%} of {_scaled(made.matrix_flops)}FLOP/s"
    _line("speed", f"{speed.tokens_per_s:,.0f} tokens/s, {rate}; most of it {speed.bound_by}")
    hours = speed.training_s / 3600
    _line(
        "time",
        f"{duration(speed.step_s)} a step, {duration(speed.training_s)} in all"
        + (f" ({hours:,.1f} h)" if hours >= 1 else ""),
    )


def _devices(made: Plan) -> str:
    if made.processes == 1:
        return made.device
    how = "a shard each" if made.parallel == "fsdp" else "a whole copy each"
    return f"{made.processes} x {made.device} ({how})"


def _recomputed(made: Plan) -> str:
    words = f"{made.recomputing_layers} of {made.layers} layers"
    least = made.least_recomputing
    if least is None:
        return f"{words}; recomputing all would not fit either"
    if least == made.recomputing_layers:
        return f"{words}, the fastest choice that fits"
    value = {0: "false", made.layers: "true"}.get(least, str(least))
    return f"{words}; the fastest choice that fits: run.gradient_checkpointing = {value}"


def _conclude(made: Plan) -> None:
    if made.changes:
        stdout.print()
        stdout.print("it would fit with" if not made.fits else "quicker with")
        for change in made.changes:
            stdout.print(printable(f"  {_change(change)}"), markup=False)
    for note in made.notes:
        stdout.print(printable(f"note: {note}"), markup=False)
    if made.fits:
        stdout.print("✓ fits", style="bold green")
    else:
        short = made.memory.needed - made.memory.pageable - made.memory.available
        stdout.print(f"✗ does not fit: {_gb(short)} too much", style="bold red", markup=False)
        if not made.changes:
            stdout.print("nothing that was tried would fit; take a larger device, or several")


def _change(change: Change) -> str:
    figures = f"{_gb(change.memory.needed):>9} {change.speed.tokens_per_s:>9,.0f} tokens/s"
    note = f" ({change.note})" if change.note else ""
    return f"{figures}  {', '.join(change.settings)}{note}"


def _scaled(number: float) -> str:
    """``7.98e14`` as ``798 T``."""
    for size, letter in ((1e12, "T"), (1e9, "G")):
        if number >= size:
            return f"{number / size:,.3g} {letter}"
    return f"{number / 1e6:,.3g} M"


def _gb(size: float) -> str:
    return f"{size / 1e9:,.2f} GB"


def _line(label: str, text: Any) -> None:
    stdout.print(f"{printable(label):26} {printable(str(text))}", markup=False)
