"""Judges and how they are asked: one or several models, one journal, one budget for all of them.

Specs of models and the work for them come in; every request of each judge goes out once, and what
came of each is written into the run's folder. What is asked, and what a reply means, is told by
``judge.py`` (pairs of answers) and ``grade.py`` (single answers).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

from meadowlark.answered import Answered, inputs_of, named_path
from meadowlark.dataset import JOURNAL, Run, open_run
from meadowlark.errors import UserError
from meadowlark.evaluate import protocols
from meadowlark.llm import (
    Asking,
    ChatModel,
    ChatRequest,
    Estimate,
    Journal,
    Policy,
    Price,
    estimate,
    identify,
    open_teacher,
)
from meadowlark.llm.asking import FAILED
from meadowlark.llm.dispatch import Outcome
from meadowlark.llm.errors import BudgetReached, NotRecorded
from meadowlark.llm.recorded import changed_prompt
from meadowlark.llm.spending import refuse_what_is_spent
from meadowlark.progress import Progress, plural
from meadowlark.records import Answer, Grade, Question, Rejected, Verdict

BUDGET = "budget reached"
"""Why a row that the budget left unasked is rejected; raising the budget goes on."""


class HasItem(Protocol):
    """What a judge is asked about, of one item."""

    @property
    def item(self) -> str:
        """The item's id."""
        ...


One = TypeVar("One", bound=HasItem)
Made = TypeVar("Made", Verdict, Grade)


class Work(Protocol[One, Made]):
    """All that each judge is to say something of, and what cannot be judged.

    ``sides`` are the model's answers and the others', under its ids; ``noun`` is what is made.
    """

    noun: type[Made]
    wanted: list[One]
    rejected: list[Rejected]

    @property
    def sides(self) -> list[Answered]:
        """The model's answers, then the others'."""
        ...

    def settled(self, one: One, by: str) -> Made | None:
        """What is known without asking, under a judge's name; None where it must be asked."""
        ...

    def asked(self) -> Iterator[tuple[One, ChatRequest]]:
        """What must be asked, in the order of ``wanted``, each with its request."""
        ...

    def made(self, one: One, by: str, outcome: Outcome) -> Made:
        """What a judge's reply says, or that there was none."""
        ...


@dataclass(frozen=True)
class Judge:
    """A judge: what was typed, the name that its verdicts bear, and how to open the model."""

    spec: str
    by: str
    known_as: str
    recording: Path | None
    open: Callable[[], ChatModel]


def judges_of(
    specs: Sequence[str],
    *,
    prices: Sequence[Price] = (),
    models: Path | None = None,
    given: Sequence[ChatModel] = (),
) -> list[Judge]:
    """The judges that specs name; one price is for all of them, several are for each in order.

    ``given`` models stand in for opening the specs. Judges of the same name are told apart by
    their place in the list.
    """
    if not specs:
        raise UserError("give at least one --judge")
    if len(set(specs)) < len(specs):
        raise UserError("a --judge is given twice; its second vote would be a copy of its first")
    if len(prices) not in (0, 1, len(specs)):
        raise UserError(
            f"{len(prices)} prices for {len(specs)} judges; give --price once for all, or once for "
            "each in their order"
        )
    found = []
    for index, spec in enumerate(specs):
        known_as, files = identify(spec, models)
        price = prices[index if len(prices) > 1 else 0] if prices else None

        def opened(spec: str = spec, price: Price | None = price, index: int = index) -> ChatModel:
            return given[index] if given else open_teacher(spec, models=models, price=price)

        found.append((spec, known_as, files.get("recording"), opened))
    names = [_name(spec, recording) for spec, _, recording, _ in found]
    judges = []
    for number, (name, one) in enumerate(zip(names, found, strict=True), start=1):
        shown = name if names.count(name) == 1 else f"{name} ({number})"
        judges.append(Judge(one[0], f"judge:{shown}", *one[1:]))
    return judges


def _name(spec: str, recording: Path | None) -> str:
    if recording is not None:
        return recording.parent.name if recording.name == JOURNAL else recording.stem
    provider, colon, rest = spec.partition(":")
    if not colon:
        return spec  # a name from models.toml
    return rest.rstrip("/") if provider == "hf" else rest.partition("@")[0]


def open_judging(
    out: Path,
    jury: Sequence[Judge],
    protocol: str,
    how: protocols.Protocol,
    answers: str | Path,
    others: Sequence[str | Path],
    policy: Policy,
    limit: int | None,
    *,
    own: dict[str, Any],
    files: dict[str, Path] | None = None,
    force: bool = False,
) -> Run:
    """The run of a jury's work in ``out``; ``own`` are the options, ``files`` the inputs, that only
    this kind of work has. Raising the limit or the budget continues it."""
    recordings = {
        f"recording {n}": judge.recording
        for n, judge in enumerate(jury, start=1)
        if judge.recording is not None
    }
    run = open_run(
        "judge",
        out,
        options={
            "judges": [judge.known_as for judge in jury],
            "by": [judge.by for judge in jury],
            "protocol": protocol if not protocol.endswith(".toml") else Path(protocol).name,
            "protocol_text": how.digest,
            **own,
            "names": [named_path(path)[0] for path in (answers, *others)],
            "budget": policy.budget_usd,
            "limit": limit,
        },
        inputs={**inputs_of(answers, others), **(files or {}), **recordings},
        stops=("budget",),
        force=force,
    )
    if not run.complete:
        refuse_what_is_spent(run, policy.budget_usd)
    return run


@dataclass
class Asked:
    """What asking came to, added up over the judges."""

    spent_usd: float = 0.0
    tokens: dict[str, int] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def judged(
    run: Run, jury: Sequence[Judge], work: Work[One, Made], policy: Policy
) -> tuple[list[Made], dict[str, str]]:
    """Let every judge say what it is asked, and write it: rows, sides, what was rejected.

    Gives the rows, judge by judge in the order of ``work.wanted``, and a line on the calls of each
    judge for the summary. What the budget left unasked is rejected, not a row.
    """
    asking = Asked()
    rejected = list(work.rejected)
    place = {id(one): number for number, one in enumerate(work.wanted)}
    found: dict[str, dict[int, Made]] = {judge.by: {} for judge in jury}
    for judge in jury:
        for number, one in enumerate(work.wanted):
            settled = work.settled(one, judge.by)
            if settled is not None:
                found[judge.by][number] = settled
    for judge, one, outcome in _ask(run, jury, work, policy, asking):
        row = work.made(one, judge.by, outcome)
        if isinstance(outcome.error, BudgetReached):
            rejected.append(Rejected(row, BUDGET, str(outcome.error)))
        else:
            assert place[id(one)] not in found[judge.by], "judged twice by one judge"
            found[judge.by][place[id(one)]] = row
    rows = [found[judge.by][n] for judge in jury for n in sorted(found[judge.by])]
    run.manifest.rows["in"] = len(work.wanted) * len(jury) + len(work.rejected)
    run.manifest.rows["kept"] = len(rows)
    run.write(rows, work.noun)
    items = list(dict.fromkeys(one.item for one in work.wanted))
    _write_sides(run, work.sides, items)
    run.reject(rejected, work.noun)
    run.manifest.tokens = asking.tokens
    run.manifest.cost_usd = round(asking.spent_usd, 6)
    run.manifest.warnings += list(dict.fromkeys(asking.warnings))
    run.manifest.warnings += _unblinded(work.sides, items)
    if not rows:
        run.manifest.warnings.append("nothing could be judged; see rejected.parquet")
    return rows, {f"calls {by}": calls for by, calls in asking.calls.items()}


def _ask(
    run: Run, jury: Sequence[Judge], work: Work[One, Made], policy: Policy, into: Asked
) -> Iterator[tuple[Judge, One, Outcome]]:
    """Every outcome, judge by judge and in the order of ``work.asked``.

    All replies are in the run's journal, so a killed run asks nothing twice, and the budget is one
    for all. Raises what dispatch raises, and a UserError where a recording holds none of the
    requests.
    """
    failed = b""
    total = sum(work.settled(one, "") is None for one in work.wanted)
    for judge in jury:
        model = judge.open()
        missing = 0
        asked: list[One] = []

        def requests(asked: list[One] = asked) -> Iterator[ChatRequest]:
            for one, request in work.asked():
                asked.append(one)
                yield request

        # Opened for each judge, so that what the earlier ones spent is before it.
        with Journal(run.folder / JOURNAL) as journal:
            with (
                Asking(model, requests(), journal=journal, policy=policy) as asking,
                Progress(judge.by, total, "verdicts") as progress,
            ):
                for number, (_, outcome) in enumerate(asking):
                    missing += isinstance(outcome.error, NotRecorded)
                    progress.advance(1, asking.cost_note(number + 1, total).removeprefix(", "))
                    yield judge, asked[number], outcome
                if judge.recording is not None and missing and not asking.counts.requests:
                    raise changed_prompt(judge.recording, missing)
            if asking.write_failed(run.folder):
                failed += (run.folder / FAILED).read_bytes()
            into.spent_usd = asking.spent_usd
            for key, count in asking.counts.tokens().items():
                into.tokens[key] = into.tokens.get(key, 0) + count
            into.calls[judge.by] = f"{asking.counts}{journal.interruption}"
            into.warnings += asking.warnings
            if missing:
                into.warnings.append(
                    f"{judge.by}: the recording lacks {plural(missing, 'request')}"
                )
    if failed:
        (run.folder / FAILED).write_bytes(failed)
        run.wrote(FAILED)


def _write_sides(run: Run, sides: Sequence[Answered], items: Sequence[str]) -> None:
    """Write the questions and every side's answers to them under the names that rows bear."""
    run.write([sides[0].questions[item] for item in items], Question)
    run.write(
        [
            replace(answer, model=side.model)
            for item in items
            for side in sides
            for answer in side.answers.get(item, ())
        ],
        Answer,
    )


def _unblinded(sides: Sequence[Answered], items: Sequence[str]) -> list[str]:
    """A warning where answers name their own model, since a judge can then tell whose they are."""
    counts: Counter[str] = Counter()
    for side in sides:
        # "AlpaCare-7b/medinstruct" is known by "alpacare" as much as by its whole name.
        names = {_letters(part) for part in side.model.replace("/", " ").split()}
        names = {n for n in names if len(n) >= 5} | {_letters(side.model)}
        for item in items:
            for answer in side.answers.get(item, ())[:1]:
                text = _letters(answer.text)
                counts[side.model] += any(name in text for name in names)
    return [
        f"{plural(count, 'answer')} of {model} with its name, which the judge reads there"
        for model, count in counts.items()
        if count
    ]


def _letters(text: str) -> str:
    return "".join(character for character in text.lower() if character.isalnum())


def estimate_judging(
    jury: Sequence[Judge], work: Work[One, Made], out: Path, policy: Policy
) -> list[Estimate]:
    """What each judge would be sent at least, beside what the journal in ``out`` holds."""
    journal = out / JOURNAL
    return [
        estimate(judge.open(), (r for _, r in work.asked()), journal, policy.limits)
        for judge in jury
    ]


def why_unread(outcome: Outcome) -> str:
    """What to note of an outcome that could not be read, beside its text."""
    if outcome.reply is None:
        return f"no reply: {outcome.reason or 'failed'}"
    if outcome.reply.finish == "refused":
        return "refused by the server"
    return "cut at the token limit" if outcome.reply.finish == "length" else ""


def said(parts: Iterable[str]) -> str:
    """Notes joined, the empty ones left out."""
    return "; ".join(part for part in parts if part)
