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

from meadowlark.answered import Answered, inputs_of, named_path, plain, read_sides
from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError
from meadowlark.evaluate.judge import BUDGET, recordings, write_sides
from meadowlark.evaluate.jury import (
    Answers,
    Judge,
    ask_judges,
    estimate_judging,
    finish,
    judges_of,
    why_unread,
)
from meadowlark.evaluate.protocols import Protocol, protocol_of
from meadowlark.evaluate.reading import MET, read_met, read_rating
from meadowlark.evaluate.rubrics import Criterion, read_rubrics, rubric_path
from meadowlark.llm import ChatModel, ChatRequest, Estimate, Policy, Price
from meadowlark.llm.dispatch import Outcome
from meadowlark.llm.errors import BudgetReached
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

    def asked(self) -> Iterator[tuple[Grading, ChatRequest]]:
        """What a judge is asked about, each with its request; answers never received are not."""
        questions = self.sides[0].questions
        for number, one in enumerate(self.wanted):
            if one.answer.status == "failed":
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
    how = protocol_of(protocol)
    files = _rubric_file(how, rubric)
    jury = judges_of(judges, prices=prices, models=models, given=given)
    run = open_run(
        "judge",
        out,
        options={
            "judges": [judge.known_as for judge in jury],
            "by": [judge.by for judge in jury],
            "protocol": protocol if not protocol.endswith(".toml") else Path(protocol).name,
            "protocol_text": how.digest,
            "schema": schema,
            "names": [named_path(path)[0] for path in (answers, *others)],
            "budget": policy.budget_usd,
            "limit": limit,
        },
        inputs={**inputs_of(answers, others), **files, **recordings(jury)},
        growing=("limit", "budget"),
        force=force,
    )
    if run.complete:
        return run
    work = gradings(answers, others, how, files.get("rubric"), limit, schema=schema)
    asking = Answers()
    rejected = list(work.rejected)
    grades: dict[str, dict[int, Grade]] = {judge.by: {} for judge in jury}
    place = {id(one): number for number, one in enumerate(work.wanted)}
    total = sum(one.answer.status != "failed" for one in work.wanted)
    with run:
        for judge in jury:
            for one in work.wanted:
                if one.answer.status == "failed":
                    note = "(no answer was received)"
                    grades[judge.by][place[id(one)]] = one.grade(None, judge.by, note)
        for judge, one, outcome in ask_judges(run, jury, work.asked, total, policy, asking):
            made = _made(work.protocol, one, judge, outcome)
            if isinstance(outcome.error, BudgetReached):
                rejected.append(Rejected(made, BUDGET, str(outcome.error)))
            else:
                grades[judge.by][place[id(one)]] = made
        rows = [grades[judge.by][n] for judge in jury for n in sorted(grades[judge.by])]
        run.manifest.rows["in"] = len(work.wanted) * len(jury) + len(work.rejected)
        run.manifest.rows["kept"] = len(rows)
        run.write(rows, Grade)
        first, *rest = work.sides
        write_sides(run, first, rest, list(dict.fromkeys(one.item for one in work.wanted)))
        run.reject(rejected, Grade)
        if files:
            run.write_json(RUBRIC, _rubric_rows(work, files["rubric"]))
        finish(run, asking)
        run.finish(
            grades=len(rows),
            unscored=sum(grade.points is None for grade in rows),
            **{f"calls {by}": calls for by, calls in asking.calls.items()},
        )
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
    how = protocol_of(protocol)
    file = _rubric_file(how, rubric).get("rubric")
    work = gradings(answers, others, how, file, limit, schema=schema)
    jury = judges_of(judges, prices=prices, models=models, given=given)
    policy = policy or Policy()
    return estimate_judging(jury, lambda: (r for _, r in work.asked()), out, policy)


def _rubric_file(protocol: Protocol, rubric: str | Path | None) -> dict[str, Path]:
    if protocol.kind == "pair":
        raise UserError("a protocol for pairs grades no single answers")
    if protocol.kind == "rubric":
        return {"rubric": rubric_path(rubric or "medical")}
    if rubric is not None:
        raise UserError("--rubric is for --protocol rubric; a scale has one criterion of its own")
    return {}


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
    work = Gradings(protocol, [mine, *rest], [], [], schema and protocol.kind == "rubric")
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


def _made(protocol: Protocol, one: Grading, judge: Judge, outcome: Outcome) -> Grade:
    if outcome.reply is None:
        return one.grade(None, judge.by, f"({why_unread(outcome)})")
    text = outcome.reply.text
    if protocol.kind == "rubric":
        met = read_met(text)
        return one.grade(None if met is None else one.criterion.points * met, judge.by, text)
    return one.grade(read_rating(text, protocol.lowest, protocol.highest), judge.by, text)


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
