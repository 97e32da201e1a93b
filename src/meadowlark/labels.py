"""The vocabulary of task labels: what a teacher or a clinician wrote becomes one of a few names.

``normalise_type("Rewrite Task")`` is ``"rewriting"``; what is in no list becomes ``"other"``. The
original is kept by the caller beside the name. Types and difficulty follow PAPERS.md, section 1;
"Rewrite" beside "Rewrites" in AlpaCare's seeds is why this module exists. Topics are free text: a
topic stays as it was written, and ``topic_area`` names the field of medicine that it belongs to.
"""

from __future__ import annotations

import re
import unicodedata

OTHER = "other"

TYPES: dict[str, str] = {
    "USMLE-style question": r"usmle|board[- ]style|licensing exam",
    "multiple choice": r"multiple[- ]?choice|\bmcqs?\b",
    "multi-hop reasoning": r"(multi(ple)?|two)[- ]?(hop|step)",
    "single-hop reasoning": r"single[- ]?(hop|step)|^reasoning",
    "translation to plain language": r"translat|plain[- ]language|lay\w*('s)? (terms|lang)",
    "summarisation": r"summar",
    "rewriting": r"rewrit|paraphras|re-?phras|style transfer|simplif|edit",
    "information extraction": r"extract|named entit|\bner\b",
    "classification": r"classif|categori[sz]|triage|label",
    "calculation": r"calculat|arithmetic|comput|numeric",
    "chat": r"chat|dialog|conversation|role[- ]?play|counsel",
    "text generation": r"generat|writing|\bwrite\b|compos|creative|essay",
    "open Q&A": r"open|q ?& ?a|q and a|question|explanation|qa\b",
}
"""Task formats: the name, and what in a label tells it. The first that matches counts."""

VIEWS: dict[str, str] = {
    "family member or caregiver": r"famil|caregiv|carer|parent|mother|father"
    r"|spouse|relative|partner",
    "patient": r"patient(?!.{0,4}educat)|survivor|trial participant|client",
    "health educator": r"educat|teacher|lecturer|professor|tutor|instructor|admissions",
    "medical student": r"student|trainee|medical training|school|learner",
    "nurse": r"nurs|health ?care assistant|health visitor",
    "midwife": r"midwi|doula",
    "pharmacist": r"pharmac(?!olog)",
    "dietitian": r"diet|nutrition",
    "dentist": r"dentis|dental|orthodont",
    "paramedic": r"paramedic|emergency medical tech|first responder|\bemt\b",
    "therapist": r"therapist|psycholog|audiolog|optometr|counsell?or|rehabilitat",
    "public health official": r"public health|official|policy|administrator|government",
    "researcher": r"research|scientist|epidemiolog|statistic|academic|geneticist|bioethic"
    r"|cancer registrar",
    "physician": r"general practi|family (doctor|physician)|primary care|\bgp\b|physician|doctor"
    r"|clinician|resident|intern\b|practitioner|registrar|hospitalist|provider",
    "specialist": r"special|expert|surge|consultant|[a-z]+ologist|pa?ediatric|psychiatr|geriatric"
    r"|an(a)?esth|radiograph|technician",
    "general public": r"public|layperson|citizen|person|athlete|hiker|traveller|consumer",
}
"""Points of view: who is speaking. The first that matches counts."""

TOPIC_AREAS: dict[str, str] = {
    "mental health": r"mental|psych|depress|anxiety|panic|autis|addict|substance (use|abuse|misuse)"
    r"|suicid|behaviou?ral|eating disorder|sleep|insomnia|schizo|bipolar|trauma[- ]informed",
    "oncology": r"oncolog|cancer|tumou?r|carcinom|lymphoma|leuka?emi|melanoma|chemotherap"
    r"|radiotherap|neoplas|myeloma|sarcoma|breast",
    "paediatrics": r"pa?ediatr|neonat|newborn|infant|child|adolesc|breast-?feeding|toddler",
    "women's and reproductive health": r"obstet|gyna?ecol|pregnan|antenatal|prenatal|postpartum"
    r"|postnatal|menopaus|contracep|fertil|labou?r\b|midwi|women|reproduct|menstru|eclamp"
    r"|endometri",
    "cardiology": r"cardi|heart|hypertens|blood pressure|arrhythm|atrial|coronary|vascular|stroke"
    r" prevention|\becg\b|\bekg\b|lipid|cholesterol|angina|thrombo",
    "neurology": r"neuro|brain|epilep|seizure|stroke|dementia|alzheimer|parkinson|migraine"
    r"|headache|sclerosis|nervous|spinal cord",
    "pulmonology": r"pulmon|respir|lung|asthma|copd|bronch|pneumon|ventilat|spirometr|breath",
    "gastroenterology": r"gastro|hepat|liver|bowel|digest|intestin|colon|colitis|crohn"
    r"|co?eliac|pancrea|reflux|stomach|biliary|endoscop",
    "endocrinology": r"endocr|diabet|insulin|thyroid|hormon|adrenal|pituitar|incretin|metaboli[cs]"
    r" syndrome|obes|calcium homeo",
    "nephrology and urology": r"nephro|renal|kidney|urolog|urin|dialys|prostat|bladder",
    "haematology": r"ha?ematolog|ana?emi|blood|transfus|coagul|clotting|sickle|haemophil",
    "rheumatology and musculoskeletal": r"rheumat|arthrit|musculo|orthop|bone|fracture|osteo|joint"
    r"|back pain|gout|lupus|sports|tendon|muscle",
    "dermatology": r"dermat|skin|eczema|psoria|acne|wound|burns?\b|rash",
    "eye ear nose throat and dental": r"ophthal|\beyes?\b|retina|glaucom|vision|\bears?\b|hearing"
    r"|audiolog|otolaryng|\bent\b|dental|dentis|\boral\b|tooth|teeth|throat|sinus",
    "infectious disease": r"infect|bacter|virus|virol|viral|microb|antibiot|antimicrob|sepsis|hiv"
    r"|tubercul|covid|malaria|hepatitis|vaccin|immuni[sz]ation|parasit|fung|influenza",
    "immunology": r"immun|allerg|anaphyl|autoimm",
    "genetics": r"genetic|genom|gene\b|genes\b|chromosom|hereditar|inherit|mutation|dna|rna",
    "biochemistry and cell biology": r"biochem|molecular|cell biolog|enzym|metabol|protein"
    r"|cellular",
    "anatomy": r"anatom|histolog|embryo|morpholog",
    "nutrition": r"nutri|diet|vitamin|feeding|food",
    "emergency and critical care": r"emergen|critical care|intensive|resuscit|trauma|first aid"
    r"|poison|toxicol|shock|triage",
    "surgery and anaesthesia": r"surg|anaesth|anesth|operat|transplant|perioper|preoper",
    "imaging": r"radiolog|imaging|x-?ray|\bct\b|\bmri\b|ultraso|radiograph|nuclear medicine",
    "pathology and laboratory": r"histopath|^(clinical )?patholog|laborator|lab (test|result"
    r"|report)"
    r"|biopsy|cytolog|specimen",
    "pharmacology": r"pharmac|drug|medicat|medicine interaction|dosing|dose|prescri|side effect"
    r"|adverse|interaction|polypharm",
    "physiology and pathophysiology": r"physiolog|homeosta|disease (mechan|progress)|mechanism",
    "epidemiology and public health": r"epidem|public health|outbreak|screening|prevent|populat"
    r"|global health|health polic|surveill|hygiene|sanita|smoking|tobacco|occupational",
    "research methods": r"research|trial|statist|observational|study|studies|evidence"
    r"|methodolog|biostat"
    r"|measures of|critical apprais|systematic review",
    "ethics and law": r"ethic|consent|legal|\blaw\b|confidential|privacy|profession|autonomy"
    r"|directive",
    "communication and education": r"communicat|educat|literacy|leaflet|counsell?ing|teaching"
    r"|breaking bad news|shared decision|curricul",
    "documentation and health systems": r"documentation|notes?\b|discharge|records?\b|coding"
    r"|reports?\b|referral|health ?systems?|insurance|informatic|technolog|telemed|digital"
    r"|device|handover",
    "palliative care and rehabilitation": r"palliat|end[- ]of[- ]life|hospice|rehab|physiotherap"
    r"|physical therap|pain\b|geriatr|older|elderly|frail|fall",
    "diagnosis": r"diagnos|symptom|differential|clinical reasoning|examination|presentation",
    "treatment": r"treat|therap|manage|intervention|care plan",
    "diseases in general": r"disease|disorder|illness|condition|syndrome|general (medicine"
    r"|practice)"
    r"|internal medicine|primary care",
}
"""Fields of medicine: the name, and what in a topic tells it. The first that matches counts, so
organs come before basic sciences, and those before words that fit every field."""

_TYPE_RULES = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in TYPES.items()]
_VIEW_RULES = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in VIEWS.items()]
_AREA_RULES = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in TOPIC_AREAS.items()]
_FAMILY_DOCTOR = re.compile(r"(family|general)[ -](doctor|physician|practi|medic)", re.IGNORECASE)
_WORDS = {
    "very easy": 1,
    "basic": 1,
    "easy": 2,
    "simple": 2,
    "medium": 3,
    "moderate": 3,
    "intermediate": 3,
    "very hard": 5,
    "very difficult": 5,
    "expert": 5,
    "hard": 4,
    "difficult": 4,
    "advanced": 4,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
}


def normalise_type(label: str) -> str:
    """The task format that a label names; empty for an empty label."""
    return _first_match(label, _TYPE_RULES)


def normalise_view(label: str) -> str:
    """The point of view that a label names; empty for an empty label."""
    if _FAMILY_DOCTOR.search(label):
        return "physician"
    return _first_match(label, _VIEW_RULES)


def topic_area(topic: str) -> str:
    """The field of medicine that a free topic belongs to; empty for an empty topic."""
    return _first_match(topic, _AREA_RULES)


_NO_LEVEL = re.compile(r"\d[.,]\d*[1-9]|(?<!\d)(?:0|[6-9]|\d\d+)\s*(?:/|of|out of)\s*\d")
"""A fraction, or a level outside 1 to 5 of how many."""


def normalise_difficulty(label: str) -> str:
    """``"1"`` to ``"5"`` from ``4``, ``4/5``, ``Level 4`` or ``hard``; empty where none is told,
    as by ``2.5`` or ``0/5``."""
    label = unicodedata.normalize("NFKC", label)  # full-width digits
    if _NO_LEVEL.search(label):
        return ""
    digits = re.search(r"(?<![\d.])([1-5])(?![\d])", label)
    if digits:
        return digits[1]
    lowered = label.lower()
    return next((str(level) for word, level in _WORDS.items() if word in lowered), "")


def _first_match(label: str, rules: list[tuple[str, re.Pattern[str]]]) -> str:
    label = " ".join(label.split())
    if not label:
        return ""
    for name, _ in rules:
        if label.lower() == name.lower():
            return name
    if label.lower() == OTHER:
        return OTHER
    return next((name for name, pattern in rules if pattern.search(label)), OTHER)


def label_tags(type: str, topic: str, view: str, difficulty: str) -> dict[str, str]:
    """A task's labels as tags, with ``type_original`` and the like where a name was changed."""
    normal = {
        "type": normalise_type(type),
        "topic": " ".join(topic.split()),
        "topic_area": topic_area(topic),
        "view": normalise_view(view),
        "difficulty": normalise_difficulty(difficulty),
    }
    given = {"type": type, "topic": topic, "view": view, "difficulty": difficulty}
    tags = {name: value for name, value in normal.items() if value}
    for name, value in given.items():
        if value and value != normal[name]:
            tags[f"{name}_original"] = value
    return tags
