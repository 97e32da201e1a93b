"""How others ask many requests of the same server: run by dispatch.py with a Python of their own.

    python benchmarks/_dispatch_peers.py PEER BASE_URL REQUESTS IN_FLIGHT

prints one line of JSON: requests answered, wall and CPU seconds, version. PEER is ``alpacare``
(its loop's shape: five requests at a time, the next five when all have come), ``openai``,
``openai-aiohttp``, ``litellm``, ``distilabel`` or ``aiohttp`` (the floor under all of them). What a
peer imports is not in its time, as it is not in ours.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

SYSTEM = "You are a medical expert. " * 16
QUESTION = "What should a patient with this history be told about the medicine? " * 22
TIMEOUT_S = 60
Ask = Callable[[int], Awaitable[str]]


def messages(number: int) -> list[dict[str, str]]:
    """The conversation of a request: some 1,900 characters, no two alike."""
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"{QUESTION}{number}"},
    ]


async def in_flight(ask: Ask, requests: int, at_once: int) -> int:
    """So many workers that take the next request when they are done with one."""
    numbers, done = iter(range(requests)), 0

    async def worker() -> None:
        nonlocal done
        for number in numbers:
            answer = await ask(number)  # on a line of its own: others count meanwhile
            done += bool(answer)

    await asyncio.gather(*(worker() for _ in range(at_once)))
    return done


async def with_a_barrier(ask: Ask, requests: int, at_once: int) -> int:
    """A batch at a time: the slowest of each is waited for."""
    done = 0
    for start in range(0, requests, at_once):
        numbers = range(start, min(start + at_once, requests))
        done += sum(map(bool, await asyncio.gather(*map(ask, numbers))))
    return done


async def plain_aiohttp(url: str, run: Callable[..., Awaitable[int]], *size: int) -> int:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(number: int) -> str:
            body = {"model": "tiny", "messages": messages(number)}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                return str((await response.json())["choices"][0]["message"]["content"])

        return await run(ask, *size)


async def openai_sdk(url: str, client: Any, *size: int) -> int:
    import openai

    options: dict[str, Any] = {"base_url": url, "api_key": "none", "max_retries": 0}
    asking = openai.AsyncOpenAI(**options, timeout=TIMEOUT_S, http_client=client)

    async def ask(number: int) -> str:
        made = await asking.chat.completions.create(model="tiny", messages=messages(number))
        return str(made.choices[0].message.content)

    try:
        return await in_flight(ask, *size)
    finally:
        await asking.close()


async def litellm(url: str, *size: int) -> int:
    import litellm as lite

    lite.suppress_debug_info = True

    async def ask(number: int) -> str:
        made = await lite.acompletion(
            model="openai/tiny", api_base=url, api_key="none", messages=messages(number),
            timeout=TIMEOUT_S, num_retries=0,
        )  # fmt: skip
        return str(made.choices[0].message.content)

    return await in_flight(ask, *size)


def distilabel(url: str, requests: int, at_once: int) -> int:
    """Its LLM asked in batches of so many: a batch waits for its slowest member."""
    from distilabel.models import OpenAILLM

    model = OpenAILLM(model="tiny", base_url=url, api_key="none", max_retries=0, timeout=TIMEOUT_S)
    model.load()
    done = 0
    for start in range(0, requests, at_once):
        inputs = [messages(n) for n in range(start, min(start + at_once, requests))]
        done += sum(bool(out["generations"][0]) for out in model.generate_outputs(inputs=inputs))
    return done


async def answered(peer: str, url: str, *size: int) -> int:
    if peer == "aiohttp":
        return await plain_aiohttp(url, in_flight, *size)
    if peer == "alpacare":
        return await plain_aiohttp(url, with_a_barrier, size[0], 5)
    if peer == "litellm":
        return await litellm(url, *size)
    if peer == "openai-aiohttp":
        from openai import DefaultAioHttpClient

        return await openai_sdk(url, DefaultAioHttpClient(), *size)
    assert peer == "openai", peer
    return await openai_sdk(url, None, *size)


def main() -> None:
    peer, url, *size = sys.argv[1:]
    requests, at_once = map(int, size)
    os.environ["OPENAI_API_KEY"] = "none"
    package = {"alpacare": "aiohttp", "openai-aiohttp": "openai"}.get(peer, peer)
    try:
        importlib.import_module("distilabel.models" if peer == "distilabel" else package)
    except ImportError as error:
        print(json.dumps({"not_installed": str(error)}))
        return
    wall, cpu = time.perf_counter(), time.process_time()
    if peer == "distilabel":
        done = distilabel(url, requests, at_once)
    else:
        done = asyncio.run(answered(peer, url, requests, at_once))
    print(
        json.dumps(
            {
                "answered": done,
                "seconds": time.perf_counter() - wall,
                "cpu_s": time.process_time() - cpu,
                "version": importlib.metadata.version(package),
            }
        )
    )


if __name__ == "__main__":
    main()
