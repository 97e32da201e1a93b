"""``meadowlark.load(MODEL)``: a model for a notebook, asked by instruction and input.

It is medAlpaca's Inferer over this package's own parts: the prompt is rendered by the checkpoint's
template as in training and by every server, and greedy answers have the same tokens as plain
``transformers``. Any MODEL of the command line can be loaded, a remote one too.

    >>> ask = meadowlark.load("hf:runs/tuned/model")
    >>> ask("What does this finding mean?", "Hb 7.1 g/dl")
    >>> for piece in ask("Explain fever.", stream=True): print(piece, end="")
    >>> ask(["Explain fever.", "Explain cough."])
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal, overload

from meadowlark.errors import UserError
from meadowlark.llm import PROVIDERS, open_chat_model
from meadowlark.llm.chat import ChatModel, ChatReply, ChatRequest, Sampling
from meadowlark.llm.streaming import spoken
from meadowlark.records import Turn
from meadowlark.templates import neutralise, user_content

if TYPE_CHECKING:
    from meadowlark.llm.local import Quantised, TransformersModel

AT_ONCE = 8
"""Requests in flight to a remote model."""


def load(
    model: str,
    *,
    adapter: str | None = None,
    template: str | None = None,
    quantise: Quantised | None = None,
    context_length: int | None = None,
    system: str = "",
) -> Inferer:
    """Load a model to be asked from Python.

    ``model`` is a MODEL of the command line (``hf:PATH_OR_ID``, ``hf:BASE+ADAPTER``,
    ``openai:NAME@URL``, …). ``adapter`` puts LoRA weights on an ``hf:`` model; ``quantise`` holds
    its linear layers in ``"int8"`` or ``"nf4"`` (bitsandbytes); ``template`` is for a checkpoint
    that carries none; ``context_length`` bounds prompt and answer together, in tokens. ``system``
    is a system message for every question. Raises UserError for what cannot be loaded.
    """
    provider, _, reference = model.partition(":")
    if provider == "hf" and reference:
        from meadowlark.llm.local import open_local

        if adapter is not None:
            reference = f"{reference}+{adapter}"
        local = open_local(reference, template, context_length=context_length, quantise=quantise)
        return Inferer(local, None, system)
    given = {"adapter": adapter, "quantise": quantise, "context_length": context_length}
    wrong = [name for name, value in given.items() if value is not None]
    if wrong and (not reference or provider in PROVIDERS):
        raise UserError(f"{' and '.join(wrong)} can be given for an hf: model only, not {model!r}")
    return Inferer(None, open_chat_model(model, template=template), system)


class Inferer:
    """A loaded model; made by :func:`load`. Call it with an instruction and, if any, an input.

    ``model`` is the local model beneath, for who wants its tokenizer or weights; None for a
    remote one.
    """

    def __init__(
        self, local: TransformersModel | None, remote: ChatModel | None, system: str = ""
    ) -> None:
        self.model, self._remote, self.system = local, remote, system

    @overload
    def __call__(
        self,
        instruction: str,
        input: str = "",
        *,
        history: Sequence[tuple[str, str]] = (),
        stream: Literal[False] = False,
        max_tokens: int = ...,
        temperature: float = ...,
        top_p: float | None = ...,
        top_k: int | None = ...,
        seed: int = ...,
        stop: Sequence[str] = ...,
    ) -> str: ...

    @overload
    def __call__(
        self,
        instruction: str,
        input: str = "",
        *,
        history: Sequence[tuple[str, str]] = (),
        stream: Literal[True],
        max_tokens: int = ...,
        temperature: float = ...,
        top_p: float | None = ...,
        top_k: int | None = ...,
        seed: int = ...,
        stop: Sequence[str] = ...,
    ) -> Iterator[str]: ...

    @overload
    def __call__(
        self,
        instruction: list[str],
        input: str | list[str] = "",
        *,
        history: Sequence[tuple[str, str]] = (),
        stream: Literal[False] = False,
        max_tokens: int = ...,
        temperature: float = ...,
        top_p: float | None = ...,
        top_k: int | None = ...,
        seed: int = ...,
        stop: Sequence[str] = ...,
    ) -> list[str]: ...

    def __call__(
        self,
        instruction: str | list[str],
        input: str | list[str] = "",
        *,
        history: Sequence[tuple[str, str]] = (),
        stream: bool = False,
        max_tokens: int = 512,
        temperature: float = 0.0,
        top_p: float | None = None,
        top_k: int | None = None,
        seed: int = 0,
        stop: Sequence[str] = (),
    ) -> str | list[str] | Iterator[str]:
        """The model's answer: a text, or for a list of instructions the list of their answers.

        ``input`` is one for all instructions or a list of as many. ``history`` holds earlier
        question and answer pairs, the oldest first. Greedy by default; with a ``temperature`` the
        same ``seed`` gives the same answers. ``max_tokens`` counts new tokens; an answer ends
        before any of ``stop``. ``stream=True`` gives an iterator over pieces of one answer.
        """
        if isinstance(stop, str):
            raise UserError(f"stop={stop!r}: expected a list of strings, as [{stop!r}]")
        sampling = Sampling(
            temperature=temperature,
            top_p=top_p,
            top_k=top_k,
            max_tokens=max_tokens,
            stop=tuple(stop),
            seed=seed,
        )
        several = not isinstance(instruction, str)
        instructions = list(instruction) if several else [str(instruction)]
        inputs = [input] * len(instructions) if isinstance(input, str) else list(input)
        if len(inputs) != len(instructions):
            raise UserError(
                f"{len(instructions)} instructions and {len(inputs)} inputs; expected as many"
            )
        before = self._before(history)
        prompts = [
            [*before, Turn("user", user_content(asked, given))]
            for asked, given in zip(instructions, inputs, strict=True)
        ]
        if stream:
            if several:
                raise UserError("stream=True takes one instruction, not a list")
            return self._stream(prompts[0], sampling)
        texts = [reply.text.strip() for reply in self.replies(prompts, sampling)]
        return texts if several else texts[0]

    def replies(self, prompts: Sequence[Sequence[Turn]], sampling: Sampling) -> list[ChatReply]:
        """A reply for each conversation, with its token counts and why it ended."""
        if self.model is not None:
            return self.model.generate(prompts, sampling)
        # A notebook has an event loop at work already; a thread of its own has none.
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(asyncio.run, self._ask(prompts, sampling)).result()

    async def _ask(self, prompts: Sequence[Sequence[Turn]], sampling: Sampling) -> list[ChatReply]:
        remote = self._remote
        assert remote is not None, "a model is local or remote"
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(turns: Sequence[Turn]) -> ChatReply:
            async with gate:
                return await remote.reply(ChatRequest(tuple(turns), sampling))

        try:
            return list(await asyncio.gather(*map(one, prompts)))
        finally:
            await remote.close()

    def _stream(self, turns: Sequence[Turn], sampling: Sampling) -> Iterator[str]:
        if self.model is not None:
            return self.model.stream(turns, sampling)
        assert self._remote is not None, "a model is local or remote"
        return spoken(self._remote, ChatRequest(tuple(turns), sampling))

    def _before(self, history: Sequence[tuple[str, str]]) -> list[Turn]:
        turns = [Turn("system", neutralise(self.system))] if self.system else []
        for question, answer in history:
            turns += [Turn("user", neutralise(question)), Turn("assistant", answer)]
        return turns

    def __repr__(self) -> str:
        if self.model is not None:
            how = ", ".join(f"{key} {value}" for key, value in self.model.describe().items())
            return f"<meadowlark model {self.model.name}: {how}>"
        assert self._remote is not None, "a model is local or remote"
        return f"<meadowlark model {self._remote.name} at {self._remote.endpoint}>"
