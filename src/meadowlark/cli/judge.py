"""``meadowlark judge``: compares a model's answers with others', or grades them one by one."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meadowlark.cli.calls import (
    Calls,
    Concurrency,
    DryRun,
    ModelsFile,
    RequestsPerMinute,
    TokensPerMinute,
    calls_of,
    show_estimate,
)
from meadowlark.cli.options import Force, Limit, Out, stdout, summarise
from meadowlark.errors import UserError
from meadowlark.progress import plural

if TYPE_CHECKING:
    from meadowlark.llm import Estimate, Price

OVERLAP = "overlap"


def judge(
    answers: Annotated[
        str, typer.Argument(help="The model's answers: a folder, or a file of answers.")
    ],
    out: Out,
    judge: Annotated[
        list[str],
        typer.Option(
            "--judge",
            help="Who judges: openai:NAME@BASE_URL, anthropic:NAME, hf:PATH, recorded:FILE, a name "
            "from models.toml; or overlap. Several times for a jury.",
        ),
    ],
    references: Annotated[
        list[str] | None,
        typer.Argument(
            help="Other models' answers to the same questions. NAME=PATH names a model."
        ),
    ] = None,
    protocol: Annotated[
        str,
        typer.Option(
            "--protocol",
            help="Pairs: alpacare, alpacare-claude, mt-bench, alpacaeval. One by one: correctness, "
            "helpfulness, rubric. Or FILE.toml.",
        ),
    ] = "alpacare",
    reading: Annotated[
        str | None,
        typer.Option(
            "--reading",
            help="How a verdict is read instead of the protocol's way: strict, alpacare (the "
            "published rule), brackets, letter.",
        ),
    ] = None,
    rubric: Annotated[
        str | None,
        typer.Option("--rubric", help="With --protocol rubric: medical, or a .json(l) file."),
    ] = None,
    schema: Annotated[
        bool,
        typer.Option("--schema", help="Let the server hold a rubric's replies to a JSON schema."),
    ] = False,
    logprobs: Annotated[
        int | None,
        typer.Option(
            "--logprobs",
            min=1,
            max=20,
            help="Ask for so many alternatives' log-probabilities: how strong each verdict is.",
        ),
    ] = None,
    tie_within: Annotated[
        float | None,
        typer.Option("--tie-within", help="With overlap: differences up to this tie (else 0.01)."),
    ] = None,
    concurrency: Concurrency = 16,
    requests_per_minute: RequestsPerMinute = None,
    tokens_per_minute: TokensPerMinute = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget",
            help="Most that all calls of OUT may cost, those of all judges together, as 20usd. "
            "Raising it continues; a killed run may be given another one.",
        ),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(
            "--price",
            help="USD a million tokens in and out, as 2.5,10; once for all judges, or for each.",
        ),
    ] = None,
    models: ModelsFile = None,
    dry_run: DryRun = False,
    difference: Annotated[
        float | None,
        typer.Option(
            "--difference",
            help="With --dry-run: how many prompts show a win rate so many percentage points from "
            "50 (else 5).",
        ),
    ] = None,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Compare a model's answers with other models', or grade them one by one.

    ANSWERS and each REFERENCE are folders of `meadowlark answer`, or files of
    other programs: rows with instruction and input, or prompt, and response or
    output; chats as messages, whose last turn is the answer; or the samples that
    lm-eval writes with --log_samples. Questions are matched by id, else by their
    text.

    A pair protocol asks every judge about each item, reference and order. Its
    verdict is read strictly: what states no single choice is "unreadable",
    which is counted and never left out; so is one for which no reply came.
    --reading alpacare reads by AlpaCare's published rule. A judge sees prompts
    and answers, never a model's name. correctness and helpfulness give each
    answer a number from 1 to 10; rubric says of each criterion whether it is
    met (HealthBench), and a failed grading stays unscored.

    Every reply is kept in OUT/journal.sqlite: a stopped run goes on without
    asking anything twice. --dry-run tells requests, tokens, cost and time
    beforehand, and of pairs how small a difference that many prompts show and
    how many prompts a given --difference needs; --budget stops in time, and
    the verdicts left unasked are in rejected.parquet.

    With `--judge overlap` no model is asked: the answer that shares more words
    with the question's reference answer (ROUGE-L F1) wins. That is an overlap
    of wording and NOT a judgement of quality: a right answer in other words
    loses to a wrong one in the same words.

    \b
    Examples:
      meadowlark judge runs/tuned runs/untuned --judge openai:gpt-4o-mini \\
          --dry-run --out runs/verdicts
      meadowlark judge tuned=runs/tuned gpt-4=published/gpt-4.jsonl \\
          --judge openai:gpt-4o-mini --judge anthropic:claude-haiku-4-5 \\
          --budget 5usd --out runs/verdicts
      meadowlark judge runs/tuned --protocol rubric --rubric rubric.jsonl \\
          --judge openai:llama3.3@http://localhost:11434/v1 --out runs/grades
      meadowlark judge runs/tuned runs/untuned --judge overlap --out runs/overlaps
      meadowlark score runs/verdicts
    """
    from meadowlark.evaluate import grade, overlap
    from meadowlark.evaluate import judge as pairs
    from meadowlark.evaluate.protocols import protocol_of
    from meadowlark.llm.prices import parse_price

    others = references or []
    if OVERLAP in judge:
        if judge != [OVERLAP]:
            raise UserError(
                "--judge overlap asks no model and stands alone; judge with models in another --out"
            )
        typed = {
            "--reading": reading,
            "--rubric": rubric,
            "--schema": schema,
            "--logprobs": logprobs,
            "--requests-per-minute": requests_per_minute,
            "--tokens-per-minute": tokens_per_minute,
            "--budget": budget,
            "--price": price,
            "--models": models,
            "--dry-run": dry_run,
            "--difference": difference,
        }
        _refuse(typed, "is for judges that are models; --judge overlap asks none and costs nothing")
        within = overlap.TIE_WITHIN if tie_within is None else tie_within
        run = overlap.judge_overlap(
            answers, others, out, tie_within=within, limit=limit, force=force
        )
        summarise(run, out, done_before=run.done_before)
        return
    _refuse({"--tie-within": tie_within}, "is for --judge overlap")
    if not dry_run:
        _refuse({"--difference": difference}, "is for --dry-run, which says how many prompts it is")
    calls = calls_of(concurrency, requests_per_minute, tokens_per_minute, budget, None, models)
    prices = [parse_price(given) for given in price or []]
    asked: dict[str, Any] = {
        "protocol": protocol,
        "policy": calls["policy"],
        "prices": prices,
        "models": models,
        "limit": limit,
    }
    if protocol_of(protocol).kind == "pair":
        _refuse({"--rubric": rubric, "--schema": schema}, "is for --protocol rubric")
        asked |= {"reading": reading, "logprobs": logprobs}
        if dry_run:
            planned = pairs.estimate_pairs(answers, others, judge, out, **asked)
            _show(planned.calls, calls, prices)
            _show_power(planned.prompts, 5.0 if difference is None else difference)
            return
        run = pairs.judge_pairs(answers, others, judge, out, **asked, force=force)
    else:
        of_pairs = {"--reading": reading, "--logprobs": logprobs, "--difference": difference}
        _refuse(of_pairs, "is for protocols that compare pairs")
        asked |= {"rubric": rubric, "schema": schema}
        if dry_run:
            found = grade.estimate_grades(answers, others, judge, out, **asked)
            _show(found, calls, prices)
            return
        run = grade.grade_answers(answers, others, judge, out, **asked, force=force)
    summarise(run, out, done_before=run.done_before)


def _refuse(typed: dict[str, Any], why: str) -> None:
    """UserError for the first option that was typed and would do nothing here."""
    for option, value in typed.items():
        if value not in (None, False, []):
            raise UserError(f"{option} {why}; leave it out")


def _show_power(prompts: int, points: float) -> None:
    """How small a difference so many prompts show, and how many one of ``points`` needs."""
    from meadowlark.statistics.power import detectable_win_rate, prompts_needed

    if not 0 < points <= 50:
        raise UserError(f"--difference {points:g}: expected percentage points above 0, at most 50")
    rate = detectable_win_rate(prompts)
    line = f"{plural(prompts, 'prompt')}: too few to show any difference"
    if not math.isnan(rate):
        line = (
            f"{plural(prompts, 'prompt shows', 'prompts show')} a win rate of "
            f"{100 * rate:.1f} % or more (or of "
            f"{100 * (1 - rate):.1f} % or less) to differ from 50 %"
        )
    needed = prompts_needed(0.5 + points / 100)
    line += f"; {points:g} points from 50 % need {plural(needed, 'prompt')}"
    stdout.print(line, markup=False)
    stdout.print("  found four times in five, at 5 % two-sided; ties make it fewer", markup=False)


def _show(found: list[Estimate], calls: Calls, prices: list[Price]) -> None:
    """The estimate of each judge, and of all together: the budget is theirs together too."""
    from meadowlark.progress import usd

    budget_usd = calls["policy"].budget_usd
    alone = replace(calls["policy"], budget_usd=budget_usd if len(found) == 1 else None)
    for one in found:
        typed = one.price if one.price in prices else None
        asked = Calls(policy=alone, price=typed, models=calls["models"])
        show_estimate(one, asked, "more where a reply cannot be read")
    if len(found) > 1:
        most = sum(one.most_usd for one in found)
        spent = found[0].spent_usd
        line = f"all judges: at most {usd(most)} USD"
        if spent:
            line += f", beside {usd(spent)} already spent"
        if budget_usd is not None:
            enough = spent + most <= budget_usd
            line += f"; the budget of {usd(budget_usd)} USD " + (
                "is enough" if enough else "may be reached"
            )
        stdout.print(line, markup=False)
