"""``respond``: a teacher's answers to tasks (AlpaCare, PAPERS.md section 1, "Responses").

Records without an output come in and go out with one; records that have one pass unchanged. The
order is kept. Refusals, cut and empty replies, and multiple choice without the closing form are
asked again, and rejected with the reason when that did not help (``rewriting``).
"""

from __future__ import annotations

from pathlib import Path

from meadowlark.dataset import Run
from meadowlark.errors import unknown
from meadowlark.llm import ChatModel, ChatReply, Estimate, Policy, Price, Sampling
from meadowlark.records import Record, Turn
from meadowlark.synth.prompts import RESPOND_PROMPTS, prompt_hash, response_turns
from meadowlark.synth.replies import CHOICE_TYPES, choices_of, closing_letter, fault_of
from meadowlark.synth.rewriting import Job, estimate_rewriting, rewrite

SAMPLING = Sampling(temperature=1.0, presence_penalty=1.5, max_tokens=600)
"""AlpaCare's, but for the longest reply: the paper's 300 tokens cut many answers short."""


def respond(
    data: Path,
    teacher: str,
    out: Path,
    *,
    prompt: str = "data",
    sampling: Sampling = SAMPLING,
    retries: int = 1,
    policy: Policy | None = None,
    price: Price | None = None,
    models: Path | None = None,
    limit: int | None = None,
    force: bool = False,
    model: ChatModel | None = None,
) -> Run:
    """Write the outputs of ``data`` with ``teacher``; raising ``limit`` or the budget goes on.

    ``prompt`` picks the system prompt: ``data``, ``icliniq`` or ``test``. The other options are
    those of :func:`~meadowlark.synth.rewriting.rewrite`.
    """
    return rewrite(
        _job(prompt, sampling),
        data,
        teacher,
        out,
        retries=retries,
        policy=policy,
        price=price,
        models=models,
        limit=limit,
        force=force,
        model=model,
    )


def estimate_responses(
    data: Path,
    teacher: str,
    out: Path,
    *,
    prompt: str = "data",
    sampling: Sampling = SAMPLING,
    policy: Policy | None = None,
    price: Price | None = None,
    models: Path | None = None,
    limit: int | None = None,
    model: ChatModel | None = None,
) -> Estimate:
    """What :func:`respond` would send at least: one request for each row without an output."""
    return estimate_rewriting(
        _job(prompt, sampling),
        data,
        teacher,
        out,
        policy=policy,
        price=price,
        models=models,
        limit=limit,
        model=model,
    )


def _job(prompt: str, sampling: Sampling) -> Job:
    if prompt not in RESPOND_PROMPTS:
        raise unknown("prompt", prompt, RESPOND_PROMPTS)

    def asks(record: Record) -> tuple[Turn, ...] | Record:
        return record if record.output.strip() else response_turns(record, prompt)

    return Job(
        "respond",
        {"prompt": prompt, "prompt_text": prompt_hash(RESPOND_PROMPTS[prompt])},
        asks,
        _answered,
        sampling,
        unit="tasks",
        passed="had_an_output_before",
        mended="answered_when_asked_again",
    )


def _answered(record: Record, reply: ChatReply) -> Record | tuple[str, str]:
    fault = _fault(record, reply)
    return (fault, reply.text) if fault else record.evolve(output=reply.text.strip())


def _fault(record: Record, reply: ChatReply) -> str:
    """Why a reply is no usable answer to a record; empty for one that is."""
    fault = fault_of(reply)
    if fault or record.tags.get("type") not in CHOICE_TYPES:
        return fault
    choices = choices_of(f"{record.instruction}\n{record.input}")
    if not choices:
        return ""
    letter = closing_letter(reply.text)
    if not letter:
        return "no closing answer"
    return "" if letter in choices else "closing answer is no choice"
