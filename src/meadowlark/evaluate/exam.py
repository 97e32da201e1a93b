"""``exam``: multiple-choice exams, with intervals and chance.

Tasks come in; ``questions.parquet``, ``answers.parquet`` and ``scores.json`` go out. How a question
is put says ``exam_prompts``, how it is answered ``exam_likelihood`` or ``exam_generation``, what is
counted ``exam_scores``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from meadowlark.dataset import Run, open_run, write_table
from meadowlark.errors import UserError
from meadowlark.evaluate.exam_generation import (
    generate_locally,
    generate_remotely,
    greedy,
    read_from,
)
from meadowlark.evaluate.exam_likelihood import (
    LIKELIHOODS,
    Extras,
    by_likelihood,
    kept_likelihoods,
    likelihood_table,
)
from meadowlark.evaluate.exam_prompts import Asking, Put, Scoring, asking_of, put_all
from meadowlark.evaluate.exam_scores import Examined, by_task, exam_scores
from meadowlark.evaluate.examined import Subject, examined
from meadowlark.evaluate.exposure import (
    EXPOSURE,
    Exposure,
    TrainingRows,
    find_exposure,
    training_rows,
)
from meadowlark.evaluate.partial import PartialAnswers
from meadowlark.progress import plural
from meadowlark.records import Answer, Question, Rejected, to_json
from meadowlark.tasks import known_tasks, load, load_examples, resolve
from meadowlark.tasks.task import MOST_CHOICES, TaskFiles, letters

By = Literal["likelihood", "generation"]


@dataclass(frozen=True, slots=True)
class ExamOptions:
    """How a model is examined.

    ``scoring`` is what is compared: letters, texts, or None for each task's own. ``plain`` writes
    no chat template. ``shots`` worked examples stand before a question; the choices are shown in
    ``orders`` orders. ``unconditional`` also takes the likelihood of each text without the
    question. ``by`` is likelihood or generation, None for likelihood where the model gives it; a
    generated answer has at most ``max_tokens``, and ``concurrency`` requests are in flight.
    """

    by: By | None = None
    scoring: Scoring | None = None
    plain: bool = False
    shots: int = 0
    orders: int = 1
    unconditional: bool = False
    max_tokens: int = 256
    concurrency: int = 16

    def way(self, subject: Subject) -> By:
        """How the subject is examined; UserError where it cannot be."""
        by = self.by or ("likelihood" if subject.local else "generation")
        if by == "likelihood" and not subject.local:
            raise UserError(
                f"{subject.spec}: only hf: models give the likelihood of every choice; leave "
                "--by away, or give --by generation"
            )
        if by == "generation":
            for option in self.changed("plain", "scoring", "unconditional"):
                raise UserError(f"{option} is for exams by likelihood, not by generation")
        return by

    def changed(self, *names: str) -> list[str]:
        """Which of the options (all, where none is named) are not as by default, as typed."""
        default = ExamOptions()
        looked = names or tuple(each.name for each in fields(self))
        return [
            f"--{name.replace('_', '-')}"
            for name in looked
            if getattr(self, name) != getattr(default, name)
        ]

    def stated(self, by: By) -> dict[str, Any]:
        """The options as a manifest keeps them."""
        if by == "generation":
            kept = {"shots": self.shots, "orders": self.orders, "max_tokens": self.max_tokens}
            return {"by": by, **kept}
        return {
            "by": by,
            "scoring": self.scoring or "each task's own",
            "plain": self.plain,
            "shots": self.shots,
            "orders": self.orders,
            "unconditional": self.unconditional,
        }


class Exam(NamedTuple):
    """The questions of all chosen tasks, in order, how each is asked (by id), the ids of the worked
    examples by task and group, and the rows that cannot be examined."""

    questions: list[Question]
    askings: dict[str, Asking]
    examples: dict[str, dict[str, list[str]]]
    rejected: list[Rejected]

    def put(self, orders: int) -> list[Put]:
        """Every question as it is put, in each of its orders."""
        return list(put_all(self.questions, self.askings, orders))


def choose_files(
    tasks: Sequence[str], data: Path | None, folder: Path | None, shots: int
) -> list[TaskFiles]:
    """Where the questions (and worked examples) of tasks lie; ``folder`` holds a user's own."""
    known = known_tasks(folder)
    return [resolve(task, data, tasks=known, examples=shots > 0) for task in tasks]


def read_exam(chosen: Sequence[TaskFiles], limit: int | None, how: ExamOptions) -> Exam:
    """The first ``limit`` usable questions of each task.

    A row before the last of these without choices, without an answer key or with an empty choice is
    rejected. Raises
    UserError for a prompt set, which `answer` is for, and for an id that two tasks share.
    """
    questions: dict[str, Question] = {}
    askings: dict[str, Asking] = {}
    worked: dict[str, dict[str, list[str]]] = {}
    rejected: list[Rejected] = []
    for files in chosen:
        if files.task is not None and files.task.kind == "prompts":
            raise UserError(
                f"{files.name} is a set of free-form prompts, not an exam; use: meadowlark answer "
                f"MODEL {files.name}"
            )
        examples = load_examples(files, how.shots) if how.shots else {}
        asking = asking_of(files.name, files.form, how.scoring, plain=how.plain, examples=examples)
        if how.orders > 1 and not files.form.lists_choices(plain=how.plain):
            raise UserError(
                f"{files.name} shows no list of choices, so that --orders would change nothing"
            )
        if examples:
            worked[files.name] = {k: [q.id for q in found] for k, found in examples.items()}
        found, bad = load(files, limit, _fault)
        rejected += bad
        for question in found:
            if question.id in questions:
                raise UserError(
                    f"the id {question.id!r} is in both {questions[question.id].task} and "
                    f"{question.task}; examine them in two runs"
                )
            questions[question.id] = question
            askings[question.id] = asking
    if not questions:
        raise UserError("no multiple-choice question with an answer key among the tasks")
    if how.unconditional and all(asking.scoring == "letter" for asking in askings.values()):
        raise UserError(
            "--unconditional weighs the choices' texts, but letters are compared here; give "
            "--scoring text, or leave it away"
        )
    return Exam(list(questions.values()), askings, worked, rejected)


def _fault(question: Question) -> str:
    if len(question.choices) < 2:
        return "no choices"
    if len(question.choices) > MOST_CHOICES:
        return "more choices than letters"
    if question.target not in letters(len(question.choices)):
        return "no answer key"
    return "" if all(choice.strip() for choice in question.choices) else "an empty choice"


def exam(
    model: str,
    tasks: Sequence[str],
    out: Path,
    *,
    how: ExamOptions | None = None,
    data: Path | None = None,
    tasks_folder: Path | None = None,
    template: str | None = None,
    name: str = "",
    training: Path | None = None,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Examine ``model`` on ``tasks`` (names, NAME=PATH, files); ``limit`` is per task.

    ``name`` is what answers and scores call the model. ``training`` holds the rows that it was
    trained on, by default those that its manifest names. Raising ``limit`` or the number of orders
    continues a run.
    """
    how = how or ExamOptions()
    subject = examined(model, template, name)
    by = how.way(subject)
    chosen = choose_files(tasks, data, tasks_folder, how.shots)
    given = {"training": training} if training is not None else {}
    run = open_run(
        "exam",
        out,
        options={
            **subject.options,
            "tasks": [files.name for files in chosen],
            **how.stated(by),
            "limit": limit,
        },
        inputs={
            **subject.inputs,
            **{k: v for f in chosen for k, v in f.inputs().items()},
            **given,
        },
        growing=("limit", "orders"),
        force=force,
    )
    if run.complete:
        return run
    read = read_exam(chosen, limit, how)
    puts = read.put(how.orders)
    if not subject.local:
        with run:
            sampling = greedy(how.max_tokens)
            answers = generate_remotely(run, subject, puts, sampling, how.concurrency)
            _finish(run, subject, chosen, read, puts, answers, {}, training)
        return run
    opened = subject.open_local(plain=how.plain)
    with run, PartialAnswers(run) as partial:
        if by == "generation":
            sampling = greedy(how.max_tokens)
            without_room = generate_locally(opened, subject.name, puts, sampling, partial)
            if without_room:
                run.manifest.warnings.append(
                    f"{plural(without_room, 'prompt fills', 'prompts fill')} the context of "
                    f"{opened.context_length:,} tokens, with no room left for an answer: counted "
                    "as wrong"
                )
            run.manifest.tokens = {"in": partial.tokens_in, "out": partial.tokens_out}
        else:
            if run.resumed:
                partial.extras.update(kept_likelihoods(run.folder))
            by_likelihood(
                opened, subject.name, puts, read.askings, partial, unconditional=how.unconditional
            )
        answers = [partial.of([one.question.id], one.draw)[0] for one in puts]
        run.manifest.results["computed_with"] = opened.describe()
        _finish(run, subject, chosen, read, puts, answers, partial.extras, training)
        partial.remove()
    return run


def _finish(
    run: Run,
    subject: Subject,
    chosen: Sequence[TaskFiles],
    read: Exam,
    puts: Sequence[Put],
    answers: Sequence[Answer],
    extras: Extras,
    training: Path | None,
) -> None:
    """Write questions, answers and scores, and complete the manifest."""
    made: dict[str, list[Answer]] = {}
    for answer in answers:
        made.setdefault(answer.item, []).append(answer)
    exposure = _exposure(run, subject, read.questions, training)
    found = [
        Examined(
            question,
            made[question.id],
            read.askings[question.id].scoring,
            exposed=exposure.of(question) if exposure is not None else None,
            **extras.get((question.id, 0), {}),
        )
        for question in read.questions
    ]
    run.write(read.questions, Question)
    run.write(answers, Answer)
    run.reject(read.rejected, Question)
    if extras:
        write_table(run.folder / LIKELIHOODS, likelihood_table(puts, answers, extras))
        run.wrote(LIKELIHOODS)
    run.write_json("scores.json", [to_json(score) for score in exam_scores(found)])
    run.manifest.rows["in"] = len(read.questions) + len(read.rejected)
    run.manifest.rows["kept"] = len(read.questions)
    _warn(run, chosen, answers)
    generated = not any(answer.logprobs for answer in answers)
    results = by_task(found)
    if tied := sum(said["tied"] for said in results.values()):
        run.manifest.warnings.append(
            f"{plural(tied, 'question has', 'questions have')} two choices of the same "
            "likelihood; the first was taken"
        )
    by_source = read_from(puts, answers) if generated else {}
    for task, said in results.items():
        said["compared"] = next(one.scoring for one in found if one.question.task == task)
        if generated:
            said["compared"], said["read_from"] = "letter read from the reply", by_source[task]
    for files in chosen:
        if files.name in results and files.name in read.examples:
            results[files.name]["examples"] = read.examples[files.name]
    run.finish(model=subject.name, tasks=results)


def _exposure(
    run: Run, subject: Subject, questions: Sequence[Question], given: Path | None
) -> Exposure | None:
    """Which questions the model was trained on, with its table written; None where its training
    rows are not known or not there any more, which is said."""
    if given is not None:
        rows = TrainingRows({str(given): given})
    else:
        rows = training_rows(subject.inputs.values())
    for path in rows.missing:
        run.manifest.warnings.append(
            f"contamination: the training rows {path} are not there any more, or are others; give "
            "them with --training"
        )
    if not rows.paths or rows.missing:
        return None
    found = find_exposure(questions, rows.paths.values())
    write_table(run.folder / EXPOSURE, found.table)
    run.wrote(EXPOSURE)
    run.manifest.results["contamination"] = {
        "training_rows": found.rows,
        "questions_found": len(found.exposed),
        "questions_too_short_to_look_for": len(found.unsearchable),
        "looked_in": sorted(rows.paths),
    }
    return found


def _warn(run: Run, chosen: Sequence[TaskFiles], answers: Sequence[Answer]) -> None:
    cut = sum(answer.status == "truncated" and bool(answer.logprobs) for answer in answers)
    failed = sum(answer.status == "failed" and bool(answer.logprobs) for answer in answers)
    hashes = {name: given["sha256"] for name, given in run.manifest.inputs.items()}
    for files in chosen:
        for changed in files.unpublished(hashes):
            run.manifest.warnings.append(
                f"{files.name}: {changed} is not the published file (its SHA-256 differs), so the "
                "numbers may not compare with others"
            )
    if cut:
        run.manifest.warnings.append(
            f"{plural(cut, 'prompt was', 'prompts were')} longer than the context and lost "
            f"{'its' if cut == 1 else 'their'} beginning"
        )
    if failed:
        run.manifest.warnings.append(
            f"{plural(failed, 'question')} got no number from the model (NaN): counted as wrong"
        )


# --------------------------------------------------------------------------- looking


class Shown(NamedTuple):
    """One question as the model reads it, and what is compared; nothing where it is to write."""

    question: Question
    prompt: str
    compared: list[str]


def show_exam(
    model: str,
    tasks: Sequence[str],
    *,
    how: ExamOptions | None = None,
    data: Path | None = None,
    tasks_folder: Path | None = None,
    template: str | None = None,
) -> list[Shown]:
    """The rendered prompt of the first question of every task; loads the tokenizer only."""
    how = how or ExamOptions()
    subject = examined(model, template, "")
    by = how.way(subject)
    if not subject.local:
        raise UserError(f"{model}: only hf: models render their prompt here")
    prompter = subject.open_prompter(plain=how.plain)
    shown = []
    for files in choose_files(tasks, data, tasks_folder, how.shots):
        one = read_exam([files], 1, how).put(1)[0]
        text = one.text or prompter.render(one.turns)
        compared = list(one.compared) if by == "likelihood" else []
        shown.append(Shown(one.question, text, compared))
    return shown
