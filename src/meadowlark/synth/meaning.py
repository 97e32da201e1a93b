"""Whether a text still says what a card said, as far as words show it: no number, unit, drug or
other term, negation or direction lost, changed or invented.

Two texts are compared word by word, without a list of drugs: what a card names must be there under
a word of the same stem, and names that the card lacks (capitals, letters with digits, the endings
of drugs' international names) must not. So a synonym is a fault, and another sense in the same
words is none; ``tests/synth/meaning`` counts both.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple


class Fault(NamedTuple):
    """What is wrong, as a fixed phrase that can be counted, and the words that show it."""

    reason: str
    detail: str


def changed(front: str, back: str, question: str, answer: str) -> Fault | None:
    """Why question and answer do not say what the two sides of a card say; None where they do."""
    both, pair = f"{front}\n{back}", f"{question}\n{answer}"
    card, made = _read(both, against=pair), _read(pair, against=both)
    return (
        _numbers(card, made)
        or _bounds(card, made)
        or _negations(card, made)
        or _directions(card, made)
        or _lost(_read(back, against=pair), _read(answer, against=both), SHORTEST_ON_BACK)
        or _lost(card, made, SHORTEST_NAME)
        or _invented(card, made)
    )


def invented(source: str, text: str) -> Fault | None:
    """A number, a negation or a name of ``text`` that its source does not have."""
    given, made = _read(source, against=text), _read(text, against=source)
    if extra := made.quantities.keys() - given.quantities.keys() - {"1"}:
        return Fault("number invented", _listed(extra))
    if made.denials and not given.denials:
        return Fault("negation invented", _listed(made.negated))
    return _invented(given, made)


def lost(source: str, text: str) -> Fault | None:
    """The content words of ``source`` (a page's title) that ``text`` lacks."""
    return _lost(_read(source, against=text), _read(text, against=source), 1)


SHORTEST_NAME, SHORTEST_ON_BACK = 7, 5
"""Letters of a word that must not be lost; a card's back is short, so that more of it counts."""


# --------------------------------------------------------------------------- what is compared


class _Denial(NamedTuple):
    """A negation: the words that it denies, and all that stand near it in its clause."""

    meant: tuple[str, ...]
    near: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Text:
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


def _numbers(card: _Text, made: _Text) -> Fault | None:
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


def _bounds(card: _Text, made: _Text) -> Fault | None:
    for number, sides in card.bounds.items():
        if gone := sides - made.bounds.get(number, set()):
            return Fault("direction lost", f"{_listed(gone)} {number}")
    return None


def _directions(card: _Text, made: _Text) -> Fault | None:
    gone = card.directions - made.directions
    return Fault("direction lost", _listed(gone)) if gone else None


def _negations(card: _Text, made: _Text) -> Fault | None:
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


def _lost(card: _Text, made: _Text, shortest: int) -> Fault | None:
    short, there = _abbreviated(card.words, made.names), _Index(made.words)
    missing = [
        word
        for word in card.words
        if (word in card.names or (len(word) >= shortest and word.lower() not in _COMMON))
        and word not in there
        and word not in short
        and not (word in card.names and _abbreviated(made.words, [word]))
    ]
    return Fault("term lost", _listed(missing)) if missing else None


def _invented(card: _Text, made: _Text) -> Fault | None:
    drugs = [word for word in made.words if len(word) >= SHORTEST_NAME and _DRUG.search(word)]
    spelled, there = _abbreviated(made.words, card.names), _Index(card.words)
    extra = [
        word
        for word in (*made.names, *drugs)
        if word not in there and word not in spelled and not _abbreviated(card.words, [word])
    ]
    return Fault("term invented", _listed(extra)) if extra else None


def _listed(words: Iterable[str]) -> str:
    return ", ".join(sorted(set(words)))


def _any_same(words: Iterable[str], others: Iterable[str]) -> bool:
    index = _Index(others)
    return any(word in index for word in words)


class _Index:
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


# --------------------------------------------------------------------------- reading a text


def _read(text: str, against: str) -> _Text:
    text = _plain(text)
    known = _Index(_WORD.findall(_plain(against)))
    clauses = [
        [part for token in _TOKEN.findall(clause) for part in _without_prefix(token, known)]
        for clause in _CLAUSE.split(text)
    ]
    denials = [denial for clause in clauses for denial in _denials(clause)]
    quantities, bounds = _quantities(text)
    tokens = [token for clause in clauses for token in clause]
    return _Text(
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


def _without_prefix(token: str, known: _Index) -> list[str]:
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
_COMMON = frozenset(
    """associated because caused causes cause common commonly condition conditions describe disease
    disorder effect effects example following findings finding given gives include includes
    including increase known mechanism need needed number occurs patient patients person people
    present presents presentation result results several signs symptom symptoms syndrome treated
    treatment through together typical typically used uses usually what's which would without main
    mainly major often drug drugs choice clinical""".split()
)
"""Words that a card may lose: what it says does not hang on them."""
_ENDINGS = frozenset(
    """e s es ed d ing er ers or ors ion ions ive ory ation ations ations al ally ial ic ical ically
    y ies ied ily ly ity ness ment ments able ance ence ant ent ants ents ous sis ses se sed sing
    tic stic um a us i is ar ary ate ated ates ating ism ist ure""".split()
) | {""}
"""What may follow a common stem. No ending by which drugs or salts differ is among them."""
_DRUG = re.compile(
    r"""(?ix) (?: olol|pril|sartan|dipine|statin|gliptin|gliflozin|glitazone|prazole|tidine|floxacin
    |cillin|cycline|mycin|micin|conazole|nidazole|azepam|azolam|barbital|caine|curonium|parin|xaban
    |grel|thiazide|semide|lukast|terol|sone|solone|onide|profen|oxicam|coxib|methacin|metacin|mab
    |tinib|ciclib|platin|rubicin|taxel|tecan|vir|vudine|citabine|trexate|bactam|penem|dronate|setron
    |zosin|stigmine|tropium|oxetine|triptyline|ipramine|azine|peridone|apine|triptan|formin )$
    | ^(?:cef|ceph|sulfa)\w{4}"""
)
"""Endings and beginnings that the international names (INN) of drug classes share."""
