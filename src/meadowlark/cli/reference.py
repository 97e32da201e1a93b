"""``python -m meadowlark.cli.reference FOLDER`` writes docs/cli.md and docs/formats.md.

Both come from the code: the help texts of the verbs, the Arrow schemas of the nouns. A test
compares the committed pages with what this module would write.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

import typer
import typer.main

from meadowlark.cli import VERBS, app
from meadowlark.dataset import FILE_OF, Manifest
from meadowlark.records import REJECTED_COLUMNS, SCHEMAS, Score


def formats() -> str:
    """docs/formats.md: every noun with its columns, and the files of a folder."""
    lines = [
        "# Formats",
        "",
        "Made by `make docs` from `src/meadowlark/records.py` and `dataset.py`; do not edit.",
        "",
        "A finished folder holds its rows in parquet, `rejected.parquet` (what was not kept, with a"
        " `reason` and a `detail`), and `manifest.json`, written last. A folder that holds"
        " `started.json` instead was interrupted: the same command goes on from there. A stage"
        " that asks models also keeps `journal.sqlite`, with every call.",
        "",
        "Wherever rows are read, plain `.json` (a list), `.jsonl`, `.csv`, `.xlsx` (the first"
        " sheet with a column Instruction) and `.parquet` files with the same keys are accepted;"
        " records also in the Alpaca (`instruction`, `input`,"
        " `output`), ShareGPT (`conversations`) and messages (`messages`) layouts, questions also"
        " as `{question, choices, answer}`. Other scalar columns of a record become tags.",
        "",
    ]
    for noun, schema in SCHEMAS.items():
        file = FILE_OF.get(noun, "scores.json")
        lines += [f"## {noun.__name__}", "", f"File: `{file}`", "", _doc(noun), ""]
        lines += ["| column | Arrow type |", "|---|---|"]
        lines += [f"| `{column.name}` | `{column.type}` |" for column in schema]
        lines.append("")
    columns = " and ".join(f"`{c.name}` (`{c.type}`)" for c in REJECTED_COLUMNS)
    lines += ["## Rejected rows", "", f"The noun's columns, then {columns}.", ""]
    lines += ["## Manifest", "", "File: `manifest.json`", "", _doc(Manifest), ""]
    lines += ["| key | type |", "|---|---|"]
    lines += [f"| `{f.name}` | `{f.type}` |" for f in dataclasses.fields(Manifest)]
    lines += ["", f"`scores.json` is a list of {Score.__name__} objects.", ""]
    return "\n".join(lines)


def command_line() -> str:
    """docs/cli.md: the help of every verb as a terminal shows it, 100 columns wide."""
    lines = ["# Command line", "", "Made by `make docs` from the code; do not edit.", ""]
    for panel, verbs in VERBS.items():
        lines += [f"## {panel}", ""]
        for verb in verbs:
            lines += [f"### meadowlark {verb}", "", "```text", _help(verb), "```", ""]
    return "\n".join(lines)


def _doc(thing: type) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _help(verb: str) -> str:
    """One verb's docstring and options, laid out without a terminal."""
    command: Any = typer.main.get_command(app)
    callback = next(c.callback for c in app.registered_commands if c.name == verb)
    lines = [(inspect.getdoc(callback) or "").replace("\b\n", "").rstrip(), ""]
    for parameter in command.commands[verb].params:
        if parameter.name == "help":
            continue
        option = parameter.param_type_name == "option"
        names = [*parameter.opts, *parameter.secondary_opts] if option else [parameter.metavar]
        title = ", ".join(name or parameter.name.upper() for name in names)
        required = ", required" if parameter.required and option else ""
        default = parameter.default if option and isinstance(parameter.default, _SHOWN) else ""
        shown = f" (default {default})" if default not in ("", False, True) else ""
        lines.append(f"  {title}{required}{shown}")
        lines.append(textwrap.indent(textwrap.fill(parameter.help or "", 92), " " * 6))
    return "\n".join(lines).rstrip()


_SHOWN = (str, int, float, Path)


def main() -> None:
    """Write both pages into the folder named on the command line."""
    folder = Path(sys.argv[1])
    (folder / "formats.md").write_text(formats(), encoding="utf-8")
    (folder / "cli.md").write_text(command_line(), encoding="utf-8")
    print(f"wrote {folder / 'formats.md'} and {folder / 'cli.md'}")


if __name__ == "__main__":
    main()
