"""How long the exact ROUGE-L near-duplicate join takes, beside rouge-score and rapidfuzz. Made-up
instructions of some 20 tokens go in (Zipf-distributed words, one in five an edited copy of an
earlier one); results/rouge_join.json comes out. The peers are timed on a sample and scaled by the
number of pairs; rapidfuzz is left out where it is not installed.

    python benchmarks/rouge_join.py [--count 52000] [--sample 2000] [--repeats 5]
"""

import argparse
import functools
import json
import os
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from _stamp import RESULTS, stamp
from rouge_score import rouge_scorer

from meadowlark.match import RougeIndex, near_duplicates, tokenize
from meadowlark.match.rouge import Rule

THRESHOLD = 0.7
CORES = os.cpu_count() or 1
RESULT = RESULTS / "rouge_join.json"


def instructions(count: int, seed: int = 0) -> list[str]:
    """`count` texts of 20 tokens on average over 30,000 words."""
    rng = np.random.default_rng(seed)
    share = 1 / np.arange(3, 30_003)
    share /= share.sum()
    lengths = np.maximum(3, rng.poisson(20, count))
    words = rng.choice(len(share), lengths.sum(), p=share)
    texts: list[list[int]] = []
    for text in np.split(words, np.cumsum(lengths)[:-1]):
        if texts and rng.random() < 0.2:
            copied = list(texts[rng.integers(len(texts))])
            for _ in range(rng.integers(8)):
                copied[rng.integers(len(copied))] = int(rng.integers(len(share)))
            texts.append(copied)
        else:
            texts.append(text.tolist())
    return [" ".join(f"w{word}" for word in text) for text in texts]


def seconds(action: Callable[[], object], repeats: int = 1) -> float:
    """Wall time of the fastest of `repeats` runs."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(time.perf_counter() - began)
    return min(times)


def ours(texts: list[str], repeats: int) -> dict[str, float]:
    """Wall times from the texts to the answer, tokenizing included; compiled code warm."""
    times = {}
    rules: tuple[Rule, ...] = ("kept", "others")
    for rule in rules:
        near_duplicates(texts[:100], THRESHOLD, rule)
        for threads in sorted({1, CORES}):
            join = functools.partial(near_duplicates, texts, THRESHOLD, rule, threads)
            times[f"rule {rule}, {threads} threads, s"] = seconds(join, repeats)
    index = RougeIndex(THRESHOLD, texts)
    queries = texts[:1000]
    asked = seconds(lambda: [index.nearest(text) for text in queries])
    times[f"RougeIndex.nearest among {len(texts)}, ms"] = 1000 * asked / len(queries)
    return times


def rouge_score_pair_by_pair(texts: list[str], pairs: int = 2000) -> float:
    """Seconds a pair, as a filter written with the package pays them."""
    scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
    chosen = np.random.default_rng(1).integers(len(texts), size=(pairs, 2))
    return seconds(lambda: [scorer.score(texts[a], texts[b]) for a, b in chosen]) / pairs


def rapidfuzz_matrix(texts: list[str]) -> dict[str, Any] | None:
    """cdist of the sample with the normalised indel similarity, which is ROUGE-L F1."""
    try:
        from rapidfuzz.distance import Indel
        from rapidfuzz.process import cdist
    except ImportError:
        return None
    tokens = [tokenize(text) for text in texts]
    scores: list[Any] = []

    def matrix() -> None:
        scores[:] = [
            cdist(
                tokens,
                tokens,
                scorer=Indel.normalized_similarity,
                score_cutoff=THRESHOLD,
                workers=CORES,
                dtype=np.float64,
            )
        ]

    taken = seconds(matrix)
    np.fill_diagonal(scores[0], 0)
    dropped = scores[0].max(axis=1) > THRESHOLD
    same = bool((dropped == ~near_duplicates(texts, THRESHOLD, "others").kept).all())
    return {"sample, s": taken, "same texts dropped by rule others": same}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=52_000)
    parser.add_argument("--sample", type=int, default=2_000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()

    texts = instructions(options.count)
    our_times = ours(texts, options.repeats)
    memory_bytes = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    pair_s = rouge_score_pair_by_pair(texts)
    matrix = rapidfuzz_matrix(texts[: options.sample])
    if matrix is not None:
        scale = (options.count / options.sample) ** 2
        matrix["all texts, scaled by pairs, s"] = matrix["sample, s"] * scale
    result = {
        "claim": "exact ROUGE-L near-duplicate filter of 52,000 instructions in about a second",
        "texts": options.count,
        "mean_tokens": sum(len(tokenize(text)) for text in texts) / len(texts),
        "threshold": THRESHOLD,
        "meadowlark": our_times,
        "peak_memory_bytes_of_process": memory_bytes,
        "rouge_score": {
            "pair, ms": 1000 * pair_s,
            "all pairs, scaled, h": pair_s * options.count * (options.count - 1) / 2 / 3600,
        },
        "rapidfuzz_cdist": matrix,
        **stamp(("numpy", "numba", "rouge-score", "rapidfuzz")),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
