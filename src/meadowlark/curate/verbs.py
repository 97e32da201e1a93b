"""Which verb an instruction opens with, and its object: AlpaCare's figure without a parser.

The paper takes the root verb and the direct object of the first sentence from a dependency parse
(PAPERS.md section 1, "Figures in the paper"). This is a rule-based stand-in, named so wherever its
numbers are shown: an imperative's first verb, and the head of the noun phrase behind it.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable

METHOD = "rules (first verb, head of the next noun phrase), not a dependency parse"
TOP_VERBS, TOP_OBJECTS = 20, 4

_LEADING_CLAUSE = re.compile(
    r"^(?:as|in|for|given|based|using|from|if|when|while|with|after|before|imagine|suppose|you)\b"
    r"[^,.:;?!]*[,:]\s*",
    re.I,
)
_POLITE = re.compile(
    r"^(?:(?:can|could|would|will) you|please|kindly|briefly|clearly|carefully|help me(?: to)?|"
    r"i (?:want|need|would like) you to)\s+",
    re.I,
)
_NOT_VERBS = frozenset(
    """
    a an the this that these those my your his her our their i he she we they it what which
    who whom whose why how when where is are was were do does did can could would should
    will may if there here not no yes patient question one two three
    """.split()
)
_SKIPPED = frozenset(
    """
    me us him her them it the a an this that these those your my our their his its any all
    some both each out down up
    """.split()
)
_PHRASE_ENDS = frozenset(
    """
    of for to in on at by with from about into between among that which who whose where when
    how why whether if and or but as is are was were using including based regarding during
    through without within than so
    """.split()
)


def verb_and_object(instruction: str) -> tuple[str, str] | None:
    """The opening verb and its object in lower case; the object may be empty, None is no verb."""
    sentence = re.split(r"(?<=[.?!:])\s|\n", instruction.strip(), maxsplit=1)[0]
    sentence = _LEADING_CLAUSE.sub("", sentence)
    while (shorter := _POLITE.sub("", sentence)) != sentence:
        sentence = shorter
    words = re.findall(r"[A-Za-z][A-Za-z'’-]*|[,.;:?!()]", sentence)
    if not words or not words[0].isascii() or words[0].lower() in _NOT_VERBS:
        return None
    phrase: list[str] = []
    for word in words[1:]:
        lower = word.lower()
        if lower in _PHRASE_ENDS or not lower[0].isalpha():
            break
        if phrase or lower not in _SKIPPED:
            phrase.append(lower)
    return words[0].lower(), _singular(phrase[-1]) if phrase else ""


def _singular(noun: str) -> str:
    if len(noun) > 3 and noun.endswith("ies"):
        return noun[:-3] + "y"
    if len(noun) > 3 and noun.endswith("s") and not noun.endswith(("ss", "us", "is")):
        return noun[:-1]
    return noun


def verb_noun_pairs(instructions: Iterable[str]) -> list[tuple[str, str, int]]:
    """The 20 most frequent verbs with their 4 most frequent objects, and how often each pair is."""
    objects: dict[str, Counter[str]] = defaultdict(Counter)
    verbs: Counter[str] = Counter()
    for instruction in instructions:
        found = verb_and_object(instruction)
        if found is not None and found[1]:
            verbs[found[0]] += 1
            objects[found[0]][found[1]] += 1
    top = sorted(verbs, key=lambda verb: (-verbs[verb], verb))[:TOP_VERBS]
    return [
        (verb, noun, count)
        for verb in top
        for noun, count in sorted(objects[verb].items(), key=lambda o: (-o[1], o[0]))[:TOP_OBJECTS]
    ]


def linguistic_entropy(pairs: Iterable[tuple[str, str, int]]) -> float:
    """H = -sum p log2 p in bits over the pairs of :func:`verb_noun_pairs`; 0 without pairs."""
    counts = [count for _, _, count in pairs]
    total = sum(counts)
    return sum(c / total * math.log2(total / c) for c in counts) if total else 0.0
