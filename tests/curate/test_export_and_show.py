"""Export reads back as the same conversation; show escapes what people and models wrote."""

import json
from pathlib import Path

import pytest

from meadowlark.cli import run
from meadowlark.curate.export import FORMATS, export
from meadowlark.curate.filter import filter_records
from meadowlark.dataset import open_run, read
from meadowlark.errors import UserError
from meadowlark.records import Record, Turn

ROWS = [
    Record("Explain", "fever", "Heat."),
    Record("Explain µg ≥ 5", "", "It is “small”."),
    Record("And then?", "", "Rest.", (Turn("user", "I cough"), Turn("assistant", "Since when?"))),
    Record("No answer yet"),
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    run_ = open_run("sample", tmp_path / "data", options={}, inputs={})
    with run_:
        run_.write(ROWS, Record)
        run_.reject([], Record)
        run_.finish()
    return tmp_path / "data"


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_an_export_reads_back_as_the_same_rows(
    format: str, suffix: str, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / f"rows{suffix}"
    assert export(data, out, format) == (4, 0)
    rows, rejected = read(out, Record)
    assert rejected == []
    assert [row.id for row in rows] == [row.id for row in ROWS]


def test_messages_are_what_chat_apis_take(data: Path, tmp_path: Path) -> None:
    export(data, tmp_path / "rows.json", "messages")
    first = json.loads((tmp_path / "rows.json").read_text())[0]
    assert first == {
        "messages": [
            {"role": "user", "content": "Explain\n\n### Input:\nfever"},
            {"role": "assistant", "content": "Heat."},
        ]
    }


def test_export_never_overwrites_unasked(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "rows.json"
    out.write_text("mine")
    with pytest.raises(UserError, match="exists"):
        export(data, out, "alpaca")
    assert out.read_text() == "mine"
    assert export(data, out, "alpaca", force=True, limit=2) == (2, 0)
    with pytest.raises(UserError, match="Did you mean 'alpaca'"):
        export(data, tmp_path / "b.json", "alpacca")
    with pytest.raises(UserError, match=r"\.json or \.jsonl"):
        export(data, tmp_path / "b.txt", "alpaca")


def test_show_prints_markup_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"instruction": "[red]Stop[/red]", "topic": "[link=x]t[/link]"}]))
    assert run(["show", str(file)]) == 0
    out = capsys.readouterr().out
    assert "[red]Stop[/red]" in out
    assert "[link=x]t[/link]" in out


def test_show_finds_a_row_by_id_and_rejected_rows(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["show", str(data), "--id", ROWS[0].id[:6]]) == 0
    assert "Heat." in capsys.readouterr().out
    assert run(["show", str(data), "--id", "zzz"]) == 2
    doubled = tmp_path / "doubled.json"
    doubled.write_text(json.dumps([{"instruction": "Explain the cause of fever"}] * 2))
    filter_records(doubled, tmp_path / "out")
    capsys.readouterr()
    assert run(["show", str(tmp_path / "out"), "--rejected"]) == 0
    assert "near-duplicate by ROUGE-L" in capsys.readouterr().out
