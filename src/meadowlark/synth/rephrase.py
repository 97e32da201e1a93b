"""``rephrase``: medAlpaca's conversions by a model (PAPERS.md, section 2), with a check of each.

``flashcard``: a card in note form becomes a question and an answer in full sentences. ``heading``:
a page's title, heading and paragraph become a question; the paragraph is the answer, unchanged.
What does not say what the card said (``meaning``) is asked for again and then rejected.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from meadowlark.dataset import Run
from meadowlark.errors import unknown
from meadowlark.llm import ChatModel, ChatReply, Estimate, Policy, Price, Sampling
from meadowlark.records import Record, Rejected, Turn
from meadowlark.synth import meaning
from meadowlark.synth.prompts import prompt_hash, text_of
from meadowlark.synth.replies import fault_of
from meadowlark.synth.rewriting import Job, estimate_rewriting, rewrite

SAMPLING = Sampling(temperature=0.3, max_tokens=400)
"""Little freedom: the words of a card are to be kept. Some, so that a second try is another."""
INSTRUCTION = "Answer this medical question."
LONGEST_QUESTION = 300
"""Characters of a question made from a heading; a longer one tells the answer."""
_GAP = re.compile(r"_{3,}(?: \([^)]*\))?")
_ABOUT_GAPS = re.compile(r"(?i)\b(?:gaps?|blanks?|complete|statement)\b")
_PAIR = re.compile(r"\W*Question\W*?:\**\s*(.+?)\s*\n\W*Answer\W*?:\**\s*(.+?)\s*", re.S | re.I)
_SENTENCE = re.compile(r"[A-Z0-9(\"'“‘α-ω].*[.!?][)\"'”’]?", re.S)


@dataclass(frozen=True, slots=True)
class Style:
    """A conversion: its prompt file, what is shown of a record, and what its reply makes of it."""

    prompt: str
    shows: Callable[[Record], str | Rejected]
    makes: Callable[[Record, str], Record | tuple[str, str]]


def rephrase(
    data: Path,
    teacher: str,
    out: Path,
    *,
    style: str,
    sampling: Sampling = SAMPLING,
    retries: int = 1,
    policy: Policy | None = None,
    price: Price | None = None,
    models: Path | None = None,
    limit: int | None = None,
    force: bool = False,
    model: ChatModel | None = None,
) -> Run:
    """Rewrite the records of ``data`` in a ``style`` of :data:`STYLES`.

    The other options are those of :func:`~meadowlark.synth.rewriting.rewrite`.
    """
    return rewrite(
        _job(style, sampling),
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


def estimate_rephrasing(
    data: Path,
    teacher: str,
    out: Path,
    *,
    style: str,
    sampling: Sampling = SAMPLING,
    policy: Policy | None = None,
    price: Price | None = None,
    models: Path | None = None,
    limit: int | None = None,
    model: ChatModel | None = None,
) -> Estimate:
    """What :func:`rephrase` would send at least: one request for each row that can be rewritten."""
    return estimate_rewriting(
        _job(style, sampling),
        data,
        teacher,
        out,
        policy=policy,
        price=price,
        models=models,
        limit=limit,
        model=model,
    )


def _job(style: str, sampling: Sampling) -> Job:
    if style not in STYLES:
        raise unknown("style", style, STYLES)
    chosen = STYLES[style]
    system = Turn("system", text_of(chosen.prompt))

    def asks(record: Record) -> tuple[Turn, ...] | Rejected:
        shown = chosen.shows(record)
        return shown if isinstance(shown, Rejected) else (system, Turn("user", shown))

    def makes(record: Record, reply: ChatReply) -> Record | tuple[str, str]:
        fault = fault_of(reply)
        return (fault, reply.text) if fault else chosen.makes(record, reply.text.strip())

    return Job(
        "rephrase",
        {"style": style, "prompt_text": prompt_hash(chosen.prompt)},
        asks,
        makes,
        sampling,
        unit="rows",
        passed="passed_unchanged",
        mended="good_when_asked_again",
    )


# --------------------------------------------------------------------------- flashcard


def _card(record: Record) -> tuple[str, str]:
    """Front and back of a card; of a cloze card the whole statement, and what fills its gap."""
    front = record.input or record.instruction
    return _GAP.sub(lambda _: record.output, front), record.output


def _show_card(record: Record) -> str | Rejected:
    if not record.output:
        return Rejected(record, "no back")
    return f"Front: {record.input or record.instruction}\nBack: {record.output}"


def _make_card(record: Record, reply: str) -> Record | tuple[str, str]:
    found = _PAIR.fullmatch(reply)
    if found is None:
        return "no question and answer", reply
    question, answer = found[1].strip("* "), found[2].strip("* ")
    if not question.endswith("?"):
        return "no question", reply
    if not _SENTENCE.fullmatch(answer) or " " not in answer:
        return "not a full sentence", reply
    fault = meaning.changed(*_card(record), question, answer)
    if fault is not None:
        return fault.reason, f"{fault.detail}; {reply}"
    tags = dict(record.tags)
    if tags.get("type") == "cloze":
        tags["type"] = "open Q&A"
    if not record.input:
        return record.evolve(instruction=question, output=answer, tags=tags)
    asked = INSTRUCTION if _ABOUT_GAPS.search(record.instruction) else record.instruction
    return record.evolve(instruction=asked, input=question, output=answer, tags=tags)


# --------------------------------------------------------------------------- heading


def _show_heading(record: Record) -> str | Rejected:
    title = record.tags.get("topic", "")
    if not title or not record.output:
        return Rejected(record, "no page title" if not title else "no paragraph")
    heading = record.tags.get("heading") or "Overview"
    return f"Title: {title}\nHeading: {heading}\nParagraph:\n{record.output}"


def _make_heading(record: Record, reply: str) -> Record | tuple[str, str]:
    question = re.sub(r"(?i)^\W*question\W*?:\s*", "", reply).strip("* ")
    if "\n" in question or not question.endswith("?"):
        return "no question", reply
    if len(question) > LONGEST_QUESTION:
        return "question too long", reply
    title = record.tags["topic"]
    page = f"{title}\n{record.tags.get('heading', '')}\n{record.output}"
    subject = re.sub(r"\([^)]*\)", "", title)
    fault = meaning.lost(subject, question) or meaning.invented(page, question)
    if fault is not None:
        return fault.reason, f"{fault.detail}; {reply}"
    if record.input:
        return record.evolve(input=question)
    return record.evolve(instruction=question)


STYLES: Mapping[str, Style] = {
    "flashcard": Style("rephrase_flashcard.txt", _show_card, _make_card),
    "heading": Style("rephrase_heading.txt", _show_heading, _make_heading),
}
