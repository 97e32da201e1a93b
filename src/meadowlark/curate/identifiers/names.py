"""Names of people that a title, a role, a label or a degree announces."""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Iterable, Iterator

from meadowlark.curate.identifiers.cues import Cue, Cues
from meadowlark.curate.identifiers.places import LARGE
from meadowlark.curate.identifiers.span import Span
from meadowlark.curate.identifiers.words import COMMON, GIVEN

_NAME = (
    r"(?:(?:[A-Z]\.\s?)*(?:[A-Z]['’])?[A-Z][a-zà-ÿ]+(?:[A-Z][a-zà-ÿ]+)?"
    r"(?:-[A-Z][a-zà-ÿ]+)*(?!['’]\w))"
)
_PARTICLE = r"(?:van\s(?:de[rn]?\s)?|von\s(?:der\s)?|de\s(?:la\s)?|del\s|di\s|al-)?"
_NAMES = rf"{_NAME}(?:\s(?:[A-Z]\.\s?|van\s|von\s|de\s|del\s|la\s|al-)*{_NAME}){{0,2}}"
_TWO = rf"{_NAME}(?:\s(?:[A-Z]\.\s?|van\s|von\s|de\s|del\s|la\s|al-)*{_NAME}){{1,2}}"
_UPPER = r"[A-Z][A-Z'’-]{2,},\s[A-Z](?:[A-Z]+|\.)?(?:\s[A-Z]\b\.?)?"
_COMMA = rf"{_NAME},\s{_NAME}(?:\s[A-Z]\b\.?)?"
_CAPITALS = r"[A-Z][A-Z'’-]+(?:\s[A-Z]\b\.?)?(?:\s[A-Z][A-Z'’-]+){0,2}\b(?!['’]?[a-z])"
_GIVEN_CAPITALS = (
    rf"(?:{'|'.join(name.upper() for name in GIVEN)})(?:\s[A-Z]\b\.?)?"
    r"\s[A-Z][A-Z'’-]+\b(?!['’]?[a-z])"
)
"""A name in capitals; where nothing else says that it is one, its given name must."""
_TITLES = frozenset("Mr Mrs Ms Miss Mx Dr Prof Sgt Rev Capt Lt Officer Nurse".split())
_KIN = (
    r"(?:mother|father|sister|brother|son|daughter|husband|wife|partner|neighbou?r|landlord|"
    r"care-?giver|"
    r"aunt|uncle|grand(?:mother|father|son|daughter)|guardian|friend)"
)
_NAMED: list[tuple[re.Pattern[str], int, str]] = [
    (
        re.compile(
            rf"\b(?:Mrs|Mr|Ms|Miss|Mx|Sgt|Rev|Capt|Lt|Officer|Nurse)\b\.?\s({_PARTICLE}{_NAMES})"
        ),
        Cue.TITLE,
        "after a title",
    ),
    (
        re.compile(rf"\b(?:Dr|Prof|Professor)\b\.?\s({_PARTICLE}{_NAMES})"),
        Cue.DOCTOR,
        "after a doctor's title",
    ),
    (
        # In capitals MS is a disease, MR a valve's or an image, DR one of the eye.
        re.compile(
            rf"\b(?:(?:Mrs|Mr|Ms|Mx)\b\.?\s({_CAPITALS})|MRS\b\.?\s({_CAPITALS})"
            rf"|(?:MR|MS|MX)\b\.?\s({_GIVEN_CAPITALS})|MR\.\s({_CAPITALS})(?=,|\s(?:WAS|IS|HAS|HAD|DEN|REPORT|STATE|COMPL|PRESENT|RETURN|CAME)))"
        ),
        Cue.TITLE,
        "after a title",
    ),
    (
        re.compile(rf"\b(?:(?:Dr|Prof)\b\.?\s({_CAPITALS})|(?:DR|PROF)\b\.?\s({_GIVEN_CAPITALS}))"),
        Cue.DOCTOR,
        "after a doctor's title",
    ),
    (
        re.compile(
            rf"\b(?:PATIENT|Patient)\s(?:NAME|[Nn]ame)\s?[:–-]\s?({_UPPER}|{_COMMA}|{_CAPITALS}|"
            rf"{_NAMES}|[a-z][a-z'’-]+,\s[a-z][a-z'’-]+)"
        ),
        Cue.PATIENT,
        "after a label",
    ),
    (
        re.compile(rf"\b(?:PATIENT|Patient|Pt|PT)\s?[:–-]?\s({_GIVEN_CAPITALS})"),
        Cue.PATIENT,
        "after a label",
    ),
    (
        re.compile(
            rf"\b(?i:signed\sby|seen\sby|referred\sby|spoke\swith)\s?:?\s({_GIVEN_CAPITALS}|{_NAMES})"
        ),
        Cue.ROLE,
        "after a role",
    ),
    (
        re.compile(
            rf"\b({_GIVEN_CAPITALS})\s(?:WAS|IS|HAS|HAD|PRESENT(?:S|ED)|REPORT(?:S|ED)|DEN(?:IES|IED)|"
            r"STATE[SD]|COMPLAIN(?:S|ED)|RETURN(?:S|ED)|UNDERWENT|LIVES)\b"
        ),
        Cue.GIVEN,
        "a given name and a surname before a verb",
    ),
    (
        re.compile(rf"\b(?i:his|her|my|their)\s(?i:{_KIN})\s((?:{'|'.join(GIVEN)})\b)"),
        Cue.RELATION,
        "after a relation",
    ),
    (
        re.compile(
            r"\b(?:NAME|Name|RE|Attending|Surgeon|Assistant|Provider|Referred\sby|Physician|"
            r"Next\sof\skin|"
            r"Emergency\scontact|Guardian|PCP|cc|Signed|Dictated\sby|Interpreter|Patient\sname)"
            rf"\s?(?::|\sis\b)\s?(?:Dr\.?\s)?({_UPPER}|{_COMMA}|{_NAMES})"
        ),
        Cue.NAME_LABEL,
        "after a label",
    ),
    (
        # In a dialogue "Patient: Okay" names nobody; two words or "surname, given name" do.
        re.compile(rf"\b(?:Patient|PATIENT|Pt|Re)\s?:\s?({_UPPER}|{_COMMA}|{_TWO})"),
        Cue.PATIENT,
        "after a label",
    ),
    (
        re.compile(rf"\b(?:Patient|DISCHARGE\sSUMMARY|Pt)\s({_UPPER}|{_COMMA})"),
        Cue.PATIENT,
        "surname, given name",
    ),
    (
        re.compile(rf"\b({_NAMES}),\s(?:M\.?D|D\.?O|N\.?P|PA-C|R\.?N|Ph\.?D|MBBS|FRCS)\b(?!\s\d)"),
        Cue.DEGREE,
        "before a degree",
    ),
    (
        re.compile(
            rf"\b(?:[Ss]poke\swith|[Ss]igned\sby|[Cc]aller|[Ss]een\sby|[Rr]eferred\sby|goes\sby|"
            rf"[Tt]hank\syou,|[Ss]incerely,|[Rr]egards,)\s({_NAMES})"
        ),
        Cue.ROLE,
        "after a role",
    ),
    (
        re.compile(rf"\b(?i:{_KIN}),\s({_NAMES})(?=,|\.|\s-|\)|$)"),
        Cue.RELATION_COMMA,
        "after a relation",
    ),
    (
        re.compile(rf"\b(?i:his|her|my|their|the\spatient['’]s)\s(?i:{_KIN})\s({_TWO})"),
        Cue.RELATION,
        "after a relation",
    ),
    (re.compile(rf"^\W*(?i:{_KIN})\s({_NAMES})"), Cue.RELATION, "after a relation"),
    (
        re.compile(rf"(?:[Pp]atient['’]s|\b(?:[Mm]y|[Hh]is|[Hh]er))\sname\sis\s({_NAMES})"),
        Cue.NAME_WORD,
        "after a label",
    ),
    (
        re.compile(
            rf"\b((?:{'|'.join(GIVEN)})\s(?:[A-Z]\.\s?)?{_NAME})\s(?:was|is|has|had|"
            r"present(?:s|ed)|report(?:s|ed)|den(?:ies|ied)|state[sd]|complain(?:s|ed)|comes|came|"
            r"return(?:s|ed)|call(?:s|ed)|underwent|lives|works|takes|tells|told|asks|asked)\b"
        ),
        Cue.GIVEN,
        "a given name and a surname before a verb",
    ),
    (
        re.compile(
            rf"\b[Pp]t\s({_NAME})\s(?:seen|examined|reports|denies|states|presents|complains|c/o)\b"
        ),
        Cue.PT,
        "after a label",
    ),
    (
        re.compile(
            rf"\b(?:man|woman|boy|girl|child|infant|patient|lady|gentleman)\s(?:named|called)"
            rf"\s({_NAMES})"
        ),
        Cue.PERSON,
        "after a role",
    ),
    (
        # The head of a report: "Surname, Given (1950-01-31)", "SURNAME, GIVEN DOB 1/31/1950".
        re.compile(
            rf"\b({_UPPER}|{_COMMA}),?\s(?:\((?=\d{{4}}[-/.]\d{{1,2}}[-/.]\d|"
            r"\d{1,2}([-/.])\d{1,2}\2\d)|\(?(?=DOB|D\.O\.B|born\s))"
        ),
        Cue.HEAD,
        "before a date of birth",
    ),
]
_ANY_NAME = functools.reduce(operator.or_, (cue for _, cue, _ in _NAMED))
_POSSESSIVES = (3, 4, 6, 14)
"""How far before a relation "my", "his" and "her", "their", "the patient's" begin."""
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


def names(cues: Cues) -> Iterator[Span]:
    if not cues.bits & _ANY_NAME:
        return
    text = cues.text
    for pattern, cue, reason in _NAMED:
        for match in _matches(cues, pattern, cue):
            group = match.lastindex if match.lastindex and match[1] is None else 1
            words = re.split(r"\s", match[group])
            start, kept = match.start(group), []
            while words and words[0].strip(".") in _TITLES:
                start += len(words.pop(0)) + 1
            for word in words:
                known = word.title() if word.isupper() and len(word) > 1 else word
                if known.strip(".,") in COMMON or known.partition("-")[0] in COMMON:
                    break
                kept.append(word)
            if reason == "before a date of birth" and LARGE.fullmatch(kept[-1] if kept else ""):
                continue  # "Springfield, Illinois (3/4/2019)"
            if reason == "after a doctor's title" and kept and kept[-1].strip(".,") in EPONYMS:
                continue
            if kept and any(len(word) > 1 for word in kept):
                end = start + len(" ".join(kept))
                yield Span(start, end - (text[end - 1] in ",;"), "NAME", reason)


def _matches(cues: Cues, pattern: re.Pattern[str], cue: int) -> Iterable[re.Match[str]]:
    """The matches of a pattern, some of which begin before their cue."""
    if cue & (Cue.DEGREE | Cue.NAME_WORD | Cue.HEAD):
        return cues.whole(pattern, cue)
    if cue == Cue.RELATION and (places := cues.at(cue)):
        return cues.matches_at(
            pattern, {0} | {p - before for p in places for before in _POSSESSIVES if p >= before}
        )
    return cues.matches(pattern, cue)
