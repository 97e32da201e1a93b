"""MedQuAD: questions about diseases, drugs and tests with answers from NIH web sites.

Raw form: the repository's folder of XML files, or a .tar.gz or .zip of it, read file by file.
Answers of three collections were removed by the authors for copyright, as a comment in each of
their files says; those pairs are rejected as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.raw import files
from meadowlark.sources.source import Source, checked

INSTRUCTION = "Answer this medical question."
REMOVED = b"were removed to comply with"
"""In the comment of every file whose answers the authors took out."""


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question-answer pair, in the order of the file names."""
    found = False
    for name, content in files(raw, (".xml",)):
        found = True
        yield from checked(_pairs(name, content))
    if not found:
        raise UserError(f"{raw} holds no .xml file; expected MedQuAD's folder, .tar.gz or .zip")


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


SOURCE: Source = Source(
    name="medquad",
    title="MedQuAD, medical question answering from NIH web sites",
    origin="github.com/abachaa/MedQuAD",
    licence="CC-BY-4.0",
    obligations="Name the authors.",
    citation="Ben Abacha and Demner-Fushman 2019, BMC Bioinformatics 20:511",
    raw="the repository's folder of XML files, or a .tar.gz or .zip of it",
    size="47,441 pairs, 16,407 of them answered",
    rows=rows,
    signs=("<Document", "<QAPairs"),
    defects=(
        "Answers of the A.D.A.M. and MedlinePlus drug and herb collections were removed by the "
        "authors for copyright; those pairs are rejected.",
        'Questions are made from templates ("What is (are) X ?"), the space before ? included.',
        'Apostrophes and dashes were lost from many answers ("the bodys cells").',
        "Tables and lists were flattened into running text.",
        "48 pairs are exact copies of another (mix drops them).",
    ),
)
