"""The guide to the teacher is true: its commands run in order, its messages and reasons exist."""

from __future__ import annotations

import hashlib
import random
import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chat_server import ChatServer, completion
from meadowlark.cli import run
from meadowlark.dataset import read, read_manifest
from meadowlark.records import Record

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "meadowlark"
GUIDE = (ROOT / "docs" / "teacher.md").read_text(encoding="utf-8")
SERVER = "http://localhost:8000/v1"


async def teacher(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """Twelve tasks of random words for a list, and an answer for a task, by the request alone."""
    content = body["messages"][-1]["content"]
    if "write tasks 4 to 15." not in content:
        return completion("An answer.")
    rng = random.Random(hashlib.sha256(content.encode()).digest())
    words = [" ".join(f"w{rng.randrange(10**6)}" for _ in range(8)) for _ in range(12)]
    layout = (
        "###\n{n}. Type: Chat\nTopic: t\nView: nurse\nDifficulty: 2\nInstruction: {i}\nInput: x"
    )
    return completion("\n".join(layout.format(n=n, i=i) for n, i in enumerate(words, start=4)))


def test_every_command_runs_and_does_what_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MEADOWLARK_API_KEY", raising=False)
    shutil.copy(SOURCE / "demo" / "seeds.jsonl", "my-seeds.jsonl")
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE, re.S)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    asked = []
    with ChatServer(teacher) as server:
        for line in lines:
            program, *arguments = shlex.split(line.replace(SERVER, server.url))
            assert program == "meadowlark"
            assert run(arguments) == 0, f"{line}: {capsys.readouterr().err}"
            asked.append(len(server.asked))
    assert len(lines) == 8
    # The dry run sends nothing, and the recording asks nobody.
    assert asked[2] == 0 < asked[3] < asked[4] == asked[-1]
    rows, _ = read(tmp_path / "runs" / "generated", Record)
    assert len(rows) == 200
    assert {row.licence for row in rows} == {"CC-BY-4.0"}
    again = read_manifest(tmp_path / "runs" / "again")
    assert again.outputs == read_manifest(tmp_path / "runs" / "tasks").outputs


def named_in(table: str) -> list[str]:
    """The code spans in the first column of the table under a heading, at their ellipses."""
    (rows,) = re.findall(rf"\| {table} \|.*?\n\|---.*?\n(.*?)\n\n", GUIDE, re.S)
    cells = [row.split(" | ")[0] for row in rows.splitlines()]
    spans = [span for cell in cells for span in re.findall(r"`([^`]+)`", cell)]
    return [part for span in spans for part in re.split(r"\s*…\s*", span) if part]


@pytest.mark.parametrize("words", [*named_in("message"), *named_in("reason")])
def test_every_message_and_reason_is_one_of_the_programs(words: str) -> None:
    texts = [p.read_text(encoding="utf-8") for room in ("llm", "synth") for p in
             sorted((SOURCE / room).glob("*.py"))]  # fmt: skip
    text = re.sub(r'"\s*\n\s*f?"', "", "".join(texts))
    text = text.replace("{YIELD_WINDOW}", "20").replace(
        "{whose}", "a seed ~ too similar to a kept task"
    )
    assert words in text
