"""The prompts and answers that verdicts are about, where the folder of the verdicts holds them.

Inputs of ``score`` come in; what scores by length, difficulty and topic need goes out. A group is a
question's ``group``, or what a file of labels (``--groups``) says of the item or its prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from meadowlark.answered import plain
from meadowlark.dataset import FILE_OF, read
from meadowlark.errors import UserError
from meadowlark.layouts import raw_rows
from meadowlark.records import Answer, Question
from meadowlark.tasks import TASKS
from meadowlark.templates import user_content

LABELS = ("difficulty", "topic", "view", "type", "group")
"""Columns of a file of labels that items are grouped by."""
GROUPED_BY = {"medinstruct_test": "difficulty", "alpaca_eval": "set"}
"""What the groups of a task's questions are; of records they are topics."""


@dataclass
class Texts:
    """What is known of the items: each one's question, its labels, and answers' lengths.

    ``lengths`` counts the characters of each (item, model); ``labels`` maps what items are grouped
    by to each item's label.
    """

    questions: dict[str, Question] = field(default_factory=dict)
    lengths: dict[tuple[str, str], int] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)


def read_texts(inputs: Iterable[Path], groups: Path | None = None) -> Texts:
    """The texts in the folders among ``inputs``, and the labels of ``groups`` where it is given."""
    texts = Texts()
    for path in inputs:
        if not path.is_dir():
            continue
        if (path / FILE_OF[Question]).exists():
            for question in read(path, Question)[0]:
                texts.questions.setdefault(question.id, question)
        if (path / FILE_OF[Answer]).exists():
            for answer in read(path, Answer)[0]:
                if answer.draw == 0 and answer.status != "failed":
                    texts.lengths.setdefault((answer.item, answer.model), len(answer.text))
    for item, question in texts.questions.items():
        if question.group:
            kind = GROUPED_BY.get(question.task, "group" if question.task in TASKS else "topic")
            texts.labels.setdefault(kind, {})[item] = question.group
    if groups is not None:
        texts.labels = _labels(groups, texts.questions)
    # One label, or one for each item, divides nothing.
    texts.labels = {
        kind: labels
        for kind, labels in texts.labels.items()
        if 1 < len({*labels.values()}) < len(labels)
    }
    return texts


def _labels(path: Path, questions: Mapping[str, Question]) -> dict[str, dict[str, str]]:
    """A file's labels by item: a row is known by ``item`` or ``id``, or else by its prompt's text.

    Where prompts are known, an id counts only if the row's prompt (if it has one) is that item's.
    """
    by_prompt: dict[str, str] = {}
    for item, question in questions.items():
        by_prompt.setdefault(_words(plain(question.prompt)), item)
    found: dict[str, dict[str, str]] = {}
    for raw in raw_rows(path):
        if not isinstance(raw, Mapping):
            raise UserError(f"{path} must hold objects with id (or instruction) and labels")
        instruction = str(raw.get("instruction") or raw.get("prompt") or "")
        prompt = _words(plain(user_content(instruction, str(raw.get("input") or ""))))
        item = str(raw.get("item", raw.get("id", "")))
        if prompt in by_prompt:
            item = by_prompt[prompt]
        elif prompt and item in questions:
            continue  # an id that stands for another prompt here
        for kind in LABELS:
            if item and raw.get(kind) not in (None, ""):
                found.setdefault(kind, {})[item] = str(raw[kind])
    if questions and not any(item in questions for one in found.values() for item in one):
        raise UserError(
            f"{path} labels none of the items: expected rows with item, id or instruction, and one "
            f"of {', '.join(LABELS)}"
        )
    return found


def _words(text: str) -> str:
    return " ".join(text.split())
