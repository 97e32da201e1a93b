"""How long ``clean`` takes on many rows, its memory, and what it finds of what was planted. Rows
are made from the real files (wikidoc, MedQuAD, GenMedGPT-5k, below MEADOWLARK_DATA) by stated
perturbation; results/curation.json comes out.

A made row is a real one in which one word in eight, at random places, is replaced by a word of the
same files, and the answer's sentences are shuffled: rows have real lengths and vocabulary without
being near-duplicates of each other. Planted besides, each in one row of a hundred: a copy; a copy
with one word in thirty replaced; an identifier. And every MedQA question four times: as it is, with
its choices shuffled, lightly paraphrased (one word in ten replaced), and with every number changed.
What is planted is known, so that what is found of it is counted.

    MEADOWLARK_DATA=... python benchmarks/curation.py [--rows 1500000] [--workers 0] [--keep DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from _stamp import RESULTS, stamp

from meadowlark.curate.clean import clean, read_rules
from meadowlark.curate.examine import Examiner
from meadowlark.curate.options import CleanOptions
from meadowlark.dataset import read, read_manifest
from meadowlark.records import SCHEMAS, Question, Record, to_table
from meadowlark.sources.convert import convert
from meadowlark.tasks import load, resolve

RESULT = RESULTS / "curation.json"
FILES = {
    "wikidoc_patient_information": "medical_meadow_small.json",
    "chatdoctor": "chatdoctor5k.json",
    "medquad": "medquad_all.tar.gz",
}
COPIES = 0.01
IDENTIFIERS = (
    "MRN 0{n:07d}",
    "seen on {m:02d}/{d:02d}/2019",
    "call (614) 555-01{d:02d}",
    "SSN 219-09-{n:04d}",
    "write to pat{n}@example.com",
)


def real_rows(data: Path, folder: Path) -> list[Record]:
    """The rows of the three sources that are here as files."""
    rows: list[Record] = []
    for name, file in FILES.items():
        if not (folder / name / "manifest.json").exists():
            convert(name, folder / name, raw=data / "meadow" / name / file)
        rows += read(folder / name, Record)[0]
    return rows


def perturbed(row: Record, words: list[str], rng: random.Random, share: float) -> Record:
    """The row with a share of its words replaced, and its answer's sentences shuffled."""

    def replaced(text: str) -> str:
        parts = re.split(r"(\s+)", text)
        for place in range(0, len(parts), 2):
            if rng.random() < share:
                parts[place] = rng.choice(words)
        return "".join(parts)

    sentences = re.split(r"(?<=[.!?])\s+", row.output)
    rng.shuffle(sentences)
    return Record(
        row.instruction,
        replaced(row.input),
        replaced(" ".join(sentences)),
        source=row.source,
        licence=row.licence,
    )


def lightly(text: str, words: list[str], rng: random.Random, share: float) -> str:
    parts = text.split(" ")
    return " ".join(rng.choice(words) if rng.random() < share else part for part in parts)


def planted_questions(
    questions: list[Question], words: list[str], rng: random.Random
) -> Iterator[Record]:
    """Every question in four forms, named by the tag ``planted``."""
    for question in questions:
        shuffled = list(question.choices)
        rng.shuffle(shuffled)
        changed = re.sub(r"\d+", lambda m: str(int(m[0]) + rng.randrange(1, 9)), question.prompt)
        for name, prompt, choices in (
            ("question copied", question.prompt, question.choices),
            ("question with shuffled choices", question.prompt, shuffled),
            ("question paraphrased", lightly(question.prompt, words, rng, 0.1), question.choices),
            ("question with changed numbers", changed, question.choices),
        ):
            text = "\n".join(f"{chr(65 + i)}. {choice}" for i, choice in enumerate(choices))
            tags = {"planted": name, "item": question.id}
            yield Record("Answer the question.", f"{prompt}\n{text}", "A", tags=tags)


def made_rows(
    count: int, real: list[Record], questions: list[Question], seed: int = 0
) -> Iterator[Record]:
    """``count`` rows with what is planted in them, in an order that depends on the seed alone."""
    rng = random.Random(seed)
    words = [word for row in real[:2000] for word in row.output.split()]
    yield from planted_questions(questions, words, rng)
    recent: list[Record] = []
    for number in range(count - 4 * len(questions)):
        if recent and rng.random() < COPIES:
            row = rng.choice(recent)
            yield Record(row.instruction, row.input, row.output, tags={"planted": "copy"})
        elif recent and rng.random() < COPIES:
            row = rng.choice(recent)
            output = lightly(row.output, words, rng, 1 / 30)
            tags = {"planted": "near copy"}
            yield Record(row.instruction, row.input, output, tags=tags)
        else:
            row = perturbed(real[number % len(real)], words, rng, 1 / 8)
            if rng.random() < COPIES:
                form = rng.choice(IDENTIFIERS)
                text = form.format(n=rng.randrange(1000, 9999), m=rng.randrange(1, 13), d=11)
                tags = {"planted": "identifier"}
                row = Record(row.instruction, f"{row.input} ({text})", row.output, tags=tags)
            elif len(row.output.split()) > 30 and len(recent) < 5000:
                recent.append(row)
            yield row


def write(rows: Iterator[Record], path: Path) -> Counter[str]:
    planted: Counter[str] = Counter()
    with pq.ParquetWriter(path, SCHEMAS[Record], compression="zstd") as writer:
        batch: list[Record] = []
        for row in rows:
            batch.append(row)
            planted[row.tags.get("planted", "")] += 1
            if len(batch) == 5000:
                writer.write_table(to_table(batch, Record))
                batch = []
        writer.write_table(to_table(batch, Record))
    return planted


RULES = (
    "repair", "empty", "echo", "refusal", "boilerplate", "truncated", "language", "length",
    "choices", "near",
)  # fmt: skip


def rate_of_each_rule(path: Path, questions: list[Question], rows: int) -> dict[str, float]:
    """Rows a second of one process with one rule on alone; the rest of a row's way is ``none``."""
    table = pq.ParquetFile(path).read_row_group(0).slice(0, rows)
    off: dict[str, dict[str, Any]] = {name: {"on": False} for name in RULES}

    def seconds(options: dict[str, Any], exams: list[Question]) -> float:
        examiner = Examiner(CleanOptions.model_validate(options), exams, b"secret")
        examiner(table.slice(0, 50))  # compiled and warm
        began = time.perf_counter()
        examiner(table)
        return time.perf_counter() - began

    none = seconds(off, [])
    rates = {"none": table.num_rows / none}
    for name in RULES:
        alone = seconds({**off, name: {"on": True}}, [])
        rates[name] = table.num_rows / max(alone - none, 1e-9)
    private = seconds({**off, "private_data": {"action": "redact"}}, [])
    rates["private_data"] = table.num_rows / max(private - none, 1e-9)
    rates["contamination"] = table.num_rows / max(seconds(off, questions) - none, 1e-9)
    return {name: round(rate) for name, rate in rates.items()}


def found_of_planted(path: Path, out: Path, planted: Counter[str]) -> dict[str, Any]:
    """Of each thing that was planted the share that the rule for it took out (or, an identifier,
    flagged); and how many rows went that nothing was planted in, by reason."""
    found: Counter[str] = Counter()
    other: Counter[str] = Counter()
    wanted = {"copy": ("exact duplicate",), "near copy": ("near-duplicate", "exact duplicate")}
    for batch in pq.ParquetFile(out / "rejected.parquet").iter_batches(columns=["tags", "reason"]):
        for row in batch.to_pylist():
            name = dict(row["tags"]).get("planted", "")
            if row["reason"] in wanted.get(name, ("contamination",)):
                found[name] += 1
            if not name:
                other[row["reason"]] += 1
    for batch in pq.ParquetFile(out / "rows.parquet").iter_batches(columns=["tags"]):
        for row in batch.to_pylist():
            tags = dict(row["tags"])
            found["identifier"] += tags.get("planted") == "identifier" and "private_data" in tags
    return {
        "planted": {
            name: {"rows": n, "found": found[name], "share": round(found[name] / n, 4)}
            for name, n in sorted(planted.items())
            if name
        },
        "rows taken out in which nothing was planted": dict(sorted(other.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_500_000)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Folder for what is made; else a temporary one.")
    options = parser.parse_args()
    data = Path(os.environ["MEADOWLARK_DATA"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        real = real_rows(data, folder)
        questions, _ = load(resolve("medqa", data))
        path = folder / f"rows-{options.rows}.parquet"
        planted = write(made_rows(options.rows, real, questions), path)
        rates = rate_of_each_rule(path, questions, 2_000)
        del real
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        began = time.perf_counter()
        clean(
            path,
            folder / "clean",
            options=read_rules(None, ["choices.on=false"], "flag"),
            against=["medqa", "mmlu_medical"],
            exams=data,
            workers=options.workers,
            force=True,
        )
        seconds = time.perf_counter() - began
        wikidoc = clean(
            folder / "wikidoc_patient_information",
            folder / "wikidoc-clean",
            against=["medqa", "mmlu_medical"],
            exams=data,
            force=True,
        ).manifest.rows
        result = {
            "claim": "clean in bounded memory, streaming, with what was planted found",
            "rows": options.rows,
            "bytes": path.stat().st_size,
            "seconds": round(seconds, 1),
            "rows_per_second": round(options.rows / seconds),
            "peak_memory_bytes_of_this_process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            * 1024,
            "peak_memory_bytes_before": before,
            "peak_memory_bytes_of_the_largest_worker": resource.getrusage(
                resource.RUSAGE_CHILDREN
            ).ru_maxrss
            * 1024,
            "rows_per_second_of_each_rule_in_one_process": rates,
            "manifest": read_manifest(folder / "clean").rows,
            **found_of_planted(path, folder / "clean", planted),
            "wikidoc, real, taken for exam questions": {
                "rows": wikidoc["in"],
                "contamination": wikidoc["rejected"].get("contamination", 0),
            },
            **stamp(("numpy", "numba", "pyarrow")),
        }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
