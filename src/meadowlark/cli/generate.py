"""``meadowlark generate``: seed tasks to new tasks, written by a teacher model."""

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
    Teacher,
    Temperature,
    TokensPerMinute,
    TopP,
    calls_of,
    show_estimate,
)
from meadowlark.cli.options import Force, Limit, Out, Seed, summarise


def generate(
    seeds: Annotated[
        Path,
        typer.Option(
            "--seeds", help="Seed tasks (.xlsx, .json, .jsonl, .csv, .parquet or a folder)."
        ),
    ],
    teacher: Teacher,
    out: Out,
    count: Annotated[
        int, typer.Option("--count", "-n", min=1, help="Tasks to keep. Raising it continues.")
    ] = 100,
    filter_: Annotated[
        bool,
        typer.Option(
            "--filter/--no-filter", help="Keep only tasks unlike every seed and kept task."
        ),
    ] = True,
    threshold: Annotated[
        float, typer.Option("--threshold", help="Highest ROUGE-L F1 that --filter allows.")
    ] = 0.7,
    tasks_per_request: Annotated[
        int, typer.Option("--tasks-per-request", min=1, help="Tasks asked for in one request.")
    ] = 12,
    examples: Annotated[
        int,
        typer.Option(
            "--examples", "--seeds-per-request", min=1, help="Seed tasks shown in one request."
        ),
    ] = 3,
    use_generated: Annotated[
        int,
        typer.Option(
            "--use-generated", min=0, help="Tasks kept before that are shown beside the seeds."
        ),
    ] = 0,
    quota: Annotated[
        list[str] | None,
        typer.Option(
            "--quota",
            help="Balance of a label: difficulty=1:10,2:20,3:30,4:30,5:10; also type, view and "
            "topic (its field); * is the rest. Or a .toml file. May be repeated.",
        ),
    ] = None,
    steer_after: Annotated[
        int,
        typer.Option(
            "--steer-after",
            min=1,
            help="With --quota or --use-generated, a request knows the replies this many "
            "requests back; the most in flight.",
        ),
    ] = 50,
    layout: Annotated[
        str, typer.Option("--layout", help="What the teacher writes: text or json.")
    ] = "text",
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    presence_penalty: PresencePenalty = 1.5,
    max_tokens: MaxTokens = 4096,
    licence: Annotated[
        str,
        typer.Option(
            "--licence", help="Written on every row: what the seeds and the teacher's terms allow."
        ),
    ] = "",
    concurrency: Concurrency = 16,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    budget: Budget = None,
    price: PriceOption = None,
    models: ModelsFile = None,
    dry_run: DryRun = False,
    seed: Seed = 42,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Write new tasks from expert seed tasks with a teacher model.

    Each request shows the teacher a few seed tasks, drawn at random, and asks it
    to continue the list. A seed has an instruction, an input and the labels type,
    topic, view and difficulty. Replies are read task by task; what cannot be read,
    or is too like an earlier task, goes to rejected.parquet with the reason. The
    outputs are written later, by "respond". Asking goes on until --count tasks were
    kept, and stops with an explanation when next to nothing is.

    With --quota the teacher is asked for labels in those proportions, and exactly
    the apportioned numbers are kept. --layout json asks for JSON, held to a schema
    where the server can do that.

    Every call is kept in OUT/journal.sqlite: a stopped run goes on without asking
    anything twice, and recorded:OUT/journal.sqlite answers as the teacher did.
    --dry-run tells requests, tokens, cost and time beforehand; --budget bounds what
    all calls of OUT cost. A server whose price is not known needs --price, one of your
    own does not. Keys come from the environment, each bound to its server:
    OPENAI_API_KEY, ANTHROPIC_API_KEY, MEADOWLARK_API_KEY for any other URL, or the
    variable that models.toml names.

    \b
    Examples:
      meadowlark generate --seeds seeds.jsonl --count 500 --out runs/tasks \\
          --teacher openai:gpt-4o --budget 20usd
      meadowlark generate --seeds seeds.jsonl --count 20 --out runs/first-look \\
          --teacher openai:llama3.3@http://localhost:11434/v1
      meadowlark generate --seeds seeds.xlsx --count 1000 --out runs/balanced \\
          --quota difficulty=1:10,2:20,3:30,4:25,5:15 --quota view=patient:30,*:70 \\
          --teacher openai:gpt-4o --dry-run
      meadowlark generate --seeds seeds.jsonl --count 500 --out runs/again \\
          --teacher recorded:runs/tasks/journal.sqlite
    """
    from meadowlark.llm import Sampling
    from meadowlark.synth.generate import estimate_generation
    from meadowlark.synth.generate import generate as stage
    from meadowlark.synth.task_requests import RequestForm, layout_of

    form = RequestForm(
        seed,
        examples,
        tasks_per_request,
        layout_of(layout),
        Sampling(
            temperature=temperature,
            top_p=top_p,
            presence_penalty=presence_penalty,
            max_tokens=max_tokens,
        ),
    )
    calls = calls_of(concurrency, requests_per_minute, tokens_per_minute, budget, price, models)
    if dry_run:
        found = estimate_generation(seeds, teacher, count, out, form=form, limit=limit, **calls)
        show_estimate(found, calls, "more where tasks are not kept")
        return
    run = stage(
        seeds,
        teacher,
        count,
        out,
        form=form,
        threshold=threshold if filter_ else None,
        use_generated=use_generated,
        quotas=quota or (),
        steer_after=steer_after,
        licence=licence,
        limit=limit,
        force=force,
        **calls,
    )
    summarise(run, out, done_before=run.done_before)
