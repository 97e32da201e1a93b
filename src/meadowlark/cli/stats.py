"""``meadowlark stats``: what data sets hold, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meadowlark.cli.options import Force, Limit, stdout, summarise

if TYPE_CHECKING:
    from rich.table import Table

TOP = 8


def stats(
    data: Annotated[list[Path], typer.Argument(help="Data sets to describe side by side.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write stats.json into this folder.")
    ] = None,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Describe data sets side by side: rows, sources, licences, labels, lengths, verbs.

    Verbs and their objects are found by rules, not by a parser, and the linguistic entropy is
    AlpaCare's formula over those pairs. With --out the whole description goes to stats.json.

    \b
    Examples:
      meadowlark stats runs/generated runs/patients
      meadowlark stats runs/mixed --out runs/stats
    """
    from meadowlark.curate.describe import describe_all
    from meadowlark.curate.describe import stats as stage

    run = None
    if out is not None:
        run = stage(data, out, limit=limit, force=force)
    described = describe_all(data, limit)
    stdout.print(_overview(described))
    for label in ("type", "view", "difficulty", "topic"):
        for name, one in described.items():
            counts = one["labels"].get(label, {})
            if counts:
                shown = ", ".join(f"{k} {v:,}" for k, v in list(counts.items())[:TOP])
                more = f", and {len(counts) - TOP} more" if len(counts) > TOP else ""
                stdout.print(f"{label} in {name}: {shown}{more}", markup=False)
    if run is not None and out is not None:
        summarise(run, out, done_before=run.done_before)


def _overview(described: dict[str, dict[str, Any]]) -> Table:
    """One column a data set, one row a fact."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    table.add_column("")
    for name in described:
        table.add_column(Text(name), justify="right", overflow="fold")
    facts: list[tuple[str, Any]] = [
        ("rows", lambda d: f"{d['rows']:,}"),
        ("unreadable rows", lambda d: f"{d['unreadable']:,}"),
        ("without an input", lambda d: f"{d['without_input']:,}"),
        ("without an output", lambda d: f"{d['without_output']:,}"),
        ("distinct instructions", lambda d: f"{d['distinct_instructions']:,}"),
        ("instruction, mean characters", lambda d: _mean(d, "instruction")),
        ("input, mean characters", lambda d: _mean(d, "input")),
        ("output, mean characters", lambda d: _mean(d, "output")),
        ("linguistic entropy, bits (rules)", lambda d: f"{d['linguistic_entropy_bits']:.2f}"),
        ("sources", lambda d: ", ".join(k or "none" for k in d["sources"])),
        ("licences", lambda d: ", ".join(k or "none stated" for k in d["licences"])),
    ]
    for label, value in facts:
        table.add_row(label, *(Text(value(one)) for one in described.values()))
    return table


def _mean(one: dict[str, Any], field: str) -> str:
    lengths = one["characters"][field]
    return f"{lengths['mean']:,.0f}" if lengths["n"] else "–"
