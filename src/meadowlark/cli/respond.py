"""``meadowlark respond``: tasks to answered tasks, written by a teacher model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.calls import (
    Budget,
    Concurrency,
    DryRun,
    MaxTokens,
    ModelsFile,
    PresencePenalty,
    PriceOption,
    RequestsPerMinute,
    Retries,
    Teacher,
    Temperature,
    TokensPerMinute,
    calls_of,
    show_estimate,
)
from meadowlark.cli.options import Force, Limit, Out, summarise


def respond(
    data: Annotated[Path, typer.Argument(help="Tasks: a folder, .parquet, .json, .jsonl or .csv.")],
    teacher: Teacher,
    out: Out,
    prompt: Annotated[
        str,
        typer.Option(
            "--prompt",
            help="System prompt: data (an expert writes training data), icliniq (a doctor answers "
            "a patient) or test (a plain expert).",
        ),
    ] = "data",
    temperature: Temperature = 1.0,
    presence_penalty: PresencePenalty = 1.5,
    max_tokens: MaxTokens = 600,
    retries: Retries = 1,
    concurrency: Concurrency = 16,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    budget: Budget = None,
    price: PriceOption = None,
    models: ModelsFile = None,
    dry_run: DryRun = False,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Let a teacher model write the output of every task that has none.

    Refusals, empty answers, answers cut at --max-tokens (300 in the paper), and answers to multiple
    choice that do not end with "The answer is (X)." and one of its letters are asked
    for again (a cut one with twice the tokens), and else go to rejected.parquet with
    the reason; failed requests are also listed in failed.jsonl, which can be given to
    respond again. Tasks that have an output already pass unchanged, and the order stays.

    Every call is kept in OUT/journal.sqlite, so a stopped run goes on without
    asking anything twice. Keys, --price, --budget and --dry-run are as for generate.

    \b
    Examples:
      meadowlark respond runs/distinct --out runs/generated \\
          --teacher openai:gpt-4o --budget 20usd
      meadowlark respond patients.jsonl --prompt icliniq --max-tokens 800 \\
          --teacher openai:llama3.3@http://localhost:11434/v1 --limit 20 \\
          --out runs/first-look
    """
    from meadowlark.llm import Sampling
    from meadowlark.synth.respond import estimate_responses
    from meadowlark.synth.respond import respond as stage

    sampling = Sampling(
        temperature=temperature, presence_penalty=presence_penalty, max_tokens=max_tokens
    )
    calls = calls_of(concurrency, requests_per_minute, tokens_per_minute, budget, price, models)
    if dry_run:
        found = estimate_responses(
            data, teacher, out, prompt=prompt, sampling=sampling, limit=limit, **calls
        )
        show_estimate(found, calls, "more where answers are asked for again")
        return
    run = stage(
        data,
        teacher,
        out,
        prompt=prompt,
        sampling=sampling,
        retries=retries,
        limit=limit,
        force=force,
        **calls,
    )
    summarise(run, out, done_before=run.done_before)
