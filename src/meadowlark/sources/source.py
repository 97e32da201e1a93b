"""What a source is: a card that says what may be done with it, and a reader of its raw form.

A reader yields a :class:`Record` for each usable row and a :class:`Rejected` for every other, so
that each raw row is accounted for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from meadowlark.records import Record, Rejected


@dataclass(frozen=True, slots=True)
class Source:
    """One open data set.

    ``licence`` is an SPDX identifier or ``LicenseRef-...`` where none fits; ``obligations`` says it
    in words. ``use`` is what the rows may be used for. ``verified`` says how far ``rows`` was run:
    on real files, or only against the published schema. ``hub`` names its data sets on the Hugging
    Face hub. ``shipped`` is the raw file of a source that comes with the package.
    """

    name: str
    title: str
    origin: str
    licence: str
    obligations: str
    citation: str
    raw: str
    size: str
    rows: Callable[[Path], Iterable[Record | Rejected]]
    language: str = "English"
    use: Literal["train", "test"] = "train"
    verified: str = "real files"
    defects: tuple[str, ...] = ()
    hub: tuple[str, ...] = ()
    shipped: Path | None = None

    def record(self, instruction: str, input: str, output: str, **tags: str) -> Record:
        """A record that bears this source's name and licence; empty tags are left out."""
        return Record(
            instruction,
            input,
            output,
            source=self.name,
            licence=self.licence,
            tags={name: value for name, value in tags.items() if value},
        )


def checked(rows: Iterable[Record | Rejected]) -> Iterator[Record | Rejected]:
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
