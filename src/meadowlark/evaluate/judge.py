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

from meadowlark.answered import (
    Answered,
    inputs_of,
    named_path,
    plain,
    read_sides,
    same_prompt,
)
from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError
from meadowlark.evaluate.jury import (
    Answers,
    Judge,
    ask_judges,
    estimate_judging,
    finish,
    judges_of,
    said,
    why_unread,
)
from meadowlark.evaluate.protocols import Protocol, orders, protocol_of
from meadowlark.evaluate.reading import Choice, first_preference, read_choice, reading_of
from meadowlark.evaluate.verdicts import winner_of
from meadowlark.llm import ChatModel, ChatReply, ChatRequest, Estimate, Policy, Price
from meadowlark.llm.dispatch import Outcome
from meadowlark.llm.errors import BudgetReached
from meadowlark.records import Answer, Question, Rejected, Verdict

BUDGET = "budget reached"
"""Why a verdict that the budget left unasked is rejected; raising the budget goes on."""


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
    pairs: list[Pair]
    rejected: list[Rejected]

    def unasked(self, pair: Pair) -> Verdict | None:
        """The verdict on a pair that needs no judge, or None."""
        failed = [n for n, answer in (("a", pair.a), ("b", pair.b)) if answer.status == "failed"]
        if failed:
            note = f"no answer was received from {' and '.join(failed)}"
            return self.verdict(pair, "", note=note)
        if self.protocol.identical == "tie" and pair.a.text == pair.b.text:
            note = "identical answers, not asked"
            return replace(self.verdict(pair, "", "tie", note=note), preference=0.5)
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
        for pair in self.pairs:
            if self.unasked(pair) is not None:
                continue
            shown = (pair.a, pair.b) if pair.shown_first == "a" else (pair.b, pair.a)
            question = self.mine.questions[pair.item]
            turns = self.protocol.turns(
                prompt=plain(question.prompt), first=shown[0].text, second=shown[1].text
            )
            label = f"judge:{pair.item}:{pair.reference}:{pair.shown_first}"
            yield pair, ChatRequest(turns, sampling, label=label)


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
    how = with_options(protocol_of(protocol), reading, logprobs)
    if how.kind != "pair":
        raise UserError(f"--protocol {protocol} grades single answers; it compares none")
    if not references:
        raise UserError("give at least one folder or file of answers to compare with")
    jury = judges_of(judges, prices=prices, models=models, given=given)
    run = open_run(
        "judge",
        out,
        options={
            "judges": [judge.known_as for judge in jury],
            "by": [judge.by for judge in jury],
            "protocol": protocol if not protocol.endswith(".toml") else Path(protocol).name,
            "protocol_text": how.digest,
            "reading": how.reading,
            "logprobs": how.logprobs,
            "names": [named_path(path)[0] for path in (answers, *references)],
            "budget": policy.budget_usd,
            "limit": limit,
        },
        inputs={**inputs_of(answers, references), **recordings(jury)},
        growing=("limit", "budget"),
        force=force,
    )
    if run.complete:
        return run
    work = comparing(answers, references, how, limit)
    total = sum(work.unasked(pair) is None for pair in work.pairs)
    verdicts: dict[str, list[Verdict]] = {judge.by: [] for judge in jury}
    rejected = list(work.rejected)
    asking = Answers()
    with run:
        for judge in jury:
            unasked = filter(None, map(work.unasked, work.pairs))
            verdicts[judge.by] += [replace(verdict, by=judge.by) for verdict in unasked]
        for judge, pair, outcome in ask_judges(run, jury, work.asked, total, policy, asking):
            made = _made(work, judge, pair, outcome)
            if isinstance(outcome.error, BudgetReached):
                rejected.append(Rejected(made, BUDGET, str(outcome.error)))
            else:
                verdicts[judge.by].append(made)
        rows = [v for judge in jury for v in _in_order(work, verdicts[judge.by])]
        run.manifest.rows["in"] = len(work.pairs) * len(jury) + len(work.rejected)
        run.manifest.rows["kept"] = len(rows)
        run.write(rows, Verdict)
        write_sides(run, work.mine, work.others, list(dict.fromkeys(p.item for p in work.pairs)))
        run.reject(rejected, Verdict)
        finish(run, asking)
        run.manifest.warnings += unblinded(work)
        if not rows:
            run.manifest.warnings.append("no item could be compared; see rejected.parquet")
        run.finish(
            verdicts=len(rows),
            unreadable=sum(v.winner == "unreadable" for v in rows),
            **{f"calls {by}": calls for by, calls in asking.calls.items()},
            **outcomes(rows),
        )
    return run


def estimate_pairs(
    answers: str | Path,
    references: Sequence[str | Path],
    judges: Sequence[str],
    out: Path,
    *,
    protocol: str = "alpacare",
    logprobs: int | None = None,
    policy: Policy | None = None,
    prices: Sequence[Price] = (),
    models: Path | None = None,
    limit: int | None = None,
    given: Sequence[ChatModel] = (),
) -> list[Estimate]:
    """What :func:`judge_pairs` would send to each judge; nothing is sent or written."""
    how = with_options(protocol_of(protocol), None, logprobs)
    work = comparing(answers, references, how, limit)
    jury = judges_of(judges, prices=prices, models=models, given=given)
    policy = policy or Policy()
    return estimate_judging(jury, lambda: (r for _, r in work.asked()), out, policy)


def with_options(protocol: Protocol, reading: str | None, logprobs: int | None) -> Protocol:
    """The protocol with what was asked for on the command line in place of its own."""
    changes: dict[str, object] = {}
    if reading is not None:
        reading_of(reading)
        changes["reading"] = reading
    if logprobs is not None:
        changes["logprobs"] = logprobs
    return protocol.model_copy(update=changes)


def recordings(jury: Sequence[Judge]) -> dict[str, Path]:
    """The recordings among the judges, as inputs of the run."""
    return {
        f"recording {n}": judge.recording
        for n, judge in enumerate(jury, start=1)
        if judge.recording is not None
    }


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
                work.pairs.append(Pair(item, number, shown_first, a, b))
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


def _made(work: Comparing, judge: Judge, pair: Pair, outcome: Outcome) -> Verdict:
    further = len(work.mine.answers[pair.item]) - 1
    further += len(work.others[pair.reference].answers[pair.item]) - 1
    draws = f"{further} further draws not compared" if further else ""
    if outcome.reply is None:
        return work.verdict(pair, judge.by, note=said([why_unread(outcome), draws]))
    read = read_reply(outcome.reply, work.protocol)
    return work.verdict(
        pair,
        judge.by,
        read.choice,
        preference=read.preference,
        note=said([why_unread(outcome) if read.choice is None else "", draws]),
        raw=outcome.reply.text,
    )


def _in_order(work: Comparing, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """One judge's verdicts in the order of the pairs, each pair at most once."""
    place = {
        (pair.item, work.others[pair.reference].model, pair.shown_first): number
        for number, pair in enumerate(work.pairs)
    }
    found = {place[v.item, v.b, v.shown_first]: v for v in verdicts}
    assert len(found) == len(verdicts), "a pair was judged twice by one judge"
    return [found[number] for number in sorted(found)]


def write_sides(run: Run, mine: Answered, others: Sequence[Answered], items: Sequence[str]) -> None:
    """Write the questions and every side's answers to them under the names that verdicts bear."""
    run.write([mine.questions[item] for item in items], Question)
    run.write(
        [
            replace(answer, model=side.model)
            for item in items
            for side in (mine, *others)
            for answer in side.answers.get(item, ())
        ],
        Answer,
    )


def unblinded(work: Comparing) -> list[str]:
    """A warning where answers name their own model, since a judge can then tell whose they are."""
    counts: Counter[str] = Counter()
    for side in (work.mine, *work.others):
        # "AlpaCare-7b/medinstruct" is known by "alpacare" as much as by its whole name.
        names = {_letters(part) for part in side.model.replace("/", " ").split()}
        names = {n for n in names if len(n) >= 5} | {_letters(side.model)}
        for item in dict.fromkeys(pair.item for pair in work.pairs):
            for answer in side.answers.get(item, ())[:1]:
                text = _letters(answer.text)
                counts[side.model] += any(name in text for name in names)
    return [
        f"{count:,} answers of {model} contain its name, which the judge reads in them"
        for model, count in counts.items()
        if count
    ]


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


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
