"""Near-duplicate texts by the Jaccard similarity of their runs of words: MinHash proposes pairs,
the sets themselves decide. Texts come in as blocks, which may be made by several processes; which
rows go, with the nearest kept row and the similarity, comes out.

MinHash with banding as Broder (1997) and Leskovec et al. describe: b bands of r minima find a pair
of similarity s with probability 1 - (1 - s^r)^b. What is found is compared exactly, so no row goes
without a kept row that is as similar as was asked for. Runs are known by 32-bit hashes: two texts
of 200 runs share one by accident in one pair of 100,000."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meadowlark.match.compiled import kernel
from meadowlark.match.groups import root
from meadowlark.match.tokens import fold, word_hash


class Block(NamedTuple):
    """The sets of n texts: their runs' hashes, ascending within a text, and their band keys."""

    runs: NDArray[np.uint32]  # (total,)
    counts: NDArray[np.int64]  # (n,)
    keys: NDArray[np.uint64]  # (n, bands)


def block(texts: Sequence[str], run: int, bands: int, hashes_a_band: int) -> Block:
    """The sets and keys of texts; a text of fewer than ``run`` words is one run, none is no run."""
    folded = [fold(text) + b" " for text in texts]
    ends = np.cumsum([len(text) for text in folded], dtype=np.int64)
    runs, counts = _runs(np.frombuffer(b"".join(folded), np.uint8), ends, run)
    drawn = np.random.default_rng(20240229).integers(
        1, 2**63, size=(2, bands * hashes_a_band), dtype=np.uint64
    )
    keys = _keys(runs, counts, drawn[0] * np.uint64(2) + np.uint64(1), drawn[1], bands)
    return Block(runs, counts, keys)


def words(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """The set of words of each text: their hashes, ascending within a text, and their numbers."""
    folded = [fold(text) + b" " for text in texts]
    ends = np.cumsum([len(text) for text in folded], dtype=np.int64)
    return _runs(np.frombuffer(b"".join(folded), np.uint8), ends, 1)


class Alike(NamedTuple):
    """What must be alike besides: sets of words (total,), offsets (n + 1,), their similarity."""

    words: NDArray[np.uint32]
    offsets: NDArray[np.int64]
    threshold: float


def near_duplicates(
    runs: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    keys: NDArray[np.uint64],
    threshold: float,
    out: NDArray[np.bool_],
    besides: Alike | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """For each text the kept earlier text most like it, if the similarity is at least
    ``threshold``, else -1; and the similarity, else NaN.

    ``runs`` (total,), ``offsets`` (n + 1,) and ``keys`` (n, bands) may be memory maps. ``out`` (n,)
    marks texts that are not looked at at all. The first of a group stays: a text is compared with
    those kept before it. The lowest index where similarities tie. ``besides`` asks for a second
    similarity (of the questions) which is not reported.
    """
    if besides is None:
        besides = Alike(np.zeros(0, np.uint32), np.zeros(len(offsets), np.int64), 0.0)
    return _search(runs, offsets, _previous(keys), threshold, out, out.copy(), *besides)


def linked(
    runs: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    keys: NDArray[np.uint64],
    threshold: float,
    among: NDArray[np.int64],
) -> NDArray[np.int64]:
    """For each of the texts ``among`` the first of its group, both as places in ``among``: texts
    hang together by pairs at least ``threshold`` alike, as far as MinHash proposes them. Shapes as
    in :func:`near_duplicates`."""
    return _link(runs, offsets[among], offsets[among + 1], _previous(keys, among), threshold)


def _previous(
    keys: NDArray[np.uint64], among: NDArray[np.int64] | None = None
) -> NDArray[np.int32]:
    """(bands, n): the text before this one with the same key in a band, or -1."""
    n, bands = len(keys) if among is None else len(among), keys.shape[1]
    previous = np.full((bands, n), -1, np.int32)
    for band in range(bands):
        column = np.ascontiguousarray(keys[:, band] if among is None else keys[among, band])
        order = np.argsort(column, kind="stable").astype(np.int32)
        same = column[order[1:]] == column[order[:-1]]
        previous[band][order[1:][same]] = order[:-1][same]
    return previous


@kernel
def _runs(
    text: NDArray[np.uint8], ends: NDArray[np.int64], run: int
) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    values = np.empty(len(text) // 2 + len(ends), np.uint32)
    counts = np.zeros(len(ends), np.int64)
    words = np.empty(len(text) // 2 + 1, np.uint64)
    filled = 0
    at = 0
    for i in range(len(ends)):
        n_words = 0
        while at < ends[i]:
            begin = at
            code, at = word_hash(text, at)
            if at > begin:
                words[n_words] = code
                n_words += 1
            at += 1
        if n_words == 0:
            continue
        size = min(run, n_words)
        found = np.empty(n_words - size + 1, np.uint32)
        for k in range(len(found)):
            code = np.uint64(0x9E3779B97F4A7C15)
            for w in range(k, k + size):
                code = (code ^ words[w]) * np.uint64(0xFF51AFD7ED558CCD)
                code ^= code >> np.uint64(33)
            found[k] = np.uint32(code >> np.uint64(32))
        found.sort()
        before = filled
        for k in range(len(found)):
            if k == 0 or found[k] != found[k - 1]:
                values[filled] = found[k]
                filled += 1
        counts[i] = filled - before
    return values[:filled].copy(), counts


@kernel
def _keys(
    runs: NDArray[np.uint32],
    counts: NDArray[np.int64],
    factor: NDArray[np.uint64],
    shift: NDArray[np.uint64],
    bands: int,
) -> NDArray[np.uint64]:
    keys = np.empty((len(counts), bands), np.uint64)
    rows = len(factor) // bands
    start = 0
    for i in range(len(counts)):
        for band in range(bands):
            key = np.uint64(0xCBF29CE484222325)
            for h in range(band * rows, band * rows + rows):
                least = np.uint64(0xFFFFFFFFFFFFFFFF)
                for k in range(start, start + counts[i]):
                    value = factor[h] * np.uint64(runs[k]) + shift[h]
                    value ^= value >> np.uint64(29)
                    value *= np.uint64(0xBF58476D1CE4E5B9)
                    least = min(least, value)
                key = (key ^ (least >> np.uint64(16))) * np.uint64(0x100000001B3)
                key ^= key >> np.uint64(32)
            keys[i, band] = key
        start += counts[i]
    return keys


@kernel
def _search(
    runs: NDArray[np.uint32],
    offsets: NDArray[np.int64],
    previous: NDArray[np.int32],
    threshold: float,
    out: NDArray[np.bool_],
    dropped: NDArray[np.bool_],
    words: NDArray[np.uint32],
    word_offsets: NDArray[np.int64],
    word_threshold: float,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    n = len(offsets) - 1
    bands = len(previous)
    nearest = np.full(n, -1, np.int64)
    score = np.full(n, np.nan)
    seen_by = np.full(n, -1, np.int32)
    for i in range(n):
        size = offsets[i + 1] - offsets[i]
        best, best_score = np.int64(-1), 0.0
        for band in range(bands):
            # Dropped texts are cut out of the chain, so that it leads through kept ones only.
            j = previous[band, i]
            while j >= 0 and (dropped[j] or offsets[j + 1] == offsets[j]):
                j = previous[band, j]
            previous[band, i] = j
            if out[i] or size == 0:
                continue
            while j >= 0:
                if seen_by[j] != i:
                    seen_by[j] = i
                    other = offsets[j + 1] - offsets[j]
                    if min(size, other) >= threshold * max(size, other):
                        common = _common(
                            runs, offsets[i], offsets[i + 1], offsets[j], offsets[j + 1]
                        )
                        similarity = common / (size + other - common)
                        better = similarity > best_score or (similarity == best_score and j < best)
                        if (
                            similarity >= threshold
                            and better
                            and _jaccard(words, word_offsets, i, j) >= word_threshold
                        ):
                            best, best_score = np.int64(j), similarity
                j = previous[band, j]
        if best >= 0:
            dropped[i] = True
            nearest[i] = best
            score[i] = best_score
    return nearest, score


@kernel
def _link(
    runs: NDArray[np.uint32],
    starts: NDArray[np.int64],
    ends: NDArray[np.int64],
    previous: NDArray[np.int32],
    threshold: float,
) -> NDArray[np.int64]:
    n = len(starts)
    first = np.arange(n)
    for i in range(n):
        size = ends[i] - starts[i]
        for band in range(len(previous)):
            j = np.int64(previous[band, i])
            while j >= 0 and size > 0:
                a, b = root(first, i), root(first, int(j))
                other = ends[j] - starts[j]
                if a != b and min(size, other) >= threshold * max(size, other):
                    common = _common(runs, starts[i], ends[i], starts[j], ends[j])
                    if common / (size + other - common) >= threshold:
                        first[max(a, b)] = min(a, b)
                j = np.int64(previous[band, j])
    for i in range(n):
        first[i] = root(first, i)
    return first


@kernel
def _jaccard(values: NDArray[np.uint32], offsets: NDArray[np.int64], i: int, j: int) -> float:
    """Similarity of two sets; two empty ones are alike."""
    both = offsets[i + 1] - offsets[i] + offsets[j + 1] - offsets[j]
    if both == 0:
        return 1.0
    common = _common(values, offsets[i], offsets[i + 1], offsets[j], offsets[j + 1])
    return float(common / (both - common))


@kernel
def _common(runs: NDArray[np.uint32], a: int, a_end: int, b: int, b_end: int) -> int:
    """How many values two ascending stretches share."""
    common = 0
    while a < a_end and b < b_end:
        if runs[a] == runs[b]:
            common += 1
            a += 1
            b += 1
        elif runs[a] < runs[b]:
            a += 1
        else:
            b += 1
    return common
