"""``meadowlark models``: the known checkpoints, and what each was trained with."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table

from meadowlark.cli.options import stdout


def models(
    name: Annotated[
        str | None, typer.Argument(help="A checkpoint's hub id, or the last part of it.")
    ] = None,
) -> None:
    """List the published checkpoints that Meadowlark knows, or show one.

    They predate chat templates, so their prompt template and BOS rule are recorded here and used
    when one of them is named as a model (or a folder bears its name). Any other LLaMA-family
    checkpoint works by its own chat template, or with --template.

    \b
    Examples:
      meadowlark models
      meadowlark models AlpaCare-llama2-7b
      meadowlark models | grep medAlpaca
    """
    from meadowlark.checkpoints import CHECKPOINTS, checkpoint

    if name is not None:
        found = checkpoint(name)
        rows = {
            "name": found.name,
            "family": found.family,
            "base": found.base,
            "kind": "LoRA adapter" if found.adapter else "full weights",
            "template": found.template,
            "prompt opens with BOS": "yes" if found.bos else "no",
            "precision": found.precision,
            "licence": found.licence,
            "note": found.note,
            "use": f"hf:{'BASE+' if found.adapter else ''}{found.name}",
        }
        for key, value in rows.items():
            if value:
                stdout.print(f"{key + ':':23}{value}", markup=False)
        return
    columns = ["name", "base", "kind", "template", "BOS", "precision", "licence"]
    lines = [
        [
            c.name,
            c.base,
            "LoRA" if c.adapter else "full",
            c.template,
            "yes" if c.bos else "no",
            c.precision,
            c.licence,
        ]
        for c in CHECKPOINTS.values()
    ]
    if sys.stdout.isatty():
        table = Table(*columns, box=None, pad_edge=False)
        for line in lines:
            table.add_row(*line)
        stdout.print(table)
        return
    widths = [max(len(row[i]) for row in [columns, *lines]) for i in range(len(columns))]
    for row in [columns, *lines]:
        cells = [f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)]
        print("  ".join(cells).rstrip())
