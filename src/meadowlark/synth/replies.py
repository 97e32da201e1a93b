"""What kind of reply a teacher gave: a refusal, one that was cut, an empty one, or an answer.

Used on the replies of both generation and response; each fault has one fixed reason, so that
reasons can be counted.
"""

from __future__ import annotations

import re

from meadowlark.llm.chat import ChatReply

REFUSAL_LENGTH = 600
"""A reply longer than this many characters has an answer in it, however it begins."""

_CANNOT = (
    r"(?:can(?:no|['’])t|can\s+not|won['’]t|will\s+not|(?:am|['’]m)\s+(?:not\s+able|unable)\s+to"
    r"|(?:must|have\s+to)\s+decline\s+to)"
)
_REFUSAL = re.compile(
    rf"""(?ix) ^ [\W_]*
    (?: (?:i['’]m|i\s+am|we['’]re|we\s+are)?\s*(?:very\s+)?(?:so\s+)?sorry | my\s+apologies
      | i\s+apologi[sz]e | unfortunately | as\s+an?\s+(?:ai|artificial|large|language)[^.]{{0,60}}
    )? [\s,.:;!—–-]* (?:but\s+)? (?:as\s+an?\s+(?:ai|language)[^.]{{0,40}},\s*)?
    (?: i | we ) \s* {_CANNOT}
    \s+ (?:\w+ly\s+)? (?:be\s+able\s+to\s+)?
    (?: assist | help\s+(?:you\s+)?(?:with|to) | help\b[.!] | provide | comply | fulfil+ | answer
      | give | offer | do\s+that | do\s+this | generate | create | write | complete | continue
      | respond | engage | diagnose | discuss | with\s+(?:this|that) )
    """
)
_CLOSING = re.compile(r"The answer is \(([A-Za-z])\)\.?[\s*_\"'”]*$")
CHOICE_TYPES = ("multiple choice", "USMLE-style question")


def is_refusal(reply: ChatReply) -> bool:
    """Whether a reply declines to answer: the server says so, or its short text begins so."""
    if reply.finish == "refused":
        return True
    text = reply.text.strip()
    return len(text) <= REFUSAL_LENGTH and bool(_REFUSAL.search(text))


def fault_of(reply: ChatReply) -> str:
    """``refused``, ``empty``, ``truncated``, or nothing for a usable answer."""
    if is_refusal(reply):
        return "refused"
    if not reply.text.strip():
        return "empty"
    return "truncated" if reply.finish == "length" else ""


def has_choices(text: str) -> bool:
    """Whether a text offers lettered choices: at least A and B, as ``A.``, ``A)``, ``(A)``…"""
    found = re.findall(r"(?:^|[\s(;,])\(?([A-H])[).:]", text)
    return {"A", "B"} <= set(found)


def closing_letter(text: str) -> str:
    """The letter of a final "The answer is (X).", or nothing where a text does not end so."""
    found = _CLOSING.search(text.strip())
    return found[1].upper() if found else ""
