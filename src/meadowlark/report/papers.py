"""Measured scores in the layouts of the two papers' tables, with the published rows beside them.

``published.toml`` holds the published numbers with their place in the papers; a table is shown
where a run measured something that is a column of it. Published rows are marked as such and have
no interval, since none is published.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from meadowlark.records import Score
from meadowlark.report.content import ABSENT, Cells, Column, Heading, Prose, Table, percent
from meadowlark.report.read import RunFolder
from meadowlark.report.scores import rename

MEASURED, PUBLISHED = "measured", "published"


@dataclass(frozen=True)
class PaperColumn:
    """A column of a paper's table: the task and metric that we measure for it."""

    task: str
    metric: str
    label: str

    @property
    def key(self) -> str:
        """Its name in the table's raw rows."""
        return f"{self.task}_{self.metric}"


@dataclass(frozen=True)
class PaperTable:
    """A paper's table: where it stands, its columns, and its rows (model, a value a column)."""

    name: str
    title: str
    source: str
    note: str
    columns: tuple[PaperColumn, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]


@cache
def paper_tables() -> tuple[PaperTable, ...]:
    """The published tables. ``of`` in a row stands for the mean of several published numbers."""
    text = (resources.files("meadowlark.report") / "published.toml").read_text(encoding="utf-8")
    made = []
    for table in tomllib.loads(text)["table"]:
        columns = tuple(PaperColumn(**column) for column in table["columns"])
        rows = tuple((row["model"], _published(row, len(columns))) for row in table["rows"])
        named = {key: table[key] for key in ("name", "title", "source", "note")}
        made.append(PaperTable(**named, columns=columns, rows=rows))
    return tuple(made)


def _published(row: dict[str, Any], columns: int) -> tuple[float | None, ...]:
    values = row["values"] if "values" in row else [round(sum(row["of"]) / len(row["of"]), 4)]
    return (*values, *[None] * (columns - len(values)))


def blocks(runs: Sequence[RunFolder], names: dict[str, str]) -> list[Any]:
    """A table in each layout of which the runs measured a column, under one heading."""
    found: list[Any] = []
    for table in paper_tables():
        measured = _measured(table, runs)
        if measured:
            found.append(_table(table, measured, names))
            what = "Published rows" if table.rows else "Layout"
            found.append(Prose(f"{what}: {table.source}. {' '.join(table.note.split())}"))
    if not found:
        return []
    words = (
        "Measured rows have 95 % intervals; published ones are copied from the papers, which give "
        "none. A protocol that differs in one detail can move a score by more than the rows differ."
    )
    return [Heading("In the layouts of the papers"), Prose(words), *found]


def _measured(table: PaperTable, runs: Sequence[RunFolder]) -> list[dict[str, Any]]:
    """Raw rows of what was measured: one for a model and way of asking, another where it was
    measured again."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        how = str(run.manifest.options.get("protocol") or "")
        for score in run.scores:
            column = _column(table, score)
            if column is None:
                continue
            row = next(
                (
                    row
                    for row in rows
                    if (row["model"], row["protocol"]) == (score.model, how)
                    and column.key not in row
                ),
                None,
            )
            if row is None:
                row = {"rows": MEASURED, "model": score.model, "protocol": how, "run": run.label}
                rows.append(row)
            row[column.key] = score.value
            row[f"{column.key}_low"], row[f"{column.key}_high"] = score.low, score.high
            row[f"{column.key}_n"] = score.n
    return rows


def _column(table: PaperTable, score: Score) -> PaperColumn | None:
    wanted = (score.task, score.metric)
    return next((c for c in table.columns if (c.task, c.metric) == wanted), None)


def _table(table: PaperTable, measured: list[dict[str, Any]], names: dict[str, str]) -> Table:
    published = [
        {
            "rows": PUBLISHED,
            "model": model,
            **{c.key: v for c, v in zip(table.columns, values, strict=True) if v is not None},
        }
        for model, values in table.rows
    ]
    columns = [
        Column("model", lambda row: _model(row, names), title=lambda row: str(row["model"])),
        Column("", lambda row: str(row["rows"])),
        *(Column(c.label, _cell(c), "number") for c in table.columns),
    ]
    return Table(f"papers_{table.name}", f"{table.title}.", columns, [*measured, *published])


def _model(row: Cells, names: dict[str, str]) -> str:
    name = rename(row["model"], names) if row["rows"] == MEASURED else row["model"]
    return f"{name} ({row['protocol']})" if row.get("protocol") else str(name)


def _cell(column: PaperColumn) -> Any:
    def cell(row: Cells) -> str:
        if column.key not in row:
            return ABSENT
        low, high = row.get(f"{column.key}_low"), row.get(f"{column.key}_high")
        value = percent(row[column.key])
        if low is None or high is None:
            return value
        return f"{value} [{100 * low:.1f}, {100 * high:.1f}]"

    return cell
