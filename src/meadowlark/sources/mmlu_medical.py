"""MMLU's medical subjects: four-option questions of anatomy, clinical knowledge and others.

Raw form: a folder of SUBJECT_dev.csv, SUBJECT_val.csv or SUBJECT_test.csv (in folders of their own
or not). The original files have no header and a letter as answer; a much used copy has the header
question,choice0,...,answer and a number. Both are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.choices import (
    ANSWER_WITH_LETTER,
    UNKNOWN_LABEL,
    choice_record,
    fault_of,
    lettered,
)
from meadowlark.sources.source import HubSet, Source, instruction_rows
from meadowlark.tasks.mmlu import subject_rows

SUBJECTS = (
    "anatomy",
    "clinical_knowledge",
    "college_biology",
    "college_medicine",
    "high_school_biology",
    "human_aging",
    "human_sexuality",
    "medical_genetics",
    "nutrition",
    "professional_medicine",
    "virology",
)
COLUMNS = 6
"""The question, four choices and the answer."""


def rows(raw: Path) -> Iterator[Record | Rejected]:
    """One record a question of a medical subject; other subjects' files are left alone."""
    paths = sorted(raw.rglob("*.csv")) if raw.is_dir() else [raw]
    found = [(path, *_subject(path)) for path in paths]
    medical = [each for each in found if each[1] in SUBJECTS]
    if not medical:
        names = ", ".join(SUBJECTS)
        raise UserError(f"{raw} holds no file of a medical subject, SUBJECT_test.csv with {names}")
    for path, subject, split in medical:
        for number, row in subject_rows(path):
            yield _row(row, subject, split, f"{path.name}:{number}")


def _subject(path: Path) -> tuple[str, str]:
    """``college_medicine_test.csv`` is subject college_medicine, split test."""
    subject, _, split = path.stem.rpartition("_")
    return subject, split


def _row(row: list[str], subject: str, split: str, where: str) -> Record | Rejected:
    row = [cell.strip() for cell in row]
    if len(row) != COLUMNS:
        bad = SOURCE.record(ANSWER_WITH_LETTER, row[0], "")
        return Rejected(bad, "wrong number of columns", f"{where}: {len(row)}, not {COLUMNS}")
    question, *choices, answer = row
    options = lettered(choices)
    letter = list(options)[int(answer)] if answer in ("0", "1", "2", "3") else answer
    topic = subject.replace("_", " ")
    record = choice_record(SOURCE, question, options, letter, topic=topic, split=split)
    fault = fault_of(question, options, letter)
    if fault:
        wrong = f": answer {answer!r}" if fault == UNKNOWN_LABEL else ""
        return Rejected(record, fault, where + wrong)
    return record


SOURCE: Source = Source(
    name="mmlu_medical",
    title="MMLU, medical subjects (Medical Meadow's MMMLU)",
    origin="github.com/hendrycks/test",
    licence="MIT",
    obligations="Name the authors.",
    citation="Hendrycks et al. 2021, Measuring Massive Multitask Language Understanding, ICLR",
    raw="a folder of SUBJECT_dev.csv, SUBJECT_val.csv and SUBJECT_test.csv",
    size="3,787 rows in Medical Meadow",
    rows=rows,
    defects=(
        "These are the questions of a benchmark: a model trained on them cannot be examined on "
        "MMLU. `clean --against mmlu_medical` finds them.",
        "Which subjects Medical Meadow took is not published; here are the eleven of medicine and "
        "human biology.",
    ),
    hub=(HubSet("medalpaca/medical_meadow_mmmlu", instruction_rows(lambda: SOURCE)),),
)
