"""``respond``: a teacher's answers to tasks (AlpaCare, PAPERS.md section 1, "Responses").

Records without an output come in and go out with one; records that have one pass unchanged. The
order is kept. Refusals, cut and empty replies, and multiple choice without the closing form are
rejected with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from meadowlark.dataset import JOURNAL, Run, open_run, read
from meadowlark.errors import unknown
from meadowlark.llm import (
    Asking,
    ChatModel,
    ChatRequest,
    Journal,
    Policy,
    Sampling,
    identify,
    open_chat_model,
)
from meadowlark.llm.dispatch import FAILED, Outcome
from meadowlark.llm.errors import NotRecorded
from meadowlark.llm.recorded import changed_prompt
from meadowlark.progress import Progress
from meadowlark.records import Record, Rejected
from meadowlark.synth.prompts import RESPOND_PROMPTS, prompt_hash, response_turns
from meadowlark.synth.replies import CHOICE_TYPES, closing_letter, fault_of, has_choices


def respond(
    data: Path,
    teacher: str,
    out: Path,
    *,
    prompt: str = "data",
    temperature: float = 1.0,
    presence_penalty: float = 1.5,
    max_tokens: int = 600,
    concurrency: int = 5,
    limit: int | None = None,
    force: bool = False,
    model: ChatModel | None = None,
) -> Run:
    """Write the outputs of ``data`` with ``teacher``; raising ``limit`` later goes on.

    ``max_tokens`` is 600, the paper's 300 cut many answers short. ``prompt`` picks the system
    prompt: ``data``, ``icliniq`` or ``test``. ``model`` stands in for opening ``teacher``.
    """
    if prompt not in RESPOND_PROMPTS:
        raise unknown("prompt", prompt, RESPOND_PROMPTS)
    named, files = identify(teacher)
    run = open_run(
        "respond",
        out,
        options={
            "teacher": named,
            "prompt": prompt,
            "prompt_text": prompt_hash(RESPOND_PROMPTS[prompt]),
            "temperature": temperature,
            "presence_penalty": presence_penalty,
            "max_tokens": max_tokens,
            "limit": limit,
        },
        inputs={"data": data, **files},
        force=force,
    )
    if run.complete:
        return run
    records, rejected = read(data, Record, limit)
    sampling = Sampling(
        temperature=temperature, max_tokens=max_tokens, presence_penalty=presence_penalty
    )
    model = model or open_chat_model(teacher)
    kept: list[Record] = []
    with run, Journal(run.folder / JOURNAL) as journal:
        requests = _requests(records, prompt, sampling)
        policy = Policy(concurrency=concurrency, look_ahead=max(64, 8 * concurrency))
        with Asking(model, requests, journal=journal, policy=policy) as asking:
            missing = _collect(asking, records, kept, rejected)
            if missing and not asking.counts.requests:
                raise changed_prompt(files["recording"], missing)
            if asking.write_failed(run.folder):
                run.wrote(FAILED)
        run.write(kept, Record)
        run.reject(rejected, Record)
        run.manifest.rows["in"] = len(kept) + len(rejected)
        run.manifest.tokens = asking.counts.tokens()
        if missing:
            run.manifest.warnings.append(f"the recording holds no reply to {missing:,} tasks")
        had = sum(bool(record.output) for record in records)
        run.finish(
            teacher=model.name,
            calls=f"{asking.counts}{journal.interruption}",
            **({"had_an_output_before": had} if had else {}),
        )
    return run


def _requests(records: list[Record], prompt: str, sampling: Sampling) -> Iterator[ChatRequest]:
    for record in records:
        if not record.output:
            turns = response_turns(record, prompt)
            yield ChatRequest(turns, sampling, label=f"respond:{record.id}")


def _collect(
    asking: Asking, records: list[Record], kept: list[Record], rejected: list[Rejected]
) -> int:
    """Fill ``kept`` and ``rejected`` in the order of ``records``; returns how many no reply had."""
    missing = 0
    outcomes = iter(asking)
    with Progress("respond", len(records), "tasks") as progress:
        for record in records:
            if record.output:
                kept.append(record)
            else:
                _, outcome = next(outcomes)
                missing += isinstance(outcome.error, NotRecorded)
                made = _answered(record, outcome)
                if isinstance(made, Record):
                    kept.append(made)
                else:
                    rejected.append(made)
            progress.advance(1, f"{len(rejected)} rejected")
    return missing


def _answered(record: Record, outcome: Outcome) -> Record | Rejected:
    """The record with its output, or why there is none."""
    reply = outcome.reply
    if reply is None:
        return Rejected(record, f"failed: {outcome.reason}", str(outcome.error))
    fault = fault_of(reply)
    if fault:
        return Rejected(record, fault, reply.text)
    asks_for_choice = record.tags.get("type") in CHOICE_TYPES and has_choices(
        f"{record.instruction}\n{record.input}"
    )
    if asks_for_choice and not closing_letter(reply.text):
        return Rejected(record, "no closing answer", reply.text)
    return record.evolve(output=reply.text.strip())
