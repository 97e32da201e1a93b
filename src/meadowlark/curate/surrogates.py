"""Surrogates for identifiers: the same for the same text within a record, dates moved by one
offset.

What is put in has the form of what stood there, so that a text still reads as a note. Social
security numbers begin with 9, telephone numbers are 555-01xx and addresses of the net are those
reserved for examples, so that none of these is anybody's. All is drawn from a secret: without it
nothing leads back."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import random
import re
from collections.abc import Callable

from meadowlark.curate.identifiers import Span, months

_GIVEN = (
    "Alden Brin Corey Dana Ellis Fern Gale Harley Indra Jules Kit Lane Marlo Noel Oakley".split()
)
_FAMILY = (
    "Ashdown Birchall Coldwell Dunmore Easterby Farrow Greaves Holloway Ingram Jessop Kirkland "
    "Lockhart Merriden Northway Overton Prescott Quarles Redfern Stanmore Thornby Underhill Vickery"
).split()
_TOWNS = (
    "Ashford Brookhaven Cedarvale Dunwick Elmstead Fernhill Glenbrook Harrowby Kingsmere".split()
)
_STREETS = "Alder Beech Cedar Dogwood Elm Fir Hazel Juniper Larch Maple".split()
_WEEKDAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
_PART = re.compile(r"\d+|[^\W\d_]+")
NO_YEAR = 2001
"""The year in which a date without one is moved; the year itself is not written."""


class Surrogates:
    """The surrogates of one record. ``secret`` and ``key`` (the record's id) decide all of them."""

    def __init__(self, secret: bytes, key: str, shift_days: int) -> None:
        seed = hmac.new(secret, key.encode(), hashlib.sha256).digest()
        self._random = random.Random(seed)
        # A whole number of years would leave dates without a year where they were.
        days = self._random.choice([d for d in range(1, shift_days + 1) if d % 365 > 1] or [1])
        self.offset_days = days if self._random.random() < 0.5 else -days
        self._given: dict[tuple[str, str], str] = {}

    def __call__(self, text: str, span: Span) -> str:
        """What stands for the text of a span."""
        if span.kind == "DATE":
            return shifted(text, span.reason, self.offset_days)
        if span.kind == "AGE":
            return re.sub(r"\d+|[A-Za-z]+(?:[-\s](?:hundred|\w+?)(?=\s))?", "90+", text, count=1)
        if span.kind == "NAME":
            return _PART_OF_NAME.sub(lambda match: self._name_part(match[0]), text)
        plain = " ".join(text.casefold().split())
        key = (span.kind, plain)
        if key not in self._given:
            self._given[key] = _MAKERS.get(span.kind, _same_form)(self._random, text)
        return self._given[key]

    def _name_part(self, word: str) -> str:
        key = ("NAME", word.casefold())
        if key not in self._given:
            if len(word) == 1:
                made = self._random.choice("ABCDEFGHJKLMNPRSTW")
            else:
                used = set(self._given.values())
                names = [name for name in (*_FAMILY, *_GIVEN) if name not in used]
                made = self._random.choice(names or _FAMILY)
            self._given[key] = made
        made = self._given[key]
        return made.upper() if word.isupper() else made


_PART_OF_NAME = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")


def _same_form(draw: random.Random, text: str) -> str:
    """Another digit for a digit, another letter for a letter, the rest as it stands."""

    def other(match: re.Match[str]) -> str:
        kind = "0123456789" if match[0].isdigit() else "ABCDEFGHJKLMNPQRSTUVWXYZ"
        made = draw.choice(kind)
        return made.lower() if match[0].islower() else made

    return re.sub(r"[0-9A-Za-z]", other, text)


def _digits_into(text: str, digits: str) -> str:
    """The digits of a text replaced from the right; what is left over on the left becomes 0."""
    rest = list(digits)
    made = [(rest.pop() if rest else "0") if c.isdigit() else c for c in reversed(text)]
    return "".join(reversed(made))


def _social_security(draw: random.Random, text: str) -> str:
    return _digits_into(text, f"9{draw.randrange(10**8):08d}")


def _telephone(draw: random.Random, text: str) -> str:
    extension = re.search(r"\s?(?:ext?\.?|x|extension)\s?\d+$", text)
    number = text[: extension.start()] if extension else text
    made = _digits_into(number, f"1{draw.randrange(200, 999)}55501{draw.randrange(100):02d}")
    behind = extension[0] if extension else ""
    return made + re.sub(r"\d", lambda _: draw.choice("0123456789"), behind)


def _email(draw: random.Random, text: str) -> str:
    return f"user{draw.randrange(10**6):06d}@example.org"


def _url(draw: random.Random, text: str) -> str:
    return f"https://example.org/{draw.randrange(16**8):08x}"


def _ip(draw: random.Random, text: str) -> str:
    if ":" in text:
        return f"2001:db8::{draw.randrange(16**4):x}:{draw.randrange(16**4):x}"
    return f"192.0.2.{draw.randrange(1, 255)}"


def _address(draw: random.Random, text: str) -> str:
    return f"{draw.randrange(1, 999)} {draw.choice(_STREETS)} Street"


def _town(draw: random.Random, text: str) -> str:
    county = " County" if text.endswith("County") else ""
    hospital = " Hospital" if text.endswith(("Hospital", "Center", "Infirmary")) else ""
    return draw.choice(_TOWNS) + county + hospital


_MAKERS: dict[str, Callable[[random.Random, str], str]] = {
    "SSN": _social_security,
    "PHONE": _telephone,
    "FAX": _telephone,
    "EMAIL": _email,
    "URL": _url,
    "IP": _ip,
    "ADDRESS": _address,
    "PLACE": _town,
}


# --------------------------------------------------------------------------- dates


def shifted(text: str, reason: str, days: int) -> str:
    """A date as it is written, ``days`` later; ``[date]`` where it cannot be read as one."""
    date, time, rest = text.partition("T") if re.search(r"\dT\d\d:", text) else (text, "", "")
    if re.fullmatch(r"\d{8}", date):
        moved = _moved(int(date[:4]), int(date[4:6]), int(date[6:]), days)
        return moved.strftime("%Y%m%d") + time + rest if moved else "[date]"
    roles = _roles(date, reason)
    parts = list(_PART.finditer(date))
    values = {role: parts[index] for index, role in roles.items()}
    if "month" not in values:
        return "[date]"
    month = values["month"][0]
    number = int(month) if month.isdigit() else months.number(month)
    year = values["year"][0] if "year" in values else ""
    full_year = int(year) if len(year) == 4 else NO_YEAR if not year else _century(int(year))
    day = int(values["day"][0]) if "day" in values else 15
    moved = _moved(full_year, number, day, days)
    if moved is None:
        return "[date]"
    made, at = [], 0
    padded = len(parts[0][0]) == 4 or any(re.fullmatch(r"0\d", part[0]) for part in parts)
    for index, part in enumerate(parts):
        made.append(date[at : part.start()])
        at = part.end()
        role, word = roles.get(index), part[0]
        if role == "day":
            made.append(_number(word, moved.day, padded))
            suffix = re.match(r"(?:st|nd|rd|th)\b", date[at:])
            if suffix:
                made.append(_ordinal(moved.day))
                at += 2
            first = re.match(r"er\b|[°º]", date[at:], re.I)  # "1er juin", but "2 juin"
            if first:
                made.append(first[0] if moved.day == 1 else "")
                at += len(first[0])
        elif role == "month":
            made.append(
                _number(word, moved.month, padded)
                if word.isdigit()
                else months.named(word, moved.month, date)
            )
        elif role == "year":
            made.append(f"{moved.year:04d}" if len(word) == 4 else f"{moved.year % 100:02d}")
        elif role == "weekday":
            here = next(i for i, name in enumerate(_WEEKDAYS) if name[:3] == word[:3].capitalize())
            made.append(_named(word, _WEEKDAYS[(here + days) % 7]))
        elif not (
            word.lower() in ("st", "nd", "rd", "th", "er") and at == part.end() and made[-1] == ""
        ):
            made.append(word)
    return "".join(made) + date[at:] + time + rest


def _roles(date: str, reason: str) -> dict[int, str]:
    """Which part of a date's text is its year, month, day or weekday."""
    parts = [match[0] for match in _PART.finditer(date)]
    roles: dict[int, str] = {}
    for index, part in enumerate(parts):
        if part.isalpha() and months.number(part):
            roles[index] = "month"
        elif part.isalpha() and any(n[:3] == part[:3].capitalize() for n in _WEEKDAYS):
            roles[index] = "weekday"
        elif part.isdigit() and len(part) == 4:
            roles[index] = "year"
    numbers = [i for i, part in enumerate(parts) if part.isdigit() and i not in roles]
    if "month" in roles.values():
        names = ["day", "year"]
        year_stands = "year" in roles.values()
        if len(numbers) == 1 and not year_stands and re.search(r"['’]\d\d$", date):
            names = ["year"]
    else:
        # 15.01.2021 is written where the day comes first.
        day_first = roles.get(0) != "year" and (
            reason.startswith("day") or ("." in date and "/" not in date)
        )
        if len(numbers) >= 2 and int(parts[numbers[1]]) > 12:
            day_first = False
        elif len(numbers) >= 2 and int(parts[numbers[0]]) > 12:
            day_first = True
        names = ["day", "month"] if day_first else ["month", "day"]
        if "year" not in roles.values():
            names.append("year")
    roles.update(zip(numbers, names, strict=False))
    return roles


def _moved(year: int, month: int, day: int, days: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day) + datetime.timedelta(days)
    except (ValueError, OverflowError):
        if (month, day) == (2, 29):
            return _moved(year, 2, 28, days)
        return None


def _century(year: int) -> int:
    return 2000 + year if year < 50 else 1900 + year


def _number(word: str, number: int, padded: bool) -> str:
    return f"{number:02d}" if padded and len(word) == 2 else str(number)


def _ordinal(day: int) -> str:
    return "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")


def _named(word: str, name: str) -> str:
    """A weekday as long as the word is, in full or its first three letters, in the word's case."""
    made = name if word.capitalize() in _WEEKDAYS else name[:3]
    return made.upper() if word.isupper() else made
