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
    hub: Annotated[
        bool, typer.Option("--hub", help="Read the Hugging Face hub's copy instead of raw files.")
    ] = False,
    revision: Annotated[
        list[str] | None,
        typer.Option("--revision", help="Commit of the hub's copy; once for each of its sets."),
    ] = None,
    wording: Annotated[
        str | None, typer.Option("--wording", help="Instructions: ours (default) or published.")
    ] = None,
    answers: Annotated[
        str | None,
        typer.Option(
            "--answers",
            help="stackexchange: voted (default), best or accepted. pubmedqa: long or decision.",
        ),
    ] = None,
    site: Annotated[
        str | None, typer.Option("--site", help="stackexchange: the site, if no name says it.")
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", help="oasst: en (default), another code, or any.")
    ] = None,
    paths: Annotated[
        str | None, typer.Option("--paths", help="oasst: best (default) or all.")
    ] = None,
    quality: Annotated[
        str | None, typer.Option("--quality", help="oasst: least rated quality, 0 to 1.")
    ] = None,
    summaries: Annotated[
        str | None, typer.Option("--summaries", help="mediqa: all (default) or section.")
    ] = None,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Convert an open medical source from its raw files, or from the hub, to rows.

    Every raw row is either kept or written to rejected.parquet with the reason. Each row carries
    its source and licence. `meadowlark sources NAME` says where the raw files come from, what they
    may be used for, what is known to be wrong with them and which options the source has.

    --hub reads the Hugging Face hub's copy through the package datasets, at the commit that the
    card names, that --revision names, or else at the newest, which the manifest then keeps.

    \b
    Examples:
      meadowlark convert patient_questions --out runs/patients
      meadowlark convert medquad --raw medquad_all.tar.gz --out runs/medquad
      meadowlark convert stackexchange --raw health.stackexchange.com.7z --out runs/health
      meadowlark convert pubmed_causal --raw pubmed_causal_language_use.csv --limit 100 --out runs/x
      meadowlark convert cord19 --hub --wording published --out runs/cord19
    """
    from meadowlark.sources.convert import convert as stage

    given = {
        "wording": wording,
        "answers": answers,
        "site": site,
        "language": language,
        "paths": paths,
        "quality": quality,
        "summaries": summaries,
    }
    run = stage(
        source,
        out,
        raw=raw,
        from_hub=hub,
        revisions=revision or (),
        settings={name: value for name, value in given.items() if value is not None},
        limit=limit,
        force=force,
    )
    summarise(run, out, done_before=run.done_before)
