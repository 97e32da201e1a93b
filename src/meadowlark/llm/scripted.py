"""A model that says what it is told: the public test double for all that asks a model.

``ScriptedModel(["first", "second"])`` answers in the order in which it is asked;
``ScriptedModel(lambda request: ...)`` answers by the request. A reply may be text, a
:class:`ChatReply`, or an exception to raise.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from meadowlark.llm.chat import ChatReply, ChatRequest
from meadowlark.llm.prices import FREE, Price
from meadowlark.llm.rates import Limits

Scripted = str | ChatReply | Exception


class ScriptedModel:
    """Answers from a list or a function; ``asked`` keeps every request it was given, in order.

    A list that runs out is an IndexError: the script did not foresee that call. ``delay_s`` may be
    a function of the request, to try out slow ones; ``price`` lets replies cost something.
    """

    def __init__(
        self,
        script: Iterable[Scripted] | Callable[[ChatRequest], Scripted],
        *,
        name: str = "scripted",
        delay_s: Callable[[ChatRequest], float] | None = None,
        price: Price | None = FREE,
    ) -> None:
        self.name = name
        self.endpoint = "scripted"
        self.price = price
        self.limits = Limits()
        self.asked: list[ChatRequest] = []
        self._script = script if callable(script) else list(script)
        self._delay_s = delay_s

    async def reply(self, request: ChatRequest) -> ChatReply:
        """The next scripted reply, or the function's."""
        number = len(self.asked)
        self.asked.append(request)
        if self._delay_s is not None:
            await asyncio.sleep(self._delay_s(request))
        if callable(self._script):
            said = self._script(request)
        else:
            if number >= len(self._script):
                raise IndexError(f"the script holds {len(self._script)} replies, one more is asked")
            said = self._script[number]
        if isinstance(said, Exception):
            raise said
        return ChatReply(said) if isinstance(said, str) else said

    async def close(self) -> None:
        """Nothing to release."""
