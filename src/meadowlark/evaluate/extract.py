"""Which choice a free reply to a multiple-choice question names, and what that was read from.

A reply and the texts of the choices come in; a letter goes out, or none with the reason, so that
"no answer" stays apart from "wrong". Rules as in PEERS.md, section 3 ("Extraction"): what is
declared to be the answer comes first, a bare letter counts only where it stands for the whole
reply or a whole line at its end, "A patient ..." is no answer. What the labels of
``tests/evaluate/extractor`` mean is what a letter here means.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

How = Literal[
    "letter alone",
    "declared",
    "leading letter",
    "closing letter",
    "the choice's words",
    "the only choice mentioned",
    "empty",
    "declined",
    "several choices",
    "no such choice",
    "no choice named",
]
"""What a letter was read from; from ``empty`` on, why there is none."""


class Extracted(NamedTuple):
    """The letter a reply names (empty where it names none), and how that is known."""

    letter: str
    how: How


class _Said(NamedTuple):
    """One statement that something is the answer: where, and which letters."""

    start: int
    end: int
    letters: frozenset[str]


# What stands around a letter, and which words may follow one without making it an article.
_OPEN, _CLOSE = r"[(\[{\"'“‘]*", r"[)\]}\"'”’]*"
_NEXT = (
    r"(?:\s*$|\s*\n|\s*[.,:;!?)\]}/=–—\"'”’]|\s+[-(\"'“]|\s+(?-i:[A-Z])|-\s|"
    r"\s+(?:because|since|as|for|due|and|or|but|not|which|that|i\.e|is|was|would|seems|rather|instead|here|by|over|on|in|und|y|et)\b)"
)
_LETTER = rf"{_OPEN}(?P<letter>[A-Za-z])(?![A-Za-z0-9’']){_CLOSE}(?={_NEXT})"
_MORE = (
    rf"(?P<more>(?:\s*(?:,|,?\s*(?:and|or|und|oder|y|o|et|ou)\b|&|/)\s*(?:option |choice )?{_OPEN}"
    rf"(?-i:[A-Z])(?![A-Za-z0-9’']){_CLOSE}(?!\s+(?:is|was|would|does|has)\b)(?={_NEXT})){{0,8}})"
)
_VERB = (
    r"(?:(?:is|was|are|be|would|should|must|will|can|es|ist|est|not|cannot|isn['’]t|can['’]t|"
    r"therefore|thus|then|clearly|probably|likely|most|simply|definitely|indeed|both|either|"
    r"the|la|el|die|option|choice|letter|correct)\b)"
)
_ANSWER = (
    r"\b(?:answer|answer to the question|verdict|respuesta(?: correcta)?|antwort|réponse|"
    r"(?:correct|right|best|only) (?:one|option|choice|letter)|my (?:option|choice|pick)|"
    r"\w+ (?:option|choice)(?= is\b|:))\b"
)
_BEFORE = (
    r"(?:^|[.!?:;,(\n]\s*|\b(?:option|choice|answer|letter|so|thus|therefore|hence|that|but|say|"
    r"think|believe|thought)\s+)"
)
_DECLARED = tuple(
    re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for pattern in (
        rf"{_ANSWER}(?P<glue>[\"']?(?:\s*[:=–-]|\s+{_VERB})*\s*){_LETTER}{_MORE}",
        rf"\bans\b(?P<glue>\.?(?:\s*[:=–-]+|\s*{_VERB}|\.)*\s*){_LETTER}{_MORE}",
        r"\[\[\s*(?P<letter>(?-i:[A-Z]))\s*\]\]",
        rf"{_BEFORE}{_LETTER}{_MORE}\s+(?:is|are|was|would be|seems|must be|should be)"
        r"(?: both| clearly| therefore| thus| indeed| also)*(?: the)?(?: most| single| only)?"
        r" (?:correct|right|best|better|true|answer|likely|appropriate|suitable)\b",
        r"\bI(?:['’]d| would| will|['’]ll| shall)? (?:go with|go for|choose|pick|select|say|answer|"
        rf"opt for)(?: option| choice| letter| answer)?:?\s+{_LETTER}{_MORE}",
        rf"\bit(?:['’]s| is| must be| should be| would be)(?: option| choice)? {_LETTER}{_MORE}",
        rf"{_BEFORE}{_LETTER} it is\b",
        rf"\bnot (?:option |choice )?{_OPEN}[A-Z]{_CLOSE},? but (?:rather )?(?:option )?{_LETTER}",
    )
)
_GLUED = re.compile(r"\b(?:Answer|Ans)\b[\s.:-]*(?P<letter>[A-Z])(?=[A-Z][a-z])")
"""A letter that the next word runs into, as in text whose line breaks were lost."""

_NEGATED = re.compile(r"\bnot\b|n['’]t\b|\bcannot\b|\bnever\b", re.IGNORECASE)
_DENIED = re.compile(
    r"\s*(?:is|are|was|would be|seems|can be)?\s*(?:\bnot\b|n['’]t\b|cannot\b|wrong|incorrect|"
    r"false\b|excluded|ruled out|unlikely|too \w+)",
    re.IGNORECASE,
)
_HYPOTHETICAL = re.compile(r"\bif\b[^.;!?\n]*\bwould(?: then)? be\b[^.;!?\n]*$", re.IGNORECASE)
_TURN = re.compile(
    r"\b(?:wait|actually|however|but|reflection|correction|no|instead|rather|therefore|so|thus|"
    r"hence|final(?:ly)?|conclusion|overall|sorry|mistake)\b",
    re.IGNORECASE,
)
"""Words between two statements that make the later one the answer."""

_LEADING = re.compile(r"(?P<letter>[A-Za-z])(?P<mark>[.:)\]]|\s*[-–—]\s)\s*(?P<rest>.*)", re.DOTALL)
_LINE = re.compile(
    rf"{_OPEN}(?:option |choice )?(?P<letter>[A-Za-z])[.)]?{_CLOSE}[.!]?", re.IGNORECASE
)
_MENTION = re.compile(
    rf"\b(?:option|choice)\s+{_OPEN}([A-Z])(?![A-Za-z0-9]){_CLOSE}", re.IGNORECASE
)
_NEXT_QUESTION = re.compile(
    r"(?:^|\n)\s*(?:#{1,4}\s*(?:Instruction|Input|Question|Task)\b|"
    r"(?:Question|Q|Human|User)\s*\d*\s*:)"
)
_SEVERAL = re.compile(
    r"(?:(?:either|both)\s+)?\(?[A-Z]\)?(?:\s*(?:,|&|/|\bor\b|\band\b)\s*\(?[A-Z]\)?)+"
    r"(?=\W*\Z|\s+(?:are|would|could|may)\b)",
    re.IGNORECASE,
)
_DECLINED = re.compile(
    r"\bnone of (?:the|these|those)\b|\bnot enough (?:information|context)\b|"
    r"\bdo not have enough\b|"
    r"\b(?:can ?not|can['’]t|unable to) (?:answer|determine|choose|give|help)",
    re.IGNORECASE,
)
_CALLED_BEFORE = re.compile(
    rf"{_ANSWER}[\"']?(?:\s*[:=–-]|\s+{_VERB}|\s+an?)*\s*[\"'(]*$", re.IGNORECASE
)
_CALLED_BEHIND = re.compile(
    r"\W{0,2}\s*(?:is|was|would be|are)(?: clearly)?(?: the)?(?: most)? "
    r"(?:correct|right|better|best|answer|appropriate)",
    re.IGNORECASE,
)
_NOT_BEFORE = re.compile(
    r"(?:\bnot|n['’]t|\bcannot(?: be)?)(?: (?:the|an?|be))?\s+\W*$", re.IGNORECASE
)
_NOT_BEHIND = re.compile(
    r"\W{0,2}\s*(?:is|was|are)\s+(?:not|wrong|incorrect|ruled out|excluded)\b", re.IGNORECASE
)
"""What stands before or behind a choice's words that are called the answer, or denied to be it."""

_ONLY_WHERE_ASKED = {"yes", "no", "maybe", "true", "false", "none", "both", "all", "neither"}
"""Choices whose word is too common to count in the middle of a sentence."""


def extract(reply: str, choices: Sequence[str]) -> Extracted:
    """The choice that ``reply`` names among ``choices`` (their texts, in the order of the letters).

    An empty text stands for a choice that is known by its letter only. A letter of another alphabet
    is none of ours; one in another width or style is.
    """
    known = [chr(ord("A") + index) for index in range(len(choices))]
    text = _plain(reply)
    if not text:
        return Extracted("", "empty")
    texts = [_words(choice) for choice in choices]
    alone = _LINE.fullmatch(_without_tag(text))
    if alone and _words(text) not in texts:
        return _known(alone["letter"], known, "letter alone")
    found = _declared(text, known, texts)
    if found is None:
        found = _leading(text, known, texts) or _closing(text, known)
    return found or _by_words(text, known, texts) or _none(text, known)


def _plain(reply: str) -> str:
    """The reply without thoughts, markup and what follows the start of a next question."""
    text = re.sub(r"\n\s*\n", "\n\n", unicodedata.normalize("NFKC", reply))
    text = re.sub(r"<think>.*?(?:</think>|\Z)", "", text, flags=re.DOTALL)
    text = re.sub(r"\A\s*#{1,4}\s*Response:?", "", text)
    begun = _NEXT_QUESTION.search(text)
    if begun:
        text = text[: begun.start()]
    text = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", text)
    text = re.sub(r"\$?\\boxed\s*\{([^{}]*)\}\$?", r"\nThe answer is \1\n", text)
    text = re.sub(r"<answer>\s*(.*?)\s*(?:</answer>|\Z)", r"\nAnswer: \1\n", text, flags=re.DOTALL)
    text = re.sub(r"\*\*|__|`|^\s*#{1,6}\s+", "", text, flags=re.MULTILINE)
    return text.strip() if any(c.isalnum() for c in text) else ""


def _without_tag(text: str) -> str:
    """The text behind an opening "A:" that stands for "answer" before a letter."""
    return re.sub(r"\AA:\s+(?=[A-Z][.)]?\Z)", "", text)


def _known(letter: str, known: Sequence[str], how: How) -> Extracted:
    upper = letter.upper()
    return Extracted(upper, how) if upper in known else Extracted("", "no such choice")


def _words(text: str) -> str:
    """A text as lower-case words between single spaces, for comparing."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.findall(r"[^\W_]+(?:[.,]\d+)*", folded))


# --------------------------------------------------------------------------- letters


def _declared(text: str, known: Sequence[str], texts: Sequence[str]) -> Extracted | None:
    """The letter that the reply says is its answer; None where it says so of no letter."""
    said = sorted(_statements(text, known, texts))
    if not said:
        return None
    for earlier, later in pairwise(said):
        apart = later.start >= earlier.end and earlier.letters != later.letters
        if apart and not _TURN.search(text, earlier.end, later.end):
            return Extracted("", "several choices")
    last = said[-1]
    if len(last.letters) > 1:
        return Extracted("", "several choices")
    (letter,) = last.letters
    return _known(letter, known, "declared")


def _statements(text: str, known: Sequence[str], texts: Sequence[str]) -> Iterator[_Said]:
    for pattern in _DECLARED:
        for match in pattern.finditer(text):
            if _is_a_letter(match, text, known, texts) and not _taken_back(match, text):
                more = re.findall(r"(?<![A-Za-z])[A-Z](?![A-Za-z])", _group(match, "more"))
                letters = frozenset([match["letter"].upper(), *more])
                yield _Said(match.start(), match.end(), letters)
    for match in _GLUED.finditer(text):
        yield _Said(match.start(), match.end(), frozenset(match["letter"]))


def _group(match: re.Match[str], name: str) -> str:
    return (match[name] or "") if name in match.re.groupindex else ""


def _is_a_letter(
    match: re.Match[str], text: str, known: Sequence[str], texts: Sequence[str]
) -> bool:
    """Whether what was matched is a choice's letter and no article, pronoun or part of a name."""
    letter, behind = match["letter"], text[match.end("letter") :]
    name = _words(letter + behind[:80])
    if any(len(t) > 1 and t[1:2] == " " and f"{name} ".startswith(f"{t} ") for t in texts):
        return False  # "B cells" where that is a choice
    if letter.islower():
        return not re.match(r"\s+\w", behind) and not re.match(r"['’]\w", behind)
    if letter in "AI" and re.match(r"\s+[a-z]", behind):
        return bool(
            re.match(r"\s+(?:because|since|as|due|and|or|but|not|is|was|it|would|i\.e)\b", behind)
        )
    return True


def _taken_back(match: re.Match[str], text: str) -> bool:
    """Whether the statement is denied, asked, or made of another case than the one at hand."""
    if _NEGATED.search(_group(match, "glue")) or _DENIED.match(text, match.end()):
        return True
    if re.match(r"\s*\?", text[match.end() :]):
        return True
    before = text[max(0, match.end() - 300) : match.end()].rstrip(".;!?\n")
    sentence = re.split(r"[.;!?\n]", before)[-1]
    return bool(_HYPOTHETICAL.search(sentence))


def _leading(text: str, known: Sequence[str], texts: Sequence[str]) -> Extracted | None:
    """The letter that the reply opens with, as in "B. Heparin" or a first line "C"."""
    first, _, below = text.partition("\n")
    line = _LINE.fullmatch(first.strip())
    if line and below.strip():
        return _known(line["letter"], known, "leading letter")
    opened = _LEADING.match(text.lstrip("([\"'“‘ "))
    if not opened:
        return None
    letter, rest = opened["letter"].upper(), opened["rest"]
    if _DENIED.match(rest):
        return None
    words = _words(rest)
    own = texts[known.index(letter)] if letter in known else ""
    if any(_starts(_words(text), choice) for choice in texts if choice != own):
        return None  # "C. difficile" where that is a choice
    is_own = bool(own) and _starts(words, own)
    bracketed = opened["mark"] in (")", "]") and opened["letter"].isupper()
    if not is_own and not bracketed and (opened["letter"].islower() or re.match(r"[a-z]", rest)):
        return None  # "C. difficile", "A: the patient"
    if letter == "A" and opened["mark"] == ":" and not any(_starts(words, c) for c in texts):
        return None  # "A:" may stand for "answer"
    read_out = {k for k, choice in zip(known, texts, strict=True) if _listed(text, k, choice)}
    if read_out - {letter}:
        return Extracted("", "several choices")
    return _known(letter, known, "leading letter")


def _starts(words: str, choice: str) -> bool:
    return bool(choice) and f"{words} ".startswith(f"{choice} ")


def _listed(text: str, letter: str, choice: str) -> bool:
    """Whether the choice's own words stand behind its letter anywhere, as in a list of choices."""
    places = re.finditer(rf"(?:^|[\s(]){letter}[.:)]\s*(.*)", text)
    return any(_starts(_words(place[1]), choice) for place in places)


def _closing(text: str, known: Sequence[str]) -> Extracted | None:
    """The letter that is the reply's last line."""
    above, _, last = text.rpartition("\n")
    line = _LINE.fullmatch(last.strip())
    return _known(line["letter"], known, "closing letter") if line and above.strip() else None


# --------------------------------------------------------------------------- words


def _by_words(text: str, known: Sequence[str], texts: Sequence[str]) -> Extracted | None:
    """The choice whose own words the reply gives as its answer, or the only one it mentions."""
    words = _words(text)
    for letter, choice in zip(known, texts, strict=True):
        if choice and words == choice:
            return Extracted(letter, "the choice's words")
    opening = {
        k for k, t in zip(known, texts, strict=True) if t in _ONLY_WHERE_ASKED and _starts(words, t)
    }
    if len(opening) == 1:
        return Extracted(opening.pop(), "the choice's words")
    found = list(_mentions(text, known, texts))
    for wanted in (True, False):
        letters = {letter for letter, declared in found if declared >= wanted}
        if len(letters) == 1:
            how: How = "the choice's words" if wanted else "the only choice mentioned"
            return Extracted(letters.pop(), how)
        if letters:
            return Extracted("", "several choices")
    return None


def _mentions(text: str, known: Sequence[str], texts: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Every mention of a choice's words that is not denied, and whether it is called the answer.

    A longer choice hides a shorter one within it. Choices with equal texts cannot be told apart and
    choices of common words count only where they are called the answer.
    """
    places: list[tuple[int, int, str]] = []
    for letter, choice in zip(known, texts, strict=True):
        if not choice or texts.count(choice) > 1:
            continue
        gap = r"[^\w\n]{1,3}"
        pattern = rf"(?<!\w){gap.join(map(re.escape, choice.split()))}(?!\w|[.,]\d)"
        places += [(m.start(), m.end(), letter) for m in re.finditer(pattern, text, re.IGNORECASE)]
    for start, end, letter in places:
        if any(a <= start and end <= b and b - a > end - start for a, b, _ in places):
            continue
        before, behind = text[max(0, start - 60) : start], text[end : end + 40]
        if _NOT_BEFORE.search(before) or _NOT_BEHIND.match(behind):
            continue
        declared = _CALLED_BEFORE.search(before) or _CALLED_BEHIND.match(behind)
        if texts[known.index(letter)] in _ONLY_WHERE_ASKED and not declared:
            continue
        if re.search(rf"(?<!\w){letter}[.:)]\s*$", before) and not declared:
            continue  # the choice as it was listed, read out
        yield letter, bool(declared)


def _none(text: str, known: Sequence[str]) -> Extracted:
    """The only option mentioned by its letter; else why there is none."""
    mentioned = {
        m[1].upper() for m in _MENTION.finditer(text) if not _DENIED.match(text, m.end())
    } & set(known)
    if _DECLINED.search(text):
        return Extracted("", "declined")
    if len(mentioned) == 1:
        return Extracted(mentioned.pop(), "the only choice mentioned")
    several = len(mentioned) > 1 or _SEVERAL.match(text)
    return Extracted("", "several choices" if several else "no choice named")
