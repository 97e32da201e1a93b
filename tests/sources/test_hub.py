"""The hub's copies, read by the package datasets from a folder with the hub's column names."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from meadowlark.cli import run
from meadowlark.dataset import read, read_manifest
from meadowlark.errors import UserError
from meadowlark.records import Record
from meadowlark.sources import SOURCES, hub

datasets = pytest.importorskip("datasets")
COLUMNS: dict[str, list[dict[str, object]]] = {
    "medical_flashcards": [
        {"instruction": "Answer this question truthfully", "input": "What?", "output": "That."},
        {"instruction": "Answer this question truthfully", "input": "What?", "output": ""},
    ],
    "cord19": [
        {"instruction": "Please summerize", "input": "An abstract.", "output": "A title"},
        {"instruction": "Please summerize", "input": "An abstract.", "output": ""},
    ],
    "pubmed_causal": [
        {"instruction": "Q", "input": "S.", "output": "This is a causative relationship"},
        {"instruction": "Q", "input": "S.", "output": "none of them"},
    ],
    "medmcqa": [
        {"id": "1", "question": "Q?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 0,
         "choice_type": "single", "exp": None, "subject_name": "Anatomy", "topic_name": None},
        {"id": "2", "question": "Q?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": -1,
         "choice_type": "single", "exp": None, "subject_name": "Anatomy", "topic_name": None},
    ],
}  # fmt: skip


def stand_in(source: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point a source's hub set at a folder on disk that holds these rows."""
    folder.mkdir()
    lines = (json.dumps(row) for row in COLUMNS[source])
    (folder / "train.jsonl").write_text("\n".join(lines) + "\n")
    card = SOURCES[source]
    local = tuple(replace(each, name=str(folder), revision="") for each in card.hub)
    monkeypatch.setitem(SOURCES, source, replace(card, hub=local))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("source", COLUMNS)
def test_a_hub_copy_is_converted_with_its_columns_by_datasets(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(source, tmp_path / "hub", monkeypatch)
    assert run(["convert", source, "--hub", "--out", str(tmp_path / "out")]) == 0
    manifest = read_manifest(tmp_path / "out")
    assert manifest.rows["kept"] == 1
    assert sum(manifest.rows["rejected"].values()) == 1
    assert list(manifest.options["hub"].values()) == [hub.LOCAL]
    rows, _ = read(tmp_path / "out", Record)
    assert rows[0].source == source


@pytest.mark.filterwarnings("ignore")
def test_a_copy_that_changed_its_columns_is_an_error_that_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(COLUMNS, "cord19", [{"abstract": "a", "title": "b"}])
    stand_in("cord19", tmp_path / "hub", monkeypatch)
    assert run(["convert", "cord19", "--hub", "--out", str(tmp_path / "out")]) == 2
    assert "its form has changed" in capsys.readouterr().err


def test_commits_come_from_the_card_or_the_command() -> None:
    known = SOURCES["cord19"]
    assert list(hub.pin(known, ()).values()) == [known.hub[0].revision]
    assert list(hub.pin(known, ["abc"]).values()) == ["abc"]
    with pytest.raises(UserError, match="once for each of"):
        hub.pin(SOURCES["chatdoctor"], ["abc"])
    with pytest.raises(UserError, match="not on the hub"):
        hub.pin(SOURCES["medquad"], ())


def test_the_hub_out_of_reach_is_one_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import huggingface_hub

    class Offline:
        def dataset_info(self, name: str) -> None:
            raise ConnectionError(f"cannot reach the hub for {name}")

    monkeypatch.setattr(huggingface_hub, "HfApi", Offline)
    assert run(["convert", "mediqa", "--hub", "--out", str(tmp_path / "out")]) == 2
    assert "mediqa cannot be read:" in capsys.readouterr().err
    assert run(["convert", "mediqa", "--revision", "x", "--raw", ".", "--out", "y"]) == 2
    assert "give it with --hub" in capsys.readouterr().err
