"""The spreadsheet in which clinicians write seed tasks: drop-downs, examples, the rubric.

Written for this project; needs openpyxl (the extra ``sheets``). What is filled in below the header
of the first sheet is read by ``generate --seeds`` and ``seeds check`` as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.labels import TOPIC_AREAS, TYPES, VIEWS

COLUMNS = {"Topic": 26, "View": 24, "Type": 26, "Difficulty": 11, "Instruction": 60, "Input": 80}
"""Column names and widths in characters."""
ROWS = 1000
"""How many rows below the header have drop-downs."""

GUIDE = (
    "One row is one task that you would want a medical language model to carry out well.",
    "Topic: what it is about, in your words (atrial fibrillation, hand hygiene).",
    "View: who is speaking. Choose one, or write your own.",
    "Type: the format of the task. Choose one from the list.",
    "Difficulty: 1 to 5; see the sheet Difficulty.",
    "Instruction: one or two sentences that say what is to be done, in the words that such a "
    "speaker would use. A patient writes differently from a specialist.",
    "Input: the material to work on (a case, a report, a dialogue, the question with all its "
    "choices, each with a letter). Usually 50 to 200 words. Leave it empty where the instruction "
    "needs none.",
    "Write no answer. The answers are written later, by another model.",
    "Use no real patient's data: no names, dates, numbers or places that lead to a person.",
    "Vary topic, view, type and difficulty. Tasks that are alike teach nothing new.",
    "Check the file with: meadowlark seeds check FILE",
)
RUBRIC = {
    1: (
        "Very basic. Anybody with some schooling sees the answer at once or finds it by a plain "
        "search.",
        "What is the normal range of the resting heart rate in adults?",
    ),
    2: (
        "Simple. Basic knowledge with a little application, rewording or explanation.",
        "Explain to a neighbour why antibiotics do not help against a cold.",
    ),
    3: (
        "Practical and somewhat complicated: everyday situations, communication, emotional "
        "support, ethics.",
        "Answer a mother who is afraid of the side effects of her child's vaccination.",
    ),
    4: (
        "Complicated facts, several steps of thought, long questions (most licensing examination "
        "questions), vague symptoms, recent advances.",
        "Name the most likely cause of this woman's falls from her history, examination and "
        "laboratory values, and the next test.",
    ),
    5: (
        "Complex knowledge in an intricate real situation: hard actual cases, decisions under "
        "uncertainty, humane care.",
        "Plan treatment with a man of 84 with three organ failures, conflicting wishes of his "
        "family and no advance directive.",
    ),
}
"""The difficulty rubric (PAPERS.md, section 1) in our words, with an example of ours for each."""

EXAMPLES: tuple[tuple[str, str, str, int, str, str], ...] = (
    (
        "fasting before an operation",
        "patient",
        "open Q&A",
        1,
        "How long before my operation tomorrow may I still drink water?",
        "",
    ),
    (
        "inhaler technique",
        "pharmacist",
        "rewriting",
        2,
        "Rewrite this leaflet so that a boy of ten can follow it by himself.",
        "Prior to actuation, agitate the canister and exhale to residual volume. Create an "
        "airtight oral seal around the mouthpiece, actuate once at the onset of a slow, deep "
        "inspiration, and maintain breath-holding for approximately ten seconds. Allow half a "
        "minute before a further dose, and gargle with water where the preparation contains a "
        "corticosteroid.",
    ),
    (
        "refusal of dialysis",
        "nurse",
        "chat",
        3,
        "Reply to this daughter, kindly and truthfully, before the doctor calls her back.",
        "My father told you this morning that he wants no more dialysis. He is only tired, he does "
        "not mean it. You must talk him out of it. He has a grandchild coming in spring. If he "
        "stops, how long does he have, and will he suffocate? I cannot sleep. Nobody here tells me "
        "anything and I live four hours away.",
    ),
    (
        "loss of consciousness",
        "medical student",
        "USMLE-style question",
        4,
        "Choose the most likely diagnosis and explain why the others fit less well.",
        "A 71-year-old woman is brought in after she fainted while hanging up curtains. She was "
        "pale and came round within a minute without confusion; she has had two such spells since "
        "summer, both while she worked with raised arms. Her left arm tires easily. Blood pressure "
        "is 148/82 mmHg on the right and 112/70 mmHg on the left; a soft murmur is heard above the "
        "left collarbone. The ECG is normal. Which of the following explains the spells best?\n"
        "A) Vasovagal syncope\nB) Subclavian steal\nC) Complete heart block\n"
        "D) Carotid sinus hypersensitivity\nE) Focal epilepsy",
    ),
)
"""Topic, view, type, difficulty, instruction, input; written for this project, not reviewed."""


def write_seed_template(path: Path, *, force: bool = False) -> None:
    """Write the spreadsheet for seed tasks; a file that is there already is a UserError."""
    import openpyxl

    if path.suffix != ".xlsx":
        raise UserError(f"{path}: a spreadsheet's name must end in .xlsx")
    if path.exists() and not force:
        raise UserError(f"{path} exists; give another --out, or --force to replace it")
    book = openpyxl.Workbook()
    seeds = book.active
    assert seeds is not None
    seeds.title = "Seeds"
    _header(seeds)
    rubric = book.create_sheet("Difficulty")
    _table(rubric, ("Difficulty", "What it means", "For example"), (11, 80, 80))
    for level, (meaning, example) in RUBRIC.items():
        rubric.append((level, meaning, example))
    examples = book.create_sheet("Examples")
    _header(examples)
    for row in EXAMPLES:
        examples.append(row)
    guide = book.create_sheet("Guide")
    _table(guide, ("How to fill in the sheet Seeds",), (110,))
    for line in GUIDE:
        guide.append((line,))
    lists = book.create_sheet("Lists")
    _table(lists, ("Type", "View", "Fields of medicine"), (30, 30, 40))
    for column, values in enumerate((TYPES, VIEWS, TOPIC_AREAS), start=1):
        for number, value in enumerate(values, start=2):
            lists.cell(number, column, value)
    for sheet in (seeds, rubric, examples, guide):
        _wrap(sheet)
    _drop_downs(seeds)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    book.save(temporary)
    temporary.replace(path)


def _header(sheet: Any) -> None:
    _table(sheet, tuple(COLUMNS), tuple(COLUMNS.values()))


def _table(sheet: Any, names: tuple[str, ...], widths: tuple[int, ...]) -> None:
    """A bold header that stays in view, and columns of these widths."""
    from openpyxl.styles import Font, PatternFill

    sheet.append(names)
    for column, width in enumerate(widths, start=1):
        cell = sheet.cell(1, column)
        cell.font = Font(bold=True)
        cell.fill = PatternFill("solid", fgColor="DDE6F0")
        sheet.column_dimensions[cell.column_letter].width = width
    sheet.freeze_panes = "A2"


def _wrap(sheet: Any) -> None:
    from openpyxl.styles import Alignment

    for row in sheet.iter_rows():
        for cell in row:
            cell.alignment = Alignment(wrap_text=True, vertical="top")


def _drop_downs(sheet: Any) -> None:
    """Lists for type (only these), view and topic (or one's own), numbers for difficulty."""
    from openpyxl.worksheet.datavalidation import DataValidation

    letter = {name: chr(ord("A") + n) for n, name in enumerate(COLUMNS)}
    for name, column, known, strict in (
        ("Type", "A", len(TYPES), True),
        ("View", "B", len(VIEWS), False),
        ("Topic", "C", len(TOPIC_AREAS), False),
    ):
        # A list of its own would be cut at 255 characters, so it is a range.
        choice = DataValidation(
            type="list",
            formula1=f"Lists!${column}$2:${column}${known + 1}",
            allow_blank=True,
            showErrorMessage=strict,
            errorTitle=name,
            error="Choose one from the list.",
        )
        sheet.add_data_validation(choice)
        choice.add(f"{letter[name]}2:{letter[name]}{ROWS + 1}")
    level = DataValidation(
        type="list",
        formula1='"1,2,3,4,5"',
        allow_blank=True,
        showErrorMessage=True,
        errorTitle="Difficulty",
        error="A number from 1 to 5; see the sheet Difficulty.",
    )
    sheet.add_data_validation(level)
    level.add(f"{letter['Difficulty']}2:{letter['Difficulty']}{ROWS + 1}")
