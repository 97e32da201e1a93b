"""The claim: ``serve`` makes as many tokens for 1, 8 and 64 clients at once as ``transformers
serve`` or more of the same processor time, and loses little to a plain loop of ``generate`` in one
process, which is the limit: it knows all requests beforehand and sends nothing. How long the first
token takes is measured too.

One LLaMA of SmolLM-135M's shape with random weights and LLaMA-2's real tokenizer, in float32 on 2
cores; the same real questions for all, greedy, the same number of tokens. Servers run in a process
of their own, clients in this one; every client asks its next question when it has its answer, and
all stream. transformers serve is measured as it comes and with continuous batching; the cores
decide, so that client counts may be measured one by one (rows of other counts are kept). On a
machine with other work only CPU time on one thread compares (``tokens_per_cpu_s``, with ``--threads
1``). Writes ``results/serve.json``.

    python benchmarks/serve.py                       1, 8 and 64 clients (transformers[serving])
    python benchmarks/serve.py --clients 8           one of them
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from _meadow import SMALL_SET, data_folder, llama2_tokenizer
from _stamp import RESULTS, stamp

RESULT = RESULTS / "serve.json"
SHAPE = {
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "tie_word_embeddings": True,
}
CONTEXT = 2048
NEW_TOKENS = 32
REQUESTS = {1: 4, 8: 16, 64: 64}
"""How many questions are asked in all, by the number of clients."""
START_S = 120.0


class Timed(NamedTuple):
    """One answer: seconds to its first text and to its end, and the text."""

    first_s: float
    whole_s: float
    text: str


class Run(NamedTuple):
    """Answers in the order of the questions, and the seconds that all of them took: on the clock,
    and of the cores in the process that computed, which other work on the machine changes less."""

    answers: list[Timed]
    wall_s: float
    cpu_s: float
    tokens: int


def make_model(folder: Path) -> None:
    """A checkpoint with random weights, LLaMA-2's tokenizer and the alpaca template."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = llama2_tokenizer(folder, "alpaca")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        max_position_embeddings=CONTEXT,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.04,
        **SHAPE,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def questions(most: int) -> list[str]:
    """Real questions of the small set, no two alike."""
    rows = json.loads((data_folder() / SMALL_SET).read_text(encoding="utf-8"))
    asked = list(dict.fromkeys(row["input"] or row["instruction"] for row in rows))
    return asked[:: max(len(asked) // most, 1)][:most]


# --------------------------------------------------------------------------- servers


@contextlib.contextmanager
def ours(folder: Path, log: Path) -> Iterator[tuple[str, int]]:
    """``meadowlark serve``; gives its URL and process."""
    command = [sys.executable, "-m", "meadowlark", "serve", f"hf:{folder}", "--name", str(folder)]
    with started([*command, "--port", "0", "--requests-per-minute", "0"], log) as process:
        while True:
            if found := re.search(r"listening on (http://\S+/v1)", log.read_text()):
                yield found[1], process.pid
                return
            wait_for(process, log)


@contextlib.contextmanager
def theirs(folder: Path, log: Path, *options: str) -> Iterator[tuple[str, int]]:
    """``transformers serve``; gives its URL and process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(folder)]
    how = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with started([*command, *how, *options], log) as process:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            wait_for(process, log)
        yield f"http://127.0.0.1:{port}/v1", process.pid


@contextlib.contextmanager
def started(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A server's process, ended at the end."""
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(process: subprocess.Popen[bytes], log: Path) -> None:
    """A moment's wait; ends the script where the server has ended."""
    if process.poll() is not None:
        sys.exit(f"the server ended with {process.returncode}: {log.read_text()[-2000:]}")
    time.sleep(0.1)


def cpu_seconds(pid: int) -> float:
    """What a process has used of all cores so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# --------------------------------------------------------------------------- clients


async def ask(session: aiohttp.ClientSession, url: str, model: str, question: str) -> Timed:
    """One streamed answer."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": NEW_TOKENS,
        "temperature": 0.0,
        "stream": True,
    }
    began, first, text = time.perf_counter(), 0.0, ""
    async with session.post(f"{url}/chat/completions", json=body) as response:
        if response.status != 200:
            raise RuntimeError(f"{url} answered {response.status}: {await response.text()}")
        async for line in response.content:
            if not line.startswith(b"data:") or line[5:].strip() == b"[DONE]":
                continue
            for choice in json.loads(line[5:]).get("choices") or ():
                if piece := (choice.get("delta") or {}).get("content"):
                    first = first or time.perf_counter() - began
                    text += piece
    return Timed(first, time.perf_counter() - began, text)


async def ask_all(url: str, pid: int, model: str, asked: Sequence[str], clients: int) -> Run:
    """Every question once, by so many clients at once."""
    waiting = iter(enumerate(asked))
    answers: dict[int, Timed] = {}
    timeout = aiohttp.ClientTimeout(total=600)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:

        async def client() -> None:
            for number, question in waiting:
                answers[number] = await ask(session, url, model, question)

        await ask(session, url, model, "Is the server warm?")
        began, used = time.perf_counter(), cpu_seconds(pid)
        await asyncio.gather(*(client() for _ in range(clients)))
        wall_s, cpu_s = time.perf_counter() - began, cpu_seconds(pid) - used
    return Run([answers[n] for n in range(len(asked))], wall_s, cpu_s, NEW_TOKENS * len(asked))


def generate(folder: Path, asked: Sequence[str], together: int) -> Run:
    """A plain loop of ``generate`` over batches of so many, left-padded, in this process."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    texts = [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True
        )
        for q in asked
    ]
    answers, tokens, began, used = [], 0, 0.0, 0.0
    for start in (-1, *range(0, len(texts), together)):
        if start == 0:
            began, used = time.perf_counter(), time.process_time()
        batch = texts[:1] if start < 0 else texts[start : start + together]
        ids = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False)
        before = time.perf_counter()
        with torch.inference_mode():
            out = model.generate(
                **ids,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        if start >= 0:
            new = out[:, ids["input_ids"].shape[1] :]
            tokens += int((new != tokenizer.pad_token_id).sum())
            took = time.perf_counter() - before
            said = tokenizer.batch_decode(new, skip_special_tokens=True)
            answers += [Timed(took, took, text) for text in said]
    wall_s, cpu_s = time.perf_counter() - began, time.process_time() - used
    return Run(answers, wall_s, cpu_s, tokens)


# --------------------------------------------------------------------------- what came out


def figures(run: Run, expected: Sequence[str], *, streams: bool = True) -> dict[str, Any]:
    """Rates and waits of one side, and how many of its answers are not those of ``generate``."""
    found: dict[str, Any] = {"tokens_per_s": run.tokens / run.wall_s, "seconds": run.wall_s}
    found["tokens_per_cpu_s"] = run.tokens / run.cpu_s
    if streams:
        firsts = sorted(answer.first_s for answer in run.answers)
        found["first_token_s_median"] = statistics.median(firsts)
        found["first_token_s_most"] = firsts[-1]
    texts = [answer.text.strip() for answer in run.answers]
    found["answers_that_differ"] = sum(a != b for a, b in zip(texts, expected, strict=True))
    return found


def measure(clients: int, scratch: Path, folder: Path, sides: Sequence[str]) -> dict[str, Any]:
    """Every side with so many clients, one after the other."""
    asked = questions(REQUESTS[clients])
    servers: dict[str, Callable[[Path], Any]] = {
        "meadowlark serve": lambda log: ours(folder, log),
        "transformers serve": lambda log: theirs(folder, log),
        "transformers serve --continuous-batching": lambda log: theirs(
            folder, log, "--continuous-batching"
        ),
    }
    limit = generate(folder, asked, clients)
    expected = [answer.text.strip() for answer in limit.answers]
    row: dict[str, Any] = {
        "clients": clients,
        "questions": len(asked),
        "new_tokens_each": NEW_TOKENS,
        "tokens_that_generate_made": limit.tokens,
        "generate": figures(limit, expected, streams=False),
    }
    for name in sides:
        with servers[name](scratch / f"{name}.log") as (url, pid):
            run = asyncio.run(ask_all(url, pid, str(folder), asked, clients))
        row[name] = figures(run, expected)
        print(clients, name, json.dumps(row[name]), flush=True)
    print(clients, "generate", json.dumps(row["generate"]), flush=True)
    return row


SIDES = (
    "meadowlark serve",
    "transformers serve",
    "transformers serve --continuous-batching",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, nargs="+", choices=REQUESTS, default=list(REQUESTS))
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--threads", type=int, default=2, help="cores used")
    parser.add_argument("--out", type=Path, default=RESULT)
    given = parser.parse_args()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["OMP_NUM_THREADS"] = str(given.threads)
    import torch
    import transformers

    torch.set_num_threads(given.threads)
    transformers.utils.logging.disable_progress_bar()
    rows: dict[int, Any] = {}
    if given.out.exists():
        rows = {row["clients"]: row for row in json.loads(given.out.read_text())["rows"]}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        make_model(scratch / "model")
        for clients in given.clients:
            load = os.getloadavg()[0]
            rows[clients] = {
                "threads": given.threads,
                **measure(clients, scratch, scratch / "model", given.sides),
                "load_at_the_start": load,
            }
            result = {
                **stamp(("torch", "transformers", "fastapi", "uvicorn", "aiohttp")),
                "model": {
                    **SHAPE,
                    "vocab_size": 32_000,
                    "dtype": "float32",
                },
                "rows": [rows[n] for n in sorted(rows)],
            }
            given.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
