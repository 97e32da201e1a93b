"""``meadowlark report``: one page over everything that was run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Out, Seed, summarise


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(help="Folders of runs in any order, or a folder with runs below it."),
    ],
    out: Out,
    title: Annotated[
        str | None,
        typer.Option(
            "--title",
            help="The page's heading: the question you asked. Without it, what the page is about.",
        ),
    ] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, help="How many examples of each kind are shown.")
    ] = 6,
    seed: Seed = 42,
    force: Force = False,
) -> None:
    """Write one HTML page over finished runs: data, training, scores, examples, provenance.

    The page is a single file that needs no server, script or network and can be sent by mail. It
    shows only what the given runs hold: what was kept and rejected, the loss curve, exam scores
    with intervals and the chance level, win rates, which letters were chosen, random examples, and
    where everything came from, with hashes. The order of the folders does not matter; what was
    made from what is read from their manifests. Its tables are in OUT/report.json and OUT/tables.
    Where answers were judged, OUT/verdicts.html shows every prompt with its answers and verdicts,
    filtered to disagreements, order flips and unreadable ones.

    \b
    Examples:
      meadowlark report runs/demo --out runs/demo/report
      meadowlark report runs/mixed runs/model runs/exam --out runs/report \\
          --title "Does conversion of WikiDoc help a 7B model?"
    """
    from meadowlark.report.page import report as stage

    run = stage(runs, out, title=title, examples=examples, seed=seed, force=force)
    summarise(run, out, done_before=run.done_before)
