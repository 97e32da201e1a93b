"""PubMed health advice: sentences of abstracts, labelled by how strongly they advise.

Raw form: the two CSV files of Li, Wang and Yu (2021), with the columns label and sentence. The raw
labels are 0 no advice, 1 weak advice, 2 strong advice.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.raw import csv_rows
from meadowlark.sources.source import HubSet, Source, instruction_rows

INSTRUCTION = (
    "How strongly does this sentence advise a practice? "
    "Choose one: no advice, weak advice, strong advice."
)
LABELS = {"0": "no advice", "1": "weak advice", "2": "strong advice"}


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a labelled sentence, of one file or of all annotation files of a folder."""
    paths = sorted(raw.glob("annotations_*.csv")) if raw.is_dir() else [raw]
    if not paths:
        raise UserError(f"{raw} holds no annotations_*.csv")
    for path in paths:
        for line in csv_rows(path, ("label", "pmid", "sentence")):
            if isinstance(line, Rejected):
                yield line._replace(detail=f"{path.name}, {line.detail}")
                continue
            label, sentence = line["label"], line["sentence"]
            answer = f"The sentence gives {LABELS.get(label, '')}."
            record = SOURCE.record(
                INSTRUCTION,
                sentence,
                answer if label in LABELS else "",
                label=label,
                pmid=line["pmid"],
                type="classification",
            )
            if label not in LABELS:
                yield Rejected(record, "unknown label", f"label {label!r}")
            elif not sentence:
                yield Rejected(record, "no question")
            else:
                yield record


SOURCE: Source = Source(
    name="health_advice",
    title="PubMed health advice",
    origin="github.com/junwang4/detecting-health-advice",
    licence="LicenseRef-health-advice",
    obligations="The repository states no licence: research use only, until its authors say more.",
    citation="Li, Wang and Yu 2021, Detecting Health Advice in Medical Research Literature, EMNLP",
    raw="a folder of annotations_*.csv, or one of them (columns label, pmid, sentence)",
    size="6,916 sentences in the two files",
    rows=rows,
    defects=(
        "Most sentences give no advice: a model that always says so is right for most rows.",
        "Medical Meadow's copy has 8,676 rows; which were left out is not known.",
    ),
    hub=(HubSet("medalpaca/medical_meadow_health_advice", instruction_rows(lambda: SOURCE)),),
    signs=("label,pmid,sentence",),
)
