"""The options of verbs that ask a teacher: which model, how it samples, how fast, for how much; and
the dry run.

Money is typed as US dollars (``20usd``), a price as dollars a million tokens in and out
(``2.5,10``).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypedDict

import typer

from meadowlark.cli.options import stdout
from meadowlark.errors import UserError
from meadowlark.progress import duration, plural, usd

if TYPE_CHECKING:
    from meadowlark.llm import Estimate, Policy, Price

Teacher = Annotated[
    str,
    typer.Option(
        "--teacher",
        help="openai:NAME@BASE_URL, anthropic:NAME, recorded:FILE, hf:PATH or a name from "
        "models.toml.",
    ),
]
Temperature = Annotated[
    float, typer.Option("--temperature", min=0.0, help="0 takes the likeliest token.")
]
TopP = Annotated[
    float,
    typer.Option("--top-p", min=0.0, max=1.0, help="Draw from the likeliest tokens of this share."),
]
PresencePenalty = Annotated[
    float,
    typer.Option("--presence-penalty", help="Above 0, words used before in a reply come less."),
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", min=1, help="Longest reply in tokens.")]
Retries = Annotated[
    int,
    typer.Option("--retries", min=0, help="How often a reply of no use is asked for again."),
]
ModelsFile = Annotated[
    Path | None,
    typer.Option(
        "--models",
        help="Your models.toml (else $MEADOWLARK_MODELS, ./models.toml or "
        "~/.config/meadowlark/models.toml).",
    ),
]
Concurrency = Annotated[
    int,
    typer.Option(
        "--concurrency",
        "-j",
        min=1,
        help="Most requests in flight; fewer while the server says that there are too many.",
    ),
]
RequestsPerMinute = Annotated[
    float | None, typer.Option("--requests-per-minute", min=0.001, help="The server's limit.")
]
TokensPerMinute = Annotated[
    float | None,
    typer.Option("--tokens-per-minute", min=0.001, help="The server's limit, in and out together."),
]
PriceOption = Annotated[
    str | None,
    typer.Option(
        "--price", help="USD a million tokens in and out, as 2.5,10; before what is known of it."
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        "--budget",
        help="Most that all calls of OUT may cost, as 20usd. Raising it continues; a killed run "
        "may be given another one.",
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run",
        help="Say what would be sent, what it costs and how long it takes; send nothing.",
    ),
]


class Calls(TypedDict):
    """How a stage asks its teacher: keywords of the stage and of its estimate."""

    policy: Policy
    price: Price | None
    models: Path | None


def calls_of(
    concurrency: int,
    requests_per_minute: float | None,
    tokens_per_minute: float | None,
    budget: str | None,
    price: str | None,
    models: Path | None,
) -> Calls:
    """How to ask, by the options as they were typed."""
    from meadowlark.llm import Policy
    from meadowlark.llm.prices import parse_budget, parse_price

    for option, limit in (
        ("--requests-per-minute", requests_per_minute),
        ("--tokens-per-minute", tokens_per_minute),
    ):
        if limit is not None and not math.isfinite(limit):
            raise UserError(f"{option} is {limit}; expected a number, or leave it away")
    policy = Policy(
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
        budget_usd=parse_budget(budget) if budget else None,
    )
    return Calls(policy=policy, price=parse_price(price) if price else None, models=models)


def show_estimate(found: Estimate, calls: Calls, at_least: str) -> None:
    """Print what a run would send, take and cost. ``at_least`` says why it may be more."""
    from meadowlark.llm.prices import PRICES_OF

    def line(text: str) -> None:
        stdout.print(text, markup=False)

    line(
        f"dry run: {plural(found.requests, 'request')} to {found.model} at {found.endpoint}, "
        f"{at_least}"
    )
    if found.answered:
        line(f"  {found.answered:,} more are answered in the journal and not sent again")
    likely = found.likely_tokens_out
    read = f"about {found.tokens_in:,} in"
    written = f"at most {found.most_tokens_out:,} out"
    if likely is not None:
        written = f"about {likely:,} out by the replies so far ({written})"
    line(f"  tokens: {read}, {written}")
    price = found.price
    if price is None or not (price.input or price.output):
        line("  cost: nothing (a server of your own, or one given as free)")
    else:
        cost = f"at most {usd(found.most_usd)} USD"
        if found.likely_usd is not None:
            cost = f"about {usd(found.likely_usd)} USD by the replies so far ({cost})"
        spent = f", beside {usd(found.spent_usd)} already spent" if found.spent_usd else ""
        source = "as you gave it" if calls["price"] else f"models.toml or our table of {PRICES_OF}"
        line(f"  cost: {cost}{spent}; at {price}, {source}")
    budget_usd = calls["policy"].budget_usd
    if budget_usd is not None:
        most = found.spent_usd + found.most_usd
        word = "is enough" if most <= budget_usd else f"may be reached (at most {usd(most)} USD)"
        line(f"  budget: {usd(budget_usd)} USD {word}")
    line(f"  time: about {duration(found.seconds)}, at the limits given")
    line("  nothing was sent or written")
