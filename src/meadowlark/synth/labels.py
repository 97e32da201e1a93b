"""The vocabulary of task labels: what a teacher or a clinician wrote becomes one of a few names.

``normalise_type("Rewrite Task")`` is ``"rewriting"``; what is in no list becomes ``"other"``. The
original is kept by the caller beside the name. Types and difficulty follow PAPERS.md, section 1;
"Rewrite" beside "Rewrites" in AlpaCare's seeds is why this module exists.
"""

from __future__ import annotations

import re

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
    "health educator": r"educat|teacher|lecturer|professor|tutor|instructor",
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

_TYPE_RULES = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in TYPES.items()]
_VIEW_RULES = [(name, re.compile(pattern, re.IGNORECASE)) for name, pattern in VIEWS.items()]
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


def normalise_difficulty(label: str) -> str:
    """``"1"`` to ``"5"`` from ``4``, ``4/5``, ``Level 4`` or ``hard``; empty where none is told."""
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
    return next((name for name, pattern in rules if pattern.search(label)), OTHER)


def label_tags(type: str, topic: str, view: str, difficulty: str) -> dict[str, str]:
    """A task's labels as tags, with ``type_original`` and the like where a name was changed."""
    normal = {
        "type": normalise_type(type),
        "topic": " ".join(topic.split()),
        "view": normalise_view(view),
        "difficulty": normalise_difficulty(difficulty),
    }
    given = {"type": type, "topic": topic, "view": view, "difficulty": difficulty}
    tags = {name: value for name, value in normal.items() if value}
    for name, value in given.items():
        if value and value != normal[name]:
            tags[f"{name}_original"] = value
    return tags
