"""What is looked for, and what is found: the kinds of identifiers and a place in a text."""

from __future__ import annotations

from typing import NamedTuple

KINDS = (
    "NAME",
    "PLACE",
    "ADDRESS",
    "ZIP",
    "DATE",
    "AGE",
    "PHONE",
    "FAX",
    "EMAIL",
    "SSN",
    "MRN",
    "HEALTH_PLAN",
    "ACCOUNT",
    "LICENCE",
    "VEHICLE",
    "DEVICE",
    "URL",
    "IP",
    "BIOMETRIC",
    "OTHER_ID",
)


class Span(NamedTuple):
    """What was found: characters ``start`` to ``end`` (exclusive), its kind, and why."""

    start: int
    end: int
    kind: str
    reason: str
