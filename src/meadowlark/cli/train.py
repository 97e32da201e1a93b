"""``meadowlark train``: fine-tune a model, or train a small one from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, Out, summarise
from meadowlark.errors import Stopped, UserError


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
    launch: Annotated[
        int | None,
        typer.Option("--launch", min=1, help="Start so many processes here, a GPU each."),
    ] = None,
    limit: Limit = None,
    force: Force = False,
) -> int:
    """Fine-tune a LLaMA-family model, or train a small one from scratch.

    Reads the rows that `mix` made and writes a folder that any server loads:
    weights or a LoRA adapter, the tokenizer with the prompt template compiled
    in, and the training log. The loss is on the response only, and packed rows
    never see each other. A run that was killed goes on from its last checkpoint
    when started again; SIGTERM and Ctrl-C save one first. Paths in the file are
    relative to the current directory.

    Several GPUs: --launch N starts N processes on this machine, which hold a
    shard of the model each (FSDP2; run.parallel = "ddp" for whole copies). On
    several machines start the same command with torchrun or srun on each
    (recipes/train-slurm.sh). The result is that of one process.

    \b
    Examples:
      meadowlark train configs/small-from-scratch.toml --data mixed --out tuned
      meadowlark train configs/medalpaca-7b-lora.toml --data mixed --out adapter
      meadowlark train run.toml --out try --limit 200 --set optimiser.max_steps=20
      meadowlark train configs/alpacare-7b.toml --data mixed --out tuned --launch 4
    """
    from meadowlark.config import load
    from meadowlark.train.options import TrainOptions

    overrides = list(settings or [])
    if data is not None:
        import json

        overrides.append(f"data.path={json.dumps(str(data), ensure_ascii=False)}")
    options = load(config, TrainOptions, overrides)
    from meadowlark.train import parallel

    if launch is not None and parallel.world_size() == 1:
        words = ["train", str(config), "--out", str(out)]
        words += [word for setting in overrides for word in ("--set", setting)]
        words += ["--limit", str(limit)] if limit is not None else []
        words += ["--force"] if force else []
        return parallel.launch(launch, words)
    from meadowlark.train import run as stage

    try:
        run = stage.train(options, out, limit=limit, force=force)
    except (Stopped, UserError) as error:  # which every process meets alike
        parallel.leave()
        if parallel.is_main():
            raise
        return error.exit_code if isinstance(error, Stopped) else 2
    parallel.leave()
    if parallel.is_main():
        summarise(run, out, done_before=run.done_before)
    return 0
