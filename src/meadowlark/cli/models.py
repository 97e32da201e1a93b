"""``meadowlark models``: the known checkpoints, and what each was trained with."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from meadowlark.cli.calls import ModelsFile
from meadowlark.cli.options import stdout


def models(
    name: Annotated[
        str | None, typer.Argument(help="A checkpoint's hub id, or the last part of it.")
    ] = None,
    file: ModelsFile = None,
) -> None:
    """List the published checkpoints that Meadowlark knows, or show one; and your own models.

    They predate chat templates, so their prompt template and BOS rule are recorded here and used
    when one of them is named as a model (or a folder bears its name). Any other LLaMA-family
    checkpoint works by its own chat template, or with --template.

    Your own models are those of models.toml: a name for each server, with its URL, model, price
    and limits, and the environment variable of its key (docs/models.md).

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
    _print(columns, lines)
    _print_own(file)


def _print_own(given: Path | None) -> None:
    """The models of the user's own models.toml, where there is one; keys are only set or not."""
    from meadowlark.llm.catalogue import models_file, read_models
    from meadowlark.llm.keys import read_key

    file = models_file(given)
    if file is None:
        return
    lines = []
    for name, entry in read_models(file).items():
        variable, price = entry.variable, entry.known_price
        state = "set" if read_key(variable) else "not set"
        cost = f"{price.input:g}, {price.output:g}" if price else ""
        key = f"{variable} ({state})" if variable else "none"
        lines.append([name, entry.kind, entry.model, entry.url or "its own", key, cost])
    print(f"\n{file}:")
    _print(["name", "kind", "model", "url", "key", "USD/1M in, out"], lines)


def _print(columns: list[str], lines: list[list[str]]) -> None:
    """A table: with rules on a terminal, plain columns elsewhere."""
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
