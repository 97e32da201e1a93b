"""One task as a teacher wrote it, and a part of a reply that is none: what the parsers give."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Task:
    """One task as the teacher wrote it; an absent input or label is the empty string."""

    instruction: str
    input: str = ""
    type: str = ""
    topic: str = ""
    view: str = ""
    difficulty: str = ""


class Unread(NamedTuple):
    """A part of a reply that is no usable task: a short reason, and its text."""

    reason: str
    raw: str
