"""What is kept of a teacher's replies: each task read, held against seeds and kept tasks, counted.

Replies come in request by request, in order; a task goes to the kept rows or, with its reason, to
the rejected ones. The basket also tells how many more requests it needs, and when asking on would
be a waste.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from meadowlark.labels import label_tags
from meadowlark.llm import ChatReply, Outcome
from meadowlark.match import RougeIndex, tokenize
from meadowlark.records import Record, Rejected
from meadowlark.spool import Spool
from meadowlark.synth.parse import parse_tasks
from meadowlark.synth.quotas import Balance
from meadowlark.synth.replies import is_refusal
from meadowlark.synth.task import Task
from meadowlark.synth.task_requests import Plan

LOW_YIELD = 0.05
"""Asking stops when the last requests gave less than this share of the tasks asked for."""
YIELD_WINDOW = 20


@dataclass
class Basket:
    """The tasks gathered so far, and why others were not kept."""

    plan: Plan
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
        gave = self.spool.kept / self.requests if self.requests else self.plan.form.tasks
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
        asked = self.plan.form.tasks * len(self._recent)
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
        asked = self.requests * self.plan.form.tasks
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
