"""A record becomes token ids, some spans of which are supervised; what cannot is rejected.

The prompt's ids are those a server makes (the chat template, tokenised without further special
tokens), the response's are those that would have to be generated after them, and the end token is
always supervised. In come records and a tokenizer with a chat template; out go :class:`Example`
rows and :class:`~meadowlark.records.Rejected` ones.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.templates import TEMPLATES, PromptTemplate, messages

NO_OUTPUT = "no output to learn from"
SPECIAL = "contains a special token"
TURNS = "turns do not alternate"
REWRITTEN = "the template rewrites earlier turns"
UNCLOSED = "the template closes an earlier answer without the end token"
TOO_LONG = "longer than max_length"
CONTEXT_SHARE = 4
"""A later piece of a split response is read behind a quarter of the room of what came before."""

LossOn = Literal["response", "answers", "all"]
TooLong = Literal["reject", "cut_input", "split"]


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded row, or one piece of a row that was split.

    ``spans`` are the half-open ranges of positions whose tokens are learned, ascending, apart, and
    none of them holding position 0, which nothing predicts. ``response_bytes`` counts the UTF-8
    bytes of the text learned as answers, end tokens not included.
    """

    id: str
    input_ids: npt.NDArray[np.int32]
    spans: tuple[tuple[int, int], ...]
    response_bytes: int

    @property
    def supervised(self) -> int:
        """How many tokens are learned."""
        return sum(end - start for start, end in self.spans)

    @property
    def first_supervised(self) -> int:
        """The position of the first learned token."""
        return self.spans[0][0]

    def positions(self) -> npt.NDArray[np.int64]:
        """The positions of the learned tokens, ascending."""
        return np.concatenate([np.arange(start, end) for start, end in self.spans])


class Encoder:
    """Encodes records with one tokenizer.

    ``cut`` counts the inputs it shortened, ``split`` the rows it made several pieces of.
    """

    def __init__(
        self,
        tokenizer: Any,
        *,
        max_length: int,
        too_long: TooLong = "reject",
        loss_on: LossOn = "response",
    ) -> None:
        if not tokenizer.chat_template:
            raise UserError("this tokenizer has no chat template; set data.template in the config")
        if tokenizer.eos_token_id is None:
            raise UserError("this tokenizer has no end-of-text token, so no answer could ever end")
        self.tokenizer = tokenizer
        self.max_length, self.too_long, self.loss_on = max_length, too_long, loss_on
        self.cut = self.split = 0
        self._special = special_tokens(tokenizer)
        self._compiled = compiled_from(tokenizer)

    def encode(self, records: Sequence[Record]) -> tuple[list[Example], list[Rejected]]:
        """Encode in order; rows that cannot be used come back with the reason."""
        examples: list[Example] = []
        rejected: list[Rejected] = []
        rendered = [self._render(record) for record in records]
        usable = [texts for texts in rendered if not isinstance(texts, Rejected)]
        ids = iter(self._ids([text for texts in usable for text in texts]))
        for record, texts in zip(records, rendered, strict=True):
            made: Example | Rejected = (
                texts
                if isinstance(texts, Rejected)
                else self._example(record, texts, [next(ids) for _ in texts])
            )
            pieces: Sequence[Example | Rejected] = [made]
            if isinstance(made, Example) and len(made.input_ids) > self.max_length:
                pieces = self._too_long(record, made)
            for piece in pieces:
                if isinstance(piece, Example):
                    examples.append(piece)
                else:
                    rejected.append(piece)
        return examples, rejected

    def _render(self, record: Record) -> list[str] | Rejected:
        """The prompt's text, the whole text, which ends with the answer's end token, and, where
        earlier answers are learned too, the text before each of them."""
        if not record.output.strip():
            return Rejected(record, NO_OUTPUT)
        texts = [record.instruction, record.input, record.output, *(t[1] for t in record.history)]
        for text in texts:
            found = self._special.search(text) if self._special else None
            if found:
                return Rejected(record, SPECIAL, found.group())
        if self._compiled is not None and not record.history:
            return self._render_alone(self._compiled, record)
        turns = [turn._asdict() for turn in messages(record, with_output=True)]
        try:
            prompt = self._apply(turns[:-1], prompt=True)
            whole = self._apply(turns, prompt=False)
            before = [
                self._apply(turns[:place], prompt=True)
                for place, turn in enumerate(turns[:-1])
                if turn["role"] == "assistant" and self.loss_on == "answers"
            ]
        except (TemplateError, ValueError) as error:
            return Rejected(record, TURNS, str(error))
        if not all(prompt.startswith(text) for text in before):
            return Rejected(record, REWRITTEN)
        if not whole.startswith(prompt):
            # Some templates rewrite earlier turns once an answer follows; what a server would
            # have sent before the answer counts.
            whole = prompt + record.output + self.tokenizer.eos_token
        return [prompt, whole, *before]

    def _render_alone(self, template: PromptTemplate, record: Record) -> list[str]:
        """A row without earlier turns by its template's Python form: 30 times as fast as Jinja."""
        bos, eos = self.tokenizer.bos_token or "", self.tokenizer.eos_token
        prompt = template.render(messages(record), bos=bos)
        return [prompt, prompt + record.output + eos]

    def _apply(self, turns: list[dict[str, Any]], *, prompt: bool) -> str:
        text: str = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=prompt
        )
        return text

    def _ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        if self.tokenizer.is_fast:
            # As transformers does it, but without each token's place in the text: that takes as
            # long as the prompts do once more, so that nothing is gained by cutting them out.
            backend = self.tokenizer.backend_tokenizer
            backend.no_truncation()
            backend.no_padding()
            backend.encode_special_tokens = self.tokenizer.split_special_tokens
            made = backend.encode_batch_fast(texts, add_special_tokens=False)
            return [encoding.ids for encoding in made]
        ids: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return ids

    def _example(
        self, record: Record, texts: list[str], encoded: list[list[int]]
    ) -> Example | Rejected:
        prompt, whole, *before = encoded
        if whole[: len(prompt)] == prompt:
            response = whole[len(prompt) :]
        else:
            response = self._continuation(texts, prompt)
        response = _until_end(response, self.tokenizer.eos_token_id)
        ids = prompt + response
        spans = [(1 if self.loss_on == "all" else len(prompt), len(ids))]
        answers = [record.output]
        if before:
            earlier = self._earlier_answers(prompt, before)
            if earlier is None:
                return Rejected(record, UNCLOSED)
            spans = [*earlier, *spans]
            answers += [turn.content for turn in record.history if turn.role == "assistant"]
        return Example(
            record.id,
            np.array(ids, dtype=np.int32),
            tuple(spans),
            sum(len(answer.encode("utf-8", "surrogatepass")) for answer in answers),
        )

    def _earlier_answers(
        self, prompt: list[int], before: list[list[int]]
    ) -> list[tuple[int, int]] | None:
        """The spans of earlier answers in the prompt, each with its end token; None without one.

        A token across an answer's first border, as the whole prompt is tokenised, is not learned.
        """
        spans = []
        starts = []
        for ids in before:
            same = _common_prefix(ids, prompt)
            starts.append(same if same == len(ids) else same + 1)
        for start, bound in zip(starts, [*starts[1:], len(prompt)], strict=True):
            if self.tokenizer.eos_token_id not in prompt[start:bound]:
                return None
            spans.append((start, prompt.index(self.tokenizer.eos_token_id, start) + 1))
        return spans

    def _continuation(self, texts: list[str], prompt: list[int]) -> list[int]:
        """The response's ids where a token of the whole text would span the prompt's end.

        Encoded alone, SentencePiece puts a space before the text; encoded behind a line break it
        does not. Whichever gives the text back when generated after the prompt is taken.
        """
        text = texts[1][len(texts[0]) :]
        alone, line, behind = self._ids([text, "\n", "\n" + text])
        for candidate in (alone, behind[len(line) :]):
            if self.tokenizer.decode(prompt + candidate) == texts[1]:
                return candidate
        return alone

    def _too_long(self, record: Record, example: Example) -> Sequence[Example | Rejected]:
        detail = f"{len(example.input_ids)} tokens"
        if self.too_long == "split":
            pieces = self._pieces(record, example)
            self.split += bool(pieces)
            return pieces or [Rejected(record, TOO_LONG, f"{detail}, its prompt leaves no room")]
        if self.too_long == "reject" or not record.input:
            return [Rejected(record, TOO_LONG, detail)]
        shorter = self.shortened(record)
        if shorter is None:
            return [Rejected(record, TOO_LONG, f"{detail}, even without its input")]
        self.cut += 1
        return [self._one(shorter)]

    def shortened(self, record: Record) -> Record | None:
        """A row that is too long with as many words of its input as fit; None if not one does."""
        kept: Record | None = None
        low, high = 1, len(record.input) - 1  # characters kept; token counts grow with them
        while low <= high:
            middle = (low + high) // 2
            shorter = replace(record, input=_whole_words(record.input, middle))
            if len(self._one(shorter).input_ids) <= self.max_length:
                kept, low = shorter, middle + 1
            else:
                high = middle - 1
        return kept

    def _one(self, record: Record) -> Example:
        texts = self._render(record)
        assert not isinstance(texts, Rejected), "a shortened row stays usable"
        made = self._example(record, texts, self._ids(texts))
        assert isinstance(made, Example), "a shortened row stays usable"
        return made

    def _pieces(self, record: Record, example: Example) -> list[Example]:
        """The last response in pieces behind the same prompt; every token is learned just once.

        A later piece is read behind a quarter of the room of what came before it. Only the last
        one ends with the end token. Empty where the prompt leaves less room than that needs.
        """
        ids = example.input_ids
        prompt = int(example.spans[-1][0]) if self.loss_on != "all" else self._prompt_length(record)
        room = self.max_length - prompt
        context = room // CONTEXT_SHARE
        if context < 1:
            return []
        pieces: list[Example] = []
        left = example.response_bytes
        learned = prompt  # the first token not yet learned
        while learned < len(ids):
            start = learned - context if pieces else prompt
            end = min(start + room, len(ids))
            offset = prompt - start  # where a token of the response stands in this piece
            spans: tuple[tuple[int, int], ...] = ((learned + offset, end + offset),)
            if not pieces:
                spans = (*example.spans[:-1], (example.spans[-1][0], end))
            text = self.tokenizer.decode(ids[learned:end], skip_special_tokens=True)
            size = left if end == len(ids) else min(len(text.encode()), left)
            pieces.append(
                Example(example.id, np.concatenate([ids[:prompt], ids[start:end]]), spans, size)
            )
            left -= size
            learned = end
        return pieces

    def _prompt_length(self, record: Record) -> int:
        texts = self._render(record)
        assert not isinstance(texts, Rejected), "it was rendered before"
        return len(self._ids(texts[:1])[0])


def _common_prefix(one: Sequence[int], other: Sequence[int]) -> int:
    """How many leading tokens two texts share."""
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


def _whole_words(text: str, characters: int) -> str:
    """At most so many characters of a text, ending at a word's end where there is one."""
    head = text[:characters]
    if not text[characters].isspace():
        head = head.rpartition(" ")[0] or head
    return head.rstrip() or text[:characters]


def _until_end(response: list[int], eos: int) -> list[int]:
    """A response up to its last end token; one is added where the template writes none.

    Templates may put a line break behind the end token; nobody ever generates that.
    """
    if eos in response:
        return response[: len(response) - response[::-1].index(eos)]
    return [*response, eos]


def compiled_from(tokenizer: Any) -> PromptTemplate | None:
    """The template that a tokenizer's chat template was compiled from, where it is one of ours."""
    for template in TEMPLATES.values():
        if template.chat_template() == tokenizer.chat_template:
            return template
    return None


def special_tokens(tokenizer: Any) -> re.Pattern[str] | None:
    """A pattern for the literal strings that this tokenizer turns into special tokens."""
    found = set(tokenizer.all_special_tokens)
    found |= {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    longest_first = sorted((text for text in found if text), key=lambda text: (-len(text), text))
    return re.compile("|".join(map(re.escape, longest_first))) if longest_first else None
