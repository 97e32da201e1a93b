"""Raw files with bad rows in them, or broken: each row is accounted for, none is cut silently."""

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest
from reading import split

from meadowlark.dataset import read_manifest
from meadowlark.errors import UserError
from meadowlark.sources import raw as raw_files
from meadowlark.sources.convert import convert
from meadowlark.sources.raw import files


def test_a_csv_row_with_something_wrong_is_rejected_and_the_others_are_read(tmp_path: Path) -> None:
    """A comma without quotes would cut the sentence; quotes that do not close take rows along."""
    raw = tmp_path / "annotations_a.csv"
    raw.write_bytes(
        b"label,pmid,sentence\n"
        b"0,1,Rest.\n"
        b"1,2,Patients, if old, should rest.\n"
        b"2,3,Caf\xe9 au lait spots should be counted.\n"
        b"1,4\n"
        b'0,5,"He said ""no"".",,\n'
        b'2,6,"Walk" daily.\n'
        b"2,7,Eat.\n"
        b'2,8,"Sleep.\n'
        b"0,9,Sit.\n"
    )
    kept, rejected = split("health_advice", raw)
    assert [row.input for row in kept] == ["Rest.", 'He said "no".', "Eat."]
    assert [(row.reason, row.detail.partition(":")[0]) for row in rejected] == [
        ("more cells than columns", "annotations_a.csv, line 3"),
        ("not UTF-8", "annotations_a.csv, line 4"),
        ("no question", ""),
        ("not CSV", "annotations_a.csv, line 7"),
        ("not CSV", "annotations_a.csv, lines 9 to 10"),
    ]


def test_a_field_above_the_limit_takes_no_other_row_along(tmp_path: Path) -> None:
    raw = tmp_path / "causal.csv"
    raw.write_text(f"sentence,label\n{'x' * (1 << 24)}x,1\nA.,1\n")
    kept, rejected = split("pubmed_causal", raw)
    assert [row.input for row in kept] == ["A."]
    assert [row.reason for row in rejected] == ["not CSV"]


def test_json_that_python_cannot_read_or_write_stops_no_conversion(tmp_path: Path) -> None:
    """Nesting, numbers of thousands of digits, half an emoji, and the NaN that pandas writes."""
    good = {"question": "Q?", "opa": "a", "opb": "b", "opc": "c", "opd": "d", "cop": 1}
    lines = [
        "[" * 100_000,
        '{"cop": ' + "1" * 5000 + "}",
        json.dumps({**good, "question": "Q \ud83d?"}),
        json.dumps({**good, "exp": float("nan")}),
        json.dumps({**good, "question": float("nan")}),
        json.dumps({**good, "question": ["Q?"]}),
        json.dumps({**good, "opb": {"b": 1}}),
    ]
    raw = tmp_path / "train.json"
    raw.write_text("\n".join(lines))
    convert("medmcqa", tmp_path / "out", raw=raw)
    assert read_manifest(tmp_path / "out").rows["rejected"] == {
        "no question": 2,
        "not JSON": 2,
        "empty option": 1,
    }
    kept, _ = split("medmcqa", raw)
    assert [row.output for row in kept] == ["A. a"] * 2
    assert kept[0].input.startswith("Q \ufffd?")


def test_a_gzip_file_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    message = {"message_id": "a", "parent_id": None, "role": "prompter", "text": "Q?", "lang": "en"}
    many = "".join(json.dumps({**message, "message_id": str(n)}) + "\n" for n in range(500))
    raw = tmp_path / "messages.jsonl.gz"
    raw.write_bytes(gzip.compress(many.encode())[:-200])
    _, rejected = split("oasst", raw)
    reasons = {row.reason for row in rejected}
    assert reasons == {"no answer", "file broken off"}
    raw.write_bytes(b"not gzip")
    with pytest.raises(UserError, match=r"not a readable \.gz file"):
        split("oasst", raw)


def archive(path: Path, members: list[tuple[str, bytes]]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in members:
                zipped.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return path


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_names_of_an_archive_lead_nowhere_and_are_read_in_their_order(
    name: str, tmp_path: Path
) -> None:
    members = [("10_b/x.xml", b"b"), ("../../evil.xml", b"e"), ("2_a/x.xml", b"a"), ("n.txt", b"n")]
    raw = archive(tmp_path / name, members)
    assert list(files(raw, (".xml",))) == [
        ("2_a/x.xml", b"a"),
        ("10_b/x.xml", b"b"),
        ("../../evil.xml", b"e"),
    ]
    assert not (tmp_path.parent.parent / "evil.xml").exists()


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_a_file_that_unpacks_to_no_end_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raw_files, "LARGEST", 1 << 20)
    raw = archive(tmp_path / name, [("bomb.xml", bytes(1 << 21))])
    with pytest.raises(UserError, match=r"holds bomb\.xml of more than 1 MB"):
        list(files(raw, (".xml",)))


def test_an_archive_with_a_damaged_file_is_the_users_mistake(tmp_path: Path) -> None:
    raw = archive(tmp_path / "a.zip", [("a.xml", b"<a/>" * 500)])
    content = bytearray(raw.read_bytes())
    content[40:50] = b"\xff" * 10
    raw.write_bytes(content)
    with pytest.raises(UserError, match="not a readable"):
        list(files(raw, (".xml",)))
