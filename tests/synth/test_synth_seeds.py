"""Seed tasks: a spreadsheet for clinicians that reads back, and faults found under their rows."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from meadowlark.cli import run
from meadowlark.dataset import read
from meadowlark.errors import UserError
from meadowlark.labels import TYPES, VIEWS
from meadowlark.llm import ScriptedModel
from meadowlark.records import Record
from meadowlark.sheets import sheet_rows
from meadowlark.synth.generate import generate
from meadowlark.synth.seed_sheet import COLUMNS, EXAMPLES, RUBRIC, write_seed_template
from meadowlark.synth.seeds import check_seeds

openpyxl = pytest.importorskip("openpyxl")

COLUMN_NAMES = [name.lower() for name in COLUMNS]
GOOD = dict(zip(COLUMN_NAMES, EXAMPLES[2], strict=True))
FAULTY: list[dict[str, object]] = [
    {**GOOD, "input": f"{GOOD['input']}\n\nA second paragraph: in a csv, three lines of its file."},
    {**GOOD, "instruction": ""},
    {**GOOD, "instruction": "List the causes of fever in a toddler.", "topic": ""},
    {**GOOD, "instruction": "Name two vitamins.", "difficulty": 7},
    {
        **GOOD,
        "instruction": "Pick the right answer about insulin.",
        "type": "Multiple-choice Q&A",
        "input": "Which organ makes it?",
    },
    {**GOOD, "instruction": f"{GOOD['instruction']} Please."},
    {**GOOD, "instruction": "Write a limerick on gout.", "type": "Limerick", "view": "Martian"},
]
FOUND = [
    (2, "missing instruction"),
    (3, "missing topic"),
    (4, "difficulty is not 1 to 5"),
    (5, "multiple choice without lettered choices"),
    (6, "near-duplicate"),
]
"""Which of the rows above, from 1, has which fault; the last has remarks only."""


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    if path.suffix == ".xlsx":
        write_seed_template(path)
        book = openpyxl.load_workbook(path)
        for row in rows:
            book["Seeds"].append([row[name] for name in COLUMN_NAMES])
        book.save(path)
    elif path.suffix == ".csv":
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, COLUMN_NAMES)
            table.writeheader()
            table.writerows(rows)
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows))
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_template_has_drop_downs_examples_and_the_rubric(tmp_path: Path) -> None:
    write_seed_template(tmp_path / "seeds.xlsx")
    book = openpyxl.load_workbook(tmp_path / "seeds.xlsx")
    assert book.sheetnames == ["Seeds", "Difficulty", "Examples", "Guide", "Lists"]
    seeds = book["Seeds"]
    assert [cell.value for cell in seeds[1]] == list(COLUMNS)
    lists = {}
    for validation in seeds.data_validations.dataValidation:
        column = str(validation.sqref).partition("2")[0]
        lists[seeds[f"{column}1"].value] = validation
    assert lists.keys() == {"Topic", "View", "Type", "Difficulty"}
    assert lists["Difficulty"].formula1 == '"1,2,3,4,5"'
    # The ranges that the drop-downs point at hold just the vocabulary.
    for name, known in (("Type", TYPES), ("View", VIEWS)):
        sheet, _, cells = lists[name].formula1.partition("!")
        values = [row[0].value for row in book[sheet][cells.replace("$", "")]]
        assert values == list(known)
    assert lists["Type"].showErrorMessage
    assert not lists["View"].showErrorMessage  # a view of one's own is welcome
    rubric = {row[0].value: row[1].value for row in book["Difficulty"].iter_rows(min_row=2)}
    assert rubric == {level: meaning for level, (meaning, _) in RUBRIC.items()}
    assert set(rubric) == {1, 2, 3, 4, 5}


def test_our_own_examples_have_no_fault(tmp_path: Path) -> None:
    rows = [dict(zip(COLUMN_NAMES, row, strict=True)) for row in EXAMPLES]
    checked = check_seeds(write(tmp_path / "seeds.xlsx", rows))  # type: ignore[arg-type]
    assert (checked.rows, checked.faults, checked.remarks) == (len(EXAMPLES), [], [])


@pytest.mark.parametrize("name", ["s.xlsx", "s.csv", "s.json", "s.jsonl"])
def test_faults_are_found_under_the_row_a_person_sees(tmp_path: Path, name: str) -> None:
    checked = check_seeds(write(tmp_path / name, FAULTY))
    first = {"s.xlsx": 1, "s.csv": 1, "s.json": 0, "s.jsonl": 0}[name]  # a header counts as a row
    assert [(f.row - first, f.what) for f in checked.faults] == FOUND
    assert [(r.row - first, r.what) for r in checked.remarks] == [
        (7, "unknown type"),
        (7, "unknown view"),
    ]
    duplicate = checked.faults[-1].detail
    assert f"with row {1 + first}:" in duplicate


def test_generate_and_check_read_the_same_rows_from_a_spreadsheet(tmp_path: Path) -> None:
    rows = [{**GOOD, "instruction": f"Seed {n} {'abcdef'[n]}", "difficulty": 3} for n in range(6)]
    sheet = write(tmp_path / "s.xlsx", rows)
    lines = write(tmp_path / "s.jsonl", [{**row, "difficulty": "3"} for row in rows])
    assert [r.tags for r in read(sheet, Record)[0]] == [r.tags for r in read(lines, Record)[0]]
    text = (
        "###\n4. Type: chat\nTopic: t\nView: nurse\nDifficulty: 2\nInstruction: New.\nInput: None"
    )
    teacher = "openai:m@http://test/v1"
    generate(sheet, teacher, 1, tmp_path / "out", model=ScriptedModel(lambda _: text))
    (task,), _ = read(tmp_path / "out", Record)
    assert set(task.parents) <= {seed.id for seed in read(lines, Record)[0]}


def test_a_spreadsheet_by_another_hand_is_read(tmp_path: Path) -> None:
    """A title above the header, other sheets first, capitals, numbers, dates, empty rows."""
    import datetime

    book = openpyxl.Workbook()
    book.active.append(["Ward 7 seed tasks, draft"])
    sheet = book.create_sheet("tasks")
    sheet.append(["Draft, do not share"])
    sheet.append([])
    sheet.append(["No.", "INSTRUCTION *", None, "Input", "Difficulty", "Date"])
    sheet.append([1.0, "Explain.", "stray", "Hb 13.2", 3.0, datetime.datetime(2026, 11, 2)])
    sheet.append([None, "   ", None])
    sheet.append([2, "List.", None, None, "4", None])
    book.save(tmp_path / "s.xlsx")
    assert list(sheet_rows(tmp_path / "s.xlsx")) == [
        (4, {"no.": "1", "instruction": "Explain.", "input": "Hb 13.2", "difficulty": "3",
             "date": "2026-11-02"}),
        (6, {"no.": "2", "instruction": "List.", "input": "", "difficulty": "4", "date": ""}),
    ]  # fmt: skip


def test_what_is_no_spreadsheet_is_explained(tmp_path: Path) -> None:
    (tmp_path / "s.xlsx").write_text("instruction,input\n")
    with pytest.raises(UserError, match=r"no readable \.xlsx"):
        read(tmp_path / "s.xlsx", Record)
    book = openpyxl.Workbook()
    book.active.append(["Task", "Text"])
    book.save(tmp_path / "t.xlsx")
    with pytest.raises(UserError, match="column name Instruction"):
        read(tmp_path / "t.xlsx", Record)


def test_the_verb_ends_with_1_when_found_wanting(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["seeds", "template", "--out", str(tmp_path / "s.xlsx")]) == 0
    assert run(["seeds", "check", str(tmp_path / "s.xlsx")]) == 1  # nothing in it yet
    assert run(["seeds", "template", "--out", str(tmp_path / "s.xlsx")]) == 2
    assert "exists" in capsys.readouterr().err
    good = write(tmp_path / "good.jsonl", [GOOD])
    assert run(["seeds", "check", str(good)]) == 0
    faulty = write(tmp_path / "faulty.csv", FAULTY)
    assert run(["seeds", "check", str(faulty), "--json", str(tmp_path / "c.json")]) == 1
    printed = capsys.readouterr().out
    assert "fault, row 5: difficulty is not 1 to 5: 7" in printed
    assert "no task of type: USMLE-style question" in printed
    found = json.loads((tmp_path / "c.json").read_text())
    assert found["rows"] == 7
    assert sum(cell["rows"] for cell in found["cells"]) == 7
    assert found["coverage"]["difficulty"] == {"3": 6, "": 1}
    assert run(["seeds", "check"]) == 2
    assert run(["seeds", "template"]) == 2


def test_alpacares_seeds_as_their_authors_left_them(real_data: Path) -> None:
    """167 tasks, 55 without an input; one multiple choice lists its choices without letters."""
    checked = check_seeds(real_data / "alpacare" / "med_seed.json")
    assert (checked.rows, checked.without_input) == (167, 55)
    assert [(f.row, f.what) for f in checked.faults] == [
        (46, "multiple choice without lettered choices")
    ]
    assert checked.counts("difficulty").keys() == set("12345")
    assert sum(checked.counts("type").values()) == 167
    assert checked.counts("type")["USMLE-style question"] == 11  # 6 "style Q&A", 5 "Style Q&A"
    assert "calculation" in checked.gaps()["type"]


def test_general_seeds_lack_the_labels(real_data: Path) -> None:
    checked = check_seeds(real_data / "instructions" / "self_instruct" / "seed_tasks.jsonl")
    assert checked.rows == 175
    assert {f.what for f in checked.faults} >= {f"missing {x}" for x in ("type", "topic", "view")}
