"""PubMedQA: does an abstract answer its title's question with yes, no or maybe (the official 500
test items of the 1,000 labelled ones).

``ori_pqal.json`` maps PubMed ids to items with ``QUESTION``, ``CONTEXTS`` (the abstract without its
conclusion) and ``final_decision``; ``test_ground_truth.json`` maps the test ids to their labels.
Worked examples are labelled items outside the test.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from meadowlark.errors import UserError
from meadowlark.layouts import read_json
from meadowlark.records import Question
from meadowlark.tasks.task import Examples, Form, Task, letters

LABELS = ("yes", "no", "maybe")


class Fields(NamedTuple):
    """An article's fields as the file has them, neither stripped nor judged.

    ``contexts`` is the abstract without ``conclusion`` in parts, which ``heads`` name.
    """

    question: Any
    contexts: Any
    heads: Any
    conclusion: Any
    decision: Any


def fields(article: Mapping[str, Any]) -> Fields:
    """An article's fields by what they are."""
    keys = ("QUESTION", "CONTEXTS", "LABELS", "LONG_ANSWER", "final_decision")
    return Fields(*(article.get(key) for key in keys))


def _question(path: Path, known: str, row: Any) -> Question:
    where = f"{path}, item {known}"
    if not isinstance(row, Mapping):
        raise UserError(f"{where}: expected an object")
    question, contexts, _, _, label = fields(row)
    if not isinstance(question, str) or not question:
        raise UserError(f"{where}, field 'QUESTION': expected text, not {question!r}")
    if not isinstance(contexts, list) or not all(isinstance(part, str) for part in contexts):
        raise UserError(f"{where}, field 'CONTEXTS': expected a list of texts, not {contexts!r}")
    if label not in LABELS:
        expected = ", ".join(LABELS)
        raise UserError(f"{where}, field 'final_decision': expected {expected}, not {label!r}")
    prompt = "Abstract: {}\nQuestion: {}".format("\n".join(contexts), question)
    target = letters(len(LABELS))[LABELS.index(label)]
    return Question(f"pubmedqa-{known}", "pubmedqa", prompt, LABELS, target)


def _load(paths: Sequence[Path]) -> list[Question]:
    items, truth = read_json(paths[0], dict), read_json(paths[1], dict)
    questions = []
    for known, label in truth.items():
        if known not in items:
            raise UserError(f"{paths[0]}: no item {known}, which {paths[1].name} names")
        question = _question(paths[0], known, items[known])
        if LABELS[ord(question.target) - ord("A")] != label:
            raise UserError(
                f"{paths[1]}, item {known}: {label!r} here, "
                f"{items[known]['final_decision']!r} in {paths[0].name}"
            )
        questions.append(question)
    return questions


def _outside_the_test(paths: Sequence[Path]) -> list[Question]:
    items, truth = read_json(paths[0], dict), read_json(paths[1], dict)
    return [_question(paths[0], known, row) for known, row in items.items() if known not in truth]


PUBMEDQA = Task(
    name="pubmedqa",
    title="PubMedQA, labelled, official test part",
    kind="multiple_choice",
    folder="pubmedqa",
    files=("ori_pqal.json", "test_ground_truth.json"),
    load=_load,
    licence="MIT",
    citation="Jin et al. 2019, arXiv 1909.06146; github.com/pubmedqa/pubmedqa.",
    form=Form(
        instruction="Read the abstract and answer the question with yes, no or maybe.",
        chat="{question}",
        plain="{question}\nAnswer:",
    ),
    examples=Examples(
        ("ori_pqal.json", "test_ground_truth.json"),
        _outside_the_test,
        # One of each label first, in the file's order; a user's definition may pin others.
        ids=tuple(f"pubmedqa-{known}" for known in ("10808977", "17113061", "24183388")),
    ),
    sha256={
        "ori_pqal.json": "8b3276be8942ebbd77f3ddcda12c1749bf0e490045a736fd8438ee40cf37a41d",
        "test_ground_truth.json": (
            "939fe566f09017d13b1ca64d2ddfee0bc2374b366048152997669cccedc44d51"
        ),
    },
)
