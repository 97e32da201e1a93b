"""Street addresses, boxes and postal codes; towns, counties and hospitals by what stands around
them."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator

from meadowlark.curate.identifiers.cues import Cue, Cues
from meadowlark.curate.identifiers.span import Span
from meadowlark.curate.identifiers.words import COMMON

_CAPITAL = r"[A-Z][\w'’.-]*"
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Terrace|"
    r"Ter|Parkway|"
    r"Pkwy|Highway|Hwy|Circle|Cir|Square|Sq|Way|Close|Crescent|Cottages|Gardens|Grove|Row|Mews|"
    r"Walk|Alley|Trail|"
    r"Loop|Plaza)"
)
_STATE_NAMES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|"
    "Hawaii|Idaho|"
    "Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|"
    "Minnesota|"
    "Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|"
    "North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|South Carolina|"
    "South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia|Wisconsin|Wyoming"
).replace(" ", r"\s")
_STATE_CODES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|"
    "NY|NC|ND|"
    "OH|OK|OR|PA|PR|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC"
)
_UNIT_OF_HOUSE = r"(?:,?\s(?:Apt\.?|Apartment|Unit|Suite|Ste\.?|Flat|Room|\#)\s?[\w-]+)?"
_ADDRESSES: list[tuple[re.Pattern[str], int]] = [
    (
        re.compile(
            rf"(?:\bSuite\s\w+,\s)?(?<![\d.,/-])\b\d{{1,5}}[A-Z]?\s(?:(?:[NSEW]\.?|North|South|East|"
            rf"West)\s)?"
            rf"(?:(?:{_CAPITAL}|\d{{1,3}}(?:st|nd|rd|th))\s){{1,4}}{_STREET}\b(?:\.(?=,|\s[A-Z#]|"
            rf"$))?{_UNIT_OF_HOUSE}"
        ),
        Cue.SUITE | Cue.HOUSE_DIGITS,
    ),
    (re.compile(r"\b(?:P\.?\s?O\.?\s?Box|PO\sBOX|Post\sOffice\sBox)\s\d+"), Cue.BOX),
    (re.compile(r"\bRural\sRoute\s\d+(?:,?\sBox\s\d+)?|\bRR\s\d+,?\sBox\s\d+"), Cue.ROUTE),
    (
        re.compile(
            rf"(?<![\d.,/-])\b\d{{1,4}}\s(?:[Rr]ue|[Cc]alle|[Vv]ia|[Aa]venida|[Aa]v\.)\s(?:(?:de|des|"
            rf"del|la|las|los|du)\s)*{_CAPITAL}"
        ),
        Cue.HOUSE_DIGITS,
    ),
]
_CITY = r"(?:[A-Z][a-z'’-]+(?:\s[A-Z][a-z'’-]+){0,2})"
_PLACES = [
    re.compile(rf"\b({_CITY}),\s(?:{_STATE_NAMES})\b"),
    re.compile(rf"\b({_CITY}),?\s(?:{_STATE_CODES})(?=\s\d{{5}}\b)"),
    re.compile(
        rf"\b({_CITY}),\s(?!OR|IN|ME|OK|HI|OH|ID|MD|CO|DE|LA|MA|PA|AL)(?:{_STATE_CODES})(?=,|"
        rf"\.(?:\s|$)|$)"
    ),
    re.compile(r"\b([A-Z][a-z'’-]+(?:\s[A-Z][a-z'’-]+)?\sCounty)\b"),
    re.compile(r"\b((?:[A-Z][a-z'’.-]+\s){1,3}(?:Hospital|Medical\sCenter|Infirmary))\b"),
    re.compile(
        rf"\b(?:[Ll]ives\sin|[Rr]esident\sof|[Mm]oved\sfrom|[Mm]oved\sto|[Bb]orn\sin|"
        rf"[Ww]orks\s(?:\w+\s){{0,3}}in|from)\s({_CITY})(?=,|\.|\s(?:to|and|with|after)\s|$)"
    ),
]
_HOUSE = re.compile(r"\d{5}|\d[A-Z]?\s[A-Z\d]|\d\s(?:rue|calle|via|av)|[A-Z]\d|Box|BOX|[Cc]ode")
LARGE = re.compile(
    rf"{_STATE_NAMES}|(?:United\s)?(?:States|Kingdom|Arab\sEmirates)|America|Europe|Africa|Asia|"
    rf"Australia|"
    r"Canada|Mexico|Brazil|India|China|Japan|Korea|Vietnam|Thailand|Philippines|Nigeria|Kenya|"
    r"Ghana|Egypt|"
    r"Ethiopia|Somalia|England|Scotland|Wales|Ireland|France|Germany|Spain|Italy|Portugal|Poland|"
    r"Russia|"
    r"Ukraine|Sweden|Norway|Finland|Denmark|Greece|Turkey|Iran|Iraq|Israel|Syria|Pakistan|"
    r"Bangladesh|"
    r"Afghanistan|Nepal|Indonesia|Haiti|Cuba|Jamaica|Colombia|Peru|Argentina|Chile|Guatemala|"
    r"Honduras|"
    r"(?:.*\s)?(?:General|Children['’]s|Day|University|Psychiatric|Community|Local|"
    r"Teaching)\sHospital"
)
"""States, countries and kinds of hospital: too large, or too general, to identify anybody."""
_ZIP_OF_STATE = re.compile(
    rf"\b(?:{_STATE_CODES}|{_STATE_NAMES}),?\s(\d{{5}}(?:-\d{{4}})?)(?![\d-]|"
    rf"[.,]\d)(?!\s?[a-zµ%]{{1,5}}/)"
)
_ZIP_AFTER_LABEL = re.compile(r"\b(?:[Zz]ip|ZIP)(?:\s?[Cc]ode)?\s?[:\#]?\s?(\d{5}(?:-\d{4})?)\b")
_BRITISH = re.compile(
    r"(?:[Pp]ost(?:al)?\s?[Cc]ode\s?:?\s?|,\s|[A-Z][a-z]+\s)"
    r"([A-PR-UWYZ][A-HK-Y]?\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2})\b"
)
_CANADIAN = re.compile(r"\b([ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z]\s\d[ABCEGHJ-NPRSTV-Z]\d)\b")
_ZIP_IN_ADDRESS = re.compile(r"\b[Aa]ddress\b[^.;]{0,50},\s(\d{5})\s[A-Z]")
_CODE_AFTER_LABEL = re.compile(r"\b[Pp]ost(?:al)?\s?[Cc]ode\s?:?\s?((?=\w*\d)\w{4,8})\b")


_ANY_ADDRESS = (
    functools.reduce(operator.or_, (cue for _, cue in _ADDRESSES))
    | Cue.ZIP | Cue.ZIP_DIGITS | Cue.ADDRESS | Cue.POSTCODE | Cue.POSTCODE_DIGITS
)  # fmt: skip


def addresses(cues: Cues) -> Iterator[Span]:
    text = cues.text
    if not cues.bits & _ANY_ADDRESS or not _HOUSE.search(text):
        return
    for pattern, cue in _ADDRESSES:
        for match in cues.matches(pattern, cue):
            yield Span(*match.span(), "ADDRESS", "the form of a street address or box")
    for matches in (
        cues.matches_at(_ZIP_OF_STATE, _capitals_before(text, cues.at(Cue.ZIP_DIGITS))),
        cues.matches(_ZIP_AFTER_LABEL, Cue.ZIP),
        cues.whole(_BRITISH, Cue.POSTCODE_DIGITS),
        cues.whole(_CANADIAN, Cue.POSTCODE_DIGITS),
        cues.matches(_ZIP_IN_ADDRESS, Cue.ADDRESS),
        cues.matches(_CODE_AFTER_LABEL, Cue.POSTCODE),
    ):
        for match in matches:
            yield Span(*match.span(1), "ZIP", "a postal code by its place or label")


def _capitals_before(text: str, places: list[int]) -> set[int]:
    """Where a state may begin that stands before a postal code: it has 16 letters at most, its
    comma included."""
    return {
        start for place in places for start in range(max(0, place - 20), place)
        if text[start].isupper()
    }  # fmt: skip


def places(text: str) -> Iterator[Span]:
    for pattern in _PLACES:
        for match in pattern.finditer(text):
            start = match.start(1)
            words = match[1].split()
            while words and words[0] in COMMON:
                start += len(words.pop(0)) + 1
            if words and not LARGE.fullmatch(" ".join(words)):
                yield Span(
                    start, match.end(1), "PLACE", "a town, county or hospital by its context"
                )
