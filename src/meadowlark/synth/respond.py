"""``respond``: a teacher's answers to tasks (AlpaCare, PAPERS.md section 1, "Responses").

Records without an output come in and go out with one; records that have one pass unchanged. The
order is kept. Refusals, cut and empty replies, and multiple choice without the closing form are
asked again, and rejected with the reason when that did not help. Rows are read and written in
batches: a set of any size needs the memory of what is in flight.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from meadowlark.dataset import JOURNAL, Run, count_rows, open_run, read_batches
from meadowlark.errors import UserError, unknown
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
from meadowlark.llm.errors import NotRecorded
from meadowlark.llm.recorded import changed_prompt
from meadowlark.progress import Progress
from meadowlark.records import Record, Rejected, from_table, to_json
from meadowlark.spool import Spool
from meadowlark.synth.prompts import RESPOND_PROMPTS, prompt_hash, response_turns
from meadowlark.synth.replies import CHOICE_TYPES, choices_of, closing_letter, fault_of

BATCH = 1000
SAMPLING = Sampling(temperature=1.0, presence_penalty=1.5, max_tokens=600)
"""AlpaCare's, but for the longest reply: the paper's 300 tokens cut many answers short."""


def respond(
    data: Path,
    teacher: str,
    out: Path,
    *,
    prompt: str = "data",
    sampling: Sampling = SAMPLING,
    retries: int = 1,
    policy: Policy | None = None,
    price: Price | None = None,
    models: Path | None = None,
    limit: int | None = None,
    force: bool = False,
    model: ChatModel | None = None,
) -> Run:
    """Write the outputs of ``data`` with ``teacher``; raising ``limit`` or the budget goes on.

    ``prompt`` picks the system prompt: ``data``, ``icliniq`` or ``test``. A reply that is no usable
    answer is asked for ``retries`` times more: a cut one with twice the tokens, another as the next
    draw (not at temperature 0, which gives the same). ``policy`` says how fast to ask and what it
    may cost, ``price`` and ``models`` are those of :func:`~meadowlark.llm.open_teacher`; ``model``
    stands in for opening ``teacher``. Rows that the budget leaves unanswered are rejected as such.
    """
    policy = policy or Policy()
    if prompt not in RESPOND_PROMPTS:
        raise unknown("prompt", prompt, RESPOND_PROMPTS)
    if retries < 0:
        raise UserError(f"retries is {retries}; it must be at least 0")
    named, files = identify(teacher, models)
    run = open_run(
        "respond",
        out,
        options={
            "teacher": named,
            "prompt": prompt,
            "prompt_text": prompt_hash(RESPOND_PROMPTS[prompt]),
            **sampling.given(),
            "retries": retries,
            "budget": policy.budget_usd,
            "limit": limit,
        },
        inputs={"data": data, **files},
        growing=("limit", "budget"),
        force=force,
    )
    if run.complete:
        return run
    model = model or open_teacher(teacher, models=models, price=price)
    with run, Journal(run.folder / JOURNAL) as journal, Spool(run) as spool:
        writing = _Writing(_rows(data, limit, spool), spool, prompt, sampling, retries)
        with Asking(model, writing, journal=journal, policy=policy) as asking:
            total = count_rows(data, Record, limit)
            with Progress("respond", total, "tasks") as progress:
                for _, outcome in asking:
                    written = writing.take(outcome)
                    cost = asking.cost_note(progress.done + written, total or 0)
                    progress.advance(written, f"{spool.rejected:,} rejected{cost}")
                writing.end()
            if writing.missing and not asking.counts.requests:
                raise changed_prompt(files["recording"], writing.missing)
            if asking.write_failed(run.folder, writing.row_of):
                run.wrote(FAILED)
        asking.account(run.manifest)
        if writing.missing:
            run.manifest.warnings.append(
                f"the recording holds no reply to {writing.missing:,} tasks"
            )
        results = {
            "teacher": model.name,
            "calls": f"{asking.counts}{journal.interruption}",
            **writing.results(),
        }
        spool.close()
        run.finish(**results)
    return run


def estimate_responses(
    data: Path,
    teacher: str,
    out: Path,
    *,
    prompt: str = "data",
    sampling: Sampling = SAMPLING,
    policy: Policy | None = None,
    price: Price | None = None,
    models: Path | None = None,
    limit: int | None = None,
    model: ChatModel | None = None,
) -> Estimate:
    """What :func:`respond` would send at least: one request for each row without an output."""
    requests = (
        ChatRequest(response_turns(record, prompt), sampling)
        for table, _ in read_batches(data, Record, BATCH, limit)
        for record in from_table(table, Record)
        if not record.output
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
    tries: int
    fault: Rejected | None


@dataclass
class _Writing:
    """Requests for the records that lack an output, and what became of them, in their order.

    An iterator of requests for dispatch: a reply that is no usable answer puts its next try in
    front, so that it holds nothing up, and iteration may go on after a StopIteration when the
    last replies were such. A row is written as soon as all rows before it are.
    """

    records: Iterator[Record]
    spool: Spool
    prompt: str
    sampling: Sampling
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
        sampling, draw = self.sampling, asked.tries
        if asked.fault is not None and asked.fault.reason == "truncated":
            # Another limit makes another request, so its draw is the first.
            tokens = (self.sampling.max_tokens or 0) * 2**asked.tries
            sampling, draw = replace(self.sampling, max_tokens=tokens), 0
        turns = response_turns(asked.record, self.prompt)
        again = f":again{asked.tries}" if asked.tries else ""
        return ChatRequest(turns, sampling, draw, f"respond:{asked.record.id}{again}")

    def _next_row(self) -> _Asked:
        for record in self.records:
            row, self._read = self._read, self._read + 1
            if not record.output:
                return _Asked(row, record, 0, None)
            self._counts["had_an_output_before"] += 1
            self._done[row] = record
        raise StopIteration

    def take(self, outcome: Outcome) -> int:
        """Read the next outcome; returns how many rows were written after it."""
        asked = self._asked.popleft()
        made = self._judge(asked, outcome)
        if isinstance(made, _Asked):
            self._counts["asked_again"] += 1
            self._again.append(made)
            return 0
        self._counts["answered_when_asked_again"] += asked.tries > 0 and isinstance(made, Record)
        self._done[asked.row] = made
        return self._write()

    def end(self) -> None:
        """Write the rows behind the last answer; they had their outputs before."""
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
        """The record with its output, or why there is none, or the next try."""
        record, reply = asked.record, outcome.reply
        if reply is None:
            self._failed[record.id] = record
            if asked.fault is not None:  # a try again that failed changes nothing
                return asked.fault
            self.missing += isinstance(outcome.error, NotRecorded)
            return Rejected(record, f"failed: {outcome.reason}", str(outcome.error))
        fault = _fault(record, reply)
        if not fault:
            return record.evolve(output=reply.text.strip())
        rejected = Rejected(record, fault, reply.text)
        pointless = self.sampling.temperature == 0 and fault != "truncated"
        if asked.tries >= self.retries or pointless:
            return rejected
        return _Asked(asked.row, record, asked.tries + 1, rejected)

    def row_of(self, request: ChatRequest) -> dict[str, Any]:
        """The record of a request that failed, as a row that ``respond`` reads."""
        return to_json(self._failed[request.label.split(":")[1]])

    def results(self) -> dict[str, Any]:
        """What the manifest says of the rows."""
        return {name: count for name, count in sorted(self._counts.items()) if count}


def _fault(record: Record, reply: ChatReply) -> str:
    """Why a reply is no usable answer to a record; empty for one that is."""
    fault = fault_of(reply)
    if fault or record.tags.get("type") not in CHOICE_TYPES:
        return fault
    choices = choices_of(f"{record.instruction}\n{record.input}")
    if not choices:
        return ""
    letter = closing_letter(reply.text)
    if not letter:
        return "no closing answer"
    return "" if letter in choices else "closing answer is no choice"
