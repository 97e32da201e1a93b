"""The rules by which a row is of no use for training: each says why, or says nothing.

A record comes in; the reason (a fixed phrase that can be counted) and the detail come out, of the
first rule that objects. Rules are conservative: what is merely plain, short or untidy stays, since
a rule that drops good medicine costs more than one that keeps a poor row
(``docs/curation-review.md``)."""

from __future__ import annotations

import re
from collections.abc import Callable

from meadowlark.curate.options import CleanOptions
from meadowlark.match.tokens import fold
from meadowlark.records import Record

Rule = Callable[[Record, CleanOptions], str | None]


def judge(record: Record, options: CleanOptions) -> tuple[str, str] | None:
    """The reason and detail of the first rule that objects to the record, else None."""
    for name, (reason, rule) in RULES.items():
        if getattr(options, name).on:
            detail = rule(record, options)
            if detail is not None:
                return reason, detail
    return None


def _empty(record: Record, options: CleanOptions) -> str | None:
    if not _has_word(record.instruction) and not _has_word(record.input):
        return "no question"
    if options.empty.output and not record.output.strip():
        return "no answer"
    if options.empty.output and not _has_word(record.output):
        return f"the answer is {record.output.strip()[:20]!r}"
    return None


def _has_word(text: str) -> bool:
    return any(c.isalnum() for c in text)


def _echo(record: Record, options: CleanOptions) -> str | None:
    answer = fold(record.output).split()
    if not answer:
        return None
    for name, text in (
        ("question", f"{record.instruction} {record.input}"),
        ("input", record.input),
        ("instruction", record.instruction),
    ):
        question = fold(text).split()
        if len(question) < 4 or answer[: len(question)] != question:
            continue
        new = len(answer) - len(question)
        if new < options.echo.new_words:
            return f"the {name} again, with {new} new words"
    return None


_REFUSAL = re.compile(
    r"^\W*(?:i['’]?m |i am |we['’]?re |we are )?(?:(?:very |really |so )?sorry|apologi[sz]e|"
    r"unfortunately)?,?\W*"
    r"(?:but |that |however,? )?\W*"
    r"(?:as an? (?:ai|artificial intelligence|(?:large )?language model|assistant|"
    r"virtual assistant)\b.{0,80}?)?"
    r"(?:i|we)(?:['’]m| am|['’]re| are)? "
    r"(?:cannot|can['’]t|can not|could not|couldn['’]t|unable to|not able to|won['’]t|will not|"
    r"do not|don['’]t|am unable)"
    r"(?: be able to)? "
    r"(?:provide|offer|give|answer|assist|help|fulfil|fulfill|comply|complete|diagnose|generate|"
    r"respond|"
    r"discuss|have (?:enough|the|any|access)|accurately|make)\b",
    re.I | re.S,
)
_MODEL = re.compile(
    r"^\W*(?:\w+,? ){0,3}as an? (?:ai|artificial intelligence|(?:large )?language model)\b", re.I
)


def _refusal(record: Record, options: CleanOptions) -> str | None:
    words = record.output.split()
    if len(words) > options.refusal.max_words:
        return None
    found = _REFUSAL.match(record.output) or _MODEL.match(record.output)
    turn = re.search(r"\b(?:however|nevertheless|that said)\b", record.output, re.I)
    if found and turn and len(record.output[turn.end() :].split()) >= 15:
        return None  # it declines, then answers
    return " ".join(found[0].split()[:12]) if found else None


_BOILERPLATE = re.compile(
    r"all rights reserved|©|\(c\) (?:19|20)\d\d|copyright (?:19|20)|click (?:here|on the|the link)|"
    r"(?:terms of (?:use|service)|privacy policy|cookie policy)|(?:accept|uses?) cookies|"
    r"subscribe to (?:our|the)|sign up for (?:our|the)|(?:back to|return to) (?:top|the top)|"
    r"^\s*(?:related (?:topics|articles|links)|read more|learn more|see also|share this|"
    r"print this page|"
    r"table of contents|advertisement|references|external links|sources?)\s*:?\s*$|"
    r"javascript (?:is )?(?:disabled|required)|enable javascript|page (?:last )?(?:updated|"
    r"reviewed)|"
    r"^\s*last (?:updated|reviewed|modified)\b|for more information,? (?:visit|see|go to) (?:www|"
    r"http)|"
    r"here you can (?:list|write)|this section should (?:focus|describe|list|detail)|"
    r"lorem ipsum|^\s*https?://\S+\s*$",
    re.I,
)


def _boilerplate(record: Record, options: CleanOptions) -> str | None:
    words = boilerplate = 0
    first = ""
    lower = record.output.lower()
    if not any(hint in lower for hint in _BOILERPLATE_HINTS):
        return None
    for line in re.split(r"\n|(?<=[.!?]) +", record.output):
        count = len(line.split())
        words += count
        if _BOILERPLATE.search(line):
            boilerplate += min(count, _LONGEST_LINE)
            first = first or line.strip()
    if words and boilerplate >= options.boilerplate.share * words:
        return f"{boilerplate} of {words} words: {' '.join(first.split()[:8])}"
    return None


_LONGEST_LINE = 20
"""So many words of a line count at most: a list without full stops is not boilerplate as a whole
because it ends with "for more, click here"."""
_BOILERPLATE_HINTS = (
    "all rights", "©", "(c) ", "copyright ", "click ", "terms of ", "privacy p", "cookie p",
    "cookies", "subscribe to ", "sign up for ", "to top", "to the top", "related ", "read more",
    "learn more",
    "see also", "share this", "print this", "table of c", "advertisement", "references",
    "external links", "source", "javascript", "page ", "last updated", "last reviewed",
    "last modified", "for more information", "here you can ", "this section sh", "lorem ipsum",
    "http",
)  # fmt: skip
"""One of these stands in every line of boilerplate, in some case: most answers have none."""
_CANNOT_END = frozenset(
    """a an the and or but nor of with from into than that which whose when while because although
    if as to at between among during including such is are was were has have had be been being can
    could should would may might must will this these those their its his her your our my by for
    very""".split()
)
_MAY_END = frozenset(
    "to by for at of with from is are was were be this that these in on if as may can".split()
)
"""Words that end a question or a clause in good English ("What is it caused by"); such an answer is
called truncated only where a comma or lower-case text without any full stop precedes it."""


def _truncated(record: Record, options: CleanOptions) -> str | None:
    text = record.output.rstrip()
    if len(text.split()) < 5:
        return None
    if text[-1] in ",;(/&" or (text[-1] in "-–—" and text[-2:-1].isalpha()):
        return f"stops behind {text[-1]!r}"
    last = re.search(r"(?<![\w'’./-])([A-Za-z]+)$", text)
    if last is None:
        return None
    word = last[1]
    if word != word.lower() or word not in _CANNOT_END:
        return None
    if word in _MAY_END and not re.search(r"[.!?]\s", text):
        return None
    return f"stops behind {word!r}"


_COMMON: dict[str, frozenset[str]] = {
    name: frozenset(words.split())
    for name, words in {
        "en": "the of and to in is a that for it with as are on be by this or may have not can you",
        "de": "der die und das ist nicht ein eine mit den von zu auf für sich im dem werden bei",
        "fr": "le la les des et est une un du dans que pour qui pas sur avec au par ce sont ou",
        "es": "el la los las de y que en un una por con para es se del no su al como más",
        "it": "il la di che e un una per non con del le i si è in della da dei sono nel",
        "pt": "o a os as de e que em um uma para com não é do da por se no na mais",
        "nl": "de het een en van is dat in niet te op met voor zijn aan er om ook als bij",
    }.items()
}
"""The commonest words of each language that can be kept."""
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")


def _language(record: Record, options: CleanOptions) -> str | None:
    text = record.output if record.output.strip() else f"{record.instruction} {record.input}"
    letters = len(text) if text.isascii() else sum(c.isalpha() for c in text)
    if not text.isascii() and letters >= 20:
        latin = len(_LATIN.findall(text))
        if latin < letters / 2:
            return f"{letters - latin} of {letters} letters are not Latin"
    words = re.findall(r"[^\W\d_]+", text.lower())
    if len(words) < options.language.min_words:
        return None
    shares = {
        name: sum(w in common for w in words) / len(words) for name, common in _COMMON.items()
    }
    kept = max(shares[name] for name in options.language.keep)
    best = max(shares, key=lambda name: shares[name])
    if best not in options.language.keep and shares[best] >= 0.15 and shares[best] > 2 * kept:
        return f"{best}: {shares[best]:.0%} of the words are its commonest, {kept:.0%} of the kept"
    return None


def _length(record: Record, options: CleanOptions) -> str | None:
    limits = options.length
    question = _words(record.instruction) + _words(record.input)
    answer = _words(record.output)
    if question > limits.question_max:
        return f"question of {question} words"
    if answer > limits.answer_max:
        return f"answer of {answer} words"
    if record.output and answer < limits.answer_min:
        return f"answer of {answer} words"
    return None


def _words(text: str) -> int:
    # Ideographs stand without spaces: three of them count as a word.
    return max(
        len(text.split()),
        0 if text.isascii() else sum("\u3040" <= c <= "\u9fff" for c in text) // 3,
    )


_CHOICE_LINE = re.compile(r"^[ \t]*\(?([A-J])[).:][ \t]*(.*?)[ \t]*$", re.M)
_NAMED = re.compile(
    r"^\W*(?:the )?(?:correct |right |best )?(?:answer|option|"
    r"choice)(?: is)?\s*:?\s*\(?([A-J])\b[).:,]?|^\W*\(?([A-J])(?:[).:]|\s*$)",
    re.I,
)


def choices_of(question: str) -> list[tuple[str, str]]:
    """The lettered choices of a question, letter and text: at least two, from A on, each on its
    line; empty where there are none."""
    found = _CHOICE_LINE.findall(question)
    return found if len(found) >= 2 and found[0][0] == "A" else []


def _choices(record: Record, options: CleanOptions) -> str | None:
    found = choices_of(f"{record.instruction}\n{record.input}")
    if not found:
        return None
    names = [letter for letter, _ in found]
    expected = [chr(ord("A") + i) for i in range(len(names))]
    if names != expected:
        return f"choices {', '.join(names)}"
    texts = [b" ".join(fold(text).split()) or text.strip().encode() for _, text in found]
    for letter, text in zip(names, texts, strict=True):
        if not text:
            return f"choice {letter} is empty"
    raw = [" ".join(text.casefold().split()) for _, text in found]
    if len(set(raw)) < len(raw):
        return "two choices are the same"
    named = _NAMED.match(record.output)
    if named and (named[1] or named[2]).upper() not in names:
        return f"the answer names {(named[1] or named[2]).upper()} of {names[0]} to {names[-1]}"
    return None


RULES: dict[str, tuple[str, Rule]] = {
    "empty": ("empty", _empty),
    "length": ("length outlier", _length),
    "echo": ("echo of the question", _echo),
    "refusal": ("refusal", _refusal),
    "boilerplate": ("boilerplate", _boilerplate),
    "truncated": ("truncated sentence", _truncated),
    "language": ("wrong language", _language),
    "choices": ("broken multiple choice", _choices),
}
"""Section of the options to reason and rule, in the order in which they are asked."""
