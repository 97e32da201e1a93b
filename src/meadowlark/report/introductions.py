"""The names that a page takes from the two papers, each introduced in a sentence where it is first
named.

Sections come in and go out, in reading order: the first paragraph or caption that uses such a name
is followed by the sentence on it. A model or file whose name merely holds one is no mention.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from meadowlark.report.content import Details, Facts, Figure, Figures, Prose, Section, Table

INTRODUCTIONS = {
    "AlpaCare": (
        "AlpaCare (Zhang et al. 2023) is a published series of medical language models, trained on "
        "tasks and answers that larger models wrote after examples by clinicians."
    ),
    "MedInstruct-test": (
        "MedInstruct-test is a set of 216 medical prompts published with AlpaCare, each rated for "
        "its difficulty."
    ),
    "medAlpaca": (
        "medAlpaca (Han et al. 2023) is a published series of medical language models, trained on "
        "questions and answers from open medical sources."
    ),
}
"""A sentence for each name, for a reader who knows neither paper (PAPERS.md)."""


def introduced(sections: Sequence[Section]) -> list[Section]:
    """The sections with each name introduced after its first mention."""
    waiting = dict(INTRODUCTIONS)
    return [
        replace(
            section,
            lead=_told(section.lead, waiting),
            blocks=[_block(block, waiting) for block in section.blocks],
        )
        for section in sections
    ]


def _block(block: Any, waiting: dict[str, str]) -> Any:
    if isinstance(block, Prose):
        return replace(block, text=_told(block.text, waiting))
    if isinstance(block, Table | Figure):
        return replace(block, caption=_told(block.caption, waiting))
    if isinstance(block, Figures):
        return replace(block, figures=[_block(one, waiting) for one in block.figures])
    if isinstance(block, Facts):
        pairs = [
            (name, [_told(v, waiting) if isinstance(v, str) else v for v in values])
            for name, values in block.pairs
        ]
        return replace(block, pairs=pairs)
    if isinstance(block, Details):
        return replace(block, blocks=[_block(one, waiting) for one in block.blocks])
    return block


def _told(words: str, waiting: dict[str, str]) -> str:
    """The words, followed by the sentences on the names that they are the first to use."""
    while name := next((name for name in waiting if _names(words, name)), ""):
        words = f"{words} {waiting.pop(name)}"  # which may use another of the names
    return words


def _names(words: str, name: str) -> bool:
    return re.search(rf"(?<![\w/.-]){re.escape(name)}(?![\w/-]|\.\w)", words) is not None
