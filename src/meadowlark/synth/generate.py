"""``generate``: new tasks from expert seed tasks, written by a teacher model (AlpaCare).

Seeds come in as records with the tags type, topic, view and difficulty; tasks go out as records
with an empty output, the seeds shown to the teacher as parents. Request ``i`` depends on the seed
number and ``i`` alone, with quotas or generated examples also on the replies up to a fixed number
before it; replies are read in request order, so a resumed run gives the same rows.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count as numbers
from itertools import islice
from pathlib import Path
from typing import Any

from meadowlark.dataset import JOURNAL, Run, open_run, read
from meadowlark.errors import UserError, unknown
from meadowlark.labels import label_tags
from meadowlark.llm import (
    Asking,
    ChatModel,
    ChatReply,
    ChatRequest,
    Estimate,
    Journal,
    Policy,
    Price,
    Sampling,
    estimate,
    identify,
    open_teacher,
)
from meadowlark.llm.asking import FAILED
from meadowlark.llm.dispatch import Outcome
from meadowlark.llm.errors import BudgetReached, NotRecorded
from meadowlark.llm.recorded import changed_prompt
from meadowlark.match import RougeIndex, tokenize
from meadowlark.progress import Progress
from meadowlark.records import Record, Rejected
from meadowlark.spool import Spool
from meadowlark.synth.parse import parse_tasks
from meadowlark.synth.parse_json import SCHEMA
from meadowlark.synth.prompts import GENERATE_FILES, Layout, generation_turns, prompt_hash
from meadowlark.synth.quotas import Balance, Shares, as_options, read_quotas
from meadowlark.synth.replies import is_refusal
from meadowlark.synth.task import Task

LOW_YIELD = 0.05
"""Asking stops when the last requests gave less than this share of the tasks asked for."""
YIELD_WINDOW = 20


GENERATED_POOL = 2000
"""Generated tasks are shown as examples from among the last so many that were kept."""


def generate(
    seeds: Path,
    teacher: str,
    count: int,
    out: Path,
    *,
    seed: int = 42,
    threshold: float | None = 0.7,
    tasks_per_request: int = 12,
    examples: int = 3,
    use_generated: int = 0,
    quotas: Sequence[str] = (),
    steer_after: int = 50,
    layout: str = "text",
    temperature: float = 1.0,
    top_p: float = 1.0,
    presence_penalty: float = 1.5,
    max_tokens: int = 4096,
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
    ``examples`` seeds are shown in a request, and ``use_generated`` tasks that were kept before.
    ``quotas`` are words for :func:`~meadowlark.synth.quotas.read_quotas`. What both need to know of
    earlier replies is taken from those at least ``steer_after`` requests before, so that it is the
    same in every run; so many may be in flight. ``layout`` is ``text`` or ``json``.

    ``licence`` is written on every row: what the seeds and the teacher's terms allow.
    ``limit`` reads only the first seeds. ``policy`` says how fast to ask and what it may cost,
    ``price`` and ``models`` are those of :func:`~meadowlark.llm.open_teacher`; ``model`` stands in
    for opening ``teacher``. Stops early, with a warning in the manifest, when a recording ends, the
    budget is reached or the yield falls below 5 %.
    """
    policy = policy or Policy()
    _check(count, threshold, tasks_per_request, examples)
    if layout not in GENERATE_FILES:
        raise unknown("layout", layout, GENERATE_FILES)
    form: Layout = "json" if layout == "json" else "text"
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
        "tasks_per_request": tasks_per_request,
        "examples": examples,
        "temperature": temperature,
        "top_p": top_p,
        "presence_penalty": presence_penalty,
        "max_tokens": max_tokens,
        "prompt": prompt_hash(*GENERATE_FILES[form]),
        "layout": layout,
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
        seed=seed,
        growing=("count", "budget"),
        force=force,
    )
    if run.complete:
        return run
    pool, unusable = _read_seeds(seeds, examples, limit)
    sampling = Sampling(
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        presence_penalty=presence_penalty,
    )
    steering = Steering(shares, use_generated, steer_after) if steered else None
    plan = _Plan(pool, seed, examples, tasks_per_request, sampling, form, steering)
    model = model or open_teacher(teacher, models=models, price=price)
    look_ahead = max(2 * policy.concurrency, 8)
    policy = replace(policy, look_ahead=min(look_ahead, steer_after) if steered else look_ahead)
    with run, Journal(run.folder / JOURNAL) as journal, Spool(run) as spool:
        for row in unusable:
            spool.reject(row)
        balance = Balance(shares, count)
        basket = _Basket(plan, spool, balance, f"generated:{model.name}", licence, count, threshold)
        with Asking(
            model, plan.requests(), journal=journal, policy=policy, useful=basket.requests_wanted
        ) as asking:
            _collect(asking, basket, files.get("recording"))
            if asking.write_failed(run.folder):
                run.wrote(FAILED)
        run.manifest.tokens = asking.counts.tokens()
        run.manifest.cost_usd = round(asking.spent_usd, 6)
        run.manifest.warnings = [*basket.warnings, *asking.warnings]
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
    seed: int = 42,
    tasks_per_request: int = 12,
    examples: int = 3,
    layout: str = "text",
    temperature: float = 1.0,
    top_p: float = 1.0,
    presence_penalty: float = 1.5,
    max_tokens: int = 4096,
    policy: Policy | None = None,
    price: Price | None = None,
    models: Path | None = None,
    limit: int | None = None,
    model: ChatModel | None = None,
) -> Estimate:
    """What :func:`generate` would send at least: as if every task asked for were kept."""
    _check(count, None, tasks_per_request, examples)
    pool, _ = _read_seeds(seeds, examples, limit)
    sampling = Sampling(
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        presence_penalty=presence_penalty,
    )
    form: Layout = "json" if layout == "json" else "text"
    plan = _Plan(pool, seed, examples, tasks_per_request, sampling, form, None)
    requests = islice(plan.requests(), math.ceil(count / tasks_per_request))
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


def _check(count: int, threshold: float | None, tasks: int, examples: int) -> None:
    for name, value, least in (
        ("count", count, 1),
        ("tasks per request", tasks, 1),
        ("examples", examples, 1),
    ):
        if value < least:
            raise UserError(f"{name} is {value}; it must be at least {least}")
    if threshold is not None and not 0 <= threshold < 1:
        raise UserError(f"threshold is {threshold}; it must be at least 0 and below 1")


class Steering:
    """What request ``i`` may know of earlier replies: those of requests up to ``i - lag``.

    The same in every run, whatever is in flight, since a reply is consumed before a request
    ``lag`` later is made.
    """

    def __init__(self, shares: Shares, use_generated: int, lag: int) -> None:
        self.use_generated, self.lag = use_generated, lag
        self.balance = Balance(shares, 0)
        self.pool: deque[Record] = deque(maxlen=GENERATED_POOL)
        self._kept: deque[list[Record]] = deque()
        self._known = 0

    def note(self, kept: list[Record]) -> None:
        """The tasks kept of the next reply, in request order."""
        self._kept.append(kept)

    def advance(self, index: int) -> None:
        """Take in the replies that request ``index`` may know."""
        while self._known <= index - self.lag:
            assert self._kept, f"request {index} was made before reply {self._known} was consumed"
            for record in self._kept.popleft():
                self.balance.add(record.tags)
                if self.use_generated:
                    self.pool.append(record)
            self._known += 1


class _Plan:
    """Which request is the i-th: its examples, drawn by (seed, i), its labels, and its text."""

    def __init__(
        self,
        seeds: list[Record],
        seed: int,
        examples: int,
        tasks: int,
        sampling: Sampling,
        layout: Layout,
        steering: Steering | None,
    ) -> None:
        self.seeds, self.seed, self.sampling = seeds, seed, sampling
        self.examples, self.tasks = examples, tasks
        self.layout, self.steering = layout, steering
        self.shown: dict[int, list[Record]] = {}
        """The examples of the requests that were made and whose replies were not read yet."""

    def _examples_of(self, index: int) -> list[Record]:
        """The tasks shown in request ``index``, in the order shown: seeds, then generated ones."""
        shown = random.Random(f"{self.seed}:{index}").sample(self.seeds, self.examples)
        if self.steering is not None:
            rng = random.Random(f"{self.seed}:{index}:generated")
            pool = self.steering.pool
            shown += rng.sample(pool, min(self.steering.use_generated, len(pool)))
        return shown

    def _labels_of(self, index: int) -> list[dict[str, str]]:
        """The labels wanted of the new tasks of request ``index``; none without quotas."""
        steering = self.steering
        if steering is None or not steering.balance.shares:
            return []
        rng = random.Random(f"{self.seed}:{index}:labels")
        return steering.balance.wanted(self.tasks, steering.lag * self.tasks, rng)

    def requests(self) -> Iterator[ChatRequest]:
        """Requests 0, 1, 2, … without end; a draw of the same request again is the next draw."""
        draws: Counter[tuple[Any, ...]] = Counter()
        schema = SCHEMA if self.layout == "json" else None
        for index in numbers():
            if self.steering is not None:
                self.steering.advance(index)
            shown, wanted = self._examples_of(index), self._labels_of(index)
            self.shown[index] = shown
            same = (*(r.id for r in shown), *(tuple(labels.items()) for labels in wanted))
            turns = generation_turns(shown, self.tasks, wanted, self.layout)
            label = f"generate:{index}"
            yield ChatRequest(turns, self.sampling, draws[same], label, schema)
            draws[same] += 1


@dataclass
class _Basket:
    """The tasks gathered so far, and why others were not kept."""

    plan: _Plan
    spool: Spool
    balance: Balance
    source: str
    licence: str
    count: int
    threshold: float | None
    warnings: list[str] = field(default_factory=list)
    left_over: int = 0
    requests: int = 0

    def __post_init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=YIELD_WINDOW)
        self._reasons: Counter[str] = Counter()
        self._tags = {name: Counter[str]() for name in ("type", "view", "difficulty")}
        self._index: RougeIndex | None = None
        self._names: list[str] = []
        if self.threshold is not None:
            self._index = RougeIndex(self.threshold)
            for seed in self.plan.seeds:
                self._index.add(seed.instruction)
                self._names.append(f"seed {seed.id}")

    @property
    def full(self) -> bool:
        return self.spool.kept >= self.count

    def requests_wanted(self) -> int:
        """About how many more requests fill the basket, by what the earlier ones gave."""
        gave = self.spool.kept / self.requests if self.requests else self.plan.tasks
        return math.ceil((self.count - self.spool.kept) / max(gave, 1.0))

    def take(self, index: int, outcome: Outcome) -> int:
        """Read one reply; returns how many of its tasks were kept."""
        self.requests += 1
        shown = self.plan.shown.pop(index)
        kept: list[Record] = []
        if outcome.reply is None:
            self._reject(index, f"failed: {outcome.reason}", str(outcome.error))
        else:
            kept = self._take_reply(index, outcome.reply, shown)
        if self.plan.steering is not None:
            self.plan.steering.note(kept)
        self._recent.append(len(kept))
        return len(kept)

    def _take_reply(self, index: int, reply: ChatReply, shown: list[Record]) -> list[Record]:
        if is_refusal(reply):
            self._reject(index, "refused", reply.text)
            return []
        tasks, unread = parse_tasks(reply.text, reply.finish)
        kept = []
        for task in tasks:
            if self.full:
                self.left_over += 1
                continue
            record = self._record(index, task, shown)
            why = self._why_not(record, shown)
            if why is None:
                kept.append(record)
                self._keep(record)
            else:
                self._reasons[why[0]] += 1
                self.spool.reject(Rejected(record, *why))
        for reason, raw in unread:
            self._reject(index, reason, raw)
        return kept

    def _record(self, index: int, task: Task, shown: list[Record]) -> Record:
        return Record(
            task.instruction,
            task.input,
            source=self.source,
            licence=self.licence,
            tags={
                **label_tags(task.type, task.topic, task.view, task.difficulty),
                "request": f"generate:{index}",
            },
            parents=tuple(example.id for example in shown),
        )

    def _why_not(self, record: Record, shown: list[Record]) -> tuple[str, str] | None:
        """Why a task is not kept, as reason and detail; None for one that is (and is indexed)."""
        words = tokenize(record.instruction)
        if any(words == tokenize(example.instruction) for example in shown):
            return "repeats an example", record.instruction
        refused = self.balance.refuses(record.tags)
        if refused is not None or self._index is None:
            return refused
        found = self._index.add_if_new(record.instruction)
        if found is None:
            self._names.append(record.id)
            return None
        near, score = found
        whose = "a seed" if near < len(self.plan.seeds) else "a kept task"
        return f"too similar to {whose}", f"ROUGE-L {score:.4f} with {self._names[near]}"

    def _keep(self, record: Record) -> None:
        self.spool.keep(record)
        self.balance.add(record.tags)
        for name, counts in self._tags.items():
            counts[record.tags.get(name, "")] += 1

    def _reject(self, index: int, reason: str, detail: str) -> None:
        row = Record("", source=self.source, tags={"request": f"generate:{index}"})
        self._reasons[reason] += 1
        self.spool.reject(Rejected(row, reason, detail))

    def dried_up(self) -> bool:
        """Whether the last requests gave so little that asking on would be a waste."""
        asked = self.plan.tasks * len(self._recent)
        return len(self._recent) == YIELD_WINDOW and sum(self._recent) < LOW_YIELD * asked

    def explain_low_yield(self) -> str:
        """Why asking stopped, in a sentence with the most frequent reasons."""
        reasons = ", ".join(f"{why} ({n:,})" for why, n in self._reasons.most_common(3))
        return (
            f"stopped after {self.requests} requests with {self.spool.kept:,} of {self.count:,} "
            f"tasks: the last {YIELD_WINDOW} requests gave less than {LOW_YIELD:.0%} of the tasks "
            f"asked for. Most often rejected in the run: {reasons}. rejected.parquet has every "
            "one; more seeds, a higher threshold, other quotas or another teacher may help"
        )

    def results(self) -> dict[str, Any]:
        """What the manifest says of the tasks."""
        asked = self.requests * self.plan.tasks
        kinds = {f"{name}s": dict(self._tags[name].most_common()) for name in ("type", "view")}
        for counts in kinds.values():
            counts.pop("", None)
        return {
            "tasks_a_request": round(self.spool.kept / self.requests, 3) if self.requests else 0.0,
            "yield": round(self.spool.kept / asked, 4) if asked else 0.0,
            **({"tasks_left_over": self.left_over} if self.left_over else {}),
            **kinds,
            "difficulties": dict(sorted(self._tags["difficulty"].items())),
        }


def _collect(asking: Asking, basket: _Basket, recording: Path | None) -> None:
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
