"""All rows of a data set gone through beside the examples made of them, in bounded memory.

Records and their examples are paired in batches; each batch is verified, searched for evaluation
questions and hashed, in several processes where there are many rows. What adds up is the faults,
and for validation rows two hashes a row.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from meadowlark.dataset import read_batches
from meadowlark.match.ngrams import QuestionIndex
from meadowlark.match.tokens import fold
from meadowlark.processes import in_order
from meadowlark.progress import Progress
from meadowlark.records import Record, from_table
from meadowlark.train.encoded import ALONE, BATCH, Encoded
from meadowlark.train.verify import Verified, Verifier

DISORDER = "encoded rows that are not those of the data"
TURNS, INPUT = 1, 2


@dataclass(slots=True)
class Part:
    """What was found in one batch of records."""

    verified: Verified
    contaminated: list[tuple[str, int, float, int, str]]
    digests: list[tuple[str, bytes, bytes]]
    """Each row's id, and hashes of its words and of those before its answer."""
    forms: npt.NDArray[np.uint8]
    """For each example whether its record has earlier answers (:data:`TURNS`) and an input
    (:data:`INPUT`)."""


@dataclass(slots=True)
class Examiner:
    """What a process needs to examine batches of one data set."""

    folder: Path
    verifier: Verifier
    index: QuestionIndex | None
    encoded: Encoded | None = None

    def examine(self, records: Sequence[Record], start: int, counts: Sequence[int]) -> Part:
        """Examine records, of which the first one's examples begin at ``start``."""
        if self.encoded is None:
            self.encoded = Encoded(self.folder)
        pieces, at = [], start
        for count in counts:
            pieces.append(self.encoded[at : at + count])
            at += count
        kept = [k for k, count in enumerate(counts) if count]
        part = Part(
            self.verifier.verify(records, pieces),
            [],
            [(records[k].id, *_digests(records[k])) for k in kept],
            np.repeat([_form(record) for record in records], counts).astype(np.uint8),
        )
        if self.index is not None:
            for found in self.index.search([_texts(records[k]) for k in kept]):
                row = records[kept[found.row]].id
                part.contaminated.append(
                    (row, found.question, found.coverage, found.choices, found.passage)
                )
        return part


def _form(record: Record) -> int:
    answered = any(turn.role == "assistant" for turn in record.history)
    return (TURNS if answered else 0) | (INPUT if record.input else 0)


def _texts(record: Record) -> list[str]:
    turns = [turn.content for turn in record.history]
    return [*turns, record.instruction, record.input, record.output]


def _digests(record: Record) -> tuple[bytes, bytes]:
    """Hashes of a row's words, alike for rows that differ only in how they are typed."""
    *asked, answer = (b" ".join(fold(text).split()) for text in _texts(record))
    question = b"\n".join(asked)
    return tuple(  # type: ignore[return-value]
        hashlib.blake2b(text, digest_size=12).digest()
        for text in (question + b"\n" + answer, question)
    )


def _examine(examiner: Examiner, batch: tuple[list[Record], int, list[int]]) -> Part:
    return examiner.examine(*batch)


class RowSet:
    """What was found in the training or the validation rows, batch by batch."""

    def __init__(self, name: str, seen: dict[bytes, str] | None = None) -> None:
        self.name = name
        self.seen = seen or {}
        self.faults: dict[str, list[tuple[str, str]]] = defaultdict(list)
        self.digests: dict[bytes, str] = {}
        self.held_out_rows: set[str] = set()
        self.held_out_questions: set[str] = set()
        self.contaminated: list[tuple[str, int, float, int, str]] = []
        self.prompt_tokens = self.unknown_tokens = self.trimmed = 0
        self.forms: list[npt.NDArray[np.uint8]] = []

    def read(
        self,
        path: Path,
        encoded: Encoded,
        verifier: Verifier,
        index: QuestionIndex | None,
        limit: int | None,
        workers: int,
    ) -> None:
        """Go through all rows of a file and the examples made of them."""
        examiner = Examiner(encoded.folder, verifier, index)
        batches = self._batches(path, encoded, limit)
        work = functools.partial(_examine, examiner)
        with Progress(f"check {self.name}", encoded.counts.read) as progress:
            for batch, part in in_order(work, batches, few=ALONE // BATCH, workers=workers):
                self._take(part)
                progress.advance(len(batch[0]))

    def _batches(
        self, path: Path, encoded: Encoded, limit: int | None
    ) -> Iterator[tuple[list[Record], int, list[int]]]:
        """Records in batches, where their examples begin, and how many each was made into.

        Examples bear their record's id and stand in the records' order, those of rejected records
        left out. Equal records meet the same fate, and where they follow each other share their
        examples evenly.
        """
        rejected = set(encoded.rejected().column("id").to_pylist())
        ids = encoded.ids()
        following = next(ids, None)
        at = start = 0
        records: list[Record] = []
        counts: list[int] = []
        rows = (
            record
            for table, _ in read_batches(path, Record, BATCH, limit)
            for record in from_table(table, Record)
            if record.id not in rejected
        )
        for key, run in itertools.groupby(rows, key=lambda record: record.id):
            equal = list(run)
            made = 0
            while following == key:
                made += 1
                following = next(ids, None)
            share, left = divmod(made, len(equal))
            if left or not made:
                self.faults[DISORDER].append((key, f"{made} encoded for {len(equal)}"))
            records += equal
            counts += [share + left, *[share] * (len(equal) - 1)]
            at += made
            if len(records) >= BATCH:
                yield records, start, counts
                records, counts, start = [], [], at
        if records:
            yield records, start, counts
        if following is not None:
            self.faults[DISORDER] += [(id, "") for id in (following, *ids)]

    def _take(self, part: Part) -> None:
        for fault in part.verified.faults:
            self.faults[fault.name].append((fault.row, fault.detail))
        self.prompt_tokens += part.verified.prompt_tokens
        self.unknown_tokens += part.verified.unknown_tokens
        self.trimmed += part.verified.trimmed
        self.contaminated += part.contaminated
        self.forms.append(part.forms)
        for id, row, question in part.digests:
            if self.name == "validation":
                self.digests[row] = self.digests[question] = id
            elif row in self.seen:
                self.held_out_rows.add(self.seen[row])
            elif question in self.seen:
                self.held_out_questions.add(self.seen[question])
