"""Texts as tokens, as strings for people and as dense numbers for the joins. ROUGE's tokens are
lower-cased runs of ASCII letters and digits, those of the package rouge-score without stemming;
`fold` is for finding a text again however it was typed, in any script.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from meadowlark.match.compiled import kernel, with_room

_CHUNK = 4096  # texts whose bytes are held at a time
_ALPHANUMERIC = b"0123456789abcdefghijklmnopqrstuvwxyz"
_ELSE_TO_SPACE = bytes(c if c in _ALPHANUMERIC else ord(" ") for c in range(256))


def tokenize(text: str) -> list[str]:
    """rouge-score's tokens without stemming; letters outside ASCII separate, as there."""
    return _clean(text).decode().split()


def fold(text: str) -> bytes:
    """UTF-8 words with spaces between them, alike for texts that differ only in how they are typed.

    Case, accents, punctuation, ligatures, superscripts and full-width forms are folded away. An
    ideograph or syllable of a script without spaces is a word by itself.
    """
    if text.isascii():
        return text.lower().encode().translate(_ELSE_TO_SPACE)
    # Case is folded twice, since a compatibility form may decompose into capitals.
    folded = unicodedata.normalize("NFKD", text.casefold()).casefold()
    return folded.translate(_FOLDED).encode()


def fold_look_alikes(text: str) -> bytes:
    """`fold`, with the Cyrillic and Greek letters that look like Latin ones as those.

    In a word they are where it has Latin letters too. A word of look-alikes alone is one of Latin
    letters where the text has Latin ones and, of the same script, none that looks like nothing
    Latin: every sentence of Russian or Greek has such. A Greek letter by itself (α, β2) is a
    symbol.
    """
    if text.isascii() or _FOREIGN.search(text) is None:
        return fold(text)
    latin = _LATIN.search(text) is not None
    cyrillic = latin and _CYRILLIC_ALONE.search(text) is None
    greek = latin and _GREEK_ALONE.search(text) is None

    def plain(match: re.Match[str]) -> str:
        word = match[0]
        if _LATIN.search(word) is None:
            of_greek = _GREEK.search(word) is not None
            symbol = of_greek and sum(map(str.isalpha, word)) == 1
            if symbol or not (greek if of_greek else cyrillic):
                return word
        return word.translate(_LOOK_ALIKES)

    return fold(_WORD_WITH_FOREIGN.sub(plain, text))


_CYRILLIC = dict(
    zip(
        "АВЕЅІЈКМНОРСТУХҮԚԜӀаесһіјорѕхуԁԛԝүѵӏ",
        "ABESIJKMHOPCTYXYQWIaechijopsxydqwyvl",
        strict=True,
    )
)
_GREEKS = dict(
    zip(
        "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧϹαγηικνορτυχϲ",
        "ABEZHIKMNOPTYXCaynikvoptuxc",
        strict=True,
    )
)
_ROUGHLY = dict(zip("вкмнтгε", "bkmhtre", strict=True))
"""Told by the Latin letters beside them only: in a word by themselves they are what they are."""
_LOOK_ALIKES = str.maketrans(_CYRILLIC | _GREEKS | _ROUGHLY)
_LETTER = r"[^\W_]"
_LATIN = re.compile("[A-Za-z]")
_GREEK = re.compile("[Ͱ-Ͽἀ-῿]")
_FOREIGN = re.compile("[Ͱ-Ͽἀ-῿Ѐ-ԯ]")
_CYRILLIC_ALONE = re.compile(f"(?![{''.join(_CYRILLIC)}])[Ѐ-ԯ]")
_GREEK_ALONE = re.compile(f"(?![{''.join(_GREEKS)}])[Ͱ-Ͽἀ-῿]")
_WORD_WITH_FOREIGN = re.compile(f"{_LETTER}*[Ͱ-Ͽἀ-῿Ѐ-ԯ]{_LETTER}*")


class _Folded(dict[int, str]):
    """What becomes of a character outside ASCII text; worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if char.isalnum():
            alone = unicodedata.category(char) == "Lo" and _without_spaces(char)
            made = f" {char} " if alone else char
        else:
            made = "" if unicodedata.combining(char) else " "
        self[code] = made
        return made


def _without_spaces(char: str) -> bool:
    """Whether words of the character's script are written without spaces: Han, kana, Thai, Lao,
    Khmer, Burmese."""
    starts = ("CJK", "HIRAGANA", "KATAKANA", "THAI", "LAO", "KHMER", "MYANMAR")
    return unicodedata.name(char, "").startswith(starts)


_FOLDED = _Folded()


class Vocabulary:
    """Numbers tokens 0, 1, 2, … in the order in which they are first seen.

    ``clean`` gives a text's tokens as UTF-8 with spaces between them: ROUGE's, or `fold`.
    """

    def __init__(self, clean: Callable[[str], bytes] | None = None) -> None:
        self._clean = clean or _clean
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
            letters, ends = self._letters_of(texts[at : at + _CHUNK])
            self._letters = with_room(self._letters, int(self._starts[self._count]) + len(letters))
            self._hashes = with_room(self._hashes, self._count + len(letters) // 2)
            self._starts = with_room(self._starts, self._count + len(letters) // 2 + 1)
            chunk, counts[at + 1 : at + 1 + len(ends)], self._count, self._slots = _number(
                letters, ends, self._count, self._slots, self._hashes, self._starts, self._letters
            )
            tokens.append(chunk.copy())
        return np.concatenate(tokens), np.cumsum(counts)

    def look_up(self, texts: Sequence[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Like `encode`, but the vocabulary stays as it is: a token it lacks becomes len(self)."""
        tokens = [np.zeros(0, np.int32)]
        counts = np.zeros(len(texts) + 1, np.int64)
        for at in range(0, len(texts), _CHUNK):
            letters, ends = self._letters_of(texts[at : at + _CHUNK])
            chunk, counts[at + 1 : at + 1 + len(ends)] = _find(
                letters, ends, self._count, self._slots, self._hashes, self._starts, self._letters
            )
            tokens.append(chunk)
        return np.concatenate(tokens), np.cumsum(counts)

    def _letters_of(self, texts: Sequence[str]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The cleaned texts as bytes, one after the other, and where each one ends."""
        # The space closes the last token of a text.
        cleaned = [self._clean(text) + b" " for text in texts]
        ends = np.cumsum([len(letters) for letters in cleaned], dtype=np.int64)
        return np.frombuffer(b"".join(cleaned), np.uint8), ends


def _clean(text: str) -> bytes:
    """The text in lower case, with a space for all that belongs to no token."""
    return text.lower().encode("ascii", "replace").translate(_ELSE_TO_SPACE)


@kernel
def word_hash(text: NDArray[np.uint8], at: int) -> tuple[np.uint64, int]:
    """FNV-1a of the word that begins at `at` in cleaned text, and where the space after it is."""
    code = np.uint64(0xCBF29CE484222325)
    while text[at] != 32:
        code = (code ^ np.uint64(text[at])) * np.uint64(0x100000001B3)
        at += 1
    return code, at


@kernel
def _slot(
    word: NDArray[np.uint8],
    code: np.uint64,
    slots: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int64],
    letters: NDArray[np.uint8],
) -> int:
    """The slot that holds a word whose hash is `code`, or the free one where it would be put."""
    slot = int(np.int64(code ^ (code >> np.uint64(32)))) & (len(slots) - 1)
    token = slots[slot]
    while token >= 0:
        if hashes[token] == code and starts[token + 1] - starts[token] == len(word):
            k = 0
            while k < len(word) and letters[starts[token] + k] == word[k]:
                k += 1
            if k == len(word):
                break
        slot = (slot + 1) & (len(slots) - 1)
        token = slots[slot]
    return slot


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
            code, at = word_hash(text, at)
            if at > begin:
                slot = _slot(text[begin:at], code, slots, hashes, starts, letters)
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
                            slot = int(np.int64(again)) & (len(slots) - 1)
                            while slots[slot] >= 0:
                                slot = (slot + 1) & (len(slots) - 1)
                            slots[slot] = t
                tokens[filled] = token
                filled += 1
            at += 1
        counts[i] = filled - before
    return tokens[:filled], counts, count, slots


@kernel
def _find(
    text: NDArray[np.uint8],
    ends: NDArray[np.int64],
    count: int,
    slots: NDArray[np.int32],
    hashes: NDArray[np.uint64],
    starts: NDArray[np.int64],
    letters: NDArray[np.uint8],
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Token numbers of cleaned texts and their counts by text, as `_number` without adding any;
    a token that is not in the table becomes `count`."""
    tokens = np.empty(len(text) // 2, np.int32)
    counts = np.zeros(len(ends), np.int64)
    filled = 0
    at = 0
    for i in range(len(ends)):
        before = filled
        while at < ends[i]:
            begin = at
            code, at = word_hash(text, at)
            if at > begin:
                token = slots[_slot(text[begin:at], code, slots, hashes, starts, letters)]
                tokens[filled] = token if token >= 0 else count
                filled += 1
            at += 1
        counts[i] = filled - before
    return tokens[:filled].copy(), counts
