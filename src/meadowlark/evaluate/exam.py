"""``exam``: multiple-choice exams by log-likelihood of the choices, with intervals and chance.

Tasks come in; ``questions.parquet``, ``answers.parquet`` (one log-likelihood a choice) and
``scores.json`` go out. The prompt is medAlpaca's exam prompt (PAPERS.md, section 2, "Exam
protocol") without its sampling: nothing is generated, so nothing can be unreadable for its form.
Scoring follows PEERS.md, section 3.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError
from meadowlark.evaluate.examined import Subject, examined
from meadowlark.evaluate.partial import PartialAnswers, batches
from meadowlark.progress import Progress
from meadowlark.records import Answer, Question, Rejected, Score, Turn, to_json
from meadowlark.statistics.intervals import clustered_interval, wilson
from meadowlark.tasks import load, resolve
from meadowlark.tasks.task import TaskFiles, letters
from meadowlark.templates import user_content

if TYPE_CHECKING:
    from meadowlark.llm.local import TransformersModel

INSTRUCTION = "Answer this multiple choice question."
Scoring = Literal["letter", "text"]


def exam_turns(question: Question) -> list[Turn]:
    """The conversation that asks one multiple-choice question."""
    named = zip(letters(len(question.choices)), question.choices, strict=True)
    lines = [question.prompt, *(f"{letter}: {choice}" for letter, choice in named)]
    return [Turn("user", user_content(INSTRUCTION, "\n".join(lines)))]


def continuations(question: Question, scoring: Scoring) -> list[str]:
    """What is compared after the prompt: the letters, or the choices' own texts.

    The template ends where the answer begins, without a space, as in training; so does each.
    """
    if scoring == "letter":
        return letters(len(question.choices))
    return [choice.strip() for choice in question.choices]


class Exam(NamedTuple):
    """The questions of all chosen tasks, in order, and the rows that cannot be examined."""

    questions: list[Question]
    rejected: list[Rejected]


def read_exam(chosen: Sequence[TaskFiles], limit: int | None) -> Exam:
    """The first ``limit`` usable questions of each task.

    A row without choices, without an answer key or with an empty choice is rejected. Raises
    UserError for a prompt set, which `answer` is for, and for an id that two tasks share.
    """
    questions: dict[str, Question] = {}
    rejected: list[Rejected] = []
    for files in chosen:
        if files.task is not None and files.task.kind == "prompts":
            raise UserError(
                f"{files.name} is a set of free-form prompts, not an exam; use: meadowlark answer "
                f"MODEL {files.name}"
            )
        rows, bad = load(files)
        rejected += bad
        usable = []
        for question in rows:
            fault = _fault(question)
            if fault:
                rejected.append(Rejected(question, fault))
            else:
                usable.append(question)
        for question in usable[:limit]:
            if question.id in questions:
                raise UserError(
                    f"the id {question.id!r} is in both {questions[question.id].task} and "
                    f"{question.task}; examine them in two runs"
                )
            questions[question.id] = question
    if not questions:
        raise UserError("no multiple-choice question with an answer key among the tasks")
    return Exam(list(questions.values()), rejected)


def _fault(question: Question) -> str:
    if len(question.choices) < 2:
        return "no choices"
    if question.target not in letters(len(question.choices)):
        return "no answer key"
    return "" if all(choice.strip() for choice in question.choices) else "an empty choice"


def exam(
    model: str,
    tasks: Sequence[str],
    out: Path,
    *,
    data: Path | None = None,
    scoring: Scoring = "letter",
    template: str | None = None,
    name: str = "",
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Examine ``hf:`` ``model`` on ``tasks`` (names, NAME=PATH, files); ``limit`` is per task.

    ``name`` is what answers and scores call the model. Raising ``limit`` continues a run.
    """
    subject = examined(model, template, name)
    if not subject.local:
        raise UserError(
            f"{model}: an exam needs log-likelihoods of the choices, which only hf: models give "
            "here; exams by generation come later"
        )
    chosen = [resolve(task, data) for task in tasks]
    run = open_run(
        "exam",
        out,
        options={
            **subject.options,
            "tasks": [files.name for files in chosen],
            "scoring": scoring,
            "limit": limit,
        },
        inputs={**subject.inputs, **{k: v for f in chosen for k, v in f.inputs().items()}},
        force=force,
    )
    if run.complete:
        return run
    questions, rejected = read_exam(chosen, limit)
    opened = subject.open_local()
    with run, PartialAnswers(run.folder, resumed=run.resumed) as partial:
        _examine(opened, subject.name, questions, scoring, partial)
        answers = partial.of(question.id for question in questions)
        scores = exam_scores(questions, answers, scoring)
        run.write(questions, Question)
        run.write(answers, Answer)
        run.reject(rejected, Question)
        run.write_json("scores.json", [to_json(score) for score in scores])
        run.manifest.rows["in"] = len(questions) + len(rejected)
        run.manifest.rows["kept"] = len(questions)
        _warn(run, answers)
        partial.remove()
        run.finish(
            model=subject.name,
            scoring=scoring,
            tasks=_by_task(questions, answers),
            computed_with=opened.describe(),
        )
    return run


def _examine(
    model: TransformersModel,
    name: str,
    questions: Sequence[Question],
    scoring: Scoring,
    partial: PartialAnswers,
) -> None:
    """Fill ``partial`` with the answers that it lacks, a batch at a time."""
    turns = [exam_turns(question) for question in questions]
    choices = [continuations(question, scoring) for question in questions]
    cut: dict[int, bool] = {}

    def lengths(window: range) -> list[int]:
        widths, shortened = model.widths(
            turns[window.start : window.stop], choices[window.start : window.stop]
        )
        cut.update(zip(window, shortened, strict=True))
        return widths

    with Progress(f"exam {name}", len(questions), "questions") as progress:
        for batch in batches(len(questions), lengths, model.batches):
            if partial.has(questions[i].id for i in batch):
                progress.start_at(progress.done + len(batch))
                progress.advance(0)
                continue
            found = model.loglikelihoods([turns[i] for i in batch], [choices[i] for i in batch])
            partial.add(
                _answer(questions[i], name, values, cut=cut[i])
                for i, values in zip(batch, found, strict=True)
            )
            progress.advance(len(batch))


def _answer(question: Question, model: str, values: list[float], *, cut: bool) -> Answer:
    """The likeliest choice, the first of equals; none when the model gave no number."""
    if any(math.isnan(value) for value in values):
        return Answer(question.id, model, logprobs=tuple(values), status="failed")
    best = letters(len(values))[values.index(max(values))]
    status: Literal["truncated", "ok"] = "truncated" if cut else "ok"
    return Answer(question.id, model, extracted=best, logprobs=tuple(values), status=status)


# --------------------------------------------------------------------------- scores


def exam_scores(
    questions: Sequence[Question], answers: Sequence[Answer], scoring: Scoring
) -> list[Score]:
    """Scores by task, and by group of a task with several: accuracy, and the level of chance.

    ``accuracy`` has Wilson's interval; ``accuracy_clustered`` is the same value with an interval
    that lets the questions of one group be alike. For text scoring ``accuracy_per_character``
    divides each log-likelihood by its choice's characters. ``chance`` is the mean of 1/choices.
    """
    pairs = list(zip(questions, answers, strict=True))
    scores = []
    for task in dict.fromkeys(q.task for q in questions):
        found = [(q, a) for q, a in pairs if q.task == task]
        groups = list(dict.fromkeys(q.group for q, _ in found))
        scores += _accuracies(task, found, scoring)
        chance = sum(1 / len(q.choices) for q, _ in found) / len(found)
        scores.append(Score(task, found[0][1].model, "chance", chance, None, None, len(found)))
        if len(groups) < 2:
            continue
        right = [float(a.extracted == q.target) for q, a in found]
        value = sum(right) / len(right)
        interval = clustered_interval(right, [q.group for q, _ in found])
        low, high = interval or (None, None)
        unreadable = sum(not a.extracted for _, a in found)
        model = found[0][1].model
        scores.append(
            Score(task, model, "accuracy_clustered", value, low, high, len(found), unreadable)
        )
        for group in groups:
            members = [(q, a) for q, a in found if q.group == group]
            scores += _accuracies(f"{task}/{group or 'no group'}", members, scoring)
    return scores


def _accuracies(
    task: str, found: Sequence[tuple[Question, Answer]], scoring: Scoring
) -> list[Score]:
    model, n = found[0][1].model, len(found)
    unreadable = sum(not answer.extracted for _, answer in found)
    counted = {"accuracy": sum(a.extracted == q.target for q, a in found)}
    if scoring == "text":
        counted["accuracy_per_character"] = sum(_per_character(q, a) == q.target for q, a in found)
    return [
        Score(task, model, metric, right / n, *wilson(right, n), n, unreadable)
        for metric, right in counted.items()
    ]


def _per_character(question: Question, answer: Answer) -> str:
    """The letter of the choice with the highest log-likelihood a character."""
    if not answer.extracted:
        return ""
    texts = continuations(question, "text")
    rates = [value / len(text) for value, text in zip(answer.logprobs, texts, strict=True)]
    return letters(len(rates))[rates.index(max(rates))]


def _by_task(questions: Sequence[Question], answers: Sequence[Answer]) -> dict[str, Any]:
    """By task: how often each letter was answered and is right, what was cut, what was tied."""
    pairs = list(zip(questions, answers, strict=True))
    made = {}
    for task in dict.fromkeys(q.task for q in questions):
        found = [(q, a) for q, a in pairs if q.task == task]
        made[task] = {
            "letters_answered": _count(a.extracted or "none" for _, a in found),
            "letters_right": _count(q.target for q, _ in found),
            "prompts_cut": sum(a.status == "truncated" for _, a in found),
            "tied": sum(_tied(a) for _, a in found),
        }
    return made


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _tied(answer: Answer) -> bool:
    return bool(answer.extracted) and answer.logprobs.count(max(answer.logprobs)) > 1


def _warn(run: Run, answers: Sequence[Answer]) -> None:
    cut = sum(answer.status == "truncated" for answer in answers)
    failed = sum(answer.status == "failed" for answer in answers)
    if cut:
        run.manifest.warnings.append(
            f"{cut:,} prompts were longer than the context and lost their beginning"
        )
    if failed:
        run.manifest.warnings.append(
            f"{failed:,} questions got no number from the model (NaN); they count as wrong"
        )


# --------------------------------------------------------------------------- looking


class Shown(NamedTuple):
    """One question as the model reads it, and the continuations that are compared."""

    question: Question
    prompt: str
    compared: list[str]


def show_exam(
    model: str,
    tasks: Sequence[str],
    *,
    data: Path | None = None,
    scoring: Scoring = "letter",
    template: str | None = None,
) -> list[Shown]:
    """The rendered prompt of the first question of every task; loads the tokenizer only."""
    subject: Subject = examined(model, template, "")
    if not subject.local:
        raise UserError(f"{model}: only hf: models render their prompt here")
    prompter = subject.open_prompter()
    shown = []
    for task in tasks:
        question = read_exam([resolve(task, data)], 1).questions[0]
        prompt = prompter.render(exam_turns(question))
        shown.append(Shown(question, prompt, continuations(question, scoring)))
    return shown
