"""iCliniq-1k: a thousand patients' questions, free-form, as AlpaCare's evaluation asks them.

The questions are read from a model's published answers (a JSON list with ``id``, ``instruction``,
``input``), the targets from GPT-4's (JSON lines with ``input`` and ``output``), matched by the
patient's text (PAPERS.md, section 1).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.records import Question
from meadowlark.tasks.task import Task, json_lines
from meadowlark.templates import user_content


def _load(paths: Sequence[Path]) -> list[Question]:
    asked, answered = paths
    targets = {
        " ".join(str(row.get("input", "")).split()): str(row.get("output") or "").strip()
        for row in json_lines(answered)
    }
    questions = []
    try:
        rows = json.loads(asked.read_text(encoding="utf-8-sig"))
        for row in rows:
            questions.append(
                Question(
                    id=f"icliniq-{row['id']}",
                    task="icliniq",
                    prompt=user_content(row["instruction"], row["input"]),
                    target=targets.get(" ".join(row["input"].split()), ""),
                )
            )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{asked}: expected a JSON list of id, instruction and input ({error!r})"
        ) from None
    return questions


ICLINIQ = Task(
    name="icliniq",
    title="iCliniq-1k: patients' questions, free-form",
    kind="prompts",
    folder="alpacare",
    files=(
        "model_outputs/AlpaCare-7b/iCliniq.json",
        "reference_outputs/gpt-4/iCliniq_output.jsonl",
    ),
    load=_load,
    licence="CC BY-NC 4.0",
    citation="Zhang et al. 2023, arXiv 2310.14558; github.com/XZhang97666/AlpaCare.",
)
