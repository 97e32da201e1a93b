"""Near-duplicate texts by exact ROUGE-L F1, as the filters of Self-Instruct and AlpaCare need it.
Texts come in; which of them stay, and for each of the others its nearest neighbour, come out, with
the numbers (to the last bit) that the package rouge-score gives without stemming.

A text without tokens scores 0 with every text, itself included, so it is never a duplicate here.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from meadowlark.match import rouge_kernels as kernels
from meadowlark.match.compiled import with_room
from meadowlark.match.tokens import Vocabulary, tokenize

Rule = Literal["kept", "others"]
BATCH = 2048  # texts probed against a frozen index at a time; any value gives the same answer


def rouge_l_f1(a: str, b: str) -> float:
    """ROUGE-L F1 of two texts in [0, 1], equal to rouge-score's float; symmetric.

    The reference for the compiled join: Hyyro's bit-parallel LCS on Python integers.
    """
    first, second = tokenize(a), tokenize(b)
    if not first or not second:
        return 0.0
    positions: dict[str, int] = {}
    for k, token in enumerate(first):
        positions[token] = positions.get(token, 0) | 1 << k
    everywhere = (1 << len(first)) - 1
    row = everywhere
    for token in second:
        hit = row & positions.get(token, 0)
        row = ((row + hit) | (row - hit)) & everywhere
    lcs = len(first) - row.bit_count()
    if lcs == 0:
        return 0.0
    precision, recall = lcs / len(second), lcs / len(first)
    return 2 * precision * recall / (precision + recall)


@dataclass(frozen=True)
class NearDuplicates:
    """The answer of `near_duplicates` for n texts; all arrays have shape (n,)."""

    kept: NDArray[np.bool_]
    nearest: NDArray[np.int64]  # for a dropped text the nearest text's index, else -1
    score: NDArray[np.float64]  # for a dropped text the ROUGE-L F1 with it, else NaN


def near_duplicates(
    texts: Sequence[str],
    threshold: float = 0.7,
    rule: Rule = "kept",
    threads: int | None = None,
) -> NearDuplicates:
    """Drops every text whose highest ROUGE-L F1 with the texts it is compared to is > threshold.

    Rule "kept" (Self-Instruct, Stanford Alpaca) goes through the texts in order and compares each
    with those kept so far; the first of a group stays. Rule "others" (AlpaCare) compares each with
    all others, so that all of a group go. The nearest text is the highest-scoring one among those
    compared, the one of lowest index where scores tie. The answer is exact and the same for any
    number of `threads` (default: all cores this process may use). A threshold outside [0, 1) or an
    unknown rule is a ValueError.
    """
    _check_threshold(threshold)
    if rule not in ("kept", "others"):
        raise ValueError(f"rule must be 'kept' or 'others', not {rule!r}")
    threads = _available_cores() if threads is None else threads
    if threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")

    vocabulary = Vocabulary()
    tokens, offsets = vocabulary.encode(texts)
    index = _empty_index(tokens, offsets, len(vocabulary), threshold)
    first, second = _identical(tokens, offsets)
    everything = np.arange(len(texts))
    distinct = np.flatnonzero((first == everything) & (np.diff(offsets) > 0))

    nearest = np.full(len(texts), -1, np.int64)
    score = np.full(len(texts), np.nan)
    with ThreadPoolExecutor(threads) as pool:
        search = _Search(pool, threads, index, len(vocabulary))
        if rule == "kept":
            kept = np.diff(offsets) == 0
            kept[search.select_greedily(distinct)] = True
            copies = np.flatnonzero((first != everything) & kept[first])
            nearest[copies] = first[copies]
            unsettled = np.flatnonzero(~kept & (nearest < 0))
        else:
            kernels.insert_all(index, distinct)
            nearest[:] = np.where(first == everything, second, first)
            unsettled = distinct[nearest[distinct] < 0]
        score[nearest >= 0] = 1.0
        nearest[unsettled], score[unsettled] = search.nearest(unsettled, rule == "kept")
    dropped = nearest >= 0
    score[~dropped] = np.nan
    return NearDuplicates(kept=~dropped, nearest=nearest, score=score)


class RougeIndex:
    """A growing set of texts that can be asked for the nearest one: for a generator that compares
    each new task with all earlier ones. A query costs some 6 ns a text in the index. Not for use
    from several threads at once.
    """

    _WORDS = 4  # 256-bit bitmaps

    def __init__(self, threshold: float = 0.7, texts: Iterable[str] = ()) -> None:
        _check_threshold(threshold)
        self.threshold = float(threshold)
        self._vocabulary = Vocabulary()
        self._count = 0
        self._offsets = np.zeros(1, np.int64)
        self._tokens = np.zeros(0, np.int32)
        self._bitmaps = np.zeros((0, self._WORDS), np.uint64)
        self._mask = np.zeros(0, np.uint64)
        self._carry = np.zeros(0, np.uint64)
        for text in texts:
            self.add(text)

    def __len__(self) -> int:
        return self._count

    def add(self, text: str) -> int:
        """Adds a text, whatever it resembles, and returns its index: 0, 1, 2, …"""
        return self._append(*self._prepare(text))

    def nearest(self, text: str) -> tuple[int, float] | None:
        """Index and score of the added text with the highest ROUGE-L F1, if > threshold.

        The lowest index where scores tie; None where no text scores above the threshold.
        """
        return self._nearest(*self._prepare(text))

    def add_if_new(self, text: str) -> tuple[int, float] | None:
        """Adds the text and returns None, or returns its `nearest` and adds nothing."""
        tokens, bitmap = self._prepare(text)
        found = self._nearest(tokens, bitmap)
        if found is None:
            self._append(tokens, bitmap)
        return found

    def _prepare(self, text: str) -> tuple[NDArray[np.int32], NDArray[np.uint64]]:
        tokens, _ = self._vocabulary.encode([text])
        self._mask = with_room(self._mask, len(self._vocabulary))
        bitmap = np.zeros(self._WORDS, np.uint64)
        kernels.bitmap_of_tokens(tokens, self._mask, bitmap)
        return tokens, bitmap

    def _append(self, tokens: NDArray[np.int32], bitmap: NDArray[np.uint64]) -> int:
        index, begin = self._count, self._offsets[self._count]
        end = begin + len(tokens)
        self._tokens = with_room(self._tokens, end)
        self._bitmaps = with_room(self._bitmaps, index + 1)
        self._offsets = with_room(self._offsets, index + 2)
        self._carry = with_room(self._carry, len(tokens))
        self._tokens[begin:end] = tokens
        self._bitmaps[index] = bitmap
        self._offsets[index + 1] = end
        self._count += 1
        return index

    def _nearest(
        self, tokens: NDArray[np.int32], bitmap: NDArray[np.uint64]
    ) -> tuple[int, float] | None:
        index, score = kernels.scan(
            tokens,
            bitmap,
            self._tokens,
            self._offsets,
            self._bitmaps,
            self._count,
            self.threshold,
            self._mask,
            self._carry,
        )
        return None if index < 0 else (index, score)


class _Search:
    """The searches of `near_duplicates`, divided among the threads of a pool."""

    def __init__(
        self, pool: ThreadPoolExecutor, threads: int, index: kernels.Index, n_tokens: int
    ) -> None:
        self._pool = pool
        self._threads = threads
        self._index = index
        self._n_tokens = n_tokens

    def select_greedily(self, texts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Inserts each text unless it duplicates one inserted before; returns the inserted.

        A batch is first searched for in the index as it stands, by all threads; those without a
        duplicate there are then inserted one by one, each compared with the batch's earlier ones.
        """
        own = self._scratches(1)[0]
        selected = [texts[:0]]
        for batch, nearest, _ in self._batches(texts, False, True):
            selected.append(kernels.admit(self._index, batch[nearest < 0], own))
        return np.concatenate(selected)

    def nearest(
        self, texts: NDArray[np.int64], only_earlier: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Nearest inserted text of each, and its score."""
        found = [(texts[:0], np.empty(0))]
        found += [(n, score) for _, n, score in self._batches(texts, only_earlier, False)]
        nearest, score = zip(*found, strict=True)
        return np.concatenate(nearest), np.concatenate(score)

    def _batches(
        self, texts: NDArray[np.int64], only_earlier: bool, any_will_do: bool
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]]:
        """Yields (texts, nearest, score) batch by batch, so that Ctrl-C is heard in between."""
        scratches = self._scratches(self._threads)
        for at in range(0, len(texts), BATCH):
            batch = texts[at : at + BATCH]
            nearest = np.empty(len(batch), np.int64)
            score = np.empty(len(batch))
            shares = [np.arange(k, len(batch), self._threads) for k in range(self._threads)]
            found = self._pool.map(
                lambda share, scratch, batch=batch: kernels.search_all(
                    self._index, batch[share], only_earlier, any_will_do, scratch
                ),
                shares,
                scratches,
            )
            for share, (its_nearest, its_score) in zip(shares, found, strict=True):
                nearest[share], score[share] = its_nearest, its_score
            yield batch, nearest, score

    def _scratches(self, count: int) -> list[kernels.Scratch]:
        longest = len(self._index.prefix) - 1
        return [
            kernels.Scratch(
                seen_by=np.full(len(self._index.offsets) - 1, -1, np.int32),
                mask=np.zeros(self._n_tokens, np.uint64),
                carry=np.empty(longest, np.uint64),
                required=np.empty(longest + 1, np.int32),
            )
            for _ in range(count)
        ]


def _check_threshold(threshold: float) -> None:
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold must be at least 0 and less than 1, not {threshold}")


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _identical(
    tokens: NDArray[np.int32], offsets: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each text the first text with the same tokens (perhaps itself), and for such a first
    text the second one, else -1. Texts without tokens are like no other."""
    n = len(offsets) - 1
    first, second = np.arange(n), np.full(n, -1, np.int64)
    seen: dict[bytes, int] = {}
    for i in np.flatnonzero(np.diff(offsets)).tolist():
        earlier = seen.setdefault(tokens[offsets[i] : offsets[i + 1]].tobytes(), i)
        if earlier != i:
            first[i] = earlier
            if second[earlier] < 0:
                second[earlier] = i
    return first, second


def _empty_index(
    tokens: NDArray[np.int32], offsets: NDArray[np.int64], n_tokens: int, threshold: float
) -> kernels.Index:
    """Ranks the elements rarest first and makes room for every text."""
    n = len(offsets) - 1
    elements = kernels.elements_of(tokens, offsets, n_tokens)
    frequency = np.bincount(elements)
    n_ranks = len(frequency)
    rank = np.empty(n_ranks, np.int32)
    rank[np.argsort(frequency, kind="stable")] = np.arange(n_ranks, dtype=np.int32)
    ranks, _ = kernels.transpose(*kernels.transpose(rank[elements], offsets, n_ranks), n)
    prefix = kernels.prefix_lengths(int(np.diff(offsets).max(initial=0)), threshold)
    start = kernels.posting_starts(ranks, offsets, prefix, n_ranks)
    return kernels.Index(
        tokens=tokens,
        offsets=offsets,
        ranks=ranks,
        bitmaps=kernels.bitmaps_of(ranks, offsets, _bitmap_words(len(tokens) / max(n, 1))),
        prefix=prefix,
        start=start,
        filled=np.zeros(n_ranks, np.int32),
        postings=np.empty((start[-1], 3), np.int32),
        threshold=float(threshold),
    )


def _bitmap_words(mean_length: float) -> int:
    """64-bit words of a bitmap with some six bits a token: 2 for short texts, at most 16."""
    words = 2
    while words < 16 and 64 * words < 6 * mean_length:
        words *= 2
    return words
