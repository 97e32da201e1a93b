"""Unicode and white space put right, with nothing lost that a clinician reads: ≥, µ, m², ½, °C,
doses and codes stay as they are. Text comes in and text comes out; doing it twice changes nothing
more."""

from __future__ import annotations

import html
import re
import unicodedata

from meadowlark.curate.options import RepairOptions
from meadowlark.records import Record, Turn

_ALL = RepairOptions()

# UTF-8 read as Windows-1252 (its five unassigned bytes as the control characters of Latin-1): of
# Latin-1 and Greek letters (Â, Ã, Î, Ï and one more sign), of punctuation and symbols (â and two),
# of emoji (ð and three). Other first signs, as in "×–" or "Å²", are more often meant.
_TAIL = (
    "[\u0080-\u00bf"
    + "".join(
        bytes([b]).decode("cp1252")
        for b in range(0x80, 0xA0)
        if b not in (0x81, 0x8D, 0x8F, 0x90, 0x9D)
    )
    + "]"
)
_MOJIBAKE = re.compile(f"[ÂÃÎÏ]{_TAIL}|[âï]{_TAIL}{{2}}|ð{_TAIL}{{3}}")
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_UNSEEN = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u0084\u0086-\u009f\u00ad\u200b\u200e\u200f"
    "\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff\ud800-\udfff\ufffe\uffff]"
)
_LINE_END = re.compile("\r\n?|[\u0085\u2028\u2029]")
_ODD_SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
_INNER_SPACES = re.compile(r"(?<=[^\s]) {2,}(?=[^\s|])")
_LINE_TAIL = re.compile(r"[ \t]+(?=\n|$)")
_BLANK_LINES = re.compile(r"\n{3,}")


def repaired(text: str, options: RepairOptions = _ALL) -> str:
    """The text put right as the options say."""
    # One repair may uncover another: text was escaped twice, or a hidden sign stood in between.
    # Every one of them shortens the text or leaves fewer characters to mend, so this ends.
    while (made := _once(text, options)) != text:
        text = made
    return text


def _once(text: str, options: RepairOptions) -> str:
    if options.entities and "&" in text:
        text = _ENTITY.sub(_read_entity, text)
    if not text.isascii():
        if options.mojibake:
            text = _MOJIBAKE.sub(_read_again, text)
        text = unicodedata.normalize("NFC", text)
    if options.spaces:
        text = _LINE_END.sub("\n", text)
        text = _ODD_SPACE.sub(" ", text)
        text = _UNSEEN.sub("", text)
        text = _LINE_TAIL.sub("", text)
        text = _INNER_SPACES.sub(" ", text)
        text = _BLANK_LINES.sub("\n\n", text).strip("\n")
        if "\n" not in text:
            text = text.strip(" \t")
    return text


def repair(record: Record, options: RepairOptions) -> Record:
    """The record with every text put right; the record itself where nothing was to do."""
    turns = tuple(Turn(t.role, repaired(t.content, options)) for t in record.history)
    texts = {n: repaired(getattr(record, n), options) for n in ("instruction", "input", "output")}
    if turns == record.history and all(getattr(record, n) == text for n, text in texts.items()):
        return record
    return record.evolve(history=turns, **texts)


def _read_entity(match: re.Match[str]) -> str:
    read = html.unescape(match[0])
    return read if read != match[0] and not _UNSEEN.search(read) else match[0]


def _read_again(match: re.Match[str]) -> str:
    """The character whose UTF-8 bytes were read one by one; the text itself where it is none."""
    raw = bytearray()
    for character in match[0]:
        try:
            raw += character.encode("cp1252")
        except UnicodeEncodeError:
            if ord(character) > 0xFF:
                return match[0]
            raw.append(ord(character))
    try:
        read = raw.decode("utf-8")
    except UnicodeDecodeError:
        return match[0]
    return read if unicodedata.category(read)[0] in "LMNPSZ" else match[0]
