"""``meadowlark sources``: the open sources and their cards."""

from __future__ import annotations

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
        table = Table("name", "use", "size", "licence", "verified on", box=None)
        for card in SOURCES.values():
            table.add_row(card.name, card.use, card.size, card.licence, card.verified)
        stdout.print(table)
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
        "raw form": card.raw,
        "verified on": card.verified,
        "defects": "\n".join(card.defects) or "none known",
    }
    table = Table(show_header=False, box=None)
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for key, value in facts.items():
        table.add_row(key, value)
    stdout.print(table)
