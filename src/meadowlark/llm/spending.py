"""What calls take and cost: expectations before sending, sums after, and an estimate of a run.

A request's tokens are expected from its characters and from the replies so far, its longest reply
where there are none. With a budget, a request is sent only if what was spent, what is in flight and
what it is expected to cost itself stay within: a run can overshoot only by how far the replies in
flight pass their expectation.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from meadowlark.dataset import JOURNAL, Run
from meadowlark.errors import UserError
from meadowlark.llm.chat import ChatModel, ChatReply, ChatRequest
from meadowlark.llm.journal import Totals, read_only, totals
from meadowlark.llm.prices import FREE, Price
from meadowlark.llm.rates import Limits

CHARACTERS_A_TOKEN = 4.0
"""Of English text, until replies have said how it is with this one."""
LONGEST_REPLY = 4096
"""Tokens, where a request leaves its longest reply open."""
TOKENS_A_SECOND = 50.0
"""What a model writes a second in one reply, until one was timed."""


def refuse_what_is_spent(run: Run, budget_usd: float | None) -> None:
    """Raise UserError where a run goes on with a lower budget (or a first one) that its calls have
    used up already: nothing could be sent, and the folder would be finished with what there is.

    With the budget that it had, a run ends as it would have: its last replies may have passed it.
    """
    journal = run.folder / JOURNAL
    if budget_usd is None or "budget" not in run.lowered or not journal.exists():
        return
    with closing(read_only(journal)) as connection:
        spent_usd = totals(connection).cost_usd
    if spent_usd >= budget_usd:
        raise UserError(
            f"--budget {budget_usd:g}usd is used up: the calls of {run.folder} have cost "
            f"{spent_usd:.4f} USD. Nothing was sent or changed; to go on, give more than that, or "
            "no --budget"
        )


class Expected(NamedTuple):
    """What a request is expected to take and cost."""

    tokens_in: float
    tokens_out: float
    cost_usd: float

    @property
    def tokens(self) -> float:
        """Both together, as limits count them."""
        return self.tokens_in + self.tokens_out


class Meter:
    """The money and tokens of one journal; ``spent_usd`` includes what earlier runs paid."""

    def __init__(
        self, price: Price | None, budget_usd: float | None = None, before: Totals | None = None
    ) -> None:
        self.price = price
        self.budget_usd = budget_usd
        before = before or Totals()
        self.spent_usd = before.cost_usd
        self.new_usd = 0.0
        self.uncounted = 0
        """Replies without a token count, whose cost is estimated from their characters."""
        self._in_flight_usd = 0.0
        self._replies = before.counted
        self._tokens_out = before.tokens_out
        self._characters = 0
        self._tokens_in = 0

    def expect(self, request: ChatRequest) -> Expected:
        """What a request will take, by what the earlier ones took."""
        rate = CHARACTERS_A_TOKEN
        if self._tokens_in:
            rate = self._characters / self._tokens_in
        tokens_in = request.size / rate
        tokens_out = float(request.sampling.max_tokens or LONGEST_REPLY)
        if self._replies:
            tokens_out = min(tokens_out, self._tokens_out / self._replies)
        return Expected(tokens_in, tokens_out, (self.price or FREE).cost_usd(tokens_in, tokens_out))

    def affords(self, expected: Expected) -> bool:
        """Whether a request can be sent within the budget, with all that is in flight."""
        if self.budget_usd is None:
            return True
        return self.spent_usd + self._in_flight_usd + expected.cost_usd <= self.budget_usd

    def sent(self, expected: Expected) -> None:
        """Count a request as in flight."""
        self._in_flight_usd += expected.cost_usd

    def ended(self, expected: Expected) -> None:
        """Count a request as no longer in flight, whether it was answered or not."""
        self._in_flight_usd = max(0.0, self._in_flight_usd - expected.cost_usd)

    def cost_of(self, request: ChatRequest, reply: ChatReply) -> float:
        """The cost of a reply, which is added to what was spent."""
        tokens_in, tokens_out = float(reply.tokens_in), float(reply.tokens_out)
        if reply.tokens_in and (reply.tokens_out or not reply.text):
            self._characters += request.size
            self._tokens_in += reply.tokens_in
            self._replies += 1
            self._tokens_out += reply.tokens_out
        else:
            tokens_in = tokens_in or request.size / CHARACTERS_A_TOKEN
            tokens_out = tokens_out or len(reply.text) / CHARACTERS_A_TOKEN
            self.uncounted += 1
        cost_usd = (self.price or FREE).cost_usd(tokens_in, tokens_out)
        self.spent_usd += cost_usd
        self.new_usd += cost_usd
        return cost_usd


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run would send: ``most`` by the longest replies, ``likely`` by those so far.

    ``answered`` requests are in the journal and not sent again. ``seconds`` is the likely time.
    """

    model: str
    endpoint: str
    price: Price | None
    requests: int
    answered: int
    tokens_in: int
    most_tokens_out: int
    likely_tokens_out: int | None
    seconds: float
    spent_usd: float

    @property
    def most_usd(self) -> float:
        """The cost if every reply is as long as allowed."""
        return (self.price or FREE).cost_usd(self.tokens_in, self.most_tokens_out)

    @property
    def likely_usd(self) -> float | None:
        """The cost if replies are as long as those in the journal; None where there are none."""
        if self.likely_tokens_out is None:
            return None
        return (self.price or FREE).cost_usd(self.tokens_in, self.likely_tokens_out)


def estimate(
    model: ChatModel, requests: Iterable[ChatRequest], journal: Path, limits: Limits
) -> Estimate:
    """What asking ``model`` these requests would take, beside what the journal (if any) holds.

    ``limits`` are the user's own. Nothing is sent and nothing written.
    """
    done: set[str] = set()
    before = Totals()
    if journal.exists():
        with closing(read_only(journal)) as connection:
            done = {key for (key,) in connection.execute(_DONE)}
            before = totals(connection)
    meter = Meter(model.price, before=before)
    count = answered = tokens_in = most = 0
    asked: set[str] = set()
    for request in requests:
        key = request.key(model.endpoint, model.name)
        if key in asked:  # the same request twice is sent once
            continue
        asked.add(key)
        if key in done:
            answered += 1
            continue
        count += 1
        tokens_in += round(meter.expect(request).tokens_in)
        most += request.sampling.max_tokens or LONGEST_REPLY
    likely = round(count * before.tokens_out / before.counted) if before.counted else None
    tokens_out = most if likely is None else min(likely, most)
    if before.replies:
        one_s = before.seconds / before.replies
    else:
        one_s = 1.0 + tokens_out / max(count, 1) / TOKENS_A_SECOND
    in_force = limits.within(model.limits)
    minutes = max(
        count / (in_force.requests_per_minute or float("inf")),
        (tokens_in + tokens_out) / (in_force.tokens_per_minute or float("inf")),
    )
    in_flight = max(1, min(count, in_force.concurrency or count))
    return Estimate(
        model=model.name,
        endpoint=model.endpoint,
        price=model.price,
        requests=count,
        answered=answered,
        tokens_in=tokens_in,
        most_tokens_out=most,
        likely_tokens_out=None if likely is None else tokens_out,
        seconds=max(60 * minutes, count * one_s / in_flight),
        spent_usd=before.cost_usd,
    )


_DONE = "SELECT key FROM calls WHERE state = 'done'"
