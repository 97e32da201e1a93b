"""The prompts and answers that verdicts are about, where the folder of the verdicts holds them.

Inputs of ``score`` come in; what scores by length, difficulty and topic need goes out. A group is a
question's ``group``, or what a file of labels (``--groups``) says of the item or its prompt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    inputs = list(inputs)
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
        texts.labels = _labels(groups, texts.questions, _judged(inputs))
    # One label, or one for each item, divides nothing.
    texts.labels = {
        kind: labels
        for kind, labels in texts.labels.items()
        if 1 < len({*labels.values()}) < len(labels)
    }
    return texts


def _judged(inputs: Iterable[Path]) -> dict[str, str]:
    """What a judge was shown for each item, of transcripts: the item's prompt stands within it."""
    shown: dict[str, str] = {}
    for path in inputs:
        if path.is_dir() or path.suffix == ".parquet":
            continue
        for raw in raw_rows(path):
            if isinstance(raw, Mapping) and raw.get("prompt") and "model_output_id" in raw:
                shown.setdefault(str(raw["model_output_id"]), _words(str(raw["prompt"])))
    return shown


def _item_of(raw: Mapping[str, Any], judged: Mapping[str, str]) -> list[str]:
    """The items of transcripts whose prompt holds a row's texts."""
    parts = [_words(str(raw.get(key) or "")) for key in ("instruction", "prompt", "input")]
    parts = [part for part in parts if part]
    return [item for item, shown in judged.items() if all(part in shown for part in parts)]


def _labels(
    path: Path, questions: Mapping[str, Question], judged: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """A file's labels by item: a row is known by ``item`` or ``id``, or else by its prompt's text.

    Where prompts are known, an id counts only if the row's prompt (if it has one) is that item's:
    a transcript numbers its items as it pleases. Of several rows whose prompt stands in what a
    judge was shown, the longest is the item's.
    """
    by_prompt: dict[str, str] = {}
    for item, question in questions.items():
        by_prompt.setdefault(_words(plain(question.prompt)), item)
    found: dict[str, dict[str, str]] = {}
    lengths: dict[tuple[str, str], int] = {}
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
        if prompt and judged and not questions:
            items = _item_of(raw, judged)
        else:
            items = [item] if item else []
        for kind in LABELS:
            if raw.get(kind) in (None, ""):
                continue
            for one in items:
                if len(prompt) >= lengths.get((kind, one), 0):
                    lengths[kind, one] = len(prompt)
                    found.setdefault(kind, {})[one] = str(raw[kind])
    if judged and not questions and not found:
        raise UserError(
            f"{path} labels none of the items: no row's prompt stands in what the judge was shown"
        )
    if questions and not any(item in questions for one in found.values() for item in one):
        raise UserError(
            f"{path} labels none of the items: expected rows with item, id or instruction, and one "
            f"of {', '.join(LABELS)}"
        )
    return found


def _words(text: str) -> str:
    return " ".join(text.split())
