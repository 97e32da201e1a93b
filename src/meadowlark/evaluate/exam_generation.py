"""Exams by generation: a model writes its answer, and the extractor reads a letter from it.

What is put to the model is the chat of ``exam_prompts``. A local model answers in batches, kept as
they come; a remote one at full concurrency through the journal, so that a reply that was committed
is never asked for again. An answer from which no letter can be read stays apart from a wrong one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from meadowlark.dataset import JOURNAL, Run
from meadowlark.evaluate.answers import status_of
from meadowlark.evaluate.exam_prompts import Put
from meadowlark.evaluate.examined import Subject
from meadowlark.evaluate.extract import extract
from meadowlark.evaluate.partial import PartialAnswers, windows
from meadowlark.llm import Asking, ChatReply, ChatRequest, Journal, Policy, Sampling
from meadowlark.llm.asking import FAILED
from meadowlark.llm.errors import NotRecorded
from meadowlark.llm.local import TransformersModel
from meadowlark.llm.recorded import changed_prompt
from meadowlark.progress import Progress, plural
from meadowlark.records import Answer


def greedy(max_tokens: int) -> Sampling:
    """The sampling of every request: the likeliest token, at most so many."""
    return Sampling(temperature=0.0, max_tokens=max_tokens)


def read_reply(one: Put, model: str, reply: ChatReply | None) -> Answer:
    """A reply as an answer in the question's own letters; no reply is a failed one."""
    item = one.question.id
    if reply is None:
        return Answer(item, model, one.draw, status="failed")
    text = reply.text.strip()
    shown = extract(text, one.shown).letter
    letter = one.letter(ord(shown) - ord("A")) if shown else ""
    return Answer(item, model, one.draw, text, letter, status=status_of(reply))


def read_from(puts: Sequence[Put], answers: Sequence[Answer]) -> dict[str, dict[str, int]]:
    """By task: what the letters were read from, and why there are none (``extract.How``)."""
    found: dict[str, Counter[str]] = {}
    for one, answer in zip(puts, answers, strict=True):
        how = "failed" if answer.status == "failed" else extract(answer.text, one.shown).how
        found.setdefault(one.question.task, Counter())[how] += 1
    return {task: dict(sorted(counts.items())) for task, counts in found.items()}


def generate_locally(
    model: TransformersModel,
    name: str,
    puts: Sequence[Put],
    sampling: Sampling,
    partial: PartialAnswers,
) -> int:
    """Fill ``partial`` with the answers that it lacks, a batch at a time.

    Returns how many prompts leave no room for an answer in the context: their replies are empty.
    """
    without_room = 0
    with Progress(f"exam {name}", len(puts), "questions") as progress:
        for window in windows(len(puts), lambda i: puts[i].draw):
            found = [puts[i] for i in window]
            prompts = model.prompt_lengths([one.turns for one in found])
            without_room += sum(n >= model.context_length for n in prompts)
            room = sampling.max_tokens or 0
            most = [min(n + room, max(model.context_length, n)) for n in prompts]
            for batch in model.batches(most):
                asked = [found[i] for i in batch]
                if partial.has((one.question.id for one in asked), asked[0].draw):
                    progress.skip(len(asked))
                    continue
                replies = model.generate([one.turns for one in asked], sampling)
                partial.add(
                    [read_reply(o, name, r) for o, r in zip(asked, replies, strict=True)],
                    [(reply.tokens_in, reply.tokens_out) for reply in replies],
                )
                progress.advance(len(asked), f"{partial.tokens_out:,} tokens")
    return without_room


def generate_remotely(
    run: Run,
    subject: Subject,
    puts: Sequence[Put],
    sampling: Sampling,
    concurrency: int,
) -> list[Answer]:
    """The answers of a model behind a server (or of a recording), in order."""
    model = subject.open_chat()
    requests = [
        ChatRequest(one.turns, sampling, label=f"exam:{one.question.id}:{one.draw}") for one in puts
    ]
    answers: list[Answer] = []
    missing = 0
    with (
        Journal(run.folder / JOURNAL) as journal,
        Asking(model, requests, journal=journal, policy=Policy(concurrency=concurrency)) as asking,
        Progress(f"exam {subject.name}", len(puts), "questions") as progress,
    ):
        for one, (_, outcome) in zip(puts, asking, strict=True):
            missing += isinstance(outcome.error, NotRecorded)
            answers.append(read_reply(one, subject.name, outcome.reply))
            progress.advance(1)
        if missing == len(puts):
            raise changed_prompt(Path(subject.reference), missing)
        if asking.write_failed(run.folder):
            run.wrote(FAILED)
        asking.account(run.manifest)
        run.manifest.results["requests_from_journal"] = asking.counts.from_journal
        run.manifest.results["retries"] = asking.counts.retries
    if asking.counts.failed:
        run.manifest.warnings.append(
            f"{plural(asking.counts.failed, 'question')} got no reply from the model: counted as "
            f"wrong ({FAILED} says why); --force asks again and keeps the other replies"
        )
    if missing:
        run.manifest.warnings.append(
            f"the recording holds no reply to {plural(missing, 'question')}"
        )
    return answers
