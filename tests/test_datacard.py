"""The card of every data set's folder, read by the hub's own libraries, offline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meadowlark.cli import run as command
from meadowlark.datacard import _without_places, data_card
from meadowlark.dataset import fingerprint, open_run, read, read_manifest, write_table
from meadowlark.records import TEST_ONLY, Record, Turn, to_table

CAUSAL = "sentence,label\n" + "".join(
    f'"Finding {n} of the trial was seen in group {n}.",{n % 4}\n' for n in range(20)
)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``datasets.load_dataset`` of a local folder with a cache of its own."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    return lambda path: datasets.load_dataset(str(path), cache_dir=str(tmp_path / "cache"))


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    """A mixture of a converted source and rows of a teacher, made by the command line."""
    raw = tmp_path / "private" / "pubmed_causal_language_use.csv"
    raw.parent.mkdir()
    raw.write_text(CAUSAL)
    causal, own = str(tmp_path / "causal"), str(tmp_path / "own")
    assert command(["convert", "pubmed_causal", "--raw", str(raw), "--out", causal]) == 0
    run = open_run("respond", Path(own), options={}, inputs={})
    with run:
        history = (Turn("user", "I cough."), Turn("assistant", "Since when?"))
        rows = [
            Record(f"Explain {n}", "", f"It is {n}.", history, "teacher", "CC-BY-NC-4.0")
            for n in range(9)
        ]
        run.write(rows, Record)
        run.reject([], Record)
        run.finish()
    assert command(["mix", causal, own, "--val", "5", "--out", str(tmp_path / "mixed")]) == 0
    return tmp_path / "mixed"


def test_the_hubs_card_reader_and_yaml_agree_oracle_huggingface_hub(mixed: Path) -> None:
    from huggingface_hub import DatasetCard

    card = DatasetCard.load(mixed / "README.md")
    data = card.data.to_dict()
    assert data["license"] == "other"
    assert data["license_name"] == "mixed-non-commercial"
    assert data["language"] == ["en"]
    assert data["size_categories"] == ["n<1K"]
    assert {"medical", "synthetic", "non-commercial", "research-use-only"} <= set(data["tags"])
    assert data["configs"][0]["data_files"] == [
        {"split": "train", "path": "rows.parquet"},
        {"split": "validation", "path": "validation.parquet"},
    ]
    assert data["pretty_name"] == "mixed"


def test_load_dataset_gives_all_rows_of_a_folder_oracle_datasets(mixed: Path, loaded: Any) -> None:
    found = loaded(mixed)
    for split, name in (("train", "rows.parquet"), ("validation", "validation.parquet")):
        ours = read(mixed / name, Record)[0]
        assert found[split]["id"] == [record.id for record in ours]
        assert found[split]["output"] == [record.output for record in ours]
        assert [[Turn(**turn) for turn in turns] for turns in found[split]["history"]] == [
            list(record.history) for record in ours
        ]
    assert found["validation"].num_rows == 5
    assert found["train"].column_names == [
        *("id", "instruction", "input", "output", "history", "source", "licence", "parents"),
    ]


def test_the_card_says_what_the_manifests_say(mixed: Path, tmp_path: Path) -> None:
    text = (mixed / "README.md").read_text(encoding="utf-8")
    manifest = read_manifest(mixed)
    assert text.index("Research use only") < text.index("## Sources")
    assert f"{manifest.rows['kept']:,} rows, and 5 for validation, made by `meadowlark mix`" in text
    causal = read_manifest(tmp_path / "causal")
    for defect in causal.results["about"]["defects"]:
        assert f"- `pubmed_causal`: {defect}" in text
    assert causal.results["obligations"] in text
    assert f"| causal | `meadowlark convert` | `{fingerprint(tmp_path / 'causal')}` |" in text
    raw = causal.inputs["raw"]
    assert f"| pubmed_causal_language_use.csv | not known here | `{raw['sha256']}` |" in text
    assert "non-commercial use only (CC-BY-NC-4.0)" in text
    assert str(tmp_path) not in text
    assert "meadowlark mix causal own --val 5 --out mixed" in text


def test_rejected_rows_are_counted_by_reason(tmp_path: Path) -> None:
    raw = tmp_path / "pubmed_causal_language_use.csv"
    raw.write_text(CAUSAL + '"Nobody labelled this.",9\n')
    command(["convert", "pubmed_causal", "--raw", str(raw), "--out", str(tmp_path / "out")])
    reasons = read_manifest(tmp_path / "out").rows["rejected"]
    assert reasons
    text = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "rows of 21 that were read" in text
    for reason, rows in reasons.items():
        assert f"| {reason} | {rows} |" in text


def test_the_card_may_be_edited_and_a_folder_stays_the_same_input(mixed: Path) -> None:
    before = fingerprint(mixed)
    (mixed / "README.md").write_text("mine")
    assert fingerprint(mixed) == before
    assert "README.md" not in read_manifest(mixed).outputs


def test_a_folder_made_anew_is_not_taken_for_what_the_rows_came_from(
    mixed: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "causal" / "manifest.json"
    changed = json.loads(manifest.read_text())
    changed["outputs"]["rows.parquet"] = "0" * 64
    manifest.write_text(json.dumps(changed))
    mixed_manifest = read_manifest(mixed)
    text = data_card(mixed, mixed_manifest)
    assert "Known defects" not in text
    assert f"| causal | not known here | `{mixed_manifest.inputs['causal']['sha256']}` |" in text


def test_rows_for_examining_models_load_as_a_test_split(tmp_path: Path, loaded: Any) -> None:
    run = open_run("convert", tmp_path / "exam", options={"source": "exam"}, inputs={})
    with run:
        run.write([Record("Which?", "", "A.", tags=TEST_ONLY, licence="MIT")], Record)
        run.reject([], Record)
        run.finish(use="test")
    text = (tmp_path / "exam" / "README.md").read_text(encoding="utf-8")
    assert 'license: "mit"' in text
    assert "never for training" in text
    assert list(loaded(tmp_path / "exam")) == ["test"]


def test_rows_in_parts_load_too(tmp_path: Path, loaded: Any) -> None:
    run = open_run("sample", tmp_path / "out", options={}, inputs={})
    with run:
        (run.folder / "rows.parquet").mkdir()
        for n in range(3):
            write_table(
                run.folder / "rows.parquet" / f"{n}.parquet", to_table([Record(f"Row {n}")], Record)
            )
        run.wrote("rows.parquet")
        run.finish()
    assert loaded(tmp_path / "out")["train"]["instruction"] == ["Row 0", "Row 1", "Row 2"]


def test_a_file_without_rows_is_no_split(tmp_path: Path, loaded: Any) -> None:
    """datasets cannot read one, and would not load the other split either."""
    run = open_run("mix", tmp_path / "out", options={}, inputs={})
    with run:
        run.write([Record("Only for training")], Record)
        run.write([], Record, "validation.parquet")
        run.finish()
    assert list(loaded(tmp_path / "out")) == ["train"]
    empty = open_run("sample", tmp_path / "empty", options={}, inputs={})
    with empty:
        empty.write([], Record)
        empty.finish()
    assert "configs" not in (tmp_path / "empty" / "README.md").read_text(encoding="utf-8")


def test_a_command_is_shown_without_places() -> None:
    shown = _without_places(
        "meadowlark respond /home/ann/runs/a --teacher openai:m@http://10.0.0.7:8000/v1 "
        "--models ~/keys/models.toml --out runs/b recorded:/x/y.sqlite /data/c=0.5"
    )
    assert shown == (
        "meadowlark respond a --teacher openai:m@URL --models models.toml --out runs/b "
        "recorded:y.sqlite c=0.5"
    )
