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
    "overview": "What is {}?",
    "symptoms": "What are the symptoms of {}?",
    "causes": "What causes {}?",
    "risk factors": "Who is at higher risk of {}?",
    "diagnosis": "How is {} diagnosed?",
    "treatment": "How is {} treated?",
    "when to seek care": "When should I seek care for {}?",
    "prevention": "How can {} be prevented?",
    "outlook": "What is the outlook for someone with {}?",
}


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a heading of a condition."""
    with raw.open(encoding="utf-8") as lines:
        yield from checked(_row(line) for line in lines if line.strip())


def _row(line: str) -> Record | Rejected:
    try:
        raw = json.loads(line)
        condition, heading, text = raw["condition"], raw["heading"], raw["text"]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        return Rejected(Record(""), "not a patient question", f"{error}: {line.strip()}")
    if heading not in QUESTIONS:
        return Rejected(Record(""), "unknown heading", f"{heading!r}")
    question = QUESTIONS[heading].format(_in_sentence(condition))
    return SOURCE.record(
        INSTRUCTION, question, text, topic=condition, type="open Q&A", view="patient"
    )


def _in_sentence(condition: str) -> str:
    """A condition's name inside a sentence: lower case unless it is a name or an abbreviation."""
    first = condition.split()[0]
    return condition if first[1:] != first[1:].lower() else condition[0].lower() + condition[1:]


SOURCE = Source(
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
