"""How each run is made again: the command line its manifest holds, or the stage in a comment.

A run that was made from Python has no command line; what is shown then is a comment with the
stage, its inputs and options, which cannot be mistaken for a command.
"""

from __future__ import annotations

import json

from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder

WIDEST = 90
BREAK = " \\\n    "


def command(lineage: Lineage, run: RunFolder) -> str:
    """One command, broken into lines before its options; or a comment for a run from Python."""
    line = run.manifest.command
    if line:
        return _broken(line)
    given = {link.name: link.path for link in lineage.inputs_of(run)}
    options = {k: v for k, v in run.manifest.options.items() if v is not None}
    if run.manifest.seed is not None:
        options["seed"] = run.manifest.seed
    parts = [f"# {run.label}: made from Python by the stage {run.stage!r}"]
    parts += [f"#   {key}: {_words(value)}" for key, value in {**given, **options}.items()]
    return "\n".join(parts)


def _broken(line: str) -> str:
    """A long command with each option on a line of its own, and each input where they are long."""
    if len(line) <= WIDEST:
        return line
    first, *options = line.split(" --")
    words = first.split(" ")
    if len(first) > WIDEST and not {"'", '"'} & {*first}:  # what is quoted may hold spaces
        first = BREAK.join([" ".join(words[:3]), *words[3:]])
    return BREAK.join([first, *(f"--{option}" for option in options)])


def _words(value: object) -> str:
    words = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    words = " ".join(words.split())
    return words if len(words) <= 120 else words[:119] + "…"
