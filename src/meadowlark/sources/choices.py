"""Multiple-choice questions as instructions: one layout for every source that has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meadowlark.tasks.task import letters

ANSWER_WITH_LETTER = "Answer this multiple-choice question with the letter and text of one option."


def question_with_options(question: str, choices: Mapping[str, str]) -> str:
    """The question, then one line an option: ``A. text``."""
    return "\n".join([question, *(f"{letter}. {choice}" for letter, choice in choices.items())])


def lettered(choices: Sequence[str]) -> dict[str, str]:
    """Options under the letters from A on."""
    return dict(zip(letters(len(choices)), choices, strict=True))
