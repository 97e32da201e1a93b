"""Raw files in the forms that several sources share: CSV, JSON lines, archives of files.

A file that is not in the form at all is a :class:`UserError`; a single row that cannot be read is
yielded as a :class:`Rejected` whose detail is the beginning of its text.
"""

from __future__ import annotations

import csv
import gzip
import lzma
import re
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO, Any

from meadowlark.errors import UserError
from meadowlark.layouts import parse_json
from meadowlark.records import Record, Rejected, well_formed

SHOWN = 200
"""Characters of an unreadable row that its rejection shows."""
LARGEST = 1 << 26
"""Bytes that one file of an archive or folder may have: no page or article comes near it."""

csv.field_size_limit(1 << 24)  # the default, 128 KiB, is less than a long abstract with its html


def csv_rows(raw: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str] | Rejected]:
    """Rows of a CSV with at least these columns, stripped; what a short row lacks is empty.

    A row is rejected that has more cells than the header (a comma without quotes cuts the text
    before it), that is not in UTF-8, or whose quotes do not close.
    """
    with raw.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = csv.reader(file, strict=True)
        header = next(lines, [])
        if any(map(_undecoded, header)):
            raise UserError(f"{raw} is not in UTF-8, its first line already: save it as UTF-8")
        if missing := sorted(set(columns) - set(header)):
            found = ", ".join(header) or "none"
            raise UserError(f"{raw} lacks the columns {', '.join(missing)}; its columns: {found}")
        places = {name: header.index(name) for name in columns}
        while True:
            start = lines.line_num + 1
            try:
                cells = next(lines, None)
            except csv.Error as error:
                lost = f"lines {start} to {lines.line_num}" if lines.line_num > start else ""
                yield unreadable("not CSV", f"{lost or f'line {start}'}: {error}")
                continue
            if cells is None:
                return
            if not cells:
                continue
            if any(map(_undecoded, cells)):
                yield unreadable("not UTF-8", f"line {start}: {_shown(','.join(cells))}")
            elif any(cell.strip() for cell in cells[len(header) :]):
                yield unreadable("more cells than columns", f"line {start}: {','.join(cells)}")
            else:
                cells += [""] * (len(header) - len(cells))
                yield {name: cells[place].strip() for name, place in places.items()}


def _undecoded(cell: str) -> bool:
    return well_formed(cell) != cell


def _shown(text: str) -> str:
    return well_formed(text)[:SHOWN]


def json_lines(raw: Path) -> Iterator[Mapping[str, Any] | Rejected]:
    """JSON objects, one a line; a line that is none is rejected. ``.gz`` files are decompressed."""
    number = 0
    try:
        with gzip.open(raw, "rb") if raw.suffix == ".gz" else raw.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _object(line, number)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        if not number:
            raise UserError(f"{raw} is not a readable .gz file: {error}") from None
        yield unreadable("file broken off", f"after line {number}: {error}")


def _object(line: bytes, number: int) -> Mapping[str, Any] | Rejected:
    try:
        made = parse_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return unreadable("not UTF-8", f"line {number}: {error}")
    except ValueError as error:
        return unreadable("not JSON", f"line {number}: {error}: {line[:SHOWN]!r}")
    if not isinstance(made, Mapping):
        return unreadable("not a JSON object", f"line {number}: {line[:SHOWN]!r}")
    return made


def unreadable(reason: str, detail: str) -> Rejected:
    """A raw row that is no row of the source at all."""
    return Rejected(Record(""), reason, detail)


def text(value: Any) -> str:
    """A JSON value that should be text, stripped; a number is its digits.

    What is no text is empty, so that its row is rejected for the lack of it: null, the NaN that
    pandas writes for an absent value, a list or an object.
    """
    if not isinstance(value, str | int | float) or value != value:
        return ""
    return str(value).strip()


def files(raw: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file with such a name in a folder, .tar.gz or .zip.

    In the order of their names with numbers as numbers: 2_GARD before 10_MPlus. One of them is in
    memory at a time; one above :data:`LARGEST` is a UserError, as is an archive that is broken.
    """
    if raw.is_dir():
        paths = {
            path.relative_to(raw).as_posix(): path
            for path in raw.rglob("*")
            if path.name.lower().endswith(suffixes) and path.is_file()
        }
        for name in sorted(paths, key=_in_order):
            with paths[name].open("rb") as file:
                yield name, _content(file, name, raw)
        return
    with tempfile.TemporaryDirectory(prefix="meadowlark-") as folder:
        try:
            if zipfile.is_zipfile(raw):
                with zipfile.ZipFile(raw) as archive:
                    members = {_plain(n): n for n in archive.namelist() if _wanted(n, suffixes)}
                    for name in sorted(members, key=_in_order):
                        with archive.open(members[name]) as file:
                            yield name, _content(file, name, raw)
                return
            unpacked = _unpacked(raw, suffixes, Path(folder))
        except _BROKEN as error:
            raise UserError(f"{raw} is not a readable .tar.gz or .zip archive: {error}") from None
        for name in sorted(unpacked, key=_in_order):
            yield name, unpacked[name].read_bytes()


_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,  # a file under a password
    NotImplementedError,  # one packed in a way that Python does not know
)


def _content(file: IO[bytes], name: str, raw: Path) -> bytes:
    content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        size = f"{LARGEST >> 20} MB"
        raise UserError(f"{raw} holds {name} of more than {size}: it is none of the source's files")
    return content


def _wanted(name: str, suffixes: tuple[str, ...]) -> bool:
    return name.lower().endswith(suffixes)


def _unpacked(raw: Path, suffixes: tuple[str, ...], folder: Path) -> dict[str, Path]:
    """The wanted files of a tar, written to ``folder`` under numbers: it can be read only once, in
    its own order. Of two with one name the later counts, as when it is unpacked."""
    found = {}
    with tarfile.open(raw) as tar:
        for number, member in enumerate(tar):
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None and _wanted(member.name, suffixes):
                path = found[_plain(member.name)] = folder / str(number)
                path.write_bytes(_content(file, member.name, raw))
    return found


def _plain(name: str) -> str:
    return str(PurePosixPath(name))


def _in_order(name: str) -> list[str | int]:
    """A name's parts with its numbers as numbers, text and number in turn."""
    parts = re.split(r"([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
