"""``stats``: what data sets hold, side by side: sources, licences, labels, lengths, verbs.

The analysis of AlpaCare's figures (PAPERS.md, section 1) among it: views, types, topics,
difficulty, verbs with their objects, linguistic entropy. Labels are brought to the vocabulary that
generation uses, so that seeds as clinicians wrote them stand beside generated tasks. Reads
records, writes ``stats.json``; the same dictionary is what the verb prints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from meadowlark.curate.meadow import rebuilt
from meadowlark.curate.verbs import (
    FIGURE_CUT,
    find_method,
    linguistic_entropy,
    verb_noun_pairs,
)
from meadowlark.dataset import Run, open_run, read
from meadowlark.labels import (
    OTHER,
    normalise_difficulty,
    normalise_type,
    normalise_view,
    topic_area,
)
from meadowlark.records import Record

LABELS = ("type", "view", "difficulty", "topic_area", "topic")
"""The tags that are shown first; others follow in the order of their names."""
TRACES = ("request", "original_id")
"""Tags that say where a row came from, not what it is."""
WRITTEN = ("type", "view", "topic")
"""Labels whose original wording is counted too, as the paper's figures do."""
TOP = 20
MOST_VALUES = 10_000
"""A tag with more values than this names rows rather than sorting them, and is left out."""
LENGTHS = ("instruction", "input", "output")


def describe(records: Sequence[Record]) -> dict[str, Any]:
    """Counts of one data set as plain JSON; lengths are over non-empty fields."""
    method, find = find_method()
    pairs = verb_noun_pairs((r.instruction for r in records), find)
    frequent = sum(count for *_, count in pairs if count > FIGURE_CUT)
    return {
        "rows": len(records),
        "without_input": sum(not r.input for r in records),
        "without_output": sum(not r.output for r in records),
        "multi_turn": sum(bool(r.history) for r in records),
        "sources": _counts(r.source for r in records),
        "licences": _counts(r.licence for r in records),
        "medical_meadow": rebuilt(records),
        "labels": _labels(normal_labels(r.tags) for r in records),
        "labels_as_written": {
            name: _as_written(
                [r.tags.get(f"{name}_original", r.tags.get(name, "")) for r in records]
            )
            for name in WRITTEN
        },
        "characters": {
            name: _lengths([len(getattr(r, name)) for r in records]) for name in LENGTHS
        },
        "words": {
            name: _lengths([len(getattr(r, name).split()) for r in records]) for name in LENGTHS
        },
        "distinct_instructions": len({r.instruction for r in records}),
        "verb_noun": {
            "method": method,
            "pairs": [{"verb": v, "noun": n, "count": c} for v, n, c in pairs],
            "share_of_rows": sum(c for *_, c in pairs) / len(records) if records else 0.0,
            "pairs_in_figure": sum(count > FIGURE_CUT for *_, count in pairs),
            "share_in_figure": frequent / len(records) if records else 0.0,
        },
        "linguistic_entropy_bits": linguistic_entropy(pairs),
    }


def stats(data: Sequence[Path], out: Path, *, limit: int | None = None, force: bool = False) -> Run:
    """Describe every data set into OUT/stats.json, under its folder's name."""
    names = data_names(data)
    inputs = dict(zip(names, data, strict=True))
    options = {"limit": limit, "verbs": find_method()[0]}
    run = open_run("stats", out, options=options, inputs=inputs, force=force)
    if run.complete:
        return run
    with run:
        described = describe_all(data, limit)
        run.write_json("stats.json", {"datasets": described})
        run.finish(rows_described=sum(one["rows"] for one in described.values()))
    return run


def describe_all(data: Sequence[Path], limit: int | None = None) -> dict[str, dict[str, Any]]:
    """Name to description; rows that cannot be read are counted as ``unreadable``."""
    described = {}
    for name, path in zip(data_names(data), data, strict=True):
        records, rejected = read(path, Record, limit)
        described[name] = {**describe(records), "unreadable": len(rejected)}
    return described


def data_names(data: Sequence[Path]) -> list[str]:
    """A distinct name for each path: its own, or with its parent's where two are the same."""
    short = [path.name for path in data]
    return [
        name if short.count(name) == 1 else str(path)
        for name, path in zip(short, data, strict=True)
    ]


def normal_labels(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags with type, view and difficulty in the vocabulary's words, and the topic's field.

    A label that is in no vocabulary (another data set's own types) stays as it is.
    """
    found = dict(tags)
    for name, normalise in (
        ("type", normalise_type),
        ("view", normalise_view),
        ("difficulty", normalise_difficulty),
    ):
        normal = normalise(tags.get(name, ""))
        if normal and normal != OTHER:
            found[name] = normal
    if area := topic_area(tags.get("topic", "")):
        found.setdefault("topic_area", area)
    return found


def _as_written(values: Sequence[str]) -> dict[str, float]:
    """How many wordings of a label there are, and the share of rows with the most frequent 20."""
    counts = Counter(value for value in values if value)
    rows = sum(counts.values())
    top = sum(count for _, count in counts.most_common(TOP))
    return {"distinct": len(counts), "top_20_share": round(top / rows, 4) if rows else 0.0}


def _labels(tags: Iterable[Mapping[str, str]]) -> dict[str, dict[str, int]]:
    """For each tag how many rows have each of its values; tags that trace a row are left out."""
    found: dict[str, Counter[str]] = {}
    for one in tags:
        for name, value in one.items():
            if value and name not in TRACES and not name.endswith("_original"):
                found.setdefault(name, Counter())[value] += 1
    order = [name for name in LABELS if name in found]
    order += sorted(found.keys() - set(LABELS))
    return {
        name: _counts(found[name].elements()) for name in order if len(found[name]) <= MOST_VALUES
    }


def _counts(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _lengths(values: Sequence[int]) -> dict[str, float]:
    lengths = np.array([length for length in values if length])
    if not len(lengths):
        return {"n": 0}
    quartiles = np.percentile(lengths, [5, 50, 95])
    return {
        "n": len(lengths),
        "mean": round(float(lengths.mean()), 1),
        "percentile_5": float(quartiles[0]),
        "median": float(quartiles[1]),
        "percentile_95": float(quartiles[2]),
        "longest": int(lengths.max()),
    }
