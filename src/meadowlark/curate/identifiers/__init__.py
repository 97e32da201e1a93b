"""Patterns for what identifies a person in a medical text: the list of US 45 CFR 164.514(b)(2), as
far as text can carry it. Text comes in, spans with kind and reason come out.

Two sorts of evidence are used: a form that means little else (an e-mail address, a full date), or a
label before a value ("MRN: 00482913"). Against them stands what medicine writes in the same forms:
codes, citations, doses, ratios, scores, versions (``medicine``). A name is found where a
title, a role or a label announces it; other names, and places without a state, need a recogniser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from meadowlark.curate.identifiers.contacts import net, pagers, phones
from meadowlark.curate.identifiers.cues import Cues
from meadowlark.curate.identifiers.dates import ages, dates, vignette
from meadowlark.curate.identifiers.labels import labelled, social_security
from meadowlark.curate.identifiers.medicine import PROTECTED
from meadowlark.curate.identifiers.names import EPONYMS, names
from meadowlark.curate.identifiers.national import national
from meadowlark.curate.identifiers.places import addresses, places
from meadowlark.curate.identifiers.span import KINDS, Span

__all__ = ["EPONYMS", "KINDS", "Span", "find", "without_overlap"]

Finder = Callable[[Cues], Iterator[Span]]
FINDERS: tuple[Finder, ...] = (
    net,
    social_security,
    labelled,
    phones,
    pagers,
    national,
    dates,
    ages,
    addresses,
    names,
)


def find(text: str, kinds: frozenset[str] = frozenset(KINDS)) -> list[Span]:
    """The identifiers of a text, in order, none overlapping another."""
    return search(Cues(plain(text)), kinds)


_PLAIN = str.maketrans(
    {
        **{chr(code): chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)},
        **dict.fromkeys("\u2010\u2011\u2012\ufe63", "-"),
        "\u2215": "/",
    }
)
_DASH_WITHIN = re.compile(r"(?<=\d{3})[\u2013\u2212](?=\d\d)|(?<=\d\d)[\u2013\u2212](?=\d{4})")


def plain(text: str) -> str:
    """The text, as long as it was, with the signs and digits of ASCII where others stand for them:
    full-width ones, a hyphen that does not break, a dash within a number."""
    return text if text.isascii() else _DASH_WITHIN.sub("-", text.translate(_PLAIN))


def search(cues: Cues, kinds: frozenset[str] = frozenset(KINDS)) -> list[Span]:
    """The identifiers of a text whose cues are known."""
    if not cues.bits:
        return []
    text = cues.text
    found = [span for finder in FINDERS for span in finder(cues) if span.kind in kinds]
    if not found:
        return []
    if "PLACE" in kinds:
        found += places(text)
    protected = [match.span() for match in PROTECTED.finditer(text)]
    free = [
        s for s in found if not any(s.start < end and begin < s.end for begin, end in protected)
    ]
    chosen = without_overlap(free)
    if {span.kind for span in chosen} - {"AGE", "PLACE"}:
        return chosen
    # A town or a vignette's age points to nobody while nothing else in the text does.
    return [s for s in chosen if s.kind == "AGE" and not vignette(text, s)]


def without_overlap(spans: list[Span]) -> list[Span]:
    """The longest of overlapping spans; of equally long ones the first found."""
    chosen: list[Span] = []
    for span in sorted(spans, key=lambda s: s.start - s.end):
        if all(span.end <= other.start or other.end <= span.start for other in chosen):
            chosen.append(span)
    return sorted(chosen)
