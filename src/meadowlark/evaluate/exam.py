"""``exam``: multiple-choice exams by log-likelihood of the choices or by generation, with
intervals and chance.

Tasks come in; ``questions.parquet``, ``answers.parquet`` (one log-likelihood a choice),
``likelihoods.parquet`` (where texts are compared) and ``scores.json`` go out. How a question is put
says ``exam_prompts``, what is counted ``exam_scores``. Scoring follows PEERS.md, section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from meadowlark.dataset import Run, open_run, write_table
from meadowlark.errors import UserError
from meadowlark.evaluate.exam_generation import (
    generate_locally,
    generate_remotely,
    greedy,
    read_from,
)
from meadowlark.evaluate.exam_prompts import (
    Asking,
    Put,
    Scoring,
    asking_of,
    continuations,
    exam_turns,
    put_all,
)
from meadowlark.evaluate.exam_scores import Examined, by_task, exam_scores
from meadowlark.evaluate.examined import Subject, examined
from meadowlark.evaluate.exposure import (
    EXPOSURE,
    Exposure,
    TrainingRows,
    find_exposure,
    training_rows,
)
from meadowlark.evaluate.partial import PartialAnswers, windows
from meadowlark.progress import Progress
from meadowlark.records import Answer, Question, Rejected, to_json
from meadowlark.tasks import known_tasks, load, load_examples, resolve
from meadowlark.tasks.task import MOST_CHOICES, TaskFiles, letters

if TYPE_CHECKING:
    from meadowlark.llm.likelihood import Query
    from meadowlark.llm.local import TransformersModel

__all__ = ["ExamOptions", "continuations", "exam", "exam_turns", "read_exam", "show_exam"]

By = Literal["likelihood", "generation"]
LIKELIHOODS = "likelihoods.parquet"
LIKELIHOODS_SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("draw", pa.int32()),
        ("choice", pa.string()),
        ("tokens", pa.int32()),
        ("characters", pa.int32()),
        ("bytes", pa.int32()),
        ("logprob", pa.float64()),
        ("unconditional", pa.float64()),
    ]
)
"""Of ``likelihoods.parquet``, a row a choice: what accuracies by other measures are made from."""


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
            given = {
                "--plain": self.plain,
                "--scoring": self.scoring,
                "--unconditional": self.unconditional,
            }
            for option, value in given.items():
                if value:
                    raise UserError(f"{option} is for exams by likelihood, not by generation")
        return by

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

    A row without choices, without an answer key or with an empty choice is rejected. Raises
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
        for question in _usable(files, rejected)[:limit]:
            if question.id in questions:
                raise UserError(
                    f"the id {question.id!r} is in both {questions[question.id].task} and "
                    f"{question.task}; examine them in two runs"
                )
            questions[question.id] = question
            askings[question.id] = asking
    if not questions:
        raise UserError("no multiple-choice question with an answer key among the tasks")
    return Exam(list(questions.values()), askings, worked, rejected)


def _usable(files: TaskFiles, rejected: list[Rejected]) -> list[Question]:
    rows, bad = load(files)
    rejected += bad
    usable = []
    for question in rows:
        fault = _fault(question)
        if fault:
            rejected.append(Rejected(question, fault))
        else:
            usable.append(question)
    return usable


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
    with run, PartialAnswers(run.folder, resumed=run.resumed) as partial:
        if by == "generation":
            sampling = greedy(how.max_tokens)
            without_room = generate_locally(opened, subject.name, puts, sampling, partial)
            if without_room:
                run.manifest.warnings.append(
                    f"{without_room:,} prompts fill the context of {opened.context_length:,} "
                    "tokens and leave no room for an answer; they count as wrong"
                )
            run.manifest.tokens = {"in": partial.tokens_in, "out": partial.tokens_out}
        else:
            if run.resumed:
                partial.extras.update(_kept_likelihoods(run.folder))
            by_likelihood(opened, subject.name, puts, read.askings, how, partial)
        answers = [partial.of([one.question.id], one.draw)[0] for one in puts]
        run.manifest.results["computed_with"] = opened.describe()
        _finish(run, subject, chosen, read, puts, answers, partial.extras, training)
        partial.remove()
    return run


Extras = Mapping[tuple[str, int], Mapping[str, Any]]


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
        table = pa.Table.from_pylist(list(_rows(puts, answers, extras)), LIKELIHOODS_SCHEMA)
        write_table(run.folder / LIKELIHOODS, table)
        run.wrote(LIKELIHOODS)
    run.write_json("scores.json", [to_json(score) for score in exam_scores(found)])
    run.manifest.rows["in"] = len(read.questions) + len(read.rejected)
    run.manifest.rows["kept"] = len(read.questions)
    _warn(run, chosen, answers)
    generated = not any(answer.logprobs for answer in answers)
    results = by_task(found)
    if tied := sum(said["tied"] for said in results.values()):
        run.manifest.warnings.append(
            f"{tied:,} questions have two choices of the same likelihood; the first was taken"
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
    rows = training_rows(subject.inputs.values())
    if given is not None:
        rows = TrainingRows({str(given): given})
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
            f"{cut:,} prompts were longer than the context and lost their beginning"
        )
    if failed:
        run.manifest.warnings.append(
            f"{failed:,} questions got no number from the model (NaN); they count as wrong"
        )


# --------------------------------------------------------------------------- by likelihood


def by_likelihood(
    model: TransformersModel,
    name: str,
    puts: Sequence[Put],
    askings: Mapping[str, Asking],
    how: ExamOptions,
    partial: PartialAnswers,
) -> None:
    """Fill ``partial`` with the answers that it lacks, a batch at a time.

    A window holds prompts with the same worked examples and of one order, so that what they begin
    with is read once, and is the same in a run that was interrupted.
    """
    with Progress(f"exam {name}", len(puts), "questions") as progress:
        for window in windows(len(puts), lambda i: (puts[i].draw, puts[i].block)):
            found = [puts[i] for i in window]
            if partial.has((one.question.id for one in found), found[0].draw):
                progress.start_at(progress.done + len(found))
                progress.advance(0)
                continue
            for batch, computed in _windowful(model, found, askings, how, partial):
                if computed is None:
                    progress.start_at(progress.done + len(batch))
                    continue
                values, extras = computed
                partial.add(
                    [
                        _answer(one, name, one.in_order(value), cut=cut)
                        for (one, cut), value in zip(batch, values, strict=True)
                    ],
                    extras=extras,
                )
                progress.advance(len(batch))


Computed = tuple[list[list[float]], list[dict[str, Any]]]


def _windowful(
    model: TransformersModel,
    found: Sequence[Put],
    askings: Mapping[str, Asking],
    how: ExamOptions,
    partial: PartialAnswers,
) -> Iterator[tuple[list[tuple[Put, bool]], Computed | None]]:
    """The batches of a window: what was put (and whether it was cut), and what came of it as shown;
    None for a batch that was answered before."""
    texts = [one.text or model.prompter.render(one.turns) for one in found]
    compared = [one.compared for one in found]
    queries = model.queries(texts, compared, special_tokens=how.plain)
    free = model.unconditional(compared) if how.unconditional else []
    shared = model.share(queries)
    for batch in _batches(model, queries, 0 if shared is None else len(shared)):
        put = [(found[i], queries[i].cut) for i in batch]
        if partial.has((one.question.id for one, _ in put), found[0].draw):
            yield put, None
            continue
        values = model.score([queries[i] for i in batch], shared)
        extras: list[dict[str, Any]] = []
        if askings[found[0].question.id].scoring == "text":
            extras = [
                {"tokens": found[i].in_order([len(c) for c in queries[i].choices])} for i in batch
            ]
            if free:
                for i, extra, alone in zip(
                    batch, extras, model.score([free[i] for i in batch]), strict=True
                ):
                    extra["unconditional"] = found[i].in_order(alone)
        yield put, (values, extras)


def _batches(model: TransformersModel, queries: Sequence[Query], shared: int) -> list[list[int]]:
    """Batches of the queries' numbers; prompts that were cut share nothing and stand apart."""
    made = []
    for cut in (False, True):
        found = [i for i, query in enumerate(queries) if query.cut is cut]
        before = 0 if cut else shared
        widths = [queries[i].width - before for i in found]
        made += [[found[i] for i in b] for b in model.batches(widths, before, padded=False)]
    return made


def _answer(one: Put, model: str, values: tuple[float, ...], *, cut: bool) -> Answer:
    """The likeliest choice, the first of equals; none when the model gave no number."""
    item = one.question.id
    if any(math.isnan(value) for value in values):
        return Answer(item, model, one.draw, logprobs=values, status="failed")
    best = letters(len(values))[values.index(max(values))]
    status: Literal["truncated", "ok"] = "truncated" if cut else "ok"
    return Answer(item, model, one.draw, extracted=best, logprobs=values, status=status)


def _rows(
    puts: Sequence[Put], answers: Sequence[Answer], extras: Extras
) -> Iterator[dict[str, Any]]:
    """The rows of ``likelihoods.parquet``."""
    for one, answer in zip(puts, answers, strict=True):
        extra = extras.get((one.question.id, one.draw))
        if extra is None:
            continue
        free = extra.get("unconditional") or [None] * len(answer.logprobs)
        for place, letter in enumerate(letters(len(answer.logprobs))):
            text = one.question.choices[place].strip()
            yield {
                "item": one.question.id,
                "draw": one.draw,
                "choice": letter,
                "tokens": extra["tokens"][place],
                "characters": len(text),
                "bytes": len(text.encode()),
                "logprob": answer.logprobs[place],
                "unconditional": free[place],
            }


def _kept_likelihoods(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What a finished run kept beside its answers, for one with a raised limit."""
    path = folder / LIKELIHOODS
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    if not path.exists():
        return kept
    for row in pq.read_table(path).to_pylist():
        held = kept.setdefault((row["item"], row["draw"]), {"tokens": []})
        held["tokens"].append(row["tokens"])
        if row["unconditional"] is not None:
            held.setdefault("unconditional", []).append(row["unconditional"])
    return kept


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
    how: ExamOptions | None = None,
    data: Path | None = None,
    tasks_folder: Path | None = None,
    template: str | None = None,
) -> list[Shown]:
    """The rendered prompt of the first question of every task; loads the tokenizer only."""
    how = how or ExamOptions()
    subject = examined(model, template, "")
    if not subject.local:
        raise UserError(f"{model}: only hf: models render their prompt here")
    prompter = subject.open_prompter(plain=how.plain)
    shown = []
    for files in choose_files(tasks, data, tasks_folder, how.shots):
        one = read_exam([files], 1, how).put(1)[0]
        text = one.text or prompter.render(one.turns)
        shown.append(Shown(one.question, text, list(one.compared)))
    return shown
