"""ChatDoctor: patients' descriptions and doctors' answers.

Raw form: a JSON list of instruction, input and output. GenMedGPT-5k, HealthCareMagic-100k and
iCliniq share it; iCliniq's three answer columns are read by their best known author.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.layouts import read_json
from meadowlark.records import Record, Rejected
from meadowlark.sources.raw import SHOWN, text, unreadable
from meadowlark.sources.source import HubSet, Source, checked

INSTRUCTION = "Answer as a doctor, from the patient's description."
ANSWERS = ("output", "answer_icliniq")


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a consultation; surrounding white space is removed."""
    yield from checked(map(_row, read_json(raw, list)))


def hub_rows(items: Iterable[Mapping[str, Any]]) -> Iterator[Record | Rejected]:
    """Consultations as the hub has them, in the same columns."""
    yield from checked(map(_row, items))


def _row(consultation: Any) -> Record | Rejected:
    if not isinstance(consultation, Mapping):
        return unreadable("not a JSON object", json.dumps(consultation)[:SHOWN])
    instruction = text(consultation.get("instruction")) or INSTRUCTION
    question = text(consultation.get("input"))
    answers = [consultation[name] for name in ANSWERS if consultation.get(name)]
    answer = text(answers[0]) if answers else ""
    record = SOURCE.record(instruction, question, answer, type="chat", view="patient")
    return record if question else Rejected(record, "no question")


SOURCE: Source = Source(
    name="chatdoctor",
    title="ChatDoctor (GenMedGPT-5k; HealthCareMagic and iCliniq in the same form)",
    origin="github.com/Kent0n-Li/ChatDoctor",
    licence="LicenseRef-ChatDoctor",
    obligations=(
        "The repository is under Apache-2.0. GenMedGPT-5k was written by ChatGPT, whose terms bar "
        "competing models; the other two were collected from web sites whose terms are not stated. "
        "Research use."
    ),
    citation="Li et al. 2023, ChatDoctor, Cureus 15(6)",
    raw="a JSON list of {instruction, input, output} (chatdoctor5k.json)",
    size="5,452 rows (GenMedGPT-5k)",
    rows=rows,
    verified="real files (GenMedGPT-5k); schema only for HealthCareMagic and iCliniq",
    defects=(
        "Many patients differ by a few words: filter the field input.",
        "Answers are a model's, not a clinician's (GenMedGPT-5k).",
    ),
    hub=(
        HubSet(
            "lavita/ChatDoctor-HealthCareMagic-100k",
            hub_rows,
            revision="505443eac4e99ccedeffbb6f640061223d1d4bb3",
        ),
        HubSet("lavita/ChatDoctor-iCliniq", hub_rows),
    ),
)
