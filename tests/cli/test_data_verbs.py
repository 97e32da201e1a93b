"""The data verbs in the order of a recipe, as typed: convert, filter, mix, show, stats, export."""

import json
from pathlib import Path

import pytest

from meadowlark.cli import run
from meadowlark.dataset import read, read_manifest
from meadowlark.records import Record


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    folder = tmp_path / "patients"
    assert run(["convert", "patient_questions", "--out", str(folder)]) == 0
    return folder


def test_from_a_raw_file_to_another_tools_layout(
    patients: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    distinct, mixed, file = tmp_path / "distinct", tmp_path / "mixed", tmp_path / "out.jsonl"
    assert run(["filter", str(patients), "--field", "output", "--out", str(distinct)]) == 0
    assert run(["mix", f"{distinct}=100", "--val", "0.1", "--out", str(mixed)]) == 0
    assert "licence: attribution (Apache-2.0)" in capsys.readouterr().out
    assert run(["show", str(mixed), "-n", "1"]) == 0
    assert "patient_questions · Apache-2.0" in capsys.readouterr().out
    assert run(["stats", str(patients), str(mixed)]) == 0
    assert "180" in capsys.readouterr().out
    assert run(["export", str(mixed), "--format", "messages", "--out", str(file)]) == 0
    exported, rejected = read(file, Record)
    training, _ = read(mixed, Record)
    assert rejected == []
    assert [row.id for row in exported] == [row.id for row in training]
    assert len(exported) == 90


@pytest.mark.parametrize(
    "verb",
    [
        ["convert", "patient_questions"],
        ["filter", "{patients}"],
        ["mix", "{patients}"],
        ["stats", "{patients}"],
    ],
    ids=lambda verb: verb[0],
)
def test_the_same_run_again_does_nothing_and_another_is_refused(
    verb: list[str], patients: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = [word.format(patients=patients) for word in verb]
    assert run([*words, "--out", str(out)]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    capsys.readouterr()
    assert run([*words, "--out", str(out)]) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run([*words, "--limit", "20", "--out", str(out)]) == 2
    assert "limit: null there, 20 asked" in capsys.readouterr().err
    assert run([*words, "--limit", "20", "--out", str(out), "--force"]) == 0
    assert read_manifest(out).options["limit"] == 20


def test_a_mixture_does_not_depend_on_the_order_of_its_files(
    patients: Path, tmp_path: Path
) -> None:
    rows, _ = read(patients, Record)
    files = []
    for name, chosen in (("one", rows), ("two", rows[::-1])):
        file = tmp_path / name / "rows.jsonl"
        file.parent.mkdir()
        layout = [
            {"instruction": r.instruction, "input": r.input, "output": r.output} for r in chosen
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in layout))
        files.append(file)
    for file in files:
        out = file.parent / "mixed"
        assert run(["mix", f"{file}=77", "--val", "7", "--seed", "3", "--out", str(out)]) == 0
    one, two = (file.parent / "mixed" for file in files)
    for name in ("rows.parquet", "validation.parquet"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


def test_the_real_sources_make_one_mixture(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = {
        "wikidoc_patient_information": "medical_meadow_small.json",
        "pubmed_causal": "pubmed_causal_language_use.csv",
        "chatdoctor": "chatdoctor5k.json",
    }
    for name, file in raw.items():
        path = str(real_data / "meadow" / name / file)
        assert run(["convert", name, "--raw", path, "--out", str(tmp_path / name)]) == 0
    distinct, mixed = tmp_path / "distinct", tmp_path / "mixed"
    words = [str(tmp_path / "chatdoctor"), "--field", "input", "--out", str(distinct)]
    assert run(["filter", *words]) == 0
    assert read_manifest(distinct).rows["kept"] == 4378
    parts = [str(tmp_path / "wikidoc_patient_information"), f"{tmp_path}/pubmed_causal=1500"]
    assert run(["mix", *parts, str(distinct), "--val", "0.05", "--out", str(mixed)]) == 0
    manifest = read_manifest(mixed)
    # 98 exact copies go before rows are drawn: 5,850 + 1,500 + 4,378 rows, a twentieth held out.
    assert manifest.rows["rejected"] == {"exact duplicate": 98}
    assert (manifest.rows["kept"], manifest.rows["validation"]) == (11142, 586)
    assert manifest.results["licence"].startswith("non-commercial use only (LicenseRef-ChatDoctor)")


def test_show_says_which_rows_it_cannot_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.csv").write_text("instruction,output\nWhat helps?,Rest, and fluids\nWhy?,So.\n")
    assert run(["show", str(tmp_path / "d.csv")]) == 0
    said = capsys.readouterr().out
    assert "1 row cannot be read; more cells than columns: row 1" in said
    assert "Why?" in said
