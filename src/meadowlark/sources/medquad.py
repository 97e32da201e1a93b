"""MedQuAD: questions about diseases, drugs and tests with answers from NIH web sites.

Raw form: the repository's folder of XML files, or a .tar.gz of it, read file by file. Answers of
three collections were removed by the authors for copyright; those pairs are rejected as such.
"""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.source import Source, checked

INSTRUCTION = "Answer this medical question."


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question-answer pair, in the order of the file names."""
    found = False
    for name, content in _files(raw):
        found = True
        yield from checked(_pairs(name, content))
    if not found:
        raise UserError(f"{raw} holds no .xml file; expected MedQuAD's folder or its .tar.gz")


def _files(raw: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every XML file, in name order."""
    if raw.is_dir():
        for path in sorted(raw.rglob("*.xml")):
            yield str(path.relative_to(raw)), path.read_bytes()
        return
    try:
        with tarfile.open(raw) as archive:
            members = [m for m in archive if m.isfile() and m.name.endswith(".xml")]
            # Reading in the archive's own order decompresses it once; rows are sorted by name.
            contents = {m.name: _content(archive, m) for m in members}
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{raw} is not a readable tar archive: {error}") from None
    yield from sorted(contents.items())


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
            yield Rejected(record, "answer removed by the source", name)
        else:
            yield record


def _text(element: ElementTree.Element | None) -> str:
    """An element's text with the XML's indentation undone: lines stripped, list items kept."""
    if element is None:
        return ""
    text = "".join(element.itertext())
    lines = [re.sub(r"[ \t]+", " ", line).strip() for line in text.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


SOURCE = Source(
    name="medquad",
    title="MedQuAD, medical question answering from NIH web sites",
    origin="github.com/abachaa/MedQuAD",
    licence="CC-BY-4.0",
    obligations="Name the authors.",
    citation="Ben Abacha and Demner-Fushman 2019, BMC Bioinformatics 20:511",
    raw="the repository's folder of XML files, or a .tar.gz of it",
    size="47,441 pairs, of which 16,407 have an answer",
    rows=rows,
    defects=(
        "Answers of the A.D.A.M. and MedlinePlus drug and herb collections were removed by the "
        "authors for copyright; those pairs are rejected.",
        'Questions are made from templates ("What are the symptoms of X ?").',
    ),
)
