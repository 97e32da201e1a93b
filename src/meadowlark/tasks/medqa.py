"""MedQA, the US medical licensing questions with four or five options (test part, 1,273 each).

JSON lines with ``question``, ``options`` (letter to text) and ``answer_idx`` (a letter); the items
have no ids of their own, so a question is known by its line. ``meta_info`` is the exam's step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from meadowlark.records import Question
from meadowlark.tasks.columns import Columns
from meadowlark.tasks.task import Examples, Task

COLUMNS = Columns(question="question", choices="options", answer="answer_idx")
LICENCE = "MIT (repository)"
CITATION = "Jin et al. 2020, arXiv 2009.13081; github.com/jind11/MedQA."


def _reads(task: str) -> Callable[[Sequence[Path]], list[Question]]:
    return lambda paths: COLUMNS.read(paths[0], task)


MEDQA = Task(
    name="medqa",
    title="MedQA (USMLE), four options, test part",
    kind="multiple_choice",
    folder="medqa",
    files=("phrases_no_exclude_test.jsonl",),
    load=_reads("medqa"),
    licence=LICENCE,
    citation=CITATION,
    examples=Examples(("phrases_no_exclude_train.jsonl",), _reads("medqa_train")),
    sha256={
        "phrases_no_exclude_test.jsonl": (
            "c3b905ccfa66152dc25afbcb2c10e86c0bdb208824f0658fcdb2c040f60a2beb"
        )
    },
)
MEDQA_5 = Task(
    name="medqa_5",
    title="MedQA (USMLE), five options, test part",
    kind="multiple_choice",
    folder="medqa",
    files=("test.jsonl",),
    load=_reads("medqa_5"),
    licence=LICENCE,
    citation=CITATION,
    examples=Examples(("train.jsonl",), _reads("medqa_5_train")),
)
