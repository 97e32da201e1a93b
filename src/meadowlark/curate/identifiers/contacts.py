"""Addresses of the net, and telephone and fax numbers, by their form or their label."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meadowlark.curate.identifiers.cues import Cue, Cues
from meadowlark.curate.identifiers.medicine import NOT_UNIT
from meadowlark.curate.identifiers.span import Span

_EMAIL = re.compile(r"[A-Za-z0-9][\w.+'%-]*@[A-Za-z0-9](?:[\w-]*\.)+[A-Za-z]{2,}")
_URL = re.compile(
    r"\b(?:https?|ftp)://[^\s<>\"]*[^\s<>\".,;:)!?']|"
    r"\bwww\.[a-z0-9-]+(?:\.[a-z0-9-]+)+(?:/[^\s<>\"]*[\w/])?"
    r"|\b(?:[a-z0-9-]{2,}\.)+(?:com|org|net|edu|info|io|co|uk|de|fr|ca|au|eu|us|example|health|app)"
    r"/[^\s<>\"]*[\w/]",
    re.I,
)
_QUAD = re.compile(
    r"(?<![\w.-])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.-]*\d)"
)
_IP_CONTEXT = re.compile(
    r"(?:\bIPv?[46]?\b|address|host|server|client|log ?in|logged|session|from|source|device|"
    r"ip=)[^.]{0,20}$",
    re.I,
)
_IPV6 = re.compile(
    r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?![\w:])"
    r"|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){1,6}(?::[0-9A-Fa-f]{1,4}){1,6}(?![\w:])"
)


_NET = Cue.EMAIL | Cue.WEB | Cue.QUAD_DIGITS | Cue.IPV6


def net(cues: Cues) -> Iterator[Span]:
    if not cues.bits & _NET:
        return
    text = cues.text
    for match in cues.whole(_EMAIL, Cue.EMAIL):
        yield Span(*match.span(), "EMAIL", "the form of an e-mail address")
    for match in cues.whole(_URL, Cue.WEB):
        yield Span(*match.span(), "URL", "the form of a web address")
    for match in cues.matches(_QUAD, Cue.QUAD_DIGITS):
        large = sum(int(part) >= 100 for part in match[0].split("."))
        if large or _IP_CONTEXT.search(text[max(0, match.start() - 40) : match.start()]):
            yield Span(*match.span(), "IP", "four numbers below 256")
    for match in cues.whole(_IPV6, Cue.IPV6):
        yield Span(*match.span(), "IP", "the form of an IPv6 address")


_PHONE = re.compile(
    r"(?<![\w.,/-])(?:"
    r"(?:\+?1[-. ]?)?\(\d{3}\)[-. ]{0,2}\d{3}[-. ]\d{4}"  # (555) 013-4482
    r"|(?:\+?1[-. ])?\d{3}([-. ])\d{3}\1\d{4}"  # 555-013-4482, the same sign twice
    r"|\d{3}\)\s?\d{3}-\d{4}"
    r"|\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,5}"  # +44 7700 900461
    r"|\(0\d{1,4}\)\s?\d{3,4}[ -]?\d{3,4}"  # (03) 5550 4471
    r"|0\d{2,4} \d{3,4} \d{3,4}"  # 020 7946 0821
    r")(?:\s?(?:ext?\.?|x|extension)\s?\d{1,5})?(?![\w]|[-/]\d|[.,]\d)" + NOT_UNIT
)
_PHONE_AFTER_LABEL = re.compile(
    r"(?<![\w.,/-])(?:\+?1[-. ]?)?(?:\(?\d{3}\)?[-. ]{0,2})?\d{3}[-. ]?\d{4}(?:\s?(?:ext?\.?|"
    r"x)\s?\d{1,5})?(?![\w-]|[.,/]\d)" + NOT_UNIT
)
_PHONE_LABEL = re.compile(
    r"(?:\b(?:[Pp]hone|PHONE|[Tt]el(?:ephone)?|TEL|[Cc]ell(?:\sphone)?|[Mm]obile|[Pp]ager|"
    r"[Bb]eeper|[Pp]h|"
    r"[Cc]all(?:ed)?|[Tt]ext\s(?:him|her|them|me|us)|[Rr]each(?:ed)?|[Rr]ing|[Cc]ontact|"
    r"[Vv]oicemail|[Hh]otline|"
    r"T(?=:))\b|(?:[Nn]umber|[Nn]o\.?)\sis|(?:[Hh]er|[Hh]is|[Mm]y)\s[Nn]umber)"
    r"(?:\s?(?:\#|[Nn]o\.?|[Nn]umber|at|on|is|him|her|me|us|the\s\w+\sat|"
    r"after))*\s?[:\#.(]*\s{0,2}$"
)
_PHONE_GROUPS = re.compile(
    r"(?<![\w.,/-])\(?\d{2,5}\)?(?:[ .-]\(?\d{2,6}\)?){1,5}(?![\w-]|[.,/]\d)" + NOT_UNIT
)
_PHONE_NAMED = re.compile(
    r"\b(?:[Pp]hone|PHONE|[Tt][eé]l(?:e(?:ph|f)one?|\.)?|TEL|[Cc]ell\sphone|[Mm]obile|MOBILE|[Ww]hats"
    r"[Aa]pp)\b\.?(?:\s(?:[Nn]o\.?|[Nn]umber|is))*\s?[:\#(]{0,2}\s{0,2}$"
)
"""Groups of digits as other countries write them count behind nothing but these."""
_FAX_BEFORE = re.compile(r"(?:\b(?:[Ff]ax|FAX|[Ff]acsimile)\b[^.;\d]{0,40}|\bF:\s*)$")
_FAX_LABEL = re.compile(
    r"\b(?:[Ff]ax|FAX|[Ff]acsimile)\b(?:[^.;\d]|"
    r"[Nn]o\.){0,12}?[:\#.]?\s?((?:\(?\d{3}\)?[-. ]?)?\d{3}[-. ]?\d{4})\b"
)


_PAGER = re.compile(
    r"(?<![A-Za-z])(?:[Pp]ager|PAGER|[Bb]eeper|[Bb]leep|[Pp]gr|[Ee]xt(?=[.:]|\s?\#)|"
    r"[Ee]xtension(?=\s?[:\#]|\s[Nn]))\b\.?(?:\s(?:is|at|on))?\s?(?:[Nn]o\b\.?|[Nn]umber\b)?"
    r"\s?[:\#]?\s?(\d{4,6}|\d\d-\d{4})(?!\w|%|[-.,/]\d|\s?Nm)" + NOT_UNIT
)
_TELEPHONE = re.compile(
    r"(?<![A-Za-z])(?:[Tt]el|TEL|[Tt]elefon)\b\.?\s?:?\s?"
    r"(\(?0\d{1,5}\)?\s?/\s?\d[\d -]{3,10}\d)(?!\w|[-.,/]\d)"
)
"""An area, a slash, a number, as in German."""


def pagers(cues: Cues) -> Iterator[Span]:
    """Numbers too short for a form of their own, and those whose form is also a ratio's."""
    for match in cues.matches(_PAGER, Cue.PAGER):
        yield Span(*match.span(1), "PHONE", "digits after the label")
    for match in cues.matches(_TELEPHONE, Cue.TELEPHONE):
        yield Span(*match.span(1), "PHONE", "digits after the label")


_FOUR_DIGITS = re.compile(r"\d{2}[ -]?\d{2}")


def phones(cues: Cues) -> Iterator[Span]:
    text = cues.text
    if not cues.bits & (Cue.PHONE_DIGITS | Cue.FAX) or not _FOUR_DIGITS.search(text):
        return
    for match in cues.matches(_PHONE, Cue.PHONE_DIGITS):
        kind = (
            "FAX"
            if _FAX_BEFORE.search(text[max(0, match.start() - 60) : match.start()])
            else "PHONE"
        )
        yield Span(*match.span(), kind, "the form of a telephone number")
    for match in cues.matches(_FAX_LABEL, Cue.FAX):
        yield Span(*match.span(1), "FAX", "digits after the label")
    for match in cues.matches(_PHONE_AFTER_LABEL, Cue.PHONE_DIGITS):
        if _PHONE_LABEL.search(text, max(0, match.start() - 40), match.start()):
            yield Span(*match.span(), "PHONE", "digits after the label")
    for match in cues.matches(_PHONE_GROUPS, Cue.PHONE_DIGITS):
        digits = sum(character.isdigit() for character in match[0])
        if 7 <= digits <= 13 and _PHONE_NAMED.search(
            text, max(0, match.start() - 40), match.start()
        ):
            yield Span(*match.span(), "PHONE", "digits after the label")
