"""Where in a text an identifier could begin at all: one compiled pass over its characters, so that
the patterns are tried at a few places and not at every one.

A cue is a necessary condition of a pattern: a word it begins with (a title, a label, a month) or a
shape of digits. Each pattern is tried at all places of its cues, from left to right as
``re.finditer`` goes, so what is found is what the patterns find alone. Texts with digits outside
ASCII, or with characters beyond U+FFFF, are searched without cues.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meadowlark.curate.identifiers import months
from meadowlark.curate.identifiers.words import GIVEN
from meadowlark.match.compiled import kernel


class Cue:
    """What may announce an identifier, each a bit."""

    SSN = 1 << 0
    MRN = 1 << 1
    CHART = 1 << 2
    HEALTH_PLAN = 1 << 3
    GROUP = 1 << 4
    ACCOUNT = 1 << 5
    LICENCE = 1 << 6
    VEHICLE = 1 << 7
    DEVICE = 1 << 8
    BIOMETRIC = 1 << 9
    OTHER_ID = 1 << 10
    LICENCE_WORD = (
        1 << 11
    )  # "licence" and "certificate", before which other words may belong to a label
    FAX = 1 << 12
    MONTH = 1 << 13
    WEEKDAY = 1 << 14
    HOLIDAY = 1 << 15
    OLD_AGE_WORD = 1 << 16
    SUITE = 1 << 17
    BOX = 1 << 18
    ROUTE = 1 << 19
    ZIP = 1 << 20
    ADDRESS = 1 << 21
    POSTCODE = 1 << 22
    TITLE = 1 << 23
    DOCTOR = 1 << 24
    NAME_LABEL = 1 << 25
    PATIENT = 1 << 26
    DEGREE = 1 << 27
    ROLE = 1 << 28
    RELATION_COMMA = 1 << 29
    RELATION = 1 << 30
    WEB = 1 << 31
    DATE_DIGITS = 1 << 32  # three numbers with two signs between them
    SHORT_DATE_DIGITS = 1 << 33  # two numbers, or eight digits
    OLD_AGE_DIGITS = 1 << 34  # 90 to 129 where an age may stand
    HOUSE_DIGITS = 1 << 35  # a number, a space, a capital or a number
    ZIP_DIGITS = 1 << 36  # five digits behind a letter or comma
    POSTCODE_DIGITS = 1 << 37  # one digit behind a space, before a capital
    PHONE_DIGITS = 1 << 38  # seven digits with nothing but signs of telephone numbers between them
    SSN_DIGITS = 1 << 39
    QUAD_DIGITS = 1 << 40  # four numbers with full stops between them
    NAME_WORD = 1 << 41
    EMAIL = 1 << 42
    IPV6 = 1 << 43
    GIVEN = 1 << 44
    PT = 1 << 45
    PERSON = 1 << 46
    HEAD = 1 << 47  # what stands behind "surname, given name" at the head of a report
    MONTH_ABROAD = 1 << 48
    CODE_DIGITS = 1 << 49  # two digits or more behind two capitals, or behind them and a space
    PAGER = 1 << 50
    TELEPHONE = 1 << 51
    CHART_ABROAD = 1 << 52
    NATIONAL = 1 << 53


_RELATIONS = (
    "mother|father|sister|brother|son|daughter|husband|wife|partner|neighbor|neighbour|landlord|"
    "care-giver|caregiver|aunt|uncle|grandmother|grandfather|grandson|granddaughter|guardian|friend"
)
_WORDS: dict[int, str] = {
    Cue.SSN: "ssn|ss #|ss#|s.s.n|soc|tin",
    Cue.MRN: (
        "mrn|m.r.n|medrec|med rec|med.rec|med. rec|medicalrec|medical rec|medical.rec|medical. rec|"
        "Ur no|hospital no|hospital nu|hospital id|hosp no|hosp. no|unit no|unit nu|patient id|"
        "patient no|patient nu|patient #|ptid|pt id|pt#|pt #|pt.id|pt. id|pt.#|pt. #"
    ),
    Cue.CHART: "chart|record|Emr|Ehr|Urn|Hn|Chi",
    Cue.HEALTH_PLAN: (
        "member|subscriber|beneficiary|insured|sponsor id|Mbi|Hicn|medicare|medicaid|policy|"
        "insurance|health plan|health card|prior auth|Aetna|Cigna|Humana|Anthem|Kaiser|Tricare|"
        "Bcbs|Uhc|Unitedhealthcare"
    ),
    Cue.GROUP: "group|Grp|plan|policy",
    Cue.ACCOUNT: (
        "bank ac|billing ac|checking ac|guarantor ac|patient ac|savings ac|acct|account|Iban|"
        "invoice|Fin:|Fin #|Har|credit card|debit card|Visa|Mastercard|Amex|American express"
    ),
    Cue.LICENCE: "Dea|Npi|lic|state lic|Dl|Cdl|Gmc|Clia|Nmc|permit|Rn ",
    Cue.LICENCE_WORD: "licen|certificate",
    Cue.VEHICLE: "Vin|vehicle|licen|number plate|plate|car reg|reg|tag",
    Cue.DEVICE: (
        "serial|s/n|Sn|lot|Udi|asset tag|implant id|implant n|device id|device n|device #|"
        "monitor id|monitor n|monitor #|pump id|pump n|pump #"
    ),
    Cue.BIOMETRIC: (
        "fingerprint|voiceprint|retinal scan|iris scan|palm vein|face template|Dna profile"
    ),
    Cue.OTHER_ID: (
        "accession|encounter|Csn|Nhs|passport|subject|Rx|prescription|specimen|order|donor|inmate|"
        "military id|military n|student id|student n|national id|national n|employee id|"
        "employee n|voter id|voter n|claim|reference|case|job|badge|service n|visit|ticket|tracking"
    ),
    Cue.FAX: "fax|facsimile",
    Cue.MONTH: "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec",
    Cue.MONTH_ABROAD: "|".join(
        [*months.FULL]
        + [short + sign for short in months.SHORT for sign in "-/"]
        + [
            short + sign
            for short in months.SHORT
            for sign in ". "
            if short not in months.ENGLISH_WORDS
        ]
    ),
    Cue.WEEKDAY: "Mon|Tue|Wed|Thu|Fri|Sat|Sun",
    Cue.HOLIDAY: (
        "Christmas|Thanksgiving|New year|Valentine|Independence day|Labor day|Memorial day|"
        "Halloween|Boxing day|Easter"
    ),
    Cue.OLD_AGE_WORD: "ninety|hundred",
    Cue.SUITE: "Suite ",
    Cue.BOX: "Po box|Pobox|Po.|P.o|P o|P. o|Post office",
    Cue.ROUTE: "Rural route|Rr ",
    Cue.ZIP: "zip",
    Cue.ADDRESS: "address",
    Cue.POSTCODE: "postcode|postalcode|post code|postal code",
    Cue.TITLE: (
        "Mr |Mr.|Mrs |Mrs.|Ms |Ms.|Miss |Miss.|Mx |Mx.|Sgt |Sgt.|Rev |Rev.|Capt |Capt.|Lt |Lt.|"
        "Officer |Officer.|Nurse |Nurse."
    ),
    Cue.DOCTOR: "Dr |Dr.|Prof |Prof.|Professor",
    Cue.NAME_LABEL: (
        "Name|Re:|Re |Attending|Surgeon|Assistant|Provider|Referred by|Physician|Next of kin|"
        "Emergency contact|Guardian|Pcp|cc|Signed|Dictated by|Interpreter|Patient name"
    ),
    Cue.NAME_WORD: "name is",
    Cue.GIVEN: "|".join(f"{name} " for name in GIVEN),
    Cue.PT: "pt ",
    Cue.PERSON: "|".join(
        f"{person} {word} "
        for person in "man woman boy girl child infant patient lady gentleman".split()
        for word in ("named", "called")
    ),
    Cue.HEAD: "Dob|D.o.b|born ",
    Cue.PATIENT: "Patient|Pt|Re:|Re |Discharge summary",
    Cue.DEGREE: "Md|M.d|Do|D.o|Np|N.p|Pa-c|Rn|R.n|Phd|Ph.d|Mbbs|Frcs",
    Cue.ROLE: (
        "spoke with|signed by|caller|seen by|referred by|goes by|thank you,|sincerely,|regards,"
    ),
    Cue.RELATION_COMMA: "|".join(f"{word}," for word in _RELATIONS.split("|")),
    Cue.RELATION: "|".join(f"{word} " for word in _RELATIONS.split("|")),
    Cue.WEB: "www.",
    Cue.PAGER: (
        "pager|beeper|bleep|pgr|ext.|ext:|ext #|ext#|extension:|extension #|extension no|"
        "extension nu"
    ),
    Cue.TELEPHONE: "tel.|tel:|tel |telefon",
    Cue.CHART_ABROAD: (
        "Mr#|Mr #|Mr no|Mr nu|hospital #|hospital#|Uhid|historia cl|Nhc|Ipp|dossier|"
        "patientennummer|fallnummer|prontuário|cartella cl|patiëntnummer"
    ),
    Cue.NATIONAL: (
        "aadhaar|Uidai|Dni|Nie|Cpf|Bsn|Ni no|Ni nu|national ins|Curp|codice f|Ahv|identity card|"
        "Sin |Sin:|Sin#|social insurance|numéro de sécu|health card|Ohip|Ramq|Phn|versichertenn"
    ),
}
"""How the words of a cue begin, in any case; with a capital in front, where the text has one there.
A space stands for any white space."""

_UPPER, _LETTER, _KIND = 0x40, 0x80, 0x3F
_SPACE, _DIGIT, _DOT, _SLASH, _HASH, _DASH, _COMMA, _COLON = 27, 28, 29, 30, 31, 32, 33, 34
_PLUS, _OPEN, _CLOSE, _WORD, _AT, _ODD = 35, 36, 37, 38, 39, 63
_SIGNS = {
    ".": _DOT, "/": _SLASH, "#": _HASH, "-": _DASH, ",": _COMMA, ":": _COLON,
    "+": _PLUS, "(": _OPEN, ")": _CLOSE, "_": _WORD, "@": _AT,
}  # fmt: skip
# What re.IGNORECASE takes for ASCII letters, besides them.
_LIKE_LETTERS = {"\u017f": "s", "\u212a": "k", "\u0130": "i", "\u0131": "i"}
_D, _E, _F, _G, _M, _O, _Y, _R, _C, _V, _A, _U, _I = (ord(c) - 96 for c in "defgmoyrcvaui")
_WEB_BIT = Cue.WEB
_DATE_BIT = Cue.DATE_DIGITS
_SHORT_BIT = Cue.SHORT_DATE_DIGITS
_AGE_BIT = Cue.OLD_AGE_DIGITS
_HOUSE_BIT = Cue.HOUSE_DIGITS
_ZIP_BIT = Cue.ZIP_DIGITS
_POSTCODE_BIT = Cue.POSTCODE_DIGITS
_PHONE_BIT = Cue.PHONE_DIGITS
_SSN_BIT = Cue.SSN_DIGITS
_QUAD_BIT = Cue.QUAD_DIGITS
_DEGREE_BIT = Cue.DEGREE
_EMAIL_BIT = Cue.EMAIL
_IPV6_BIT = Cue.IPV6
_HEAD_BIT = Cue.HEAD
_CODE_BIT = Cue.CODE_DIGITS


class Cues:
    """A text with the places of its cues; ``bits`` says which it has, all where it is searched
    without."""

    def __init__(self, text: str, everywhere: bool = False) -> None:
        self.text = text
        self.bits = 0
        self._places: dict[int, list[int]] = {}
        self._everywhere = everywhere or not self._scan()
        if self._everywhere:
            self.bits = -1
            self._places = {}

    def _scan(self) -> bool:
        codes = np.frombuffer(self.text.encode("utf-32-le", "surrogatepass"), np.uint32)
        places, bits, known = _find(codes, *_tables())
        if len(places):
            for place, here in zip(places.tolist(), bits.tolist(), strict=True):
                self.bits |= here
                while here:
                    bit = here & -here
                    self._places.setdefault(bit, []).append(place)
                    here ^= bit
        return bool(known)

    def at(self, cue: int) -> list[int]:
        """The places of a cue; empty where the text is searched without."""
        return self._places.get(cue, [])

    def matches(self, pattern: re.Pattern[str], cues: int) -> Iterable[re.Match[str]]:
        """The matches of a pattern, all of which begin at one of the cues."""
        if not self.bits & cues:
            return ()
        if self._everywhere:
            return pattern.finditer(self.text)
        if cues & (cues - 1):
            places = [place for bit in self._places if bit & cues for place in self._places[bit]]
            return self._matches(pattern, sorted(places))
        return self._matches(pattern, self._places[cues])

    def matches_at(
        self, pattern: re.Pattern[str], places: Iterable[int]
    ) -> Iterable[re.Match[str]]:
        """The matches of a pattern, all of which begin at one of the places."""
        if self._everywhere:
            return pattern.finditer(self.text)
        return self._matches(pattern, sorted(places))

    def _matches(self, pattern: re.Pattern[str], places: list[int]) -> Iterator[re.Match[str]]:
        end = 0
        for place in places:
            if place >= end:
                match = pattern.match(self.text, place)
                if match:
                    end = match.end()
                    yield match

    def whole(self, pattern: re.Pattern[str], cues: int) -> Iterable[re.Match[str]]:
        """The matches of a pattern, each of which holds one of the cues somewhere."""
        return pattern.finditer(self.text) if self.bits & cues else ()


class _Tables(NamedTuple):
    kinds: NDArray[np.uint8]  # (65536,) what a character is
    may_follow: NDArray[np.uint8]  # (256,) which beginnings may stand behind a character
    begins: NDArray[np.uint8]  # (128 * 64,) whether two characters begin something
    child: NDArray[np.int16]  # (nodes, 64) of the tree of words
    any: NDArray[np.int64]  # (nodes,) cues whose word ends at a node
    capital: NDArray[np.int64]  # (nodes,) the same, where the word began with a capital


_AS_WORD, _AS_NUMBER, _AS_SIGN = 1, 2, 4


@functools.cache
def _tables() -> _Tables:
    kinds = np.zeros(1 << 16, np.uint8)
    for code in range(1 << 16):
        char = chr(code)
        if char.isdecimal():
            kinds[code] = _DIGIT if code < 128 else _ODD
        elif char.isspace():
            kinds[code] = _SPACE
        elif char.isalnum():
            kinds[code] = _WORD
    for code in range(ord("a"), ord("z") + 1):
        kinds[code] = _LETTER | (code - 96)
        kinds[code - 32] = _LETTER | _UPPER | (code - 96)
    for char, kind in _SIGNS.items():
        kinds[ord(char)] = kind
    for char, letter in _LIKE_LETTERS.items():
        kinds[ord(char)] = ord(letter) - 96
    child = [[0] * 64]
    ends: list[tuple[int, bool, int]] = []
    begins = np.zeros((128, 64), np.uint8)
    for cue, words in _WORDS.items():
        for word in words.split("|"):
            node = 0
            letters = [int(kinds[ord(char)]) & _KIND for char in word.lower()]
            for kind in letters:
                if not child[node][kind]:
                    child[node][kind] = len(child)
                    child.append([0] * 64)
                node = child[node][kind]
            ends.append((node, word[0].isupper(), cue))
            begins[letters[0] | _UPPER, letters[1]] = _AS_WORD
            if not word[0].isupper():
                begins[letters[0], letters[1]] = _AS_WORD
    begins[_DIGIT] = _AS_NUMBER
    begins[_AT] = _AS_SIGN
    begins[_COLON, _COLON] = _AS_SIGN
    begins[_SLASH] = _AS_SIGN
    begins[[_OPEN, _PLUS], _DIGIT] = _AS_SIGN
    begins[_PLUS, _OPEN] = _AS_SIGN
    may_follow = np.full(256, _AS_WORD | _AS_NUMBER | _AS_SIGN, np.uint8)
    may_follow[_LETTER:] = _AS_NUMBER | _AS_SIGN
    may_follow[_DIGIT] = _AS_WORD | _AS_SIGN
    marks = np.zeros((2, len(child)), np.int64)
    for node, capital, bit in ends:
        marks[int(capital), node] |= bit
    return _Tables(kinds, may_follow, begins.ravel(), np.array(child, np.int16), marks[0], marks[1])


@kernel
def _find(
    codes: NDArray[np.uint32],
    kind_of: NDArray[np.uint8],
    may_follow: NDArray[np.uint8],
    begins: NDArray[np.uint8],
    child: NDArray[np.int16],
    in_any_case: NDArray[np.int64],
    with_capital: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], bool]:
    """Places and cues (as bits) of a text's code points; False where one is not to be told."""
    n = len(codes)
    before = 4
    kinds = np.empty(n + before + 4, np.uint8)  # with room around, so that no neighbour is outside
    places = np.empty(32, np.int64)
    bits = np.empty(32, np.int64)
    for at in range(before):
        kinds[at] = kinds[n + before + at] = 0
    count = 0
    odd = colons = 0
    for at in range(n):
        kind = kind_of[codes[at]] if codes[at] < 65536 else np.uint8(_ODD)
        odd += kind == _ODD
        colons += kind == _COLON
        kinds[at + before] = kind
    if odd:
        return places[:0], bits[:0], False
    for p in range(before, n + before):
        kind = kinds[p]
        pair = (kind & np.uint8(0x7F)) * 64 + (kinds[p + 1] & np.uint8(_KIND))
        as_what = begins[pair] & may_follow[kinds[p - 1]]
        if not as_what:
            continue
        here = np.int64(0)
        if as_what == _AS_WORD:
            here = _words(kinds, p, child, in_any_case, with_capital)
            if here & _DEGREE_BIT and not (kinds[p - 1] == _SPACE and kinds[p - 2] == _COMMA):
                here &= ~_DEGREE_BIT
        elif as_what == _AS_NUMBER:
            here = _digits(kinds, codes, p - before, before)
        elif kind in (_OPEN, _PLUS):
            here = _phone(kinds, p)
        elif kind == _SLASH:
            if _web(kinds, p):
                here = np.int64(_WEB_BIT)
        elif kind == _AT:
            here = np.int64(_EMAIL_BIT)
        elif colons:
            here = np.int64(_IPV6_BIT)
        if here:
            if count == len(places):
                more_places = np.empty(4 * count, np.int64)
                more_bits = np.empty(4 * count, np.int64)
                more_places[:count] = places
                more_bits[:count] = bits
                places, bits = more_places, more_bits
            places[count] = p - before
            bits[count] = here
            count += 1
    if colons > 6 and count < len(places):
        places[count], bits[count] = 0, _IPV6_BIT
        count += 1
    return places[:count], bits[:count], True


@kernel
def _words(
    kinds: NDArray[np.uint8],
    p: int,
    child: NDArray[np.int16],
    in_any_case: NDArray[np.int64],
    with_capital: NDArray[np.int64],
) -> np.int64:
    here = np.int64(0)
    capital = kinds[p] & _UPPER
    node = child[0, kinds[p] & _KIND]
    while node > 0:
        here |= in_any_case[node]
        if capital:
            here |= with_capital[node]
        p += 1
        if p >= len(kinds):
            break
        node = child[node, kinds[p] & _KIND]
    return here


@kernel
def _digits(kinds: NDArray[np.uint8], codes: NDArray[np.uint32], at: int, before: int) -> np.int64:
    """The shapes of digits that begin with the number at ``at``."""
    here = np.int64(0)
    p = at + before
    end = _end(kinds, p)
    n = end - p
    last, next_ = kinds[p - 1], kinds[end]
    if next_ in (_DASH, _SLASH, _DOT) and n <= 4 and kinds[end + 1] == _DIGIT:
        second = _end(kinds, end + 1)
        n2 = second - end - 1
        sign = kinds[second]
        n3 = 0
        if sign in (_DASH, _SLASH, _DOT):
            third = _end(kinds, second + 1)
            n3 = third - second - 1
            if n3 and n2 <= 2 and ((n <= 2 and sign == next_) or n == 4):
                here |= _DATE_BIT
                if last == _OPEN:
                    here |= _HEAD_BIT
            if n == 3 and n2 == 2 and n3 == 4 and next_ == _DASH and sign == _DASH:
                here |= _SSN_BIT
            dots = next_ == _DOT and sign == _DOT and kinds[third] == _DOT
            if dots and n <= 3 and n2 <= 3 and n3 <= 3 and kinds[third + 1] == _DIGIT:
                here |= _QUAD_BIT
        short = (n2 == 4 and next_ == _SLASH) or (n2 <= 2 and next_ != _DOT)
        if n <= 2 and (short or (n2 <= 2 and sign == _DOT)):
            here |= _SHORT_BIT
    if n == 8:
        here |= _SHORT_BIT
    if last in (_SLASH, _DOT, _COMMA, _DASH):  # in the middle of something
        here &= ~_SHORT_BIT
    if last == _SPACE:
        if n == 5 and (kinds[p - 2] & _LETTER or kinds[p - 2] == _COMMA):
            here |= _ZIP_BIT
        if n == 1 and next_ & _UPPER:
            here |= _POSTCODE_BIT
    if n >= 2:
        capitals = p - 1 if last != _SPACE else p - 2
        if kinds[capitals] & _UPPER and kinds[capitals - 1] & _UPPER:
            here |= _CODE_BIT
    nine = n == 2 and codes[at] == 57
    hundred = n == 3 and codes[at] == 49 and codes[at + 1] <= 50
    if nine or hundred:  # 90 to 129
        here |= _old_age(kinds, p, end)
    if n <= 5:
        space = end + 1 if next_ & _UPPER else end
        if kinds[space] == _SPACE:
            first, second_ = kinds[space + 1], kinds[space + 2] & _KIND
            one = first & _KIND
            if first & _UPPER or first == _DIGIT:
                here |= _HOUSE_BIT
            elif (
                (one == _R and second_ == _U)
                or (one == _C and second_ == _A)
                or (one == _V and second_ == _I)
                or (one == _A and second_ == _V)
            ):  # fmt: skip
                here |= _HOUSE_BIT
    return here | _phone(kinds, p)


@kernel
def _end(kinds: NDArray[np.uint8], p: int) -> int:
    """Where the digits at ``p`` end."""
    while p < len(kinds) and kinds[p] == _DIGIT:
        p += 1
    return p


@kernel
def _old_age(kinds: NDArray[np.uint8], p: int, end: int) -> np.int64:
    """90 to 129 where an age may stand."""
    next_ = kinds[end]
    after = kinds[end + 1] if next_ in (_SPACE, _DASH) else next_
    if after & _LETTER and after & _KIND == _Y:
        return np.int64(_AGE_BIT)
    if next_ & _UPPER and (next_ & _KIND == _F or next_ & _KIND == _M):
        return np.int64(_AGE_BIT)
    if kinds[p - 1] == _SPACE:
        one, two = kinds[p - 2], kinds[p - 3] & _KIND
        letter = one & _KIND
        # "age", "aged" and "turned", "the age of"
        ends = (letter == _E and two == _G) or (letter == _D and two == _E)
        if one == _COLON or ends or (letter == _F and two == _O):
            return np.int64(_AGE_BIT)
        if one == _COMMA and next_ == _COMMA:
            return np.int64(_AGE_BIT)
    return np.int64(0)


@kernel
def _phone(kinds: NDArray[np.uint8], p: int) -> np.int64:
    """Seven digits (three behind a plus) with only signs of telephone numbers between them."""
    last = kinds[p - 1]
    if last & _LETTER or 0 < last <= 26 or last in (_WORD, _DOT, _COMMA):
        return np.int64(0)
    if last in (_SLASH, _DASH, _DIGIT):
        return np.int64(0)
    wanted = 3 if kinds[p] == _PLUS else 7
    while p < len(kinds):
        kind = kinds[p]
        if kind == _DIGIT:
            wanted -= 1
            if wanted == 0:
                return np.int64(_PHONE_BIT)
        elif kind not in (_DASH, _DOT, _SPACE, _OPEN, _CLOSE, _PLUS):  # fmt: skip
            break
        p += 1
    return np.int64(0)


@kernel
def _web(kinds: NDArray[np.uint8], p: int) -> bool:
    """Whether the slash at ``p`` is that of "https://" or of "example.org/"."""
    if kinds[p - 1] == _COLON:
        return bool(kinds[p + 1] == _SLASH)
    at = p - 1
    if not 0 < kinds[at] & _KIND <= 26:
        return False
    while at >= 0 and 0 < kinds[at] & _KIND <= 26:
        at -= 1
    return bool(at >= 0 and kinds[at] == _DOT)
