"""What a page is made of: sections of prose, tables, figures and examples, and how numbers look.

A table keeps its raw rows (for CSV and JSON) apart from how its cells are shown. Nothing here
knows HTML but for finished figures; the template escapes every text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from meadowlark.progress import plural as plural

ABSENT = "–"
LONG_WORD = 24
"""A word of more characters than these may not fit a line of code on a phone."""
Cells = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """One column as shown: its heading, and how a raw row becomes the text of a cell.

    ``kind`` is ``text``, ``number`` (right-aligned), ``code`` (monospaced) or ``bar`` (a number
    with a bar behind it, whose length in per cent is ``share(row)``).
    """

    label: str
    cell: Callable[[Cells], str]
    kind: str = "text"
    share: Callable[[Cells], float] | None = None
    title: Callable[[Cells], str] | None = None


@dataclass(frozen=True)
class Table:
    """``name`` is its file's name beside the page; ``rows`` are what that file holds. A ``tight``
    one is set small enough on a narrow screen to be seen whole. ``total`` tells rows that are the
    sum of those after them."""

    name: str
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Cells]
    kind: str = field(default="table", init=False)
    tight: bool = False
    total: Callable[[Cells], bool] | None = None


@dataclass(frozen=True)
class Figure:
    """An inline SVG with its caption. Of a ``wide`` one, ``steps`` tell the same as a list on a
    narrow screen: each a name, and what stands below it."""

    svg: Markup
    caption: str
    kind: str = field(default="figure", init=False)
    wide: bool = False
    steps: Sequence[tuple[str, Sequence[str]]] = ()


@dataclass(frozen=True)
class Figures:
    """Figures of one kind side by side where there is room, to be compared."""

    figures: Sequence[Figure]
    kind: str = field(default="figures", init=False)


@dataclass(frozen=True)
class Prose:
    """A paragraph; ``tone`` is empty or ``warning``."""

    text: str
    tone: str = ""
    kind: str = field(default="prose", init=False)


@dataclass(frozen=True)
class Link:
    """A line that leads to a page beside this one."""

    to: str
    text: str
    kind: str = field(default="link", init=False)


@dataclass(frozen=True)
class Heading:
    """A heading inside a section."""

    text: str
    kind: str = field(default="heading", init=False)


@dataclass(frozen=True)
class Side:
    """One text of an example: who wrote it, the text, and a short note (a status, a verdict)."""

    label: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class Example:
    """A prompt with the texts that belong to it, shown side by side where there is room."""

    heading: str
    prompt: str
    sides: Sequence[Side]
    note: str = ""
    kind: str = field(default="example", init=False)


@dataclass(frozen=True)
class Details:
    """Examples or tables folded away under a summary line."""

    summary: str
    blocks: Sequence[Any]
    kind: str = field(default="details", init=False)


@dataclass(frozen=True)
class Facts:
    """Names and values in pairs; a value may be several lines."""

    pairs: Sequence[tuple[str, Sequence[Any]]]
    kind: str = field(default="facts", init=False)


@dataclass(frozen=True)
class Hash:
    """A SHA-256 (shown shortened) with what it is of."""

    label: str
    sha256: str
    note: str = ""


@dataclass(frozen=True)
class Code:
    """Lines to be copied."""

    text: str
    kind: str = field(default="code", init=False)

    @property
    def lines(self) -> list[tuple[str, bool]]:
        """Each line, and whether it has a word (a path, a hash) that a narrow screen must break."""
        return [
            (line, any(len(word) > LONG_WORD for word in line.split()))
            for line in self.text.splitlines()
        ]


@dataclass(frozen=True)
class Anchor:
    """A place that links inside the page lead to, with its heading."""

    id: str
    text: str
    note: str = ""
    kind: str = field(default="anchor", init=False)


@dataclass(frozen=True)
class Tile:
    """One number at a glance; a ``wide`` one has a line for itself."""

    label: str
    value: str
    note: str = ""
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page with its own heading and entry in the contents."""

    id: str
    title: str
    lead: str
    blocks: Sequence[Any]


def tables_of(blocks: Iterable[Any]) -> list[Table]:
    """Every table among the blocks, those folded away included."""
    found: list[Table] = []
    for block in blocks:
        if isinstance(block, Table):
            found.append(block)
        elif isinstance(block, Details):
            found += tables_of(block.blocks)
    return found


# --------------------------------------------------------------------------- numbers


def is_number(value: Any) -> bool:
    """Whether a value is a finite number (a bool is not)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def count(value: Any) -> str:
    """``12345`` as ``12,345``; absent as a dash."""
    return f"{value:,.0f}" if is_number(value) else ABSENT


def number(value: Any, digits: int = 2) -> str:
    """A number with fixed digits, a true minus sign, absent as a dash."""
    return f"{value:,.{digits}f}".replace("-", "−") if is_number(value) else ABSENT


def percent(value: Any, digits: int = 1) -> str:
    """A fraction as per cent: ``0.4125`` as ``41.2 %``, with a space that does not break."""
    return f"{number(100 * value, digits)}\u00a0%" if is_number(value) else ABSENT


def short(value: Any) -> str:
    """Any JSON scalar as a person reads it: four significant digits, thousands separated, a true
    minus sign."""
    if value is None or value == "":
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if not math.isfinite(value):
            return ABSENT
        if value == int(value) and abs(value) < 1e15:
            return _minus(f"{value:,.0f}")
        return _minus(f"{value:,.4g}" if 1e-3 <= abs(value) < 1e6 else f"{value:.3g}")
    return _minus(f"{value:,}") if isinstance(value, int) else str(value)


def _minus(words: str) -> str:
    """The sign of a number as a minus; the hyphen of an exponent stays, as programs read it."""
    return f"−{words[1:]}" if words.startswith("-") else words


def text(key: str) -> Callable[[Cells], str]:
    """A cell that shows a row's value as text."""
    return lambda row: short(row.get(key))


def counted(key: str) -> Callable[[Cells], str]:
    """A cell that shows a row's value as a count."""
    return lambda row: count(row.get(key))


def shorten(value: str, length: int) -> str:
    """At most ``length`` characters, an ellipsis at the end of what was cut."""
    return value if len(value) <= length else value[: length - 1].rstrip() + "…"


def listed(words: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(words[:-1]), *words[-1:]] if len(words) > 1 else words)


def slug(words: str) -> str:
    """A name as part of a file's name or an id: letters, digits and underscores."""
    return "".join(c if c.isalnum() else "_" for c in words)
