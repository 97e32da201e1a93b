"""Claim: 1.5 million rows are encoded in parallel with bounded memory and cached by content: a
second run reads the cache, memory does not grow with the rows, and it is no slower than
``datasets.map``; ``check`` goes through as many in bounded memory too.

The rows are the real small Meadow set's, repeated until there are enough: in every repetition each
number's digits are shuffled among the row's numbers' digits and one word in twenty trades places
with its neighbour (a generator seeded by the repetition), so that no two repetitions are the same
text and lengths stay real. They are written as parquet in a stream. Beside ours:
``datasets.map`` with the same tokenizer and template and the same number of processes, batched, as
TRL and the transformers examples encode, over the same ``--peer-rows``. ``--check`` adds
``meadowlark check`` over all rows, from our cache, without looking for exam questions. Memory is
the sum over the process tree of what is resident and backed by no file, read ten times a second.
Writes ``results/encode.json``.

    python benchmarks/encode.py [--rows 1500000] [--peer-rows 20000 200000] [--check]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
from _meadow import SMALL_SET, data_folder, llama2_tokenizer
from _stamp import RESULTS, stamp

RESULT = RESULTS / "encode.json"
PART_ROWS = 10_000
MAX_LENGTH = 1024
SWAPPED = 20
"""One word in so many trades places with its neighbour."""


# --------------------------------------------------------------------------- rows


def perturbed(text: str, generator: random.Random) -> str:
    """The text with its digits shuffled among themselves and some neighbouring words swapped."""
    digits = re.findall(r"\d", text)
    generator.shuffle(digits)
    text = re.sub(r"\d", lambda _: digits.pop(), text)
    words = text.split(" ")
    for place in range(len(words) - 1):
        if generator.randrange(SWAPPED) == 0:
            words[place : place + 2] = words[place + 1], words[place]
    return " ".join(words)


def write_rows(path: Path, count: int) -> None:
    """``count`` rows as parquet, a part of them in memory at a time."""
    from meadowlark.dataset import read
    from meadowlark.records import Record, to_table

    real, _ = read(data_folder() / SMALL_SET, Record)
    writer: pq.ParquetWriter | None = None
    part: list[Record] = []
    for number in range(count):
        repetition, row = divmod(number, len(real))
        generator = random.Random(number)
        source = real[row]
        fields = [source.instruction, source.input, source.output]
        if repetition:
            fields[1:] = [perturbed(text, generator) for text in fields[1:]]
        part.append(Record(*fields, source="benchmark", licence="not for use"))
        if len(part) == PART_ROWS or number == count - 1:
            table = to_table(part, Record)
            writer = writer or pq.ParquetWriter(path, table.schema, compression="zstd")
            writer.write_table(table)
            part = []
    assert writer is not None, "no rows were asked for"
    writer.close()


# --------------------------------------------------------------------------- measuring


@contextlib.contextmanager
def memory_of_tree(every_s: float = 0.1) -> Iterator[Callable[[], int]]:
    """The most memory, in bytes, that this process and its children held together.

    Files that are mapped into memory are left out: the system takes those pages back at need.
    """
    found = [0]
    stop = threading.Event()
    this = psutil.Process()

    def look() -> None:
        children = this.children(recursive=True)
        found[0] = max(found[0], sum(_own_bytes(process) for process in (this, *children)))

    def watch() -> None:
        while not stop.wait(every_s):
            look()

    look()
    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield lambda: found[0]
    finally:
        stop.set()
        watcher.join()


def _own_bytes(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        memory = process.memory_info()
        return int(memory.rss - memory.shared)
    return 0


def measured(action: Callable[[], Any]) -> tuple[Any, dict[str, Any]]:
    """An action's result, its wall time and the memory of the process tree meanwhile."""
    with memory_of_tree() as most:
        began = time.perf_counter()
        result = action()
        took = time.perf_counter() - began
        return result, {"seconds": round(took, 2), "memory_bytes": most()}


def ours(path: Path, tokenizer: Any, processes: int) -> dict[str, Any]:
    """Encoded once into an empty cache, then asked for again."""
    from meadowlark.train.encoded import Settings, encode

    settings = Settings(max_length=MAX_LENGTH)
    encoded, cold = measured(lambda: encode(path, tokenizer, settings, workers=processes))
    again, cached = measured(lambda: encode(path, tokenizer, settings, workers=processes))
    assert again.folder == encoded.folder, "the second run was to come from the cache"
    tokens = int(encoded.lengths.sum())
    return {
        "rows": encoded.counts.read,
        "kept": encoded.counts.kept,
        "rejected": encoded.counts.rejected,
        "tokens": tokens,
        "cold": {**cold, "rows_per_s": round(encoded.counts.read / cold["seconds"], 1)},
        "cached": cached,
        "cache_bytes": sum(file.stat().st_size for file in encoded.folder.iterdir()),
    }


def checked(path: Path, base: Path, processes: int) -> dict[str, Any]:
    """``check`` over rows that :func:`ours` has encoded: every row held against the served one."""
    from meadowlark.train.check import check
    from meadowlark.train.options import TrainOptions

    options = TrainOptions.model_validate(
        {
            "model": {"base": str(base)},
            "data": {
                "path": path,
                "template": "alpaca",
                "max_length": MAX_LENGTH,
                "workers": processes,
            },
            "optimiser": {"learning_rate": 1e-5},
        }
    )
    found, took = measured(lambda: check(options))
    rows = found.summary["rows"]["training"]["read"]
    return {
        "rows": rows,
        **took,
        "rows_per_s": round(rows / took["seconds"], 1),
        "findings": {finding.name: len(finding.rows) for finding in found.findings},
    }


def peer(path: Path, tokenizer: Any, processes: int, folder: Path) -> dict[str, Any]:
    """``datasets.map``: prompt and whole text of each row tokenised in batches, masks made."""
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    folder.mkdir()
    texts = folder / "texts.parquet"  # datasets has no maps, which tags are
    pq.write_table(pq.read_table(path, columns=["instruction", "input", "output"]), texts)
    data = Dataset.from_parquet(str(texts), cache_dir=str(folder))
    cold_file = str(folder / "cold.arrow")

    def encode() -> Any:
        return data.map(
            tokenised,
            batched=True,
            num_proc=processes,
            remove_columns=data.column_names,
            fn_kwargs={"tokenizer": tokenizer},
            cache_file_name=cold_file,
        )

    encoded, cold = measured(encode)
    return {
        "rows": len(data),
        "tokens": sum(len(ids) for ids in encoded["input_ids"]),
        "cold": {**cold, "rows_per_s": round(len(data) / cold["seconds"], 1)},
    }


def tokenised(batch: dict[str, list[Any]], tokenizer: Any) -> dict[str, Any]:
    """As TRL encodes prompt-completion rows: the prompt and the whole conversation, both from the
    chat template, and a mask of what is behind the prompt."""
    prompts, wholes = [], []
    for instruction, input, output in zip(
        batch["instruction"], batch["input"], batch["output"], strict=True
    ):
        content = f"{instruction}\n\n### Input:\n{input}" if input else instruction
        turns = [{"role": "user", "content": content}]
        answer = {"role": "assistant", "content": output}
        render = tokenizer.apply_chat_template
        prompts.append(render(turns, tokenize=False, add_generation_prompt=True))
        wholes.append(render([*turns, answer], tokenize=False))
    first = tokenizer(prompts, add_special_tokens=False)["input_ids"]
    ids = tokenizer(wholes, add_special_tokens=False)["input_ids"]
    mask = [
        [0] * len(prompt) + [1] * (len(whole) - len(prompt))
        for prompt, whole in zip(first, ids, strict=True)
    ]
    return {"input_ids": ids, "completion_mask": mask}


def in_own_process(who: str, options: argparse.Namespace, rows: int) -> dict[str, Any]:
    """One side measured in a fresh process, so that neither inherits the other's memory."""
    command = [sys.executable, __file__, "--only", who, "--rows", str(rows)]
    command += ["--processes", str(options.processes), "--folder", str(options.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def only(options: argparse.Namespace) -> None:
    """What :func:`in_own_process` starts: one side over the rows written before, as JSON."""
    folder: Path = options.folder
    path = folder / f"rows-{options.rows}.parquet"
    tokenizer = llama2_tokenizer(folder / "llama2")
    os.environ["MEADOWLARK_CACHE"] = str(folder / "cache")
    if options.only == "ours":
        found = ours(path, tokenizer, options.processes)
    elif options.only == "check":
        found = checked(path, folder / "llama2", options.processes)
    else:
        found = peer(path, tokenizer, options.processes, folder / f"peer-{options.rows}")
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--peer-rows", type=int, nargs="+", default=[20_000, 200_000])
    parser.add_argument("--check", action="store_true", help="time `check` over all rows too")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--only", choices=("ours", "peer", "check"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help="where rows and caches go (a temporary one)")
    options = parser.parse_args()
    if options.only:
        only(options)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        options.folder = Path(name)
        measure(options)


def measure(options: argparse.Namespace) -> None:
    """Write the rows; encode a tenth and all of them, and the peer's shares beside the peer."""
    folder: Path = options.folder
    a_tenth = max(options.rows // 10, 1)
    found: dict[str, dict[int, Any]] = {"ours": {}, "peer": {}}
    for count in sorted({a_tenth, options.rows, *options.peer_rows}):
        began = time.perf_counter()
        write_rows(folder / f"rows-{count}.parquet", count)
        print(f"{count:,} rows written in {time.perf_counter() - began:.1f} s", flush=True)
        for who in ("ours", "peer") if count in options.peer_rows else ("ours",):
            found[who][count] = in_own_process(who, options, count)
            print(f"{who}, {count:,} rows:", json.dumps(found[who][count]), flush=True)
    whole, tenth = found["ours"][options.rows], found["ours"][a_tenth]
    result = {
        **stamp(("numpy", "pyarrow", "tokenizers", "transformers", "datasets")),
        "processes": options.processes,
        "max_length": MAX_LENGTH,
        "ours": found["ours"],
        "datasets_map": found["peer"],
        "memory_growth_at_ten_times_the_rows": round(
            whole["cold"]["memory_bytes"] / tenth["cold"]["memory_bytes"], 2
        ),
        "ours_over_datasets_map": {
            count: round(
                found["ours"][count]["cold"]["rows_per_s"] / peers["cold"]["rows_per_s"], 2
            )
            for count, peers in found["peer"].items()
        },
    }
    if options.check:
        result["check"] = in_own_process("check", options, options.rows)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
