"""``meadowlark seeds``: a spreadsheet for clinicians, and a check of what they wrote."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from meadowlark.cli.options import Limit, stdout
from meadowlark.errors import UserError
from meadowlark.progress import plural
from meadowlark.terminal import printable

if TYPE_CHECKING:
    from rich.table import Table

    from meadowlark.synth.seeds import Checked

MOST_SHOWN = 40


class Action(StrEnum):
    """What to do with seed tasks."""

    template = "template"
    check = "check"


def seeds(
    action: Annotated[Action, typer.Argument(help="template or check.", metavar="ACTION")],
    file: Annotated[
        Path | None,
        typer.Argument(help="For check: an .xlsx, .csv, .json or .jsonl file.", metavar="[FILE]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="For template: the .xlsx file to write.")
    ] = None,
    threshold: Annotated[
        float,
        typer.Option(
            "--threshold", min=0.0, max=0.99, help="ROUGE-L F1 above which two rows are alike."
        ),
    ] = 0.7,
    json: Annotated[
        Path | None, typer.Option("--json", help="For check: also write everything to this file.")
    ] = None,
    limit: Limit = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a template.")] = False,
) -> int:
    """Make a spreadsheet for seed tasks, or check seed tasks.

    "seeds template" writes a spreadsheet with drop-downs, examples and the rubric of
    difficulty, for clinicians to fill in. "seeds check" lists faults with their row
    numbers (missing fields, a difficulty out of range, multiple choice without
    lettered choices, near-duplicates) and shows what the tasks cover: type, topic,
    view, each by difficulty. The exit code is 1 when faults were found.

    \b
    Examples:
      meadowlark seeds template --out seeds.xlsx
      meadowlark seeds check seeds.xlsx
      meadowlark seeds check seeds.jsonl --json checked.json
    """
    if action is Action.template:
        from meadowlark.synth.seed_sheet import write_seed_template

        if out is None or file is not None:
            raise UserError("expected: meadowlark seeds template --out seeds.xlsx")
        write_seed_template(out, force=force)
        stdout.print(f"wrote {out}. When it is filled in: meadowlark seeds check {out}")
        return 0
    from meadowlark.dataset import write_json
    from meadowlark.synth.seeds import check_seeds

    if file is None:
        raise UserError("expected a file: meadowlark seeds check FILE")
    checked = check_seeds(file, threshold, limit)
    if json is not None:
        write_json(json, checked.as_json())
    _show(checked)
    return 1 if checked.faults or not checked.rows else 0


def _show(checked: Checked) -> None:
    for label in ("type", "topic", "view"):
        stdout.print(_coverage(label, checked.table(label)))
    for label, values in checked.gaps().items():
        if values:
            stdout.print(f"no task of {label}: {', '.join(values)}", markup=False)
    stdout.print()
    for heading, findings in (("remark", checked.remarks), ("fault", checked.faults)):
        for finding in findings[:MOST_SHOWN]:
            line = f"{heading}, row {finding.row}: {finding.what}: {finding.detail}"
            stdout.print(printable(line), markup=False)
        if len(findings) > MOST_SHOWN:
            stdout.print(f"and {len(findings) - MOST_SHOWN:,} {heading}s more; see --json")
    stdout.print(
        f"{plural(checked.rows, 'task')}, {checked.without_input:,} without an input, "
        f"{plural(len(checked.cells), 'combination')} of type, topic, view and difficulty; "
        f"{plural(len(checked.remarks), 'remark')}, {plural(len(checked.faults), 'fault')}"
    )


def _coverage(label: str, counts: dict[str, dict[str, int]]) -> Table:
    """One row a value, one column a difficulty."""
    from rich.table import Table

    table = Table(box=None)
    table.add_column(f"{label} by difficulty")
    for level in ("1", "2", "3", "4", "5", "all"):
        table.add_column(level, justify="right")
    for value, levels in counts.items():
        cells = [str(levels[level] or "·") for level in levels]
        table.add_row(value or "none given", *cells, str(sum(levels.values())))
    return table
