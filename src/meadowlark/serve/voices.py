"""Who answers: a conversation goes in, pieces of text come out, then why the answer ended.

A local model answers through its running batch (``llm.continuous``), so that many are answered
together; a remote one through its adapter; an engine beside us, such as vLLM, over HTTP. Leaving
the iteration early takes the request out of the batch, or ends it at the server.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import aiohttp

from meadowlark.errors import ModelError, UserError
from meadowlark.llm import streaming
from meadowlark.llm.chat import ChatModel, ChatRequest, FinishReason, Sampling
from meadowlark.llm.continuous import Continuous
from meadowlark.llm.endpoint import MALFORMED
from meadowlark.llm.local import TransformersModel
from meadowlark.llm.openai_api import take_chunk
from meadowlark.llm.unfolding import Unfolding
from meadowlark.records import Turn
from meadowlark.serve.proof import Proof, compare

MOST_WAITING = 256
"""Requests that may wait for a place in the batch; a later one is told to come again."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why an answer ended, and what it took in tokens (0 where nobody said)."""

    finish: FinishReason
    tokens_in: int
    tokens_out: int


class Busy(ModelError):
    """Too many wait already; ``after_s`` says when to come again."""

    after_s = 5


class TooLong(UserError):
    """A prompt that leaves no room in the context for an answer."""


Pieces = AsyncGenerator["str | Ending", None]


class Voice(Protocol):
    """A model that can be asked by name. ``engine`` says in a word what computes."""

    name: str
    engine: str

    def answer(self, turns: Sequence[Turn], sampling: Sampling) -> Pieces:
        """The answer piece by piece, and an :class:`Ending` last."""
        ...

    async def close(self) -> None:
        """Release the model."""
        ...


class LocalVoice:
    """A checkpoint in this process, behind a running batch. ``proof`` is of its prompts."""

    engine = "meadowlark"

    def __init__(self, name: str, model: TransformersModel, proof: Proof) -> None:
        self.name, self.model, self.proof = name, model, proof
        self.batch = Continuous(model)

    def tokens(self, turns: Sequence[Turn]) -> list[int]:
        """The prompt as the model gets it."""
        return self.model.prompter.encode([self.model.prompter.render(turns)])[0]

    async def answer(self, turns: Sequence[Turn], sampling: Sampling) -> Pieces:
        """The answer piece by piece; raises :class:`Busy`, :class:`TooLong` and UserError."""
        if self.batch.waiting >= MOST_WAITING:
            raise Busy(f"{self.batch.waiting} requests wait already")
        prompt = self.tokens(turns)
        if len(prompt) >= self.model.context_length:
            raise TooLong(
                f"the prompt has {len(prompt)} tokens and the context holds "
                f"{self.model.context_length}, prompt and answer together; shorten it"
            )
        loop = asyncio.get_running_loop()
        made: asyncio.Queue[int | FinishReason | Exception] = asyncio.Queue()

        def deliver(item: int | FinishReason | Exception) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended: nobody listens
                loop.call_soon_threadsafe(made.put_nowait, item)

        unfolding = Unfolding(self.model.prompter.decode, sampling.stop)
        ticket = self.batch.submit(prompt, sampling, deliver)
        try:
            finish: FinishReason | None = None
            while finish is None:
                item = await made.get()
                if isinstance(item, Exception):
                    raise ModelError(f"the model failed: {type(item).__name__}") from item
                if not isinstance(item, int):
                    finish = item
                    break
                if piece := unfolding.add(item):
                    yield piece
                if unfolding.stopped:
                    finish = "stop"
            if piece := unfolding.end():
                yield piece
            if unfolding.stopped:
                finish = "stop"
            yield Ending(finish, len(prompt), len(unfolding.ids))
        finally:
            self.batch.cancel(ticket)

    async def close(self) -> None:
        """End the batch's thread."""
        await asyncio.to_thread(self.batch.close)


class RemoteVoice:
    """A remote model through its adapter; one that cannot be listened to answers whole."""

    def __init__(self, name: str, model: ChatModel) -> None:
        self.name, self.model = name, model
        self.engine = model.endpoint

    async def answer(self, turns: Sequence[Turn], sampling: Sampling) -> Pieces:
        """The reply as it arrives."""
        asked = streaming.pieces(self.model, ChatRequest(tuple(turns), sampling))
        async with contextlib.aclosing(asked) as found:
            async for item in found:
                if isinstance(item, str):
                    yield item
                else:
                    yield Ending(item.finish, item.tokens_in, item.tokens_out)

    async def close(self) -> None:
        """Close the connections."""
        await self.model.close()


class EngineVoice:
    """An engine that speaks OpenAI's interface at ``url`` (ending in /v1), such as vLLM.

    ``asked_as`` is the model's name there. Its prompts are held to ``proof`` by :meth:`prove`.
    """

    def __init__(self, name: str, url: str, asked_as: str, proof: Proof, key: str = "") -> None:
        self.name, self.engine, self.proof = name, url, proof
        self._url, self._asked_as, self._key = url.rstrip("/"), asked_as, key
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=600)
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(
                headers=headers, timeout=timeout, connector=connector
            )
        return self._session

    async def prove(self) -> None:
        """Hold the engine's own tokens for each sample conversation to training's."""
        for turns, expected in self.proof.prompts:
            body = {
                "model": self._asked_as,
                "messages": [turn._asdict() for turn in turns],
                "add_generation_prompt": True,
            }
            url = self._url.removesuffix("/v1") + "/tokenize"
            try:
                async with self._open().post(url, json=body) as response:
                    status, found = response.status, await response.json(content_type=None)
            except (aiohttp.ClientError, ValueError, TimeoutError) as error:
                raise UserError(
                    f"{url} did not say how it tokenises a prompt ({type(error).__name__}), so it "
                    "cannot be proved that the model is asked as it was trained"
                ) from None
            if status != 200 or not isinstance(found, dict) or "tokens" not in found:
                raise UserError(
                    f"{url} answered {status}, so it cannot be proved that the model is asked as "
                    f"it was trained. Is {self._asked_as!r} served there, by vLLM?"
                )
            compare(f"a prompt as {self._url} renders it", found["tokens"], expected, _numbers)

    async def answer(self, turns: Sequence[Turn], sampling: Sampling) -> Pieces:
        """The answer as the engine streams it."""
        body = {
            "model": self._asked_as,
            "messages": [turn._asdict() for turn in turns],
            "stream": True,
            "stream_options": {"include_usage": True},
            "temperature": 0.0,
            **sampling.given(),
        }
        told = streaming.Progress()
        try:
            async with self._open().post(self._url + "/chat/completions", json=body) as response:
                if response.status != 200:
                    await self._refused(response)
                chunks = response.content.iter_any()
                async with contextlib.aclosing(streaming.events(b"", chunks)) as found:
                    async for chunk in found:
                        if chunk == streaming.DONE:
                            break
                        if "error" in chunk:
                            raise ModelError("the engine failed in the middle of an answer")
                        if piece := take_chunk(chunk, told):
                            yield piece
        except (aiohttp.ClientError, TimeoutError, *MALFORMED) as error:
            raise ModelError(f"the engine did not answer ({type(error).__name__})") from None
        if told.finish is None:
            raise ModelError("the engine broke off in the middle of an answer")
        yield Ending(told.finish, told.tokens_in, told.tokens_out)

    async def _refused(self, response: aiohttp.ClientResponse) -> None:
        """Pass on what a request of ours was refused for, and nothing else."""
        if response.status == 429:
            raise Busy("the engine has too much to do")
        if response.status in (400, 413, 422):
            try:
                said: Any = await response.json(content_type=None)
                message = str((said.get("error") or said).get("message") or "")[:500]
            except (ValueError, AttributeError):
                message = ""
            raise UserError(message or "the engine refused the request")
        raise ModelError(f"the engine answered {response.status}")

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def _numbers(ids: Sequence[int]) -> str:
    return " ".join(map(str, ids))
