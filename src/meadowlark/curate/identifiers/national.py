"""Numbers that states, health plans and banks give to people, found by a form of their own and,
where they have one, by their check digits; those whose form is not their own need a label
(``labels``).

Check digits: Verhoeff (Aadhaar), Luhn (ISO/IEC 7812, cards), ISO 7064 mod 97-10 (IBAN) and mod
11-2 (Chinese identity numbers), mod 97 (French NIR), mod 23 (Spanish DNI), two of mod 11 (Brazilian
CPF), EAN-13 (Swiss AHV), mod 26 (Italian codice fiscale)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from meadowlark.curate.identifiers.cues import Cue, Cues
from meadowlark.curate.identifiers.medicine import NOT_UNIT
from meadowlark.curate.identifiers.span import Span

_TURN = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
"""The permutation of Verhoeff's code; the i-th digit from the right goes through it i times."""


def verhoeff(digits: str) -> bool:
    """Whether the last digit is Verhoeff's check of the others: a product of 0 in the dihedral
    group of ten elements (Verhoeff 1969)."""
    product = 0
    for place, digit in enumerate(reversed(digits)):
        turned = int(digit)
        for _ in range(place % 8):
            turned = _TURN[turned]
        a, b = product, turned
        if a < 5:
            product = (a + b) % 5 + (5 if b >= 5 else 0)
        else:
            product = (a - b) % 5 + (0 if b >= 5 else 5)
    return product == 0


def luhn(digits: str) -> bool:
    """Whether the last digit is Luhn's check of the others."""
    doubled = (int(d) * (1 + at % 2) for at, d in enumerate(reversed(digits)))
    return sum(n - 9 if n > 9 else n for n in doubled) % 10 == 0


def _iban(text: str) -> bool:
    return int("".join(str(int(c, 36)) for c in text[4:] + text[:4])) % 97 == 1


def _nir(digits: str) -> bool:
    return 97 - int(digits[:13]) % 97 == int(digits[13:])


def _dni(text: str) -> bool:
    return "TRWAGMYFPDXBNJZSQVHLCKE"[int(text[:8]) % 23] == text[8]


def _cpf(digits: str) -> bool:
    def check(n: int) -> int:
        return sum(int(d) * (n + 1 - at) for at, d in enumerate(digits[:n])) * 10 % 11 % 10

    return len(set(digits)) > 1 and check(9) == int(digits[9]) and check(10) == int(digits[10])


def _ean(digits: str) -> bool:
    return sum(int(d) * (1 + at % 2 * 2) for at, d in enumerate(digits)) % 10 == 0


def _chinese(text: str) -> bool:
    total = sum(int(d) * pow(2, 17 - at, 11) for at, d in enumerate(text[:17]))
    return "10X98765432"[total % 11] == text[17]


_ODD = (
    1,
    0,
    5,
    7,
    9,
    13,
    15,
    17,
    19,
    21,
    2,
    4,
    18,
    20,
    11,
    3,
    6,
    8,
    12,
    14,
    16,
    10,
    22,
    25,
    24,
    23,
)


def _fiscal(text: str) -> bool:
    values = [int(c) if c.isdigit() else ord(c) - ord("A") for c in text]
    total = sum(_ODD[v] if at % 2 == 0 else v for at, v in enumerate(values[:15]))
    return total % 26 == values[15]


def _any(text: str) -> bool:
    return True


class _Form(NamedTuple):
    kind: str
    reason: str
    pattern: re.Pattern[str]
    valid: Callable[[str], bool]


def _digits_first(kind: str, reason: str, form: str, valid: Callable[[str], bool]) -> _Form:
    return _Form(
        kind, reason, re.compile(rf"(?<![\w.,/+-]){form}(?!\w|[-.,/ ]\d){NOT_UNIT}"), valid
    )


def _capitals_first(kind: str, reason: str, form: str, valid: Callable[[str], bool]) -> _Form:
    return _Form(kind, reason, re.compile(rf"(?<![\w.,/+-]){form}(?![\w-])"), valid)


_MONTH, _DAY = r"(?:0[1-9]|1[0-2])", r"(?:0[1-9]|[12]\d|3[01])"
_BY_DIGITS = [
    _digits_first("OTHER_ID", "an Aadhaar number", r"[2-9]\d{3}([ -])\d{4}\1\d{4}", verhoeff),
    _digits_first("ACCOUNT", "a card's number", r"[2-6]\d{3}([ -])\d{4}\1\d{4}\1\d{4}", luhn),
    _digits_first("ACCOUNT", "a card's number", r"3[47]\d\d([ -])\d{6}\1\d{5}", luhn),
    _digits_first("OTHER_ID", "a Brazilian CPF", r"\d{3}\.\d{3}\.\d{3}-\d\d", _cpf),
    _digits_first("OTHER_ID", "a Spanish DNI", r"\d{8}-?[A-HJ-NP-TV-Z]", _dni),
    _digits_first(
        "SSN", "a French NIR",
        rf"[12] ?\d\d ?{_MONTH} ?\d\d ?\d{{3}} ?\d{{3}} ?\d\d", _nir,
    ),
    _digits_first("OTHER_ID", "a Swiss AHV number", r"756\.\d{4}\.\d{4}\.\d\d", _ean),
    _digits_first(
        "OTHER_ID", "a Chinese identity number",
        rf"[1-9]\d{{5}}(?:19|20)\d\d{_MONTH}{_DAY}\d{{3}}[\dX]", _chinese,
    ),
]  # fmt: skip
_BY_DIGITS.append(
    _digits_first("HEALTH_PLAN", "an Ontario health card", r"\d{4}-\d{3}-\d{3}[ -]?[A-Z]{2}", _any)
)
_BY_CAPITALS = [
    _capitals_first(
        "ACCOUNT", "an IBAN", r"[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?", _iban
    ),
    _capitals_first(
        "OTHER_ID", "a codice fiscale", r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", _fiscal
    ),
    _capitals_first("OTHER_ID", "a Mexican CURP", r"[A-Z]{4}\d{6}[HMX][A-Z]{5}[A-Z\d]\d", _any),
    _capitals_first(
        "HEALTH_PLAN", "a Quebec health card",
        rf"[A-Z]{{4}} \d\d(?:[05][1-9]|[16][0-2]) {_DAY}\d\d", _any,
    ),
    _capitals_first(
        "OTHER_ID", "a British insurance number",
        r"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] \d\d \d\d \d\d [A-D]", _any,
    ),
]  # fmt: skip
_BEFORE_DIGITS = (2, 3, 4, 5, 6)
"""How far before its first digits a form begins that opens with capitals."""


def national(cues: Cues) -> Iterator[Span]:
    if not cues.bits & (Cue.PHONE_DIGITS | Cue.CODE_DIGITS):
        return
    starts = {p - n for p in cues.at(Cue.CODE_DIGITS) for n in _BEFORE_DIGITS if p >= n}
    for kind, reason, pattern, valid in _BY_DIGITS:
        for match in cues.matches(pattern, Cue.PHONE_DIGITS):
            if valid(re.sub(r"\W", "", match[0])):
                yield Span(*match.span(), kind, f"{reason} by its form")
    for kind, reason, pattern, valid in _BY_CAPITALS:
        for match in cues.matches_at(pattern, starts):
            if valid(re.sub(r"\W", "", match[0])):
                yield Span(*match.span(), kind, f"{reason} by its form")
