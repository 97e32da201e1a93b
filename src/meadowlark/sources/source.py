"""What a source is: a card that says what may be done with it, and a reader of its raw form.

A reader yields a :class:`Record` for each usable row and a :class:`Rejected` for every other, so
that each raw row is accounted for. Where the hub has the set, a second reader takes its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from meadowlark.records import TEST_ONLY, Record, Rejected

Rows = Iterable[Record | Rejected]


@dataclass(frozen=True, slots=True)
class Setting:
    """What can be chosen about a conversion: ``values`` are all there are, or any text if none."""

    default: str
    help: str
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocks:
    """A reader of a raw form of millions of rows, in two halves; called, it is one as any other.

    ``read`` cuts the raw form into blocks, one after the other. ``made`` makes the rows of one
    block, whichever others there are, so that other processes may do it: both are functions of
    a module, and a block can be pickled. Both are given the source's settings by keyword.
    """

    read: Callable[..., Iterator[Any]]
    made: Callable[..., Rows]

    def __call__(self, raw: Path, **settings: str) -> Iterator[Record | Rejected]:
        for block in self.read(raw, **settings):
            yield from self.made(block, **settings)


WORDING = Setting("ours", "whose instructions: Medical Meadow's or ours", ("ours", "published"))


@dataclass(frozen=True, slots=True)
class HubSet:
    """One data set of the Hugging Face hub and the reader of its rows.

    ``rows`` takes the hub's rows as dictionaries in their order, and the source's settings.
    ``revision`` is the commit that was looked at; empty where none is known to us.
    """

    name: str
    rows: Callable[..., Rows]
    split: str = "train"
    revision: str = ""


@dataclass(frozen=True, slots=True)
class Source:
    """One open data set.

    ``rows`` reads the raw form, given the chosen ``settings`` by keyword. ``licence`` is an SPDX
    identifier or ``LicenseRef-...`` where none fits; ``obligations`` says it in words. ``use`` is
    what the rows may be used for. ``verified`` says how far ``rows`` was run: on real files, or
    only against the published schema. ``signs`` are texts that all occur at the beginning of the
    raw form, by which a file given for another source is recognised. ``shipped`` is the raw file
    of a source that comes with the package.
    """

    name: str
    title: str
    origin: str
    licence: str
    obligations: str
    citation: str
    raw: str
    size: str
    rows: Callable[..., Rows]
    language: str = "English"
    use: Literal["train", "test"] = "train"
    verified: str = "real files"
    defects: tuple[str, ...] = ()
    settings: Mapping[str, Setting] = field(default_factory=dict)
    hub: tuple[HubSet, ...] = ()
    signs: tuple[str, ...] = ()
    shipped: Path | None = None

    def record(self, instruction: str, input: str, output: str, **tags: str) -> Record:
        """A record that bears this source's name and licence; empty tags are left out."""
        marks = {name: value for name, value in tags.items() if value}
        if self.use == "test":
            marks |= TEST_ONLY
        return Record(
            instruction, input, output, source=self.name, licence=self.licence, tags=marks
        )


def checked(rows: Rows) -> Iterator[Record | Rejected]:
    """Rows with those that lack a question or an answer turned into rejections."""
    for row in rows:
        if isinstance(row, Rejected):
            yield row
        elif not row.output.strip():
            yield Rejected(row, "no answer")
        elif not row.instruction.strip() and not row.input.strip():
            yield Rejected(row, "no question")
        else:
            yield row


def instruction_rows(source: Callable[[], Source], **tags: str) -> Callable[..., Rows]:
    """The reader of a hub set with Medical Meadow's columns: instruction, input and output.

    ``source`` is asked for when rows are read, since a card names its reader. The instruction is
    the hub's own: its wording is the published one.
    """

    def rows(items: Iterable[Mapping[str, Any]], **settings: str) -> Rows:
        for item in items:
            texts = [str(item.get(key) or "").strip() for key in ("instruction", "input", "output")]
            yield from checked([source().record(*texts, **tags)])

    return rows
