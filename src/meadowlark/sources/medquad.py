"""MedQuAD: questions about diseases, drugs and tests with answers from NIH web sites.

Raw form: the repository's folder of XML files, or a .tar.gz or .zip of it, read file by file.
Answers of three collections were removed by the authors for copyright, as a comment in each of
their files says; those pairs are rejected as such.
"""

from __future__ import annotations

import re
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.source import Source, checked

INSTRUCTION = "Answer this medical question."
REMOVED = b"were removed to comply with"
"""In the comment of every file whose answers the authors took out."""


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question-answer pair, in the order of the file names."""
    found = False
    for name, content in _files(raw):
        found = True
        yield from checked(_pairs(name, content))
    if not found:
        raise UserError(f"{raw} holds no .xml file; expected MedQuAD's folder, .tar.gz or .zip")


def _files(raw: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every XML file, in name order: 2_GARD before 10_MPlus."""
    if raw.is_dir():
        paths = {path.relative_to(raw).as_posix(): path for path in raw.rglob("*.xml")}
        for name in sorted(paths, key=_in_order):
            yield name, paths[name].read_bytes()
        return
    try:
        if zipfile.is_zipfile(raw):
            with zipfile.ZipFile(raw) as archive:
                names = [name for name in archive.namelist() if name.endswith(".xml")]
                contents = {_plain(name): archive.read(name) for name in names}
        else:
            with tarfile.open(raw) as tar:
                # Reading in the archive's own order decompresses it once; rows are sorted by name.
                contents = {
                    _plain(m.name): _content(tar, m)
                    for m in tar
                    if m.isfile() and m.name.endswith(".xml")
                }
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"{raw} is not a readable .tar.gz or .zip archive: {error}") from None
    for name in sorted(contents, key=_in_order):
        yield name, contents[name]


def _plain(name: str) -> str:
    return str(PurePosixPath(name))


def _in_order(name: str) -> list[str | int]:
    """A name's parts with its numbers as numbers, text and number in turn."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None, "a regular member has content"
    return file.read()


def _pairs(name: str, content: bytes) -> Iterator[Record | Rejected]:
    try:
        document = ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        yield Rejected(Record(""), "malformed XML", f"{name}: {error}")
        return
    focus = _text(document.find("Focus"))
    absent = "answer removed by the source" if REMOVED in content else "no answer"
    for pair in document.iter("QAPair"):
        question = pair.find("Question")
        kind = question.get("qtype", "") if question is not None else ""
        record = SOURCE.record(
            INSTRUCTION,
            _text(question),
            _text(pair.find("Answer")),
            topic=focus,
            question_type=kind,
            collection=document.get("source", ""),
            type="open Q&A",
        )
        if not record.input:
            yield Rejected(record, "no question", name)
        elif not record.output:
            yield Rejected(record, absent, name)
        else:
            yield record


def _text(element: ElementTree.Element | None) -> str:
    """An element's text with the XML's indentation undone: lines stripped, list items kept."""
    if element is None:
        return ""
    text = "".join(element.itertext()).strip()
    return _BLANK_LINES.sub("\n\n", _LINE_END.sub("\n", _SPACES.sub(" ", text)))


_SPACES = re.compile(r"[^\S\n]{2,}|[^\S\n ]")
_LINE_END = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")


SOURCE = Source(
    name="medquad",
    title="MedQuAD, medical question answering from NIH web sites",
    origin="github.com/abachaa/MedQuAD",
    licence="CC-BY-4.0",
    obligations="Name the authors.",
    citation="Ben Abacha and Demner-Fushman 2019, BMC Bioinformatics 20:511",
    raw="the repository's folder of XML files, or a .tar.gz or .zip of it",
    size="47,441 pairs, 16,407 of them answered",
    rows=rows,
    defects=(
        "Answers of the A.D.A.M. and MedlinePlus drug and herb collections were removed by the "
        "authors for copyright; those pairs are rejected.",
        'Questions are made from templates ("What is (are) X ?"), the space before ? included.',
        'Apostrophes and dashes were lost from many answers ("the bodys cells").',
        "Tables and lists were flattened into running text.",
        "48 pairs are exact copies of another (mix drops them).",
    ),
)
