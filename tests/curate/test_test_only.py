"""Rows written to examine models are refused as training data, wherever they would come in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meadowlark.cli import run as command
from meadowlark.curate.mix import mix
from meadowlark.dataset import (
    open_run,
    refuse_test_only,
    rows_only_for_tests,
    write_table,
)
from meadowlark.errors import UserError
from meadowlark.records import TEST_ONLY, Record, to_json, to_table

LEARN = [Record(f"Learn {n}", "", "Yes.", source="medquad", tags={"use": "any"}) for n in range(9)]
EXAM = [Record(f"Which {n}?", "", "A.", source="usmle", tags=TEST_ONLY) for n in range(3)]


def folder(path: Path, rows: list[Record]) -> Path:
    run = open_run("sample", path, options={}, inputs={})
    with run:
        run.write(rows, Record)
        run.reject([], Record)
        run.finish()
    return path


@pytest.fixture(params=["folder", "jsonl"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    rows = [*LEARN, *EXAM]
    if request.param == "folder":
        return folder(tmp_path / "data", rows)
    file = tmp_path / "data.jsonl"
    file.write_text("".join(json.dumps(to_json(row)) + "\n" for row in rows))
    return file


def test_they_are_counted_by_source(data: Path) -> None:
    assert rows_only_for_tests(data) == {"usmle": 3}
    assert rows_only_for_tests(data, limit=10) == {"usmle": 1}
    assert rows_only_for_tests(data, limit=9) == {}
    with pytest.raises(UserError, match=r"examining models only \(3 of usmle, tagged use=test\)"):
        refuse_test_only(data)


def test_mix_refuses_them_before_it_makes_anything(tmp_path: Path, data: Path) -> None:
    good = folder(tmp_path / "good", LEARN)
    with pytest.raises(UserError, match="3 of usmle"):
        mix([str(good), f"{data}=2"], tmp_path / "mixed")
    assert not (tmp_path / "mixed").exists()
    assert mix([str(good)], tmp_path / "mixed", val=0).manifest.rows["kept"] == 9


def test_a_file_without_tags_holds_none(tmp_path: Path) -> None:
    table = to_table(EXAM, Record).select(["instruction", "output"])
    write_table(tmp_path / "rows.parquet", table)
    assert rows_only_for_tests(tmp_path / "rows.parquet") == {}


def test_the_usmle_source_cannot_be_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    question = {"no": 1, "question": "Which organ beats?", "options": {"A": "Heart", "B": "Liver"}}
    (raw / "step1.json").write_text(json.dumps([question]))
    (raw / "step1_solutions.json").write_text(json.dumps({"1": "A"}))
    out = tmp_path / "usmle"
    assert command(["convert", "usmle_self_assessment", "--raw", str(raw), "--out", str(out)]) == 0
    assert command(["mix", str(out), "--out", str(tmp_path / "mixed")]) == 2
    assert "1 of usmle_self_assessment, tagged use=test" in capsys.readouterr().err
