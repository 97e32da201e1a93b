"""One request to a teacher for each record, and one record or a rejection for each reply, in order.

What ``respond`` and ``rephrase`` share: a :class:`Job` says what is asked of a record and what its
reply makes of it; here are order, tries again, rejections and counts. Rows are read and written in
batches: a set of any size needs the memory of what is in flight.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from meadowlark.dataset import JOURNAL, Run, count_rows, open_run, read_batches
from meadowlark.errors import UserError
from meadowlark.llm import (
    Asking,
    ChatModel,
    ChatReply,
    ChatRequest,
    Estimate,
    Journal,
    Outcome,
    Policy,
    Price,
    Sampling,
    estimate,
    identify,
    open_teacher,
)
from meadowlark.llm.asking import FAILED
from meadowlark.llm.errors import NotRecorded
from meadowlark.llm.recorded import changed_prompt
from meadowlark.llm.spending import refuse_what_is_spent
from meadowlark.progress import Progress
from meadowlark.records import Record, Rejected, Turn, from_table, to_json
from meadowlark.spool import Spool

BATCH = 1000


@dataclass(frozen=True, slots=True)
class Job:
    """What a stage has a teacher do to each record.

    ``asks`` gives the request for a record; or the record itself, which then passes unchanged; or
    why it cannot be asked for. ``makes`` reads a reply: the new record, or reason and detail of why
    it is of no use. ``options`` are the stage's own, beside those of ``sampling``; ``unit`` is what
    rows are called, ``passed`` and ``mended`` what the manifest calls rows that passed, and those
    that a second request was good for.
    """

    stage: str
    options: Mapping[str, Any]
    asks: Callable[[Record], tuple[Turn, ...] | Record | Rejected]
    makes: Callable[[Record, ChatReply], Record | tuple[str, str]]
    sampling: Sampling
    unit: str
    passed: str
    mended: str


def rewrite(
    job: Job,
    data: Path,
    teacher: str,
    out: Path,
    *,
    retries: int,
    policy: Policy | None,
    price: Price | None,
    models: Path | None,
    limit: int | None,
    force: bool,
    model: ChatModel | None,
) -> Run:
    """Do ``job`` to the records of ``data``; raising ``limit`` or the budget goes on.

    A reply of no use is asked for ``retries`` times more: a cut one with twice the tokens, another
    as the next draw (not at temperature 0, which gives the same). ``policy`` says how fast to ask
    and what it may cost, ``price`` and ``models`` are those of
    :func:`~meadowlark.llm.open_teacher`; ``model`` stands in for opening ``teacher``. Rows that the
    budget leaves unanswered are rejected as such.
    """
    policy = policy or Policy()
    if retries < 0:
        raise UserError(f"retries is {retries}; it must be at least 0")
    named, files = identify(teacher, models)
    run = open_run(
        job.stage,
        out,
        options={
            "teacher": named,
            **job.options,
            **job.sampling.given(),
            "retries": retries,
            "budget": policy.budget_usd,
            "limit": limit,
        },
        inputs={"data": data, **files},
        stops=("budget",),
        force=force,
    )
    if run.complete:
        return run
    refuse_what_is_spent(run, policy.budget_usd)
    model = model or open_teacher(teacher, models=models, price=price)
    with run, Journal(run.folder / JOURNAL) as journal, Spool(run) as spool:
        rewriting = _Rewriting(_rows(data, limit, spool), spool, job, retries)
        with Asking(model, rewriting, journal=journal, policy=policy) as asking:
            total = count_rows(data, Record, limit)
            with Progress(job.stage, total, job.unit) as progress:
                for _, outcome in asking:
                    written = rewriting.take(outcome)
                    cost = asking.cost_note(progress.done + written, total or 0)
                    progress.advance(written, f"{spool.rejected:,} rejected{cost}")
                rewriting.end()
            if rewriting.missing and not asking.counts.requests:
                raise changed_prompt(files["recording"], rewriting.missing)
            if asking.write_failed(run.folder, rewriting.row_of):
                run.wrote(FAILED)
        asking.account(run.manifest)
        if rewriting.missing:
            run.manifest.warnings.append(
                f"the recording holds no reply to {rewriting.missing:,} {job.unit}"
            )
        results = {
            "teacher": model.name,
            "calls": f"{asking.counts}{journal.interruption}",
            **rewriting.results(),
        }
        spool.close()
        run.finish(**results)
    return run


def estimate_rewriting(
    job: Job,
    data: Path,
    teacher: str,
    out: Path,
    *,
    policy: Policy | None,
    price: Price | None,
    models: Path | None,
    limit: int | None,
    model: ChatModel | None,
) -> Estimate:
    """What :func:`rewrite` would send at least: one request for each row that is asked for."""
    asked = (
        job.asks(record)
        for table, _ in read_batches(data, Record, BATCH, limit)
        for record in from_table(table, Record)
    )
    requests = (
        ChatRequest(turns, job.sampling)
        for turns in asked
        if not isinstance(turns, Record | Rejected)
    )
    model = model or open_teacher(teacher, models=models, price=price)
    return estimate(model, requests, out / JOURNAL, (policy or Policy()).limits)


def _rows(data: Path, limit: int | None, spool: Spool) -> Iterator[Record]:
    """The records of ``data``, a batch in memory at a time; unusable rows go to the rejected."""
    for table, rejected in read_batches(data, Record, BATCH, limit):
        for row in rejected:
            spool.reject(row)
        yield from from_table(table, Record)


class _Asked(NamedTuple):
    """A request that was made: for which row, its record, how many tries there were before."""

    row: int
    record: Record
    turns: tuple[Turn, ...]
    tries: int
    fault: Rejected | None


@dataclass
class _Rewriting:
    """The requests of a job, and what became of their records, in the records' order.

    An iterator of requests for dispatch: a reply that is no usable answer puts its next try in
    front, so that it holds nothing up, and iteration may go on after a StopIteration when the
    last replies were such. A row is written as soon as all rows before it are.
    """

    records: Iterator[Record]
    spool: Spool
    job: Job
    retries: int
    missing: int = 0

    def __post_init__(self) -> None:
        self._again: deque[_Asked] = deque()
        self._asked: deque[_Asked] = deque()
        self._done: dict[int, Record | Rejected] = {}
        self._failed: dict[str, Record] = {}
        self._read = 0
        self._written = 0
        self._counts: Counter[str] = Counter()

    def __iter__(self) -> Iterator[ChatRequest]:
        return self

    def __next__(self) -> ChatRequest:
        asked = self._again.popleft() if self._again else self._next_row()
        self._asked.append(asked)
        sampling, draw = self.job.sampling, asked.tries
        if asked.fault is not None and asked.fault.reason == "truncated":
            # Another limit makes another request, so its draw is the first.
            tokens = (sampling.max_tokens or 0) * 2**asked.tries
            sampling, draw = replace(sampling, max_tokens=tokens), 0
        again = f":again{asked.tries}" if asked.tries else ""
        return ChatRequest(
            asked.turns, sampling, draw, f"{self.job.stage}:{asked.record.id}{again}"
        )

    def _next_row(self) -> _Asked:
        for record in self.records:
            row, self._read = self._read, self._read + 1
            asked = self.job.asks(record)
            if not isinstance(asked, Record | Rejected):
                return _Asked(row, record, asked, 0, None)
            self._counts[self.job.passed] += isinstance(asked, Record)
            self._done[row] = asked
        raise StopIteration

    def take(self, outcome: Outcome) -> int:
        """Read the next outcome; returns how many rows were written after it."""
        asked = self._asked.popleft()
        made = self._judge(asked, outcome)
        if isinstance(made, _Asked):
            self._counts["asked_again"] += 1
            self._again.append(made)
            return 0
        self._counts[self.job.mended] += asked.tries > 0 and isinstance(made, Record)
        self._done[asked.row] = made
        return self._write()

    def end(self) -> None:
        """Write the rows behind the last answer, which were not asked for."""
        self._write()
        assert not self._done, "a row was neither written nor rejected"

    def _write(self) -> int:
        before = self._written
        while (made := self._done.pop(self._written, None)) is not None:
            self._written += 1
            if isinstance(made, Record):
                self.spool.keep(made)
            else:
                self.spool.reject(made)
        return self._written - before

    def _judge(self, asked: _Asked, outcome: Outcome) -> Record | Rejected | _Asked:
        """The new record, or why there is none, or the next try."""
        record, reply = asked.record, outcome.reply
        if reply is None:
            self._failed[record.id] = record
            if asked.fault is not None:  # a try again that failed changes nothing
                return asked.fault
            self.missing += isinstance(outcome.error, NotRecorded)
            return Rejected(record, f"failed: {outcome.reason}", str(outcome.error))
        made = self.job.makes(record, reply)
        if isinstance(made, Record):
            return made
        rejected = Rejected(record, *made)
        pointless = self.job.sampling.temperature == 0 and rejected.reason != "truncated"
        if asked.tries >= self.retries or pointless:
            return rejected
        return _Asked(asked.row, record, asked.turns, asked.tries + 1, rejected)

    def row_of(self, request: ChatRequest) -> dict[str, Any]:
        """The record of a request that failed, as a row that the stage reads."""
        return to_json(self._failed[request.label.split(":")[1]])

    def results(self) -> dict[str, Any]:
        """What the manifest says of the rows."""
        return {name: count for name, count in sorted(self._counts.items()) if count}
