"""medAlpaca's exam protocol: a begun answer, sampled, asked again until it has the accepted form.

Multiple-choice tasks come in; ``questions.parquet``, ``answers.parquet`` (the reply that counts,
its ``draw`` the number of the try), ``tries.json`` (every reply) and ``scores.json`` go out. The
facts are in PAPERS.md, section 2 ("Exam protocol"). Two forms of it:

- ``faithful`` has the published one's faults: a reply that begins "A patient" is answer A, a bare
  "C" or "C:x" is none, and the last of five replies stands for better or worse. As the authors said
  later, five failures count as wrong (``accuracy``); as their deleted notebook counted, a reply is
  right by its first character, accepted or not (``accuracy_by_first_character``).
- ``fixed`` asks in the same way, but ``evaluate/extract.py`` reads the reply: any plain form is an
  answer, an article is none. A question without one after five tries is unreadable, and wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError
from meadowlark.evaluate.exam import Shown
from meadowlark.evaluate.examined import Subject, examined
from meadowlark.evaluate.extract import extract
from meadowlark.evaluate.partial import PartialAnswers, batches
from meadowlark.llm.chat import Sampling
from meadowlark.progress import Progress
from meadowlark.records import Answer, Question, Rejected, Score, Turn, from_dict, to_json
from meadowlark.statistics.intervals import wilson
from meadowlark.tasks import load, resolve
from meadowlark.tasks.task import letters
from meadowlark.templates import user_content

if TYPE_CHECKING:
    from meadowlark.llm.local import TransformersModel

Protocol = Literal["faithful", "fixed"]
INSTRUCTION = "Answer this multiple choice question."
BEGUN = "The Answer to the question is:"
SAMPLING = Sampling(temperature=0.4, top_p=0.9, top_k=50, max_tokens=128)
TRIES = 5
TRIED = "tries.json"
_ACCEPTED = re.compile(r"[A-Z](?::|\.|) .+")
_NEITHER_LETTER_NOR_DIGIT = re.compile(r"\A[^A-Za-z0-9]+|[^A-Za-z0-9]+\Z")


def protocol_turns(question: Question) -> list[Turn]:
    """The conversation: the question with its choices, and the answer's first words."""
    named = zip(letters(len(question.choices)), question.choices, strict=True)
    asked = "\n".join([question.prompt, *(f"{letter}: {choice}" for letter, choice in named)])
    return [Turn("user", user_content(INSTRUCTION, asked)), Turn("assistant", BEGUN)]


def stripped(reply: str) -> str:
    """The reply without what is neither ASCII letter nor digit at both ends."""
    return _NEITHER_LETTER_NOR_DIGIT.sub("", reply)


def is_accepted(reply: str) -> bool:
    """Whether a stripped reply has the published form: a capital, ":" or "." or nothing, a space
    and something more on the same line."""
    return bool(_ACCEPTED.match(reply))


def read_reply(reply: str, question: Question, protocol: Protocol) -> str:
    """The letter that a reply gives under a protocol; empty where it is to be asked again."""
    if protocol == "fixed":
        return extract(reply, question.choices).letter
    text = stripped(reply)
    return text[0] if is_accepted(text) else ""


def examine_by_protocol(
    model: str,
    tasks: Sequence[str],
    out: Path,
    *,
    protocol: Protocol,
    data: Path | None = None,
    template: str | None = None,
    name: str = "",
    seed: int = 0,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Examine ``hf:`` ``model`` as medAlpaca's authors did; ``limit`` is per task.

    A reply depends on seed, try and prompt only, so a stopped run goes on where it was and a
    greater ``limit`` asks only the further questions.
    """
    subject = _begun_for(model, template, name)
    chosen = [resolve(task, data) for task in tasks]
    run = open_run(
        "exam",
        out,
        options={
            **subject.options,
            "tasks": [files.name for files in chosen],
            "protocol": f"medalpaca, {protocol}",
            "limit": limit,
        },
        inputs={**subject.inputs, **{k: v for f in chosen for k, v in f.inputs().items()}},
        seed=seed,
        force=force,
    )
    if run.complete:
        return run
    questions: list[Question] = []
    rejected: list[Rejected] = []
    for files in chosen:
        found, bad = load(files, limit, _fault)
        rejected += bad
        questions += found
    if not questions or len({q.id for q in questions}) < len(questions):
        raise UserError("expected multiple-choice questions with an answer key, each id once")
    opened = subject.open_local()
    with run, PartialAnswers(run) as partial:
        _restore(run, partial)
        tries = _ask(opened, subject.name, questions, protocol, seed, partial)
        answers = [tries[question.id][-1] for question in questions]
        run.write(questions, Question)
        run.write(answers, Answer)
        run.reject(rejected, Question)
        run.write_json(TRIED, [to_json(a) for q in questions for a in tries[q.id]])
        scores = protocol_scores(questions, answers, protocol)
        run.write_json("scores.json", [to_json(score) for score in scores])
        run.manifest.rows["in"] = len(questions) + len(rejected)
        run.manifest.rows["kept"] = len(questions)
        run.manifest.tokens = {"in": partial.tokens_in, "out": partial.tokens_out}
        unread = sum(not answer.extracted for answer in answers)
        if unread:
            run.manifest.warnings.append(
                f"{unread:,} of {len(answers):,} questions had no answer that could be read in "
                f"{TRIES} tries, counted as wrong"
            )
        run.finish(
            model=subject.name,
            protocol=f"medalpaca, {protocol}",
            tasks=_by_task(questions, tries),
            computed_with=opened.describe(),
        )
        partial.remove()
    return run


def show_protocol(
    model: str, tasks: Sequence[str], *, data: Path | None = None, template: str | None = None
) -> list[Shown]:
    """The rendered prompt of the first question of every task, with the answer's first words;
    loads the tokenizer only."""
    prompter = _begun_for(model, template, "").open_prompter()
    shown = []
    for files in (resolve(task, data) for task in tasks):
        questions, _ = load(files, 1, _fault)
        if not questions:
            raise UserError(f"{files.name}: expected multiple-choice questions with an answer key")
        shown.append(Shown(questions[0], prompter.render(protocol_turns(questions[0])), []))
    return shown


def _begun_for(model: str, template: str | None, name: str) -> Subject:
    """The model under examination; a UserError where nobody can begin its answer."""
    subject = examined(model, template, name)
    if not subject.local:
        raise UserError(
            f"{model}: medAlpaca's protocol begins the model's answer for it, which only hf: "
            "models can take here"
        )
    return subject


def _fault(question: Question) -> str:
    return "" if question.target in letters(len(question.choices)) else "no answer key"


def _restore(run: Run, partial: PartialAnswers) -> None:
    """Hand the tries of an earlier, smaller run on, so that they are not asked again."""
    path = run.folder / TRIED
    if run.resumed and path.exists():
        earlier = [from_dict(row, Answer) for row in json.loads(path.read_text(encoding="utf-8"))]
        partial.add(replace(a, item=_key(a.item, a.draw), draw=0) for a in earlier)


def _key(item: str, draw: int) -> str:
    """What a try is called among the partial answers, where each is an item of its own."""
    return f"{item}#{draw}"


def _ask(
    model: TransformersModel,
    name: str,
    questions: Sequence[Question],
    protocol: Protocol,
    seed: int,
    partial: PartialAnswers,
) -> dict[str, list[Answer]]:
    """Every question's tries in order: up to five rounds, each over those without an answer."""
    tries: dict[str, list[Answer]] = {question.id: [] for question in questions}
    open_still = list(questions)
    for draw in range(TRIES):
        sampling = replace(SAMPLING, seed=seed * TRIES + draw)
        _round(model, name, open_still, protocol, draw, sampling, partial)
        keys = [_key(question.id, draw) for question in open_still]
        for question, answer in zip(open_still, partial.of(keys), strict=True):
            tries[question.id].append(replace(answer, item=question.id, draw=draw))
        open_still = [q for q in open_still if not tries[q.id][-1].extracted]
    return tries


def _round(
    model: TransformersModel,
    name: str,
    questions: Sequence[Question],
    protocol: Protocol,
    draw: int,
    sampling: Sampling,
    partial: PartialAnswers,
) -> None:
    """Fill ``partial`` with one try of every question that it lacks, a batch at a time."""
    turns = [protocol_turns(question) for question in questions]
    room = sampling.max_tokens or 0

    def lengths(window: range) -> list[int]:
        return [n + room for n in model.prompt_lengths([turns[i] for i in window])]

    said = f"exam {name}, try {draw + 1}"
    with Progress(said, len(questions), "questions") as progress:
        for batch in batches(len(questions), lengths, model.batches):
            wanted = [i for i in batch if not partial.has([_key(questions[i].id, draw)])]
            replies = model.generate([turns[i] for i in wanted], sampling)
            made = []
            for index, reply in zip(wanted, replies, strict=True):
                question = questions[index]
                text = reply.text.strip()
                letter = read_reply(text, question, protocol)
                status: Literal["empty", "truncated", "ok"] = (
                    "empty" if not text else "truncated" if reply.finish == "length" else "ok"
                )
                made.append(
                    Answer(
                        _key(question.id, draw), name, text=text, extracted=letter, status=status
                    )
                )
            partial.add(made, [(r.tokens_in, r.tokens_out) for r in replies])
            progress.advance(len(batch))


def protocol_scores(
    questions: Sequence[Question], answers: Sequence[Answer], protocol: Protocol
) -> list[Score]:
    """Accuracies by task with Wilson's interval, and the level of chance."""
    scores = []
    for task in dict.fromkeys(q.task for q in questions):
        found = [(q, a) for q, a in zip(questions, answers, strict=True) if q.task == task]
        model, n = found[0][1].model, len(found)
        unread = sum(not a.extracted for _, a in found)
        counted = {"accuracy": sum(a.extracted == q.target for q, a in found)}
        if protocol == "faithful":
            counted["accuracy_by_first_character"] = sum(
                stripped(a.text)[:1] == q.target for q, a in found
            )
        scores += [
            Score(task, model, metric, right / n, *wilson(right, n), n, unread)
            for metric, right in counted.items()
        ]
        chance = sum(1 / len(q.choices) for q, _ in found) / n
        scores.append(Score(task, model, "chance", chance, None, None, n))
    return scores


def _by_task(
    questions: Sequence[Question], tries: dict[str, list[Answer]]
) -> dict[str, dict[str, dict[str, int]]]:
    """By task: how often each letter was answered and is right, and how many tries it took."""
    made = {}
    for task in dict.fromkeys(q.task for q in questions):
        own = [q for q in questions if q.task == task]
        answered = [tries[q.id][-1].extracted or "none" for q in own]
        needed = [str(len(tries[q.id])) if tries[q.id][-1].extracted else "none" for q in own]
        right = [q.target for q in own]
        made[task] = {
            title: {key: values.count(key) for key in sorted(set(values))}
            for title, values in (
                ("letters_answered", answered),
                ("letters_right", right),
                ("tries_needed", needed),
            )
        }
    return made
