"""Values behind a label: record, account, licence, device and other numbers, social security
numbers.

"MRN: 00482913" is one because of its label; a count, a dose or a word behind it is none.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterator
from typing import NamedTuple

from meadowlark.curate.identifiers.cues import Cue, Cues
from meadowlark.curate.identifiers.medicine import UNIT
from meadowlark.curate.identifiers.span import Span

_LINK = (
    r"(?:['’]s)?\s?(?:\(?\b(?:ID|Id|id)\b\)?)?\s?(?:[Nn]umbers?|[Nn]um\b\.?|[Nn]os?\b\.?|NO\.?|"
    r"[Ii]dentifiers?|"
    r"[Cc]ode)?\s?(?:\(?\b(?:ID|Id|id)\b\)?)?(?:\s(?:is|was|ending\sin))?\s?[:=\#]*\s?\#?\s?"
)
_WORD = r"[A-Za-z0-9][A-Za-z0-9/.*_-]*"


class _Label(NamedTuple):
    """A label before a value: it begins at its ``cue``; the value needs so many ``digits``, and,
    unless ``sure``, a "no.", "#" or ":" to count with fewer."""

    kind: str
    cue: int
    pattern: re.Pattern[str]
    digits: int
    sure: bool


def _label(kind: str, cue: int, names: str, digits: int, sure: bool) -> _Label:
    pattern = re.compile(
        rf"(?<![A-Za-z])(?:{names})(?P<link>{_LINK})(?!(?:is|was)\b)(?={_WORD}|\()"
    )
    return _Label(kind, cue, pattern, digits, sure)


_LABELS = [
    _label(
        "MRN",
        Cue.MRN,
        r"MRN|mrn|M\.R\.N\.|[Mm]ed(?:ical)?\.?\s?[Rr]ec(?:ord)?s?\.?|MEDICAL\sRECORD|UR\sNo\.?|"
        r"[Hh]ospital(?=\s(?:[Nn]o|[Nn]um|ID))|[Hh]osp\.?(?=\s[Nn]o)|[Uu]nit(?=\s(?:[Nn]o\b|"
        r"[Nn]umber))|"
        r"[Pp]atient(?=\s(?:ID|[Nn]o\b|[Nn]umber|[Ii]dentifier|\#))|(?:Pt|pt)\.?(?=\s?(?:ID|\#))",
        3,
        True,
    ),
    _label("MRN", Cue.CHART, r"[Cc]hart|[Rr]ecord|EMR|EHR|URN|HN|CHI", 4, False),
    _label(
        "HEALTH_PLAN",
        Cue.HEALTH_PLAN,
        r"[Mm]ember(?=\s?(?:ID|[Nn]o\b|[Nn]umber|\#))|[Ss]ubscriber(?=\s?(?:ID|[Nn]o\b|[Nn]umber|"
        r"\#))|"
        r"[Bb]eneficiary(?=\s?(?:ID|[Nn]o\b|[Nn]umber|\#))|[Ii]nsured(?=['’]s\s)|"
        r"[Ss]ponsor(?=\sID)|"
        r"MBI|HICN|[Mm]edicare(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|[Mm]edicaid(?=\s?(?:ID|[Nn]o\b|"
        r"[Nn]umber|\#))|"
        r"(?:[Ii]nsurance\s)?[Pp]olicy(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"[Ii]nsurance(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"[Hh]ealth\s(?:[Pp]lan|[Cc]ard)(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"[Pp]rior\s[Aa]uth(?:ori[sz]ation)?\.?(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"(?:Aetna|Cigna|Humana|Anthem|Kaiser|Tricare|TRICARE|BCBS|UHC|"
        r"UnitedHealthcare)(?=\s(?:ID|[Nn]o\b|\#))",
        4,
        True,
    ),
    _label("HEALTH_PLAN", Cue.GROUP, r"[Gg]roup|GRP|[Pp]lan|[Pp]olicy", 5, False),
    _label(
        "ACCOUNT",
        Cue.ACCOUNT,
        r"(?:[Bb]ank\s|[Bb]illing\s|[Cc]hecking\s|[Gg]uarantor\s|[Pp]atient\s|"
        r"[Ss]avings\s)(?:[Aa]ccount|[Aa]cct\.?)|"
        r"[Aa]cct\.?|[Aa]ccount(?=\s?(?:[Nn]o\b|[Nn]umber|\#|:))|IBAN|[Ii]nvoice|FIN(?=:|\s\#)|HAR|"
        r"(?:[Cc]redit|[Dd]ebit)\s[Cc]ard|Visa|VISA|Master[Cc]ard|Amex|American\sExpress",
        4,
        True,
    ),
    _label(
        "LICENCE",
        Cue.LICENCE,
        r"DEA|NPI|(?:[Dd]river['’]?s?['’]?\s|[Mm]edical\s|[Nn]ursing\s|[Ss]tate\s|[Pp]harmacy\s|"
        r"[Pp]ilot\s)*"
        r"[Ll]icen[cs]e(?!\splate)|(?:[Ss]tate\s)?[Ll]ic\.?|DL|CDL|GMC|CLIA|NMC|"
        r"(?:[A-Za-z]+\s)?[Cc]ertificate|[Pp]ermit|RN(?=\s\d)",
        4,
        True,
    ),
    _label(
        "VEHICLE",
        Cue.VEHICLE,
        r"VIN|[Vv]ehicle\s[Ii]dentification|[Ll]icen[cs]e\s[Pp]lates?|[Nn]umber\s[Pp]lates?|"
        r"[Pp]lates?|"
        r"(?:[Cc]ar\s|[Vv]ehicle\s)?(?:[Rr]egistration|[Rr]eg\.?)|[Tt]ag",
        2,
        True,
    ),
    _label(
        "DEVICE",
        Cue.DEVICE,
        r"[Ss]erial|S/N|s/n|SN(?=\s?[:\#\d])|[Ll]ot|UDI|[Aa]sset\s[Tt]ag|[Ii]mplant(?=\s(?:ID|"
        r"[Nn]o\b|[Nn]umber))|"
        r"[Dd]evice(?=\s(?:ID|[Nn]o\b|[Nn]umber|[Ii]dentifier|\#))|[Mm]onitor(?=\s(?:ID|[Nn]o\b|"
        r"[Nn]umber|\#))|"
        r"[Pp]ump(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))",
        4,
        True,
    ),
    _label(
        "BIOMETRIC",
        Cue.BIOMETRIC,
        r"[Ff]ingerprint(?:\s[Tt]emplate)?|[Vv]oiceprint|[Rr]etinal\s[Ss]can|"
        r"[Ii]ris\s[Ss]can(?:\s[Rr]ecord)?|"
        r"[Pp]alm\s[Vv]ein|[Ff]ace(?:\s[Tt]emplate)(?=\sID)|DNA\s[Pp]rofile",
        4,
        True,
    ),
    _label(
        "OTHER_ID",
        Cue.OTHER_ID,
        r"[Aa]ccession|[Ee]ncounter|CSN|NHS|[Pp]assport|[Ss]ubject|Rx|[Pp]rescription|[Ss]pecimen|"
        r"[Oo]rder|"
        r"[Dd]onor|[Ii]nmate|(?:[Mm]ilitary|[Ss]tudent|[Nn]ational|[Ee]mployee|"
        r"[Vv]oter)(?=\s(?:ID|[Nn]o\b|[Nn]umber))|"
        r"[Cc]laim|[Rr]eference(?!\srange)|[Cc]ase|[Jj]ob|[Bb]adge|[Ss]ervice(?=\s[Nn]umber)|"
        r"[Vv]isit|"
        r"[Tt]icket|[Tt]racking",
        4,
        False,
    ),
]
# Of other countries: their words and abbreviations are also others', so they need more digits.
_LABELS += [
    _label(
        "MRN",
        Cue.CHART_ABROAD,
        r"(?:MR(?=\s?(?:\#|[Nn]o\b|[Nn]umber))|[Hh]ospital(?=\s?\#)|UHID|[Hh]istoria\s[Cc]línica|NHC|"
        r"IPP|[Dd]ossier|[Pp]atientennummer|[Ff]allnummer|[Pp]rontuário|[Cc]artella\s[Cc]linica|"
        r"[Pp]atiëntnummer)(?:\s[Nn](?:[º°]|úm)?\.?(?=\s))?",
        5,
        False,
    ),
    _label(
        "OTHER_ID",
        Cue.NATIONAL,
        r"A(?:adhaar|ADHAAR)|aadhaar|UIDAI|DNI|NIE|CPF|BSN|NI(?=\s[Nn])|[Nn]ational\s[Ii]nsurance|"
        r"CURP|[Cc]odice\s[Ff]iscale|AHV(?:-Nr\.?)?|[Ii]dentity\s[Cc]ard",
        7,
        False,
    ),
    _label(
        "SSN",
        Cue.NATIONAL,
        r"SIN(?=[\s:\#])|[Ss]ocial\s[Ii]nsurance|[Nn]uméro\sde\s[Ss]écurité\s[Ss]ociale",
        9,
        False,
    ),
    _label(
        "HEALTH_PLAN",
        Cue.NATIONAL,
        r"[Hh]ealth\s[Cc]ard|OHIP|RAMQ|PHN|[Vv]ersichertennummer",
        8,
        False,
    ),
]
_VALUE = re.compile(
    r"(?:\(\d\d\)[\w()]+)|[A-Za-z0-9*]+(?:[-/.–_][A-Za-z0-9*]+)*"  # one run, or more of them:
    r"(?:\s(?:(?=[A-Z]*\d)[A-Z0-9]+(?:-[A-Z0-9]+)*|[A-Z]{1,3})(?![A-Za-z]))*"
)
_SOME_DIGITS = re.compile(r"\d\S?\d")
_SSN_LABEL = re.compile(
    r"\b(?:SSN|ssn|SS\s?\#|S\.S\.N\.|[Ss]oc(?:ial)?\.?\s?[Ss]ec(?:urity)?\.?|TIN)"
    r"(?:/SSN)?\s?(?:[Nn]umber|[Nn]o\b\.?)?\s?(?:is|"
    r"was)?\s?[:=\#]*\s?(\d{3}[- .]?\d{2}[- .]?\d{4})\b"
)
_SSN_NAMED = re.compile(r"\b(?:SSN|[Ss]ocial [Ss]ecurity)")
_SSN_ANY = re.compile(r"(?<![\d-])\d{3}[- ]\d{2}[- ]\d{4}(?![\d-])")
_SSN_BARE = re.compile(r"(?<![\w.-])(?!000|666)[0-8]\d\d-(?!00)\d\d-(?!0000)\d{4}(?![\w-])")


_ANY_LABEL = functools.reduce(operator.or_, (label.cue for label in _LABELS), Cue.LICENCE_WORD)


def labelled(cues: Cues) -> Iterator[Span]:
    text = cues.text
    if not cues.bits & _ANY_LABEL or not _SOME_DIGITS.search(text):
        return
    for kind, cue, pattern, digits, sure in _LABELS:
        # Before "licence" and "certificate" other words may belong to the label.
        apart = cue == Cue.LICENCE and cues.bits & Cue.LICENCE_WORD
        for match in pattern.finditer(text) if apart else cues.matches(pattern, cue):
            link = match["link"]
            linked = bool(re.search(r"[:=#]|[Nn]o\b|[Nn]umber|[Ii]dentifier|I[Dd]\b|\bid\b", link))
            if not (sure or linked) and re.search(r"\b(?:is|was)\b", link):
                continue  # "the order was 1234"
            position: int | None = match.end()
            while position is not None:
                value = _VALUE.match(text, position)
                end = value and _value_end(text, value, digits, sure or linked, kind)
                if not value or not end:
                    break
                yield Span(value.start(), end, kind, f"after {short(match[0])!r}")
                more = re.compile(r"(?:,|;|\sand)\s(?=[A-Z0-9-]*\d[A-Z0-9-]*\d)").match(text, end)
                position = more.end() if more and kind == "OTHER_ID" and linked else None


def _value_end(text: str, value: re.Match[str], digits: int, linked: bool, kind: str) -> int | None:
    """Where a labelled value ends; None where it looks like a word, a count or a measurement."""
    raw = value[0]
    # Of words in capitals only a letter belongs to the value, or a number plate's three.
    parts = raw.split(" ")
    longest = 3 if kind == "VEHICLE" else 1
    for index, part in enumerate(parts[1:], start=1):
        if part.isalpha() and len(part) > longest:
            parts = parts[:index]
            break
    raw = " ".join(parts)
    if kind == "HEALTH_PLAN" and linked and parts[0].isalpha() and len(parts) == 1:
        return None
    count = sum(c.isdigit() for c in raw)
    letters = any(c.isalpha() for c in raw)
    if count < (digits if not (linked and letters) else min(digits, 3)):
        return None
    if parts[0].isalpha() and parts[0].islower():
        return None
    end = value.start() + len(raw)
    if not letters and re.match(UNIT, text[end : end + 12]):
        return None
    if not linked and re.match(r"[,.]\d", text[end : end + 2]):
        return None
    if re.fullmatch(r"(?:19|20)\d\d", raw) and not linked:
        return None
    return end


def short(label: str) -> str:
    """A label as a reason names it."""
    return label.strip(" :=#").lower()[:30]


def social_security(cues: Cues) -> Iterator[Span]:
    if not cues.bits & (Cue.SSN | Cue.SSN_DIGITS):
        return
    text = cues.text
    for match in cues.matches(_SSN_LABEL, Cue.SSN):
        yield Span(*match.span(1), "SSN", "nine digits after the label")
    for match in cues.matches(_SSN_BARE, Cue.SSN_DIGITS):
        yield Span(*match.span(), "SSN", "the form 123-45-6789")
    if cues.bits & Cue.SSN and _SSN_NAMED.search(text):
        for match in _SSN_ANY.finditer(text):
            yield Span(*match.span(), "SSN", "the form of one, in a text that names them")
