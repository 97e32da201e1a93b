"""WikiDoc patient information: questions and answers from the encyclopedia's pages for patients.

Raw form: the JSON list of instruction, input and output that medAlpaca published as its small set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from meadowlark.dataset import read
from meadowlark.records import Record, Rejected
from meadowlark.sources.source import HubSet, Source, checked, instruction_rows


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a row; the published instruction is kept as it is."""
    records, rejected = read(raw, Record)
    yield from rejected
    made = (
        dataclasses.replace(record, source=SOURCE.name, licence=SOURCE.licence, tags={})
        for record in records
    )
    yield from checked(made)


SOURCE: Source = Source(
    name="wikidoc_patient_information",
    title="WikiDoc patient information",
    origin="wikidoc.org, pages for patients; published by medAlpaca as its small set",
    licence="CC-BY-SA",
    obligations=(
        "Name WikiDoc; share what you make of it under the same licence. As far as known: which "
        "version of CC BY-SA holds was not verified, and the repository that published the file is "
        "under GPL-3.0, which may bind whoever passes that file on."
    ),
    citation="Han et al. 2023, MedAlpaca, arXiv:2304.08247",
    raw="a JSON list of {instruction, input, output} (medical_meadow_small.json)",
    size="5,942 rows",
    rows=rows,
    defects=(
        "Headings and lists lost their layout when the pages were scraped.",
        "92 rows are exact copies of another (mix drops them).",
        "Questions are page headings with the page's title put in; some are not grammatical.",
    ),
    hub=(
        HubSet(
            "medalpaca/medical_meadow_wikidoc_patient_information",
            instruction_rows(lambda: SOURCE),
        ),
    ),
)
