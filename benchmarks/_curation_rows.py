"""The rows that the curation benchmark works on: made from the real files below MEADOWLARK_DATA by
a stated perturbation, with what is planted in them known. Everything depends on seeds alone.

*Instructions* have the lengths of the real ones (AlpaCare's seeds, samples and test set,
Self-Instruct's and Alpaca's seeds): a word is, seven times of ten, one that follows the word before
it somewhere in these, else any word of them and of wikidoc's and MedQuAD's answers by its
frequency. One in five is an earlier one with up to seven words replaced.

*Rows* are the real ones of wikidoc, MedQuAD and GenMedGPT-5k with one word in eight replaced by a
word of the same files and the answer's sentences shuffled: real lengths and vocabulary, without
being near-duplicates of each other. Planted besides, each in one row of a hundred: a copy; a copy
with one word in fifty of its answer replaced; an identifier. And every MedQA question four times:
as it is, with its choices shuffled, lightly paraphrased (one word in ten replaced), and with every
number changed.
"""

from __future__ import annotations

import functools
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meadowlark.dataset import read
from meadowlark.processes import in_order
from meadowlark.records import SCHEMAS, Question, Record, to_table
from meadowlark.sources.convert import convert

SOURCES = {
    "wikidoc_patient_information": "medical_meadow_small.json",
    "chatdoctor": "chatdoctor5k.json",
    "medquad": "medquad_all.tar.gz",
}
INSTRUCTIONS = (
    "alpacare/med_seed.json",
    "alpacare/gpt4_generated_tasks_sample.jsonl",
    "alpacare/MedInstruct-test.jsonl",
    "instructions/self_instruct/seed_tasks.jsonl",
    "instructions/self_instruct/user_oriented_instructions.jsonl",
    "instructions/stanford_alpaca/seed_tasks.jsonl",
)
PLANTED = 0.01
CHUNK = 5_000
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
    for name, file in SOURCES.items():
        if not (folder / name / "manifest.json").exists():
            convert(name, folder / name, raw=data / "meadow" / name / file)
        rows += read(folder / name, Record)[0]
    return rows


def real_instructions(data: Path) -> list[str]:
    found: list[str] = []
    for name in INSTRUCTIONS:
        raw = (data / name).read_text(encoding="utf-8")
        rows = (
            json.loads(raw)
            if name.endswith(".json")
            else [json.loads(line) for line in raw.splitlines() if line.strip()]
        )
        found += [str(row["instruction"]) for row in rows if row.get("instruction")]
    return list(dict.fromkeys(found))


def instructions(count: int, real: list[str], rows: list[Record], seed: int = 0) -> Iterator[str]:
    """``count`` instructions, one by one."""
    rng = random.Random(seed)
    texts = [text.split() for text in real]
    follow: dict[str, list[str]] = {}
    for text in texts:
        for word, after in itertools.pairwise(text):
            follow.setdefault(word, []).append(after)
    anywhere = [word for text in texts for word in text]
    anywhere += [word for row in rows[::10] for word in row.output.split()]
    recent: list[list[str]] = []
    for _ in range(count):
        if recent and rng.random() < 0.2:
            made = list(recent[int(rng.random() * len(recent))])
            for _ in range(int(rng.random() * 8)):
                made[int(rng.random() * len(made))] = rng.choice(anywhere)
        else:
            made = [texts[int(rng.random() * len(texts))][0]]
            for _ in range(len(texts[int(rng.random() * len(texts))]) - 1):
                after = follow.get(made[-1]) if rng.random() < 0.7 else None
                made.append(rng.choice(after or anywhere))
        if len(recent) < 100_000:
            recent.append(made)
        else:
            recent[int(rng.random() * len(recent))] = made
        yield " ".join(made)


def write_tasks(path: Path, texts: Iterable[str]) -> None:
    """Instructions as tasks without an answer, ready for ``filter``."""
    with pq.ParquetWriter(path, SCHEMAS[Record], compression="zstd") as writer:
        batch: list[Record] = []
        for text in texts:
            batch.append(Record(text))
            if len(batch) == CHUNK:
                writer.write_table(to_table(batch, Record))
                batch = []
        writer.write_table(to_table(batch, Record))


# --------------------------------------------------------------------------- rows with answers


def _replaced(text: str, words: list[str], rng: random.Random, share: float) -> str:
    parts = re.split(r"(\s+)", text)
    for place in range(0, len(parts), 2):
        if rng.random() < share:
            parts[place] = rng.choice(words)
    return "".join(parts)


def _perturbed(row: Record, words: list[str], rng: random.Random) -> Record:
    sentences = re.split(r"(?<=[.!?])\s+", row.output)
    rng.shuffle(sentences)
    return Record(
        row.instruction,
        _replaced(row.input, words, rng, 1 / 8),
        _replaced(" ".join(sentences), words, rng, 1 / 8),
        source=row.source,
        licence=row.licence,
    )


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
            (
                "question paraphrased",
                _replaced(question.prompt, words, rng, 1 / 10),
                question.choices,
            ),
            ("question with changed numbers", changed, question.choices),
        ):
            text = "\n".join(f"{chr(65 + i)}. {choice}" for i, choice in enumerate(choices))
            tags = {"planted": name, "item": question.id}
            yield Record("Answer the question.", f"{prompt}\n{text}", "A", tags=tags)


def _chunk(real: list[Record], words: list[str], span: tuple[int, int]) -> pa.Table:
    """Rows number ``span[0]`` up to ``span[1]``; copies are of rows of the same chunk."""
    rng = random.Random(span[0] + 1)
    made: list[Record] = []
    whole: list[Record] = []
    for number in range(*span):
        kind = rng.random() / PLANTED
        if kind < 2 and whole:
            row = rng.choice(whole)
            near = kind >= 1
            output = _replaced(row.output, words, rng, 1 / 50) if near else row.output
            tags = {"planted": "near copy" if near else "copy"}
            made.append(Record(row.instruction, row.input, output, tags=tags))
            continue
        row = _perturbed(real[number % len(real)], words, rng)
        if kind < 3:
            text = rng.choice(IDENTIFIERS).format(
                n=rng.randrange(1000, 9999), m=rng.randrange(1, 13), d=rng.randrange(10, 29)
            )
            tags = {"planted": "identifier"}
            row = Record(row.instruction, f"{row.input} ({text})", row.output, tags=tags)
        elif 30 < len(row.output.split()) < 1500:
            whole.append(row)
        made.append(row)
    return to_table(made, Record)


def write_rows(
    path: Path, count: int, real: list[Record], questions: list[Question]
) -> Counter[str]:
    """``count`` rows with the questions among them; how many of each thing were planted."""
    rng = random.Random(0)
    words = [word for row in real[:2000] for word in row.output.split()]
    spans = [(at, min(at + CHUNK, count)) for at in range(0, count, CHUNK)]
    planted: Counter[str] = Counter()
    with pq.ParquetWriter(path, SCHEMAS[Record], compression="zstd") as writer:

        def write(table: pa.Table) -> None:
            writer.write_table(table)
            planted.update(dict(tags).get("planted", "") for tags in _tags(table))

        write(to_table(planted_questions(questions, words, rng), Record))
        for _, table in in_order(functools.partial(_chunk, real, words), spans, few=2):
            write(table)
    return planted


def _tags(table: pa.Table) -> list[Any]:
    return table.column("tags").to_pylist()
