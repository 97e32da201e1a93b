"""How others find near-duplicate instructions: run by curation.py with a Python of their own.

    python benchmarks/_curation_peers.py TEXTS.json SAMPLE

TEXTS.json is a list of instructions, of which the first SAMPLE are compared. Prints one line of
JSON: seconds of each peer on the sample, which texts each would drop, versions.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

THRESHOLD = 0.7
CORES = len(os.sched_getaffinity(0))


def rouge_score_loop(texts: list[str], pairs: int = 20_000) -> dict[str, Any]:
    """AlpaCare's way: tokens once, then rouge-score's LCS for every pair. Timed on some pairs."""
    from rouge_score import rouge_scorer

    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    tokens = [scorer._tokenizer.tokenize(text) for text in texts]
    chosen = np.random.default_rng(1).integers(len(texts), size=(pairs, 2)).tolist()
    began = time.perf_counter()
    for a, b in chosen:
        _ = rouge_scorer._score_lcs(tokens[a], tokens[b]).fmeasure
    return {"pairs": pairs, "seconds": time.perf_counter() - began}


def rapidfuzz_cdist(texts: list[str]) -> dict[str, Any]:
    """The matrix of the sample with the normalised indel similarity, which is ROUGE-L F1."""
    from rapidfuzz.distance import Indel
    from rapidfuzz.process import cdist

    tokens = [re.sub(r"[^a-z0-9]+", " ", text.lower()).split() for text in texts]
    began = time.perf_counter()
    scores = cdist(
        tokens,
        tokens,
        scorer=Indel.normalized_similarity,
        score_cutoff=THRESHOLD,
        workers=CORES,
        dtype=np.float64,
    )
    seconds = time.perf_counter() - began
    np.fill_diagonal(scores, 0)
    dropped = np.flatnonzero(scores.max(axis=1) > THRESHOLD).tolist()
    return {"texts": len(texts), "seconds": seconds, "dropped": dropped}


def datasketch_lsh(texts: list[str]) -> dict[str, Any]:
    """MinHashLSH over sets of words, 128 permutations: similar sets, in whatever order."""
    from datasketch import MinHash, MinHashLSH

    began = time.perf_counter()
    index = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    hashes = []
    for number, text in enumerate(texts):
        words = set(re.sub(r"[^a-z0-9]+", " ", text.lower()).split())
        made = MinHash(num_perm=128)
        made.update_batch([word.encode() for word in words])
        index.insert(number, made)
        hashes.append(made)
    dropped = [
        number
        for number, made in enumerate(hashes)
        if any(
            other != number and hashes[other].jaccard(made) > THRESHOLD
            for other in index.query(made)
        )
    ]
    return {"texts": len(texts), "seconds": time.perf_counter() - began, "dropped": dropped}


def main() -> None:
    texts = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))[: int(sys.argv[2])]
    result = {
        "rouge-score": rouge_score_loop(texts),
        "rapidfuzz": rapidfuzz_cdist(texts),
        "datasketch": datasketch_lsh(texts),
    }
    versions = {name: importlib.metadata.version(name) for name in result}
    print(json.dumps({"cores": CORES, "peers": result, "versions": versions}))


if __name__ == "__main__":
    main()
