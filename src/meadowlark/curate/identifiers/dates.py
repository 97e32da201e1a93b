"""Dates finer than a year, and ages over 89."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meadowlark.curate.identifiers import months as calendar
from meadowlark.curate.identifiers.cues import Cue, Cues
from meadowlark.curate.identifiers.labels import short
from meadowlark.curate.identifiers.medicine import NOT_UNIT
from meadowlark.curate.identifiers.span import Span

_FULL_MONTHS = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
)
_SHORT_MONTHS = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_MONTHS = (
    rf"(?:{_FULL_MONTHS}|{_FULL_MONTHS.upper()}|"
    rf"(?:{_SHORT_MONTHS}|{_SHORT_MONTHS.upper()})\b\.?)"
)
_WEEKDAY = r"(?:(?:Mon|Tues?|Wed(?:nes)?|Thu(?:rs)?|Fri|Sat(?:ur)?|Sun)(?:day)?\.?,?\s)"
_DAY = r"(?:3[01]|[12]\d|0?[1-9])"
_ORD = rf"(?:{_DAY}(?:st|nd|rd|th)?)"
_YEAR = r"(?:(?:19|20)\d\d)"
_TIME = r"(?:T\d\d:\d\d(?::\d\d)?(?:Z|[+-]\d\d:?\d\d)?)?"
_M, _D = r"(?:1[0-2]|0?[1-9])", _DAY
_CITATION = r"(?!\s?;\s?\d)(?!\s?:\s?\d+\s?\()"

_DATE_FORMS: list[tuple[str, str]] = [
    (rf"\b{_YEAR}-{_M}-{_D}{_TIME}(?![\d-])", "year-month-day"),
    (rf"\b{_YEAR}([/.]){_M}\1{_D}(?![\d/])", "year/month/day"),
    (rf"(?<![\d/.,-]){_M}([/.-]){_D}\1{_YEAR}(?![\d/-])", "month/day/year"),
    (rf"(?<![\d/.,-]){_D}([/.-]){_M}\1{_YEAR}(?![\d/-])", "day/month/year"),
    (rf"(?<![\d/.,-]){_M}/{_D}/\d\d(?![\d/.,]*\d){NOT_UNIT}", "month/day/year of two digits"),
    (rf"(?<![\d/.,-]){_D}/{_M}/\d\d(?![\d/.,]*\d){NOT_UNIT}", "day/month/year of two digits"),
    (
        rf"\b{_WEEKDAY}?{_MONTHS}\s{_ORD}(?:,?\s{_YEAR})?(?![\d%]|[.,-]\d){NOT_UNIT}{_CITATION}",
        "month and day",
    ),
    (
        rf"\b(?:the\s)?{_WEEKDAY}?{_ORD}\s(?:day\s)?(?:of\s)?{_MONTHS}(?:,?\s{_YEAR})?(?!\w|"
        rf"-[A-Z]){_CITATION}",
        "day and month",
    ),
    (rf"\b{_DAY}[-/]{_MONTHS}[-/](?:{_YEAR}|\d\d)\b", "day-month-year"),
    (rf"\b{_MONTHS}[-/]{_DAY}[-/](?:{_YEAR}|\d\d)\b", "month-day-year"),
    (
        rf"\b(?:(?:mid|early|late)[-\s])?{_MONTHS},?\s(?:of\s)?{_YEAR}\b{_CITATION}",
        "month and year",
    ),
    (
        rf"\b(?:Christmas(?:\s(?:Day|Eve))?|Thanksgiving(?:\sDay)?|New\sYear['’]s(?:\s(?:Day|"
        rf"Eve))?|"
        rf"Valentine['’]s\sDay|Independence\sDay|Labor\sDay|Memorial\sDay|Halloween|Boxing\sDay|"
        rf"Easter(?:\s(?:Sunday|Monday))?)(?!\s(?:disease|factor|tree))(?:,?\s{_YEAR})?\b",
        "a holiday",
    ),
]
_DATES = [(re.compile(pattern), reason) for pattern, reason in _DATE_FORMS]
_NUMERIC = frozenset(
    reason for _, reason in _DATE_FORMS if "year" in reason and "month" in reason
) - {
    "month and year",
    "day-month-year",
    "month-day-year",
}
_DAY_BEFORE = re.compile(r"\d(?:st|nd|rd|th)?(?:[-/]|\s(?:day\s)?(?:of\s)?)$")
_OUT = frozenset(range(-6, 0))  # before the text
_EVENT = (
    r"(?:\b(?:[Oo]n|[Ss]ince|[Ff]rom|[Dd]ated?|DATE|DOB|D\.O\.B\.?|[Bb]orn|[Aa]dmit(?:ted)?|"
    r"[Aa]dmission|"
    r"[Dd]ischarged?|[Ss]een|[Pp]erformed|[Rr]eturned?|[Rr]eadmitted|[Dd]ue|LMP|EDD|[Cc]ollected|"
    r"[Rr]eceived|"
    r"[Vv]isit(?:ed)?|[Ss]cheduled(?:\sfor)?|[Rr]epaired|[Dd]ictated|[Tt]ranscribed|[Ss]igned|"
    r"[Rr]equested|"
    r"[Gg]iven|[Rr]epeat\son|cannot\scome\son|[Oo]ccurred|log|of\sservice|of\sbirth|of\sdeath|D|T|"
    r"[Ff]iled|"
    r"[Aa]ppointment|[Ll]abs\s(?:of|from)|[Ss]tarted)\b:?\s?\(?)"
)
_SHORT_DATES = [
    re.compile(rf"(?<![\d/.,-]){_M}[/-]{_D}(?![\d/%-]|[.,]\d){NOT_UNIT}"),
    re.compile(rf"(?<![\d/.,-]){_M}/{_YEAR}(?![\d/%-])"),
    re.compile(rf"(?<![\d/.,-]){_M}([.-]){_D}\1\d\d(?![\d/%-]|[.,]\d){NOT_UNIT}"),
    re.compile(rf"(?<![\d/.,-]){_D}\.{_M}\.(?=[\s,;]|$)(?!\s?\d)"),
    re.compile(rf"(?<![\d/.,-]){_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\d/.,-]\d|\d)"),
    re.compile(rf"(?<![\d/.,-])(?:0[1-9]|[12]\d|3[01]){{2}}{_YEAR}(?![\d/.,-]\d|\d){NOT_UNIT}"),
]
_WEEKDAY_BEFORE = re.compile(rf"\b{_WEEKDAY}$")
_BEFORE_DATE = re.compile(rf"(?:{_EVENT}{_WEEKDAY}?|{_WEEKDAY})$")
_LISTED = re.compile(rf"(?<=[\s(])({_M}([/-]){_D})(?=\)|:\s)")

_FULL = frozenset(calendar.FULL)
_ABROAD = re.compile(
    rf"(?<!\w)(?:(?:{'|'.join(sorted(calendar.FULL, key=len, reverse=True))})(?!\w)|"
    rf"(?:{'|'.join(sorted(calendar.SHORT, key=len, reverse=True))})(?=[-/.\s]))",
    re.I,
)
"""A month in another language than English."""
_DAY_WITH_SIGN = re.compile(rf"\b{_DAY}([-/])$")
_DAY_ABROAD = re.compile(rf"(?<![\w.,/]){_DAY}(?:er|[.°º])?\s(?P<of>d[ei]\s)?$", re.I)
_YEAR_WITH_SIGN = re.compile(rf"([-/])(?:{_YEAR}|\d\d)\b")
_YEAR_ABROAD = re.compile(rf"\.?,?\s(?:del?\s)?{_YEAR}\b{_CITATION}", re.I)
_NO_YEAR = re.compile(rf"(?!\w|-[A-Za-z]|\.?,?\s{_YEAR}){_CITATION}")

_NUMBER_WORDS = (
    r"(?:[Nn]inety(?:[-\s](?:one|two|three|four|five|six|seven|eight|nine))?|"
    r"(?:[Oo]ne|[Aa])\shundred(?:\sand\s\w+)?)"
)
_OLD = r"(?:9\d|1[01]\d|12\d)"
_AGES = [
    re.compile(
        rf"(?<![\d.,/-]){_OLD}(?:[\s-]?(?:years?|yrs?|y)(?:[\s-]?(?:old|of\sage)\b|\.?\s?/\s?o\b|"
        rf"\.?o\.?\b))"
    ),
    re.compile(rf"\b{_NUMBER_WORDS}[\s-]years?[\s-](?:old|of\sage)\b"),
    re.compile(
        rf"(?<!to\s)(?<!by\s)(?<!over\s)(?<!after\s)(?<!until\s)\b(?:[Aa]ged?:?|AGE:?|[Tt]urned|at\sthe\sage\sof)\s({_OLD}(?:\s(?:yrs?|"
        rf"years)\b)?)(?![\d.,/%-]*\d|\s?%)(?!\s?(?:(?:to|-)\s?\d|(?:hours|hrs|days|weeks|months|"
        rf"minutes|min|h|d)\b))"
    ),
    re.compile(rf"(?<![\d.,/-])({_OLD}\s?(?:yo|y/o|y\.o\.|yof|yom)\b)"),
    re.compile(
        rf"\b(?:[Tt]his|[Tt]he|[Aa]n?|[Pp]t|[Pp]atient|is)\s({_OLD}[FM])\b"
    ),  # no fever of 101F
    re.compile(
        rf"(?<=[a-z],\s)({_OLD})(?=,\s(?:was|is|has|had|a|an|who|of|from|lives|presented|died)\b)"
    ),
]
_VIGNETTE = re.compile(r"(?:^|[.!?:\n]\s*|[\"“(]\s*)An?\s(?:[a-z-]+(?:,?\s[a-z-]+){0,3}\s)?$")


_ANY_DATE = (
    Cue.MONTH_ABROAD
    | Cue.MONTH
    | Cue.WEEKDAY
    | Cue.HOLIDAY
    | Cue.DATE_DIGITS
    | Cue.SHORT_DATE_DIGITS
)
_OLD_AGE = Cue.OLD_AGE_DIGITS | Cue.OLD_AGE_WORD


def dates(cues: Cues) -> Iterator[Span]:
    if not cues.bits & _ANY_DATE:
        return
    text = cues.text
    full = False
    months = cues.at(Cue.MONTH)
    for pattern, reason in _DATES:
        if reason == "a holiday":
            matches = cues.matches(pattern, Cue.HOLIDAY)
        elif reason in _NUMERIC:
            matches = cues.matches(pattern, Cue.DATE_DIGITS)
        elif reason == "month and day":
            matches = cues.matches(pattern, Cue.MONTH | Cue.WEEKDAY)
        elif reason == "month-day-year":
            matches = cues.matches(pattern, Cue.MONTH)
        elif reason == "month and year":
            matches = cues.matches_at(pattern, {p - n for p in months for n in (0, 4, 5, 6)} - _OUT)
        elif any(_DAY_BEFORE.search(text, max(0, p - 14), p) for p in months) or not months:
            matches = cues.whole(pattern, Cue.MONTH)
        else:
            continue
        for match in matches:
            full = True
            yield Span(*match.span(), "DATE", reason)
    for span in _abroad(cues):
        full = True
        yield span
    for pattern in _SHORT_DATES:
        for match in cues.matches(pattern, Cue.SHORT_DATE_DIGITS):
            before = _BEFORE_DATE.search(text, max(0, match.start() - 30), match.start())
            if before:
                full = True
                day = _WEEKDAY_BEFORE.search(text, max(0, match.start() - 12), match.start())
                start = day.start() if day else match.start()
                yield Span(start, match.end(), "DATE", f"a short date after {short(before[0])!r}")
    if full:  # "Hgb 9.1 (5/6), 8.4 (5/7), 7.9 (5/8/19)", "INR log 4-1: 2.1, 4-8: 2.6"
        for match in _LISTED.finditer(text):
            yield Span(*match.span(1), "DATE", "month/day in a list with a date")


def _abroad(cues: Cues) -> Iterator[Span]:
    """Dates with a month of another language: "3 de marzo de 1954", "4. Okt. 2019", "1er juin"."""
    text = cues.text
    for match in cues.matches(_ABROAD, Cue.MONTH_ABROAD):
        start, end = match.span()
        word = match[0].lower()
        signs = _DAY_WITH_SIGN.search(text, max(0, start - 3), start)
        year = _YEAR_WITH_SIGN.match(text, end) if signs else None
        if signs and year and signs[1] == year[1]:
            yield Span(signs.start(), year.end(), "DATE", "day-month-year in another language")
            continue
        if word in calendar.ENGLISH_WORDS:
            continue
        day = _DAY_ABROAD.search(text, max(0, start - 9), start)
        year = _YEAR_ABROAD.match(text, end)
        alone = _stands_alone(match[0])
        if day and year:
            yield Span(day.start(), year.end(), "DATE", "day, month and year in another language")
        elif day and (day["of"] or alone) and word in _FULL and _NO_YEAR.match(text, end):
            yield Span(day.start(), end, "DATE", "day and month in another language")
        elif year and alone:
            yield Span(start, year.end(), "DATE", "month and year in another language")


def _stands_alone(word: str) -> bool:
    """Whether a word is a month beside a day or a year alone, and no name ("Mayo") and no
    abbreviation of something else ("MAI")."""
    if word.lower() in calendar.NAMES and word[0].isupper():
        return False
    return not (word.isupper() and len(word) <= 4)


def ages(cues: Cues) -> Iterator[Span]:
    if not cues.bits & _OLD_AGE:
        return
    for pattern in _AGES:
        for match in cues.whole(pattern, _OLD_AGE):
            yield Span(*match.span(1 if pattern.groups else 0), "AGE", "an age over 89")


def vignette(text: str, span: Span) -> bool:
    """Whether an age opens a made-up case as exams do: "A 92-year-old man is brought ..."."""
    return _VIGNETTE.search(text, max(0, span.start - 60), span.start) is not None
