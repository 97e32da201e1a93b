"""What tests of recipes and guides share: shell commands run or only noted, blocks of Markdown."""

from __future__ import annotations

import json
import os
import re
import socket
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
READER = re.compile(r"^<!-- the reader (.+?) -->$", re.M)
"""What a reader does between two blocks with hands and eyes; tests/reader.py does it instead."""
STOP = "stops the server"
PORTS = {"serve": "8000", "annotate": "8020", "chat": "8080"}
"""Verbs that keep a terminal, with the port that each takes where none is given."""
WITH_SERVERS = """
server= logs=$(mktemp -d); mkfifo "$logs/out"
stop_server() {
    if [ -n "$server" ]; then kill "$server"; wait "$server"; wait "$rest"; cat "$logs/rest"; fi
    server=
}
start_server() {
    stop_server
    export SERVER=$1; shift
    PYTHONUNBUFFERED=1 "$@" >"$logs/out" 2>"$logs/err" & server=$!
    exec 9<"$logs/out"
    while read -r line <&9; do echo "$line"; case $line in "listening on "*) break;; esac; done
    case $line in "listening on "*) ;; *) cat "$logs/err" >&2; exit 9;; esac
    cat <&9 >"$logs/rest" & rest=$!
    exec 9<&-
    curl -fsS "$SERVER/health" >/dev/null
}
trap '[ -z "$server" ] || kill "$server" || true; rm -r "$logs"' EXIT
"""
"""Bash that starts a server in the background and waits until it listens, and that stops it."""


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
        stdin=subprocess.DEVNULL,
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


def serves(command: str) -> bool:
    """Whether a command keeps its terminal until somebody stops it."""
    words = command.split()
    if words[1] == "annotate":
        return not {"--export", "--sheet", "--sheet-in"} & {*words}
    return words[1] == "serve" or (words[1] == "chat" and "--web" in words)


def with_servers(block: Block, ports: dict[str, str]) -> str:
    """A block's text in which servers listen in the background, at ports that are free here.

    ``ports`` maps each port that the page names to one of this machine, and grows.
    """
    text = re.sub(r"\\\n\s*", " ", block.text)
    lines = []
    for line in text.splitlines():
        words = line.split(" #")[0].strip()
        if words.startswith("meadowlark ") and serves(words):
            given = re.search(r"--port (\d+)", words)
            port = given[1] if given else PORTS[words.split()[1]]
            if port not in ports:
                with socket.socket() as free:
                    free.bind(("127.0.0.1", 0))
                    ports[port] = str(free.getsockname()[1])
            words = re.sub(r" --port \d+", "", words) + f" --port {ports[port]}"
            line = f"start_server http://127.0.0.1:{ports[port]} {words}"
        lines.append(line)
    return at_ports("\n".join(lines) + "\n", ports)


def script_of(page: str) -> str:
    """One bash script of a page: its bash and Python blocks in order, and what its reader does."""
    ports: dict[str, str] = {}
    parts: list[tuple[int, str]] = []
    for block in blocks(page):
        if block.not_run:
            continue
        if block.language == "bash":
            parts.append((block.line, with_servers(block, ports)))
        elif block.language == "python":
            text = at_ports(block.text, ports)
            parts.append((block.line, f"python3 - <<'BLOCK'\n{text}BLOCK\n"))
    for act in READER.finditer(page):
        line = page[: act.start()].count("\n") + 1
        parts.append((line, "stop_server\n" if act[1] == STOP else f"reader {act[1]}\n"))
    script = "".join(text for _, text in sorted(parts))
    return f"{WITH_SERVERS}{script}stop_server\n" if ports else script


def at_ports(text: str, ports: Mapping[str, str]) -> str:
    """A text in which the addresses of servers are those of this machine."""
    for written, real in ports.items():
        text = text.replace(f"127.0.0.1:{written}", f"127.0.0.1:{real}")
    return text


def run_guide(page: Path, programs: Path, folder: Path, given: Mapping[str, str]) -> str:
    """Run a page's bash and Python blocks in one shell in ``folder``, in order; what they printed.

    The blocks are as written but for the replacements in ``given`` that begin with http, and for
    servers, which the shell keeps in the background (until the reader stops them or starts the
    next) at free ports. A TOML block that opens with ``# NAME.toml`` is that file. A guide stops
    at the first command that fails, as a reader would.
    """
    text = page.read_text(encoding="utf-8")
    for block in blocks(text):
        named = re.match(r"# (\w+\.toml)\n", block.text)
        if block.language == "toml" and named:
            (folder / named[1]).write_text(block.text, encoding="utf-8")
    script = script_of(text)
    assert script, f"{page.name} has no block to run"
    for written, real in given.items():
        if written.startswith("http"):
            script = script.replace(written, real)
    environment = {k: v for k, v in given.items() if not k.startswith("http")}
    put(
        programs,
        "reader",
        f'#!/bin/sh\nexec {sys.executable} {ROOT / "tests" / "reader.py"} "$@"\n',
    )
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
