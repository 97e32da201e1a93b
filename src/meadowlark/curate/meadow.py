"""Medical Meadow's table as medAlpaca's README published it, to stand beside what was rebuilt.

PAPERS.md, section 2. 1,499,176 rows in all, 229,438 of them used for training. MedQA is on the
collection's data card only, so that it is in neither total.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from meadowlark.records import Record


@dataclass(frozen=True, slots=True)
class Published:
    """One row of the table: ``rows`` in the collection, ``used`` of them for training.

    Its records are those of ``source`` whose tag (``site`` or ``step``) has ``value``, where that
    divides a source. ``counted`` says that the totals have it.
    """

    title: str
    source: str
    rows: int
    used: int
    tag: str = ""
    value: str = ""
    counted: bool = True

    def has(self, source: str, tag_value: str) -> bool:
        """Whether records of a source with this value of the row's tag belong to the row."""
        return source == self.source and self.value in ("", tag_value)


def _site(name: str, rows: int) -> Published:
    return Published(f"Stack Exchange {name}", "stackexchange", rows, rows, "site", name)


def _step(number: int, rows: int) -> Published:
    source, step = "usmle_self_assessment", f"step{number}"
    return Published(f"USMLE self-assessment, step {number}", source, rows, 0, "step", step)


TABLE: tuple[Published, ...] = (
    Published("Medical flashcards", "medical_flashcards", 33_955, 33_955),
    Published("WikiDoc living textbook", "wikidoc", 67_704, 10_000),
    Published("WikiDoc patient information", "wikidoc_patient_information", 5_942, 5_942),
    _site("academia", 40_865),
    _site("biology", 27_887),
    _site("fitness", 9_833),
    _site("health", 7_721),
    _site("bioinformatics", 5_407),
    _step(1, 119),
    _step(2, 120),
    _step(3, 135),
    Published("MEDIQA", "mediqa", 2_208, 2_208),
    Published("CORD-19", "cord19", 1_056_660, 50_000),
    Published("MMLU, medical", "mmlu_medical", 3_787, 3_787),
    Published("PubMed health advice", "health_advice", 10_178, 10_178),
    Published("PubMed causal", "pubmed_causal", 2_446, 2_446),
    Published("ChatDoctor", "chatdoctor", 215_000, 10_000),
    Published("OpenAssistant", "oasst", 9_209, 9_209),
    Published("MedQA (data card only)", "medqa", 10_178, 10_178, counted=False),
)


def rebuilt(records: Iterable[Record]) -> dict[str, int]:
    """How many records belong to each row of the table that has any, by its title."""
    tags = {row.source: row.tag for row in TABLE}
    counts = Counter(
        (record.source, record.tags.get(tags[record.source], ""))
        for record in records
        if record.source in tags
    )
    found = {row.title: sum(n for key, n in counts.items() if row.has(*key)) for row in TABLE}
    return {title: rows for title, rows in found.items() if rows}


def totals() -> tuple[int, int]:
    """Published rows and those used, of all that is counted."""
    counted = [row for row in TABLE if row.counted]
    return sum(row.rows for row in counted), sum(row.used for row in counted)
