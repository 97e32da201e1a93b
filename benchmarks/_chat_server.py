"""A local server for benchmarks of the dispatcher, in a process of its own and as cheap as can be:
chat completions of some 2,500 characters after 200 ms, and three ways of limiting requests.

The path says how: /free, or /bare (429 and nothing else), /retry (429 with Retry-After) and
/headers (429 with Retry-After, and x-ratelimit headers with every reply), each followed by
/v1/chat/completions. A limited path allows 3,000 a minute and stores one second's worth.

    python benchmarks/_chat_server.py     prints its port, and ends when its standard input closes
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

LATENCY_S = 0.2
LIMIT_PER_MINUTE = 3000
STORED = LIMIT_PER_MINUTE / 60
CHARACTERS = 2500
_WORDS = "the dose of this medicine depends on weight age and how well the kidneys work".split()
TEXT = " ".join(_WORDS[i * i % len(_WORDS)] for i in range(CHARACTERS))[:CHARACTERS]


def _body(number: int) -> bytes:
    return json.dumps(
        {
            "id": f"chatcmpl-{number}",
            "object": "chat.completion",
            "created": 1_700_000_000,
            "model": "tiny",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": TEXT},
                    "logprobs": None,
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 500, "completion_tokens": 600, "total_tokens": 1100},
        }
    ).encode()


class Bucket:
    """What a limited path has left."""

    def __init__(self) -> None:
        self.left, self.at = STORED, time.monotonic()

    def take(self) -> bool:
        """Whether one more request is allowed now."""
        now = time.monotonic()
        self.left = min(STORED, self.left + (now - self.at) * LIMIT_PER_MINUTE / 60)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Server(asyncio.Protocol):
    """One connection; requests on it come one after the other."""

    served = 0
    buckets: dict[bytes, Bucket] = {}  # noqa: RUF012

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport, self.read = transport, b""

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, found, body = self.read.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        length = int(lower[lower.find(b"content-length:") + 15 :].split(b"\r\n", 1)[0])
        if len(body) < length:
            return
        self.read = body[length:]
        way = head.split(b"/", 2)[1]
        headers = b""
        if way != b"free":
            bucket = Server.buckets.setdefault(way, Bucket())
            allowed = bucket.take()
            if way == b"headers":
                headers = (
                    f"x-ratelimit-limit-requests: {LIMIT_PER_MINUTE}\r\n"
                    f"x-ratelimit-remaining-requests: {int(bucket.left)}\r\n"
                ).encode()
            if not allowed:
                wait = b"" if way == b"bare" else b"Retry-After: 1\r\n"
                self._send(b"429 Too Many Requests", headers + wait, b'{"error": {"code": "429"}}')
                return
        Server.served += 1
        args = (b"200 OK", headers, _body(Server.served))
        asyncio.get_running_loop().call_later(LATENCY_S, self._send, *args)

    def _send(self, status: bytes, headers: bytes, body: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(
                b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%s\r\n%s"
                % (status, len(body), headers, body)
            )


async def serve() -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


@contextmanager
def running() -> Iterator[str]:
    """The server in a process of its own, and its URL without a path."""
    process = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait()


if __name__ == "__main__":
    asyncio.run(serve())
