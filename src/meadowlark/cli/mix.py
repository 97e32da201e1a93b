"""``meadowlark mix``: data sets into a training and a validation set."""

from __future__ import annotations

from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, Out, Seed, summarise


def mix(
    parts: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA[=WEIGHT_OR_COUNT]...",
            help="A data set, alone (all rows), =500 (that many rows) or =0.3 (its weight among "
            "the weighted sets).",
        ),
    ],
    out: Out,
    val: Annotated[
        float,
        typer.Option("--val", help="Validation rows: a share below 1, or a whole number."),
    ] = 0.1,
    stratify: Annotated[
        str,
        typer.Option(
            "--stratify",
            metavar="TAG",
            help="Hold out the same share of every value of a tag, or of source or licence.",
        ),
    ] = "",
    near: Annotated[
        float,
        typer.Option(
            "--near", help="Rows at least so alike (Jaccard of 3-word runs) stay on one side."
        ),
    ] = 0.8,
    seed: Seed = 42,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Mix data sets and split off validation rows.

    OUT/rows.parquet holds the training rows, OUT/validation.parquet the others; `train` reads both
    from the folder. Rows whose question or long answer is the same but for case, spaces and
    punctuation, and near-duplicates, never stand on both sides. Rows without an output and exact
    duplicates go to rejected.parquet. Weights give the largest mixture in their proportions that
    uses no row twice. The licences of all rows are combined into one stated obligation.

    \b
    Examples:
      meadowlark mix runs/generated runs/patients --out runs/mixed
      meadowlark mix runs/wikidoc=0.7 runs/medquad=0.3 --val 0.05 --out runs/mixed
      meadowlark mix runs/generated runs/medquad=2000 --val 500 --seed 7 --out runs/mixed
      meadowlark mix runs/generated --stratify topic --out runs/mixed
    """
    from meadowlark.curate.mix import mix as stage

    run = stage(
        parts, out, val=val, stratify=stratify, near=near, seed=seed, limit=limit, force=force
    )
    summarise(run, out, done_before=run.done_before)
