"""``meadowlark stats``: what data sets hold, side by side."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meadowlark.cli.options import Force, Limit, stdout, summarise
from meadowlark.terminal import printable

if TYPE_CHECKING:
    from rich.table import Table

TOP = 12
"""How many values of a label are shown."""


def stats(
    data: Annotated[list[Path], typer.Argument(help="Data sets to describe side by side.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Also write stats.json into this folder.")
    ] = None,
    json: Annotated[
        Path | None, typer.Option("--json", help="Also write the description to this file.")
    ] = None,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Describe data sets side by side: rows, sources, licences, labels, lengths, verbs.

    Types, views, difficulties and fields of medicine are counted in one vocabulary, so that seed
    tasks can stand beside what was generated from them. Verbs and their objects come from a
    dependency parse where spaCy and en_core_web_sm are installed, else from rules, which is said;
    the linguistic entropy is AlpaCare's formula over those pairs. Where rows are of Medical
    Meadow's sources, the collection's published table stands beside their counts. With --out the
    whole description goes to OUT/stats.json, which `report` reads.

    \b
    Examples:
      meadowlark stats seeds.xlsx runs/generated
      meadowlark stats runs/generated runs/patients
      meadowlark stats runs/mixed --out runs/stats
      meadowlark stats runs/mixed/validation.parquet --json validation.json
    """
    from json import loads

    from meadowlark.curate.describe import describe_all
    from meadowlark.curate.describe import stats as stage
    from meadowlark.dataset import write_json

    run = None
    if out is not None:
        run = stage(data, out, limit=limit, force=force)
        described = loads((out / "stats.json").read_text(encoding="utf-8"))["datasets"]
    else:
        described = describe_all(data, limit)
    if json is not None:
        write_json(json, {"datasets": described})
    stdout.print(_overview(described))
    stdout.print("verbs and objects by " + next(iter(described.values()))["verb_noun"]["method"])
    for label in dict.fromkeys(label for one in described.values() for label in one["labels"]):
        stdout.print()
        stdout.print(_side_by_side(label, described))
    if any(one.get("medical_meadow") for one in described.values()):
        stdout.print()
        table = _beside_published(described)
        stdout.print(table, width=max(stdout.width, 12 * (len(described) + 5)))
    if run is not None and out is not None:
        summarise(run, out, done_before=run.done_before)


def _side_by_side(label: str, described: dict[str, dict[str, Any]]) -> Table:
    """One row a value of a label, one column a data set: rows and their share of the set.

    The most frequent values by mean share, so that a small set stands beside a large one; what is
    left out is summed up in a last row.
    """
    from rich.table import Table
    from rich.text import Text

    shares: dict[str, float] = {}
    for one in described.values():
        counts = one["labels"].get(label, {})
        for value, rows in counts.items():
            shares[value] = shares.get(value, 0.0) + rows / one["rows"]
    shown = sorted(shares, key=lambda value: (-shares[value], value))[:TOP]
    if label == "difficulty":
        shown.sort()
    table = Table(box=None)
    table.add_column(Text(printable(label)))
    for name in described:
        table.add_column(Text(printable(name)), justify="right", overflow="fold")
    for value in shown:
        cells = [
            _with_share(one["labels"].get(label, {}).get(value, 0), one["rows"])
            for one in described.values()
        ]
        table.add_row(Text(printable(value)), *cells)
    if len(shares) > len(shown):
        rest = [
            sum(rows for value, rows in one["labels"].get(label, {}).items() if value not in shown)
            for one in described.values()
        ]
        cells = [
            _with_share(n, one["rows"]) for n, one in zip(rest, described.values(), strict=True)
        ]
        table.add_row(f"{len(shares) - len(shown):,} more", *cells)
    return table


def _beside_published(described: dict[str, dict[str, Any]]) -> Table:
    """Medical Meadow's published counts beside those of each data set, row by row and in all."""
    from rich.table import Table
    from rich.text import Text

    from meadowlark.curate.meadow import TABLE, totals

    table = Table(box=None)
    widest = max(len(row.title) for row in TABLE)
    table.add_column("Medical Meadow", min_width=widest, no_wrap=True)
    for name, total in zip(("published", "used"), totals(), strict=True):
        table.add_column(name, min_width=len(f"{total:,}"), no_wrap=True, justify="right")
    for name in described:
        table.add_column(
            Text(printable(name)), min_width=9, max_width=10, justify="right", overflow="fold"
        )
    sets = [one.get("medical_meadow", {}) for one in described.values()]
    for row in TABLE:
        counts = [one.get(row.title, 0) for one in sets]
        table.add_row(row.title, f"{row.rows:,}", f"{row.used:,}", *map(_or_dot, counts))
    in_all = [sum(one.get(row.title, 0) for row in TABLE if row.counted) for one in sets]
    table.add_row("in all, without MedQA", *(f"{n:,}" for n in (*totals(), *in_all)))
    return table


def _or_dot(rows: int) -> str:
    return f"{rows:,}" if rows else "·"


def _with_share(rows: int, of: int) -> str:
    return f"{rows:,}  {rows / of:4.0%}" if rows else "·"


def _overview(described: dict[str, dict[str, Any]]) -> Table:
    """One column a data set, one row a fact."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    table.add_column("")
    for name in described:
        table.add_column(Text(printable(name)), justify="right", overflow="fold")
    facts: list[tuple[str, Any]] = [
        ("rows", lambda d: f"{d['rows']:,}"),
        ("unreadable rows", lambda d: f"{d['unreadable']:,}"),
        ("without an input", lambda d: f"{d['without_input']:,}"),
        ("without an output", lambda d: f"{d['without_output']:,}"),
        ("distinct instructions", lambda d: f"{d['distinct_instructions']:,}"),
        *(
            (f"{field}, median {unit}", functools.partial(_median, field=field, unit=unit))
            for unit in ("characters", "words")
            for field in ("instruction", "input", "output")
        ),
        ("linguistic entropy, bits", lambda d: f"{d['linguistic_entropy_bits']:.2f}"),
        ("rows in its verb-object pairs", lambda d: f"{d['verb_noun']['share_of_rows']:.0%}"),
        ("rows in pairs seen over 10 times", lambda d: f"{d['verb_noun']['share_in_figure']:.0%}"),
        *(
            (f"{label}s as written", functools.partial(_as_written, label=label))
            for label in ("type", "view", "topic")
        ),
        ("most frequent pairs", _pairs),
        ("sources", lambda d: ", ".join(k or "none" for k in d["sources"])),
        ("licences", lambda d: ", ".join(k or "none stated" for k in d["licences"])),
    ]
    for label, value in facts:
        table.add_row(label, *(Text(printable(value(one))) for one in described.values()))
    return table


def _median(one: dict[str, Any], field: str, unit: str) -> str:
    lengths = one[unit][field]
    return f"{lengths['median']:,.0f}" if lengths["n"] else "–"


def _as_written(one: dict[str, Any], label: str) -> str:
    found = one["labels_as_written"][label]
    if not found["distinct"]:
        return "–"
    return f"{found['distinct']:,}, top 20: {found['top_20_share']:.0%}"


def _pairs(one: dict[str, Any]) -> str:
    pairs = sorted(one["verb_noun"]["pairs"], key=lambda p: -p["count"])[:3]
    return ", ".join(f"{p['verb']} {p['noun']} {p['count']:,}" for p in pairs) or "–"
