"""Semantic duplicates: rows whose embeddings nearly coincide, by an encoder from a local folder.

Rows come from the file in which ``clean`` laid them aside; which of them go is written into its
arrays. Each row is compared with all kept before it, so time grows with the square of their number:
some minutes for 100,000 rows on two cores. Nothing is downloaded.

An encoder holds "spastic paraplegia 4" and "spastic paraplegia 15" for one (.97 by MiniLM), so rows
are compared only where their questions name the same numbers, types and negations.
"""

from __future__ import annotations

import importlib
import re
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from meadowlark.curate.options import SemanticOptions
from meadowlark.errors import UserError

Encode = Callable[[Sequence[str]], NDArray[np.float32]]
BATCH = 1_000
WHY = 3


def open_encoder(folder: Path) -> Encode:
    """The encoder of a local folder: model2vec (it has a ``model2vec`` config) or
    sentence-transformers. Rows of what it gives have length 1."""
    if not folder.is_dir():
        raise UserError(f"semantic.encoder: {folder} is not the folder of an encoder")
    config = folder / "config.json"
    static = config.exists() and "model2vec" in config.read_text(encoding="utf-8")
    if static:
        model: Any = importlib.import_module("model2vec").StaticModel.from_pretrained(str(folder))
    else:
        module: Any = importlib.import_module("sentence_transformers")
        model = module.SentenceTransformer(str(folder), local_files_only=True)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.asarray(model.encode(list(texts)), np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)

    return encode


def semantic_duplicates(
    rows: Path,
    options: SemanticOptions,
    why: NDArray[np.int8],
    nearest: NDArray[np.int64],
    score: NDArray[np.float64],
) -> None:
    """Mark in ``why`` the rows of a parquet file like one kept before; name it and the cosine."""
    assert options.encoder is not None
    encode = open_encoder(options.encoder)
    kept: list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]] = []
    at = 0
    with pq.ParquetFile(rows) as source:
        for batch in source.iter_batches(BATCH, columns=["instruction", "input", "output"]):
            index = np.flatnonzero(why[at : at + batch.num_rows] == 0)
            rows_here = batch.to_pylist()
            texts = ["\n".join(rows_here[i].values()) for i in index]
            questions = [rows_here[i]["input"] or rows_here[i]["instruction"] for i in index]
            numbers = np.array([numbers_of(question) for question in questions], np.int64)
            if len(index):
                _mark(
                    encode(texts), numbers, index + at, options.threshold, kept,
                    why, nearest, score,
                )  # fmt: skip
            at += batch.num_rows


_NUMBER = re.compile(
    r"(?<![^\W_])(?:[^\W_]*\d[^\W_]*|[IVX]+[A-Z]?|[A-Z])(?![^\W_])|\b[Nn]on(?=-)|(?<=-)like\b|\bnot\b"
)


def numbers_of(question: str) -> int:
    """A hash of a question's numbers, types ("IV", "B") and negations in their order, whatever
    their case; the word at its beginning is none."""
    found = [m[0].casefold() for m in _NUMBER.finditer(question) if m.start()]
    return zlib.crc32(" ".join(found).encode("utf-8", "surrogatepass"))


def _mark(
    vectors: NDArray[np.float32],
    numbers: NDArray[np.int64],
    index: NDArray[np.int64],
    threshold: float,
    kept: list[tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]],
    why: NDArray[np.int8],
    nearest: NDArray[np.int64],
    score: NDArray[np.float64],
) -> None:
    best = np.full(len(index), -1.0, np.float32)
    place = np.full(len(index), -1, np.int64)
    for block, their_numbers, places in kept:
        if not len(places):
            continue
        similar = vectors @ block.T
        similar[numbers[:, None] != their_numbers[None, :]] = -1.0
        column = similar.argmax(axis=1)
        value = similar[np.arange(len(index)), column]
        better = value > best
        best[better], place[better] = value[better], places[column[better]]
    own = vectors @ vectors.T
    own[numbers[:, None] != numbers[None, :]] = -1.0
    staying: list[int] = []
    for row in range(len(index)):
        if staying:
            column = int(own[row, staying].argmax())
            if own[row, staying[column]] > best[row]:
                best[row], place[row] = own[row, staying[column]], index[staying[column]]
        if best[row] >= threshold:
            why[index[row]], nearest[index[row]], score[index[row]] = WHY, place[row], best[row]
        else:
            staying.append(row)
    kept.append((vectors[staying], numbers[staying], index[staying]))
