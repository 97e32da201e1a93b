"""``meadowlark bench``: general benchmarks through lm-eval, on local files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, Out, stdout, summarise


def bench(
    model: Annotated[str, typer.Argument(help="hf:PATH_OR_ID[+ADAPTER]")],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks", help="Comma-separated: mmlu, bbh, truthfulqa, or a part: mmlu/anatomy."
        ),
    ],
    out: Out,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder with the benchmarks' published files.")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat", help="Render prompts by the checkpoint's chat template.")
    ] = False,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows of a batch.")] = 8,
    name: Annotated[
        str, typer.Option("--name", help="What scores call the model (default: its path or id).")
    ] = "",
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Run MMLU, BBH and TruthfulQA through lm-eval, without network.

    The definitions are lm-eval's (install the extra: pip install 'meadowlark[evaluate]'), its data
    the local files: MMLU's dev and test folders of CSV, BBH's bbh folder of JSON, TruthfulQA's
    mc_task.json. MMLU has 5 examples, BBH 3 with chain of thought; TruthfulQA gives the accuracy
    (MC1) and the share of probability on true answers (MC2). --limit counts questions a subject or
    task. A run that was stopped goes on from what was answered.

    \b
    Examples:
      meadowlark bench hf:runs/demo/model --tasks mmlu/anatomy,bbh/snarks --limit 5 \\
          --data $MEADOWLARK_DATA --out runs/first-bench
      meadowlark bench hf:xz97/AlpaCare-llama2-7b --tasks mmlu,bbh,truthfulqa \\
          --data $MEADOWLARK_DATA --out runs/bench
    """
    from meadowlark.evaluate.benchmarks import bench as stage
    from meadowlark.tasks import choose

    run = stage(
        model,
        choose(tasks),
        out,
        data=data,
        chat=chat,
        batch=batch,
        name=name,
        limit=limit,
        force=force,
    )
    for score in json.loads((out / "scores.json").read_text(encoding="utf-8")):
        if "/" not in score["task"]:
            low, high = score["low"], score["high"]
            interval = f"[{low:.3f}, {high:.3f}]" if low is not None else ""
            line = f"{score['task']:12}  {score['metric']:22}  {score['value']:.3f}  {interval:14}"
            stdout.print(f"{line}  n={score['n']:,}", markup=False)
    summarise(run, out, done_before=run.done_before)
