"""What ``mix`` keeps of each row in memory or laid aside: enough to decide where it goes, a hundred
bytes and the hashes of its word runs, but none of its text.

Places in a random order are the first 128 bits of a hash of seed and id, so a row's place depends
on nothing but these two.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from meadowlark.curate.aside import mapped, offsets_of
from meadowlark.match import minhash
from meadowlark.records import Record, from_table

RUN, BANDS, HASHES_A_BAND = 3, 24, 5
"""As ``clean`` looks for near-duplicates: a pair at .8 is found with probability .9999."""
LONG_ANSWER_WORDS = 20
"""Shorter answers ("Yes.", a label) are shared by unrelated questions and tie nothing together."""


@dataclass
class Traits:
    """Of a block's n rows, or of all: numbers of shape (n,), hashes of shape (n, 2)."""

    ids: pa.ChunkedArray
    answered: NDArray[np.bool_]
    drawn: NDArray[np.uint64]  # place in the order in which rows are drawn
    shuffled: NDArray[np.uint64]  # place in the order in which they are written
    question: NDArray[np.uint64]
    answer: NDArray[np.uint64]  # 0 where it is too short to tie anything together
    stratum: pa.ChunkedArray
    source: pa.ChunkedArray
    sets: minhash.Block | None = None


@dataclass(frozen=True)
class Reader:
    """Reads traits from blocks of rows; may be sent to other processes. ``sets`` asks for what
    near-duplicates are known by."""

    seed: int
    stratify: str
    sets: bool

    def __call__(self, table: pa.Table) -> Traits:
        records = from_table(table, Record)
        ids = [record.id for record in records]
        return Traits(
            pa.chunked_array([pa.array(ids, pa.string())]),
            np.array([bool(record.output.strip()) for record in records], bool),
            places(ids, self.seed),
            places(ids, self.seed + 2),
            _hashes(f"{normalised(r.instruction)} {normalised(r.input)}" for r in records),
            _hashes(map(_long_answer, records)),
            _coded([stratum(record, self.stratify) for record in records]),
            _coded([record.source for record in records]),
            minhash.block([_whole(r) for r in records], RUN, BANDS, HASHES_A_BAND)
            if self.sets
            else None,
        )


class Gathered:
    """The traits of all blocks; the sets of near-duplicates lie in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._blocks: list[Traits] = []
        self._counts = [np.zeros(0, np.int64)]
        self._runs_path, self._keys_path = folder / "runs", folder / "keys"
        self._runs, self._keys = self._runs_path.open("wb"), self._keys_path.open("wb")

    def add(self, block: Traits) -> None:
        if block.sets is not None:
            self._runs.write(block.sets.runs.tobytes())
            self._keys.write(block.sets.keys.tobytes())
            self._counts.append(block.sets.counts)
            block.sets = None
        self._blocks.append(block)

    def all(self) -> Traits:
        """One table of traits, the blocks in their order."""
        self._runs.close()
        self._keys.close()
        blocks = [*self._blocks, _NOTHING]
        self._blocks = []

        def column(name: str) -> pa.ChunkedArray:
            chunks = [chunk for b in blocks for chunk in getattr(b, name).chunks]
            return pa.chunked_array(chunks, getattr(_NOTHING, name).type).unify_dictionaries()

        return Traits(
            ids=column("ids"),
            stratum=column("stratum"),
            source=column("source"),
            answered=np.concatenate([b.answered for b in blocks]),
            drawn=np.concatenate([b.drawn for b in blocks]),
            shuffled=np.concatenate([b.shuffled for b in blocks]),
            question=np.concatenate([b.question for b in blocks]),
            answer=np.concatenate([b.answer for b in blocks]),
        )

    def near(self, among: NDArray[np.int64], threshold: float) -> NDArray[np.int64]:
        """For each of the rows ``among`` the first it hangs together with by near-duplicates, both
        as places in ``among``."""
        offsets = offsets_of(self._counts)
        runs = mapped(self._runs_path, np.uint32, (int(offsets[-1]),))
        keys = mapped(self._keys_path, np.uint64, (len(offsets) - 1, BANDS))
        return minhash.linked(runs, offsets, keys, threshold, among)


def places(ids: Iterable[str], seed: int) -> NDArray[np.uint64]:
    """Places (n, 2) in a random order that depends on the seed and the id alone."""
    raw = b"".join(hashlib.sha256(f"{seed}:{id}".encode()).digest()[:16] for id in ids)
    return np.frombuffer(raw, ">u8").reshape(-1, 2).astype(np.uint64)


def in_random_order(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """The indices that put hashes (n, 2) in order."""
    return np.lexsort((hashes[:, 1], hashes[:, 0]))


def ranks(ids: pa.ChunkedArray) -> NDArray[np.int64]:
    """Each id's number in alphabetical order."""
    order = pc.sort_indices(ids).to_numpy()
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def stratum(record: Record, name: str) -> str:
    """A record's value of a tag, or of ``source`` or ``licence``; empty where it has none."""
    if name in ("source", "licence"):
        return str(getattr(record, name))
    return record.tags.get(name, "") if name else ""


def normalised(text: str) -> str:
    """Words in small letters, without punctuation."""
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()))


def _long_answer(record: Record) -> str:
    answer = normalised(record.output)
    return answer if answer.count(" ") + 1 >= LONG_ANSWER_WORDS else ""


def _whole(record: Record) -> str:
    turns = [turn.content for turn in record.history]
    return "\n".join([*turns, record.instruction, record.input, record.output])


def _hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    raw = b"".join(
        hashlib.blake2b(t.encode("utf-8", "surrogatepass"), digest_size=16).digest()
        if t
        else bytes(16)
        for t in texts
    )
    return np.frombuffer(raw, np.uint64).reshape(-1, 2)


def _coded(texts: Sequence[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.string()).dictionary_encode()])


_NOTHING = Reader(0, "", False)(pa.Table.from_pylist([], pa.schema([("instruction", pa.string())])))
