"""vLLM in an environment of its own: found, started beside us, or used where it runs already.

It is never imported, since it pins another torch and other transformers. What we start listens on
loopback, on a free port, under a key made for it, and ends with us. Its prompts are held to the
checkpoint's, token for token, before anything is served.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import aiohttp

from meadowlark.errors import UserError
from meadowlark.llm.endpoint import checked_url
from meadowlark.llm.local import precision_of
from meadowlark.llm.prompter import open_prompter, parts_of
from meadowlark.serve.opening import open_proof
from meadowlark.serve.voices import EngineVoice
from meadowlark.terminal import printable

START_TIMEOUT_S = 900.0
END_TIMEOUT_S = 20.0
_CAUSE = re.compile(r"\b\w+(?:Error|Exception): ")


@dataclass
class Process:
    """vLLM at work. ``log`` is what it says, shown only where it does not start."""

    process: subprocess.Popen[bytes]
    url: str
    key: str = field(repr=False)
    folder: tempfile.TemporaryDirectory[str] = field(repr=False)
    log: IO[bytes] = field(repr=False)

    def tail(self) -> str:
        """Its first errors and its last lines, fit for a terminal and without its key.

        The processes that it starts tell the cause, long before it says itself that they ended.
        """
        text = Path(self.log.name).read_text(encoding="utf-8", errors="replace")
        lines = text.strip().splitlines()
        causes = [line for line in lines[:-6] if _CAUSE.search(line)]
        return printable("\n".join([*causes[:2], *lines[-6:]])).replace(self.key, "***")

    def stop(self) -> None:
        """End it and all that it started."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.log.close()
        self.folder.cleanup()


def find() -> str | None:
    """The vLLM of the user's PATH, where this machine has a GPU for it."""
    command = shutil.which("vllm")
    if command is None:
        return None
    import torch

    return command if torch.cuda.is_available() else None


def command_line(
    found: str, reference: str, name: str, port: int, chat_template: Path, **how: str | int | None
) -> list[str]:
    """How vLLM is started for a checkpoint: by its command, or by a Python that has it.

    ``how`` holds ``quantise``, ``context`` and ``options``, more of its own as for a shell.
    """
    parts = parts_of(reference)
    is_python = Path(found).name.startswith(("python", "pypy"))
    base_name = f"{name} (base)" if parts.adapter else name
    line = [found, "-m", "vllm.entrypoints.openai.api_server"] if is_python else [found, "serve"]
    line += ["--model", parts.base] if is_python else [parts.base]
    line += ["--served-model-name", base_name, "--host", "127.0.0.1", "--port", str(port)]
    line += ["--chat-template", str(chat_template), "--generation-config", "vllm"]
    line += ["--dtype", _precision()]
    if parts.adapter:
        line += ["--enable-lora", "--lora-modules", f"{name}={parts.adapter}"]
        line += ["--max-lora-rank", str(_rank(parts.adapter))]
    if how.get("context"):
        line += ["--max-model-len", str(how["context"])]
    if how.get("quantise"):
        if how["quantise"] != "nf4":
            raise UserError(
                "vLLM quantises in flight to nf4 only; leave --quantise int8 to no vLLM"
            )
        line += ["--quantization", "bitsandbytes"]
    try:
        return line + shlex.split(str(how.get("options") or ""))
    except ValueError as error:
        raise UserError(f"--vllm-options {how['options']!r}: {error}") from None


def _precision() -> str:
    """Our own engine's: left to itself, vLLM halves a checkpoint in float32, on a CPU too."""
    import torch

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return str(precision_of(device)).removeprefix("torch.")


def _rank(adapter: str) -> int:
    """The least rank vLLM knows that holds an adapter's."""
    import peft

    rank = int(getattr(peft.PeftConfig.from_pretrained(adapter), "r", 16))
    return next((known for known in (8, 16, 32, 64, 128, 256, 320, 512) if known >= rank), 512)


def start(
    found: str, reference: str, name: str, template: str | None, **how: str | int | None
) -> Process:
    """Start vLLM for a checkpoint; :func:`wait` says when it answers."""
    folder = tempfile.TemporaryDirectory(prefix="meadowlark-vllm-")
    chat_template = Path(folder.name) / "chat_template.jinja"
    tokenizer = open_prompter(reference, template).tokenizer
    chat_template.write_text(tokenizer.chat_template, encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    key = secrets.token_urlsafe(32)
    log = (Path(folder.name) / "vllm.log").open("wb")
    line = command_line(found, reference, name, port, chat_template, **how)
    # Its own environment: ours must not reach into it.
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    try:
        process = subprocess.Popen(
            line,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**kept, "VLLM_API_KEY": key, "VLLM_NO_USAGE_STATS": "1"},
            start_new_session=True,
        )
    except OSError as error:
        log.close()
        folder.cleanup()
        raise UserError(f"--vllm {found} cannot be started: {error.strerror or error}") from None
    return Process(process, f"http://127.0.0.1:{port}/v1", key, folder, log)


async def wait(vllm: Process, timeout_s: float = START_TIMEOUT_S) -> None:
    """Wait until it answers; UserError with the end of its log where it never does."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    health = vllm.url.removesuffix("/v1") + "/health"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while vllm.process.poll() is None:
            try:
                async with session.get(health) as response:
                    if response.status == 200:
                        return
            except (aiohttp.ClientError, TimeoutError):
                pass
            if asyncio.get_running_loop().time() > deadline:
                break
            await asyncio.sleep(0.2)
    ended = vllm.process.poll()
    how = f"ended with {ended}" if ended is not None else f"did not answer in {timeout_s:.0f} s"
    raise UserError(f"vLLM {how}. Without --vllm our own engine is used. It said:\n{vllm.tail()}")


async def at_url(
    url: str, reference: str, name: str, template: str | None, key: str = ""
) -> EngineVoice:
    """The voice of a vLLM that runs already: whatever serves this checkpoint there, proved."""
    base = checked_url(url)
    base = base if base.endswith("/v1") else f"{base}/v1"
    proof = open_proof(reference, template)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=20)) as session,
            session.get(f"{base}/models", headers=headers) as response,
        ):
            listed = await response.json(content_type=None)
            names = [str(model["id"]) for model in listed["data"]]
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"--vllm {base}: no server tells its models there ({type(error).__name__})"
        ) from None
    if not names:
        raise UserError(f"--vllm {base} serves no model")
    asked_as = name if name in names else names[0]
    voice = EngineVoice(name, base, asked_as, proof, key)
    try:
        await voice.prove()
    except BaseException:
        await voice.close()
        raise
    return voice
