"""``meadowlark filter``: near-duplicates out, by exact ROUGE-L."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, Out, summarise


def filter(
    data: Annotated[Path, typer.Argument(help="Rows: a folder, .parquet, .json, .jsonl or .csv.")],
    out: Out,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Drop above this ROUGE-L F1.")
    ] = 0.7,
    rule: Annotated[
        str,
        typer.Option(
            "--rule",
            help="kept: compare with the rows kept before it, the first of a group stays "
            "(Self-Instruct). others: compare with all, the whole group goes (AlpaCare).",
        ),
    ] = "kept",
    field: Annotated[
        str, typer.Option("--field", help="What to compare: instruction, input or output.")
    ] = "instruction",
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Default: every core.")
    ] = None,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Drop near-duplicate rows by exact ROUGE-L F1, as the package rouge-score computes it.

    What is dropped goes to rejected.parquet with its nearest neighbour's id and score. Meant for
    generated instructions; converted questions ("What are the symptoms of X?") are alike by nature
    and would mostly go.

    \b
    Examples:
      meadowlark filter runs/tasks --out runs/distinct
      meadowlark filter runs/tasks --rule others --out runs/as-alpacare
      meadowlark filter patients.json --field input --threshold 0.8 --out runs/patients
    """
    from meadowlark.curate.filter import filter_records

    run = filter_records(
        data,
        out,
        threshold=threshold,
        rule=rule,
        field=field,
        limit=limit,
        threads=threads,
        force=force,
    )
    summarise(run, out, done_before=run.done_before)
