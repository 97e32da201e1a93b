"""PubMed causal language: conclusion sentences of abstracts, labelled by the kind of causal claim.

Raw form: a CSV of sentence and label (Yu, Li and Wang 2019). The raw labels are 0 no relationship,
1 direct causal, 2 conditional causal, 3 correlational.

Medical Meadow's published copy permuted its label texts against these. Its instruction numbers the
texts 0 to 3, and each answer is the text whose number is one above the raw label's, 3 becoming 2:
its first row (raw label 0) is answered "directly correlative", and the answers of its first hundred
rows, 49, 24, 18 and 9, are distributed as the raw labels 0, 3, 1 and 2 are (44, 33, 16 and 7 %).
Rows of that copy are therefore read back to the raw labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.records import Record, Rejected
from meadowlark.sources.raw import csv_rows, text
from meadowlark.sources.source import WORDING, HubSet, Source

INSTRUCTION = (
    "Which kind of relationship does the text describe? "
    "Choose one: no relationship, directly causal, conditionally causal, correlational."
)
PUBLISHED = (
    "Question: Is this describing a (1) directly correlative relationship, (2) conditionally "
    "causative relationship, (3) causative relationship, or (0) no relationship."
)
LABELS = {
    "0": "no relationship",
    "1": "directly causal",
    "2": "conditionally causal",
    "3": "correlational",
}
IN_PUBLISHED_ORDER = (
    ("conditionally causative", "3"),
    ("directly correlative", "0"),
    ("causative", "2"),
    ("no relationship", "1"),
)
"""Texts of the published copy's answers, and the raw label of a row that has them."""


def rows(raw: Path, wording: str = "ours") -> Iterator[Record | Rejected]:
    """One record a labelled sentence; the answer names the label in words.

    The published wording keeps that copy's instruction, whose names of the labels differ; the
    answer then bears the right one of them.
    """
    for line in csv_rows(raw, ("sentence", "label")):
        if isinstance(line, Rejected):
            yield line
        else:
            yield _row(line["sentence"], line["label"], wording)


def hub_rows(
    items: Iterable[Mapping[str, Any]], wording: str = "ours"
) -> Iterator[Record | Rejected]:
    """The published copy's sentences under their raw labels."""
    for item in items:
        answer = text(item["output"])
        found = [label for words, label in IN_PUBLISHED_ORDER if words in answer]
        yield _row(text(item["input"]), found[0] if found else answer, wording)


def _row(sentence: str, label: str, wording: str) -> Record | Rejected:
    instruction = INSTRUCTION if wording == "ours" else PUBLISHED
    if label not in LABELS:
        bad = SOURCE.record(instruction, sentence, "")
        return Rejected(bad, "unknown label", f"label {label!r}")
    if not sentence:
        return Rejected(SOURCE.record(instruction, "", LABELS[label]), "no question")
    answer = _ours(label) if wording == "ours" else _published(label)
    return SOURCE.record(instruction, sentence, answer, label=label, type="classification")


def _ours(label: str) -> str:
    name = LABELS[label]
    return f"The text describes {name if label == '0' else f'a {name} relationship'}."


def _published(label: str) -> str:
    """The published copy's own phrase for what the raw label says."""
    phrases = {
        "0": "This no relationship.",
        "1": "This is a causative relationship",
        "2": "This is a conditionally causative relationship",
        "3": "This is a directly correlative relationship",
    }
    return phrases[label]


SOURCE: Source = Source(
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
        "Medical Meadow's published copy (2,446 rows) permutes the label texts against the raw "
        "annotation; rows converted here follow the raw labels and so differ from that copy on "
        "purpose. Rows of that copy are put right by the permutation, which was inferred.",
        "6 rows are exact copies of another (mix drops them).",
    ),
    settings={"wording": WORDING},
    hub=(
        HubSet(
            "medalpaca/medical_meadow_pubmed_causal",
            hub_rows,
            revision="8a80e781d33544d22b95d26a8d68cafbe8a6470e",
        ),
    ),
    signs=("sentence,label",),
)
