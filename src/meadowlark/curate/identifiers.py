"""Patterns for what identifies a person in a medical text: the list of US 45 CFR 164.514(b)(2), as
far as text can carry it. Text comes in, spans with kind and reason come out.

Two sorts of evidence are used: a form that means little else (an e-mail address, a full date), or a
label before a value ("MRN: 00482913"). Against them stands what medicine writes in the same forms:
codes, citations, doses, ratios, scores, versions (``PROTECTED``, ``UNIT``). A name is found where a
title, a role or a label announces it; other names, and places without a state, need a recogniser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

KINDS = (
    "NAME",
    "PLACE",
    "ADDRESS",
    "ZIP",
    "DATE",
    "AGE",
    "PHONE",
    "FAX",
    "EMAIL",
    "SSN",
    "MRN",
    "HEALTH_PLAN",
    "ACCOUNT",
    "LICENCE",
    "VEHICLE",
    "DEVICE",
    "URL",
    "IP",
    "BIOMETRIC",
    "OTHER_ID",
)


class Span(NamedTuple):
    """What was found: characters ``start`` to ``end`` (exclusive), its kind, and why."""

    start: int
    end: int
    kind: str
    reason: str


Finder = Callable[[str], Iterator[Span]]


def find(text: str, kinds: frozenset[str] = frozenset(KINDS)) -> list[Span]:
    """The identifiers of a text, in order, none overlapping another."""
    found = [span for finder in _FINDERS for span in finder(text) if span.kind in kinds]
    if not found:
        return []
    if "PLACE" in kinds:
        found += _places(text)
    protected = [match.span() for match in PROTECTED.finditer(text)]
    free = [
        s for s in found if not any(s.start < end and begin < s.end for begin, end in protected)
    ]
    chosen = without_overlap(free)
    if {span.kind for span in chosen} - {"AGE", "PLACE"}:
        return chosen
    # A town or a vignette's age points to nobody while nothing else in the text does.
    return [s for s in chosen if s.kind == "AGE" and not _vignette(text, s)]


def without_overlap(spans: list[Span]) -> list[Span]:
    """The longest of overlapping spans; of equally long ones the first found."""
    chosen: list[Span] = []
    for span in sorted(spans, key=lambda s: s.start - s.end):
        if all(span.end <= other.start or other.end <= span.start for other in chosen):
            chosen.append(span)
    return sorted(chosen)


# --------------------------------------------------------------------------- what is protected

_DOMAINS = (
    r"(?:[\w-]+\.)*(?:gov|mil|int|nhs\.uk|gov\.uk|europa\.eu|doi\.org|clinicaltrials\.gov|"
    r"cochrane\.org|cochranelibrary\.com|wikipedia\.org|wikidoc\.org|mayoclinic\.(?:org|com)|"
    r"clevelandclinic\.org|medscape\.com|uptodate\.com|nejm\.org|bmj\.com|thelancet\.com|"
    r"jamanetwork\.com|nature\.com|cancer\.(?:org|net)|heart\.org|diabetes\.org|aafp\.org|"
    r"nlm\.nih\.gov|kidshealth\.org|webmd\.com|familydoctor\.org|rarediseases\.org|orpha\.net)"
)
PROTECTED = re.compile(
    rf"""
    \b(?:https?://)?{_DOMAINS}\b(?:[/?\#][^\s]*)?                      # public sources of knowledge
    | \bdoi:?\s*10\.\S+ | \b10\.\d{{4,9}}/\S+
    | \b(?:19|20)\d\d(?:\s[A-Z][a-z]{{2,8}}\.?(?:[\s-]\d\d?)?)?\s?;\s?\d+(?:\(\w+\))?(?::\s?\w+(?:-\w+)?)?
    | \bNCT\d{{8}}\b | \bISRCTN\d+ | \bEudraCT\s?[\d-]+ | \bCTRI/[\d/]+ | \bACTRN\d+
    | \bPM(?:ID|CID)?:?\s?\d{{5,8}}\b | \bPMC\d+ | \bISBN(?:-1[03])?:?\s?[\dX-]+ | \bISSN:?\s?[\dX-]+
    | \b(?:CAS|EC|NDC|LOINC|CPT|HCPCS|SNOMED(?:\sCT)?|RxCUI|RxNorm|ATC(?:C)?|MeSH|OMIM|MIM|ORPHA|HGNC|
        MedDRA|UniProt|PDB|ClinVar|DRG|CVX|ICD(?:-?(?:9|10|11|O))?(?:-(?:CM|PCS))?|UMLS|UNII|ChEBI|
        DrugBank|KEGG|dbSNP|GEO|GSE|GenBank|RefSeq|Ensembl|COSMIC|Cochrane|NICE|NG|TA|ISO|IEC|EN|CFR|
        USP|Patent|guideline)
        \s?(?:codes?|numbers?|nos?\.?|accession|registry|release)?\s?[:\#]?\s?(?=[\w.,/-]*\d)[\w.,/()-]+
        (?:,?\s(?:and\s|or\s)?(?=[\w.-]*\d)[A-Z]?\d[\w.-]*)*
    | \b(?:GenBank|GEO|GSE|RefSeq|SRA|ArrayExpress)\saccession\s\S+
    | \b(?:rs|ss)\d{{3,}}\b | \b[NX][MRPCGT]_\d+(?:\.\d+)? | \bENS[GTP]\d+ | \bCOSM\d+ | \bGSE\d+
    | \b[cgpmn]\.[A-Za-z(*-]?\d\w*[^\s,;]* | \bchr(?:[\dXY]+|omosome\s\w+):[\d,-]+
    | \bHLA-\S+ | \bATCC\s?\d+
    | \b(?:[Vv]ersions?|[Rr]elease|[Ss]ections?|[Cc]hapters?|[Pp]aragraphs?|[Vv]\.?|[Bb]uild)\s?\d+(?:\.\d+)+
    | \b1-800-222-1222\b | \b1-800-273-8255\b | \b1-800-232-4636\b | \b1-800-662-4357\b
    | \b1-800-(?:4-CANCER|CDC-INFO|FDA-1088)\b | \b1-800-332-1088\b
    """,
    re.X,
)
"""Codes of catalogues, citations and public addresses: never an identifier, whatever stands in them."""

UNIT = (
    r"(?:\s?(?:%|‰|°|µ|μ|×|x\s?\d|[mkµμn]?g\b|mcg\b|m?[lL]\b|dL\b|IU\b|U\b|units?\b|mEq|mmol|mol\b|mm|cm|"
    r"kPa|Hz|Gy|mSv|copies|cells|tab(?:let)?s?\b|caps|puffs?\b|drops?\b|doses?\b|days?\b|d\b|weeks?\b|"
    r"wks?\b|months?\b|mo\b|years?\b|yrs?\b|hours?\b|hrs?\b|h\b|min(?:ute)?s?\b|sec|s\b|beats|bpm|"
    r"patients|subjects|participants|women|men|children|points?\b|ppm|protein|sessions))"
)
_NOT_UNIT = rf"(?!{UNIT})"

_COMMON = frozenset(
    """The This That These Those There Then They He She It We You I In On At Of For From To And Or But
    If When While With Without After Before Was Is Are Has Had Have Will Can May Please Thank Thanks
    Dear Hello Hi Good No Not Yes Age Sex Male Female White Black African American Caucasian Asian
    Hispanic Latino Patient Patients Pt Doctor Doctors Nurse Hospital Clinic Medical Surgery Medicine
    Seuss Scholl Google House Who What Which How Why Where His Her Their My Your Our Its As By Be
    Denies Reports States Says Presents Presented Complains Name Note History Date Time Room Bed Unit
    Given Diagnosis Treatment Drug Drugs Blood Test Tests Type Group Class Grade Stage Day Days Week
    Month Year All Any Some None Other Most Many Also However Therefore Because Since Until Although
    Unknown Yes Left Right Both Upper Lower Acute Chronic Severe Mild Monday Tuesday Wednesday Thursday
    Friday Saturday Sunday January February March April June July August September October November
    December Admitted Discharged Seen Family Mother Father Home Care Health Emergency Department Office
    Consult Consulted Consulting Call Contact Ask Talk Speak See Visit Do Does Did Let Here Just So Such
    Okay Ok Oh Well Yeah Now Actually Alright Sure So Hmm Um Hey Great Right Hello Goodbye Bye Could
    Would Should Might Must Use Using Take Taking Give Increased Decreased Normal Abnormal Positive Negative""".split()
)

# --------------------------------------------------------------------------- labelled values

_LINK = (
    r"(?:['’]s)?\s?(?:\(?\b(?:ID|Id|id)\b\)?)?\s?(?:[Nn]umbers?|[Nn]um\b\.?|[Nn]os?\b\.?|NO\.?|[Ii]dentifiers?|"
    r"[Cc]ode)?\s?(?:\(?\b(?:ID|Id|id)\b\)?)?(?:\s(?:is|was|ending\sin))?\s?[:=\#]*\s?\#?\s?"
)
_WORD = r"[A-Za-z0-9][A-Za-z0-9/.*_-]*"


class _Label(NamedTuple):
    """A label before a value: ``hints`` are parts of it in lower case, one of which a text must
    hold; the value needs so many ``digits``, and, unless ``sure``, a "no.", "#" or ":" to count
    with fewer."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    digits: int
    sure: bool


def _label(kind: str, hints: str, names: str, digits: int, sure: bool) -> _Label:
    pattern = re.compile(rf"(?<![A-Za-z])(?:{names})(?P<link>{_LINK})(?={_WORD}|\()")
    return _Label(kind, tuple(hints.split("|")), pattern, digits, sure)


_LABELS = [
    _label(
        "MRN",
        "mrn|m.r.n|med rec|med. rec|medical rec|ur no|hospital n|hospital i|hosp. n|hosp n|unit n|patient i|patient n|patient #|pt id|pt #|pt. id",
        r"MRN|mrn|M\.R\.N\.|[Mm]ed(?:ical)?\.?\s?[Rr]ec(?:ord)?s?\.?|MEDICAL\sRECORD|UR\sNo\.?|"
        r"[Hh]ospital(?=\s(?:[Nn]o|[Nn]um|ID))|[Hh]osp\.?(?=\s[Nn]o)|[Uu]nit(?=\s(?:[Nn]o\b|[Nn]umber))|"
        r"[Pp]atient(?=\s(?:ID|[Nn]o\b|[Nn]umber|[Ii]dentifier|\#))|(?:Pt|pt)\.?(?=\s?(?:ID|\#))",
        3,
        True,
    ),
    _label(
        "MRN", "chart|record|emr|ehr|urn|hn|chi", r"[Cc]hart|[Rr]ecord|EMR|EHR|URN|HN|CHI", 4, False
    ),
    _label(
        "HEALTH_PLAN",
        "member|subscriber|beneficiary|insured|sponsor|mbi|hicn|medica|policy|insurance|health plan|health card|prior auth|aetna|cigna|humana|anthem|kaiser|tricare|bcbs|uhc|unitedh",
        r"[Mm]ember(?=\s?(?:ID|[Nn]o\b|[Nn]umber|\#))|[Ss]ubscriber(?=\s?(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"[Bb]eneficiary(?=\s?(?:ID|[Nn]o\b|[Nn]umber|\#))|[Ii]nsured(?=['’]s\s)|[Ss]ponsor(?=\sID)|"
        r"MBI|HICN|[Mm]edicare(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|[Mm]edicaid(?=\s?(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"(?:[Ii]nsurance\s)?[Pp]olicy(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"[Ii]nsurance(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"[Hh]ealth\s(?:[Pp]lan|[Cc]ard)(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"[Pp]rior\s[Aa]uth(?:ori[sz]ation)?\.?(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"(?:Aetna|Cigna|Humana|Anthem|Kaiser|Tricare|TRICARE|BCBS|UHC|UnitedHealthcare)(?=\s(?:ID|[Nn]o\b|\#))",
        4,
        True,
    ),
    _label("HEALTH_PLAN", "group|grp|plan|policy", r"[Gg]roup|GRP|[Pp]lan|[Pp]olicy", 5, False),
    _label(
        "ACCOUNT",
        "acct|account|iban|invoice|fin:|fin #|har|card|visa|amex|express",
        r"(?:[Bb]ank\s|[Bb]illing\s|[Cc]hecking\s|[Gg]uarantor\s|[Pp]atient\s|[Ss]avings\s)(?:[Aa]ccount|[Aa]cct\.?)|"
        r"[Aa]cct\.?|[Aa]ccount(?=\s?(?:[Nn]o\b|[Nn]umber|\#|:))|IBAN|[Ii]nvoice|FIN(?=:|\s\#)|HAR|"
        r"(?:[Cc]redit|[Dd]ebit)\s[Cc]ard|Visa|VISA|Master[Cc]ard|Amex|American\sExpress",
        4,
        True,
    ),
    _label(
        "LICENCE",
        "dea|npi|licen|lic|dl|gmc|clia|nmc|certificate|permit|rn ",
        r"DEA|NPI|(?:[Dd]river['’]?s?['’]?\s|[Mm]edical\s|[Nn]ursing\s|[Ss]tate\s|[Pp]harmacy\s|[Pp]ilot\s)*"
        r"[Ll]icen[cs]e(?!\splate)|(?:[Ss]tate\s)?[Ll]ic\.?|DL|CDL|GMC|CLIA|NMC|"
        r"(?:[A-Za-z]+\s)?[Cc]ertificate|[Pp]ermit|RN(?=\s\d)",
        4,
        True,
    ),
    _label(
        "VEHICLE",
        "vin|vehicle|plate|reg|tag",
        r"VIN|[Vv]ehicle\s[Ii]dentification|[Ll]icen[cs]e\s[Pp]lates?|[Nn]umber\s[Pp]lates?|[Pp]lates?|"
        r"(?:[Cc]ar\s|[Vv]ehicle\s)?(?:[Rr]egistration|[Rr]eg\.?)|[Tt]ag",
        2,
        True,
    ),
    _label(
        "DEVICE",
        "serial|s/n|sn|lot|udi|asset|implant|device|monitor|pump",
        r"[Ss]erial|S/N|s/n|SN(?=\s?[:\#\d])|[Ll]ot|UDI|[Aa]sset\s[Tt]ag|[Ii]mplant(?=\s(?:ID|[Nn]o\b|[Nn]umber))|"
        r"[Dd]evice(?=\s(?:ID|[Nn]o\b|[Nn]umber|[Ii]dentifier|\#))|[Mm]onitor(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))|"
        r"[Pp]ump(?=\s(?:ID|[Nn]o\b|[Nn]umber|\#))",
        4,
        True,
    ),
    _label(
        "BIOMETRIC",
        "fingerprint|voiceprint|retinal|iris|palm v|face t|dna p",
        r"[Ff]ingerprint(?:\s[Tt]emplate)?|[Vv]oiceprint|[Rr]etinal\s[Ss]can|[Ii]ris\s[Ss]can(?:\s[Rr]ecord)?|"
        r"[Pp]alm\s[Vv]ein|[Ff]ace(?:\s[Tt]emplate)(?=\sID)|DNA\s[Pp]rofile",
        4,
        True,
    ),
    _label(
        "OTHER_ID",
        "accession|encounter|csn|nhs|passport|subject|rx|prescription|specimen|order|donor|inmate|military|student|national|employee|voter|claim|reference|case|job|badge|service n|visit|ticket|tracking",
        r"[Aa]ccession|[Ee]ncounter|CSN|NHS|[Pp]assport|[Ss]ubject|Rx|[Pp]rescription|[Ss]pecimen|[Oo]rder|"
        r"[Dd]onor|[Ii]nmate|(?:[Mm]ilitary|[Ss]tudent|[Nn]ational|[Ee]mployee|[Vv]oter)(?=\s(?:ID|[Nn]o\b|[Nn]umber))|"
        r"[Cc]laim|[Rr]eference(?!\srange)|[Cc]ase|[Jj]ob|[Bb]adge|[Ss]ervice(?=\s[Nn]umber)|[Vv]isit|"
        r"[Tt]icket|[Tt]racking",
        4,
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
    r"(?:/SSN)?\s?(?:[Nn]umber|[Nn]o\b\.?)?\s?(?:is|was)?\s?[:=\#]*\s?(\d{3}[- .]?\d{2}[- .]?\d{4})\b"
)
_SSN_BARE = re.compile(r"(?<![\w.-])(?!000|666)[0-8]\d\d-(?!00)\d\d-(?!0000)\d{4}(?![\w-])")


def _labelled(text: str) -> Iterator[Span]:
    if not _SOME_DIGITS.search(text):
        return
    lower = text.lower()
    for kind, hints, pattern, digits, sure in _LABELS:
        if not any(hint in lower for hint in hints):
            continue
        for match in pattern.finditer(text):
            link = match["link"]
            linked = bool(re.search(r"[:=#]|[Nn]o\b|[Nn]umber|[Ii]dentifier|I[Dd]\b|\bid\b", link))
            position: int | None = match.end()
            while position is not None:
                value = _VALUE.match(text, position)
                end = value and _value_end(text, value, digits, sure or linked, kind)
                if not value or not end:
                    break
                yield Span(value.start(), end, kind, f"after {_short(match[0])!r}")
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


def _short(label: str) -> str:
    return label.strip(" :=#").lower()[:30]


def _social_security(text: str) -> Iterator[Span]:
    for match in _SSN_LABEL.finditer(text):
        yield Span(*match.span(1), "SSN", "nine digits after the label")
    for match in _SSN_BARE.finditer(text):
        yield Span(*match.span(), "SSN", "the form 123-45-6789")
    if re.search(r"SSN|[Ss]ocial [Ss]ecurity", text):
        for match in re.finditer(r"(?<![\d-])\d{3}[- ]\d{2}[- ]\d{4}(?![\d-])", text):
            yield Span(*match.span(), "SSN", "the form of one, in a text that names them")


# --------------------------------------------------------------------------- addresses of the net

_EMAIL = re.compile(r"[A-Za-z0-9][\w.+'%-]*@[A-Za-z0-9](?:[\w-]*\.)+[A-Za-z]{2,}")
_URL = re.compile(
    r"\b(?:https?|ftp)://[^\s<>\"]*[^\s<>\".,;:)!?']|\bwww\.[a-z0-9-]+(?:\.[a-z0-9-]+)+(?:/[^\s<>\"]*[\w/])?"
    r"|\b(?:[a-z0-9-]{2,}\.)+(?:com|org|net|edu|info|io|co|uk|de|fr|ca|au|eu|us|example|health|app)"
    r"/[^\s<>\"]*[\w/]",
    re.I,
)
_QUAD = re.compile(
    r"(?<![\w.-])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\w.-]*\d)"
)
_IP_CONTEXT = re.compile(
    r"(?:\bIPv?[46]?\b|address|host|server|client|log ?in|logged|session|from|source|device|ip=)[^.]{0,20}$",
    re.I,
)
_IPV6 = re.compile(
    r"(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?![\w:])"
    r"|(?<![\w:])(?:[0-9A-Fa-f]{1,4}:){1,6}(?::[0-9A-Fa-f]{1,4}){1,6}(?![\w:])"
)


def _net(text: str) -> Iterator[Span]:
    if "@" in text:
        for match in _EMAIL.finditer(text):
            yield Span(*match.span(), "EMAIL", "the form of an e-mail address")
    if "." in text:
        for match in _URL.finditer(text):
            yield Span(*match.span(), "URL", "the form of a web address")
        for match in _QUAD.finditer(text):
            large = sum(int(part) >= 100 for part in match[0].split("."))
            if large or _IP_CONTEXT.search(text[max(0, match.start() - 40) : match.start()]):
                yield Span(*match.span(), "IP", "four numbers below 256")
    if "::" in text or text.count(":") > 6:
        for match in _IPV6.finditer(text):
            yield Span(*match.span(), "IP", "the form of an IPv6 address")


# --------------------------------------------------------------------------- telephones

_PHONE = re.compile(
    r"(?<![\w.,/-])(?:"
    r"(?:\+?1[-. ]?)?\(\d{3}\)[-. ]{0,2}\d{3}[-. ]\d{4}"  # (555) 013-4482
    r"|(?:\+?1[-. ])?\d{3}([-. ])\d{3}\1\d{4}"  # 555-013-4482, the same sign twice
    r"|\d{3}\)\s?\d{3}-\d{4}"
    r"|\+\d{1,3}(?:[ .-]?\(?\d{1,5}\)?){2,5}"  # +44 7700 900461
    r"|\(0\d{1,4}\)\s?\d{3,4}[ -]?\d{3,4}"  # (03) 5550 4471
    r"|0\d{2,4} \d{3,4} \d{3,4}"  # 020 7946 0821
    r")(?:\s?(?:ext?\.?|x|extension)\s?\d{1,5})?(?![\w]|[-/]\d|[.,]\d)" + _NOT_UNIT
)
_PHONE_AFTER_LABEL = re.compile(
    r"(?<![\w.,/-])(?:\+?1[-. ]?)?(?:\(?\d{3}\)?[-. ]{0,2})?\d{3}[-. ]?\d{4}(?:\s?(?:ext?\.?|x)\s?\d{1,5})?(?![\w-]|[.,/]\d)"
    + _NOT_UNIT
)
_PHONE_LABEL = re.compile(
    r"(?:\b(?:[Pp]hone|PHONE|[Tt]el(?:ephone)?|TEL|[Cc]ell(?:\sphone)?|[Mm]obile|[Pp]ager|[Bb]eeper|[Pp]h|"
    r"[Cc]all(?:ed)?|[Tt]ext\s(?:him|her|them|me|us)|[Rr]each(?:ed)?|[Rr]ing|[Cc]ontact|[Vv]oicemail|[Hh]otline|"
    r"T(?=:))\b|(?:[Nn]umber|[Nn]o\.?)\sis|(?:[Hh]er|[Hh]is|[Mm]y)\s[Nn]umber)"
    r"(?:\s?(?:\#|[Nn]o\.?|[Nn]umber|at|on|is|him|her|me|us|the\s\w+\sat|after))*\s?[:\#.(]*\s{0,2}$"
)
_FAX_BEFORE = re.compile(r"(?:\b(?:[Ff]ax|FAX|[Ff]acsimile)\b[^.;\d]{0,40}|\bF:\s*)$")
_FAX_LABEL = re.compile(
    r"\b(?:[Ff]ax|FAX|[Ff]acsimile)\b(?:[^.;\d]|[Nn]o\.){0,12}?[:\#.]?\s?((?:\(?\d{3}\)?[-. ]?)?\d{3}[-. ]?\d{4})\b"
)


_FOUR_DIGITS = re.compile(r"\d{2}[ -]?\d{2}")


def _phones(text: str) -> Iterator[Span]:
    if not _FOUR_DIGITS.search(text):
        return
    for match in _PHONE.finditer(text):
        kind = (
            "FAX"
            if _FAX_BEFORE.search(text[max(0, match.start() - 60) : match.start()])
            else "PHONE"
        )
        yield Span(*match.span(), kind, "the form of a telephone number")
    for match in _FAX_LABEL.finditer(text):
        yield Span(*match.span(1), "FAX", "digits after the label")
    for match in _PHONE_AFTER_LABEL.finditer(text):
        if _PHONE_LABEL.search(text, max(0, match.start() - 40), match.start()):
            yield Span(*match.span(), "PHONE", "digits after the label")


# --------------------------------------------------------------------------- dates and ages

_FULL_MONTHS = (
    "January|February|March|April|May|June|July|August|September|October|November|December"
)
_MONTHS = rf"(?:{_FULL_MONTHS}|{_FULL_MONTHS.upper()}|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|JAN|FEB|MAR|APR|JUN|JUL|AUG|SEPT?|OCT|NOV|DEC)\b\.?)"
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
    (rf"(?<![\d/.,-]){_M}/{_D}/\d\d(?![\d/.,]*\d){_NOT_UNIT}", "month/day/year of two digits"),
    (rf"(?<![\d/.,-]){_D}/{_M}/\d\d(?![\d/.,]*\d){_NOT_UNIT}", "day/month/year of two digits"),
    (
        rf"\b{_WEEKDAY}?{_MONTHS}\s{_ORD}(?:,?\s{_YEAR})?(?![\d%]|[.,-]\d){_NOT_UNIT}{_CITATION}",
        "month and day",
    ),
    (
        rf"\b(?:the\s)?{_WEEKDAY}?{_ORD}\s(?:day\s)?(?:of\s)?{_MONTHS}(?:,?\s{_YEAR})?(?!\w|-[A-Z]){_CITATION}",
        "day and month",
    ),
    (rf"\b{_DAY}[-/]{_MONTHS}[-/](?:{_YEAR}|\d\d)\b", "day-month-year"),
    (rf"\b{_MONTHS}[-/]{_DAY}[-/](?:{_YEAR}|\d\d)\b", "month-day-year"),
    (
        rf"\b(?:(?:mid|early|late)[-\s])?{_MONTHS},?\s(?:of\s)?{_YEAR}\b{_CITATION}",
        "month and year",
    ),
    (
        rf"\b(?:Christmas(?:\s(?:Day|Eve))?|Thanksgiving(?:\sDay)?|New\sYear['’]s(?:\s(?:Day|Eve))?|"
        rf"Valentine['’]s\sDay|Independence\sDay|Labor\sDay|Memorial\sDay|Halloween|Boxing\sDay|"
        rf"Easter(?:\s(?:Sunday|Monday))?)(?!\s(?:disease|factor|tree))(?:,?\s{_YEAR})?\b",
        "a holiday",
    ),
]
_DATES = [(re.compile(pattern), reason) for pattern, reason in _DATE_FORMS]
_MONTH_HINTS = tuple(
    name for month in _FULL_MONTHS.split("|") for name in (month[:3], month[:3].upper())
)
_NUMERIC = frozenset(
    reason for _, reason in _DATE_FORMS if "year" in reason and "month" in reason
) - {
    "month and year",
    "day-month-year",
    "month-day-year",
}
_NUMBER_OF_DATE = re.compile(r"\d[/.-]\d|\d{8}")
_EVENT = (
    r"(?:\b(?:[Oo]n|[Ss]ince|[Ff]rom|[Dd]ated?|DATE|DOB|D\.O\.B\.?|[Bb]orn|[Aa]dmit(?:ted)?|[Aa]dmission|"
    r"[Dd]ischarged?|[Ss]een|[Pp]erformed|[Rr]eturned?|[Rr]eadmitted|[Dd]ue|LMP|EDD|[Cc]ollected|[Rr]eceived|"
    r"[Vv]isit(?:ed)?|[Ss]cheduled(?:\sfor)?|[Rr]epaired|[Dd]ictated|[Tt]ranscribed|[Ss]igned|[Rr]equested|"
    r"[Gg]iven|[Rr]epeat\son|cannot\scome\son|[Oo]ccurred|log|of\sservice|of\sbirth|of\sdeath|D|T|[Ff]iled|"
    r"[Aa]ppointment|[Ll]abs\s(?:of|from)|[Ss]tarted)\b:?\s?\(?)"
)
_SHORT_DATES = [
    re.compile(rf"(?<![\d/.,-]){_M}[/-]{_D}(?![\d/%-]|[.,]\d){_NOT_UNIT}"),
    re.compile(rf"(?<![\d/.,-]){_M}/{_YEAR}(?![\d/%-])"),
    re.compile(rf"(?<![\d/.,-]){_M}([.-]){_D}\1\d\d(?![\d/%-]|[.,]\d){_NOT_UNIT}"),
    re.compile(rf"(?<![\d/.,-]){_D}\.{_M}\.(?=[\s,;]|$)(?!\s?\d)"),
    re.compile(rf"(?<![\d/.,-]){_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?![\d/.,-]\d|\d)"),
]
_WEEKDAY_BEFORE = re.compile(rf"\b{_WEEKDAY}$")
_BEFORE_DATE = re.compile(rf"(?:{_EVENT}{_WEEKDAY}?|{_WEEKDAY})$")
_LISTED = re.compile(rf"(?<=[\s(])({_M}([/-]){_D})(?=\)|:\s)")

_NUMBER_WORDS = (
    r"(?:[Nn]inety(?:[-\s](?:one|two|three|four|five|six|seven|eight|nine))?|"
    r"(?:[Oo]ne|[Aa])\shundred(?:\sand\s\w+)?)"
)
_OLD = r"(?:9\d|1[01]\d|12\d)"
_AGES = [
    re.compile(
        rf"(?<![\d.,/-]){_OLD}(?:[\s-]?(?:years?|yrs?|y)(?:[\s-]?(?:old|of\sage)\b|\.?\s?/\s?o\b|\.?o\.?\b))"
    ),
    re.compile(rf"\b{_NUMBER_WORDS}[\s-]years?[\s-](?:old|of\sage)\b"),
    re.compile(
        rf"\b(?:[Aa]ged?:?|AGE:?|[Tt]urned|at\sthe\sage\sof)\s({_OLD}(?:\s(?:yrs?|years)\b)?)(?![\d.,/%-]*\d|\s?%)(?!\s?(?:(?:to|-)\s?\d|(?:hours|hrs|days|weeks|months|minutes|min|h|d)\b))"
    ),
    re.compile(rf"(?<![\d.,/-])({_OLD}\s?(?:yo|y/o|y\.o\.|yof|yom)\b)"),
    re.compile(rf"(?<![\w.,/-])({_OLD}[FM])\b(?!\d)"),
    re.compile(
        rf"(?<=[a-z],\s)({_OLD})(?=,\s(?:was|is|has|had|a|an|who|of|from|lives|presented|died)\b)"
    ),
]
_OVER_89 = re.compile(r"9\d|1[012]\d|inety|undred")
_VIGNETTE = re.compile(r"(?:^|[.!?:\n]\s*|[\"“(]\s*)An?\s(?:[a-z-]+(?:,?\s[a-z-]+){0,3}\s)?$")


def _dates(text: str) -> Iterator[Span]:
    full = False
    has_month = any(month in text for month in _MONTH_HINTS)
    has_number = _NUMBER_OF_DATE.search(text)
    for pattern, reason in _DATES:
        if not (has_number if reason in _NUMERIC else has_month or reason == "a holiday"):
            continue
        for match in pattern.finditer(text):
            full = True
            yield Span(*match.span(), "DATE", reason)
    for pattern in _SHORT_DATES if has_number else ():
        for match in pattern.finditer(text):
            before = _BEFORE_DATE.search(text, max(0, match.start() - 30), match.start())
            if before:
                full = True
                day = _WEEKDAY_BEFORE.search(text, max(0, match.start() - 12), match.start())
                start = day.start() if day else match.start()
                yield Span(start, match.end(), "DATE", f"a short date after {_short(before[0])!r}")
    if full:  # "Hgb 9.1 (5/6), 8.4 (5/7), 7.9 (5/8/19)", "INR log 4-1: 2.1, 4-8: 2.6"
        for match in _LISTED.finditer(text):
            yield Span(*match.span(1), "DATE", "month/day in a list with a date")


def _ages(text: str) -> Iterator[Span]:
    if not _OVER_89.search(text):
        return
    for pattern in _AGES:
        for match in pattern.finditer(text):
            yield Span(*match.span(1 if pattern.groups else 0), "AGE", "an age over 89")


def _vignette(text: str, span: Span) -> bool:
    """Whether an age opens a made-up case as exams do: "A 92-year-old man is brought ..."."""
    return _VIGNETTE.search(text, max(0, span.start - 60), span.start) is not None


# --------------------------------------------------------------------------- places and addresses

_CAPITAL = r"[A-Z][\w'’.-]*"
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Place|Pl|Terrace|Ter|Parkway|"
    r"Pkwy|Highway|Hwy|Circle|Cir|Square|Sq|Way|Close|Crescent|Cottages|Gardens|Grove|Row|Mews|Walk|Alley|Trail|"
    r"Loop|Plaza)"
)
_STATE_NAMES = (
    "Alabama|Alaska|Arizona|Arkansas|California|Colorado|Connecticut|Delaware|Florida|Georgia|Hawaii|Idaho|"
    "Illinois|Indiana|Iowa|Kansas|Kentucky|Louisiana|Maine|Maryland|Massachusetts|Michigan|Minnesota|"
    "Mississippi|Missouri|Montana|Nebraska|Nevada|New Hampshire|New Jersey|New Mexico|New York|"
    "North Carolina|North Dakota|Ohio|Oklahoma|Oregon|Pennsylvania|Rhode Island|South Carolina|"
    "South Dakota|Tennessee|Texas|Utah|Vermont|Virginia|Washington|West Virginia|Wisconsin|Wyoming"
).replace(" ", r"\s")
_STATE_CODES = (
    "AL|AK|AZ|AR|CA|CO|CT|DE|FL|GA|HI|ID|IL|IN|IA|KS|KY|LA|ME|MD|MA|MI|MN|MS|MO|MT|NE|NV|NH|NJ|NM|NY|NC|ND|"
    "OH|OK|OR|PA|PR|RI|SC|SD|TN|TX|UT|VT|VA|WA|WV|WI|WY|DC"
)
_UNIT_OF_HOUSE = r"(?:,?\s(?:Apt\.?|Apartment|Unit|Suite|Ste\.?|Flat|Room|\#)\s?[\w-]+)?"
_ADDRESSES = [
    re.compile(
        rf"(?:\bSuite\s\w+,\s)?(?<![\d.,/-])\b\d{{1,5}}[A-Z]?\s(?:(?:[NSEW]\.?|North|South|East|West)\s)?"
        rf"(?:(?:{_CAPITAL}|\d{{1,3}}(?:st|nd|rd|th))\s){{1,4}}{_STREET}\b(?:\.(?=,|\s[A-Z#]|$))?{_UNIT_OF_HOUSE}"
    ),
    re.compile(r"\b(?:P\.?\s?O\.?\s?Box|PO\sBOX|Post\sOffice\sBox)\s\d+"),
    re.compile(r"\bRural\sRoute\s\d+(?:,?\sBox\s\d+)?|\bRR\s\d+,?\sBox\s\d+"),
    re.compile(
        rf"(?<![\d.,/-])\b\d{{1,4}}\s(?:[Rr]ue|[Cc]alle|[Vv]ia|[Aa]venida|[Aa]v\.)\s(?:(?:de|des|del|la|las|los|du)\s)*{_CAPITAL}"
    ),
]
_CITY = r"(?:[A-Z][a-z'’-]+(?:\s[A-Z][a-z'’-]+){0,2})"
_PLACES = [
    re.compile(rf"\b({_CITY}),\s(?:{_STATE_NAMES})\b"),
    re.compile(rf"\b({_CITY}),?\s(?:{_STATE_CODES})(?=\s\d{{5}}\b)"),
    re.compile(
        rf"\b({_CITY}),\s(?!OR|IN|ME|OK|HI|OH|ID|MD|CO|DE|LA|MA|PA|AL)(?:{_STATE_CODES})(?=,|\.(?:\s|$)|$)"
    ),
    re.compile(r"\b([A-Z][a-z'’-]+(?:\s[A-Z][a-z'’-]+)?\sCounty)\b"),
    re.compile(r"\b((?:[A-Z][a-z'’.-]+\s){1,3}(?:Hospital|Medical\sCenter|Infirmary))\b"),
    re.compile(
        rf"\b(?:[Ll]ives\sin|[Rr]esident\sof|[Mm]oved\sfrom|[Mm]oved\sto|[Bb]orn\sin|[Ww]orks\s(?:\w+\s){{0,3}}in|from)\s({_CITY})(?=,|\.|\s(?:to|and|with|after)\s|$)"
    ),
]
_HOUSE = re.compile(r"\d{5}|\d[A-Z]?\s[A-Z\d]|\d\s(?:rue|calle|via|av)|[A-Z]\d|Box|BOX|[Cc]ode")
_LARGE = re.compile(
    rf"{_STATE_NAMES}|(?:United\s)?(?:States|Kingdom|Arab\sEmirates)|America|Europe|Africa|Asia|Australia|"
    r"Canada|Mexico|Brazil|India|China|Japan|Korea|Vietnam|Thailand|Philippines|Nigeria|Kenya|Ghana|Egypt|"
    r"Ethiopia|Somalia|England|Scotland|Wales|Ireland|France|Germany|Spain|Italy|Portugal|Poland|Russia|"
    r"Ukraine|Sweden|Norway|Finland|Denmark|Greece|Turkey|Iran|Iraq|Israel|Syria|Pakistan|Bangladesh|"
    r"Afghanistan|Nepal|Indonesia|Haiti|Cuba|Jamaica|Colombia|Peru|Argentina|Chile|Guatemala|Honduras|"
    r"(?:.*\s)?(?:General|Children['’]s|Day|University|Psychiatric|Community|Local|Teaching)\sHospital"
)
"""States, countries and kinds of hospital: too large, or too general, to identify anybody."""
_ZIPS = [
    re.compile(
        rf"\b(?:{_STATE_CODES}|{_STATE_NAMES}),?\s(\d{{5}}(?:-\d{{4}})?)(?![\d-]|[.,]\d)(?!\s?[a-zµ%]{{1,5}}/)"
    ),
    re.compile(r"\b(?:[Zz]ip|ZIP)(?:\s?[Cc]ode)?\s?[:\#]?\s?(\d{5}(?:-\d{4})?)\b"),
    re.compile(
        r"(?:[Pp]ost(?:al)?\s?[Cc]ode\s?:?\s?|,\s|[A-Z][a-z]+\s)"
        r"([A-PR-UWYZ][A-HK-Y]?\d[A-Z\d]?\s\d[ABD-HJLNP-UW-Z]{2})\b"
    ),
    re.compile(r"\b([ABCEGHJ-NPRSTVXY]\d[ABCEGHJ-NPRSTV-Z]\s\d[ABCEGHJ-NPRSTV-Z]\d)\b"),
    re.compile(r"\b[Aa]ddress\b[^.;]{0,50},\s(\d{5})\s[A-Z]"),
    re.compile(r"\b[Pp]ost(?:al)?\s?[Cc]ode\s?:?\s?((?=\w*\d)\w{4,8})\b"),
]


def _addresses(text: str) -> Iterator[Span]:
    if not _HOUSE.search(text):
        return
    for pattern in _ADDRESSES:
        for match in pattern.finditer(text):
            yield Span(*match.span(), "ADDRESS", "the form of a street address or box")
    for pattern in _ZIPS:
        for match in pattern.finditer(text):
            yield Span(*match.span(1), "ZIP", "a postal code by its place or label")


def _places(text: str) -> Iterator[Span]:
    for pattern in _PLACES:
        for match in pattern.finditer(text):
            start = match.start(1)
            words = match[1].split()
            while words and words[0] in _COMMON:
                start += len(words.pop(0)) + 1
            if words and not _LARGE.fullmatch(" ".join(words)):
                yield Span(
                    start, match.end(1), "PLACE", "a town, county or hospital by its context"
                )


# --------------------------------------------------------------------------- names

_NAME = r"(?:(?:[A-Z]\.\s?)*(?:[A-Z]['’])?[A-Z][a-zà-ÿ]+(?:[A-Z][a-zà-ÿ]+)?(?:-[A-Z][a-zà-ÿ]+)*(?!['’]\w))"
_NAMES = rf"{_NAME}(?:\s(?:[A-Z]\.\s?|van\s|von\s|de\s|del\s|la\s|al-)*{_NAME}){{0,2}}"
_TWO = rf"{_NAME}(?:\s(?:[A-Z]\.\s?|van\s|von\s|de\s|del\s|la\s|al-)*{_NAME}){{1,2}}"
_UPPER = r"[A-Z][A-Z'’-]{2,},\s[A-Z](?:[A-Z]+|\.)?(?:\s[A-Z]\b\.?)?"
_COMMA = rf"{_NAME},\s{_NAME}(?:\s[A-Z]\b\.?)?"
_TITLES = frozenset("Mr Mrs Ms Miss Mx Dr Prof Sgt Rev Capt Lt Officer Nurse".split())
_KIN = (
    r"(?:mother|father|sister|brother|son|daughter|husband|wife|partner|neighbou?r|landlord|care-?giver|"
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
            r"\b(?:NAME|Name|RE|Attending|Surgeon|Assistant|Provider|Referred\sby|Physician|Next\sof\skin|"
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
        re.compile(rf"\b({_NAMES}),\s(?:M\.?D|D\.?O|N\.?P|PA-C|R\.?N|Ph\.?D|MBBS|FRCS)\b"),
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
    Bowen Bright Brown Buerger Burkitt Charcot Chiari Chvostek Cohn Conn Cooley Crohn Cushing Doppler
    Down Dressler Duchenne Dupuytren Ebstein Ehlers Danlos Epstein Barr Ewing Fallot Fanconi Foley
    Fournier Gaucher Gilbert Glasgow Goodpasture Gram Graves Guillain Hashimoto Hodgkin Horner
    Huntington Jackson Kaposi Kawasaki Kegel Klinefelter Koch Kussmaul Lister Lynch Marfan McBurney
    Meckel Meniere Mohs Moro Murphy Osler Paget Pap Papanicolaou Parkinson Pasteur Peyronie Pott
    Raynaud Reiter Rett Reye Romberg Roux Sabin Salk Sjogren Snellen Still Tourette Trendelenburg
    Turner Virchow Weber Whipple Wilson Wilms""".split()
)
"""Names that medicine uses for diseases, signs and tests: found behind Mr or a label, but neither
behind Dr (who may have lived long ago) nor again elsewhere in a record."""


def _names(text: str) -> Iterator[Span]:
    for pattern, reason in _NAME_CUES:
        for match in pattern.finditer(text):
            words = re.split(r"\s", match[1])
            start, kept = match.start(1), []
            while words and words[0].strip(".") in _TITLES:
                start += len(words.pop(0)) + 1
            for word in words:
                if word.strip(".,") in _COMMON or word.partition("-")[0] in _COMMON:
                    break
                kept.append(word)
            if reason == "after a doctor's title" and kept and kept[-1].strip(".,") in EPONYMS:
                continue
            if kept and any(len(word) > 1 for word in kept):
                end = start + len(" ".join(kept))
                yield Span(start, end - (text[end - 1] in ",;"), "NAME", reason)


_FINDERS: tuple[Finder, ...] = (
    _net,
    _social_security,
    _labelled,
    _phones,
    _dates,
    _ages,
    _addresses,
    _names,
)
