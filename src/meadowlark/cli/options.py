"""The options that mean the same on every verb, and how a verb ends: one summary for all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from meadowlark.dataset import Manifest, Run
from meadowlark.progress import duration, usd

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write; made if absent.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what the folder holds.")]
Limit = Annotated[
    int | None, typer.Option("--limit", min=1, help="Read only the first N rows, for a first try.")
]
Model = Annotated[
    str,
    typer.Argument(
        help="hf:PATH_OR_ID[+ADAPTER], openai:NAME@BASE_URL, anthropic:NAME, recorded:FILE "
        "or a name from models.toml."
    ),
]
Template = Annotated[
    str | None,
    typer.Option("--template", help="alpaca, alpaca-lora, medalpaca, FILE.toml or FILE.jinja."),
]
InFlight = Annotated[
    int, typer.Option("--concurrency", "-j", min=1, help="Requests in flight (remote models).")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of every random choice.")]

stdout = Console(highlight=False, soft_wrap=True)


def summarise(run: Run | Manifest, folder: Path, *, done_before: bool = False) -> None:
    """Print what a stage did in a few lines, ending with where the results are."""
    manifest = run.manifest if isinstance(run, Run) else run
    if done_before:
        stdout.print(f"{manifest.stage}: nothing to do, {folder} already holds this run.")
    rows = manifest.rows
    parts = [f"{rows[key]:,} {key}" for key in ("in", "kept") if key in rows]
    rejected: dict[str, int] = rows.get("rejected", {})
    if "rejected" in rows:
        parts.append(f"{sum(rejected.values()):,} rejected")
    if parts and not done_before:
        stdout.print(f"{manifest.stage}: {', '.join(parts)} ({duration(manifest.seconds)})")
    for reason, count in list(rejected.items())[:8]:
        stdout.print(f"  {count:>8,}  {reason}", markup=False)
    if manifest.tokens:
        cost = f"; cost {usd(manifest.cost_usd)} USD" if manifest.cost_usd else ""
        stdout.print(f"  tokens: {_pairs(manifest.tokens)}{cost}")
    for key, value in manifest.results.items():
        if isinstance(value, str | int | float):
            stdout.print(f"  {key.replace('_', ' ')}: {_short(value)}", markup=False)
    for warning in manifest.warnings:
        stdout.print(f"  warning: {warning}", markup=False, style="yellow")
    stdout.print(f"  results in {folder}", markup=False)


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _pairs(values: dict[str, int]) -> str:
    return ", ".join(f"{value:,} {key}" for key, value in values.items())
