"""``generate``: new tasks from expert seed tasks, written by a teacher model (AlpaCare).

Seeds come in as records with the tags type, topic, view and difficulty; tasks go out as records
with an empty output, the seeds shown to the teacher as parents. Request ``i`` depends on the seed
number and ``i`` alone, with quotas or generated examples also on the replies up to a fixed number
before it; replies are read in request order, so a resumed run gives the same rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from meadowlark.dataset import JOURNAL, Run, open_run, read
from meadowlark.errors import UserError
from meadowlark.llm import (
    Asking,
    ChatModel,
    Estimate,
    Journal,
    Policy,
    Price,
    estimate,
    identify,
    open_teacher,
)
from meadowlark.llm.asking import FAILED
from meadowlark.llm.errors import BudgetReached, NotRecorded
from meadowlark.llm.recorded import changed_prompt
from meadowlark.llm.spending import refuse_what_is_spent
from meadowlark.progress import Progress
from meadowlark.records import Record, Rejected
from meadowlark.spool import Spool
from meadowlark.synth.basket import Basket
from meadowlark.synth.prompts import GENERATE_FILES, prompt_hash
from meadowlark.synth.quotas import Balance, as_options, read_quotas
from meadowlark.synth.task_requests import Plan, RequestForm, Steering


def generate(
    seeds: Path,
    teacher: str,
    count: int,
    out: Path,
    *,
    form: RequestForm | None = None,
    threshold: float | None = 0.7,
    use_generated: int = 0,
    quotas: Sequence[str] = (),
    steer_after: int = 50,
    licence: str = "",
    policy: Policy | None = None,
    price: Price | None = None,
    models: Path | None = None,
    limit: int | None = None,
    force: bool = False,
    model: ChatModel | None = None,
) -> Run:
    """Ask ``teacher`` until ``count`` tasks were kept; raising ``count`` or the budget goes on.

    With a ``threshold`` a task is kept when the ROUGE-L F1 of its instruction with every seed and
    every kept task is at most that (Self-Instruct's rule); with None all readable tasks are kept.
    ``form`` says what a request shows and asks for; ``use_generated`` tasks that were kept before
    are shown beside its seeds. ``quotas`` are words for
    :func:`~meadowlark.synth.quotas.read_quotas`. What both need to know of earlier replies is
    taken from those at least ``steer_after`` requests before, so that it is the same in every run;
    so many may be in flight.

    ``licence`` is written on every row: what the seeds and the teacher's terms allow.
    ``limit`` reads only the first seeds. ``policy`` says how fast to ask and what it may cost,
    ``price`` and ``models`` are those of :func:`~meadowlark.llm.open_teacher`; ``model`` stands in
    for opening ``teacher``. Stops early, with a warning in the manifest, when a recording ends, the
    budget is reached or the yield falls below 5 %.
    """
    form, policy = form or RequestForm(), policy or Policy()
    _check(count, threshold)
    shares = read_quotas(quotas)
    steered = bool(shares or use_generated)
    if steered and policy.concurrency > steer_after:
        raise UserError(
            f"{policy.concurrency} requests in flight, but quotas and generated examples follow "
            f"the replies {steer_after} requests back; lower --concurrency or raise --steer-after"
        )
    named, files = identify(teacher, models)
    options = {
        "teacher": named,
        "count": count,
        "threshold": threshold,
        "tasks_per_request": form.tasks,
        "examples": form.examples,
        **form.sampling.given(),
        "prompt": prompt_hash(*GENERATE_FILES[form.layout]),
        "layout": form.layout,
        "use_generated": use_generated,
        "quotas": as_options(shares),
        "steer_after": steer_after if steered else None,
        "licence": licence,
        "budget": policy.budget_usd,
        "limit": limit,
    }
    run = open_run(
        "generate",
        out,
        options=options,
        inputs={"seeds": seeds, **files},
        seed=form.seed,
        growing=("count",),
        stops=("budget",),
        force=force,
    )
    if run.complete:
        return run
    refuse_what_is_spent(run, policy.budget_usd)
    pool, unusable = _read_seeds(seeds, form.examples, limit)
    plan = Plan(pool, form, Steering(shares, use_generated, steer_after) if steered else None)
    model = model or open_teacher(teacher, models=models, price=price)
    look_ahead = max(2 * policy.concurrency, 8)
    policy = replace(policy, look_ahead=min(look_ahead, steer_after) if steered else look_ahead)
    with run, Journal(run.folder / JOURNAL) as journal, Spool(run) as spool:
        for row in unusable:
            spool.reject(row)
        balance = Balance(shares, count)
        basket = Basket(plan, spool, balance, f"generated:{model.name}", licence, count, threshold)
        with Asking(
            model, plan.requests(), journal=journal, policy=policy, useful=basket.requests_wanted
        ) as asking:
            _collect(asking, basket, files.get("recording"))
            if asking.write_failed(run.folder):
                run.wrote(FAILED)
        run.manifest.warnings += basket.warnings
        asking.account(run.manifest)
        results = {
            "teacher": model.name,
            "calls": f"{asking.counts}{journal.interruption}",
            **basket.results(),
        }
        spool.close()
        run.finish(**results)
    return run


def estimate_generation(
    seeds: Path,
    teacher: str,
    count: int,
    out: Path,
    *,
    form: RequestForm | None = None,
    policy: Policy | None = None,
    price: Price | None = None,
    models: Path | None = None,
    limit: int | None = None,
    model: ChatModel | None = None,
) -> Estimate:
    """What :func:`generate` would send at least: as if every task asked for were kept."""
    form = form or RequestForm()
    _check(count, None)
    pool, _ = _read_seeds(seeds, form.examples, limit)
    requests = islice(Plan(pool, form).requests(), math.ceil(count / form.tasks))
    model = model or open_teacher(teacher, models=models, price=price)
    return estimate(model, requests, out / JOURNAL, (policy or Policy()).limits)


def _read_seeds(
    seeds: Path, examples: int, limit: int | None
) -> tuple[list[Record], list[Rejected]]:
    """The seed tasks, as many as one request shows at least, and the rows that are none."""
    pool, unusable = read(seeds, Record, limit)
    if len(pool) < examples:
        raise UserError(f"{seeds} holds {len(pool)} usable seed task(s); {examples} are needed")
    return pool, unusable


def _check(count: int, threshold: float | None) -> None:
    if count < 1:
        raise UserError(f"count is {count}; it must be at least 1")
    if threshold is not None and not 0 <= threshold < 1:
        raise UserError(f"threshold is {threshold}; it must be at least 0 and below 1")


def _collect(asking: Asking, basket: Basket, recording: Path | None) -> None:
    """Consume replies in order until the basket is full or nothing more is to be had."""
    with Progress("generate", basket.count, "tasks") as progress:
        for index, (_, outcome) in enumerate(asking):
            if isinstance(outcome.error, NotRecorded):
                if index == 0:
                    assert recording is not None, "only a recording can lack a reply"
                    raise changed_prompt(recording, 1)
                basket.warnings.append(
                    f"the recording ends after {index} requests with {basket.spool.kept:,} of "
                    f"{basket.count:,} tasks kept"
                )
                return
            if isinstance(outcome.error, BudgetReached):
                return  # the manifest's warning is dispatch's own
            kept = basket.take(index, outcome)
            cost = asking.cost_note(basket.spool.kept, basket.count)
            progress.advance(kept, f"{basket.spool.rejected:,} rejected{cost}")
            if basket.full:
                return
            if basket.dried_up():
                basket.warnings.append(basket.explain_low_yield())
                return
