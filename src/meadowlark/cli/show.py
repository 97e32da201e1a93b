"""``meadowlark show``: rows as a person reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meadowlark.cli.options import Seed, stdout
from meadowlark.progress import plural
from meadowlark.terminal import printable

if TYPE_CHECKING:
    from meadowlark.records import Record


def show(
    data: Annotated[Path, typer.Argument(help="A data set.")],
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many rows.")] = 3,
    id: Annotated[str | None, typer.Option("--id", help="The row whose id starts so.")] = None,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Rows that were not kept, with the reason.")
    ] = False,
    first: Annotated[
        bool, typer.Option("--first", help="The first rows, not a random choice.")
    ] = False,
    seed: Seed = 42,
) -> None:
    """Show rows of a data set: a random few, one by its id, or rejected ones with the reason.

    \b
    Examples:
      meadowlark show runs/generated
      meadowlark show runs/generated --rejected -n 10
      meadowlark show runs/mixed --id 3f2a
    """
    import random

    from meadowlark.dataset import read, read_table
    from meadowlark.errors import UserError
    from meadowlark.records import Record, from_table

    reasons: dict[int, str] = {}
    if rejected:
        table = read_table(data / "rejected.parquet" if data.is_dir() else data, Record)
        if "reason" not in table.column_names:
            raise UserError(f"{data} holds no rejected rows (no column 'reason')")
        rows = from_table(table, Record)
        columns = table.column("reason").to_pylist(), table.column("detail").to_pylist()
        reasons = {
            index: f"{reason}: {detail}" if detail else reason
            for index, (reason, detail) in enumerate(zip(*columns, strict=True))
        }
    else:
        rows, unusable = read(data, Record)
        if unusable:
            why = f"{unusable[0].reason}: {unusable[0].detail}"[:200]
            stdout.print(
                f"warning: {plural(len(unusable), 'row')} cannot be read; {printable(why)}",
                markup=False,
                style="yellow",
            )
    chosen = list(range(len(rows)))
    if id is not None:
        chosen = [index for index in chosen if rows[index].id.startswith(id)]
        if not chosen:
            raise UserError(f"no row of {data} has an id that starts with {id!r}")
    elif not first:
        chosen = sorted(random.Random(seed).sample(chosen, min(n, len(chosen))))
    for index in chosen[:n]:
        _print(rows[index], reasons.get(index))
    stdout.print(f"{min(n, len(chosen))} of {plural(len(rows), 'row')} of {data}", markup=False)


def _print(row: Record, reason: str | None) -> None:
    """One row; nothing in it is taken for markup or sent to the terminal as a control code."""
    stdout.rule(printable(row.id), style="dim")
    tags = [f"{key}: {value}" for key, value in row.tags.items()]
    origin = [part for part in (row.source, row.licence, *tags) if part]
    if origin:
        stdout.print(printable(" · ".join(origin)), markup=False, style="dim")
    if row.parents:
        stdout.print(printable(f"from {', '.join(row.parents)}"), markup=False, style="dim")
    if reason is not None:
        stdout.print(printable(f"rejected: {reason}"), markup=False, style="red")
    for turn in row.history:
        stdout.print(f"{turn.role}:", style="bold cyan")
        stdout.print(printable(turn.content), markup=False)
    for name in ("instruction", "input", "output"):
        text = getattr(row, name)
        if text:
            stdout.print(f"{name}:", style="bold cyan")
            stdout.print(printable(text), markup=False)
