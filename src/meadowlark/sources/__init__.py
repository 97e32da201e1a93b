"""Open medical sources, one module each: raw files in, records out.

To add one, write a module with a :class:`Source` and add it to :data:`SOURCES`
(``docs/adding-a-source.md``).
"""

from __future__ import annotations

from meadowlark.sources import (
    chatdoctor,
    cord19,
    headqa,
    health_advice,
    medical_flashcards,
    medinstruct,
    mediqa,
    medmcqa,
    medqa,
    medquad,
    mmlu_medical,
    oasst,
    patient_questions,
    pubmed_causal,
    pubmedqa,
    stackexchange,
    usmle_self_assessment,
    wikidoc,
    wikidoc_patient_information,
)
from meadowlark.sources.source import Source

SOURCES: dict[str, Source] = {
    module.SOURCE.name: module.SOURCE
    for module in (
        medical_flashcards,
        wikidoc,
        wikidoc_patient_information,
        stackexchange,
        usmle_self_assessment,
        mediqa,
        cord19,
        mmlu_medical,
        health_advice,
        pubmed_causal,
        chatdoctor,
        oasst,
        medqa,
        medinstruct,
        medquad,
        pubmedqa,
        medmcqa,
        headqa,
        patient_questions,
    )
}
