"""The study as spreadsheets: blind, safe to open, and read back with faults named by row."""

from pathlib import Path
from typing import Any

import openpyxl
import pytest
from studies import HOSTILE, MODELS, comparison, people_file, review

from meadowlark.annotate.sheet import as_cell, take_in, write_sheets
from meadowlark.annotate.store import Store
from meadowlark.cli import run
from meadowlark.dataset import read
from meadowlark.errors import UserError
from meadowlark.records import Verdict


def filled(file: Path, rows: dict[int, dict[str, Any]]) -> Path:
    """The same file with cells changed: by row number and column name."""
    book = openpyxl.load_workbook(file)
    sheet = book.worksheets[0]
    columns = {cell.value: cell.column for cell in sheet[1]}
    for number, cells in rows.items():
        for name, value in cells.items():
            sheet.cell(number, columns[name]).value = value
    book.save(file)
    return file


def test_a_sheet_gives_the_same_verdicts_as_the_server(tmp_path: Path) -> None:
    study = comparison(tmp_path, count=4, people=people_file(tmp_path, "Ada", "Bo"), overlap=1)
    sheet = tmp_path / "out.xlsx"
    assert run(["annotate", "--out", str(study), "--sheet", str(sheet)]) == 0
    ada, bo = tmp_path / "out-Ada.xlsx", tmp_path / "out-Bo.xlsx"
    for file in (ada, bo):
        book = openpyxl.load_workbook(file)
        cells = [str(c.value) for s in book.worksheets for row in s.iter_rows() for c in row]
        assert not any(name in cell for cell in cells for name in (*MODELS, "q0"))
    with Store(study) as store:
        own = store.assigned("Ada")
    choices = {
        row: {"Correctness": "Answer 1", "Helpfulness": "both UNACCEPTABLE ", "Note": "n"}
        for row in (2, 3, 5)
    }
    filled(ada, choices)
    for new in ("3 new", "0 new"):  # taken in again, nothing changes
        with Store(study, write=True) as store:
            person, held, fresh = take_in(store, ada)
        assert (person, held, f"{fresh} new") == ("Ada", 3, new)
    assert run(["annotate", "--export", str(study), "--out", str(tmp_path / "v")]) == 0
    verdicts, _ = read(tmp_path / "v", Verdict)
    expected = {(f"q{own[row - 2].item}", "a" if own[row - 2].a_first else "b") for row in choices}
    right = [v for v in verdicts if v.criterion == "correctness"]
    assert {(v.item, v.winner) for v in right} == expected
    assert all(v.winner == v.shown_first for v in right)
    assert {v.winner for v in verdicts if v.criterion == "helpfulness"} == {"both_bad"}
    # Changed and taken in again, the new judgement counts.
    filled(ada, {2: {"Correctness": "Answer 2"}})
    assert run(["annotate", "--out", str(study), "--sheet-in", str(ada)]) == 0
    with Store(study) as store:
        assert len(store.judged()) == 3
        assert store.latest("Ada", own[0].item)["correctness"] == "second"  # type: ignore[index]


def test_faults_are_named_by_row_and_nothing_is_taken_in(tmp_path: Path) -> None:
    study = comparison(tmp_path, count=6, people="1")
    with Store(study, write=True) as store:
        (file,) = write_sheets(store, tmp_path / "s.xlsx")
        good = {"Correctness": "Answer 1", "Helpfulness": "About equal"}
        faults = {
            3: {"Correctness": "Answer 3"},
            4: {"Correctness": "Answer 1"},
            5: {"Item": 77, **good},
            6: {"Item": 1, **good},
            7: {"Note": "only a note"},
        }
        with pytest.raises(UserError) as error:
            take_in(store, filled(file, {2: good, **faults}))
        for line in (
            "row 3: Correctness 'Answer 3': expected one of Answer 1, Answer 2",
            "row 4: Please choose for helpfulness too.",
            "row 5: Item '77': expected 1 to 6",
            "row 6: item 1 stands in more than one row",
            "row 7: there is a note, but nothing was chosen",
        ):
            assert line in str(error.value)
        assert store.judged() == []
        with pytest.raises(UserError, match="exists; give another --sheet"):
            write_sheets(store, tmp_path / "s.xlsx")
    other = comparison(tmp_path / "other", people="1")
    with Store(other, write=True) as store, pytest.raises(UserError, match="another study"):
        take_in(store, file)


def test_no_cell_is_a_formula(tmp_path: Path) -> None:
    study = comparison(tmp_path, count=1, people="1", text=HOSTILE)
    with Store(study, write=True) as store:
        store._db.execute(
            "UPDATE items SET content = replace(content, 'left of 0', '=HYPERLINK(1)\\u0007')"
        )
        (file,) = write_sheets(store, tmp_path / "s.xlsx")
    cells = [c for row in openpyxl.load_workbook(file).worksheets[0].iter_rows() for c in row]
    assert any(str(c.value).startswith("=HYPERLINK(1)�") for c in cells)
    assert all(c.data_type != "f" for c in cells)
    assert any(HOSTILE in str(c.value) for c in cells)


def test_a_text_that_is_too_long_for_a_cell_says_so() -> None:
    assert len(as_cell("x" * 40_000)) == 32_767
    assert as_cell("x" * 40_000).endswith("…]")
    assert as_cell("x" * 32_767) == "x" * 32_767


def test_rows_are_reviewed_in_a_sheet(tmp_path: Path) -> None:
    study = review(tmp_path, count=5, people="1")
    with Store(study, write=True) as store:
        (file,) = write_sheets(store, tmp_path / "s.xlsx")
        filled(
            file,
            {
                2: {"Decision": "Accept"},
                3: {"Decision": "Edit", "Output": "Better"},
                4: {"Decision": "Reject", "Reason": "medically wrong"},
                5: {"Output": "changed, but why?"},
            },
        )
        with pytest.raises(UserError, match="row 5: something was written, but Decision is empty"):
            take_in(store, file)
        filled(file, {5: {"Decision": "Accept"}})
        with pytest.raises(UserError, match="row 5: The text was changed"):
            take_in(store, file)
        filled(file, {5: {"Decision": "Edit"}})
        assert take_in(store, file)[1:] == (4, 4)
        said = [one.judgement for one in store.judged()]
        assert [s["decision"] for s in said] == ["accept", "edit", "reject", "edit"]
        assert said[1]["output"] == "Better"
        again = write_sheets(store, tmp_path / "s.xlsx", force=True)[
            0
        ]  # what is judged is filled in
        assert take_in(store, again)[1:] == (4, 0)
