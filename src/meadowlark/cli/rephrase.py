"""``meadowlark rephrase``: cards and headings to questions and answers, by a teacher model."""

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


def rephrase(
    data: Annotated[Path, typer.Argument(help="Cards or sections, as `convert` makes them.")],
    teacher: Teacher,
    out: Out,
    style: Annotated[
        str,
        typer.Option(
            "--style",
            help="flashcard (a card to question and answer) or heading (a section to a question).",
        ),
    ],
    temperature: Temperature = 0.3,
    max_tokens: MaxTokens = 400,
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
    """Let a teacher model write flashcards or headings anew, and check what it wrote.

    flashcard turns a card in note form into a question and an answer in full sentences. heading
    writes the question that a section of a page answers; the section is the answer, unchanged.

    Each reply is compared with its card, word by word: one in which a number, unit, drug or other
    name, negation or direction was lost or invented is asked for again, and else goes to
    rejected.parquet with the reason and the words. The comparison knows no synonyms (it rejects
    some good replies) and no grammar (it passes another sense in the same words).

    Calls are kept, resumed and paid for as with respond.

    \b
    Examples:
      meadowlark rephrase runs/cards --style flashcard --teacher openai:gpt-4o --budget 5usd \\
          --out runs/flashcards
      meadowlark rephrase runs/wikidoc --style heading --limit 20 --dry-run \\
          --teacher openai:llama3.3@http://localhost:11434/v1 --out runs/wikidoc-questions
    """
    from meadowlark.llm import Sampling
    from meadowlark.synth.rephrase import estimate_rephrasing
    from meadowlark.synth.rephrase import rephrase as stage

    sampling = Sampling(temperature=temperature, max_tokens=max_tokens)
    calls = calls_of(concurrency, requests_per_minute, tokens_per_minute, budget, price, models)
    if dry_run:
        found = estimate_rephrasing(
            data, teacher, out, style=style, sampling=sampling, limit=limit, **calls
        )
        show_estimate(found, calls, "more where replies are asked for again")
        return
    run = stage(
        data,
        teacher,
        out,
        style=style,
        sampling=sampling,
        retries=retries,
        limit=limit,
        force=force,
        **calls,
    )
    summarise(run, out, done_before=run.done_before)
