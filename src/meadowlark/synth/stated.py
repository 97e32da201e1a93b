"""What a text states, as far as words show it: its words, names, numbers and negations.

A text comes in with the one that it will be compared with; :class:`Stated` goes out, in one
spelling, with shorthand written out.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class _Denial(NamedTuple):
    """A negation: the words that it denies, and all that stand near it in its clause."""

    meant: tuple[str, ...]
    near: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Stated:
    """What is compared of a text.

    ``quantities`` maps a number to its units, ``bounds`` to ``over`` and ``under``; ``names`` are
    written with capitals inside a sentence or as letters with digits; ``negated`` are all words
    near one of the ``denials``.
    """

    words: tuple[str, ...]
    names: tuple[str, ...]
    quantities: Mapping[str, set[str]]
    bounds: Mapping[str, set[str]]
    denials: tuple[_Denial, ...]
    negated: frozenset[str]
    directions: frozenset[str]


class Forms:
    """Words by their first four letters, to ask whether a form of a word is among them."""

    def __init__(self, words: Iterable[str]) -> None:
        self._words: dict[str, set[str]] = {}
        for word in words:
            self._words.setdefault(word[:4].lower(), set()).add(word.lower())

    def __contains__(self, word: str) -> bool:
        near = self._words.get(word[:4].lower(), ())
        return any(_same(word, other) for other in near)


def _same(one: str, other: str) -> bool:
    """Whether two words are forms of one: equal, or a common stem of four letters with endings."""
    one, other = one.lower(), other.lower()
    if one == other:
        return True
    return any(
        one[:size] == other[:size] and one[size:] in _ENDINGS and other[size:] in _ENDINGS
        for size in range(4, min(len(one), len(other)) + 1)
    )


def stated(text: str, against: str) -> Stated:
    """What a text states; ``against`` is the text that it will be compared with."""
    text = _plain(text)
    known = Forms(_WORD.findall(_plain(against)))
    clauses = [
        [part for token in _TOKEN.findall(clause) for part in _without_prefix(token, known)]
        for clause in _CLAUSE.split(text)
    ]
    denials = [denial for clause in clauses for denial in _denials(clause)]
    quantities, bounds = _quantities(text)
    tokens = [token for clause in clauses for token in clause]
    return Stated(
        words=tuple(filter(_is_content, tokens)),
        names=tuple(
            token
            for sentence in _SENTENCE.split(text)
            for place, token in enumerate(_WORD.findall(sentence))
            if _is_content(token) and (_is_code(token) or (place and token[0].isupper()))
        ),
        quantities=quantities,
        bounds=bounds,
        denials=tuple(denials),
        negated=frozenset(word for denial in denials for word in denial.near),
        directions=frozenset(
            name for name, word in _DIRECTION.items() if any(map(word.fullmatch, tokens))
        ),
    )


def _plain(text: str) -> str:
    """A text with signs, shorthand, number words and British spellings in one form each."""
    text = unicodedata.normalize("NFKC", text).replace("’", "'")
    for pattern, form in _FORMS:
        text = pattern.sub(form, text)
    return _LONG_WORD.sub(lambda word: _american(word[0]), text)


def _american(word: str) -> str:
    word = re.sub(r"(?<=\w)[ao]e(?=[a-z])", "e", word)
    word = re.sub(r"our(?=s?$|al$)", "or", word)
    return re.sub(r"iz(?=e|ing|ation)", "is", word)


def _without_prefix(token: str, known: Forms) -> list[str]:
    """``irreversible`` as "not reversible", where the other text has "reversible" only."""
    word = token.lower()
    if word in known:
        return [token]
    rests = (
        word[len(p) :] for p in _NOT_PREFIXES if word.startswith(p) and len(word) >= len(p) + 5
    )
    return next((["not", rest] for rest in rests if rest in known), [token])


def _denials(clause: Sequence[str]) -> Iterator[_Denial]:
    for place, token in enumerate(clause):
        if not _NEGATION.fullmatch(token.lower()):
            continue
        after, before = clause[place + 1 :], clause[:place][::-1]
        if token.lower() == "no" and after[:1] == [","]:
            yield _Denial((), ())  # "No, it is …" denies the question
            continue
        listed = any(word.lower() in ("or", "nor") for word in after)
        following = _up_to(_STOPS - {","} if listed else _STOPS, after)[:8]
        preceding = _up_to(_STOPS, before)[:6]
        meant = [w for w in following if _is_content(w)][:2] or [
            w for w in preceding if _is_content(w)
        ][:2]
        yield _Denial(tuple(meant), tuple(filter(_is_content, [*following, *preceding])))


def _up_to(stops: set[str], words: Iterable[str]) -> list[str]:
    return list(itertools.takewhile(lambda word: word.lower() not in stops, words))


def _quantities(text: str) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Each number with its units, and whether it is said to be over or under."""
    units: dict[str, set[str]] = {}
    bounds: dict[str, set[str]] = {}
    for found in _QUANTITY.finditer(text):
        sides = {
            side
            for side, (before, after) in _BOUND.items()
            if before.search(text[max(0, found.start() - 24) : found.start()])
            or after.match(text[found.end() :])
        }
        for number in _NUMBER.findall(found["numbers"]):
            name = f"{float(number):g}"
            units.setdefault(name, set()).update([_unit(found["unit"])] if found["unit"] else [])
            if sides:
                bounds.setdefault(name, set()).update(sides)
    return units, bounds


def _unit(text: str) -> str:
    """A unit in one form: ``milligrams per kg a day`` is ``mg/kg/d``."""
    parts = re.split(r"\s*/\s*|\s+per\s+|\s+an?\s+", text.strip().lower())
    return "/".join(_UNITS.get(re.sub(r"\s", "", part), part) for part in parts)


def _is_content(token: str) -> bool:
    word = token.lower()
    if _is_code(token):
        return word not in _UNITS
    return (
        len(word) >= 3
        and word.isalpha()
        and word not in _FUNCTION
        and word not in _UNITS
        and not _NEGATION.fullmatch(word)
        and not any(direction.fullmatch(word) for direction in _DIRECTION.values())
    )


def _is_code(token: str) -> bool:
    """Letters with digits, several capitals, or a capital alone, as in vitamin K."""
    if not token[0].isalpha():
        return False
    capitals = sum(letter.isupper() for letter in token)
    return (
        capitals > 1
        or any(map(str.isdigit, token))
        or (len(token) == 1 and token.isupper() and token not in "AI")
    )


# --------------------------------------------------------------------------- words

_WORD = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9]*|,")
_LONG_WORD = re.compile(r"[A-Za-z]{6,}")
_CLAUSE = re.compile(r"[;:?!\n()]|\.(?=\s|$)|\b(?:but|however|although|though|whereas)\b")
_SENTENCE = re.compile(r"[:?!\n]\s*|\.(?=\s|$)\s*")
_STOPS = {",", "and", "with", "while", "because", "than"}
"""What a negation does not reach across; commas only in a list that ends in "or"."""
_COUNTED = ("two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
            "sixteen seventeen eighteen nineteen twenty").split()  # fmt: skip
_ROMAN = ("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII")
_GREEK = {"α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "κ": "kappa", "μ": "mu"}

_SHORTHAND = {
    "w/o": "without",
    "w/": "with ",
    "b/c": "because",
    "pts?": "patient",
    "dx": "diagnosis",
    "tx": "treatment",
    "hx": "history",
    "HTN": "hypertension",
    "abx": "antibiotics",
    r"b\.?i\.?d": "2 times a day",
    r"t\.?i\.?d": "3 times a day",
    r"q\.?i\.?d": "4 times a day",
    r"q\s?(\d+)\s?h(?:rs?)?": r"every \1 hours",
    r"(?<![Vv]itamin )K\+?": "potassium",
    r"Na\+?": "sodium",
    r"Ca(?:2?\+)*": "calcium",
    "twice": "2 times",
    "thrice": "3 times",
}

_FORMS: list[tuple[re.Pattern[str], str]] = [
    (re.compile(r"(?<=\d),(?=\d{3}\b)"), ""),
    (re.compile(r"[\u2010-\u2015\u2212]"), "-"),
    (re.compile(r"(?<=\d)\s*μg\b|(?<=\d)\s*mu ?g\b"), " mcg"),
    *((re.compile(letter), f" {name} ") for letter, name in _GREEK.items()),
    (re.compile("↑+"), " increased "),
    (re.compile("↓+"), " decreased "),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"\bcannot\b", re.I), "can not"),
    *((re.compile(rf"(?<![\w/]){short}(?!\w)"), words) for short, words in _SHORTHAND.items()),
    *((re.compile(rf"\b{word}\b", re.I), str(n)) for n, word in enumerate(_COUNTED, 2)),
    *(
        (re.compile(rf"(?i:\b(type|stage|grade|class|factor|nerve|phase)) {number}\b"), rf"\1 {n}")
        for n, number in enumerate(_ROMAN, 1)
    ),
]
"""Signs and shorthand of cards, and what they stand for, in the order in which they are read."""

_UNITS = {
    name: unit
    for unit, names in {
        "%": "% percent",
        "kg": "kg kilogram kilograms",
        "g": "g gram grams gramme grammes",
        "mg": "mg milligram milligrams",
        "mcg": "mcg microgram micrograms",
        "ng": "ng nanogram nanograms",
        "l": "l liter liters litre litres",
        "dl": "dl deciliter decilitre",
        "ml": "ml milliliter milliliters millilitre millilitres cc",
        "mol": "mol",
        "mmol": "mmol millimol millimoles",
        "umol": "umol mumol micromol",
        "meq": "meq",
        "iu": "iu units unit u",
        "mmhg": "mmhg",
        "cmh2o": "cmh2o",
        "kpa": "kpa",
        "m": "m meter meters metre metres",
        "cm": "cm centimeter centimeters centimetre centimetres",
        "mm": "mm millimeter millimeters millimetre millimetres",
        "c": "°c celsius",
        "bpm": "bpm",
        "s": "s sec second seconds",
        "min": "min mins minute minutes",
        "h": "h hr hrs hour hours",
        "d": "d day days",
        "week": "wk week weeks",
        "month": "mo month months",
        "year": "y yr yrs year years",
        "dose": "dose",
    }.items()
    for name in names.split()
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")

_UNIT_WORDS = "|".join(
    ["mm ?Hg", "cm ?H2O", *sorted(map(re.escape, _UNITS), key=len, reverse=True)]
)

_QUANTITY = re.compile(
    rf"""(?<![\w.])(?P<numbers>\d+(?:\.\d+)?(?:\s*(?:-|/|to|and|or|x)\s*\d+(?:\.\d+)?(?![\w]))*)
    (?:[\s-]*(?P<unit>(?:{_UNIT_WORDS})(?![A-Za-z])
        (?:(?:\s*/\s*|\s+per\s+|\s+an?\s+)(?:{_UNIT_WORDS})(?![A-Za-z]))*))?""".replace("\n", ""),
    re.VERBOSE | re.IGNORECASE,
)

_BOUND = {
    "over": (
        re.compile(
            r"(?i)(?:>\s*=?|≥|more than|greater than|higher than|above|over|at least|no less than|"
            r"exceed\w*)\s*$"
        ),
        re.compile(r"(?i)\s*(?:or|and) (?:more|above|over|higher|older|greater)\b|\s*\+"),
    ),
    "under": (
        re.compile(
            r"(?i)(?:<\s*=?|≤|less than|lower than|fewer than|below|under|at most|up to|"
            r"no more than|not more than|not exceed\w*)\s*$"
        ),
        re.compile(r"(?i)\s*(?:or|and) (?:less|below|under|lower|younger|fewer)\b"),
    ),
}

_DIRECTION = {
    "up": re.compile(r"(?i)increas\w*|elevat\w*|rais(?:e|es|ed|ing)|ris(?:e|es|ing)|high(?:er)?"),
    "down": re.compile(r"(?i)decreas\w*|reduc\w*|low(?:er|ers|ered|ering)?|diminish\w*"),
}

_NEGATION = re.compile(
    r"no|not|never|without|neither|nor|none|nothing|absen(?:t|ce)|lack(?:s|ing)?|avoid(?:ed|s)?|"
    r"contraindicat(?:ed|ion|ions)|except"
)

_NOT_PREFIXES = ("non", "contra", "un", "in", "im", "ir", "il", "dis", "an", "a")

_FUNCTION = frozenset(
    """the and for are was were has have had does did done its their his her they them this that
    these those with from into onto upon than then there here which what who whom whose when where
    why how may might can could will would shall should must being been also such any some each
    every all both either other more most less least very only just too per via about after before
    during between among under over above below within until while since because due one once first
    yes out off you your our""".split()
)

_ENDINGS = frozenset(
    """e s es ed d ing er ers or ors ion ions ive ory ation ations ations al ally ial ic ical ically
    y ies ied ily ly ity ness ment ments able ance ence ant ent ants ents ous sis ses se sed sing
    tic stic um a us i is ar ary ate ated ates ating ism ist ure""".split()
) | {""}
"""What may follow a common stem. No ending by which drugs or salts differ is among them."""
