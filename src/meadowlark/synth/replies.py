"""What kind of reply a teacher gave: a refusal, one that was cut, an empty one, or an answer.

Used on the replies of both generation and response; each fault has one fixed reason, so that
reasons can be counted. A refusal is a short reply that declines and then says nothing about the
matter: "I cannot give medical advice" is followed by an answer as often as not.
"""

from __future__ import annotations

import re

from meadowlark.llm.chat import ChatReply

REFUSAL_LENGTH = 900
"""A reply longer than this many characters has an answer in it, however it begins."""
SUBSTANCE = 130
"""So many characters that neither decline, nor refer to somebody else, nor wish well, are an
answer. Tuned on hand-labelled replies of four models; tests/synth/test_synth_refusals.py."""

_CANNOT = (
    r"(?:can(?:no|['’])t|can\s+not|won['’]t|will\s+not|(?:am|['’]m)\s+(?:not\s+able|unable)\s+to"
    r"|(?:must|have\s+to)\s+decline\s+to)"
)
_DECLINES = re.compile(
    rf"""(?ix)
    (?: \b(?:i|we)\b\s*(?:,[^,.]{{0,40}},)?\s* | (?:,|\bso|\bbut|\band)\s+ ) {_CANNOT}
    \s+ (?:\w+ly\s+)? (?:be\s+able\s+to\s+)?
    (?: assist | help\s+(?:you\s+)?(?:with|to) | help\b[.!] | provide | comply | fulfil+ | answer
      | give | offer | do\s+(?:that|this) | generate | create | write | complete | continue
      | respond | engage | diagnose | discuss | interpret | analy[sz]e | view | review | recommend
      | look\s+at | examine | with\s+(?:this|that)
      | make\s+(?:a\s+)?(?:diagnos|predict) | prescribe )
    | \b(?:do|does|did)\s+not\s+have\s+(?:\w+\s+)?(?:medical|clinical)\s
      (?:training|expertise|degree|qualification|knowledge)
    | \bwithout\s+(?:a\s+)?(?:medical|clinical)\s+(?:training|expertise|degree)
    | \b(?:do|does|did)\s+not\s+have\s+enough\s+(?:medical\s+)?(?:information|expertise)
    | \b(?:(?:am|['’]m)\s+not|do\s+not\s+feel|don['’]t\s+feel)\s+
      (?:qualified|comfortable|trained|licensed)\b
    | \bnot\s+(?:a|an)\s+[a-z]+\s+and\s+(?:can\s?not|can['’]t)
    """
)
_REFERS = re.compile(
    r"""(?ix) (?=.*\b(?:doctor|physician|professional|provider|specialist|\w+ologist|dentist|nurse
      |orthodontist|pharmacist|clinics?|therapist|psychiatrist|pa?ediatrician|surgeon|expert|they
      |emergency|someone|person|care|evaluat\w*|examin\w*|guidance|opinion|help)\b)
    .*\b(?:consult|see|seek|speak|talk|discuss|reach|visit|suggest|recommend|advise|best|important
      |crucial|essential|evaluat|assess|examin|equipped|able\s+to|determine|contact|please|share)
    """
)
_WISHES = re.compile(
    r"""(?ix) \b(?:hope\s+(?:you|this|that|your)|wish(?:ing)?\b|best\s+of\s+luck|let\s+me\s+know
      |sorry|apologi[sz]e|apolog(?:y|ies)|i\s+understand|thank\s+you|take\s+care
      |helpful,\s+harmless)\b"""
)
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_BUT = re.compile(r"(?i)\b(?:but|however|though|that said),?\s+")
_CLOSING = re.compile(r"The answer is \(([A-Za-z])\)\.?[\s*_\"'”]*$")
CHOICE_TYPES = ("multiple choice", "USMLE-style question")


def is_refusal(reply: ChatReply) -> bool:
    """Whether a reply declines: the server says so, or its short text does and then says nothing.

    One of the first two sentences must decline; what neither declines, refers to somebody else
    nor wishes well, is substance, and :data:`SUBSTANCE` characters of it are an answer.
    """
    if reply.finish == "refused":
        return True
    text = reply.text.strip()
    if not text or len(text) > REFUSAL_LENGTH:
        return False
    sentences = [s for s in _SENTENCE.split(text) if s.strip()]
    if not any(_DECLINES.search(sentence) for sentence in sentences[:2]):
        return False
    return sum(len(clause) for s in sentences for clause in _substance(s)) < SUBSTANCE


def _substance(sentence: str) -> list[str]:
    """The clauses of a sentence that say something about the matter asked."""
    clauses = [clause for clause in _BUT.split(sentence) if clause.strip()]
    empty = (_DECLINES, _REFERS, _WISHES)
    return [c for c in clauses if not any(pattern.search(c) for pattern in empty)]


def fault_of(reply: ChatReply) -> str:
    """``refused``, ``empty``, ``truncated``, or nothing for a usable answer."""
    if is_refusal(reply):
        return "refused"
    if not reply.text.strip():
        return "empty"
    return "truncated" if reply.finish == "length" else ""


def choices_of(text: str) -> set[str]:
    """The letters of the choices that a text offers, as ``A.``, ``A)``, ``(A)``, ``Choice A:``…

    Empty unless there are at least A and B.
    """
    found = set(re.findall(r"(?:^|[\s(;,*\"'“‘])\(?([A-J])(?:[).:]|\s-\s)", text))
    return found if {"A", "B"} <= found else set()


def closing_letter(text: str) -> str:
    """The letter of a final "The answer is (X).", or nothing where a text does not end so."""
    found = _CLOSING.search(text.strip())
    return found[1].upper() if found else ""
