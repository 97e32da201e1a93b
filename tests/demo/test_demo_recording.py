"""The shipped recording answers the demo's requests; after a change it says that it cannot."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from meadowlark.cli import run
from meadowlark.dataset import read, read_manifest
from meadowlark.demo import FOLDER, steps
from meadowlark.demo.rekey import SEEDS, TEACHER, main
from meadowlark.errors import UserError
from meadowlark.labels import TYPES
from meadowlark.records import Record
from meadowlark.synth import prompts
from meadowlark.synth.generate import generate
from meadowlark.synth.respond import respond

REPAIR = "the shipped recording no longer answers: run  python -m meadowlark.demo.rekey"


def test_the_recording_answers_the_demos_own_commands(tmp_path: Path) -> None:
    first = [
        step for step in steps(tmp_path) if "teacher.jsonl" in str(step) or "filter" in str(step)
    ]
    assert [step.arguments[0] for step in first] == ["generate", "filter", "respond"]
    for step in first:
        assert run([*step.arguments]) == 0, REPAIR
    tasks, distinct, answers = (
        read_manifest(tmp_path / name) for name in ("tasks", "distinct", "generated")
    )
    assert tasks.rows["kept"] == 306, REPAIR
    assert tasks.rows["rejected"] == {
        "truncated": 2,
        "empty reply": 1,
        "missing input": 1,
        "missing instruction": 1,
        "refused": 1,
        "repeats an example": 1,
    }
    assert distinct.rows["kept"] == 285
    assert answers.rows["kept"] == 275, REPAIR
    assert answers.rows["rejected"] == {
        "no closing answer": 3,
        "refused": 3,
        "truncated": 3,
        "empty": 1,
    }
    assert answers.warnings == []
    rows, _ = read(tmp_path / "generated", Record)
    assert {row.tags["type"] for row in rows} == set(TYPES)
    assert {row.tags["difficulty"] for row in rows} == set("12345")


def test_the_seeds_span_formats_views_and_difficulties() -> None:
    seeds, unusable = read(SEEDS, Record)
    assert len(seeds) >= 40
    assert unusable == []
    assert Counter(seed.tags["type"] for seed in seeds).keys() == TYPES.keys()
    assert {seed.tags["difficulty"] for seed in seeds} == set("12345")
    assert len({seed.tags["view"] for seed in seeds}) >= 10
    assert len({seed.tags["topic"] for seed in seeds}) >= 40


def test_an_edited_prompt_is_noticed_and_rekey_repairs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = tmp_path / "teacher.jsonl"
    shutil.copy(TEACHER, recording)
    edited = tmp_path / "prompts"
    shutil.copytree(prompts.FOLDER, edited)
    for name in ("generate_user.txt", "respond_data.txt"):
        path = edited / name
        path.write_text(path.read_text(encoding="utf-8") + "\nBe kind.", encoding="utf-8")
    monkeypatch.setattr(prompts, "FOLDER", edited)
    with pytest.raises(UserError, match=r"meadowlark\.demo\.rekey"):
        generate(SEEDS, f"recorded:{recording}", 400, tmp_path / "a", threshold=None)
    lines = len(recording.read_text(encoding="utf-8").splitlines())
    assert main([str(recording)]) == 0
    assert f"{lines} request(s) changed" in capsys.readouterr().out
    tasks = generate(SEEDS, f"recorded:{recording}", 400, tmp_path / "b", threshold=None)
    answers = respond(tmp_path / "b", f"recorded:{recording}", tmp_path / "c")
    assert tasks.manifest.rows["kept"] == 306
    assert answers.manifest.warnings == []
    before, after = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        for path in (TEACHER, recording)
    )
    assert [line["reply"] for line in before] == [line["reply"] for line in after]


def test_rekeying_what_fits_changes_nothing(tmp_path: Path) -> None:
    recording = tmp_path / "teacher.jsonl"
    shutil.copy(TEACHER, recording)
    assert main([str(recording)]) == 0
    assert recording.read_bytes() == TEACHER.read_bytes()


def test_the_folder_says_what_it_is() -> None:
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "None of it was clinically reviewed" in text
    assert "Apache-2.0" in text
