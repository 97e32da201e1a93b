"""PubMed causal language: conclusion sentences of abstracts, labelled by the kind of causal claim.

Raw form: a CSV of sentence and label (Yu, Li and Wang 2019). The raw labels are 0 no relationship,
1 direct causal, 2 conditional causal, 3 correlational. Medical Meadow's published copy permuted
its label texts against these; the texts here follow the raw labels.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.source import Source, checked

INSTRUCTION = (
    "Which kind of relationship does the text describe? "
    "Choose one: no relationship, directly causal, conditionally causal, correlational."
)
LABELS = {
    "0": "no relationship",
    "1": "directly causal",
    "2": "conditionally causal",
    "3": "correlational",
}


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a labelled sentence; the answer names the label in words."""
    with raw.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames is None or not {"sentence", "label"} <= set(reader.fieldnames):
            raise UserError(f"{raw} must have the columns sentence and label")
        yield from checked(_row(line) for line in reader)


def _row(line: dict[str, str | None]) -> Record | Rejected:
    sentence, label = (line["sentence"] or "").strip(), (line["label"] or "").strip()
    if label not in LABELS:
        bad = SOURCE.record(INSTRUCTION, sentence, "")
        return Rejected(bad, "unknown label", f"label {label!r}")
    if not sentence:
        return Rejected(SOURCE.record(INSTRUCTION, "", LABELS[label]), "no question")
    answer = f"The text describes {_article(LABELS[label])}."
    return SOURCE.record(INSTRUCTION, sentence, answer, label=label, type="classification")


def _article(label: str) -> str:
    return label if label.startswith("no ") else f"a {label} relationship"


SOURCE = Source(
    name="pubmed_causal",
    title="PubMed causal language",
    origin="github.com/junwang4/causal-language-use-in-science",
    licence="GPL-3.0-only",
    obligations="Copyleft: pass the rows and what is made of them on under GPL-3.0.",
    citation="Yu, Li and Wang 2019, Detecting Causal Language Use in Science Findings, EMNLP",
    raw="a CSV with the columns sentence and label (pubmed_causal_language_use.csv)",
    size="3,061 sentences",
    rows=rows,
    defects=(
        "Medical Meadow's published copy permutes the label texts against the raw annotation; "
        "rows converted here follow the raw labels and so differ from that copy on purpose.",
        "6 rows are exact copies of another (mix drops them).",
    ),
    hub=("medalpaca/medical_meadow_pubmed_causal",),
)
