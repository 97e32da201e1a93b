"""``meadowlark train``: fine-tune a model, or train a small one from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, Out, summarise


def train(
    config: Annotated[Path, typer.Argument(help="TOML file with the run's options.")],
    out: Out,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one option; repeatable."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Rows to train on, in place of data.path.")
    ] = None,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Fine-tune a LLaMA-family model, or train a small one from scratch.

    Reads the rows that `mix` made and writes a folder that any server loads:
    weights or a LoRA adapter, the tokenizer with the prompt template compiled
    in, and the training log. The loss is on the response only, and packed rows
    never see each other. A run that was killed goes on from its last checkpoint
    when started again. Paths in the file are relative to the current directory.

    \b
    Examples:
      meadowlark train configs/small-from-scratch.toml --data mixed --out tuned
      meadowlark train configs/medalpaca-7b-lora.toml --data mixed --out adapter
      meadowlark train run.toml --out try --limit 200 --set optimiser.max_steps=20
    """
    from meadowlark.config import load
    from meadowlark.train import run as stage
    from meadowlark.train.options import TrainOptions

    overrides = list(settings or [])
    if data is not None:
        import json

        overrides.append(f"data.path={json.dumps(str(data), ensure_ascii=False)}")
    run = stage.train(load(config, TrainOptions, overrides), out, limit=limit, force=force)
    summarise(run, out, done_before=run.done_before)
