"""Patient questions: a small encyclopedia for patients that was written for this project.

Raw form: JSON lines of condition, heading and text; the headings become questions. It ships with
the package so that the demo and a first try need no download. Not clinically reviewed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from meadowlark.records import Record, Rejected
from meadowlark.sources.source import Source, checked

INSTRUCTION = "Answer this question truthfully."
QUESTIONS = {
    "overview": "What {is} {condition}?",
    "symptoms": "What are the symptoms of {condition}?",
    "causes": "What causes {condition}?",
    "risk factors": "Who is at higher risk of {condition}?",
    "diagnosis": "How {is} {condition} diagnosed?",
    "treatment": "How {is} {condition} treated?",
    "when to seek care": "When should I seek care for {condition}?",
    "prevention": "How can {condition} be prevented?",
    "outlook": "What is the outlook for someone with {condition}?",
}
COUNTED = ("attack", "stroke", "cataract", "infection")
"""Last words of conditions that one has one of: a stroke, but asthma."""


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a heading of a condition."""
    with raw.open(encoding="utf-8") as lines:
        yield from checked(_row(line) for line in lines if line.strip())


def _row(line: str) -> Record | Rejected:
    try:
        raw = json.loads(line)
        condition, heading, text = (
            str(raw[key]).strip() for key in ("condition", "heading", "text")
        )
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        return Rejected(Record(""), "not a patient question", f"{error}: {line.strip()}")
    if not condition:
        return Rejected(SOURCE.record(INSTRUCTION, "", text), "no question")
    if heading not in QUESTIONS:
        return Rejected(SOURCE.record(INSTRUCTION, "", text), "unknown heading", f"{heading!r}")
    verb = "are" if condition.endswith("stones") else "is"
    question = QUESTIONS[heading].format(**{"is": verb, "condition": _in_sentence(condition)})
    return SOURCE.record(
        INSTRUCTION, question, text, topic=condition, type="open Q&A", view="patient"
    )


def _in_sentence(condition: str) -> str:
    """A condition's name inside a sentence: its article if it needs one, lower case unless it is
    an abbreviation."""
    words = condition.split()
    if words[0][1:] == words[0][1:].lower():
        condition = condition[0].lower() + condition[1:]
    if words[-1] not in COUNTED:
        return condition
    # "a urinary": the first sound counts, and no condition here opens with a vowel that is heard.
    return f"a {condition}"


SOURCE: Source = Source(
    name="patient_questions",
    title="Patient questions, written for this project",
    origin="shipped with meadowlark",
    licence="Apache-2.0",
    obligations="None beyond the licence. Not clinically reviewed: for trying the software only.",
    citation="none",
    raw="JSON lines of {condition, heading, text}",
    size="180 rows",
    rows=rows,
    verified="real files (its own)",
    defects=("Written by the developers, not by clinicians.",),
    shipped=Path(__file__).parents[1] / "demo" / "patient_questions.jsonl",
)
