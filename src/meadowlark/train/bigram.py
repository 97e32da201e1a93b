"""The bar a language model has to clear: a smoothed bigram model of the same rows.

Tokens are the model's own, pairs are counted within a row, and the bigram is interpolated with
unigrams by absolute discounting (Ney, Essen and Kneser, 1994). Discount, and whether prompts are
counted besides responses, are chosen on a held-out tenth of the training rows, never on the
validation rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from meadowlark.train.encode import Example
from meadowlark.train.loss import Evaluation, evaluation

Ids = npt.NDArray[np.int64]
DISCOUNTS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)
HELD_OUT = 10  # every tenth training row chooses the smoothing


@dataclass(frozen=True)
class Bigram:
    """p(b|a) = max(c(a,b) - D, 0)/c(a) + D n(a)/c(a) p(b), n(a) the kinds of b seen after a.

    p(b) is the unigram with one added to each count, so that no token is impossible.
    """

    discount: float
    pairs: Ids  # sorted keys a * vocabulary + b
    pair_counts: Ids
    first_counts: Ids  # c(a), shape (vocabulary,)
    kinds: Ids  # n(a), shape (vocabulary,)
    unigram: npt.NDArray[np.float64]  # p(b), shape (vocabulary,)

    def nats(self, previous: Ids, following: Ids) -> float:
        """The summed surprise of tokens after the tokens before them."""
        if not len(following):
            return 0.0
        keys = previous * len(self.unigram) + following
        place = np.minimum(np.searchsorted(self.pairs, keys), max(len(self.pairs) - 1, 0))
        seen = self.pairs[place] == keys
        count = np.where(seen, self.pair_counts[place], 0)
        total = self.first_counts[previous]
        known = np.maximum(total, 1)
        direct = np.maximum(count - self.discount, 0.0) / known
        left = np.where(total > 0, self.discount * self.kinds[previous] / known, 1.0)
        return float(-np.log(direct + left * self.unigram[following]).sum())


def count_bigram(previous: Ids, following: Ids, vocabulary: int, discount: float) -> Bigram:
    """A bigram model of so many token pairs."""
    pairs, counts = np.unique(previous * vocabulary + following, return_counts=True)
    unigram = np.bincount(following, minlength=vocabulary).astype(np.float64) + 1.0
    return Bigram(
        discount,
        pairs,
        counts,
        np.bincount(previous, minlength=vocabulary),
        np.bincount(pairs // vocabulary, minlength=vocabulary),
        unigram / unigram.sum(),
    )


def _transitions(examples: Sequence[Example], *, prompts: bool) -> tuple[Ids, Ids]:
    """Each supervised token with the one before it; with ``prompts`` every token of the row."""
    previous = []
    following = []
    for example in examples:
        ids = example.input_ids.astype(np.int64)
        positions = np.arange(1, len(ids)) if prompts else example.positions()
        previous.append(ids[positions - 1])
        following.append(ids[positions])
    empty = [np.zeros(0, dtype=np.int64)]
    return np.concatenate(previous or empty), np.concatenate(following or empty)


def bigram_baseline(
    training: Sequence[Example], validation: Sequence[Example], vocabulary: int
) -> tuple[Evaluation, dict[str, Any]]:
    """The bigram's rates on the validation rows' responses, and the smoothing that was chosen."""
    held_out = training[::HELD_OUT] if len(training) >= HELD_OUT else training
    rest = [e for row, e in enumerate(training) if row % HELD_OUT] or training
    target = _transitions(held_out, prompts=False)
    choices = []
    for prompts in (False, True):
        pairs = _transitions(rest, prompts=prompts)
        for discount in DISCOUNTS:
            nats = count_bigram(*pairs, vocabulary, discount).nats(*target)
            choices.append((nats, discount, prompts))
    _, discount, prompts = min(choices)
    model = count_bigram(*_transitions(training, prompts=prompts), vocabulary, discount)
    nats = model.nats(*_transitions(validation, prompts=False))
    return evaluation(nats, validation), {"discount": discount, "prompts_counted": prompts}
