"""What ``clean`` asks of one row alone, for a block of rows: repair, private data, quality, exam
questions, and what a row's duplicates will be known by. A block comes in as an Arrow table and goes
out as one; nothing is remembered between blocks, so that any number of processes may share them.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from meadowlark.curate import private_data
from meadowlark.curate.options import CleanOptions
from meadowlark.curate.quality import judge
from meadowlark.curate.repair import repair
from meadowlark.match import minhash
from meadowlark.match.ngrams import QuestionIndex
from meadowlark.records import Question, Record, Rejected, from_table, rejected_table, to_table

PRIVATE, CONTAMINATED = "private data", "contamination"
CONTAMINATION_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("task", pa.string()),
        ("item", pa.string()),
        ("coverage", pa.float64()),
        ("choices", pa.int64()),
        ("passage", pa.string()),
    ]
)
"""Of ``contamination.parquet``: which exam question stands in which row, the share of its words
found in order, how many of its choices stand there too, and the passage as folded."""


@dataclass
class Examined:
    """A block after the rules of single rows."""

    kept: pa.Table
    rejected: pa.Table
    private: pa.Table
    contamination: pa.Table
    repaired: int
    same: NDArray[np.uint64]  # (kept, 2) what exact duplicates share
    sets: minhash.Block | None
    questions: tuple[NDArray[np.uint32], NDArray[np.int64]] | None  # words of the questions
    numbers: NDArray[np.uint64]  # (kept,) what rows share that name the same numbers; 0 if near off


@dataclass
class Examiner:
    """The rules of one run, ready for blocks. ``secret`` decides the surrogates."""

    options: CleanOptions
    questions: Sequence[Question] = ()
    secret: bytes = b""
    _index: QuestionIndex | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        limits = self.options.contamination
        if self.questions:
            self._index = QuestionIndex(
                self.questions, run=limits.run, long=limits.long, coverage=limits.coverage
            )
        wanted = self.options.private_data
        self._find = private_data.make_finder(wanted) if wanted.action != "off" else None

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets what this was made of, and makes its own index and patterns."""
        return Examiner, (self.options, self.questions, self.secret)

    def __call__(self, table: pa.Table) -> Examined:
        """The block examined, its rows in their order."""
        options = self.options
        originals = from_table(table, Record)
        records = [repair(r, options.repair) for r in originals] if options.repair.on else originals
        repaired = sum(a is not b for a, b in zip(originals, records, strict=True))
        rejected: list[Rejected] = []
        private: list[dict[str, Any]] = []
        kept: list[tuple[Record, Record]] = []  # as it was found, as it may be written
        for record in records:
            written = record
            if self._find is not None:
                written, reason = self._without_private_data(record, private)
                if reason is not None:
                    rejected.append(Rejected(written, PRIVATE, reason))
                    continue
            fault = judge(record, options)
            if fault is not None:
                detail = fault[1] if written is record else ""  # it may quote what was replaced
                rejected.append(Rejected(written, fault[0], detail))
            else:
                kept.append((record, written))
        contamination = self._exam_questions(kept, rejected)
        found = [record for record, _ in kept]
        near = options.near
        sets = questions = None
        numbers = np.zeros(len(found), np.uint64)
        if near.on:
            texts = [_text(record) for record in found]
            sets = minhash.block(texts, near.run, near.bands, near.hashes_a_band)
            questions = minhash.words([r.input or r.instruction for r in found])
            numbers = np.array([numbers_key(text) for text in texts], np.uint64)
        same = np.array([same_key(r) for r in found], np.uint64).reshape(-1, 2)
        return Examined(
            to_table([written for _, written in kept], Record),
            rejected_table(rejected, Record),
            pa.Table.from_pylist(private, schema=private_data.SCHEMA),
            pa.Table.from_pylist(contamination, schema=CONTAMINATION_SCHEMA),
            repaired,
            same,
            sets,
            questions,
            numbers,
        )

    def _without_private_data(
        self, record: Record, private: list[dict[str, Any]]
    ) -> tuple[Record, str | None]:
        """The record as it may be written, and why it may not be kept."""
        assert self._find is not None
        wanted = self.options.private_data
        found = private_data.places(record, self._find)
        if not found:
            return record, None
        if wanted.action == "flag":
            private += private_data.rows_of(found, record.id, record.id)
            return private_data.flagged(record, found), None
        made, filled = private_data.redacted(record, found, self.secret, wanted.shift_days)
        private += private_data.rows_of(filled, made.id, record.id)
        return made, private_data.counted(found) if wanted.action == "drop" else None

    def _exam_questions(
        self, kept: list[tuple[Record, Record]], rejected: list[Rejected]
    ) -> list[dict[str, Any]]:
        """Rows in which exam questions stand: taken out of ``kept`` or tagged there."""
        if self._index is None:
            return []
        rows = [
            [*(turn.content for turn in r.history), r.instruction, r.input, r.output]
            for r, _ in kept
        ]
        table = []
        by_row: dict[int, list[str]] = {}
        for found in self._index.search(rows):
            question = self.questions[found.question]
            written = kept[found.row][1]
            by_row.setdefault(found.row, []).append(f"{question.task}:{question.id}")
            table.append(
                {
                    "id": written.id,
                    "task": question.task,
                    "item": question.id,
                    "coverage": found.coverage,
                    "choices": found.choices,
                    "passage": found.passage if written is kept[found.row][0] else "",
                }
            )
        if self.options.contamination.action == "flag":
            for row, items in by_row.items():
                record, written = kept[row]
                tags = {**written.tags, CONTAMINATED: " ".join(items)}
                kept[row] = (record, replace(written, tags=tags))
        else:
            rejected += [
                Rejected(kept[row][1], CONTAMINATED, " ".join(items))
                for row, items in sorted(by_row.items())
            ]
            kept[:] = [pair for row, pair in enumerate(kept) if row not in by_row]
        return table


def _text(record: Record) -> str:
    turns = [turn.content for turn in record.history]
    return "\n".join([*turns, record.instruction, record.input, record.output])


_APART = re.compile(r"[^\w.,<>≤≥=+±/%°µμ^*-]+|(?<=\w)[.,]+(?=\s|$)|(?<!\w)[.,*-]+(?=\s|$)")


def same_key(record: Record) -> tuple[int, int]:
    """128 bits that records share whose texts differ in case, spaces or punctuation alone."""
    digest = hashlib.blake2b(digest_size=16)
    for text in (
        *(f"{t.role}\0{t.content}" for t in record.history),
        record.instruction,
        record.input,
        record.output,
    ):
        plain = text if text.isascii() else unicodedata.normalize("NFC", text)
        digest.update(
            " ".join(_APART.sub(" ", plain.casefold()).split()).encode("utf-8", "surrogatepass")
        )
        digest.update(b"\0")
    raw = digest.digest()
    return int.from_bytes(raw[:8], "little"), int.from_bytes(raw[8:], "little")


_UNITS = "mg mcg μg ug ng g kg ml dl l cm mm mmol meq iu units unit % percent".split()
_TIMES = "second minute hour day week month year".split()
_NUMBER = re.compile(
    r"\d+(?:[.,]\d+)*(?:[ -]?(?:"
    + "|".join(f"{re.escape(unit)}(?![^\\W_])" for unit in _UNITS)
    + f"|(?:{'|'.join(_TIMES)})(?=s?\\b)))?"
)
_THOUSANDS = re.compile(r",(?=\d{3}(?!\d))")


def numbers_key(text: str) -> int:
    """64 bits that texts share which name the same numbers, with their units where those are of
    doses or times, in any order. 1,000 is 1000, 0.50 is not 0.5; a number in words is none."""
    found = sorted(
        _THOUSANDS.sub("", match).replace(" ", "").replace("-", "")
        for match in _NUMBER.findall(text.lower().replace("µ", "μ"))
    )
    digest = hashlib.blake2b(" ".join(found).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little")
