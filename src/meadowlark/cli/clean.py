"""``meadowlark clean``: quality, private data, exam questions and duplicates, by one table of
rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, Out, stdout, summarise
from meadowlark.progress import plural


def clean(
    data: Annotated[Path, typer.Argument(help="Rows: a folder, .parquet, .json, .jsonl or .csv.")],
    out: Out,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Exams whose questions must not stand in the rows: names or files of questions, "
            "with commas between them.",
        ),
    ] = None,
    exams: Annotated[
        Path | None,
        typer.Option(
            "--data", envvar="MEADOWLARK_DATA", help="Folder below which named exams are found."
        ),
    ] = None,
    phi: Annotated[
        str | None,
        typer.Option(
            "--phi",
            help="Identifiers of people: flag (a tag), redact (surrogates, dates moved) or drop.",
        ),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option("--rules", help="TOML file that turns rules on, off or finer.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="One setting, as near.threshold=0.9; may be repeated."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes; 0 is one for every core.")
    ] = 0,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Repair text; take out broken rows, duplicates and exam questions; find private data.

    Always: Unicode and spaces put right; rows out that are empty, an echo of the question, a
    refusal, boilerplate, cut off, in another language, an outlier in length, or a broken multiple
    choice; then exact duplicates and near-duplicates over question and answer (the first stays).
    Every rule has a section in the rules: --set truncated.on=false, --set near.threshold=0.9.
    Asked for: exam questions (--against), private data (--phi), duplicates in meaning by a local
    encoder (--set semantic.on=true --set semantic.encoder=DIR).

    What was found of private data goes to OUT/private.parquet, readable by its owner alone: keep
    it away from the data. Patterns miss some and are no certificate of de-identification.

    \b
    Examples:
      meadowlark clean runs/wikidoc --out runs/clean
      meadowlark clean notes.jsonl --phi redact --out runs/clean
      meadowlark clean runs/mixed --against medqa,mmlu_medical,own.jsonl --out runs/clean
    """
    from meadowlark.curate.clean import clean as stage
    from meadowlark.curate.clean import read_rules
    from meadowlark.tasks import choose

    run = stage(
        data,
        out,
        options=read_rules(rules, settings or [], phi),
        against=choose(against) if against is not None else (),
        exams=exams,
        limit=limit,
        workers=workers,
        force=force,
    )
    summarise(run, out, done_before=run.done_before)
    for task, counts in run.manifest.results.get("contamination", {}).items():
        stdout.print(
            f"  {task}: {counts['questions_found']:,} of {plural(counts['questions'], 'question')} "
            f"stand in {plural(counts['rows'], 'row')}",
            markup=False,
        )
