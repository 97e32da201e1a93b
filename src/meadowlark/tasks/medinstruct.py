"""MedInstruct-test: AlpaCare's free-form medical instructions, grouped by difficulty 1 to 5.

JSON lines with ``id``, ``instruction``, ``difficulty`` and four models' answers; GPT-4's is the
target. The released file has 216 rows where the paper says 217 (PAPERS.md, section 1).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.layouts import absent_to_empty
from meadowlark.records import Question
from meadowlark.tasks.task import Task, json_lines
from meadowlark.templates import user_content


def _load(paths: Sequence[Path]) -> list[Question]:
    questions = []
    for number, row in enumerate(json_lines(paths[0]), start=1):
        if "id" not in row or not row.get("instruction"):
            raise UserError(f"{paths[0]}, row {number}: expected the keys id and instruction")
        questions.append(
            Question(
                id=f"medinstruct-{row['id']}",
                task="medinstruct_test",
                prompt=user_content(row["instruction"], absent_to_empty(row.get("input"))),
                target=row.get("gpt-4-answer") or "",
                group=str(row.get("difficulty") or ""),
            )
        )
    return questions


MEDINSTRUCT_TEST = Task(
    name="medinstruct_test",
    title="MedInstruct-test: free-form medical instructions",
    kind="prompts",
    folder="alpacare",
    files=("MedInstruct-test.jsonl",),
    load=_load,
    licence="CC BY-NC 4.0",
    citation="Zhang et al. 2023, arXiv 2310.14558; github.com/XZhang97666/AlpaCare.",
)
