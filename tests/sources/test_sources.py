"""Open sources: every raw row accounted for, labels as annotated, real files counted."""

import json
import shutil
import tarfile
from pathlib import Path

import pytest
from reading import split

from meadowlark.cli import run
from meadowlark.dataset import read, read_manifest
from meadowlark.errors import UserError
from meadowlark.records import Record
from meadowlark.sources import SOURCES
from meadowlark.sources.convert import convert


@pytest.mark.parametrize("source", SOURCES)
def test_a_card_is_whole(source: str) -> None:
    card = SOURCES[source]
    assert card.name == source
    for text in (card.title, card.origin, card.licence, card.obligations, card.citation, card.raw):
        assert text
    assert card.use in ("train", "test")
    assert card.verified.startswith(("real files", "schema only"))


def test_pubmed_causal_follows_the_raw_labels(tmp_path: Path) -> None:
    raw = tmp_path / "causal.csv"
    raw.write_text('sentence,label\n"A, b.",0\nC.,1\nD.,2\nE.,3\nF.,7\n,1\n')
    kept, rejected = split("pubmed_causal", raw)
    assert [row.output for row in kept] == [
        "The text describes no relationship.",
        "The text describes a directly causal relationship.",
        "The text describes a conditionally causal relationship.",
        "The text describes a correlational relationship.",
    ]
    assert kept[0].input == "A, b."
    assert [(r.reason, r.row.input) for r in rejected] == [
        ("unknown label", "F."),
        ("no question", ""),
    ]


def test_chatdoctor_reads_both_answer_columns_and_keeps_dna(tmp_path: Path) -> None:
    raw = tmp_path / "chat.json"
    rows = [
        {"instruction": "Be a doctor.", "input": " My DNA test? ", "output": "Ask a geneticist."},
        {"input": "I cough.", "answer_icliniq": "Rest.", "answer_chatgpt": "Other."},
        {"instruction": "Be a doctor.", "input": "I cough.", "output": " "},
        {"instruction": "Be a doctor.", "input": "", "output": "Rest."},
        "text",
    ]
    raw.write_text(json.dumps(rows))
    kept, rejected = split("chatdoctor", raw)
    assert [(row.input, row.output) for row in kept] == [
        ("My DNA test?", "Ask a geneticist."),
        ("I cough.", "Rest."),
    ]
    assert [r.reason for r in rejected] == ["no answer", "no question", "not a JSON object"]


DOCUMENT = """<?xml version="1.0" encoding="UTF-8"?>
<Document id="1" source="GARD">{}<Focus>Fever</Focus><QAPairs>
  <QAPair pid="1"><Question qid="1-1" qtype="information">What is Fever ?</Question>
    <Answer>Key Points
                - Heat.    - Sweat &amp; chills.


                Rest.</Answer></QAPair>
  <QAPair pid="2"><Question qid="1-2" qtype="causes">Why ?</Question><Answer></Answer></QAPair>
</QAPairs></Document>"""


@pytest.fixture
def medquad_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "medquad" / "1_GARD"
    folder.mkdir(parents=True)
    (folder / "b.xml").write_text(DOCUMENT.format(""))
    (folder / "a.xml").write_text("<Document><unclosed></Document>")
    (folder.parent / "10_ADAM").mkdir()
    removed = "<!--Answers were removed to comply with the MedlinePlus copyright-->"
    (folder.parent / "10_ADAM" / "a.xml").write_text(DOCUMENT.format(removed))
    return tmp_path / "medquad"


def test_medquad_keeps_lines_and_names_what_is_missing(medquad_folder: Path) -> None:
    kept, rejected = split("medquad", medquad_folder)
    assert [row.input for row in kept] == ["What is Fever ?"] * 2
    assert kept[0].output == "Key Points\n- Heat. - Sweat & chills.\n\nRest."
    assert kept[0].tags["topic"] == "Fever"
    assert [(r.reason, r.detail.split(":")[0]) for r in rejected] == [
        ("malformed XML", "1_GARD/a.xml"),
        ("no answer", "1_GARD/b.xml"),
        ("answer removed by the source", "10_ADAM/a.xml"),
    ]


def test_medquad_reads_the_same_from_an_archive(medquad_folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "medquad.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(medquad_folder, arcname=".")
    assert split("medquad", archive) == split("medquad", medquad_folder)
    zipped = shutil.make_archive(str(tmp_path / "zipped"), "zip", medquad_folder)
    assert split("medquad", Path(zipped)) == split("medquad", medquad_folder)
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(UserError, match=r"not a readable \.tar\.gz or \.zip"):
        split("medquad", archive)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \.xml file"):
        split("medquad", tmp_path / "empty")


def test_the_shipped_source_needs_no_raw_file(tmp_path: Path) -> None:
    convert("patient_questions", tmp_path / "out")
    rows, _ = read(tmp_path / "out", Record)
    assert len(rows) == 180
    assert all(row.licence == "Apache-2.0" and row.output for row in rows)
    questions = {row.input for row in rows}
    assert "What are the symptoms of asthma?" in questions
    assert "How is a urinary tract infection treated?" in questions
    assert "What are kidney stones?" in questions
    assert not read_manifest(tmp_path / "out").rows["rejected"]


def test_every_source_is_listed_by_its_whole_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sources"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1 : 1 + len(SOURCES)]] == list(SOURCES)


def test_a_file_of_another_source_is_said_to_be_wrong(tmp_path: Path) -> None:
    raw = tmp_path / "causal.csv"
    raw.write_text("sentence,label\nA.,0\n")
    run_ = convert("wikidoc_patient_information", tmp_path / "out", raw=raw)
    assert run_.manifest.rows["rejected"] == {"not a record": 1}
    assert "no row could be used" in run_.manifest.warnings[0]


def test_rows_of_many_batches_keep_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "causal.csv"
    raw.write_text("sentence,label\n" + "".join(f"S{n}.,{n % 5}\n" for n in range(23)))
    monkeypatch.setattr("meadowlark.spool.ROW_GROUP", 4)
    convert("pubmed_causal", tmp_path / "out", raw=raw)
    rows, _ = read(tmp_path / "out", Record)
    assert rows == split("pubmed_causal", raw)[0]
    assert read_manifest(tmp_path / "out").rows["rejected"] == {"unknown label": 4}


def test_mistakes_name_what_was_expected(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "out")
    assert run(["convert", "medquat", "--out", out]) == 2
    assert "Did you mean 'medquad'" in capsys.readouterr().err
    assert run(["convert", "medquad", "--out", out]) == 2
    assert "give --raw with the repository's folder" in capsys.readouterr().err
    assert run(["convert", "medquad", "--raw", "/nowhere", "--out", out]) == 2
    assert "no such file or folder: /nowhere" in capsys.readouterr().err
    raw = tmp_path / "causal.csv"
    raw.write_bytes("sentence,label\nA.,1\n".encode("utf-16"))
    for path, said in ((raw, "is not in UTF-8"), (tmp_path, "cannot be read as a CSV with the")):
        assert run(["convert", "pubmed_causal", "--raw", str(path), "--out", out]) == 2
        assert said in capsys.readouterr().err
    raw.write_text("sentence,label\nA.,1\n")
    corrected = ["convert", "pubmed_causal", "--raw", str(raw), "--out", out]
    assert run(corrected) == 0, "a mistake leaves nothing that would need --force"
    assert run(["sources", "pubmed_causal"]) == 0
    assert "permutes the label texts" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("source", "path", "kept", "rejected"),
    [
        ("wikidoc_patient_information", "medical_meadow_small.json", 5942, {}),
        ("pubmed_causal", "pubmed_causal_language_use.csv", 3061, {}),
        ("chatdoctor", "chatdoctor5k.json", 5452, {}),
        # 31,029 in the three collections whose files say so, 5 merely empty in GARD.
        (
            "medquad",
            "medquad_all.tar.gz",
            16407,
            {"answer removed by the source": 31029, "no answer": 5},
        ),
    ],
)
def test_real_files_are_converted_whole(
    source: str, path: str, kept: int, rejected: dict[str, int], real_data: Path, tmp_path: Path
) -> None:
    convert(source, tmp_path, raw=real_data / "meadow" / source / path)
    rows = read_manifest(tmp_path).rows
    assert rows["kept"] == kept
    assert rows["rejected"] == rejected


def test_real_pubmed_causal_labels_are_distributed_as_published(real_data: Path) -> None:
    raw = real_data / "meadow/pubmed_causal/pubmed_causal_language_use.csv"
    kept, _ = split("pubmed_causal", raw)
    counts = [sum(row.tags["label"] == label for row in kept) for label in "0123"]
    # Yu, Li and Wang 2019: 1,356 none, 494 direct, 213 conditional, 998 correlational.
    assert counts == [1356, 494, 213, 998]
