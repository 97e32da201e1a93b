"""Spreadsheets as people fill them in: the rows below a header, each with its number.

Needs openpyxl (the extra ``sheets``). The header is the first row that names an instruction, or
another column that is asked for; its names are read without case, so "Instruction" is the column
``instruction``.
"""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

from meadowlark.errors import UserError

HEADER_WITHIN = 20
"""The header stands in one of the first so many rows of its sheet."""


def sheet_rows(file: Path, column: str = "instruction") -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of the first sheet with a header, as text by column, with their numbers in the sheet.

    The header is known by ``column`` (lower case). Empty rows are passed over. A file that is no
    spreadsheet, or has no header, is a UserError.
    """
    import openpyxl
    from openpyxl.utils.exceptions import InvalidFileException

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what it does not know, such as a newer drop-down
            # Not read-only: some programs write a wrong size, which that mode believes.
            book = openpyxl.load_workbook(file, data_only=True)
    except FileNotFoundError:
        raise UserError(f"no such file or folder: {file}") from None
    except (BadZipFile, InvalidFileException, KeyError, ValueError, OSError) as error:
        raise UserError(f"{file} is no readable .xlsx spreadsheet: {error}") from None
    for sheet in book.worksheets:
        cells = sheet.iter_rows(values_only=True)
        header: list[str] | None = None
        for number, row in enumerate(cells, start=1):
            if header is None:
                header = _header(row, column)
                if header is None and number >= HEADER_WITHIN:
                    break
                continue
            values = [_text(cell) for cell in row]
            if any(value.strip() for value in values):
                named = zip(header, values, strict=False)
                yield number, {name: value for name, value in named if name}
        if header is not None:
            return
    see = "; see: meadowlark seeds template --out seeds.xlsx" if column == "instruction" else ""
    raise UserError(f"{file}: no sheet has a row with the column name {column.capitalize()}{see}")


def _header(row: Sequence[Any], column: str) -> list[str] | None:
    """Column names in lower case, or None where a row does not name ``column``."""
    names = [_text(cell).strip(" *:\n\t").lower() for cell in row]
    return names if column in names else None


def _text(cell: Any) -> str:
    """A cell's value as text: 3.0 is "3", a date its ISO form, an empty one the empty string."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    if isinstance(cell, datetime.datetime) and cell.time() == datetime.time():
        return cell.date().isoformat()
    return str(cell)
