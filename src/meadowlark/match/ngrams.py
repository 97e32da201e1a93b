"""Evaluation questions found again in other texts: a run of words points at a place, the longest
common subsequence there confirms it, and choices count in whatever order they stand.

Questions come in once and are indexed; rows of texts come in batches of any size, and what was
found in each comes out. Memory depends on the questions and the batch alone. The way of working is
that of the n-gram filters of GPT-3 (13 words) and its successors (8), with what they leave open,
short questions and common phrases, decided here as :class:`QuestionIndex` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from meadowlark.match import ngram_kernels as kernels
from meadowlark.match.tokens import Vocabulary, fold_look_alikes
from meadowlark.records import Question
from meadowlark.templates import split_content

RUN = 8
LONG = 13
COVERAGE = 0.7
FEWEST = 8
"""Words that a short multiple-choice question must have, its choices included, to be told from
other questions by them."""


@dataclass(frozen=True, slots=True)
class Found:
    """One question found in one row.

    ``coverage`` is the share of the question's words that stand in order in ``passage`` or close
    around it; ``choices`` of the question's choices occur in the row. ``passage`` is as folded.
    """

    row: int
    question: int
    coverage: float
    choices: int
    passage: str


class QuestionIndex:
    """Evaluation questions to be looked for; all words are those of
    :func:`tokens.fold_look_alikes`.

    A question of at least ``long`` words is found in a row where ``run`` of its words stand one
    behind the other and, around that place, at least ``coverage`` of all its words in their order.
    Common phrases ("which of the following is the most likely diagnosis") point at many questions
    and confirm none. The place is the stretch where the question would stand if the run is at its
    own place in it, a quarter of the question's length longer at both ends.

    A shorter question is found where all its words stand one behind the other, and besides

    - all its choices stand somewhere in the row, and question and choices have 8 words or more;
    - or the question is a whole text of the row (or several in a row) and its right choice stands
      somewhere, or it has no choices.

    ``unsearchable`` are the questions of which none of this can be said: no words, or a short
    question whose right choice is not given and whose choices are too short.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        *,
        run: int = RUN,
        long: int = LONG,
        coverage: float = COVERAGE,
    ) -> None:
        if not 1 <= run <= long or not 0 < coverage <= 1:
            raise ValueError(
                f"expected 1 <= run <= long and 0 < coverage <= 1, not {run}, {long}, {coverage}"
            )
        self.coverage = coverage
        self._long = long
        self._vocabulary = Vocabulary(fold_look_alikes)
        stems = [" ".join(split_content(question.prompt)) for question in questions]
        tokens, offsets = self._vocabulary.encode(stems)
        choices, choice_offsets = self._vocabulary.encode(
            list(chain.from_iterable(question.choices for question in questions))
        )
        first = np.cumsum([0, *(len(question.choices) for question in questions)])
        target = np.array([_target(question) for question in questions], np.int64)
        self._questions = kernels.Questions(
            tokens, offsets, choices, choice_offsets, first.astype(np.int64), target
        )
        length = np.diff(offsets)
        size = np.where(length < long, length, run)
        self._grams = kernels.index(self._questions, size)
        words = length + np.diff(choice_offsets[first])
        by_choices = (np.diff(first) > 0) & (words >= FEWEST)
        by_equality = (np.diff(first) == 0) | (target >= 0)
        hopeless = (length == 0) | ((length < long) & ~by_choices & ~by_equality)
        self.unsearchable: list[int] = np.flatnonzero(hopeless).tolist()

    def search(self, rows: Sequence[Sequence[str]]) -> list[Found]:
        """The questions found in each row, a row being its texts in order (instruction, input,
        output), by row and then by question."""
        tokens, offsets = self._vocabulary.look_up(list(chain.from_iterable(rows)))
        first = np.cumsum([0, *(len(row) for row in rows)]).astype(np.int64)
        found = kernels.search(
            self._questions,
            self._grams,
            tokens,
            offsets,
            first,
            self._long,
            self.coverage,
            FEWEST,
            len(self._vocabulary),
        )
        return [self._found(rows, *values) for values in sorted(found.tolist())]

    def _found(
        self,
        rows: Sequence[Sequence[str]],
        row: int,
        question: int,
        lcs: int,
        at: int,
        choices: int,
    ) -> Found:
        offsets = self._questions.offsets
        length = int(offsets[question + 1] - offsets[question])
        words = [word for text in rows[row] for word in fold_look_alikes(text).split()]
        passage = b" ".join(words[max(at, 0) : at + length]).decode()
        return Found(row, question, lcs / length, choices, passage)


def _target(question: Question) -> int:
    """The number of the right choice, or -1 where it is not known."""
    number = ord(question.target) - ord("A") if len(question.target) == 1 else -1
    return number if 0 <= number < len(question.choices) else -1
