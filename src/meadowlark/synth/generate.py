"""``generate``: new tasks from expert seed tasks, written by a teacher model (AlpaCare).

Seeds come in as records with the tags type, topic, view and difficulty; tasks go out as records
with an empty output, the seeds shown to the teacher as parents. Request ``i`` depends on the seed
number and ``i`` alone, and replies are read in request order, so a resumed run gives the same rows.
"""

from __future__ import annotations

import math
import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count as numbers
from pathlib import Path
from typing import Any

from meadowlark.dataset import JOURNAL, Run, open_run, read
from meadowlark.errors import UserError
from meadowlark.llm import (
    Asking,
    ChatModel,
    ChatReply,
    ChatRequest,
    Journal,
    Policy,
    Sampling,
    identify,
    open_chat_model,
)
from meadowlark.llm.dispatch import FAILED, Outcome
from meadowlark.llm.errors import NotRecorded
from meadowlark.llm.recorded import changed_prompt
from meadowlark.match import RougeIndex, tokenize
from meadowlark.progress import Progress
from meadowlark.records import Record, Rejected
from meadowlark.synth.labels import label_tags
from meadowlark.synth.parse import Task, parse_tasks
from meadowlark.synth.prompts import GENERATE_FILES, generation_turns, prompt_hash
from meadowlark.synth.replies import is_refusal

LOW_YIELD = 0.05
"""Asking stops when the last requests gave less than this share of the tasks asked for."""
YIELD_WINDOW = 20


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
    temperature: float = 1.0,
    top_p: float = 1.0,
    presence_penalty: float = 1.5,
    max_tokens: int = 4096,
    licence: str = "",
    concurrency: int = 5,
    limit: int | None = None,
    force: bool = False,
    model: ChatModel | None = None,
) -> Run:
    """Ask ``teacher`` until ``count`` tasks were kept; raising ``count`` later goes on.

    With a ``threshold`` a task is kept when the ROUGE-L F1 of its instruction with every seed and
    every kept task is at most that (Self-Instruct's rule); with None all readable tasks are kept.
    ``licence`` is written on every row: what the seeds and the teacher's terms allow.
    ``limit`` reads only the first seeds. ``model`` stands in for opening ``teacher``. Stops early,
    with a warning in the manifest, when a recording ends or the yield falls below 5 %.
    """
    _check(count, threshold, tasks_per_request, examples)
    named, files = identify(teacher)
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
        "prompt": prompt_hash(*GENERATE_FILES),
        "licence": licence,
        "limit": limit,
    }
    run = open_run(
        "generate",
        out,
        options=options,
        inputs={"seeds": seeds, **files},
        seed=seed,
        growing=("count",),
        force=force,
    )
    if run.complete:
        return run
    pool, unusable = read(seeds, Record, limit)
    if len(pool) < examples:
        raise UserError(f"{seeds} holds {len(pool)} usable seed task(s); {examples} are needed")
    sampling = Sampling(
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        presence_penalty=presence_penalty,
    )
    plan = _Plan(pool, seed, examples, tasks_per_request, sampling)
    model = model or open_chat_model(teacher)
    with run, Journal(run.folder / JOURNAL) as journal:
        basket = _Basket(plan, f"generated:{model.name}", licence, count, threshold)
        policy = Policy(concurrency=concurrency, look_ahead=max(2 * concurrency, 8))
        with Asking(
            model, plan.requests(), journal=journal, policy=policy, useful=basket.requests_wanted
        ) as asking:
            _collect(asking, basket, files.get("recording"))
            if asking.write_failed(run.folder):
                run.wrote(FAILED)
        run.write(basket.kept, Record)
        run.reject([*unusable, *basket.rejected], Record)
        run.manifest.rows["in"] = len(basket.kept) + len(basket.rejected) + len(unusable)
        run.manifest.tokens = asking.counts.tokens()
        run.manifest.warnings = basket.warnings
        run.finish(
            teacher=model.name,
            calls=f"{asking.counts}{journal.interruption}",
            **basket.results(),
        )
    return run


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


class _Plan:
    """Which request is the i-th: its example seeds, drawn by (seed, i), and its text."""

    def __init__(
        self, seeds: list[Record], seed: int, examples: int, tasks: int, sampling: Sampling
    ) -> None:
        self.seeds, self.seed, self.sampling = seeds, seed, sampling
        self.examples, self.tasks = examples, tasks

    def examples_of(self, index: int) -> list[Record]:
        """The seeds shown in request ``index``, in the order shown."""
        return random.Random(f"{self.seed}:{index}").sample(self.seeds, self.examples)

    def requests(self) -> Iterator[ChatRequest]:
        """Requests 0, 1, 2, … without end; a draw of the same examples again is the next draw."""
        draws: Counter[tuple[str, ...]] = Counter()
        for index in numbers():
            shown = self.examples_of(index)
            ids = tuple(record.id for record in shown)
            turns = generation_turns(shown, self.tasks)
            yield ChatRequest(turns, self.sampling, draws[ids], f"generate:{index}")
            draws[ids] += 1


@dataclass
class _Basket:
    """The tasks gathered so far, and why others were not kept."""

    plan: _Plan
    source: str
    licence: str
    count: int
    threshold: float | None
    kept: list[Record] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    left_over: int = 0
    requests: int = 0

    def __post_init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=YIELD_WINDOW)
        self._index: RougeIndex | None = None
        self._names: list[str] = []
        if self.threshold is not None:
            self._index = RougeIndex(self.threshold)
            for seed in self.plan.seeds:
                self._index.add(seed.instruction)
                self._names.append(f"seed {seed.id}")

    @property
    def full(self) -> bool:
        return len(self.kept) >= self.count

    def requests_wanted(self) -> int:
        """About how many more requests fill the basket, by what the earlier ones gave."""
        gave = len(self.kept) / self.requests if self.requests else self.plan.tasks
        return math.ceil((self.count - len(self.kept)) / max(gave, 1.0))

    def take(self, index: int, outcome: Outcome) -> int:
        """Read one reply; returns how many of its tasks were kept."""
        before = len(self.kept)
        self.requests += 1
        if outcome.reply is None:
            self._reject(index, f"failed: {outcome.reason}", str(outcome.error))
        else:
            self._take_reply(index, outcome.reply)
        self._recent.append(len(self.kept) - before)
        return len(self.kept) - before

    def _take_reply(self, index: int, reply: ChatReply) -> None:
        shown = self.plan.examples_of(index)
        if is_refusal(reply):
            self._reject(index, "refused", reply.text)
            return
        tasks, unread = parse_tasks(reply.text, reply.finish)
        for task in tasks:
            if self.full:
                self.left_over += 1
                continue
            self._take_task(index, task, shown)
        for reason, raw in unread:
            self._reject(index, reason, raw)

    def _take_task(self, index: int, task: Task, shown: list[Record]) -> None:
        record = Record(
            task.instruction,
            task.input,
            source=self.source,
            licence=self.licence,
            tags={
                **label_tags(task.type, task.topic, task.view, task.difficulty),
                "request": f"generate:{index}",
            },
            parents=tuple(seed.id for seed in shown),
        )
        words = tokenize(task.instruction)
        if any(words == tokenize(seed.instruction) for seed in shown):
            self.rejected.append(Rejected(record, "repeats an example", task.instruction))
            return
        if self._index is not None:
            found = self._index.add_if_new(task.instruction)
            if found is not None:
                near, score = found
                why = (
                    "too similar to a seed"
                    if near < len(self.plan.seeds)
                    else ("too similar to a kept task")
                )
                detail = f"ROUGE-L {score:.4f} with {self._names[near]}"
                self.rejected.append(Rejected(record, why, detail))
                return
            self._names.append(record.id)
        self.kept.append(record)

    def _reject(self, index: int, reason: str, detail: str) -> None:
        row = Record("", source=self.source, tags={"request": f"generate:{index}"})
        self.rejected.append(Rejected(row, reason, detail))

    def dried_up(self) -> bool:
        """Whether the last requests gave so little that asking on would be a waste."""
        asked = self.plan.tasks * len(self._recent)
        return len(self._recent) == YIELD_WINDOW and sum(self._recent) < LOW_YIELD * asked

    def results(self) -> dict[str, Any]:
        """What the manifest says of the tasks."""
        tags = {
            f"{name}s": dict(
                Counter(r.tags[name] for r in self.kept if name in r.tags).most_common()
            )
            for name in ("type", "view")
        }
        levels = Counter(r.tags.get("difficulty", "") for r in self.kept)
        tasks_a_request = round(len(self.kept) / self.requests, 3) if self.requests else 0.0
        return {
            "tasks_a_request": tasks_a_request,
            **({"tasks_left_over": self.left_over} if self.left_over else {}),
            **tags,
            "difficulties": dict(sorted(levels.items())),
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
                    f"the recording ends after {index} requests with {len(basket.kept):,} of "
                    f"{basket.count:,} tasks kept"
                )
                return
            progress.advance(basket.take(index, outcome), f"{len(basket.rejected)} rejected")
            if basket.full:
                return
            if basket.dried_up():
                basket.warnings.append(
                    f"stopped after {index + 1} requests with {len(basket.kept):,} of "
                    f"{basket.count:,} tasks: the last {YIELD_WINDOW} requests gave less than "
                    f"{LOW_YIELD:.0%} of the tasks asked for. rejected.parquet says why; more "
                    "seeds, a higher threshold or another teacher may help"
                )
                return
