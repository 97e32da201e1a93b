"""AlpacaEval's 805 general instructions, free-form, grouped by the set they come from.

A model's published outputs hold the questions: a JSON list with ``instruction``, ``dataset`` and
``output`` (text-davinci-003's, AlpacaEval 1's baseline, which is the target). The id of a question
is that of a record with this instruction, as AlpacaEval's annotation files are read here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from meadowlark.errors import UserError
from meadowlark.records import Question, record_id
from meadowlark.tasks.task import Task
from meadowlark.templates import user_content


def _load(paths: Sequence[Path]) -> list[Question]:
    try:
        return [
            Question(
                id=record_id((), row["instruction"], "", ""),
                task="alpaca_eval",
                prompt=user_content(row["instruction"]),
                target=row["output"].strip(),
                group=row.get("dataset", ""),
            )
            for row in json.loads(paths[0].read_text(encoding="utf-8-sig"))
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{paths[0]}: expected a JSON list of instruction and output ({error!r})"
        ) from None


ALPACA_EVAL = Task(
    name="alpaca_eval",
    title="AlpacaEval: 805 general instructions, free-form",
    kind="prompts",
    folder="judging/alpaca_eval_outputs",
    files=("text_davinci_003.json",),
    load=_load,
    licence="CC BY-NC 4.0",
    citation="Li et al. 2023; github.com/tatsu-lab/alpaca_eval.",
)
