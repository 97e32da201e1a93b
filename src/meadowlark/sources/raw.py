"""Raw files in the forms that several sources share: CSV, JSON lines, archives of files.

A file that is not in the form at all is a :class:`UserError`; a single row that cannot be read is
yielded as a :class:`Rejected` whose detail is the beginning of its text.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected

SHOWN = 200
"""Characters of an unreadable row that its rejection shows."""

csv.field_size_limit(1 << 24)  # the default, 128 KiB, is less than a long abstract with its html


def csv_rows(raw: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    """Rows of a CSV with at least these columns, stripped; what a short row lacks is empty."""
    with raw.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        missing = sorted(set(columns) - set(reader.fieldnames or ()))
        if missing:
            found = ", ".join(reader.fieldnames or ()) or "none"
            raise UserError(f"{raw} lacks the columns {', '.join(missing)}; its columns: {found}")
        for row in reader:
            yield {name: (row[name] or "").strip() for name in columns}


def json_lines(raw: Path) -> Iterator[Mapping[str, Any] | Rejected]:
    """JSON objects, one a line; a line that is none is rejected. ``.gz`` files are decompressed."""
    with gzip.open(raw, "rb") if raw.suffix == ".gz" else raw.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _object(line, number)


def _object(line: bytes, number: int) -> Mapping[str, Any] | Rejected:
    try:
        made = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return unreadable("not UTF-8", f"line {number}: {error}")
    except json.JSONDecodeError as error:
        return unreadable("not JSON", f"line {number}: {error}: {line[:SHOWN]!r}")
    if not isinstance(made, Mapping):
        return unreadable("not a JSON object", f"line {number}: {line[:SHOWN]!r}")
    return made


def unreadable(reason: str, detail: str) -> Rejected:
    """A raw row that is no row of the source at all."""
    return Rejected(Record(""), reason, detail)


def text(value: Any) -> str:
    """A JSON value that should be text, stripped; null is empty, a number its digits."""
    return "" if value is None else str(value).strip()


def files(raw: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file with such a name in a folder, .tar.gz or .zip.

    In the order of their names with numbers as numbers: 2_GARD before 10_MPlus.
    """
    if raw.is_dir():
        paths = {
            path.relative_to(raw).as_posix(): path
            for path in raw.rglob("*")
            if path.name.lower().endswith(suffixes) and path.is_file()
        }
        for name in sorted(paths, key=_in_order):
            yield name, paths[name].read_bytes()
        return
    try:
        contents = dict(_archived(raw, suffixes))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise UserError(f"{raw} is not a readable .tar.gz or .zip archive: {error}") from None
    for name in sorted(contents, key=_in_order):
        yield name, contents[name]


def _archived(raw: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Files in the archive's own order, which decompresses it once."""
    if zipfile.is_zipfile(raw):
        with zipfile.ZipFile(raw) as archive:
            for name in archive.namelist():
                if name.lower().endswith(suffixes):
                    yield _plain(name), archive.read(name)
        return
    with tarfile.open(raw) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            if file is not None and member.name.lower().endswith(suffixes):
                yield _plain(member.name), file.read()


def _plain(name: str) -> str:
    return str(PurePosixPath(name))


def _in_order(name: str) -> list[str | int]:
    """A name's parts with its numbers as numbers, text and number in turn."""
    return [int(part) if part.isdigit() else part for part in re.split(r"([0-9]+)", name)]
