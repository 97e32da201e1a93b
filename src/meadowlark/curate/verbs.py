"""Which verb an instruction opens with, and its object: AlpaCare's figure of verbs and nouns.

The paper takes the root verb and the direct object of the first sentence from a dependency parse
(PAPERS.md section 1, "Figures in the paper"). With spaCy and its small English model installed that
is done here; otherwise rules stand in, and are named so wherever their numbers are shown: an
imperative's first verb, and the head of the noun phrase behind it. On AlpaCare's 167 seeds the
rules give the verb that spaCy 3.8.18 gives in 157 and verb and object in 147 (entropy 5.49 bits
by rules, 5.35 by the parse).
"""

from __future__ import annotations

import functools
import importlib
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from typing import Any

Finder = Callable[[str], tuple[str, str] | None]
"""An instruction to its verb and object in lower case; the object may be empty, None is no verb."""

RULES = "rules (first verb, head of the next noun phrase), not a dependency parse"
SPACY_MODEL = "en_core_web_sm"
TOP_VERBS, TOP_OBJECTS = 20, 4
FIGURE_CUT = 10
"""The paper's figure shows the pairs seen more often than this; its entropy is taken before."""

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
    """a an the this that these those my your his her our their i he she we they it
    what which who whom whose why how when where is are was were do does did can could would should
    will may if there here not no yes you patient question one two three""".split()
)
_SKIPPED = frozenset(
    """me us him her them it the a an this that these those your my our their his its any all some
    both each out down up""".split()
)
_PHRASE_ENDS = frozenset(
    """of for to in on at by with from about into between among that which who whose where when how
    why whether if and or but as is are was were has have had using including based regarding during
    through without within than so you i we they may might could can would should""".split()
)


@functools.cache
def find_method() -> tuple[str, Finder]:
    """The best way to find verb and object that is installed, and its name."""
    try:
        spacy: Any = importlib.import_module("spacy")
        parse: Any = spacy.load(SPACY_MODEL, disable=["ner"])
    except (ImportError, OSError):  # spaCy raises OSError where the model is not installed
        return RULES, verb_and_object
    name = f"dependency parse by spaCy {spacy.__version__}, {SPACY_MODEL}"
    return name, lambda instruction: root_and_object(parse(first_sentence(instruction)))


def first_sentence(instruction: str) -> str:
    return re.split(r"(?<=[.?!:])\s|\n", instruction.strip(), maxsplit=1)[0]


def root_and_object(tokens: Iterable[Any]) -> tuple[str, str] | None:
    """Lemmas of a parsed sentence's root verb and its first direct object.

    ``tokens`` are spaCy's: with ``dep_``, ``pos_``, ``lemma_`` and ``children``.
    """
    root = next((token for token in tokens if token.dep_ == "ROOT"), None)
    if root is None or root.pos_ != "VERB":
        return None
    found = [child.lemma_.lower() for child in root.children if child.dep_ in ("dobj", "obj")]
    return root.lemma_.lower(), found[0] if found else ""


def verb_and_object(instruction: str) -> tuple[str, str] | None:
    """The opening verb and its object by rules; see :data:`Finder`."""
    sentence = _LEADING_CLAUSE.sub("", first_sentence(instruction))
    while (shorter := _POLITE.sub("", sentence)) != sentence:
        sentence = shorter
    words = re.findall(r"[A-Za-z][A-Za-z'’-]*|[,.;:?!()&]", sentence)
    if not words or not words[0].isalpha() or words[0].lower() in _NOT_VERBS:
        return None  # "I've", "let's" and punctuation are no verbs either
    phrase: list[str] = []
    for word in words[1:]:
        lower = word.lower()
        if lower in _PHRASE_ENDS or not lower[0].isalpha():
            break
        if phrase and lower.endswith("ing"):  # "an essay explaining the causes"
            break
        if not lower.endswith("ly") and (phrase or lower not in _SKIPPED):
            phrase.append(lower)
    while phrase and phrase[-1].endswith(("ing", "ed")):  # "the factors contributing to"
        phrase.pop()
    return words[0].lower(), _singular(phrase[-1]) if phrase else ""


def _singular(noun: str) -> str:
    if len(noun) > 3 and noun.endswith("ies"):
        return noun[:-3] + "y"
    if len(noun) > 3 and noun.endswith("s") and not noun.endswith(("ss", "us", "is")):
        return noun[:-1]
    return noun


def verb_noun_pairs(
    instructions: Iterable[str], find: Finder = verb_and_object
) -> list[tuple[str, str, int]]:
    """The 20 most frequent verbs with their 4 most frequent objects, and how often each pair is."""
    objects: dict[str, Counter[str]] = defaultdict(Counter)
    verbs: Counter[str] = Counter()
    # An instruction that many rows share (a converted set's) is analysed once.
    for instruction, rows in Counter(instructions).items():
        found = find(instruction)
        if found is not None and found[1]:
            verbs[found[0]] += rows
            objects[found[0]][found[1]] += rows
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
    return abs(sum(c / total * math.log2(c / total) for c in counts)) if total else 0.0
