"""ROUGE-1, ROUGE-2 and ROUGE-L as the original ROUGE-1.5.5 gives them, for summarisation tasks.

A candidate and a reference summary come in, recall, precision and F1 of each measure go out, equal
to what the script prints: its tokens, its Porter stemmer (option -m, for words of more than three
characters), its union of longest common subsequences over sentences (one a line), its rounding to
five digits of recall and precision before F1. Source: Lin 2004; the options used by the published
MeQSum and MEDIQA results (-n 2 -m -a -d). Bootstrapped intervals of the script are not made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from meadowlark.evaluate.porter import porter_stem
from meadowlark.match import tokenize

STEMMED_FROM = 4
"""Characters from which on a word is stemmed."""

MEASURES = ("rouge_1", "rouge_2", "rouge_l")


class Overlap(NamedTuple):
    """Recall, precision and F1 of one measure, each rounded to five digits."""

    recall: float
    precision: float
    f1: float


def rouge155(candidate: str, reference: str, *, stem: bool = True) -> dict[str, Overlap]:
    """The three measures of a candidate against one reference; each line is a sentence."""
    ours = [_tokens(line, stem) for line in candidate.splitlines()]
    theirs = [_tokens(line, stem) for line in reference.splitlines()]
    # N-grams run over the ends of sentences, as in the script.
    flat, wanted = [t for s in ours for t in s], [t for s in theirs for t in s]
    return {
        "rouge_1": _ngrams(flat, wanted, 1),
        "rouge_2": _ngrams(flat, wanted, 2),
        "rouge_l": _overlap(_union_lcs(ours, theirs), len(flat), len(wanted)),
    }


def _tokens(text: str, stem: bool) -> list[str]:
    tokens = tokenize(text)
    return [_stem(token) for token in tokens] if stem else tokens


@lru_cache(maxsize=1 << 16)
def _stem(token: str) -> str:
    return porter_stem(token) if len(token) >= STEMMED_FROM else token


def _ngrams(candidate: Sequence[str], reference: Sequence[str], n: int) -> Overlap:
    ours, theirs = (
        Counter(zip(*(tokens[i:] for i in range(n)), strict=False))
        for tokens in (candidate, reference)
    )
    return _overlap((ours & theirs).total(), ours.total(), theirs.total())


def _overlap(hits: int, in_candidate: int, in_reference: int) -> Overlap:
    recall = _five(hits / in_reference if in_reference else 0.0)
    precision = _five(hits / in_candidate if in_candidate else 0.0)
    both = recall + precision
    return Overlap(recall, precision, _five(recall * precision / (both / 2) if both else 0.0))


def _five(value: float) -> float:
    return float(f"{value:.5f}")


def _union_lcs(candidate: Sequence[Sequence[str]], reference: Sequence[Sequence[str]]) -> int:
    """Hits of ROUGE-L: for each reference sentence, its tokens in the longest common subsequence
    with any candidate sentence; a token counts at most as often as it is in either summary."""
    left = Counter(token for sentence in candidate for token in sentence)
    wanted = Counter(token for sentence in reference for token in sentence)
    hits = 0
    for sentence in reference:
        union: set[int] = set()
        for other in candidate:
            union.update(_lcs_places(sentence, other))
        for place in sorted(union):
            token = sentence[place]
            if left[token] > 0 and wanted[token] > 0:
                hits += 1
                left[token] -= 1
                wanted[token] -= 1
    return hits


def _lcs_places(reference: Sequence[str], candidate: Sequence[str]) -> list[int]:
    """Places in ``reference`` of one longest common subsequence, the one the script walks to."""
    rows, columns = len(reference), len(candidate)
    length = [[0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(1, rows + 1):
        above, row, token = length[i - 1], length[i], reference[i - 1]
        for j in range(1, columns + 1):
            if token == candidate[j - 1]:
                row[j] = above[j - 1] + 1
            else:
                row[j] = max(above[j], row[j - 1])
    places = []
    i, j = rows, columns
    while i and j:
        if reference[i - 1] == candidate[j - 1]:
            places.append(i - 1)
            i, j = i - 1, j - 1
        elif length[i - 1][j] >= length[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return places
