"""Open medical sources, one module each: raw files in, records out.

To add one, write a module with a :class:`Source` and add it to :data:`SOURCES`.
"""

from __future__ import annotations

from meadowlark.sources import (
    chatdoctor,
    medquad,
    patient_questions,
    pubmed_causal,
    wikidoc_patient_information,
)
from meadowlark.sources.source import Source

SOURCES: dict[str, Source] = {
    module.SOURCE.name: module.SOURCE
    for module in (
        wikidoc_patient_information,
        pubmed_causal,
        chatdoctor,
        medquad,
        patient_questions,
    )
}
