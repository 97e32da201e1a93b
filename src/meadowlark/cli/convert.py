"""``meadowlark convert``: an open source to records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, Out, summarise


def convert(
    source: Annotated[str, typer.Argument(help="A name from `meadowlark sources`.")],
    out: Out,
    raw: Annotated[
        Path | None, typer.Option("--raw", help="The source's raw file, archive or folder.")
    ] = None,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Convert an open medical source from its raw files to rows.

    Every raw row is either kept or written to rejected.parquet with the reason. Each row carries
    its source and licence. `meadowlark sources NAME` says where the raw files come from, what they
    may be used for and what is known to be wrong with them.

    \b
    Examples:
      meadowlark convert patient_questions --out runs/patients
      meadowlark convert medquad --raw medquad_all.tar.gz --out runs/medquad
      meadowlark convert pubmed_causal --raw pubmed_causal_language_use.csv --limit 100 --out runs/x
    """
    from meadowlark.sources.convert import convert as stage

    run = stage(source, out, raw=raw, limit=limit, force=force)
    summarise(run, out, done_before=run.done_before)
