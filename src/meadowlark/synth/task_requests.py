"""The requests of a generation: which seeds request ``i`` shows, what it asks for, and its text.

Request ``i`` depends on the seed number and ``i`` alone; with quotas or generated examples also on
the replies up to a fixed number before it, so that it is the same in every run.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count as numbers
from typing import Any

from meadowlark.errors import UserError, unknown
from meadowlark.llm import ChatRequest, Sampling
from meadowlark.records import Record
from meadowlark.synth.parse_json import SCHEMA
from meadowlark.synth.prompts import GENERATE_FILES, Layout, generation_turns
from meadowlark.synth.quotas import Balance, Shares

SAMPLING = Sampling(temperature=1.0, top_p=1.0, presence_penalty=1.5, max_tokens=4096)
"""AlpaCare's."""
GENERATED_POOL = 2000
"""Generated tasks are shown as examples from among the last so many that were kept."""


@dataclass(frozen=True, slots=True)
class RequestForm:
    """What every request of a generation has in common, with AlpaCare's values.

    ``examples`` seeds, drawn by ``seed``, are shown and ``tasks`` new tasks asked for. ``layout``
    is how the teacher writes them: ``text`` or ``json``. UserError for values that cannot be.
    """

    seed: int = 42
    examples: int = 3
    tasks: int = 12
    layout: Layout = "text"
    sampling: Sampling = SAMPLING

    def __post_init__(self) -> None:
        for name, value in (("tasks per request", self.tasks), ("examples", self.examples)):
            if value < 1:
                raise UserError(f"{name} is {value}; it must be at least 1")


def layout_of(name: str) -> Layout:
    """The layout with this name."""
    for layout in GENERATE_FILES:
        if layout == name:
            return layout
    raise unknown("layout", name, GENERATE_FILES)


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


class Plan:
    """Which request is the i-th: its examples, drawn by (seed, i), its labels, and its text."""

    def __init__(
        self, seeds: list[Record], form: RequestForm, steering: Steering | None = None
    ) -> None:
        self.seeds, self.form, self.steering = seeds, form, steering
        self.shown: dict[int, list[Record]] = {}
        """The examples of the requests that were made and whose replies were not read yet."""

    def _examples_of(self, index: int) -> list[Record]:
        """The tasks shown in request ``index``, in the order shown: seeds, then generated ones."""
        shown = random.Random(f"{self.form.seed}:{index}").sample(self.seeds, self.form.examples)
        if self.steering is not None:
            rng = random.Random(f"{self.form.seed}:{index}:generated")
            pool = self.steering.pool
            shown += rng.sample(pool, min(self.steering.use_generated, len(pool)))
        return shown

    def _labels_of(self, index: int) -> list[dict[str, str]]:
        """The labels wanted of the new tasks of request ``index``; none without quotas."""
        steering = self.steering
        if steering is None or not steering.balance.shares:
            return []
        rng = random.Random(f"{self.form.seed}:{index}:labels")
        return steering.balance.wanted(self.form.tasks, steering.lag * self.form.tasks, rng)

    def requests(self) -> Iterator[ChatRequest]:
        """Requests 0, 1, 2, … without end; a draw of the same request again is the next draw."""
        draws: Counter[tuple[Any, ...]] = Counter()
        form = self.form
        schema = SCHEMA if form.layout == "json" else None
        for index in numbers():
            if self.steering is not None:
                self.steering.advance(index)
            shown, wanted = self._examples_of(index), self._labels_of(index)
            self.shown[index] = shown
            same = (*(r.id for r in shown), *(tuple(labels.items()) for labels in wanted))
            turns = generation_turns(shown, form.tasks, wanted, form.layout)
            label = f"generate:{index}"
            yield ChatRequest(turns, form.sampling, draws[same], label, schema)
            draws[same] += 1
