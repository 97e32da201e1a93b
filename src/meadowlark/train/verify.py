"""Encoded rows held against what a server would do with the same records, row by row.

In come records, the examples made of them, and the tokenizer as a server loads it from the folder
that training saves; out come faults by name with the row's id. What is expected is worked out anew
from the record, through the served tokenizer and its chat template: nothing here asks the encoder,
so that a fault in it, in its cache, or in the saving and loading of a tokenizer is seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from meadowlark.records import Record
from meadowlark.templates import INPUT_MARKER, messages, neutralise
from meadowlark.train.encode import Encoder, Example
from meadowlark.train.encoded import Settings

Ids = npt.NDArray[np.int32]

NOTHING = "no token is learned"
END = "an end token is not learned"
NO_BOS = "the begin token is missing"
TWO_BOS = "the begin token is doubled"
UNWANTED_BOS = "a begin token where the base was trained without"
MASK = "what is learned is not what a server generates"
PROMPT = "the prompt is not the served one"
ANSWER = "what is learned is not the row's answer"
TOKENS = "the answer's tokens are not the served tokenizer's"
SPECIAL = "special tokens in the text"
UNKNOWN = "unknown tokens"
PIECES = "the pieces of a split row do not make the row"
TOO_MANY = "more tokens than data.max_length"


class Fault(NamedTuple):
    """What is wrong with one row."""

    name: str
    row: str
    detail: str = ""


@dataclass(slots=True)
class Verified:
    """What was found in some rows: faults, and counts of tokens and rows."""

    faults: list[Fault] = field(default_factory=list)
    prompt_tokens: int = 0
    unknown_tokens: int = 0
    trimmed: int = 0
    """Rows whose answer loses white space around it, since the template trims it."""


@dataclass(frozen=True, slots=True)
class _Served:
    """What a server makes of one record: prompt, prompt with answer, and the answer's text.

    ``before`` are the prompts of earlier answers where those are learned.
    """

    prompt: Ids
    whole: Ids
    text: str
    answer: str
    before: tuple[Ids, ...]


class Verifier:
    """Holds examples against the tokenizer that a server would load.

    ``bos`` is how many begin tokens a row must open with; None where there is no rule.
    """

    def __init__(self, served: Any, settings: Settings, bos: int | None) -> None:
        self.served, self.settings, self.bos = served, settings, bos
        special = {number for number, token in served.added_tokens_decoder.items() if token.special}
        special |= set(served.all_special_ids)
        if served.unk_token_id is not None:
            special.discard(served.unk_token_id)
        self._special = np.zeros(max([len(served), *special]) + 1, dtype=bool)
        self._special[list(special)] = True
        self._skeletons: dict[tuple[tuple[str, bool], ...], list[int]] = {}

    def verify(self, records: Sequence[Record], pieces: Sequence[Sequence[Example]]) -> Verified:
        """Faults of the rows, each a record with the example (or the pieces) made of it.

        Records without examples, which were rejected, are passed over.
        """
        found = Verified()
        rows = [(r, made) for r, made in zip(records, pieces, strict=True) if made]
        served = self._as_served([record for record, _ in rows])
        todo: list[tuple[Record, Example, _Served]] = []
        for (record, made), expected in zip(rows, served, strict=True):
            if isinstance(expected, str):
                found.faults.append(Fault(PROMPT, record.id, expected))
                continue
            if self._is_cut(record, made, expected):
                again = self._cut_as_served(record, made[0], expected)
                if again is None:
                    detail = "no shorter input gives these tokens"
                    found.faults.append(Fault(PROMPT, record.id, detail))
                    continue
                record, expected = again
            found.faults += self._too_long(made)
            if len(made) > 1:
                found.faults += self._pieces_faults(made, len(expected.prompt))
            todo.append((record, _joined(made, len(expected.prompt)), expected))
        self._judge(todo, found)
        return found

    # ------------------------------------------------------------------ what a server does

    def _as_served(self, records: Sequence[Record]) -> list[_Served | str]:
        """What a server makes of each record, or why it makes nothing."""
        turns = [[t._asdict() for t in messages(r, with_output=True)] for r in records]
        try:
            return self._served_batch(records, turns)
        except (TemplateError, ValueError, TypeError):
            pass  # one of them; which, is found one by one
        found: list[_Served | str] = []
        for record, conversation in zip(records, turns, strict=True):
            try:
                found += self._served_batch([record], [conversation])
            except (TemplateError, ValueError, TypeError) as error:
                found.append(f"the saved template does not render it: {error}")
        return found

    def _served_batch(
        self, records: Sequence[Record], turns: list[list[dict[str, Any]]]
    ) -> list[_Served | str]:
        if not records:
            return []
        prompts = self._prompts([conversation[:-1] for conversation in turns])
        texts = self._texts([conversation[:-1] for conversation in turns], prompt=True)
        answers = [
            self._answer(record, whole, text)
            for record, whole, text in zip(
                records, self._texts(turns, prompt=False), texts, strict=True
            )
        ]
        joined = [text + answer for text, answer in zip(texts, answers, strict=True)]
        wholes = self.served(
            joined, add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return [
            _Served(_array(prompt), _array(whole), text, answer, self._before(conversation))
            for prompt, whole, text, answer, conversation in zip(
                prompts, wholes, texts, answers, turns, strict=True
            )
        ]

    def _prompts(self, turns: list[list[dict[str, Any]]]) -> list[list[int]]:
        """The ids of prompts, by the very call that servers make."""
        ids: list[list[int]] = self.served.apply_chat_template(
            turns, add_generation_prompt=True, tokenize=True, return_dict=False
        )
        return ids

    def _texts(self, turns: list[list[dict[str, Any]]], *, prompt: bool) -> list[str]:
        texts: list[str] = self.served.apply_chat_template(
            turns, add_generation_prompt=prompt, tokenize=False
        )
        return texts

    def _answer(self, record: Record, whole: str, prompt: str) -> str:
        """The last answer's text with its end token, as the template writes it behind a prompt."""
        end: str = self.served.eos_token
        if not whole.startswith(
            prompt
        ):  # earlier turns are rewritten; the prompt was sent as it is
            return record.output + end
        answer = whole[len(prompt) :]
        return answer[: answer.rindex(end) + len(end)] if end in answer else answer + end

    def _before(self, turns: list[dict[str, Any]]) -> tuple[Ids, ...]:
        if self.settings.loss_on != "answers":
            return ()
        places = [k for k, turn in enumerate(turns[:-1]) if turn["role"] == "assistant"]
        return (
            tuple(_array(ids) for ids in self._prompts([turns[:k] for k in places]))
            if places
            else ()
        )

    # ------------------------------------------------------------------ rows that were shortened

    def _is_cut(self, record: Record, made: Sequence[Example], expected: _Served) -> bool:
        return (
            self.settings.too_long == "cut_input"
            and bool(record.input)
            and len(expected.whole) > self.settings.max_length
            and len(made) == 1
        )

    def _cut_as_served(
        self, record: Record, example: Example, whole: _Served
    ) -> tuple[Record, _Served] | None:
        """The record with its input cut as it must have been, and what a server makes of it.

        How many characters are gone follows from the lengths of both texts. Where the template
        does more with an input than write it down, the encoder is asked after all.
        """
        text = self._decode([example.input_ids])[0]
        gone = len(whole.text) + len(whole.answer) - len(text)
        if not gone:
            return record, whole
        input = neutralise(record.input)
        shorter: Record | None = replace(record, input=input[: max(len(input) - gone, 0)])
        for attempt in (1, 2):
            if attempt == 2:
                shorter = Encoder(self.served, **asdict(self.settings)).shortened(record)
            if shorter is not None and shorter.input:
                (served,) = self._as_served([shorter])
                if not isinstance(served, str) and served.text + served.answer == text:
                    return shorter, served
        return None

    def _too_long(self, made: Sequence[Example]) -> list[Fault]:
        longest = max(len(piece.input_ids) for piece in made)
        if longest <= self.settings.max_length:
            return []
        return [Fault(TOO_MANY, made[0].id, f"{longest} tokens")]

    def _pieces_faults(self, made: Sequence[Example], prompt: int) -> list[Fault]:
        """What is wrong with how a row was split: each piece has the prompt, then what came
        directly before, then what it learns, to its end."""
        first = made[0]
        learned = _learned_answer(first, prompt)
        for number, piece in enumerate(made[1:], start=2):
            ids = piece.input_ids
            fault = ""
            if not np.array_equal(ids[:prompt], first.input_ids[:prompt]):
                fault = "does not open with the prompt"
            elif len(piece.spans) != 1 or piece.spans[0][1] != len(ids):
                fault = "does not learn its end, in one stretch"
            else:
                context = ids[prompt : piece.spans[0][0]]
                if len(context) and not np.array_equal(context, learned[-len(context) :]):
                    fault = "does not stand behind what came before it"
            if fault:
                return [Fault(PIECES, first.id, f"piece {number} of {len(made)} {fault}")]
            learned = np.concatenate([learned, _learned_answer(piece, prompt)])
        return []

    # ------------------------------------------------------------------ judging

    def _judge(self, rows: Sequence[tuple[Record, Example, _Served]], found: Verified) -> None:
        """Every fault of rows and what is expected of them."""
        texts = self._decode([example.input_ids for _, example, _ in rows])
        heads = self._decode([e.input_ids[: len(served.prompt)] for _, e, served in rows])
        for (record, example, served), text, head in zip(rows, texts, heads, strict=True):
            found.prompt_tokens += len(served.prompt)
            found.unknown_tokens += self._unknown(example)
            if served.answer != record.output + self.served.eos_token:
                found.trimmed += served.answer == record.output.strip() + self.served.eos_token
            faults = self._prompt_faults(example, served)
            faults += self._mask_faults(example, served, other_prompt=PROMPT in dict(faults))
            if not {END, NOTHING} & set(dict(faults)):
                learned = text[len(head) :] if text.startswith(head) else ""
                faults += self._answer_faults(record, example, served, learned)
            faults += self._token_faults(record, example)
            found.faults += [Fault(name, record.id, detail) for name, detail in faults]

    def _decode(self, ids: Sequence[Ids]) -> list[str]:
        lists = [one.tolist() for one in ids]
        if self.served.is_fast:
            texts: list[str] = self.served.backend_tokenizer.decode_batch(
                lists, skip_special_tokens=False
            )
            return texts
        return [self.served.decode(one, clean_up_tokenization_spaces=False) for one in lists]

    def _mask_faults(
        self, example: Example, served: _Served, *, other_prompt: bool
    ) -> list[tuple[str, str]]:
        """What is learned, against what a server would have to generate, position by position.

        Behind ``other_prompt`` than the served one only nothing and a missing end can be told.
        """
        ids, spans, end = example.input_ids, example.spans, self.served.eos_token_id
        if not example.supervised:
            return [(NOTHING, "")]
        learned_ends = {stop - 1 for _, stop in spans}
        open_ended = [stop for _, stop in spans if ids[stop - 1] != end]
        if len(ids) - 1 not in learned_ends:
            return [(END, f"the last learned position is {max(learned_ends)} of {len(ids) - 1}")]
        if ids[-1] != end:
            return [(END, f"the row ends with {self._names(ids[-3:])}")]
        if self.settings.loss_on == "answers" and open_ended:
            return [
                (END, f"an answer ends with {self._names(ids[open_ended[0] - 3 : open_ended[0]])}")
            ]
        if other_prompt:
            return []
        expected = self._spans(ids, served)
        if isinstance(expected, str):
            return [(PROMPT, expected)]
        if spans != expected:
            return [(MASK, f"learned {_ranges(spans)}, generated {_ranges(expected)}")]
        return []

    def _spans(self, ids: Ids, served: _Served) -> tuple[tuple[int, int], ...] | str:
        """The positions that should be learned, or in what the row's prompts are not a server's."""
        last = (len(served.prompt), len(ids))
        if self.settings.loss_on == "all":
            return ((1, len(ids)),)
        spans = []
        for number, prompt in enumerate(served.before, start=1):
            same = _common(prompt, ids)
            if same < len(prompt) - 1:
                return f"before answer {number} a server sends other tokens from {same} on"
            # A token across the border is part of no answer.
            start = same if same == len(prompt) else same + 1
            ends = np.flatnonzero(ids[start : len(served.prompt)] == self.served.eos_token_id)
            if not len(ends):
                return f"answer {number} has no end token"
            spans.append((start, start + int(ends[0]) + 1))
        return (*spans, last)

    def _prompt_faults(self, example: Example, served: _Served) -> list[tuple[str, str]]:
        """The begin token, and the prompt's tokens against the served ones."""
        ids, bos = example.input_ids, self.served.bos_token_id
        faults = []
        if self.bos is not None and bos is not None:
            run = 0
            while run < len(ids) and ids[run] == bos:
                run += 1
            if run > max(self.bos, 1):
                faults.append((TWO_BOS, f"{run} times"))
            elif run < self.bos:
                faults.append((NO_BOS, f"the row opens with {self._names(ids[:3])}"))
            elif run > self.bos:
                faults.append((UNWANTED_BOS, ""))
        head = ids[: len(served.prompt)]
        if not np.array_equal(head, served.prompt):
            place = _common(head, served.prompt)
            ours, theirs = (self._names(x[place : place + 4]) for x in (ids, served.prompt))
            faults.append((PROMPT, f"token {place}: trained {ours}, served {theirs}"))
        return faults

    def _answer_faults(
        self, record: Record, example: Example, served: _Served, learned: str
    ) -> list[tuple[str, str]]:
        """The text learned as the last answer, and its tokens."""
        end = self.served.eos_token
        if served.answer.removesuffix(end).strip() != record.output.strip():
            wrote = _around(served.answer, record.output + end)
            return [(ANSWER, f"the template writes {wrote}")]
        if learned != served.answer:
            return [(ANSWER, f"it reads back as {_around(learned, served.answer)}")]
        if np.array_equal(example.input_ids, served.whole):
            return []
        if not np.array_equal(served.whole[: len(served.prompt)], served.prompt):
            return []  # a token of the whole text lies across the border: nobody generates that
        place = _common(example.input_ids, served.whole)
        if place < len(served.prompt):
            return []  # told as the prompt's
        ours, theirs = (
            self._names(x[place : place + 4]) for x in (example.input_ids, served.whole)
        )
        return [(TOKENS, f"token {place}: trained {ours}, served {theirs}")]

    def _token_faults(self, record: Record, example: Example) -> list[tuple[str, str]]:
        """Special tokens that come from the text and not from the template, and unknown ones."""
        faults = []
        ids = example.input_ids
        extra = Counter(self._specials(ids)) - Counter(self._skeleton(record))
        if extra:
            names = ", ".join(self._name(number) for number in list(extra)[:4])
            faults.append((SPECIAL, names))
        unknown = self._unknown(example)
        if unknown:
            faults.append((UNKNOWN, f"{unknown} of {len(ids)} tokens"))
        return faults

    def _specials(self, ids: Ids) -> list[int]:
        """The special tokens of a row, those it opens with left out."""
        special: list[int] = ids[self._special[ids]].tolist()
        opening = 0
        while opening < len(ids) and ids[opening] == self.served.bos_token_id:
            opening += 1
        return special[opening:]

    def _unknown(self, example: Example) -> int:
        if self.served.unk_token_id is None:
            return 0
        return int((example.input_ids == self.served.unk_token_id).sum())

    def _skeleton(self, record: Record) -> list[int]:
        """The special tokens that the template itself writes for a conversation of this form."""
        turns = messages(record, with_output=True)
        form = tuple((turn.role, INPUT_MARKER in turn.content) for turn in turns)
        if form not in self._skeletons:
            bare = [
                {"role": role, "content": f"x{INPUT_MARKER}x" if marked else "x"}
                for role, marked in form
            ]
            (prompt,) = self._texts([bare[:-1]], prompt=True)
            (whole,) = self._texts([bare], prompt=False)
            text = prompt + self._answer(Record("x", output="x"), whole, prompt)
            ids = self.served(text, add_special_tokens=False, verbose=False)["input_ids"]
            self._skeletons[form] = self._specials(_array(ids))
        return self._skeletons[form]

    def _name(self, number: int) -> str:
        name: str = self.served.convert_ids_to_tokens(int(number))
        return name

    def _names(self, ids: Ids) -> str:
        return " ".join(repr(self._name(number)) for number in ids.tolist()) or "nothing"


def _array(ids: Sequence[int]) -> Ids:
    return np.array(ids, dtype=np.int32)


def _common(one: Ids, other: Ids) -> int:
    """How many leading tokens two sequences share."""
    n = min(len(one), len(other))
    differing = np.flatnonzero(one[:n] != other[:n])
    return int(differing[0]) if len(differing) else n


def _learned_answer(piece: Example, prompt: int) -> Ids:
    """The tokens of the last answer that a piece of a row learns."""
    if not piece.spans:
        return piece.input_ids[:0]
    start, stop = piece.spans[-1]
    return piece.input_ids[max(start, prompt) : stop]


def _joined(made: Sequence[Example], prompt: int) -> Example:
    """The pieces of a row as the row that was split; a row in one piece as it is."""
    first = made[0]
    if len(made) == 1 or not first.spans:
        return first
    answer = np.concatenate([_learned_answer(piece, prompt) for piece in made])
    ids = np.concatenate([first.input_ids[: max(first.spans[-1][0], prompt)], answer])
    spans = (*first.spans[:-1], (first.spans[-1][0], len(ids)))
    return Example(first.id, ids, spans, sum(piece.response_bytes for piece in made))


def _ranges(spans: Sequence[tuple[int, int]]) -> str:
    """Half-open spans as the inclusive ranges that people read."""
    shown = ", ".join(f"{start}–{stop - 1}" for start, stop in spans[:4])
    return f"{shown}, …" if len(spans) > 4 else shown


def _around(found: str, expected: str) -> str:
    """Where one text departs from another, with a little of what stands around it."""
    place = 0
    while place < min(len(found), len(expected)) and found[place] == expected[place]:
        place += 1
    ours, theirs = (repr(text[max(place - 8, 0) : place + 24]) for text in (found, expected))
    return f"{ours} where {theirs} is meant (character {place})"
