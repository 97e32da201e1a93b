"""Reading a teacher's list of tasks: text in, tasks and what could not be read out.

The layout asked for is ``###``, then ``N. Type:``, ``Topic:``, ``View:``, ``Difficulty:``,
``Instruction:`` and ``Input:``. Real teachers number and embolden it, rename or forget fields,
write several tasks on one line, fence it, punctuate it as in their language, answer in JSON, and
stop in the middle; AlpaCare's own parser glued such tasks together (PAPERS.md, section 1). Every
part that is no task comes back with a reason and its text.
"""

from __future__ import annotations

import re

from meadowlark.llm.chat import FinishReason
from meadowlark.synth.parse_json import json_tasks
from meadowlark.synth.task import Task, Unread

FIELDS: dict[str, str] = {
    "type": r"(?:task[ _-]?)?(?:type|format|category)",
    "topic": r"(?:medical[ _-]?)?(?:topic|subject)",
    "view": r"(?:point[ _-]of[ _-]view|view[ _-]?point|view|perspective|pov|speaker)",
    "difficulty": r"difficulty(?:[ _-](?:level|rating))?",
    "instruction": r"(?:task[ _-]?)?instructions?",
    "input": r"(?:task[ _-]?)?inputs?",
}
"""The fields and how teachers name them."""

OTHER_NAMES: dict[str, str] = {
    "instruction": r"(?:task[ _-]?)?(?:description|question|prompt|request)|task",
    "input": r"(?:task[ _-]?)?(?:input[ _-](?:text|data)|context|material|passage)",
}
"""Names that count only at a line's start and where the proper one is absent: an input may well
hold a "Question:" of its own."""

_MARK = r"[*_`]{0,3}"
_GAP = r"[ \t\u00a0\u202f\u3000]*"
"""Also the spaces that French and Chinese typing puts before or after a colon."""


def _label(names: str) -> str:
    """A field's label with whatever emphasis stands around it, up to and with its colon."""
    return rf"{_MARK}(?:{names}){_MARK}{_GAP}[:：﹕]{_MARK}"


_HEADER = "|".join(FIELDS[name] for name in ("type", "topic", "view", "difficulty"))
_ANY = "|".join(FIELDS.values())
_BULLET = r"[ \t>]*(?:[-*+•][ \t]+)?"
_NUMBER = (
    rf"{_MARK}(?:#{{1,6}}[ \t]*)?{_MARK}[(（]?(?:task[ \t]*#?)?[ \t]*\d{{1,5}}[ \t]*"
    rf"[.)）．。、:：\-–]?{_MARK}"
)
_SEPARATOR = re.compile(r"(?m)^[ \t]*(?:[#＃]{2,}|[-*_=]{3,})[ \t]*$")
_NUMBERED_LABEL = re.compile(
    rf"(?im)^{_BULLET}{_NUMBER}{_GAP}(?:\r?\n[ \t]*)*{_BULLET}(?={_label(_HEADER)})"
)
_HASHED_LABEL = re.compile(rf"(?im)^[ \t]*#{{1,6}}[ \t]*(?={_label(FIELDS['type'])})")
_BARE_TYPE = re.compile(rf"(?im)^{_BULLET}(?={_label(FIELDS['type'])})")
_GLUED = re.compile(
    rf"(?i)(?<=\S)\s+(?:#{{2,}}\s*)?{_MARK}\d{{1,5}}[.)）．、]{_MARK}\s*"
    rf"(?={_label(FIELDS['type'])})"
)
_LABEL_AT = re.compile(rf"(?i)(?:^|(?<=[\s>*_|、．）。-])){_label(_ANY)}", re.MULTILINE)
_FENCE = re.compile(r"(?m)^[ \t]*(?:```|~~~)[^\n]*$")
_THINKING = re.compile(r"(?is)^\s*<think(?:ing)?>.*?</think(?:ing)?>")
_NO_INPUT = re.compile(
    r"""(?ix) [\s"'`*(\[<{«„「＜（]*
    (?: no[\s_-]*inputs? (?:[\s]+(?:is[\s]+)?(?:needed|required|necessary|given|provided))?
      | none | n\s*/\s*a | na | nil | not[\s]+(?:applicable|needed|required) | empty | [-–—] )
    [\s"'`*)\]>}.»“」＞）。]*"""
)
_NO_INPUT_THEN = re.compile(r"(?is)^[\"'`*\s]*[<＜]\s*no[\s_-]*input\s*/?[>＞]")
_QUOTES = {
    '"': '"',
    "“": "”",
    "'": "'",
    "‘": "’",
    "`": "`",
    "„": "“",
    "«": "»",
    "「": "」",
    "『": "』",
}


def parse_tasks(text: str, finish: FinishReason = "stop") -> tuple[list[Task], list[Unread]]:
    """The tasks of a reply, and the parts that are none, both in order.

    The last task of a reply that was cut (``finish`` is ``length``) is "truncated", unless a
    separator or a plain ``<noinput>`` shows that it was complete.
    """
    text = _FENCE.sub("", _THINKING.sub("", text.replace("\r\n", "\n"))).strip()
    if not text:
        return [], [Unread("empty reply", "")]
    if text[0] in "[{":
        found = json_tasks(text, finish)
        if found is not None:
            return found
    closed = bool(re.search(r"(?:#{2,}|[-*_=]{3,})\s*$", text))
    segments = _segments(text)
    if not segments:
        return json_tasks(text, finish) or ([], [Unread("not parsed", text)])
    tasks: list[Task] = []
    unread: list[Unread] = []
    for number, segment in enumerate(segments):
        cut = finish == "length" and number == len(segments) - 1 and not closed
        made = _read_task(segment, cut)
        if isinstance(made, Task):
            tasks.append(made)
        else:
            unread.append(made)
    return tasks, unread


def _segments(text: str) -> list[str]:
    """The text cut where a task begins; what stands before the first task is not one."""
    starts = {m.start() for m in _NUMBERED_LABEL.finditer(text) if _labels_after(text, m.end(), 2)}
    starts |= {m.start() for m in _HASHED_LABEL.finditer(text) if _labels_after(text, m.end(), 2)}
    starts |= {m.start() for m in _GLUED.finditer(text) if _labels_after(text, m.end(), 3)}
    for match in _SEPARATOR.finditer(text):
        if _opens_with_label(text, match.end()):
            starts.add(match.start())
    for match in _BARE_TYPE.finditer(text):
        if _labels_after(text, match.end(), 3):
            starts.add(match.start())
    first = _LABEL_AT.search(text)
    if first is not None and _labels_after(text, first.start(), 2):
        starts.add(first.start())  # a teacher that goes on in the middle of the first line
    if not starts:
        return []
    cuts = sorted(starts)
    pieces = [text[a:b].strip() for a, b in zip(cuts, [*cuts[1:], len(text)], strict=True)]
    return [piece for piece in pieces if _LABEL_AT.search(piece)]


def _labels_after(text: str, at: int, wanted: int) -> bool:
    """Whether the next labels, from ``at`` on, are ``wanted`` different ones and near together."""
    names: list[str] = []
    for match in _LABEL_AT.finditer(text, at, min(len(text), at + 600)):
        name = _field_of(match.group())
        if name in names:
            break
        names.append(name)
    # Without a header beside them, an "Input:" and an "Instruction:" may be words of a task.
    return len(names) >= wanted and any(n not in ("instruction", "input") for n in names)


def _opens_with_label(text: str, at: int) -> bool:
    rest = text[at : at + 200].lstrip()
    numbered = re.match(rf"(?i){_BULLET}(?:{_NUMBER}\s*)?{_BULLET}(?={_label(_ANY)})", rest)
    return numbered is not None


def _field_of(label: str) -> str:
    plain = re.sub(r"^[*_`\s]+|[*_`:：\s]+$", "", label)
    return next(name for name, names in FIELDS.items() if re.fullmatch(f"(?i){names}", plain))


def _read_task(segment: str, cut: bool) -> Task | Unread:
    instruction_at = _find(segment, "instruction", 0)
    if instruction_at is None:
        return Unread("truncated" if cut else "missing instruction", segment)
    header = _header(segment[: instruction_at[0]])
    begin = instruction_at[1]
    input_at = _find(segment, "input", begin)
    if input_at is None:
        return Unread("truncated" if cut else "missing input", segment)
    instruction = _clean(segment[begin : input_at[0]])
    input, late = _late_labels(segment[input_at[1] :], header)
    absent = _NO_INPUT.fullmatch(input.strip()) or _NO_INPUT_THEN.match(input)
    if cut and not (input.strip() and absent):
        return Unread("truncated", segment)
    if not instruction:
        return Unread("missing instruction", segment)
    input = "" if absent else _clean(input)
    return Task(instruction, input, **{**header, **late})


_OWN_LINE = {
    name: re.compile(rf"(?im)^{_BULLET}{_label(FIELDS[name])}") for name in ("instruction", "input")
}
_ANYWHERE = {
    name: re.compile(rf"(?i)(?<=[\s>*_|.。]){_label(FIELDS[name])}")
    for name in ("instruction", "input")
}
_RENAMED = {
    name: re.compile(rf"(?im)^{_BULLET}{_label(OTHER_NAMES[name])}")
    for name in ("instruction", "input")
}


def _find(segment: str, field: str, at: int) -> tuple[int, int] | None:
    """Start and end of a field's label: first at a line's start, else anywhere, else renamed."""
    found = (
        _OWN_LINE[field].search(segment, at)
        or _ANYWHERE[field].search(segment, at)
        or _RENAMED[field].search(segment, at)
    )
    return None if found is None else (found.start(), found.end())


def _header(text: str) -> dict[str, str]:
    """The labels before the instruction, each up to the next one."""
    found = list(re.finditer(rf"(?im)(?:^|(?<=[\s>*_|.)#、．）。-])){_label(_HEADER)}", text))
    values: dict[str, str] = {}
    for match, following in zip(found, [*found[1:], None], strict=True):
        value = text[match.end() : following.start() if following else len(text)]
        values.setdefault(_field_of(match.group()), _clean_label(value))
    return values


def _late_labels(input: str, header: dict[str, str]) -> tuple[str, dict[str, str]]:
    """An input without the separator and the labels that a teacher put behind it."""
    late: dict[str, str] = {}
    lines = _SEPARATOR.sub("", input).rstrip().split("\n")
    while len(lines) > 1:
        match = re.fullmatch(rf"(?i){_BULLET}({_label(_HEADER)})(.{{1,60}})", lines[-1].strip())
        name = _field_of(match[1]) if match else ""
        if match is None or name in header or name in late:
            break
        late[name] = _clean_label(match[2])
        lines.pop()
    return "\n".join(lines), late


def _clean_label(text: str) -> str:
    text = " ".join(text.split()).strip("*_`|-–# \t")
    return text.strip("\"'").rstrip(";,").strip()


def _clean(text: str) -> str:
    """Without separators, emphasis and quotes around the whole; the words stay as they are."""
    text = text.strip().removesuffix("###").strip()
    if text.startswith("**") and text.endswith("**") and text.count("**") == 2:
        text = text[2:-2].strip()
    for opening, closing in _QUOTES.items():
        inner = text[1:-1]
        if len(text) > 1 and text[0] == opening and text[-1] == closing:
            if opening not in inner and closing not in inner:
                return inner.strip()
        elif opening != "'" and text.startswith(opening) and text.count(opening) == 1:
            never_closed = closing == opening or closing not in text
            return text[1:].strip() if never_closed else text
    return text
