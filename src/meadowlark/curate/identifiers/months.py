"""The names of months, in English and in the languages that ``clean`` knows: to find a date by, and
to write another in the language that it was written in."""

from __future__ import annotations

import re
from typing import NamedTuple


class Language(NamedTuple):
    """Twelve months in full and short; ``other`` spellings stand at their month's number. A date
    that several languages write alike is of the first whose ``form`` it has."""

    full: tuple[str, ...]
    short: tuple[str, ...]
    other: dict[str, int]
    form: re.Pattern[str]


def _language(full: str, short: str, form: str, **other: int) -> Language:
    return Language(tuple(full.split()), tuple(short.split()), other, re.compile(form))


ENGLISH = _language(
    "january february march april may june july august september october november december",
    "jan feb mar apr may jun jul aug sep oct nov dec",
    r"^(?!\d\d?\.\s)(?!.*\b[Dd][Ee]\b)",
    sept=9,
)
ABROAD = (
    _language(  # German
        "januar februar märz april mai juni juli august september oktober november dezember",
        "jan feb mrz apr mai jun jul aug sep okt nov dez",
        r"^(?!.*\bDE\b).*[A-Z]",
        jänner=1,
        feber=2,
        maerz=3,
        sept=9,
    ),
    _language(  # Dutch
        "januari februari maart april mei juni juli augustus september oktober november december",
        "jan feb mrt apr mei jun jul aug sep okt nov dec",
        r"^(?!.*\b[Dd][Ee]\b)",
    ),
    _language(  # French
        "janvier février mars avril mai juin juillet août septembre octobre novembre décembre",
        "janv févr mars avr mai juin juil août sept oct nov déc",
        r"^(?!.*\b[Dd][Ee]\b)",
        fevrier=2,
        aout=8,
        decembre=12,
    ),
    _language(  # Spanish
        "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre",
        "ene feb mar abr may jun jul ago sep oct nov dic",
        r"\b[Dd][Ee]l?\b|[-/]",
        setiembre=9,
    ),
    _language(  # Portuguese
        "janeiro fevereiro março abril maio junho julho agosto setembro outubro novembro dezembro",
        "jan fev mar abr mai jun jul ago set out nov dez",
        r"\b[Dd][Ee]\b|[-/]",
        marco=3,
    ),
    _language(  # Italian
        "gennaio febbraio marzo aprile maggio giugno luglio agosto settembre ottobre novembre "
        "dicembre",
        "gen feb mar apr mag giu lug ago set ott nov dic",
        "",
    ),
)
LANGUAGES = (ENGLISH, *ABROAD)


def _words(language: Language) -> dict[str, int]:
    return {
        **{name: n for n, name in enumerate(language.short, 1)},
        **{name: n for n, name in enumerate(language.full, 1)},
        **language.other,
    }


_WORDS = [_words(language) for language in LANGUAGES]
NUMBERS = {word: n for words in reversed(_WORDS) for word, n in words.items()}
"""The number of a month by its name or abbreviation in small letters, in any of the languages."""
FULL = sorted({name for lang in ABROAD for name in (*lang.full, *lang.other)} - {"sept"})
SHORT = sorted({name for language in ABROAD for name in language.short} | {"sept"})
ENGLISH_WORDS = frozenset("set out gen mag ago lug mar may".split())
"""Abbreviations that are English words: months only between two signs (12-out-2018)."""
NAMES = frozenset("mars mayo marco julio augustus abril".split())
"""What is a name where it has a capital: a month only beside a day and a year, or behind "de"."""


def number(word: str) -> int:
    """The number of a month's name or abbreviation; 0 for any other word."""
    return NUMBERS.get(word.lower(), 0)


def named(word: str, month: int, date: str) -> str:
    """Another month's name as ``word`` names one in ``date``: in its language, in full or short,
    in its case.

    "May" is both: it is short where the date's parts have signs between them.
    """
    known = [lang for lang, words in zip(LANGUAGES, _WORDS, strict=True) if word.lower() in words]
    language = next((lang for lang in known if lang.form.search(date)), known[0])
    low = word.lower()
    is_short = low in language.short or low == "sept"
    if is_short and low in language.full:
        is_short = "-" in date or "/" in date
    made = (language.short if is_short else language.full)[month - 1]
    if word.isupper():
        return made.upper()
    return made.capitalize() if word[0].isupper() else made
