"""Medical flashcards: Anki cards, a question on the front and its answer on the back.

Raw form: a collection as .apkg, or its notes exported as text (fields divided by tabs). Cards with
images are dropped, as in Medical Meadow; a cloze card becomes its sentence with a gap and the words
that fill it. Medical Meadow then had a model write card and answer anew: ``rephrase --style
flashcard`` does that here.
"""

from __future__ import annotations

import csv
import re
import sqlite3
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.markdown import TooLong, to_markdown
from meadowlark.sources.raw import unreadable
from meadowlark.sources.source import WORDING, HubSet, Source, instruction_rows

INSTRUCTION = {
    "ours": "Answer this medical question.",
    "published": "Answer this question truthfully",
}
CLOZE = {
    "ours": "Complete this medical statement: say what belongs in the gap.",
    "published": "Answer this question truthfully",
}
FIELD = "\x1f"
"""What divides a note's fields in Anki's own database."""
GAP = "____"
_IMAGE = re.compile(r"<img\b|\[sound:|<video\b|<audio\b", re.IGNORECASE)
_CLOZE = re.compile(r"\{\{c(\d+)::(.*?)(?:::(.*?))?\}\}", re.DOTALL)
COLLECTIONS = ("collection.anki21b", "collection.anki21", "collection.anki2")
"""A package's databases, newest form first: an older one beside it may hold a notice only."""


def rows(raw: Path, wording: str = "ours") -> Iterator[Record | Rejected]:
    """One record a card: two for a cloze note with two gaps."""
    notes = _package(raw) if zipfile.is_zipfile(raw) else _text_export(raw)
    seen: set[str] = set()
    for number, (fields, tags) in enumerate(notes, 1):
        key = FIELD.join(fields)
        if key in seen:
            yield unreadable("duplicate note", f"note {number}")
        else:
            seen.add(key)
            yield from _cards(fields, tags, f"note {number}", wording)


def _cards(fields: list[str], tags: str, where: str, wording: str) -> Iterator[Record | Rejected]:
    front = fields[0] if fields else ""
    back = fields[1] if len(fields) > 1 else ""
    kept = {"topic": tags.strip(), "type": "open Q&A", "view": "student"}
    if _IMAGE.search(front) or _IMAGE.search(back):
        yield Rejected(SOURCE.record("", front, back), "card with an image or sound", where)
        return
    try:
        question, answer = to_markdown(front), to_markdown(back)
    except TooLong as error:
        yield Rejected(SOURCE.record("", "", ""), "too long", f"{where}: {error}")
        return
    gaps = sorted({found[1] for found in _CLOZE.finditer(question)}, key=int)
    if not gaps:
        record = SOURCE.record(INSTRUCTION[wording], question, answer, **kept)
        if not question:
            yield Rejected(record, "no question", where)
        else:
            yield record if answer else Rejected(record, "no answer", where)
    for gap in gaps:
        asked, filled = _gapped(question, gap)
        record = SOURCE.record(CLOZE[wording], asked, filled, **kept | {"type": "cloze"})
        yield record if filled else Rejected(record, "no answer", where)


def _gapped(text: str, gap: str) -> tuple[str, str]:
    """The statement with one numbered gap open and all others filled, and what fills it."""
    filled = []

    def fill(found: re.Match[str]) -> str:
        number, words, hint = found[1], found[2].strip(), (found[3] or "").strip()
        if number != gap:
            return words
        filled.append(words)
        return f"{GAP} ({hint})" if hint else GAP

    return _CLOZE.sub(fill, text), "; ".join(dict.fromkeys(filter(None, filled)))


def _package(raw: Path) -> Iterator[tuple[list[str], str]]:
    """Fields and tags of every note of an .apkg, in the order in which they were made."""
    with zipfile.ZipFile(raw) as package, tempfile.TemporaryDirectory() as folder:
        inside = [name for name in COLLECTIONS if name in package.namelist()]
        if not inside:
            raise UserError(f"{raw} is no Anki package: it holds no {COLLECTIONS[-1]}")
        path = Path(folder) / "collection.sqlite"
        content = package.read(inside[0])
        if inside[0].endswith("21b"):
            content = pa.CompressedInputStream(pa.BufferReader(content), "zstd").read()
        path.write_bytes(content)
        try:
            database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
            for fields, tags in database.execute("select flds, tags from notes order by id"):
                yield fields.split(FIELD), tags
            database.close()
        except sqlite3.DatabaseError as error:
            raise UserError(f"{raw} holds no readable Anki collection: {error}") from None


def _text_export(raw: Path) -> Iterator[tuple[list[str], str]]:
    """Notes as Anki writes them to a text file: ``#separator:tab`` and other heads come first."""
    heads: dict[str, str] = {}
    with raw.open(encoding="utf-8-sig", newline="") as file:
        place = file.tell()
        while (line := file.readline()).startswith("#"):
            name, _, value = line[1:].strip().partition(":")
            heads[name.lower()] = value
            place = file.tell()
        file.seek(place)
        named = {"tab": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
        given = heads.get("separator", "tab")
        column = int(heads.get("tags column", 0))
        skipped = {
            int(heads[f"{name} column"])
            for name in ("guid", "notetype", "deck", "tags")
            if f"{name} column" in heads
        }
        for row in csv.reader(file, delimiter=named.get(given.lower(), given)):
            if row:
                tags = row[column - 1] if 0 < column <= len(row) else ""
                yield [cell for n, cell in enumerate(row, 1) if n not in skipped], tags


SOURCE: Source = Source(
    name="medical_flashcards",
    title="Medical flashcards (Anki)",
    origin="students' Anki collections",
    licence="LicenseRef-unknown",
    obligations="Whoever made the collection says what may be done with it; find out before use.",
    citation="Han et al. 2023, MedAlpaca, arXiv:2304.08247",
    raw="a collection as .apkg, or its notes as a text file with tabs",
    size="33,955 rows in Medical Meadow",
    rows=rows,
    verified="schema only, never run on real files",
    settings={"wording": WORDING},
    defects=(
        "Cards are short hand; the published rows were written anew by a model (rephrase).",
        "Cards whose answer is an image are lost.",
    ),
    hub=(HubSet("medalpaca/medical_meadow_medical_flashcards", instruction_rows(lambda: SOURCE)),),
)
