"""MedInstruct: AlpaCare's instructions, by GPT-4 from clinicians' seeds, answered by GPT-3.5.

Raw form: MedInstruct-52k.json, a JSON list of instruction, input and output; an absent input is
written <noinput>.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.layouts import absent_to_empty, read_json
from meadowlark.records import Record, Rejected
from meadowlark.sources.raw import SHOWN, text, unreadable
from meadowlark.sources.source import Source, checked

TAGS = ("topic", "view", "type", "difficulty")


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a task."""
    yield from checked(map(_row, read_json(raw, list)))


def _row(item: Any) -> Record | Rejected:
    if not isinstance(item, Mapping):
        return unreadable("not a JSON object", json.dumps(item)[:SHOWN])
    record = SOURCE.record(
        text(item.get("instruction")),
        absent_to_empty(text(item.get("input"))),
        text(item.get("output")),
        **{name: text(item.get(name)) for name in TAGS},
    )
    return record if record.instruction else Rejected(record, "no question")


SOURCE: Source = Source(
    name="medinstruct",
    title="MedInstruct-52k",
    origin="github.com/XZhang97666/AlpaCare",
    licence="CC-BY-NC-4.0",
    obligations="Name the authors; no commercial use. OpenAI's terms hold for its models' words.",
    citation="Zhang et al. 2023, AlpaCare, arXiv:2310.14558",
    raw="MedInstruct-52k.json",
    size="52,002 rows",
    rows=rows,
    verified="schema only, never run on real files",
    defects=("Answers are a model's, not a clinician's, cut off at its output limit at times.",),
)
