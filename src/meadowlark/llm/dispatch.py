"""Asking a model many requests: adaptive concurrency, bounded retry, every reply in the journal.

Requests come from an iterable; pairs of request and outcome come back in the same order, within a
bounded look-ahead, so that what is made of them does not depend on timing. A slow request delays no
other one. This is the only place that tries a request again; ``llm.asking`` is how stages use it.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import count

from meadowlark.errors import ModelError
from meadowlark.llm.chat import ChatModel, ChatReply, ChatRequest, key_of
from meadowlark.llm.errors import BudgetReached, CallFailed, NotRecorded, TooManyFailures
from meadowlark.llm.journal import Entry, Journal
from meadowlark.llm.rates import Limits, Rates
from meadowlark.llm.spending import Expected, Meter


@dataclass(frozen=True, slots=True)
class Policy:
    """How hard to ask, what it may cost, and when to give up.

    At most ``concurrency`` requests are in flight, and fewer while the server says "too many".
    ``look_ahead`` requests at most (by default 8 times as many as may be in flight) are begun
    before the oldest is consumed. A request is tried ``attempts`` times within ``deadline_s``; the
    waits between double from ``backoff_s`` and are drawn at random up to that, or are what the
    server asked for. Being told "too many" (429, 529, 503 with a time) counts as no attempt.

    When more than ``stop_rate`` of the last requests sent failed (the last ``stop_window``, or
    twice as many as may be in flight; half a window at least), asking stops. Nothing is sent that
    would, by what is expected of it, bring the journal's cost above ``budget_usd``. Requests in
    flight at the end are waited for at most ``grace_s``.
    """

    concurrency: int = 16
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    budget_usd: float | None = None
    look_ahead: int | None = None
    attempts: int = 5
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    deadline_s: float = 1800.0
    stop_rate: float = 0.5
    stop_window: int = 20
    grace_s: float = 60.0

    @property
    def limits(self) -> Limits:
        """The limits that the user set."""
        return Limits(self.requests_per_minute, self.tokens_per_minute, self.concurrency)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended: with a reply, or with the error that says why not.

    ``repeated`` says that the same request was asked before in this run: it is the same outcome
    once more, for which nothing was sent or paid.
    """

    reply: ChatReply | None
    error: ModelError | None = None
    from_journal: bool = False
    attempts: int = 0
    repeated: bool = False

    @property
    def reason(self) -> str:
        """A short phrase for a failure, empty for a reply."""
        if isinstance(self.error, CallFailed):
            return self.error.kind
        return _REASONS.get(type(self.error), "")


_REASONS: dict[type, str] = {NotRecorded: "not recorded", BudgetReached: "budget reached"}


class _Call:
    """One request on its way. ``tries`` counts all, ``faults`` those that a retry is bounded by."""

    __slots__ = (
        "expected",
        "failed",
        "faults",
        "key",
        "outcome",
        "request",
        "sent_at",
        "started",
        "tries",
    )

    def __init__(self, request: ChatRequest, key: str) -> None:
        self.request = request
        self.key = key
        self.outcome: Outcome | None = None
        self.expected = Expected(0.0, 0.0, 0.0)
        self.started: float | None = None
        self.sent_at = 0.0
        self.tries = 0
        self.faults = 0
        self.failed = False


class Dispatch:
    """The state of one run of requests, which lives in one event loop.

    :meth:`ready` gives what has ended, in order, until nothing is left; :meth:`close` ends it.
    Requests are drawn only while the consumer waits (in :meth:`ready`), so that both may share
    state. A call goes from ``_fresh`` (or ``_again``, a heap by the time of the next try) to a
    task in ``_tasks`` and gets an outcome; ``_begun`` holds all calls in the order of the requests
    until they are handed over.
    """

    def __init__(
        self,
        model: ChatModel,
        requests: Iterable[ChatRequest],
        journal: Journal | None,
        policy: Policy,
        useful: Callable[[], int] | None = None,
    ) -> None:
        self.model, self.journal, self.policy = model, journal, policy
        limits = policy.limits.within(model.limits)
        backoff_s = (policy.backoff_s, policy.backoff_max_s)
        self.rates = Rates(policy.concurrency, limits, time.monotonic(), *backoff_s)
        self.meter = Meter(model.price, policy.budget_usd, journal.before if journal else None)
        self._look_ahead = policy.look_ahead or max(64, 8 * policy.concurrency)
        self._useful = useful or (lambda: self._look_ahead)
        self._requests: Iterator[ChatRequest] = iter(requests)
        self._begun: deque[tuple[ChatRequest, _Call, bool]] = deque()
        self._known: set[int] = set()  # 64 bits of the key of every request of this run
        self._running: dict[str, _Call] = {}
        self._fresh: deque[_Call] = deque()
        self._again: list[tuple[float, int, _Call]] = []
        self._numbers = count()
        self._tasks: set[asyncio.Task[None]] = set()
        self._recent: deque[_Call] = deque(maxlen=max(policy.stop_window, 2 * policy.concurrency))
        self._timer: asyncio.TimerHandle | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._fault: Exception | None = None
        self._broke: BudgetReached | None = None
        self._closing = False
        self._answered = False

    # ----- what the consumer calls

    async def ready(self) -> list[tuple[ChatRequest, Outcome]]:
        """The next requests in order that have ended, one at least; empty at the end."""
        while True:
            if self._fault is not None:
                raise self._fault
            self._top_up()
            self._pump()
            if not self._begun:
                return []
            # Not all at once: while the consumer is busy with them, nothing new is begun.
            batch: list[tuple[ChatRequest, Outcome]] = []
            while self._begun and len(batch) <= self._look_ahead // 4:
                request, call, repeated = self._begun[0]
                outcome = call.outcome
                if outcome is None:
                    break
                batch.append((request, replace(outcome, repeated=True) if repeated else outcome))
                self._begun.popleft()
            if batch:
                return batch
            if self._fault is None:
                self._waiter = asyncio.get_running_loop().create_future()
                await self._waiter

    async def close(self) -> None:
        """Begin nothing more, wait for what is in flight (it is paid for), then let go."""
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        tasks = set(self._tasks)
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=self.policy.grace_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._begun.clear()
        finally:  # also when this is cancelled by a second Ctrl-C
            await self.model.close()

    @property
    def in_flight(self) -> int:
        """How many requests are sent and not answered."""
        return len(self._tasks)

    # ----- beginning and sending

    def _top_up(self) -> None:
        """Begin requests, as many as the look-ahead allows and the consumer finds useful."""
        while len(self._begun) < max(1, min(self._look_ahead, self._useful())):
            request = next(self._requests, None)
            if request is None:
                return
            self._begun.append((request, *self._begin(request)))

    def _begin(self, request: ChatRequest) -> tuple[_Call, bool]:
        """The call for a request, and whether it repeats one of this run."""
        text = request.text()
        key = key_of(text, self.model.endpoint, self.model.name)
        if key in self._running:  # the same request twice is one call
            return self._running[key], True
        repeated = False
        known = int(key[:16], 16)
        call = _Call(request, key)
        found = self.journal.find(key) if self.journal is not None else None
        if found is not None and found.state == "done":
            call.outcome = Outcome(found.reply, None, True, found.attempts)
            repeated = known in self._known
        elif self._broke is not None:
            call.outcome = Outcome(None, self._broke)
        else:
            if self.journal is not None:
                self.journal.plan(request, self.model.endpoint, self.model.name, text, key)
            self._running[key] = call
            self._fresh.append(call)
        self._known.add(known)
        return call, repeated

    def _pump(self) -> None:
        """Send what may be sent now; see to it that this is called when more may be."""
        now = time.monotonic()
        while not self._closing and self._fault is None:
            due = bool(self._again) and self._again[0][0] <= now
            if not due and not self._fresh:
                break
            if len(self._tasks) >= int(self.rates.allowed):
                return  # the next answer calls this
            wait_s = self.rates.wait_s(now)
            if wait_s > 0:
                self._pump_in(wait_s)
                return
            call = self._again[0][2] if due else self._fresh[0]
            call.expected = self.meter.expect(call.request)
            if not self.meter.affords(call.expected):
                if not self._tasks:  # those in flight might have turned out cheaper
                    self._spend_no_more(call.expected)
                return
            if due:
                heapq.heappop(self._again)
            else:
                self._fresh.popleft()
            self._send(call, now)
        if self._again and not self._closing:
            self._pump_in(self._again[0][0] - now)

    def _pump_in(self, wait_s: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + wait_s:
                return
            self._timer.cancel()
        self._timer = loop.call_later(wait_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self._pump()
        except Exception as error:
            self._stop(error)

    def _send(self, call: _Call, now: float) -> None:
        if call.started is None:
            call.started = now
            self._recent.append(call)
        call.sent_at = now
        call.tries += 1
        self.rates.reserve(call.expected.tokens)
        self.meter.sent(call.expected)
        self._note(call, Entry("in_flight", attempts=call.tries))
        task = asyncio.get_running_loop().create_task(self._attempt(call))
        self._tasks.add(task)

    async def _attempt(self, call: _Call) -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            result = await self._reply_to(call)
        except Exception as error:  # a fault of our own, which is not hidden
            self._stop(error)
            return
        finally:
            in_flight = len(self._tasks)
            self._tasks.discard(task)
            self.meter.ended(call.expected)
        try:
            if isinstance(result, ChatReply):
                self._succeed(call, result, in_flight)
            else:
                self._fail(call, result, in_flight)
            self._pump()
        except Exception as error:
            self._stop(error)

    async def _reply_to(self, call: _Call) -> ChatReply | CallFailed | NotRecorded:
        assert call.started is not None
        left_s = self.policy.deadline_s - (time.monotonic() - call.started)
        try:
            async with asyncio.timeout(left_s):
                return await self.model.reply(call.request)
        except TimeoutError:
            words = f"no reply within {self.policy.deadline_s:.0f} s"
            return CallFailed("timeout", words, retryable=True)
        except (CallFailed, NotRecorded) as error:
            return error

    # ----- how a call ends

    def _succeed(self, call: _Call, reply: ChatReply, in_flight: int) -> None:
        now = time.monotonic()
        self._answered = True
        if reply.tokens_in:
            self.rates.settle(call.expected.tokens, reply.tokens_in + reply.tokens_out)
        self.rates.answered(call.sent_at, now, in_flight)
        if reply.quota is not None:
            self.rates.heard(reply.quota, now)
        cost_usd = self.meter.cost_of(call.request, reply)
        if cost_usd:
            reply = replace(reply, cost_usd=cost_usd)
        seconds = now - (call.started or now)
        self._note(call, Entry("done", reply, attempts=call.tries, seconds=seconds))
        self._end(call, Outcome(reply, None, False, call.tries))

    def _fail(self, call: _Call, failure: CallFailed | NotRecorded, in_flight: int) -> None:
        if isinstance(failure, NotRecorded):  # nothing was asked of anybody
            self._note(call, Entry("planned"))
            self._end(call, Outcome(None, failure))
            return
        now = time.monotonic()
        self.rates.settle(call.expected.tokens, 0)
        if failure.quota is not None:
            self.rates.heard(failure.quota, now)
        due = self._next_try(call, failure, now, in_flight)
        if due is not None:
            heapq.heappush(self._again, (due, next(self._numbers), call))
            self._note(call, Entry("planned", reason=failure.kind, attempts=call.tries))
            return
        if failure.kind == "connection failed" and not self._answered:
            failure.endpoint_wide = True  # nobody is there: the other requests need not try
        # What would fail for every request says nothing about this one: it may be asked again.
        unclear = failure.endpoint_wide or (self._closing and failure.retryable)
        entry = Entry(
            "planned" if unclear else "failed",
            reason=failure.kind,
            detail=str(failure),
            attempts=call.tries,
            seconds=now - (call.started or now),
        )
        self._note(call, entry)
        self._end(call, Outcome(None, failure, False, call.tries))
        if failure.endpoint_wide:
            self._stop(failure)
        elif not failure.request_only:
            call.failed = True
            self._stop_if_most_fail(failure)

    def _next_try(
        self, call: _Call, failure: CallFailed, now: float, in_flight: int
    ) -> float | None:
        """The time of the next try, or None when there is none."""
        policy, asked_s = self.policy, failure.retry_after_s
        call.faults += not failure.overloaded
        if self._closing or not failure.retryable or call.faults >= policy.attempts:
            return None
        last = (call.started or now) + policy.deadline_s
        if asked_s is not None and now + asked_s >= last:
            return None
        if failure.overloaded:
            self.rates.overloaded(call.sent_at, now, in_flight, asked_s)
            due = self.rates.held_until
        else:
            if failure.kind == "timeout":  # it may have waited behind the others
                self.rates.cut(call.sent_at, now, in_flight)
            most = min(policy.backoff_max_s, policy.backoff_s * 2.0 ** (call.faults - 1))
            due = now + max(random.uniform(most / 2, most), asked_s or 0.0)
        return due if due < last else None

    def _stop_if_most_fail(self, failure: CallFailed) -> None:
        """Stop when too many of the last requests sent failed; those in flight count as good."""
        sent = len(self._recent)
        if sent < max(1, self.policy.stop_window // 2):
            return
        failed = sum(call.failed for call in self._recent)
        if failed > self.policy.stop_rate * sent:
            self._stop(
                TooManyFailures(
                    f"{failed} of the last {sent} requests failed, so asking stopped. The last "
                    f"one: {failure}. What was received is in the journal; the same command goes "
                    "on from there"
                )
            )

    def _spend_no_more(self, expected: Expected) -> None:
        """The budget does not allow the next request: nor, by the order of them, any later one."""
        self._broke = BudgetReached(
            f"not sent: {self.meter.spent_usd:.4f} USD of {self.policy.budget_usd:g} are spent, "
            f"and a request is expected to cost {expected.cost_usd:.4f}"
        )
        waiting = [*self._fresh, *(call for _, _, call in self._again)]
        self._fresh.clear()
        self._again.clear()
        for call in waiting:
            self._end(call, Outcome(None, self._broke))

    def _end(self, call: _Call, outcome: Outcome) -> None:
        call.outcome = outcome
        self._running.pop(call.key, None)
        if self._begun and self._begun[0][1].outcome is not None:
            self._wake()

    def _stop(self, error: Exception) -> None:
        """Send nothing more; the consumer gets the first such error."""
        if self._fault is None:
            self._fault = error
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None:
            if not self._waiter.done():
                self._waiter.set_result(None)
            self._waiter = None

    def _note(self, call: _Call, now: Entry) -> None:
        if self.journal is not None:
            self.journal.note(call.key, now)
