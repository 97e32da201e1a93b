"""Names of people that a title, a role, a label or a degree announces."""

from __future__ import annotations

import re
from collections.abc import Iterator

from meadowlark.curate.identifiers.span import Span
from meadowlark.curate.identifiers.words import COMMON

_NAME = (
    r"(?:(?:[A-Z]\.\s?)*(?:[A-Z]['’])?[A-Z][a-zà-ÿ]+(?:[A-Z][a-zà-ÿ]+)?"
    r"(?:-[A-Z][a-zà-ÿ]+)*(?!['’]\w))"
)
_NAMES = rf"{_NAME}(?:\s(?:[A-Z]\.\s?|van\s|von\s|de\s|del\s|la\s|al-)*{_NAME}){{0,2}}"
_TWO = rf"{_NAME}(?:\s(?:[A-Z]\.\s?|van\s|von\s|de\s|del\s|la\s|al-)*{_NAME}){{1,2}}"
_UPPER = r"[A-Z][A-Z'’-]{2,},\s[A-Z](?:[A-Z]+|\.)?(?:\s[A-Z]\b\.?)?"
_COMMA = rf"{_NAME},\s{_NAME}(?:\s[A-Z]\b\.?)?"
_TITLES = frozenset("Mr Mrs Ms Miss Mx Dr Prof Sgt Rev Capt Lt Officer Nurse".split())
_KIN = (
    r"(?:mother|father|sister|brother|son|daughter|husband|wife|partner|neighbou?r|landlord|"
    r"care-?giver|"
    r"aunt|uncle|grand(?:mother|father|son|daughter)|guardian|friend)"
)
_NAME_CUES = [
    (
        re.compile(rf"\b(?:Mrs|Mr|Ms|Miss|Mx|Sgt|Rev|Capt|Lt|Officer|Nurse)\b\.?\s({_NAMES})"),
        "after a title",
    ),
    (re.compile(rf"\b(?:Dr|Prof|Professor)\b\.?\s({_NAMES})"), "after a doctor's title"),
    (
        re.compile(
            r"\b(?:NAME|Name|RE|Attending|Surgeon|Assistant|Provider|Referred\sby|Physician|"
            r"Next\sof\skin|"
            r"Emergency\scontact|Guardian|PCP|cc|Signed|Dictated\sby|Interpreter|Patient\sname)"
            rf"\s?(?::|\sis\b)\s?(?:Dr\.?\s)?({_UPPER}|{_COMMA}|{_NAMES})"
        ),
        "after a label",
    ),
    (
        # In a dialogue "Patient: Okay" names nobody; two words or "surname, given name" do.
        re.compile(rf"\b(?:Patient|PATIENT|Pt|Re)\s?:\s?({_UPPER}|{_COMMA}|{_TWO})"),
        "after a label",
    ),
    (
        re.compile(rf"\b(?:Patient|DISCHARGE\sSUMMARY|Pt)\s({_UPPER}|{_COMMA})"),
        "surname, given name",
    ),
    (
        re.compile(rf"\b({_NAMES}),\s(?:M\.?D|D\.?O|N\.?P|PA-C|R\.?N|Ph\.?D|MBBS|FRCS)\b(?!\s\d)"),
        "before a degree",
    ),
    (
        re.compile(
            rf"\b(?:[Ss]poke\swith|[Ss]igned\sby|[Cc]aller|[Ss]een\sby|[Rr]eferred\sby|goes\sby|"
            rf"[Tt]hank\syou,|[Ss]incerely,|[Rr]egards,)\s({_NAMES})"
        ),
        "after a role",
    ),
    (re.compile(rf"\b(?i:{_KIN}),\s({_NAMES})(?=,|\.|\s-|\)|$)"), "after a relation"),
    (
        re.compile(rf"\b(?i:his|her|my|their|the\spatient['’]s)\s(?i:{_KIN})\s({_TWO})"),
        "after a relation",
    ),
    (re.compile(rf"^\W*(?i:{_KIN})\s({_NAMES})"), "after a relation"),
    (re.compile(rf"[Pp]atient['’]s\sname\sis\s({_NAMES})"), "after a label"),
]
EPONYMS = frozenset(
    """Addison Alport Alzheimer Apgar Asperger Babinski Barrett Bartholin Becker Behcet Bell Bishop
    Bowen Bright Brown Buerger Burkitt Charcot Chiari Chvostek Cohn Conn Cooley Crohn Cushing
    Doppler Down Dressler Duchenne Dupuytren Ebstein Ehlers Danlos Epstein Barr Ewing Fallot Fanconi
    Foley Fournier Gaucher Gilbert Glasgow Goodpasture Gram Graves Guillain Hashimoto Hodgkin Horner
    Huntington Jackson Kaposi Kawasaki Kegel Klinefelter Koch Kussmaul Lister Lynch Marfan McBurney
    Meckel Meniere Mohs Moro Murphy Osler Paget Pap Papanicolaou Parkinson Pasteur Peyronie Pott
    Raynaud Reiter Rett Reye Romberg Roux Sabin Salk Sjogren Snellen Still Tourette Trendelenburg
    Turner Virchow Weber Whipple Wilson Wilms""".split()
)
"""Names that medicine uses for diseases, signs and tests: found behind Mr or a label, but neither
behind Dr (who may have lived long ago) nor again elsewhere in a record."""


def names(text: str) -> Iterator[Span]:
    for pattern, reason in _NAME_CUES:
        for match in pattern.finditer(text):
            words = re.split(r"\s", match[1])
            start, kept = match.start(1), []
            while words and words[0].strip(".") in _TITLES:
                start += len(words.pop(0)) + 1
            for word in words:
                if word.strip(".,") in COMMON or word.partition("-")[0] in COMMON:
                    break
                kept.append(word)
            if reason == "after a doctor's title" and kept and kept[-1].strip(".,") in EPONYMS:
                continue
            if kept and any(len(word) > 1 for word in kept):
                end = start + len(" ".join(kept))
                yield Span(start, end - (text[end - 1] in ",;"), "NAME", reason)
