"""``answer``: a model's free-form answers to prompts, each with a status (AlpaCare, PAPERS.md
section 1, "Free-form evaluation").

Records, questions or a prompt-set task come in; ``questions.parquet`` and ``answers.parquet`` go
out under the ids of the rows. Local models answer in batches, remote ones through the journal.
AlpaCare's published answers used default sampling and 1,024 tokens that include the prompt.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from meadowlark.dataset import FILE_OF, JOURNAL, MANIFEST, Run, open_run, read_each
from meadowlark.errors import UserError, unknown
from meadowlark.evaluate.exam_prompts import exam_turns
from meadowlark.evaluate.examined import Subject, examined
from meadowlark.evaluate.partial import PartialAnswers, batches
from meadowlark.llm import Asking, ChatReply, ChatRequest, Journal, Policy, Sampling
from meadowlark.llm.asking import FAILED
from meadowlark.llm.errors import NotRecorded
from meadowlark.llm.local import TransformersModel
from meadowlark.llm.recorded import changed_prompt
from meadowlark.progress import Progress, plural
from meadowlark.records import Answer, AnswerStatus, Question, Record, Rejected, Turn
from meadowlark.tasks import TASKS, load, resolve
from meadowlark.templates import messages, split_content, user_content

STATUSES: tuple[AnswerStatus, ...] = ("ok", "empty", "truncated", "refused", "failed")
MOST_WORDS_OF_A_REFUSAL = 60
_SORRY = r"(?:(?:i['’]?m |i am )?(?:very |so |really )?sorry\b|i apologi[sz]e\b)\W*"
_AS_A_MODEL = r"as an? [\w -]{0,30}(?:ai|assistant|model)\b\W*"
_UNABLE = r"(?:i (?:can ?not|can['’]t|won['’]?t|will not)|(?:i am|i['’]m) (?:unable|not able) to)"
_TO_DO = (
    r"(?:help|assist|provide|give|offer|answer|diagnose|comply|fulfil|do|discuss|respond|complete|"
    r"engage|create|generate|write|make|continue|support|advise|prescribe|recommend)"
)
_REFUSAL = re.compile(
    rf"(?:{_SORRY})?(?:(?:but|however)\b\W*)?(?:{_AS_A_MODEL})?"
    rf"(?:{_UNABLE} (?:directly |actually )?{_TO_DO}|i (?:must|have to) decline)\b",
    re.IGNORECASE,
)


def is_refusal(text: str) -> bool:
    """Whether a reply only declines: it opens by saying that it cannot, and is short.

    "As an AI language model I cannot diagnose, but ..." followed by an answer of more than
    60 words is an answer. A server's own refusal flag counts whatever the text.
    """
    return bool(_REFUSAL.match(text.strip())) and len(text.split()) <= MOST_WORDS_OF_A_REFUSAL


def status_of(reply: ChatReply) -> AnswerStatus:
    """The status of a reply: refused, empty, truncated (cut at the token limit) or ok."""
    text = reply.text.strip()
    if reply.finish == "refused" or is_refusal(text):
        return "refused"
    if not text:
        return "empty"
    return "truncated" if reply.finish == "length" else "ok"


class Item(NamedTuple):
    """A question and the conversation that asks it (a record may bring earlier turns)."""

    question: Question
    turns: tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """How answers are drawn. ``temperature`` 0 is greedy; ``max_tokens`` counts new tokens.

    ``batch`` bounds the rows of a local model's batch, ``context`` the tokens of prompt and answer
    together, ``concurrency`` a remote model's requests in flight.
    """

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float | None = None
    top_k: int | None = None
    batch: int | None = None
    context: int | None = None
    concurrency: int = 16

    def sampling(self, seed: int) -> Sampling:
        """The sampling of every request; a greedy one has no seed."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            max_tokens=self.max_tokens,
            seed=seed if self.temperature else None,
        )


SETTINGS = {
    "alpacare": AnswerOptions(max_tokens=1024, temperature=1.0, context=1024),
    "roomy": AnswerOptions(max_tokens=2048),
}
"""Generation settings by name. ``alpacare``: as the published answers were drawn, with default
sampling and 1,024 tokens that include the prompt, so that a long prompt leaves no room (a server's
answers have 1,024 tokens of their own). ``roomy``: greedy, 2,048 new tokens."""


def settings(name: str, *, local: bool) -> AnswerOptions:
    """The settings of a name; the bound on prompt and answer together is for local models only."""
    if name not in SETTINGS:
        raise unknown("settings", name, SETTINGS)
    found = SETTINGS[name]
    return found if local else replace(found, context=None)


def answer(
    model: str,
    prompts: str,
    out: Path,
    *,
    how: AnswerOptions | None = None,
    data: Path | None = None,
    template: str | None = None,
    name: str = "",
    seed: int = 0,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Let ``model`` answer ``prompts``: a folder or file of records or questions, or a task name.

    ``data`` is the folder to search for a task's files. Raising ``limit`` continues a run.
    """
    how = how or AnswerOptions()
    subject = examined(model, template, name)
    if how.context is not None and not subject.local:
        raise UserError("--context is for hf: models; a server has its own bound")
    named, inputs = _inputs(prompts, data)
    run = open_run(
        "answer",
        out,
        options={
            **subject.options,
            "prompts": named,
            "max_tokens": how.max_tokens,
            "temperature": how.temperature,
            "top_p": how.top_p,
            "top_k": how.top_k,
            "context": how.context,
            "batch": how.batch if subject.local else None,
            "limit": limit,
        },
        inputs={**subject.inputs, **inputs},
        seed=seed,
        force=force,
    )
    if run.complete:
        return run
    items, rejected = read_items(prompts, data, limit)
    run.manifest.rows["in"] = len(items) + len(rejected)
    answering = _answer_locally if subject.local else _answer_remotely
    answering(run, subject, items, rejected, how)
    return run


def _inputs(prompts: str, data: Path | None) -> tuple[str, dict[str, Path]]:
    """What the manifest calls the prompts, and their files."""
    if _is_task(prompts):
        files = resolve(prompts, data)
        return files.name, files.inputs()
    return "prompts", {"prompts": Path(prompts)}


def _is_task(prompts: str) -> bool:
    return prompts.partition("=")[0] in TASKS and not Path(prompts).exists()


def read_items(
    prompts: str, data: Path | None, limit: int | None
) -> tuple[list[Item], list[Rejected]]:
    """The prompts with their conversations. Ids stay: a record's, a question's, a task's.

    A folder with questions gives those, else its records. ``limit`` takes the first usable ones,
    and rows behind the last of them are not looked at. In a file, a row with an instruction or
    messages is a record (its output becomes the target), one with a prompt or question a question.
    """
    if _is_task(prompts):
        questions, rejected = load(resolve(prompts, data), limit)
        return [Item(q, tuple(question_turns(q))) for q in questions], rejected
    rejected = []
    kept: dict[str, Item] = {}
    for item in _read_path(Path(prompts)):
        if limit is not None and len(kept) >= limit:
            break
        if isinstance(item, Rejected):
            rejected.append(item)
        elif item.question.id in kept:
            rejected.append(Rejected(item.question, "repeated id", item.question.id))
        else:
            kept[item.question.id] = item
    if not kept:
        raise UserError(f"{prompts} holds no prompt that could be read")
    return list(kept.values()), rejected


def _read_path(path: Path) -> Iterator[Item | Rejected]:
    """The prompts of a folder or file and its unusable rows, in order."""
    if not path.exists():
        known = ", ".join(TASKS)
        raise UserError(f"no such file, folder or task: {path}. Known tasks: {known}")
    if path.is_dir() and (path / MANIFEST).exists() and (path / FILE_OF[Question]).exists():
        yield from _questions(path)
        return
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        if "instruction" not in pq.read_schema(path).names:
            yield from _questions(path)
            return
    if all(isinstance(row, Rejected) for row in read_each(path, Record)):
        yield from _questions(path)
        return
    for row in read_each(path, Record):
        if isinstance(row, Rejected):
            yield Rejected(Question("", "", ""), row.reason, row.detail)
        else:
            yield _item_of(row, path)


def _questions(path: Path) -> Iterator[Item | Rejected]:
    for row in read_each(path, Question):
        if isinstance(row, Rejected):
            yield row
        else:
            question = row if row.task else replace(row, task=path.stem)
            yield Item(question, tuple(question_turns(question)))


def question_turns(question: Question) -> list[Turn]:
    """The conversation that asks a question: its prompt, with the choices where it has some."""
    if question.choices:
        return exam_turns(question)
    return [Turn("user", user_content(*split_content(question.prompt)))]


def _item_of(record: Record, path: Path) -> Item:
    turns = messages(record)
    question = Question(
        id=record.id,
        task=record.source or path.stem,
        prompt=turns[-1].content,
        target=record.output,
        group=record.tags.get("topic", ""),
    )
    return Item(question, tuple(turns))


# --------------------------------------------------------------------------- answering


def _made(item: Item, model: str, reply: ChatReply) -> Answer:
    return Answer(item.question.id, model, text=reply.text.strip(), status=status_of(reply))


def _answer_locally(
    run: Run, subject: Subject, items: list[Item], rejected: list[Rejected], how: AnswerOptions
) -> None:
    model = subject.open_local()
    if how.context is not None:
        model.context_length = min(model.context_length, how.context)
    if how.batch is not None:
        model.max_rows = how.batch
    sampling = how.sampling(run.manifest.seed or 0)
    with run, PartialAnswers(run) as partial:
        _generate(model, subject.name, items, sampling, partial)
        answers = partial.of(item.question.id for item in items)
        run.manifest.tokens = {"in": partial.tokens_in, "out": partial.tokens_out}
        _write(run, items, answers, rejected)
        run.finish(model=subject.name, **_counts(answers), computed_with=model.describe())
        partial.remove()


def _generate(
    model: TransformersModel,
    name: str,
    items: Sequence[Item],
    sampling: Sampling,
    partial: PartialAnswers,
) -> None:
    """Fill ``partial`` with the answers that it lacks, a batch at a time."""

    def lengths(window: range) -> list[int]:
        prompts = model.prompt_lengths([items[i].turns for i in window])
        room = sampling.max_tokens or 0
        return [min(length + room, max(model.context_length, length)) for length in prompts]

    with Progress(f"answer {name}", len(items), "answers") as progress:
        for batch in batches(len(items), lengths, model.batches):
            if partial.has(items[i].question.id for i in batch):
                progress.skip(len(batch))
                continue
            replies = model.generate([items[i].turns for i in batch], sampling)
            made = [_made(items[i], name, r) for i, r in zip(batch, replies, strict=True)]
            partial.add(made, [(r.tokens_in, r.tokens_out) for r in replies])
            progress.advance(len(batch), f"{partial.tokens_out:,} tokens")


def _answer_remotely(
    run: Run, subject: Subject, items: list[Item], rejected: list[Rejected], how: AnswerOptions
) -> None:
    model = subject.open_chat()
    sampling = how.sampling(run.manifest.seed or 0)
    requests = [ChatRequest(i.turns, sampling, label=f"answer:{i.question.id}") for i in items]
    policy = Policy(concurrency=how.concurrency)
    answers: list[Answer] = []
    with run, Journal(run.folder / JOURNAL) as journal:
        missing = 0
        with (
            Asking(model, requests, journal=journal, policy=policy) as asking,
            Progress(f"answer {subject.name}", len(items), "answers") as progress,
        ):
            for item, (_, outcome) in zip(items, asking, strict=True):
                missing += isinstance(outcome.error, NotRecorded)
                if outcome.reply is None:
                    failed = Answer(item.question.id, subject.name, status="failed")
                    answers.append(failed)
                else:
                    answers.append(_made(item, subject.name, outcome.reply))
                progress.advance(1)
            if missing == len(items):
                raise changed_prompt(Path(subject.reference), missing)
            if asking.write_failed(run.folder):
                run.wrote(FAILED)
        asking.account(run.manifest)
        if missing:
            run.manifest.warnings.append(
                f"the recording holds no reply to {plural(missing, 'prompt')}"
            )
        _write(run, items, answers, rejected)
        run.finish(
            model=subject.name,
            **_counts(answers),
            requests_from_journal=asking.counts.from_journal,
            retries=asking.counts.retries,
        )


def _write(
    run: Run, items: Sequence[Item], answers: Sequence[Answer], rejected: Sequence[Rejected]
) -> None:
    run.write([item.question for item in items], Question)
    run.write(answers, Answer)
    run.reject(rejected, Question)
    run.manifest.rows["kept"] = len(items)
    earlier = sum(len(item.turns) > 1 for item in items)
    if earlier:
        run.manifest.warnings.append(
            f"{plural(earlier, 'prompt was', 'prompts were')} asked with earlier turns; "
            "questions.parquet holds the last one"
        )


def _counts(answers: Sequence[Answer]) -> dict[str, int]:
    """How many answers have each status, every status named."""
    counts = Counter(answer.status for answer in answers)
    return {status: counts[status] for status in STATUSES}
