"""The recipe that rebuilds Medical Meadow: its sizes are the table's; it runs on what is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from meadowlark.curate.meadow import TABLE
from meadowlark.dataset import read_manifest

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "medical-meadow.sh"
ADDED = re.compile(r"^(?:REPHRASE=\w+ )?add \w+ (\S+) (\w+) (\d+)", re.M)


def test_the_recipe_takes_what_the_paper_took_of_each_source() -> None:
    added = ADDED.findall(RECIPE.read_text(encoding="utf-8"))
    for row in (row for row in TABLE if row.used):
        found = [int(n) for file, source, n in added if source == row.source and row.value in file]
        assert found == [row.used], row.title
    assert sum(int(n) for *_, n in added) == 229_438 + 10_178  # MedQA is beside the table's sum


def run(raw: Path, out: Path, tmp_path: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    """The recipe with this package's command on the path."""
    command = tmp_path / "bin" / "meadowlark"
    command.parent.mkdir(exist_ok=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m meadowlark "$@"\n')
    command.chmod(0o755)
    path = f"{command.parent}:{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "RAW": str(raw), **extra}
    return subprocess.run(
        ["bash", str(RECIPE), str(out)], capture_output=True, text=True, env=env, check=False
    )


def test_a_folder_without_sources_is_said(tmp_path: Path) -> None:
    done = run(tmp_path, tmp_path / "out", tmp_path)
    assert done.returncode == 2
    assert "holds none of the sources" in done.stderr
    assert done.stdout.count("is left out") == 17


@pytest.mark.slow
def test_it_runs_on_the_sources_that_are_there(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "pubmed_causal_language_use.csv").write_text(
        "sentence,label\n"
        + "".join(f'"Marker number {n} rose in trial {n * 7}.",{n % 4}\n' for n in range(40))
    )
    chats = [
        {
            "instruction": "Answer the patient.",
            "input": f"I have had pain in joint {n} for {n} days, what is it?",
            "output": f"Pain in joint {n} that lasts {n} days has many causes; have it looked at.",
        }
        for n in range(30)
    ]
    (raw / "chatdoctor.json").write_text(json.dumps(chats))
    done = run(raw, tmp_path / "out", tmp_path, LIMIT="25")
    assert done.returncode == 0, done.stderr
    mixed = read_manifest(tmp_path / "out" / "mixed")
    assert mixed.seed == 42
    assert set(mixed.licences) == {
        licence
        for name in ("causal", "chatdoctor")
        for licence in read_manifest(tmp_path / "out" / "clean" / name).licences
    }
    assert read_manifest(tmp_path / "out" / "raw" / "causal").rows["in"] == 25
    assert "1,499,176" in done.stdout
    assert (tmp_path / "out" / "mixed" / "README.md").exists()
