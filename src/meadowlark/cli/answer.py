"""``meadowlark answer``: a model's free-form answers to prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from meadowlark.cli.options import (
    Force,
    InFlight,
    Limit,
    Model,
    Out,
    Seed,
    Template,
    summarise,
)


def answer(
    model: Model,
    prompts: Annotated[
        str,
        typer.Argument(
            help="A folder or file of records or questions, or a task: medinstruct_test, icliniq, "
            "alpaca_eval; meqsum, mediqa (summaries)."
        ),
    ],
    out: Out,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder to search for the files of a task.")
    ] = None,
    settings: Annotated[
        str | None,
        typer.Option(
            "--settings",
            help="Settings by name, which other options change: alpacare (sampled, 1,024 tokens "
            "with the prompt) or roomy (greedy, 2,048 new tokens).",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option("--max-tokens", min=1, help="Longest answer in new tokens (else 256)."),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", min=0.0, help="0 (the default) takes the likeliest token."),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p", min=0.0, max=1.0, help="Draw from the likeliest tokens of this share."
        ),
    ] = None,
    top_k: Annotated[
        int | None, typer.Option("--top-k", min=1, help="Draw from so many likeliest tokens.")
    ] = None,
    template: Template = None,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Most rows in a batch of an hf: model.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--context", min=2, help="Most tokens of prompt and answer together (hf:)."),
    ] = None,
    concurrency: InFlight = 16,
    name: Annotated[
        str, typer.Option("--name", help="What answers call the model (default: its path or id).")
    ] = "",
    seed: Seed = 0,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Let a model answer prompts, and keep every answer with its status.

    A status is ok, empty (also when a prompt leaves no room), truncated (cut at --max-tokens or
    by the context), refused or failed; all are kept and counted. A record is asked by its
    instruction and input, its output becomes the reference. A run that was stopped goes on where
    it was. AlpaCare's published answers were drawn with default sampling settings and 1,024 tokens
    that include the prompt, which leaves a long prompt no room: --settings alpacare. Of a server,
    1,024 new tokens are asked for.

    \b
    Examples:
      meadowlark answer hf:runs/demo/model runs/demo/mixed/validation.parquet --max-tokens 96 \\
          --out runs/answers
      meadowlark answer hf:runs/demo/model medinstruct_test --data $MEADOWLARK_DATA --limit 20 \\
          --settings alpacare --out runs/first-look
      meadowlark answer openai:llama3.3@http://localhost:11434/v1 prompts.jsonl --out runs/llama
    """
    from dataclasses import replace

    from meadowlark.evaluate import answers
    from meadowlark.evaluate.answers import answer as stage

    how = answers.AnswerOptions()
    if settings is not None:
        how = answers.settings(settings, local=model.startswith("hf:"))
    typed: dict[str, Any] = {
        "max_tokens": max_tokens,
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "batch": batch,
        "context": context,
    }
    changes = {name: value for name, value in typed.items() if value is not None}
    how = replace(how, concurrency=concurrency, **changes)
    run = stage(
        model,
        prompts,
        out,
        how=how,
        data=data,
        template=template,
        name=name,
        seed=seed,
        limit=limit,
        force=force,
    )
    summarise(run, out, done_before=run.done_before)
