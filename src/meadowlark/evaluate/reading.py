"""A judge's words as a choice, a rating or a decision: what was said, or that it cannot be told.

The text of a reply comes in (with the log-probabilities of its tokens, where the server gave
them); a choice between the answer shown first and second comes out, by a named reading. None means
unreadable, and is counted by whoever asked. Sources: MT-bench (Zheng et al. 2023), AlpaCare
(PAPERS.md, section 1) and AlpacaEval 2 (PEERS.md, section 3).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from meadowlark.errors import unknown
from meadowlark.llm import TokenLogprob

Choice = Literal["first", "second", "tie"]
_MEANS: dict[str, Choice] = {"A": "first", "B": "second", "C": "tie", "a": "first", "b": "second"}

# --------------------------------------------------------------------------- choices

_BRACKETED = re.compile(r"\[\[\s*([ABC])\s*\]\]")
_ONLY_OUTPUT = re.compile(r"[^a-zA-Z0-9]*Output \(([ab])\)[^a-zA-Z0-9]*")


def _read_brackets(text: str) -> Choice | None:
    found = list(_BRACKETED.finditer(text))
    if not found:
        return None
    last = found[-1]
    start = last.start()
    for earlier in reversed(found[:-1]):
        between = text[earlier.end() : start]
        if "\n" in between and any(character.isalnum() for character in between):
            break  # an earlier paragraph: the reasoning, not the closing statement
        if earlier[1] != last[1]:
            return None
        start = earlier.start()
    return _MEANS[last[1]]


def _read_alpacare(text: str) -> Choice | None:
    only = _ONLY_OUTPUT.fullmatch(text)
    if only:
        return _MEANS[only[1]]
    return "tie" if "Tie" in re.sub(r"[^a-zA-Z0-9]", "", text) else None


_OUTPUT = r"(?:output\s*)?\(([ab])\)|output\s+([ab])"
_WEIGHT = (
    r"(?:(?:clearly|slightly|somewhat|marginally|much|far|overall|generally|definitely|the|a\s+bit)"
    r"\s+)*"
)
_STATEMENT = re.compile(
    rf"""(?ix)
    (?:(?:so|thus|hence|therefore|overall|in\s+conclusion|conclusion)\s*[,:]?\s*)?
    (?: (?:i|we)\s+(?:would\s+)?(?:prefer|choose|pick|select)\s*:?\s*
      | (?:(?:the|my)\s+)?(?:(?:final|overall|better|best|preferred)\s+)*
        (?:verdict|answer|choice|decision|judge?ment|preference|winner|output|response|one)
        \s*(?:is|:)\s*:?\s* )?
    (?:
      (?:{_OUTPUT})
      (?: \s+(?:is|was|would\s+be)\s+{_WEIGHT}
          (?:better|best|preferable|preferred|superior|winner)
          (?:\s+(?:one|output|answer|response|choice))?
          (?:\s+than\s+(?:output\s*)?\(?(?P<than>[ab])\)?)?
          (?:\s*,?\s*(?:because|since|as|due\s+to|for|in)\s+(?P<why>.*))? )?
    | (?P<tie>(?:(?:it|this|that)(?:\s+is|['’]s)\s+|they\s+are\s+)?(?:a\s+)?(?:tie|tied|draw))
    )
    """
)
_LONE = re.compile(r"\W*([ab])\W*", re.IGNORECASE)
_MENTION = re.compile(rf"(?i)\b(?:{_OUTPUT})|\b(?:tie|tied)\b")
_SENTENCE = re.compile(r"\n+|(?<=[.!?])\s+")


def _read_strict(text: str) -> Choice | None:
    lone = _LONE.fullmatch(text)
    if lone:
        return _MEANS[lone[1].lower()]
    stated = {_stated(sentence) for sentence in _SENTENCE.split(text)} - {None}
    return stated.pop() if len(stated) == 1 else None


def _stated(sentence: str) -> Choice | None:
    """The choice that a sentence states when it says nothing else than that, and why."""
    bare = sentence.strip(" \t\r.!,;*_`\"'“”‘’#>-")
    found = _STATEMENT.fullmatch(bare)
    if found is None:
        return None
    if found["tie"]:
        return "tie"
    letter = (found[1] or found[2]).lower()
    than, why = (found["than"] or "").lower(), found["why"] or ""
    if than == letter or any(
        (other[1] or other[2] or "tie").lower() != letter for other in _MENTION.finditer(why)
    ):
        return None  # "(a) is better because (b) ...": why names the other, so nothing is certain
    return _MEANS[letter]


def _read_letter(text: str) -> Choice | None:
    return {"m": "first", "M": "second"}.get(text.strip(" \t\r\n.,:;!\"'`*()[]")) or None  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Reading:
    """How a choice is read: from the text, and from log-probabilities.

    ``labels`` are the tokens for the first and second answer, ``opening`` the characters that
    stand before such a token (none: the token opens the reply).
    """

    read: Callable[[str], Choice | None]
    labels: tuple[str, str]
    opening: str
    says: str


READINGS: dict[str, Reading] = {
    "brackets": Reading(_read_brackets, ("A", "B"), "[[", "the last [[A]], [[B]] or [[C]] (tie)"),
    "alpacare": Reading(
        _read_alpacare,
        ("a", "b"),
        "(",
        "the published rule: Output (a) or Output (b) with nothing else, or Tie anywhere",
    ),
    "strict": Reading(
        _read_strict,
        ("a", "b"),
        "(",
        "one choice, stated by a sentence that says nothing else (and why); no other such sentence",
    ),
    "letter": Reading(_read_letter, ("m", "M"), "", "the reply is m (first) or M (second)"),
}
"""Every reading, by name."""


def reading_of(name: str) -> Reading:
    """A reading by its name; an unknown one is a UserError."""
    if name not in READINGS:
        raise unknown("reading", name, READINGS)
    return READINGS[name]


def read_choice(text: str, reading: str = "brackets") -> Choice | None:
    """Which of the answers shown first and second a judge's text prefers; None if unreadable.

    ``brackets``: the last ``[[A]]``, ``[[B]]`` or ``[[C]]`` (tie); none, or different ones in the
    closing statement (on one line, or with no words between), is unreadable. ``alpacare``: the
    published rule, in which ``Output (a)`` or ``Output (b)`` counts only when nothing but
    punctuation stands around it, and ``Tie`` counts anywhere, even inside a word. ``strict``: a
    choice counts when a sentence states it and nothing else than why, in any case and with or
    without "output"; two different choices, or a mere mention of one, are unreadable.
    ``letter``: AlpacaEval's ``m`` and ``M``.
    """
    return reading_of(reading).read(text)


def first_preference(logprobs: Sequence[TokenLogprob], reading: str) -> float | None:
    """P(first) / (P(first) + P(second)) where the reply names its choice; None without it.

    The probabilities are those of the alternatives at the last token that is a label after the
    reading's opening characters (the first token, where there are none), as AlpacaEval 2 does.
    """
    how = reading_of(reading)
    written = ""
    place: TokenLogprob | None = None
    for token in logprobs:
        before, written = written, written + token.token
        if not how.opening:
            place = token
            break
        lead, label = _label(token.token, how)
        if label and f"{before}{lead}".rstrip().endswith(how.opening):
            place = token
    if place is None:
        return None
    chances = dict.fromkeys(how.labels, 0.0)
    for text, logprob in {**dict(place.top), place.token: place.logprob}.items():
        label = text if not how.opening else _label(text, how)[1]
        if label in chances:
            chances[label] += math.exp(logprob)
    first, second = (chances[label] for label in how.labels)
    return first / (first + second) if first + second > 0 else None


def _label(token: str, how: Reading) -> tuple[str, str]:
    """What a token holds before a label, and the label; the label is empty where it holds none."""
    bare = token.strip().rstrip(")]")
    lead = bare.rstrip("".join(how.labels))
    return lead, bare[len(lead) :] if bare[len(lead) :] in how.labels else ""


# --------------------------------------------------------------------------- ratings and rubrics

_RATING = re.compile(r"\[\[\s*(\d+(?:\.\d+)?)\s*\]\]")


def read_rating(text: str, low: float, high: float) -> float | None:
    """The last ``[[number]]`` of a judge's text; None without one, or outside ``low`` to ``high``.

    Different numbers in the closing line are unreadable.
    """
    closing = [line for line in text.splitlines() if _RATING.search(line)]
    if not closing:
        return None
    found = {float(number) for number in _RATING.findall(closing[-1])}
    if len(found) != 1:
        return None
    value = found.pop()
    return value if low <= value <= high else None


_FENCE = re.compile(r"```(?:json)?\s*\n?(.*?)```", re.DOTALL)
MET = "criteria_met"


def read_met(text: str) -> bool | None:
    """Whether a grader says that a criterion is met: ``{"criteria_met": true}``, else None.

    The JSON may stand in a fence or after words. A text that is no such JSON, or a value that is
    neither true nor false, is unreadable, and never "not met".
    """
    fenced = _FENCE.search(text)
    candidates = [fenced[1]] if fenced else []
    start, end = text.find("{"), text.rfind("}")
    candidates += [text, text[start : end + 1]] if 0 <= start < end else [text]
    for candidate in candidates:
        try:
            value = json.loads(candidate)
        except ValueError:
            continue
        met = value.get(MET) if isinstance(value, dict) else None
        return met if isinstance(met, bool) else None
    return None
