"""What tests of recipes and guides share: shell commands run or only noted, blocks of Markdown."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import typer.main
from typer.core import TyperGroup
from typer.exceptions import TyperException

from meadowlark.cli import app

ROOT = Path(__file__).parents[1]
MEADOWLARK = f'#!/bin/sh\nexec {sys.executable} -m meadowlark "$@"\n'
PYTHON = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
NOT_RUN = re.compile(r"<!-- not run: ([^>]+?) -->\n$")
"""What stands before a block that no test runs, with the reason; a browser shows nothing of it."""


def put(folder: Path, name: str, text: str) -> None:
    """Write an executable file."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    (folder / name).chmod(stat.S_IRWXU)


def bash(
    arguments: list[str], programs: Path, folder: Path, given: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run bash in ``folder``; the executables in ``programs`` come before any others."""
    put(programs, "python3", PYTHON)
    environment = os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "src"),
    }
    return subprocess.run(
        ["bash", *arguments],
        cwd=folder,
        env=environment | given,
        capture_output=True,
        text=True,
        check=False,
    )


def parse(words: list[str]) -> None:
    """Let the command line's own parser read the words, and run nothing; its own
    TyperException where it refuses them."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    if words[0] not in group.commands:
        raise TyperException(f"no verb {words[0]}")
    group.commands[words[0]].make_context(words[0], words[1:])


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code: its language (empty if none is named), text, line number, and the reason
    why no test runs it."""

    language: str
    text: str
    line: int
    not_run: str

    def commands(self) -> list[str]:
        """The lines that call ``meadowlark``, with continued lines joined."""
        joined = re.sub(r"\\\n\s*", " ", self.text)
        return [
            line.strip() for line in joined.splitlines() if line.strip().startswith("meadowlark ")
        ]


def blocks(page: str) -> list[Block]:
    """The fenced and the indented blocks of a page of Markdown, in order."""
    found = []
    fenced = r"^```(\w*)\n(.*?)^```"
    indented = r"(?<=\n\n)((?: {4}[^\n]*\n|\n(?= {4}))+)"
    for match in re.finditer(f"{fenced}|{indented}", page, re.S | re.M):
        before = page[: match.start()]
        reason = NOT_RUN.search(before)
        text = match[2] if match[3] is None else re.sub(r"^ {4}", "", match[3], flags=re.M)
        found.append(
            Block(match[1] or "", text, before.count("\n") + 1, reason[1] if reason else "")
        )
    return found


def run_guide(name: str, programs: Path, folder: Path, given: Mapping[str, str]) -> str:
    """Run a guide's bash blocks in one shell in ``folder``, in order; what they printed.

    The blocks are as written but for the replacements in ``given`` that begin with http. A TOML
    block that opens with ``# NAME.toml`` is that file. A guide stops at the first command that
    fails, as a reader would.
    """
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    for block in blocks(page):
        named = re.match(r"# (\w+\.toml)\n", block.text)
        if block.language == "toml" and named:
            (folder / named[1]).write_text(block.text, encoding="utf-8")
    found = [block for block in blocks(page) if block.language == "bash"]
    script = "".join(block.text for block in found if not block.not_run)
    assert script, f"{name} has no block to run"
    for written, real in given.items():
        if written.startswith("http"):
            script = script.replace(written, real)
    environment = {k: v for k, v in given.items() if not k.startswith("http")}
    done = bash(["-euxo", "pipefail", "-c", script], programs, folder, environment)
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def few(source: Path, target: Path, n: int = 8) -> None:
    """The first rows of one of the published files: lines, a JSON list or object, or HEAD-QA."""
    text = source.read_text(encoding="utf-8")
    try:
        held = json.loads(text)
    except ValueError:
        text = "".join(text.splitlines(keepends=True)[:n])
    else:
        if "exams" in held:
            name, exam = next(iter(held["exams"].items()))
            held = {"exams": {name: exam | {"data": exam["data"][:n]}}}
        elif isinstance(held, list):
            held = held[:n]
        else:
            held = dict(list(held.items())[:n])
        text = json.dumps(held)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8")
