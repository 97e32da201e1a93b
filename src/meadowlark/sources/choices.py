"""Multiple-choice questions as instructions: one layout for every source that has them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from meadowlark.records import Record
from meadowlark.sources.source import Source
from meadowlark.tasks.task import letters

ANSWER_WITH_LETTER = "Answer this multiple-choice question with the letter and text of one option."


def question_with_options(question: str, choices: Mapping[str, str]) -> str:
    """The question, then one line an option: ``A. text``."""
    return "\n".join([question, *(f"{letter}. {choice}" for letter, choice in choices.items())])


def lettered(choices: Sequence[str]) -> dict[str, str]:
    """Options under the letters from A on."""
    return dict(zip(letters(len(choices)), choices, strict=True))


def choice_record(
    source: Source,
    question: str,
    options: Mapping[str, str],
    letter: str,
    *,
    explanation: str = "",
    view: str = "student",
    **tags: str,
) -> Record:
    """A question with its options as a record; its output is the right option, and why it is."""
    answer = f"{letter}. {options.get(letter, '')}"
    return source.record(
        ANSWER_WITH_LETTER,
        question_with_options(question, options),
        f"{answer}\n\n{explanation}" if explanation else answer,
        **tags,
        type="multiple choice",
        view=view,
    )


UNKNOWN_LABEL = "unknown label"


def fault_of(question: str, options: Mapping[str, str], letter: str) -> str:
    """Why a question is of no use, as a reason to reject it; empty where it is."""
    if letter not in options:
        return UNKNOWN_LABEL
    if not question:
        return "no question"
    return "" if all(options.values()) else "empty option"
