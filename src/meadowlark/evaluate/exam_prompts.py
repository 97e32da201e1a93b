"""How an exam's questions are put to a model: one definition, as a chat or as plain text.

Questions with their task's form and worked examples come in; :class:`Put` goes out: the turns or
the text, and the continuations that are compared. The default chat form is medAlpaca's exam prompt
(PAPERS.md, section 2, "Exam protocol"); plain forms are those of lm-eval's tasks. A space at the
border belongs to the continuation (PEERS.md, section 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from meadowlark.errors import UserError
from meadowlark.records import Question, Turn
from meadowlark.tasks import TASKS
from meadowlark.tasks.task import Form, letters
from meadowlark.templates import user_content

Number = TypeVar("Number", int, float)
Scoring = Literal["letter", "text"]
BETWEEN_EXAMPLES = "\n\n"


@dataclass(frozen=True, slots=True)
class Asking:
    """How the questions of one task are put.

    ``scoring`` is what is compared. ``examples`` are worked questions by group, or under ``""``
    for all. ``plain`` writes text without a chat template.
    """

    form: Form
    scoring: Scoring
    plain: bool = False
    examples: Mapping[str, Sequence[Question]] | None = None

    def examples_of(self, question: Question) -> Sequence[Question]:
        """The worked examples that stand before a question."""
        held = self.examples or {}
        return held.get(question.group) or held.get("") or ()


def asking_of(
    name: str,
    form: Form,
    scoring: Scoring | None,
    *,
    plain: bool,
    examples: Mapping[str, Sequence[Question]] | None = None,
) -> Asking:
    """A task's way of asking; ``scoring`` None is letters where they are shown, else texts.

    UserError for letters that no prompt shows.
    """
    shown = form.lists_choices(plain=plain)
    if scoring == "letter" and not shown:
        raise UserError(
            f"{name} shows no letters in its {'plain ' if plain else ''}prompt, so that only the "
            "choices' texts can be compared; leave --scoring away, or give --scoring text"
        )
    return Asking(form, scoring or ("letter" if shown else "text"), plain, examples)


@dataclass(frozen=True, slots=True)
class Put:
    """One question as it is put to a model.

    ``draw`` is the order of its choices: they are turned by so many places, and ``order[i]`` is
    the place that the choice shown as number i has in ``question``. ``text`` is a plain prompt,
    else empty; ``compared`` are the continuations in the order shown. ``block`` is the same for
    prompts with the same worked examples.
    """

    question: Question
    draw: int
    order: tuple[int, ...]
    turns: tuple[Turn, ...]
    text: str
    compared: tuple[str, ...]
    block: str

    @property
    def shown(self) -> tuple[str, ...]:
        """The choices in the order shown."""
        return tuple(self.question.choices[place] for place in self.order)

    def in_order(self, values: Sequence[Number]) -> tuple[Number, ...]:
        """Values of the choices as shown, in the question's own order."""
        return tuple(value for _, value in sorted(zip(self.order, values, strict=True)))

    def letter(self, shown: int) -> str:
        """The question's own letter of the choice shown as number ``shown``."""
        return letters(len(self.order))[self.order[shown]]


def exam_turns(question: Question, form: Form | None = None) -> list[Turn]:
    """The message that asks one multiple-choice question, without worked examples.

    ``form`` is by default that of the question's task, if it is one of ours.
    """
    if form is None:
        form = TASKS[question.task].form if question.task in TASKS else Form()
    return [Turn("user", user_content(form.instruction, form.text(question, plain=False)))]


def continuations(question: Question, scoring: Scoring, *, plain: bool = False) -> list[str]:
    """What is compared after the prompt: the letters, or the choices' own texts.

    A template ends where the answer begins, without a space, as in training; so does each. After
    plain text a space parts them.
    """
    space = " " if plain else ""
    if scoring == "letter":
        return [f"{space}{letter}" for letter in letters(len(question.choices))]
    return [f"{space}{choice.strip()}" for choice in question.choices]


def put(question: Question, asking: Asking, draw: int = 0) -> Put:
    """A question in one order of its choices, ready to be asked."""
    count = len(question.choices)
    order = tuple((place + draw) % count for place in range(count))
    shown = replace(question, choices=tuple(question.choices[place] for place in order))
    examples = asking.examples_of(question)
    form, scoring = asking.form, asking.scoring
    block = f"{question.task}/{examples[0].group if examples else ''}"
    text = ""
    turns: tuple[Turn, ...] = ()
    if asking.plain:
        worked = [
            form.text(example, plain=True) + _right(example, scoring, plain=True) + BETWEEN_EXAMPLES
            for example in examples
        ]
        text = form.head(question) + "".join(worked) + form.text(shown, plain=True)
        if form.opening:
            block = f"{question.task}/{question.group}"
    else:
        asked: list[Turn] = []
        for example in examples:
            asked += exam_turns(example, form)
            asked.append(Turn("assistant", _right(example, scoring, plain=False)))
        turns = (*asked, *exam_turns(shown, form))
    compared = tuple(continuations(shown, scoring, plain=asking.plain))
    return Put(question, draw, order, turns, text, compared, block)


def _right(example: Question, scoring: Scoring, *, plain: bool) -> str:
    """The right continuation of a worked example."""
    right = ord(example.target) - ord("A")
    return continuations(example, scoring, plain=plain)[right]


def put_all(
    questions: Iterable[Question], askings: Mapping[str, Asking], orders: int = 1
) -> Iterator[Put]:
    """Every question in its first ``orders`` orders, one order after the other.

    Turning the choices by one place at a time lets each stand in each place once; a question with
    fewer choices than ``orders`` has as many orders as choices.
    """
    held = list(questions)
    for draw in range(orders):
        for question in held:
            if draw < len(question.choices):
                yield put(question, askings[question.id], draw)
