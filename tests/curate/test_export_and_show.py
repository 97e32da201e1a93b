"""Export reads back as the same conversation; show escapes what people and models wrote."""

import json
import re
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
    Record("Go on", "", "Yes.", (Turn("system", "Be brief."),), source="s", licence="MIT"),
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
    assert export(data, out, format) == (len(ROWS), 0)
    rows, rejected = read(out, Record)
    assert rejected == []
    assert rows == ROWS


def test_messages_are_what_chat_apis_take(data: Path, tmp_path: Path) -> None:
    export(data, tmp_path / "rows.json", "messages")
    first = json.loads((tmp_path / "rows.json").read_text())[0]
    assert first == {
        "id": ROWS[0].id,
        "messages": [
            {"role": "user", "content": "Explain\n\n### Input:\nfever"},
            {"role": "assistant", "content": "Heat."},
        ],
    }


def test_alpaca_history_is_pairs_as_llama_factory_documents_them(
    data: Path, tmp_path: Path
) -> None:
    export(data, tmp_path / "rows.json", "alpaca")
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert rows[2]["history"] == [["I cough", "Since when?"]]
    assert rows[4]["system"] == "Be brief."
    assert (rows[4]["source"], rows[4]["licence"]) == ("s", "MIT")


def test_turns_that_alpaca_cannot_hold_are_refused_by_id(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    messages = [{"role": "user", "content": text} for text in ("One", "Two")]
    file.write_text(json.dumps([{"messages": messages}]))
    record = read(file, Record)[0][0]
    with pytest.raises(UserError, match=f"{record.id} cannot be written as alpaca"):
        export(file, tmp_path / "out.json", "alpaca")
    assert not (tmp_path / "out.json").exists()
    assert export(file, tmp_path / "out.json", "messages") == (1, 0)


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


def test_show_sends_no_control_codes_to_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    text = "red \x1b[31m, bell \a, turned \u202e, wrapped\r, kept: µg ≥ 5 “é” 😀\n\tline"
    file.write_text(json.dumps([{"instruction": text, "topic": "\x1b]0;title\a"}]))
    assert run(["show", str(file)]) == 0
    out = capsys.readouterr().out
    assert not {"\x1b", "\a", "\r", "\u202e"} & set(out)
    assert r"red \x1b[31m, bell \x07, turned \u202e, wrapped\r, kept: µg ≥ 5 “é” 😀" in out


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


def test_show_takes_the_first_rows_or_a_random_few_that_the_seed_fixes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"instruction": f"Explain sign number {n}"} for n in range(50)]))

    def shown(*options: str) -> list[int]:
        assert run(["show", str(file), *options]) == 0
        return [int(n) for n in re.findall(r"sign number (\d+)", capsys.readouterr().out)]

    assert shown("--first", "--n", "4") == [0, 1, 2, 3]
    assert shown("--first") == [0, 1, 2]
    one = shown("--n", "10", "--seed", "1")
    assert one == shown("-n", "10", "--seed", "1") == sorted(set(one))
    assert len(one) == 10
    assert one != shown("--n", "10", "--seed", "2")
    assert shown("--n", "99", "--seed", "2") == list(range(50))
