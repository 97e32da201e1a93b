"""Texts as ROUGE sees them: lower-cased runs of ASCII letters and digits, as strings for people and
as dense numbers for the joins. The tokens are those of the package rouge-score without stemming.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from meadowlark.match.compiled import kernel, with_room

_CHUNK = 4096  # texts whose bytes are held at a time
_ALPHANUMERIC = b"0123456789abcdefghijklmnopqrstuvwxyz"
_ELSE_TO_SPACE = bytes(c if c in _ALPHANUMERIC else ord(" ") for c in range(256))


def tokenize(text: str) -> list[str]:
    """rouge-score's tokens without stemming; letters outside ASCII separate, as there."""
    return _clean(text).decode().split()


class Vocabulary:
    """Numbers tokens 0, 1, 2, … in the order in which they are first seen."""

    def __init__(self) -> None:
        self._count = 0
        self._slots = np.full(1024, -1, np.int32)
        self._hashes = np.zeros(0, np.uint64)
        self._starts = np.zeros(1, np.int64)
        self._letters = np.zeros(0, np.uint8)

    def __len__(self) -> int:
        return self._count

    def encode(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Token numbers of all texts, one after the other, and the (n + 1,) offsets of the texts.

        The numbers of `tokenize(texts[i])` are tokens[offsets[i]:offsets[i + 1]].
        """
        tokens = [np.zeros(0, np.int32)]
        counts = np.zeros(len(texts) + 1, np.int64)
        for at in range(0, len(texts), _CHUNK):
            # The space closes the last token of a text.
            cleaned = [_clean(text) + b" " for text in texts[at : at + _CHUNK]]
            ends = np.cumsum([len(letters) for letters in cleaned], dtype=np.int64)
            letters = np.frombuffer(b"".join(cleaned), np.uint8)
            self._letters = with_room(self._letters, int(self._starts[self._count]) + len(letters))
            self._hashes = with_room(self._hashes, self._count + len(letters) // 2)
            self._starts = with_room(self._starts, self._count + len(letters) // 2 + 1)
            chunk, counts[at + 1 : at + 1 + len(cleaned)], self._count, self._slots = _number(
                letters, ends, self._count, self._slots, self._hashes, self._starts, self._letters
            )
            tokens.append(chunk.copy())
        return np.concatenate(tokens), np.cumsum(counts)


def _clean(text: str) -> bytes:
    """The text in lower case, with a space for all that belongs to no token."""
    return text.lower().encode("ascii", "replace").translate(_ELSE_TO_SPACE)


@kernel
def _number(
    text: NDArray[np.uint8],
    ends: NDArray[np.int64],
    count: int,
    slots: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int64],
    letters: NDArray[np.uint8],
) -> tuple[NDArray[np.int32], NDArray[np.int64], int, NDArray[np.int32]]:
    """Numbers the tokens of cleaned texts that end before `ends`, through an open hash table.

    Token t is letters[starts[t]:starts[t + 1]] with hash hashes[t]; these three have room for
    every new token. Returns token numbers, their count by text, and the vocabulary's new count
    and slots.
    """
    tokens = np.empty(len(text) // 2, np.int32)
    counts = np.zeros(len(ends), np.int64)
    filled = 0
    at = 0
    for i in range(len(ends)):
        before = filled
        while at < ends[i]:
            begin = at
            code = np.uint64(0xCBF29CE484222325)
            while text[at] != 32:
                code = (code ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
                at += 1
            if at > begin:
                slot = np.int64(code ^ (code >> np.uint64(32))) & (len(slots) - 1)
                token = slots[slot]
                while token >= 0:
                    if hashes[token] == code and starts[token + 1] - starts[token] == at - begin:
                        k = 0
                        while k < at - begin and letters[starts[token] + k] == text[begin + k]:
                            k += 1
                        if k == at - begin:
                            break
                    slot = (slot + 1) & (len(slots) - 1)
                    token = slots[slot]
                if token < 0:
                    token = count
                    count += 1
                    slots[slot] = token
                    hashes[token] = code
                    starts[token + 1] = starts[token] + at - begin
                    for k in range(at - begin):
                        letters[starts[token] + k] = text[begin + k]
                    if 2 * count > len(slots):
                        slots = np.empty(4 * len(slots), np.int32)
                        slots.fill(-1)
                        for t in range(count):
                            again = hashes[t] ^ (hashes[t] >> np.uint64(32))
                            slot = np.int64(again) & (len(slots) - 1)
                            while slots[slot] >= 0:
                                slot = (slot + 1) & (len(slots) - 1)
                            slots[slot] = t
                tokens[filled] = token
                filled += 1
            at += 1
        counts[i] = filled - before
    return tokens[:filled], counts, count, slots
