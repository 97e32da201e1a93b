"""Two models' answers to the same prompts, joined into what a person compares.

Folders that ``answer`` or ``exam`` wrote, or files of published answers, come in; pairs come out,
and what could not be paired, each with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from meadowlark.answered import counterparts, read_side, with_distinct_names
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
    """The pairs in the order of the first side; ``left_out`` says of an item why it is none."""

    models: tuple[str, str]
    pairs: list[Pair]
    left_out: list[tuple[str, str]]


def read_pairs(first: str, second: str, limit: int | None = None) -> Paired:
    """The answers that two folders or files (``NAME=PATH`` names a model) give to the same prompts.

    Only a model's first draw is shown. What one side lacks, or a model failed to answer, is left
    out with the reason; what comes after ``limit`` pairs is not looked at. UserError where a side
    holds no answers, or nothing can be paired.
    """
    mine, theirs = with_distinct_names([read_side(first), read_side(second)])
    own = {item: their for their, item in counterparts(mine, theirs).items()}
    pairs: list[Pair] = []
    left_out: list[tuple[str, str]] = []
    for item, answers in mine.answers.items():
        if limit is not None and len(pairs) >= limit:
            return Paired((mine.model, theirs.model), pairs, left_out)
        others = theirs.answers.get(own.get(item, ""))
        if others is None:
            left_out.append((item, f"only {mine.model} answered it"))
            continue
        pair = Pair(mine.questions[item], answers[0], replace(others[0], item=item))
        failed = [answer.model for answer in (pair.a, pair.b) if answer.status == "failed"]
        if failed:
            left_out.append((item, f"no answer came from {' and '.join(failed)}"))
        else:
            pairs.append(pair)
    asked = {their for item, their in own.items() if item in mine.answers}
    alone = [their for their in theirs.answers if their not in asked]
    left_out += [(their, f"only {theirs.model} answered it") for their in alone]
    if not pairs:
        raise UserError(f"{first} and {second} have no prompt that both answer; nothing to compare")
    return Paired((mine.model, theirs.model), pairs, left_out)
