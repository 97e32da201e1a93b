"""Two models' answers to the same prompts, joined into what a person compares.

Folders with ``questions.parquet`` and ``answers.parquet`` come in (``answer`` and ``exam`` write
them); pairs come out, and what could not be paired, each with its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meadowlark.dataset import FILE_OF, read
from meadowlark.errors import UserError
from meadowlark.records import Answer, Question


@dataclass(frozen=True)
class Pair:
    """One prompt and what the two models said to it."""

    question: Question
    a: Answer
    b: Answer


@dataclass(frozen=True)
class Paired:
    """The pairs in the order of the first folder; ``left_out`` says of an item why it is none."""

    pairs: list[Pair]
    left_out: list[tuple[str, str]]


def named_path(argument: str) -> tuple[str, Path]:
    """``NAME=PATH`` taken apart; a path alone (or one that holds an equals sign) has no name."""
    name, equals, path = argument.partition("=")
    if not equals or not name or Path(argument).exists():
        return "", Path(argument)
    return name, Path(path)


def read_pairs(first: str, second: str, limit: int | None = None) -> Paired:
    """The answers of two folders joined by id where the prompts agree, else by the prompt's text.

    Only a model's first draw is shown. What one folder lacks, or a model failed to answer, is left
    out with the reason. UserError where a folder holds no answers, or nothing can be paired.
    """
    mine, theirs = _side(first), _side(second)
    names = [next(iter(side.values()))[1].model for side in (mine, theirs)]
    if names[0] == names[1]:
        raise UserError(
            f"both folders hold answers of {names[0]!r}; tell them apart with NAME=PATH"
        )
    by_text: dict[str, list[str]] = {}
    for item, (question, _) in theirs.items():
        by_text.setdefault(_words(question.prompt), []).append(item)
    taken: set[str] = set()
    pairs: list[Pair] = []
    left_out: list[tuple[str, str]] = []
    for item, (question, a) in mine.items():
        if limit is not None and len(pairs) >= limit:
            break
        same = [i for i in by_text.get(_words(question.prompt), []) if i not in taken]
        found = item if item in same else same[0] if same else None
        if found is None:
            left_out.append((item, f"only {names[0]} answered it"))
            continue
        taken.add(found)
        b = replace(theirs[found][1], item=item)
        failed = [answer.model for answer in (a, b) if answer.status == "failed"]
        if failed:
            left_out.append((item, f"no answer came from {' and '.join(failed)}"))
            continue
        pairs.append(Pair(question, a, b))
    if not pairs:
        raise UserError(f"{first} and {second} answer no prompt in common; nothing to compare")
    return Paired(pairs, left_out)


def _side(argument: str) -> dict[str, tuple[Question, Answer]]:
    """One folder's questions with their first answer, under the name that the argument gives."""
    name, folder = named_path(argument)
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected a folder with {FILE_OF[Answer]} and {FILE_OF[Question]}, as "
            "`meadowlark answer` writes it"
        )
    answers = _first_draws(read(folder, Answer)[0])
    models = sorted({answer.model for answer in answers})
    if len(models) != 1:
        raise UserError(
            f"{folder} must hold the answers of one model, not of {', '.join(models) or 'none'}"
        )
    questions = {question.id: question for question in read(folder, Question)[0]}
    strangers = {answer.item for answer in answers} - questions.keys()
    if strangers:
        raise UserError(f"{folder}: no question for the answered item {min(strangers)!r}")
    return {
        answer.item: (questions[answer.item], replace(answer, model=name or answer.model))
        for answer in answers
    }


def _first_draws(answers: Sequence[Answer]) -> list[Answer]:
    found: dict[str, Answer] = {}
    for answer in answers:
        if answer.item not in found or answer.draw < found[answer.item].draw:
            found[answer.item] = answer
    return list(found.values())


def _words(text: str) -> str:
    return " ".join(text.split())
