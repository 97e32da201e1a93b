"""``meadowlark respond``: tasks to answered tasks, written by a teacher model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, Out, summarise


def respond(
    data: Annotated[Path, typer.Argument(help="Tasks: a folder, .parquet, .json, .jsonl or .csv.")],
    teacher: Annotated[
        str,
        typer.Option("--teacher", help="openai:NAME@BASE_URL, recorded:FILE or hf:PATH."),
    ],
    out: Out,
    prompt: Annotated[
        str,
        typer.Option(
            "--prompt",
            help="System prompt: data (an expert writes training data), icliniq (a doctor answers "
            "a patient) or test (a plain expert).",
        ),
    ] = "data",
    temperature: Annotated[float, typer.Option("--temperature", min=0.0)] = 1.0,
    presence_penalty: Annotated[float, typer.Option("--presence-penalty")] = 1.5,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Longest answer in tokens (paper: 300).")
    ] = 600,
    retries: Annotated[
        int,
        typer.Option(
            "--retries",
            min=0,
            help="How often a refused, empty, cut or unclosed answer is asked for again.",
        ),
    ] = 1,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-j", min=1, help="Requests in flight at once.")
    ] = 5,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Let a teacher model write the output of every task that has none.

    Refusals, empty answers, answers cut at --max-tokens, and answers to multiple
    choice that do not end with "The answer is (X)." and one of its letters are asked
    for again (a cut one with twice the tokens), and else go to rejected.parquet with
    the reason; failed requests are also listed in failed.jsonl. Tasks that have an
    output already pass unchanged, and the order stays.

    Every call is kept in OUT/journal.sqlite, so a stopped run goes on without
    asking anything twice. A server's key is read from MEADOWLARK_API_KEY or
    OPENAI_API_KEY; a server of your own may need none.

    \b
    Examples:
      meadowlark respond runs/distinct --out runs/generated \\
          --teacher openai:gpt-4o@https://api.openai.com/v1
      meadowlark respond patients.jsonl --prompt icliniq --max-tokens 800 \\
          --teacher openai:llama3.3@http://localhost:11434/v1 --limit 20 \\
          --out runs/first-look
    """
    from meadowlark.synth.respond import respond as stage

    run = stage(
        data,
        teacher,
        out,
        prompt=prompt,
        temperature=temperature,
        presence_penalty=presence_penalty,
        max_tokens=max_tokens,
        retries=retries,
        concurrency=concurrency,
        limit=limit,
        force=force,
    )
    summarise(run, out, done_before=run.done_before)
