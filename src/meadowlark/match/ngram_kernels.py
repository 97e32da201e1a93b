"""The compiled part of the search for evaluation questions: token numbers go in, confirmed places
come out. A run of tokens is looked up by hash in a table of the questions' own and then compared
token by token, so that no collision is ever taken for a match.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meadowlark.match.compiled import kernel
from meadowlark.match.rouge_kernels import lcs_length

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
UInt64 = NDArray[np.uint64]
Bool = NDArray[np.bool_]


class Questions(NamedTuple):
    """n questions of T tokens and C choices of U tokens, one after the other."""

    tokens: Int32  # (T,)
    offsets: Int64  # (n + 1,) question q is tokens[offsets[q]:offsets[q + 1]]
    choices: Int32  # (U,)
    choice_offsets: Int64  # (C + 1,) choice c is choices[choice_offsets[c]:choice_offsets[c + 1]]
    first_choice: Int64  # (n + 1,) question q has the choices first_choice[q] to first_choice[q+1]
    target: Int64  # (n,) which of its choices is right, from 0, or -1


class Grams(NamedTuple):
    """G runs of questions' tokens, a short question being one whole, in a hash table."""

    size: Int64  # (n,) how many tokens the runs of a question have
    sizes: Bool  # (longest + 1,) whether any of them has so many tokens
    slots: Int32  # (power of two,) the first of those with one hash, or -1
    hashes: UInt64  # (G,)
    following: Int32  # (G,) the next one with the same hash, or -1
    question: Int32  # (G,)
    position: Int32  # (G,) where in the question it begins


@kernel
def mixed(code: np.uint64, token: int) -> np.uint64:
    """The hash of a sequence with one more token."""
    code = (code ^ np.uint64(token + 1)) * np.uint64(0x9E3779B97F4A7C15)
    return code ^ (code >> np.uint64(29))


@kernel
def slot_of(code: np.uint64, slots: Int32, hashes: UInt64) -> int:
    """The slot of a hash, or the free one where it would be put."""
    slot = int(np.int64(code ^ (code >> np.uint64(32)))) & (len(slots) - 1)
    while slots[slot] >= 0 and hashes[slots[slot]] != code:
        slot = (slot + 1) & (len(slots) - 1)
    return slot


@kernel
def index(questions: Questions, size: Int64) -> Grams:
    """The table of all runs of size[q] tokens of every question q; a size 0 gives none."""
    offsets = questions.offsets
    count, longest = 0, 0
    for q in range(len(offsets) - 1):
        if size[q] > 0:
            count += offsets[q + 1] - offsets[q] - size[q] + 1
            longest = max(longest, size[q])
    room = 64
    while room < 2 * count:
        room *= 2
    grams = Grams(
        size,
        np.zeros(longest + 1, np.bool_),
        np.full(room, -1, np.int32),
        np.empty(count, np.uint64),
        np.full(count, -1, np.int32),
        np.empty(count, np.int32),
        np.empty(count, np.int32),
    )
    made = 0
    for q in range(len(offsets) - 1):
        if size[q] == 0:
            continue
        grams.sizes[size[q]] = True
        for position in range(offsets[q + 1] - offsets[q] - size[q] + 1):
            code = np.uint64(0)
            for k in range(offsets[q] + position, offsets[q] + position + size[q]):
                code = mixed(code, questions.tokens[k])
            slot = slot_of(code, grams.slots, grams.hashes)
            grams.hashes[made] = code
            grams.following[made] = grams.slots[slot]
            grams.question[made] = q
            grams.position[made] = position
            grams.slots[slot] = made
            made += 1
    return grams


@kernel
def stands(words: Int32, text: Int32) -> bool:
    """Whether a sequence of tokens stands in a text without a gap; an empty one always does."""
    for at in range(len(text) - len(words) + 1):
        k = 0
        while k < len(words) and text[at + k] == words[k]:
            k += 1
        if k == len(words):
            return True
    return False


@kernel
def choices_standing(questions: Questions, q: int, row: Int32) -> tuple[int, bool, bool]:
    """How many choices of a question stand in a row, whether all do (one without words is passed
    over), and whether the right one does."""
    standing, every, right = 0, True, False
    for c in range(questions.first_choice[q], questions.first_choice[q + 1]):
        words = questions.choices[questions.choice_offsets[c] : questions.choice_offsets[c + 1]]
        if len(words) == 0:
            continue
        if stands(words, row):
            standing += 1
            right = right or c - questions.first_choice[q] == questions.target[q]
        else:
            every = False
    return standing, every, right


@kernel
def is_whole(begin: int, end: int, borders: Int64) -> bool:
    """Whether a stretch of tokens begins and ends at borders of texts."""
    begins, ends = False, False
    for border in borders:
        begins = begins or border == begin
        ends = ends or border == end
    return begins and ends


@kernel
def search(
    questions: Questions,
    grams: Grams,
    tokens: Int32,
    offsets: Int64,
    first: Int64,
    long: int,
    coverage: float,
    fewest: int,
    unknown: int,
) -> Int64:
    """Every confirmed question of every row, by row.

    Row r has the texts first[r] to first[r + 1], text i the tokens[offsets[i]:offsets[i + 1]], of
    which `unknown` stands for all that no question has. A question of fewer than `long` tokens must
    stand whole, a longer one by `coverage`. Returns (found, 5): row, question, longest
    common subsequence, where in the row the question's first word would stand (perhaps before the
    row), how many of its choices stand in the row.
    """
    n_questions = len(questions.offsets) - 1
    longest = 0
    for q in range(n_questions):
        longest = max(longest, questions.offsets[q + 1] - questions.offsets[q])
    mask = np.zeros(unknown + 1, np.uint64)
    carry = np.empty(longest + 2 * (longest // 4) + 1, np.uint64)
    seen = np.full(n_questions, -1, np.int64)  # the last row that a question was met in
    place = np.zeros(n_questions, np.int64)  # the last place there
    best = np.zeros((n_questions, 2), np.int64)  # longest common subsequence there, and its place
    met = np.empty(n_questions, np.int64)
    found = np.empty((64, 5), np.int64)
    filled = 0
    for r in range(len(first) - 1):
        begin, end = offsets[first[r]], offsets[first[r + 1]]
        row = tokens[begin:end]
        borders = offsets[first[r] : first[r + 1] + 1] - begin
        n_met = 0
        for p in range(len(row)):
            code = np.uint64(0)
            for size in range(1, min(len(grams.sizes), len(row) - p + 1)):
                if row[p + size - 1] == unknown:
                    break
                code = mixed(code, row[p + size - 1])
                if not grams.sizes[size]:
                    continue
                gram = grams.slots[slot_of(code, grams.slots, grams.hashes)]
                while gram >= 0:
                    q, position = grams.question[gram], grams.position[gram]
                    gram = grams.following[gram]
                    stem = questions.tokens[questions.offsets[q] : questions.offsets[q + 1]]
                    if grams.size[q] != size:
                        continue
                    k = 0
                    while k < size and stem[position + k] == row[p + k]:
                        k += 1
                    if k < size:
                        continue
                    at = p - position
                    if seen[q] == r and place[q] == at:
                        continue
                    if seen[q] != r:
                        seen[q] = r
                        best[q, 0] = -1
                        met[n_met] = q
                        n_met += 1
                    place[q] = at
                    if len(stem) < long:
                        whole = is_whole(at, at + len(stem), borders)
                        lcs = len(stem) + (1 if whole else 0)
                    else:
                        slack = len(stem) // 4
                        window = row[max(0, at - slack) : at + len(stem) + slack]
                        lcs = lcs_length(stem, window, mask, carry)
                    if lcs > best[q, 0]:
                        best[q, 0] = lcs
                        best[q, 1] = at
        for q in met[:n_met]:
            length = questions.offsets[q + 1] - questions.offsets[q]
            lcs = min(best[q, 0], length)
            if length >= long and lcs < coverage * length:
                continue
            standing, every, right = choices_standing(questions, q, row)
            if length < long:
                c = questions.first_choice[q]
                d = questions.first_choice[q + 1]
                words = length + questions.choice_offsets[d] - questions.choice_offsets[c]
                by_choices = d > c and every and words >= fewest
                by_equality = best[q, 0] > length and (d == c or right)
                if not (by_choices or by_equality):
                    continue
            if filled == len(found):
                larger = np.empty((2 * filled, 5), np.int64)
                larger[:filled] = found
                found = larger
            found[filled, 0] = r
            found[filled, 1] = q
            found[filled, 2] = lcs
            found[filled, 3] = best[q, 1]
            found[filled, 4] = standing
            filled += 1
    return found[:filled]
