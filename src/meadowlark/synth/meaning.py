"""Whether a text still says what a card said, as far as words show it: no number, unit, drug or
other term, negation or direction lost, changed or invented.

Two texts are compared word by word, without a list of drugs: what a card names must be there under
a word of the same stem, and names that the card lacks (capitals, letters with digits, the endings
of drugs' international names) must not. So a synonym is a fault, and another sense in the same
words is none; ``tests/synth/meaning`` counts both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from meadowlark.synth.stated import Forms, Stated, stated


class Fault(NamedTuple):
    """What is wrong, as a fixed phrase that can be counted, and the words that show it."""

    reason: str
    detail: str


def changed(front: str, back: str, question: str, answer: str) -> Fault | None:
    """Why question and answer do not say what the two sides of a card say; None where they do."""
    both, pair = f"{front}\n{back}", f"{question}\n{answer}"
    card, made = stated(both, against=pair), stated(pair, against=both)
    return (
        _numbers(card, made)
        or _bounds(card, made)
        or _negations(card, made)
        or _directions(card, made)
        or _lost(stated(back, against=pair), stated(answer, against=both), SHORTEST_ON_BACK)
        or _lost(card, made, SHORTEST_NAME)
        or _invented(card, made)
    )


def invented(source: str, text: str) -> Fault | None:
    """A number, a negation or a name of ``text`` that its source does not have."""
    given, made = stated(source, against=text), stated(text, against=source)
    if extra := made.quantities.keys() - given.quantities.keys() - {"1"}:
        return Fault("number invented", _listed(extra))
    if made.denials and not given.denials:
        return Fault("negation invented", _listed(made.negated))
    return _invented(given, made)


def lost(source: str, text: str) -> Fault | None:
    """The content words of ``source`` (a page's title) that ``text`` lacks."""
    return _lost(stated(source, against=text), stated(text, against=source), 1)


SHORTEST_NAME, SHORTEST_ON_BACK = 7, 5
"""Letters of a word that must not be lost; a card's back is short, so that more of it counts."""


# --------------------------------------------------------------------------- what is compared


def _numbers(card: Stated, made: Stated) -> Fault | None:
    """Numbers and their units. A lone 1 is as good as "a", "once" or "first"."""
    bare = {"1"} if not card.quantities.get("1") else set()
    if missing := card.quantities.keys() - made.quantities.keys() - bare:
        return Fault("number lost", _listed(missing))
    if extra := made.quantities.keys() - card.quantities.keys() - {"1"}:
        return Fault("number invented", _listed(extra))
    for number, units in card.quantities.items():
        found = made.quantities.get(number, units)
        if gone := units - found:
            return Fault("unit lost", f"{number} {_listed(gone)}")
        if new := found - units:
            return Fault("unit invented", f"{number} {_listed(new)}")
    return None


def _bounds(card: Stated, made: Stated) -> Fault | None:
    for number, sides in card.bounds.items():
        if gone := sides - made.bounds.get(number, set()):
            return Fault("direction lost", f"{_listed(gone)} {number}")
    return None


def _directions(card: Stated, made: Stated) -> Fault | None:
    gone = card.directions - made.directions
    return Fault("direction lost", _listed(gone)) if gone else None


def _negations(card: Stated, made: Stated) -> Fault | None:
    """What the card denies must be denied of the same words, and what is denied be denied there.

    A denial without an object ("No.", "Avoid") allows and asks for any.
    """
    for denial in card.denials:
        if not made.denials or (denial.meant and not _any_same(denial.meant, made.negated)):
            return Fault("negation lost", _listed(denial.meant) or "no")
    for denial in made.denials:
        anything = any(not other.meant for other in card.denials)
        if not anything and denial.near and not _any_same(denial.near, card.negated):
            return Fault("negation invented", _listed(denial.meant))
    if made.denials and not card.denials:
        return Fault("negation invented", "no")
    return None


def _lost(card: Stated, made: Stated, shortest: int) -> Fault | None:
    short, there = _abbreviated(card.words, made.names), Forms(made.words)
    missing = [
        word
        for word in card.words
        if (word in card.names or (len(word) >= shortest and word.lower() not in _COMMON))
        and word not in there
        and word not in short
        and not (word in card.names and _abbreviated(made.words, [word]))
    ]
    return Fault("term lost", _listed(missing)) if missing else None


def _invented(card: Stated, made: Stated) -> Fault | None:
    drugs = [word for word in made.words if len(word) >= SHORTEST_NAME and _DRUG.search(word)]
    spelled, there = _abbreviated(made.words, card.names), Forms(card.words)
    extra = [
        word
        for word in (*made.names, *drugs)
        if word not in there and word not in spelled and not _abbreviated(card.words, [word])
    ]
    return Fault("term invented", _listed(extra)) if extra else None


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words)))


def _any_same(words: Iterable[str], others: Iterable[str]) -> bool:
    index = Forms(others)
    return any(word in index for word in words)


def _abbreviated(words: Sequence[str], codes: Iterable[str]) -> set[str]:
    """The words, each in a row, whose initials one of these codes (``MI``, ``PTH``) is made of."""
    initials = "".join(word[0].lower() for word in words)
    found: set[str] = set()
    for code in codes:
        letters = code.lower()
        if code.isupper() and code.isalpha() and len(code) > 1:
            for place in range(len(initials) - len(letters) + 1):
                if initials[place : place + len(letters)] == letters:
                    found.update(words[place : place + len(letters)])
    return found


# --------------------------------------------------------------------------- words


_COMMON = frozenset(
    """associated because caused causes cause common commonly condition conditions describe disease
    disorder effect effects example following findings finding given gives include includes
    including increase known mechanism need needed number occurs patient patients person people
    present presents presentation result results several signs symptom symptoms syndrome treated
    treatment through together typical typically used uses usually what's which would without main
    mainly major often drug drugs choice clinical""".split()
)
"""Words that a card may lose: what it says does not hang on them."""
_DRUG = re.compile(
    r"""(?ix) (?: olol|pril|sartan|dipine|statin|gliptin|gliflozin|glitazone|prazole|tidine|floxacin
    |cillin|cycline|mycin|micin|conazole|nidazole|azepam|azolam|barbital|caine|curonium|parin|xaban
    |grel|thiazide|semide|lukast|terol|sone|solone|onide|profen|oxicam|coxib|methacin|metacin|mab
    |tinib|ciclib|platin|rubicin|taxel|tecan|vir|vudine|citabine|trexate|bactam|penem|dronate|setron
    |zosin|stigmine|tropium|oxetine|triptyline|ipramine|azine|peridone|apine|triptan|formin )$
    | ^(?:cef|ceph|sulfa)\w{4}"""
)
"""Endings and beginnings that the international names (INN) of drug classes share."""
