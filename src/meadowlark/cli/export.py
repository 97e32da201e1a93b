"""``meadowlark export``: rows in another tool's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, stdout
from meadowlark.progress import plural


def export(
    data: Annotated[Path, typer.Argument(help="A data set.")],
    format: Annotated[str, typer.Option("--format", help="alpaca, sharegpt or messages.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .json or .jsonl file.")],
    stanzas: Annotated[
        bool,
        typer.Option("--stanzas", help="Print how LLaMA-Factory and Axolotl name the file."),
    ] = False,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Write a data set in the layout of another tool.

    The Alpaca layout keeps earlier turns as pairs under "history"; ShareGPT and messages hold them
    as turns. Every row also bears its id, source and licence; tags and lineage stay behind. What
    was exported reads back as the same conversations. A mixture's validation rows are exported
    from their own file.

    \b
    Examples:
      meadowlark export runs/generated --format alpaca --out generated.json
      meadowlark export runs/mixed --format messages --out train.jsonl --stanzas
      meadowlark export runs/mixed/validation.parquet --format messages --out validation.jsonl
    """
    from meadowlark.curate.export import export as write
    from meadowlark.curate.export import stanzas as configuration

    rows, unreadable = write(data, out, format, limit=limit, force=force)
    stdout.print(f"export: {plural(rows, 'row')} as {format} in {out}", markup=False)
    if unreadable:
        stdout.print(f"  warning: {plural(unreadable, 'row')} could not be read", style="yellow")
    if stanzas:
        for trainer, text in configuration(out, format).items():
            stdout.print(f"\n{trainer}:\n{text}", markup=False)
