"""The compiled part of the exact ROUGE-L join: pairs of texts go in, proofs of "too far apart" or
exact longest-common-subsequence lengths come out. Follows AllPairs and PPJoin (prefix and
positional filters), the bitmap filter of Sandes et al. (2020), and Hyyro's bit-parallel LCS (2004).

Words used here: an *element* is a (token, occurrence) pair, so that a text is a set of elements
and the overlap of two sets is at least their LCS. A *rank* numbers the elements, rarest first.
Every filter compares integers with `required_lcs`, which is decided by rouge-score's own float
formula; so no filter can lose a pair that rouge-score would call a duplicate.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meadowlark.match.compiled import kernel

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]
Float64 = NDArray[np.float64]


class Index(NamedTuple):
    """n texts of T tokens in all, and the inverted index over those of them inserted so far."""

    tokens: Int32  # (T,) token ids of all texts, one after the other
    offsets: Int64  # (n + 1,) text i is tokens[offsets[i]:offsets[i + 1]]
    ranks: Int32  # (T,) the elements of each text as ranks, ascending within the text
    bitmaps: UInt64  # (n, words) parity bitmap of each text's elements
    prefix: Int32  # (longest + 1,) by length of a text: how many leading ranks are indexed
    start: Int64  # (n_ranks + 1,) where each rank's postings start
    filled: Int32  # (n_ranks,) how many of them are in use
    postings: Int32  # (start[-1], 3) text, its length, position of the rank in the text
    threshold: float


class Scratch(NamedTuple):
    """What one thread writes to while it searches."""

    seen_by: Int32  # (n,) the last text that looked at this one
    mask: UInt64  # (n_tokens,) zero between calls
    carry: UInt64  # (longest,)
    required: Int32  # (longest + 1,) required_lcs by length of the other text


@kernel
def f1(lcs: int, m: int, n: int) -> float:
    """ROUGE-L F1 of texts of m and n tokens, in the order of operations of rouge-score."""
    if lcs == 0:
        return 0.0
    precision = lcs / m
    recall = lcs / n
    return 2 * precision * recall / (precision + recall)


@kernel
def required_lcs(m: int, n: int, threshold: float) -> int:
    """The smallest LCS (at least 1) at which `f1` exceeds the threshold; may exceed m and n."""
    lcs = max(1, int(threshold * (m + n) / 2) - 1)
    while f1(lcs, m, n) <= threshold:
        lcs += 1
    return lcs


@kernel
def shortest_partner(m: int, threshold: float) -> int:
    """The length of the shortest text that can score above the threshold with one of m tokens."""
    n = max(1, int(threshold * m / (2 - threshold)) - 1)
    while f1(n, m, n) <= threshold:
        n += 1
    return n


@kernel
def popcount(word: np.uint64) -> int:
    """Number of ones (LLVM knows the pattern and emits one instruction)."""
    word = word - ((word >> np.uint64(1)) & np.uint64(0x5555555555555555))
    word = (word & np.uint64(0x3333333333333333)) + (
        (word >> np.uint64(2)) & np.uint64(0x3333333333333333)
    )
    word = (word + (word >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    # np.int64, since numba turns sums of signed and unsigned words into floats.
    return int(np.int64((word * np.uint64(0x0101010101010101)) >> np.uint64(56)))


@kernel
def toggle(bitmap: UInt64, key: int) -> None:
    """Flips the bit that an element's key hashes to; len(bitmap) is a power of two."""
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    bit = np.int64(mixed >> np.uint64(33)) & (64 * len(bitmap) - 1)
    bitmap[bit >> 6] ^= np.uint64(1) << np.uint64(bit & 63)


@kernel
def overlap_bound(a: UInt64, b: UInt64, m: int, n: int) -> int:
    """An upper bound on the LCS: each differing bit is an element that only one text has."""
    differing = 0
    for w in range(len(a)):
        differing += popcount(a[w] ^ b[w])
    return min((m + n - differing) // 2, m, n)


@kernel
def lcs_length(a: Int32, b: Int32, mask: UInt64, carry: UInt64) -> int:
    """Longest common subsequence of two token arrays, 64 columns of `a` at a time.

    `mask` (one word per token id, all zero, left so) and `carry` (at least len(b) words) are
    scratch. Time is len(a) / 64 * len(b); memory does not depend on len(a).
    """
    one = np.uint64(1)
    lcs = 0
    for j in range(len(b)):
        carry[j] = np.uint64(0)
    for block in range(0, len(a), 64):
        width = min(64, len(a) - block)
        for k in range(width):
            mask[a[block + k]] |= one << np.uint64(k)
        row = ~np.uint64(0)
        for j in range(len(b)):
            match = mask[b[j]]
            hit = row & match
            partial = row + hit
            total = partial + carry[j]
            carry[j] = np.uint64(partial < row) | np.uint64(total < partial)
            row = total | (row & ~match)
        lcs += popcount(~row << np.uint64(64 - width))
        for k in range(width):
            mask[a[block + k]] = np.uint64(0)
    return lcs


@kernel
def cumulated(counts: Int64) -> Int64:
    """The counts themselves, turned into running totals (np.cumsum takes long to compile)."""
    for k in range(1, len(counts)):
        counts[k] += counts[k - 1]
    return counts


@kernel
def elements_of(tokens: Int32, offsets: Int64, n_tokens: int) -> Int32:
    """Numbers the (token, occurrence) pairs of a corpus densely: (T,) element ids."""
    occurrence = np.zeros(n_tokens, np.int32)
    most = np.zeros(n_tokens + 1, np.int64)
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            occurrence[tokens[k]] += 1
            most[tokens[k] + 1] = max(most[tokens[k] + 1], occurrence[tokens[k]])
        for k in range(offsets[i], offsets[i + 1]):
            occurrence[tokens[k]] = 0
    first = cumulated(most)
    elements = np.empty(len(tokens), np.int32)
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            elements[k] = first[tokens[k]] + occurrence[tokens[k]]
            occurrence[tokens[k]] += 1
        for k in range(offsets[i], offsets[i + 1]):
            occurrence[tokens[k]] = 0
    return elements


@kernel
def transpose(columns: Int32, offsets: Int64, n_columns: int) -> tuple[Int32, Int64]:
    """Transposes a sparse 0/1 matrix given by rows; done twice, it sorts every row."""
    starts = np.zeros(n_columns + 1, np.int64)
    for column in columns:
        starts[column + 1] += 1
    starts = cumulated(starts)
    cursor = starts.copy()
    rows = np.empty(len(columns), np.int32)
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            rows[cursor[columns[k]]] = i
            cursor[columns[k]] += 1
    return rows, starts


@kernel
def bitmaps_of(ranks: Int32, offsets: Int64, words: int) -> UInt64:
    """(n, words) parity bitmaps of the texts' elements."""
    bitmaps = np.zeros((len(offsets) - 1, words), np.uint64)
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i + 1]):
            toggle(bitmaps[i], ranks[k])
    return bitmaps


@kernel
def prefix_lengths(longest: int, threshold: float) -> Int32:
    """(longest + 1,) how many of its rarest elements a text shares at least one of with any text
    that scores above the threshold with it: length - smallest required overlap + 1."""
    prefix = np.zeros(longest + 1, np.int32)
    for m in range(1, longest + 1):
        prefix[m] = m - required_lcs(m, shortest_partner(m, threshold), threshold) + 1
    return prefix


@kernel
def posting_starts(ranks: Int32, offsets: Int64, prefix: Int32, n_ranks: int) -> Int64:
    """(n_ranks + 1,) where each rank's postings start when every text is inserted."""
    starts = np.zeros(n_ranks + 1, np.int64)
    for i in range(len(offsets) - 1):
        for k in range(offsets[i], offsets[i] + prefix[offsets[i + 1] - offsets[i]]):
            starts[ranks[k] + 1] += 1
    return cumulated(starts)


@kernel
def insert(index: Index, i: int) -> None:
    """Puts text i into the inverted index. Texts must come in ascending order."""
    length = index.offsets[i + 1] - index.offsets[i]
    for position in range(index.prefix[length]):
        rank = index.ranks[index.offsets[i] + position]
        slot = index.start[rank] + index.filled[rank]
        index.filled[rank] += 1
        index.postings[slot, 0] = i
        index.postings[slot, 1] = length
        index.postings[slot, 2] = position


@kernel
def insert_all(index: Index, texts: Int64) -> None:
    """Puts many texts (ascending) into the inverted index."""
    for i in texts:
        insert(index, i)


@kernel
def search(
    index: Index, i: int, since: int, before: int, any_will_do: bool, scratch: Scratch
) -> tuple[int, float]:
    """The inserted text in [since, before), other than i, that scores highest with text i.

    Returns its number and score, ties going to the lowest number, or (-1, threshold) where none
    scores above the threshold. With `any_will_do` the first one found is returned.
    """
    begin, end = index.offsets[i], index.offsets[i + 1]
    m = end - begin
    text = index.tokens[begin:end]
    longest = len(scratch.required) - 1
    shortest_n = shortest_partner(m, index.threshold)
    longest_n = shortest_n - 1
    while longest_n < longest:
        need = required_lcs(m, longest_n + 1, index.threshold)
        if need > m:
            break
        longest_n += 1
        scratch.required[longest_n] = need

    best, best_score = -1, index.threshold
    for position in range(index.prefix[m]):
        rank = index.ranks[begin + position]
        for slot in range(index.start[rank] + index.filled[rank] - 1, index.start[rank] - 1, -1):
            j = index.postings[slot, 0]
            if j < since:
                break
            n = index.postings[slot, 1]
            if n < shortest_n or n > longest_n or j >= before:
                continue
            need = scratch.required[n]
            # At the first shared element this bounds the overlap. At a later one it may refuse,
            # but then the pair has been judged at the first.
            if min(m - position, n - index.postings[slot, 2]) < need:
                continue
            if scratch.seen_by[j] == i or j == i:
                continue
            scratch.seen_by[j] = i
            bound = overlap_bound(index.bitmaps[i], index.bitmaps[j], m, n)
            if bound < need or f1(bound, m, n) < best_score:
                continue
            other = index.tokens[index.offsets[j] : index.offsets[j + 1]]
            lcs = lcs_length(text, other, scratch.mask, scratch.carry)
            if lcs < need:
                continue
            score = f1(lcs, m, n)
            if score > best_score or (score == best_score and j < best):
                best, best_score = j, score
                if any_will_do:
                    return best, best_score
    return best, best_score


@kernel
def search_all(
    index: Index, texts: Int64, only_earlier: bool, any_will_do: bool, scratch: Scratch
) -> tuple[Int64, Float64]:
    """`search` for many texts, each among all inserted ones or only those earlier than itself."""
    nearest = np.empty(len(texts), np.int64)
    score = np.empty(len(texts), np.float64)
    for k in range(len(texts)):
        before = texts[k] if only_earlier else len(index.offsets)
        nearest[k], score[k] = search(index, texts[k], 0, before, any_will_do, scratch)
    return nearest, score


@kernel
def admit(index: Index, texts: Int64, scratch: Scratch) -> Int64:
    """Greedy selection within a batch whose texts have no duplicate in the index before it:
    inserts each text unless it duplicates one inserted from this batch. Returns the inserted."""
    admitted = np.empty(len(texts), np.int64)
    count = 0
    for i in texts:
        if search(index, i, texts[0], i, True, scratch)[0] < 0:
            insert(index, i)
            admitted[count] = i
            count += 1
    return admitted[:count]


@kernel
def bitmap_of_tokens(tokens: Int32, occurrence: UInt64, bitmap: UInt64) -> None:
    """Writes the parity bitmap of one text without a corpus into zeros; `occurrence` (one per
    token id) is zero before and after."""
    for token in tokens:
        toggle(bitmap, int(token) + (int(occurrence[token]) << 32))
        occurrence[token] += np.uint64(1)
    for token in tokens:
        occurrence[token] = np.uint64(0)


@kernel
def scan(
    text: Int32,
    bitmap: UInt64,
    tokens: Int32,
    offsets: Int64,
    bitmaps: UInt64,
    count: int,
    threshold: float,
    mask: UInt64,
    carry: UInt64,
) -> tuple[int, float]:
    """Like `search`, over the first `count` texts and without an inverted index."""
    m = len(text)
    best, best_score = -1, threshold
    for j in range(count):
        n = offsets[j + 1] - offsets[j]
        if m == 0 or n == 0:
            continue
        # First without the floats: F1 is 2 * LCS / (m + n), up to rounding.
        bound = overlap_bound(bitmap, bitmaps[j], m, n)
        if 2.000001 * bound < best_score * (m + n) or f1(bound, m, n) <= best_score:
            continue
        score = f1(lcs_length(text, tokens[offsets[j] : offsets[j + 1]], mask, carry), m, n)
        if score > best_score:
            best, best_score = j, score
    return best, best_score
