"""``judge`` with a single-answer protocol: models grade answers one by one, by a scale or a rubric.

Folders or files of answers come in (of one model or several); a :class:`Grade` for each item,
criterion, model and judge goes out, with the judge's raw text. A rating keeps its number; a
rubric's criterion gets its points where it is met and 0 where it is not (HealthBench). A grading
that cannot be read, or for which no reply came, has no points: it is unscored, never 0 or false.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from meadowlark.answered import Answered, beyond, plain, read_sides
from meadowlark.dataset import Run
from meadowlark.errors import UserError
from meadowlark.evaluate.jury import (
    estimate_judging,
    judged,
    judges_of,
    open_judging,
    why_unread,
)
from meadowlark.evaluate.protocols import Protocol, protocol_of
from meadowlark.evaluate.reading import MET, read_met, read_rating
from meadowlark.evaluate.rubrics import Criterion, read_rubrics, rubric_path
from meadowlark.llm import ChatModel, ChatRequest, Estimate, Policy, Price
from meadowlark.llm.dispatch import Outcome
from meadowlark.records import Answer, Grade, Rejected

RUBRIC = "rubric.json"
"""In a folder of grades by a rubric: each item's criteria with points and tags, for scoring."""
SCHEMA = {
    "type": "object",
    "properties": {"explanation": {"type": "string"}, MET: {"type": "boolean"}},
    "required": ["explanation", MET],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Grading:
    """One answer and what it is graded for."""

    item: str
    model: str
    answer: Answer
    criterion: Criterion

    def grade(self, points: float | None, by: str, raw: str = "") -> Grade:
        """The grade with these points; none where they could not be read."""
        text, most = self.criterion.text, self.criterion.points
        return Grade(self.item, text, self.model, points, most, by, raw)


@dataclass
class Gradings:
    """The sides, and what will be asked of each judge."""

    protocol: Protocol
    sides: list[Answered]
    wanted: list[Grading]
    rejected: list[Rejected]
    schema: bool = False
    noun: type[Grade] = Grade

    def settled(self, one: Grading, by: str) -> Grade | None:
        """The grade of an answer that was never received, which has no points; else None."""
        failed = one.answer.status == "failed"
        return one.grade(None, by, "(no answer was received)") if failed else None

    def asked(self) -> Iterator[tuple[Grading, ChatRequest]]:
        """What a judge is asked about, each with its request; answers never received are not."""
        questions = self.sides[0].questions
        for number, one in enumerate(self.wanted):
            if self.settled(one, "") is not None:
                continue
            question = questions[one.item]
            turns = self.protocol.turns(
                prompt=plain(question.prompt),
                answer=one.answer.text,
                criterion=one.criterion.text,
                target=question.target,
            )
            schema = SCHEMA if self.schema else None
            label = f"grade:{one.item}:{number}"
            yield one, ChatRequest(turns, self.protocol.sampling, label=label, schema=schema)

    def made(self, one: Grading, by: str, outcome: Outcome) -> Grade:
        """A judge's grade by its reply; without points where it says none, or none came."""
        if outcome.reply is None:
            return one.grade(None, by, f"({why_unread(outcome)})")
        text = outcome.reply.text
        if self.protocol.kind == "rubric":
            met = read_met(text)
            return one.grade(None if met is None else one.criterion.points * met, by, text)
        return one.grade(read_rating(text, self.protocol.lowest, self.protocol.highest), by, text)


def grade_answers(
    answers: str | Path,
    others: Sequence[str | Path],
    judges: Sequence[str],
    out: Path,
    *,
    protocol: str = "rubric",
    rubric: str | Path | None = None,
    schema: bool = False,
    policy: Policy | None = None,
    prices: Sequence[Price] = (),
    models: Path | None = None,
    limit: int | None = None,
    force: bool = False,
    given: Sequence[ChatModel] = (),
) -> Run:
    """Let ``judges`` grade every answer of ``answers`` and ``others``, into ``out``.

    Writes ``grades.parquet``, ``questions.parquet`` and ``answers.parquet``, ``rejected.parquet``
    and, with a rubric, ``rubric.json``. ``rubric`` is a file or ``medical`` (the default of a
    rubric protocol). ``schema`` asks the server to hold a rubric's replies to their form.
    """
    policy = policy or Policy()
    how, files = _graded_by(protocol, rubric, schema=schema)
    jury = judges_of(judges, prices=prices, models=models, given=given)
    own = {"schema": schema}
    run = open_judging(
        out, jury, protocol, how, answers, others, policy, limit, own=own, files=files, force=force
    )
    if run.complete:
        return run
    work = gradings(answers, others, how, files.get("rubric"), limit, schema=schema)
    with run:
        rows, calls = judged(run, jury, work, policy)
        mine, *rest = work.sides
        run.manifest.warnings += beyond(mine, rest)
        if files:
            run.write_json(RUBRIC, _rubric_rows(work, files["rubric"]))
        unscored = sum(grade.points is None for grade in rows)
        run.finish(grades=len(rows), unscored=unscored, **calls)
    return run


def estimate_grades(
    answers: str | Path,
    others: Sequence[str | Path],
    judges: Sequence[str],
    out: Path,
    *,
    protocol: str = "rubric",
    rubric: str | Path | None = None,
    schema: bool = False,
    policy: Policy | None = None,
    prices: Sequence[Price] = (),
    models: Path | None = None,
    limit: int | None = None,
    given: Sequence[ChatModel] = (),
) -> list[Estimate]:
    """What :func:`grade_answers` would send to each judge; nothing is sent or written."""
    how, files = _graded_by(protocol, rubric, schema=schema)
    jury = judges_of(judges, prices=prices, models=models, given=given)
    work = gradings(answers, others, how, files.get("rubric"), limit, schema=schema)
    return estimate_judging(jury, work, out, policy or Policy())


def _graded_by(
    name: str, rubric: str | Path | None, *, schema: bool
) -> tuple[Protocol, dict[str, Path]]:
    """The protocol of a grading, and the file of its rubric where it grades by one."""
    protocol = protocol_of(name)
    if protocol.kind == "pair":
        raise UserError("a protocol for pairs grades no single answers")
    if protocol.kind == "rubric":
        return protocol, {"rubric": rubric_path(rubric or "medical")}
    if rubric is not None or schema:
        raise UserError(
            "--rubric is for --protocol rubric, and so is --schema; a scale has its own criterion"
        )
    return protocol, {}


def gradings(
    answers: str | Path,
    others: Sequence[str | Path],
    protocol: Protocol,
    rubric: Path | None,
    limit: int | None,
    *,
    schema: bool = False,
) -> Gradings:
    """Every answer with each criterion it is graded for, item by item, and what cannot be."""
    mine, rest = read_sides(answers, others)
    work = Gradings(protocol, [mine, *rest], [], [], schema)
    rubrics = read_rubrics(rubric) if rubric is not None else None
    scale = (Criterion(protocol.criterion, protocol.highest),)
    for item, question in list(mine.questions.items())[:limit]:
        found = rubrics.of(question) if rubrics is not None else None
        criteria = scale if rubrics is None else (found.criteria if found is not None else ())
        for side in work.sides:
            fault = ""
            if question.choices:
                fault = "a multiple-choice question"
            elif item not in side.answers:
                fault = "no answer"
            elif not criteria:
                fault = "no rubric"
            elif protocol.wants_target and not question.target:
                fault = "no reference answer"
            if fault:
                empty = Grade(item, protocol.criterion, side.model, None, 0.0, "")
                work.rejected.append(Rejected(empty, fault, str(side.folder)))
                continue
            answer = side.answers[item][0]
            work.wanted += [Grading(item, side.model, answer, one) for one in criteria]
    return work


def _rubric_rows(work: Gradings, path: Path) -> list[dict[str, object]]:
    rubrics = read_rubrics(path)
    rows: list[dict[str, object]] = []
    for item in dict.fromkeys(one.item for one in work.wanted):
        rubric = rubrics.of(work.sides[0].questions[item])
        assert rubric is not None, "an item without a rubric is rejected"
        criteria = [
            {"criterion": one.text, "points": one.points, "tags": list(one.tags)}
            for one in rubric.criteria
        ]
        rows.append({"item": item, "criteria": criteria, "tags": list(rubric.tags)})
    return rows
