"""``meadowlark sources``: the open sources and their cards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from meadowlark.cli.options import stdout


def sources(
    name: Annotated[str | None, typer.Argument(help="Show this source's card.")] = None,
) -> None:
    """List the open sources that can be converted, or show one source's card.

    A card says origin, licence and what it obliges to, citation, raw form, size, known defects, and
    how far the conversion was verified.

    \b
    Examples:
      meadowlark sources
      meadowlark sources pubmed_causal
    """
    from rich.table import Table

    from meadowlark.errors import unknown
    from meadowlark.sources import SOURCES

    if name is not None and name not in SOURCES:
        raise unknown("source", name, SOURCES)
    if name is None:
        for line in _lines([(c.name, c.use, c.licence, c.size) for c in SOURCES.values()]):
            stdout.print(line, markup=False)
        stdout.print("\nmeadowlark sources NAME shows a source's card.", markup=False)
        return
    card = SOURCES[name]
    facts = {
        "name": card.name,
        "title": card.title,
        "origin": card.origin,
        "licence": card.licence,
        "obligations": card.obligations,
        "citation": card.citation,
        "language": card.language,
        "use": card.use,
        "size": card.size,
        "on the hub": "\n".join(
            f"{each.name}{f' at {each.revision}' if each.revision else ''}" for each in card.hub
        )
        or "not known",
        "raw form": card.raw,
        "options": "\n".join(
            f"--{name} {'|'.join(each.values) or 'TEXT'}: {each.help}"
            + (f"; {each.default} unless given" if each.default else "")
            for name, each in card.settings.items()
        )
        or "none",
        "verified on": card.verified,
        "defects": "\n".join(card.defects) or "none known",
    }
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for key, value in facts.items():
        table.add_row(key, value)
    stdout.print(table)


def _lines(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as aligned columns under their titles, never cut, so that names can be copied."""
    rows = [("name", "use", "licence", "size"), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
