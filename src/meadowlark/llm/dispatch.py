"""Asking a model many requests: bounded concurrency, bounded retry, every reply into the journal.

Requests come from an iterable; pairs of request and outcome come back in the same order, within a
bounded look-ahead, so that what is made of them does not depend on timing. A slow request delays no
other one. :func:`ask` is for coroutines, :class:`Asking` for stages, which are plain functions.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from meadowlark.errors import ModelError
from meadowlark.llm.chat import ChatModel, ChatReply, ChatRequest
from meadowlark.llm.errors import CallFailed, NotRecorded, TooManyFailures
from meadowlark.llm.journal import Entry, Journal

Result = TypeVar("Result")
FAILED = "failed.jsonl"


@dataclass(frozen=True, slots=True)
class Policy:
    """How hard to ask, and when to give up.

    ``look_ahead`` requests at most are begun before the oldest is consumed. A request is tried
    ``attempts`` times within ``deadline_s``; the waits between double from ``backoff_s`` and are
    drawn at random up to that, or are what the server asked for. When more than
    ``stop_rate`` of the last ``stop_window`` outcomes failed (half a window at least), asking
    stops. Requests in flight at the end are waited for at most ``grace_s``.
    """

    concurrency: int = 5
    look_ahead: int = 64
    attempts: int = 5
    backoff_s: float = 1.0
    backoff_max_s: float = 60.0
    deadline_s: float = 900.0
    stop_rate: float = 0.5
    stop_window: int = 20
    grace_s: float = 60.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one request ended: with a reply, or with the error that says why not."""

    reply: ChatReply | None
    error: ModelError | None = None
    from_journal: bool = False
    attempts: int = 0

    @property
    def reason(self) -> str:
        """A short phrase for a failure, empty for a reply."""
        if self.error is None:
            return ""
        return self.error.kind if isinstance(self.error, CallFailed) else "not recorded"


@dataclass
class Counts:
    """What was consumed: ``requests`` in all, some from the journal, some failed, some tried again.

    A request that a recording does not hold is ``not_recorded`` and no request. Tokens are those of
    the replies consumed, from the journal or not.
    """

    requests: int = 0
    from_journal: int = 0
    failed: int = 0
    retries: int = 0
    not_recorded: int = 0
    tokens_in: int = 0
    tokens_out: int = 0

    def __str__(self) -> str:
        parts = [f"{self.requests:,} requests"]
        for value, words in (
            (self.from_journal, "from the journal"),
            (self.failed, "failed"),
            (self.retries, "tries again"),
        ):
            if value:
                parts.append(f"{value:,} {words}")
        return ", ".join(parts)

    def tokens(self) -> dict[str, int]:
        """Tokens ``in`` and ``out``; empty where the server counted none."""
        counted = {"in": self.tokens_in, "out": self.tokens_out}
        return counted if any(counted.values()) else {}


class _Dispatch:
    """The state of one run of requests; lives in one event loop."""

    def __init__(
        self,
        model: ChatModel,
        requests: Iterable[ChatRequest],
        journal: Journal | None,
        policy: Policy,
        useful: Callable[[], int] | None = None,
    ) -> None:
        self.model, self.journal, self.policy = model, journal, policy
        self._useful = useful or (lambda: policy.look_ahead)
        self.counts = Counts()
        self._requests: Iterator[ChatRequest] = iter(requests)
        self._begun: deque[tuple[ChatRequest, asyncio.Task[Outcome] | Outcome]] = deque()
        self._running: dict[str, asyncio.Task[Outcome]] = {}
        self._sending: set[asyncio.Task[Any]] = set()
        self._slots = asyncio.Semaphore(policy.concurrency)
        self._recent: deque[bool] = deque(maxlen=policy.stop_window)
        self._closing = False
        self._answered = False

    async def next(self) -> tuple[ChatRequest, Outcome] | None:
        """The next request in order with its outcome; None at the end."""
        while len(self._begun) < max(1, min(self.policy.look_ahead, self._useful())):
            request = next(self._requests, None)
            if request is None:
                break
            self._begun.append((request, self._begin(request)))
        if not self._begun:
            return None
        request, work = self._begun[0]
        if isinstance(work, asyncio.Task):
            await asyncio.wait([work])
            outcome = work.result()
        else:
            outcome = work
        self._begun.popleft()
        self._count(outcome)
        return request, outcome

    def _begin(self, request: ChatRequest) -> asyncio.Task[Outcome] | Outcome:
        key = request.key(self.model.endpoint, self.model.name)
        if key in self._running:  # the same request twice is one call
            return self._running[key]
        if self.journal is not None:
            found = self.journal.find(key)
            if found is not None and found.state == "done":
                return Outcome(found.reply, None, True, found.attempts)
            self._note(key, request, Entry("planned"))
        task = asyncio.create_task(self._call(key, request))
        self._running[key] = task
        task.add_done_callback(lambda _: self._running.pop(key, None))
        return task

    async def _call(self, key: str, request: ChatRequest) -> Outcome:
        started = time.monotonic()
        for attempt in count(1):
            async with self._slots:
                self._note(key, request, Entry("in_flight", attempts=attempt))
                try:
                    reply = await self._send(request, started)
                except NotRecorded as error:
                    return Outcome(None, error)
                except CallFailed as error:
                    failure = error
                else:
                    self._answered = True
                    spent = time.monotonic() - started
                    self._note(key, request, Entry("done", reply, attempts=attempt, seconds=spent))
                    return Outcome(reply, None, False, attempt)
            wait_s = self._wait_s(failure, attempt, started)
            if wait_s is None:
                break
            self._note(key, request, Entry("planned", reason=failure.kind, attempts=attempt))
            await asyncio.sleep(wait_s)
        if failure.kind == "connection failed" and not self._answered:
            failure.endpoint_wide = True  # nobody is there: the other requests need not try
        # What would fail for every request says nothing about this one: it may be asked again.
        state = Entry(
            "planned" if failure.endpoint_wide else "failed",
            reason=failure.kind,
            detail=str(failure),
            attempts=attempt,
            seconds=time.monotonic() - started,
        )
        self._note(key, request, state)
        return Outcome(None, failure, False, attempt)

    async def _send(self, request: ChatRequest, started: float) -> ChatReply:
        task = asyncio.current_task()
        assert task is not None
        left_s = self.policy.deadline_s - (time.monotonic() - started)
        self._sending.add(task)
        try:
            async with asyncio.timeout(left_s):
                return await self.model.reply(request)
        except TimeoutError:
            raise CallFailed(
                "timeout", f"no reply within {self.policy.deadline_s:.0f} s", retryable=True
            ) from None
        finally:
            self._sending.discard(task)

    def _wait_s(self, failure: CallFailed, attempt: int, started: float) -> float | None:
        """Seconds until the next try, or None when there is none."""
        policy = self.policy
        if self._closing or not failure.retryable or attempt >= policy.attempts:
            return None
        most = min(policy.backoff_max_s, policy.backoff_s * 2.0 ** (attempt - 1))
        wait_s = random.uniform(most / 2, most)
        if failure.retry_after_s is not None:
            wait_s = max(wait_s / 4, failure.retry_after_s)
        left_s = policy.deadline_s - (time.monotonic() - started)
        return wait_s if wait_s < left_s else None

    def _note(self, key: str, request: ChatRequest, now: Entry) -> None:
        if self.journal is not None:
            self.journal.note(key, request, self.model.endpoint, self.model.name, now)

    def _count(self, outcome: Outcome) -> None:
        """Counts a consumed outcome; raises where going on is pointless."""
        counts, error = self.counts, outcome.error
        if isinstance(error, NotRecorded):
            counts.not_recorded += 1
            return
        counts.requests += 1
        counts.from_journal += outcome.from_journal
        counts.retries += 0 if outcome.from_journal else max(0, outcome.attempts - 1)
        if outcome.reply is not None:
            counts.tokens_in += outcome.reply.tokens_in
            counts.tokens_out += outcome.reply.tokens_out
        counts.failed += error is not None
        if isinstance(error, CallFailed) and error.endpoint_wide:
            raise error
        self._recent.append(error is not None)
        enough = len(self._recent) >= max(1, self.policy.stop_window // 2)
        failed = sum(self._recent)
        if enough and failed > self.policy.stop_rate * len(self._recent):
            raise TooManyFailures(
                f"{failed} of the last {len(self._recent)} requests failed, so asking stopped. "
                f"The last one: {error}. What was received is in the journal; "
                "the same command goes on from there"
            )

    async def close(self) -> None:
        """Begin nothing more, wait for what is in flight (it is paid for), then let go."""
        self._closing = True
        tasks = [work for _, work in self._begun if isinstance(work, asyncio.Task)]
        waiting = [task for task in tasks if task not in self._sending]
        for task in waiting:
            task.cancel()
        sending = [task for task in tasks if not task.done() and task in self._sending]
        try:
            if sending:
                await asyncio.wait(sending, timeout=self.policy.grace_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._begun.clear()
        finally:  # also when this is cancelled by a second Ctrl-C
            await self.model.close()

    @property
    def in_flight(self) -> int:
        return len(self._sending)


async def ask(
    model: ChatModel,
    requests: Iterable[ChatRequest],
    *,
    journal: Journal | None = None,
    policy: Policy | None = None,
) -> AsyncIterator[tuple[ChatRequest, Outcome]]:
    """``async for request, outcome in ask(...)``: every request once, in order.

    Raises :class:`TooManyFailures`, or the :class:`CallFailed` of an endpoint that will answer
    nothing. Closes the model at the end; use ``contextlib.aclosing`` to leave early.
    """
    dispatch = _Dispatch(model, requests, journal, policy or Policy())
    try:
        while (pair := await dispatch.next()) is not None:
            yield pair
    finally:
        await dispatch.close()


class Asking:
    """:func:`ask` for plain functions: a context to iterate over, with the calls in a thread.

    ``with Asking(model, requests, journal=journal) as asking: for request, outcome in asking: …``
    Leaving early, also by Ctrl-C, waits for the replies in flight and keeps them in the journal; a
    second Ctrl-C drops them. ``useful`` tells how many more requests are worth beginning now, for
    a consumer that will stop when it has enough.
    """

    def __init__(
        self,
        model: ChatModel,
        requests: Iterable[ChatRequest],
        *,
        journal: Journal | None = None,
        policy: Policy | None = None,
        useful: Callable[[], int] | None = None,
    ) -> None:
        self._dispatch = _Dispatch(model, requests, journal, policy or Policy(), useful)
        self._failed: list[tuple[ChatRequest, Outcome]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asking", daemon=True)

    @property
    def counts(self) -> Counts:
        """What was consumed so far."""
        return self._dispatch.counts

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __iter__(self) -> Iterator[tuple[ChatRequest, Outcome]]:
        while (pair := self._submit(self._dispatch.next()).result()) is not None:
            if isinstance(pair[1].error, CallFailed):
                self._failed.append(pair)
            yield pair

    def write_failed(self, folder: Path) -> bool:
        """Write ``failed.jsonl``: each request that failed, with why; False if none did."""
        path = folder / FAILED
        if not self._failed:
            path.unlink(missing_ok=True)
            return False
        with path.open("w", encoding="utf-8") as file:
            for request, outcome in self._failed:
                line = {
                    "label": request.label,
                    "reason": outcome.reason,
                    "detail": str(outcome.error),
                    "request": request.content(),
                }
                file.write(json.dumps(line, ensure_ascii=False) + "\n")
        return True

    def _submit(self, work: Coroutine[Any, Any, Result]) -> Future[Result]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt) and self._dispatch.in_flight:
            print(
                f"\nmeadowlark: waiting for {self._dispatch.in_flight} replies in flight; "
                "Ctrl-C again drops them",
                file=sys.stderr,
            )
        try:
            self._submit(self._dispatch.close()).result()
        finally:
            self._submit(_cancel_others()).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


async def _cancel_others() -> None:
    """Cancel whatever is left in this loop and let it end."""
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
