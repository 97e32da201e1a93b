"""Summarisation tasks, scored by ROUGE: MeQSum (a patient's long question to one short question)
and MEDIQA's answers (several answers to a question to one).

MeQSum is its published spreadsheet (File, CHQ, Summary; 1,000 rows without a split). MEDIQA is the
test part of the 2021 shared task: a spreadsheet of answers, and lines ``id||text`` of questions and
of abstractive summaries, 80 questions. The instructions are ours; the papers print none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.records import Question
from meadowlark.tasks.task import Task
from meadowlark.templates import user_content

ASK_QUESTION = "Summarise this patient's message as one short question."
ASK_ANSWER = "Summarise these answers to the question as one short answer."


def _meqsum(paths: Sequence[Path]) -> list[Question]:
    from meadowlark.sheets import sheet_rows

    path = paths[0]
    questions = []
    for number, row in sheet_rows(path, "chq"):
        asked, summary = (_field(row, name, f"{path}, row {number}") for name in ("chq", "summary"))
        questions.append(
            Question(
                id=f"meqsum-{number - 1:04d}",
                task="meqsum",
                prompt=user_content(ASK_QUESTION, asked),
                target=summary,
            )
        )
    return questions


def _mediqa(paths: Sequence[Path]) -> list[Question]:
    from meadowlark.sheets import sheet_rows

    sheet, asked, summarised = paths
    answers: dict[str, list[tuple[int, str]]] = {}
    for number, row in sheet_rows(sheet, "answer_id"):
        where = f"{sheet}, row {number}"
        known, answer_id, text = (
            _field(row, name, where) for name in ("question_id", "answer_id", "answer")
        )
        order = answer_id.rpartition("Answer")[2]
        if not order.isdigit():
            raise UserError(f"{where}, column answer_id: expected 5_Answer2, not {answer_id!r}")
        answers.setdefault(known, []).append((int(order), text))
    summaries = dict(_lines(summarised))
    questions = []
    for known, question in _lines(asked):
        if known not in answers or known not in summaries:
            lacking = sheet if known not in answers else summarised
            raise UserError(f"{asked}, question {known}: nothing in {lacking.name} belongs to it")
        texts = [text for _, text in sorted(answers[known])]
        read = "\n\n".join([f"Question: {question}", *(f"Answer: {text}" for text in texts)])
        questions.append(
            Question(
                id=f"mediqa-{known}",
                task="mediqa",
                prompt=user_content(ASK_ANSWER, read),
                target=summaries[known],
            )
        )
    return questions


def _field(row: dict[str, str], name: str, where: str) -> str:
    value = row.get(name, "").strip()
    if not value:
        raise UserError(f"{where}, column {name}: empty")
    return value


def _lines(path: Path) -> list[tuple[str, str]]:
    """The id and the text of lines ``id||text``."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        known, bars, text = line.partition("||")
        if not line.strip():
            continue
        if not bars or not known.strip() or not text.strip():
            raise UserError(f"{path}, line {number}: expected id||text, not {line[:60]!r}")
        found.append((known.strip(), text.strip()))
    return found


MEQSUM = Task(
    name="meqsum",
    title="MeQSum: patients' questions summarised",
    kind="prompts",
    folder="meqsum",
    files=("MeQSum_ACL2019_BenAbacha_Demner-Fushman.xlsx",),
    load=_meqsum,
    licence="CC BY 4.0",
    citation="Ben Abacha and Demner-Fushman 2019, ACL P19-1215; github.com/abachaa/MeQSum.",
)

MEDIQA = Task(
    name="mediqa",
    title="MEDIQA 2021, task 2 (answers summarised), test part, abstractive",
    kind="prompts",
    folder="meadow/mediqa2021/Task2/Test",
    files=(
        "MEDIQA2021_Task2_MAS_TestSet_Answers.xlsx",
        "MEDIQA2021_Task2_MAS_TestSet_shortQuestions.txt",
        "MEDIQA2021_Task2_TestSet_MultiAbstrativeSummaries.txt",
    ),
    load=_mediqa,
    licence="CC BY 4.0",
    citation="Ben Abacha et al. 2021, ACL 2021.bionlp-1.8; github.com/abachaa/MEDIQA2021.",
)

SUMMARIES = {task.name for task in (MEQSUM, MEDIQA)}
"""The tasks whose answers are summaries, scored by ROUGE."""
