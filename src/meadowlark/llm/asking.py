"""Asking many requests from a plain function: the calls run in a thread, the outcomes are iterated.

What stages use of ``llm.dispatch``: a context that keeps what is paid for whichever way it is left,
counts what was consumed, says what it cost, and lists the requests that failed.
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from meadowlark.dataset import Manifest
from meadowlark.llm.chat import ChatModel, ChatRequest
from meadowlark.llm.dispatch import Dispatch, Outcome, Policy
from meadowlark.llm.errors import BudgetReached, CallFailed, NotRecorded
from meadowlark.llm.journal import Journal
from meadowlark.progress import plural, usd

Result = TypeVar("Result")
FAILED = "failed.jsonl"


@dataclass
class Counts:
    """What was consumed: ``requests`` in all, some from the journal, some failed, some tried again.

    A request that a recording does not hold (``not_recorded``) or that the budget does not allow
    (``unsent``) is no request, nor is one that was asked before in this run (``repeated``). Tokens
    and cost are those of the replies consumed, each once, from the journal or not.
    """

    requests: int = 0
    repeated: int = 0
    from_journal: int = 0
    failed: int = 0
    retries: int = 0
    not_recorded: int = 0
    unsent: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float = 0.0

    def __str__(self) -> str:
        parts = [plural(self.requests, "request")]
        for value, words in (
            (self.from_journal, "from the journal"),
            (self.failed, "failed"),
            (self.retries, "tries again"),
            (self.repeated, "the same again, which cost nothing"),
        ):
            if value:
                parts.append(f"{value:,} {words}")
        return ", ".join(parts)

    def tokens(self) -> dict[str, int]:
        """Tokens ``in`` and ``out``; empty where the server counted none."""
        counted = {"in": self.tokens_in, "out": self.tokens_out}
        return counted if any(counted.values()) else {}

    def add(self, outcome: Outcome) -> None:
        """Count one consumed outcome."""
        if isinstance(outcome.error, NotRecorded | BudgetReached):
            self.not_recorded += isinstance(outcome.error, NotRecorded)
            self.unsent += isinstance(outcome.error, BudgetReached)
            return
        if outcome.repeated:
            self.repeated += 1
            return
        self.requests += 1
        self.from_journal += outcome.from_journal
        self.retries += 0 if outcome.from_journal else max(0, outcome.attempts - 1)
        self.failed += outcome.error is not None
        if outcome.reply is not None:
            self.tokens_in += outcome.reply.tokens_in
            self.tokens_out += outcome.reply.tokens_out
            self.cost_usd += outcome.reply.cost_usd


class Asking:
    """A context to iterate over: every request once, in order, with its outcome.

    ``with Asking(model, requests, journal=journal) as asking: for request, outcome in asking: …``
    Raises :class:`TooManyFailures`, or the :class:`CallFailed` of an endpoint that will answer
    nothing. The model is closed at the end.

    Leaving early, also by Ctrl-C or SIGTERM, waits for the replies in flight and keeps them in the
    journal; a second Ctrl-C drops them. ``useful`` tells how many more requests are worth beginning
    now, for a consumer that will stop when it has enough. Requests are drawn (in the thread of the
    calls) only while the consumer waits for the next outcome, so the two may share state.
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
        self._dispatch = Dispatch(model, requests, journal, policy or Policy(), useful)
        self.counts = Counts()
        """What was consumed so far."""
        self._failed: list[tuple[ChatRequest, Outcome]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asking", daemon=True)
        self._old_handler: Any = None

    @property
    def spent_usd(self) -> float:
        """What all replies of the journal cost, those of earlier runs included."""
        return self._dispatch.meter.spent_usd

    @property
    def warnings(self) -> list[str]:
        """What a manifest should say of the money."""
        meter, model = self._dispatch.meter, self._dispatch.model
        said = []
        if meter.price is None and self.counts.requests:
            said.append(f"what the calls cost is unknown: nobody gave a price for {model.name}")
        elif meter.uncounted and meter.new_usd:
            said.append(
                f"{plural(meter.uncounted, 'reply', 'replies')} came without a count of tokens; "
                f"{'its' if meter.uncounted == 1 else 'their'} cost is estimated from the length"
            )
        if self.counts.unsent:
            budget = self._dispatch.policy.budget_usd
            said.append(f"the budget of {budget:g} USD is reached; raise --budget to go on")
        return said

    def account(self, manifest: Manifest) -> None:
        """Write tokens, cost and warnings into a manifest."""
        manifest.tokens = self.counts.tokens()
        manifest.cost_usd = round(self.spent_usd, 6)
        manifest.warnings += self.warnings

    def cost_note(self, done: int, total: int) -> str:
        """``0.52 USD, about 3.10 in all`` for the progress line; empty where nothing costs.

        What is projected is the cost of the replies consumed: others were received ahead.
        """
        spent = self.spent_usd
        if not spent:
            return ""
        in_all = ""
        if 0 < done < total:
            in_all = f", about {usd(max(spent, self.counts.cost_usd * total / done))} in all"
        return f", {usd(spent)} USD{in_all}"

    def __enter__(self) -> Asking:
        if threading.current_thread() is threading.main_thread():
            self._old_handler = signal.signal(signal.SIGTERM, _interrupt)
        self._thread.start()
        return self

    def __iter__(self) -> Iterator[tuple[ChatRequest, Outcome]]:
        dispatch = self._dispatch
        while batch := self._submit(dispatch.ready()).result():
            for pair in batch:
                self.counts.add(pair[1])
                if isinstance(pair[1].error, CallFailed):
                    self._failed.append(pair)
                yield pair

    def write_failed(
        self, folder: Path, row: Callable[[ChatRequest], Mapping[str, Any]] | None = None
    ) -> bool:
        """Write ``failed.jsonl``: each request that failed, with why; False if none did.

        A line is what ``row`` makes of the request, else its messages: either is a row that a verb
        reads, so that the file can be run again.
        """
        path = folder / FAILED
        if not self._failed:
            path.unlink(missing_ok=True)
            return False
        with path.open("w", encoding="utf-8") as file:
            for request, outcome in self._failed:
                why = {
                    "label": request.label,
                    "reason": outcome.reason,
                    "detail": str(outcome.error),
                }
                line = {**(row or messages_row)(request), "failed": why}
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
            if self._old_handler is not None:
                signal.signal(signal.SIGTERM, self._old_handler)


def messages_row(request: ChatRequest) -> dict[str, Any]:
    """A request as a row in the messages layout."""
    return {"messages": [{"role": role, "content": text} for role, text in request.turns]}


def _interrupt(signal_number: int, frame: object) -> None:
    """SIGTERM is taken as Ctrl-C while requests are in flight: what is paid for is kept."""
    raise KeyboardInterrupt


async def _cancel_others() -> None:
    """Cancel whatever is left in this loop and let it end."""
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
