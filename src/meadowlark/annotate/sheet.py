"""The same study as spreadsheets, for people without the server: one file each, out and in.

Needs openpyxl (the extra ``sheets``). A file names its study and person on a sheet of its own;
items bear the number under which that person sees them, so that nothing in a file names a model.
Reading takes all of a file in, or nothing, and names every fault by its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from meadowlark.annotate.judgements import (
    CHOICES,
    COMPARE,
    CRITERIA,
    DECISIONS,
    PARTS,
    REASONS,
    REVIEW,
    Judgement,
    comparison,
    plain,
    review,
    task_of,
)
from meadowlark.annotate.pages import NOTICE
from meadowlark.annotate.shares import Assigned
from meadowlark.annotate.store import Store
from meadowlark.errors import UserError
from meadowlark.records import Record, from_dict
from meadowlark.sheets import sheet_rows

MOST_CHARACTERS = 32_767
"""What a cell can hold."""
CUT = " [… cut here: a cell holds no more …]"
STUDY, PERSON = "Meadowlark study", "Person"
MOST_FAULTS = 20
COLUMNS = {
    COMPARE: {
        "Item": 7, "Task": 60, "Answer 1": 70, "Answer 2": 70, "Correctness": 20,
        "Helpfulness": 20, "Note": 40,
    },
    REVIEW: {
        "Item": 7, "Instruction": 50, "Input": 50, "Output": 70, "Decision": 12, "Reason": 30,
        "Note": 40,
    },
}  # fmt: skip
"""Columns and their widths in characters, by task."""
GUIDE = {
    COMPARE: (
        "Each row holds a task and two answers to it, from two models in an order that changes.",
        f"Correctness: {CRITERIA['correctness']} Choose from the list.",
        f"Helpfulness: {CRITERIA['helpfulness']} Choose from the list.",
        "Judge the two apart: a correct answer may help little, a kind one may be wrong.",
        "Note: anything that you want to add; may stay empty.",
    ),
    REVIEW: (
        "Each row is a task with its answer, written by a model. May it train another one?",
        "Decision: Accept it as it is; Edit it (change its text in its cells); or Reject it.",
        "Reason: why you reject it. Choose from the list.",
        "Note: anything that you want to add; needed where the reason is: other.",
    ),
}
DROP_DOWNS = {
    COMPARE: {"Correctness": tuple(CHOICES.values()), "Helpfulness": tuple(CHOICES.values())},
    REVIEW: {"Decision": tuple(DECISIONS.values()), "Reason": REASONS},
}

# --------------------------------------------------------------------------- out


def write_sheets(store: Store, path: Path, *, force: bool = False) -> list[Path]:
    """One spreadsheet a person: ``path`` itself for one, else with the person's name before .xlsx.

    What was judged already is filled in.
    """
    if path.suffix != ".xlsx":
        raise UserError(f"{path}: a spreadsheet's name must end in .xlsx")
    people = store.study.people
    paths = [
        path if len(people) == 1 else path.with_name(f"{path.stem}-{_file_name(name)}.xlsx")
        for name in people
    ]
    if len({*paths}) < len(paths):
        raise UserError("two names make one file name; change one in the list of people")
    there = [str(one) for one in paths if one.exists()]
    if there and not force:
        raise UserError(f"{there[0]} exists; give another --sheet, or --force to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    items = store.items()
    said = {(one.person, one.item): one.judgement for one in store.judged()}
    for person, file in zip(people, paths, strict=True):
        own = store.assigned(person)
        filled = [said.get((person, one.item), {}) for one in own]
        _write(file, store.study.task, store.study.id, person, own, items, filled)
    return paths


def _file_name(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name)


def _write(
    file: Path,
    task: str,
    study: str,
    person: str,
    own: Sequence[Assigned],
    items: Sequence[Mapping[str, Any]],
    filled: Sequence[Mapping[str, str]],
) -> None:
    import openpyxl
    from openpyxl.styles import Alignment
    from openpyxl.worksheet.datavalidation import DataValidation

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Judge" if task == COMPARE else "Review"
    columns = COLUMNS[task]
    _header(sheet, columns)
    for number, (one, said) in enumerate(zip(own, filled, strict=True), start=1):
        texts = (_comparison_cells if task == COMPARE else _review_cells)(
            items[one.item], one, said
        )
        for column, value in enumerate((number, *texts), start=1):
            cell = sheet.cell(number + 1, column)
            cell.value = value
            if isinstance(value, str):
                cell.data_type = "s"  # never a formula, whatever it begins with
            cell.alignment = Alignment(wrap_text=True, vertical="top")
    for name, choices in DROP_DOWNS[task].items():
        letter = chr(ord("A") + list(columns).index(name))
        choice = DataValidation(
            type="list",
            formula1='"' + ",".join(choices) + '"',
            allow_blank=True,
            showErrorMessage=True,
            errorTitle=name,
            error="Choose one from the list.",
        )
        sheet.add_data_validation(choice)
        choice.add(f"{letter}2:{letter}{len(own) + 1}")
    guide = book.create_sheet("Guide")
    _header(guide, {"How to fill in the first sheet": 110})
    for line in (*GUIDE[task], "Leave a row empty that you do not want to judge.", NOTICE):
        guide.append((line,))
    about = book.create_sheet("Study")
    _header(about, {STUDY: 24, PERSON: 40, "": 60})
    about.append((study, person, "Please leave this sheet as it is."))
    beside = file.with_name(f".{file.name}.tmp")
    book.save(beside)
    beside.replace(file)


def _header(sheet: Any, columns: Mapping[str, int]) -> None:
    from openpyxl.styles import Font, PatternFill

    sheet.append(list(columns))
    for place, width in enumerate(columns.values(), start=1):
        cell = sheet.cell(1, place)
        cell.font = Font(bold=True)
        cell.fill = PatternFill("solid", fgColor="DDE6F0")
        sheet.column_dimensions[cell.column_letter].width = width
    sheet.freeze_panes = "A2"


def _comparison_cells(
    item: Mapping[str, Any], one: Assigned, said: Mapping[str, str]
) -> tuple[str, ...]:
    prompt = "\n\n".join(part for part in task_of(item["question"]) if part)
    answers = [item["a"]["text"], item["b"]["text"]]
    first, second = answers if one.a_first else answers[::-1]
    chosen = [CHOICES.get(said.get(criterion, ""), "") for criterion in CRITERIA]
    return (
        as_cell(prompt),
        as_cell(first),
        as_cell(second),
        *chosen,
        as_cell(said.get("note", "")),
    )


def _review_cells(
    item: Mapping[str, Any], one: Assigned, said: Mapping[str, str]
) -> tuple[str, ...]:
    parts = [as_cell(said.get(name, item[name])) for name in PARTS]
    decision = DECISIONS.get(said.get("decision", ""), "")
    return (*parts, decision, said.get("reason", ""), as_cell(said.get("note", "")))


def as_cell(text: str) -> str:
    """A text as a cell can hold it: control characters shown as �, the end cut where too long."""
    from openpyxl.cell.cell import ILLEGAL_CHARACTERS_RE

    text = ILLEGAL_CHARACTERS_RE.sub("�", plain(text))
    return text if len(text) <= MOST_CHARACTERS else text[: MOST_CHARACTERS - len(CUT)] + CUT


# --------------------------------------------------------------------------- in


def read_sheet(store: Store, file: Path) -> tuple[str, dict[int, Judgement]]:
    """Whose sheet this is, and their judgement of each item that is filled in.

    UserError with every fault and its row: a number that is no item, an item twice, a choice that
    is none, half a judgement.
    """
    about = next(iter(sheet_rows(file, STUDY.lower())), (0, {}))[1]
    if about.get(STUDY.lower()) != store.study.id:
        raise UserError(f"{file} belongs to another study than {store.folder}")
    person = about.get(PERSON.lower(), "")
    if person not in store.study.people:
        raise UserError(f"{file}: {person!r} is none of the study's people")
    own = store.assigned(person)
    found: dict[int, Judgement] = {}
    faults: list[str] = []
    for number, cells in sheet_rows(file, "item"):
        try:
            read = _row(store, own, cells)
            if read is None:
                continue
            item, judgement = read
            if item in found:
                raise UserError(f"item {cells['item']} stands in more than one row")
            found[item] = judgement
        except UserError as error:
            faults.append(f"row {number}: {error}")
    if faults:
        more = len(faults) - MOST_FAULTS
        lines = faults[:MOST_FAULTS] + ([f"and {more:,} more"] if more > 0 else [])
        raise UserError(f"{file}: nothing was taken in\n  " + "\n  ".join(lines))
    return person, found


def take_in(store: Store, file: Path) -> tuple[str, int, int]:
    """Record what a spreadsheet says: whose it is, how many judgements it holds, how many are new.

    The same file again changes nothing.
    """
    person, found = read_sheet(store, file)
    held = {one.item: one.judgement for one in store.judged() if one.person == person}
    new = {item: said for item, said in found.items() if held.get(item) != said}
    store.record_all(person, new)
    return person, len(found), len(new)


def _row(
    store: Store, own: Sequence[Assigned], cells: Mapping[str, str]
) -> tuple[int, Judgement] | None:
    """One row's item and judgement; None where the person left it empty."""
    number = cells.get("item", "").strip()
    if not number.isdigit() or not 1 <= int(number) <= len(own):
        raise UserError(f"Item {number!r}: expected 1 to {len(own):,}, as the sheet was made")
    item = own[int(number) - 1].item
    if store.study.task == COMPARE:
        fields = {
            name: _chosen(cells.get(name, ""), CHOICES, name.capitalize()) for name in CRITERIA
        }
        note = cells.get("note", "")
        if not any(fields.values()):
            if note.strip():
                raise UserError("there is a note, but nothing was chosen")
            return None
        return item, comparison({**fields, "note": note})
    record = from_dict(store.item(item), Record)
    parts = {name: _edited(name, cells.get(name, ""), getattr(record, name)) for name in PARTS}
    decision = _chosen(cells.get("decision", ""), DECISIONS, "Decision")
    reason = cells.get("reason", "").strip()
    if not decision:
        changed = any(parts[name] != getattr(record, name) for name in PARTS)
        if changed or reason or cells.get("note", "").strip():
            raise UserError("something was written, but Decision is empty")
        return None
    if reason and reason not in REASONS:
        raise UserError(f"Reason {reason!r}: expected one of {', '.join(REASONS)}")
    fields = {"decision": decision, "reason": reason, "note": cells.get("note", ""), **parts}
    return item, review(fields, record)


def _chosen(cell: str, choices: Mapping[str, str], column: str) -> str:
    """The value of the label that a cell holds; empty for an empty cell."""
    label = " ".join(cell.split()).lower()
    if not label:
        return ""
    for value, known in choices.items():
        if label == known.lower():
            return value
    raise UserError(f"{column} {cell!r}: expected one of {', '.join(choices.values())}")


def _edited(name: str, cell: str, held: str) -> str:
    """A part of a row as its cell says; as it was where the cell still shows that."""
    if plain(cell) == as_cell(held):
        return held
    if as_cell(held).endswith(CUT) and len(held) > MOST_CHARACTERS:
        raise UserError(f"{name} is too long to be edited in a spreadsheet; edit it on the server")
    return plain(cell)
