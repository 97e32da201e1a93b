"""``judge``: models compare a model's answers with others' to the same questions (AlpaCare's
free-form evaluation, PAPERS.md section 1; MT-bench's and AlpacaEval's protocols beside it).

Folders or files of answers come in; a verdict for each item, reference, order and judge goes out,
with the judge's raw text. A verdict that cannot be read, and one for which no reply came, is
``unreadable``: it is counted and never left out. A judge sees prompts and answers, no names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

from meadowlark.answered import Answered, beyond, plain, read_sides, same_prompt
from meadowlark.dataset import Run
from meadowlark.errors import UserError
from meadowlark.evaluate.jury import (
    estimate_judging,
    judged,
    judges_of,
    open_judging,
    said,
    why_unread,
)
from meadowlark.evaluate.protocols import Protocol, orders, protocol_of
from meadowlark.evaluate.reading import Choice, first_preference, read_choice, reading_of
from meadowlark.evaluate.verdicts import winner_of
from meadowlark.llm import ChatModel, ChatReply, ChatRequest, Estimate, Policy, Price
from meadowlark.llm.dispatch import Outcome
from meadowlark.progress import plural
from meadowlark.records import Answer, Rejected, Verdict


@dataclass(frozen=True, slots=True)
class Pair:
    """One comparison as it is shown: an item, the reference's number, and who comes first."""

    item: str
    reference: int
    shown_first: Literal["a", "b"]
    a: Answer
    b: Answer


@dataclass
class Comparing:
    """The sides, and what will be asked of each judge, as a list of pairs."""

    protocol: Protocol
    mine: Answered
    others: list[Answered]
    wanted: list[Pair]
    rejected: list[Rejected]
    noun: type[Verdict] = Verdict

    @property
    def sides(self) -> list[Answered]:
        """The model's answers, then each reference's."""
        return [self.mine, *self.others]

    def settled(self, pair: Pair, by: str) -> Verdict | None:
        """The verdict on a pair that needs no judge, or None."""
        failed = [n for n, answer in (("a", pair.a), ("b", pair.b)) if answer.status == "failed"]
        if failed:
            note = f"no answer was received from {' and '.join(failed)}"
            return self.verdict(pair, by, note=note)
        if self.protocol.identical == "tie" and pair.a.text == pair.b.text:
            note = "identical answers, not asked"
            return replace(self.verdict(pair, by, "tie", note=note), preference=0.5)
        return None

    def verdict(
        self,
        pair: Pair,
        by: str,
        choice: Choice | None = None,
        *,
        preference: float | None = None,
        note: str = "",
        raw: str = "",
    ) -> Verdict:
        """A verdict on a pair; ``preference`` is for the answer shown first."""
        if preference is not None and pair.shown_first == "b":
            preference = 1 - preference
        return Verdict(
            item=pair.item,
            criterion=self.protocol.criterion,
            a=self.mine.model,
            b=self.others[pair.reference].model,
            shown_first=pair.shown_first,
            winner=winner_of(choice, pair.shown_first),
            by=by,
            preference=preference,
            note=note,
            raw=raw,
        )

    def asked(self) -> Iterator[tuple[Pair, ChatRequest]]:
        """The pairs that a judge is asked about, each with its request."""
        sampling = self.protocol.sampling
        for pair in self.wanted:
            if self.settled(pair, "") is not None:
                continue
            shown = (pair.a, pair.b) if pair.shown_first == "a" else (pair.b, pair.a)
            question = self.mine.questions[pair.item]
            turns = self.protocol.turns(
                prompt=plain(question.prompt), first=shown[0].text, second=shown[1].text
            )
            label = f"judge:{pair.item}:{pair.reference}:{pair.shown_first}"
            yield pair, ChatRequest(turns, sampling, label=label)

    def made(self, pair: Pair, by: str, outcome: Outcome) -> Verdict:
        """A judge's verdict on a pair by its reply; unreadable where it says none, or none came."""
        further = len(self.mine.answers[pair.item]) - 1
        further += len(self.others[pair.reference].answers[pair.item]) - 1
        draws = f"{plural(further, 'further draw')} not compared" if further else ""
        if outcome.reply is None:
            return self.verdict(pair, by, note=said([why_unread(outcome), draws]))
        read = read_reply(outcome.reply, self.protocol)
        return self.verdict(
            pair,
            by,
            read.choice,
            preference=read.preference,
            note=said([why_unread(outcome) if read.choice is None else "", draws]),
            raw=outcome.reply.text,
        )


class Read(NamedTuple):
    """What a reply says: a choice, and how strongly the answer shown first is preferred."""

    choice: Choice | None
    preference: float | None


def read_reply(reply: ChatReply, protocol: Protocol) -> Read:
    """A judge's reply by the protocol's reading.

    A reading of a single letter is decided by the letters' log-probabilities where there are any;
    for the others these only say how strong a choice is that was read from the text.
    """
    preference = first_preference(reply.logprobs, protocol.reading) if reply.logprobs else None
    if preference is not None and not reading_of(protocol.reading).opening:
        if preference == 0.5:
            return Read("tie", 0.5)
        return Read("first" if preference > 0.5 else "second", preference)
    choice = read_choice(reply.text, protocol.reading)
    return Read(choice, preference if choice in ("first", "second") else None)


def judge_pairs(
    answers: str | Path,
    references: Sequence[str | Path],
    judges: Sequence[str],
    out: Path,
    *,
    protocol: str = "alpacare",
    reading: str | None = None,
    logprobs: int | None = None,
    policy: Policy | None = None,
    prices: Sequence[Price] = (),
    models: Path | None = None,
    limit: int | None = None,
    force: bool = False,
    given: Sequence[ChatModel] = (),
) -> Run:
    """Let ``judges`` compare ``answers`` with each reference's, into ``out``.

    Writes ``verdicts.parquet``, ``questions.parquet`` and ``answers.parquet`` (what was compared,
    under one set of ids and names), and ``rejected.parquet``: items that cannot be compared, and
    verdicts that the budget left unasked. ``reading`` and ``logprobs`` go before the protocol's.
    ``limit`` takes the first items; raising it or the budget continues. ``given`` models stand in
    for opening the judges.
    """
    policy = policy or Policy()
    how = _pair_protocol(protocol, reading, logprobs, references)
    jury = judges_of(judges, prices=prices, models=models, given=given)
    own = {"reading": how.reading, "logprobs": how.logprobs}
    run = open_judging(
        out, jury, protocol, how, answers, references, policy, limit, own=own, force=force
    )
    if run.complete:
        return run
    work = comparing(answers, references, how, limit)
    with run:
        rows, calls = judged(run, jury, work, policy)
        run.manifest.warnings += beyond(work.mine, work.others)
        unreadable = sum(v.winner == "unreadable" for v in rows)
        run.finish(verdicts=len(rows), unreadable=unreadable, **calls, **outcomes(rows))
    return run


class PlannedPairs(NamedTuple):
    """What each judge would be sent, and on how many prompts the model meets each reference (the
    fewest, where they are not the same)."""

    calls: list[Estimate]
    prompts: int


def estimate_pairs(
    answers: str | Path,
    references: Sequence[str | Path],
    judges: Sequence[str],
    out: Path,
    *,
    protocol: str = "alpacare",
    reading: str | None = None,
    logprobs: int | None = None,
    policy: Policy | None = None,
    prices: Sequence[Price] = (),
    models: Path | None = None,
    limit: int | None = None,
    given: Sequence[ChatModel] = (),
) -> PlannedPairs:
    """What :func:`judge_pairs` would send to each judge; nothing is sent or written."""
    how = _pair_protocol(protocol, reading, logprobs, references)
    jury = judges_of(judges, prices=prices, models=models, given=given)
    work = comparing(answers, references, how, limit)
    met = Counter(reference for reference, _ in {(p.reference, p.item) for p in work.wanted})
    prompts = min(met[number] for number in range(len(work.others)))
    return PlannedPairs(estimate_judging(jury, work, out, policy or Policy()), prompts)


def _pair_protocol(
    name: str, reading: str | None, logprobs: int | None, references: Sequence[str | Path]
) -> Protocol:
    """The protocol of a comparison, with what was asked for in place of its own."""
    protocol = protocol_of(name)
    changes: dict[str, object] = {}
    if reading is not None:
        reading_of(reading)
        changes["reading"] = reading
    if logprobs is not None:
        changes["logprobs"] = logprobs
    if protocol.kind != "pair":
        raise UserError(f"--protocol {name} grades single answers; it compares none")
    if not references:
        raise UserError("give at least one folder or file of answers to compare with")
    return protocol.model_copy(update=changes)


def comparing(
    answers: str | Path, references: Sequence[str | Path], protocol: Protocol, limit: int | None
) -> Comparing:
    """The pairs to be judged, item by item, and the items that cannot be compared."""
    mine, others = read_sides(answers, references)
    work = Comparing(protocol, mine, others, [], [])
    for item in list(mine.questions)[:limit]:
        for number, other in enumerate(others):
            fault = fault_of(mine, other, item)
            if fault:
                row = Verdict(
                    item, protocol.criterion, mine.model, other.model, "a", "unreadable", ""
                )
                work.rejected.append(Rejected(row, *fault))
                continue
            a, b = mine.answers[item][0], other.answers[item][0]
            for shown_first in orders(protocol, plain(mine.questions[item].prompt)):
                work.wanted.append(Pair(item, number, shown_first, a, b))
    return work


def fault_of(mine: Answered, other: Answered, item: str) -> tuple[str, str] | None:
    """Why an item cannot be compared (reason, detail), or None."""
    if mine.questions[item].choices:
        return "a multiple-choice question", "exams are compared with `meadowlark score`"
    for side in (mine, other):
        if item not in side.answers:
            return "no answer", side.model
    if not same_prompt(mine.questions[item], other.questions[item]):
        return "different questions under one id", f"in {other.folder}"
    return None


def outcomes(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """For each judge and reference, a line that says how the verdicts fell."""
    counts: dict[tuple[str, str, str], Counter[str]] = {}
    for v in verdicts:
        counts.setdefault((v.by, v.a, v.b), Counter())[v.winner] += 1
    return {
        f"{by}: {a} against {b}": (
            f"{c['a']} won, {c['tie'] + c['both_bad']} tied, {c['b']} lost, "
            f"{c['unreadable']} unreadable"
        )
        for (by, a, b), c in counts.items()
    }
