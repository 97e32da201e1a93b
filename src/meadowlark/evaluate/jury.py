"""Judges and how they are asked: one or several models, one journal, one budget for all of them.

Specs of models come in; every request of each judge goes out once, and comes back as a reply or as
the reason why there is none. What is asked, and what a reply means, is told by ``judge.py`` (pairs
of answers) and ``grade.py`` (single answers).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from meadowlark.dataset import JOURNAL, Run
from meadowlark.errors import UserError
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
from meadowlark.progress import Progress

Asked = TypeVar("Asked")


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


@dataclass
class Answers:
    """What asking came to, added up over the judges."""

    unsent: int = 0
    failed: int = 0
    spent_usd: float = 0.0
    tokens: dict[str, int] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def ask_judges(
    run: Run,
    judges: Sequence[Judge],
    asked: Callable[[], Iterator[tuple[Asked, ChatRequest]]],
    total: int,
    policy: Policy,
    answers: Answers,
) -> Iterator[tuple[Judge, Asked, Outcome]]:
    """Every outcome, judge by judge and in the order of ``asked``, which is called for each judge.

    ``total`` is how many requests there are for one. All replies are in the run's journal, so a
    killed run asks nothing twice, and the budget is one for all. Raises what dispatch raises, and
    a UserError where a recording holds none of the requests.
    """
    failed = b""
    for judge in judges:
        model = judge.open()
        missing = 0
        pairs: list[Asked] = []

        def requests(pairs: list[Asked] = pairs) -> Iterator[ChatRequest]:
            for one, request in asked():
                pairs.append(one)
                yield request

        # Opened for each judge, so that what the earlier ones spent is before it.
        with Journal(run.folder / JOURNAL) as journal:
            with (
                Asking(model, requests(), journal=journal, policy=policy) as asking,
                Progress(judge.by, total, "verdicts") as progress,
            ):
                for number, (_, outcome) in enumerate(asking):
                    missing += isinstance(outcome.error, NotRecorded)
                    answers.unsent += isinstance(outcome.error, BudgetReached)
                    answers.failed += outcome.reply is None
                    progress.advance(1, asking.cost_note(number + 1, total).removeprefix(", "))
                    yield judge, pairs[number], outcome
                if judge.recording is not None and missing and not asking.counts.requests:
                    raise changed_prompt(judge.recording, missing)
            if asking.write_failed(run.folder):
                failed += (run.folder / FAILED).read_bytes()
            answers.spent_usd = asking.spent_usd
            for key, count in asking.counts.tokens().items():
                answers.tokens[key] = answers.tokens.get(key, 0) + count
            answers.calls[judge.by] = f"{asking.counts}{journal.interruption}"
            answers.warnings += asking.warnings
            if missing:
                answers.warnings.append(f"{judge.by}: the recording lacks {missing:,} requests")
    if failed:
        (run.folder / FAILED).write_bytes(failed)
        run.wrote(FAILED)


def finish(run: Run, answers: Answers) -> None:
    """Write into the manifest what asking took."""
    run.manifest.tokens = answers.tokens
    run.manifest.cost_usd = round(answers.spent_usd, 6)
    run.manifest.warnings += list(dict.fromkeys(answers.warnings))


def estimate_judging(
    judges: Sequence[Judge],
    requests: Callable[[], Iterable[ChatRequest]],
    out: Path,
    policy: Policy,
) -> list[Estimate]:
    """What each judge would be sent at least, beside what the journal in ``out`` holds."""
    return [estimate(judge.open(), requests(), out / JOURNAL, policy.limits) for judge in judges]


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
