"""``seeds check``: what is wrong with seed tasks, and what they cover.

Reads an xlsx, csv, json or jsonl file (or a folder) row by row; gives faults with row numbers,
remarks, and how often each combination of type, topic field, view and difficulty occurs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from meadowlark.dataset import read, rows_path
from meadowlark.labels import (
    OTHER,
    TOPIC_AREAS,
    TYPES,
    VIEWS,
    normalise_difficulty,
    normalise_type,
    normalise_view,
    topic_area,
)
from meadowlark.layouts import numbered_rows, parse_row, with_known_keys
from meadowlark.match import near_duplicates
from meadowlark.records import Record, Rejected
from meadowlark.synth.replies import CHOICE_TYPES, choices_of

LABELS = ("type", "topic", "view", "difficulty")
DIFFICULTIES = ("1", "2", "3", "4", "5")
USMLE_WORDS = 50
"""A USMLE-style question describes its case in more than so many words (requirement 13)."""
VOCABULARY: dict[str, tuple[str, ...]] = {
    "type": tuple(TYPES),
    "topic": tuple(TOPIC_AREAS),
    "view": tuple(VIEWS),
    "difficulty": DIFFICULTIES,
}


class Finding(NamedTuple):
    """Something about one row: its number in the file, a short phrase to count, the detail."""

    row: int
    what: str
    detail: str


@dataclass
class Checked:
    """What :func:`check_seeds` found. ``cells`` counts (type, topic field, view, difficulty)."""

    rows: int = 0
    without_input: int = 0
    faults: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)
    cells: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)

    def counts(self, label: str) -> dict[str, int]:
        """How many rows have each value of a label, in the order of the vocabulary."""
        at = LABELS.index(label)
        found: Counter[str] = Counter()
        for cell, rows in self.cells.items():
            found[cell[at]] += rows
        order = [*VOCABULARY[label], OTHER, ""]
        return {value: found[value] for value in order if found[value]}

    def table(self, label: str) -> dict[str, dict[str, int]]:
        """Value of a label to difficulty to rows."""
        at = LABELS.index(label)
        found = {value: dict.fromkeys(DIFFICULTIES, 0) for value in self.counts(label)}
        for cell, rows in self.cells.items():
            if cell[3]:
                found[cell[at]][cell[3]] += rows
        return found

    def gaps(self) -> dict[str, list[str]]:
        """Values of the vocabulary that no row has."""
        return {
            label: [value for value in VOCABULARY[label] if value not in self.counts(label)]
            for label in LABELS
        }

    def as_json(self) -> dict[str, Any]:
        """Everything as plain JSON."""
        cells = sorted(self.cells.items(), key=lambda item: (-item[1], item[0]))
        return {
            "rows": self.rows,
            "without_input": self.without_input,
            "faults": [finding._asdict() for finding in self.faults],
            "remarks": [finding._asdict() for finding in self.remarks],
            "coverage": {label: self.counts(label) for label in LABELS},
            "gaps": self.gaps(),
            "cells": [{**dict(zip(LABELS, cell, strict=True)), "rows": n} for cell, n in cells],
        }


def check_seeds(path: Path, threshold: float = 0.7, limit: int | None = None) -> Checked:
    """Faults, remarks and coverage of a file of seed tasks.

    Two instructions with a ROUGE-L F1 above ``threshold`` are near-duplicates, as in generation.
    """
    checked = Checked()
    kept: list[tuple[int, Record]] = []
    for number, row in _rows(path):
        if limit is not None and checked.rows >= limit:
            break
        checked.rows += 1
        if isinstance(row, Rejected):
            checked.faults.append(Finding(number, row.reason, row.detail))
        else:
            kept.append((number, row))
            checked.without_input += not row.input.strip()
            checked.cells[_labels(row.tags)] += 1
            _check_row(number, row, checked)
    _check_pairs(kept, threshold, checked)
    checked.faults.sort()
    checked.remarks.sort()
    return checked


def _rows(path: Path) -> Iterator[tuple[int, Record | Rejected]]:
    file = rows_path(path, Record)
    if file.suffix == ".parquet" or file.is_dir():
        rows, unusable = read(path, Record)
        yield from enumerate([*rows, *unusable], start=1)
        return
    for number, raw in numbered_rows(file):
        raw = with_known_keys(raw) if isinstance(raw, Mapping) else raw
        if isinstance(raw, Mapping) and not str(raw.get("instruction") or "").strip():
            # A row that a person began: say what is missing instead of that it is no record.
            named = {str(k): str(v) for k, v in raw.items() if k and v not in (None, "")}
            yield number, Record("", named.pop("input", ""), tags=named)
            continue
        yield number, parse_row(raw, Record, number)


def _labels(tags: Mapping[str, str]) -> tuple[str, str, str, str]:
    return (
        normalise_type(tags.get("type", "")),
        topic_area(tags.get("topic", "")),
        normalise_view(tags.get("view", "")),
        normalise_difficulty(tags.get("difficulty", "")),
    )


def _check_row(number: int, row: Record, checked: Checked) -> None:
    """Faults and remarks of one row by itself."""
    kind, _, view, level = _labels(row.tags)
    if not row.instruction.strip():
        checked.faults.append(Finding(number, "missing instruction", row.input[:80]))
    for label in LABELS:
        if not row.tags.get(label, "").strip():
            checked.faults.append(Finding(number, f"missing {label}", row.instruction[:80]))
    given = row.tags.get("difficulty", "").strip()
    if given and not level:
        checked.faults.append(Finding(number, "difficulty is not 1 to 5", given))
    text = f"{row.instruction}\n{row.input}"
    if kind in CHOICE_TYPES and not choices_of(text):
        detail = "give the question and every choice, each with a letter: A) ... B) ..."
        checked.faults.append(Finding(number, f"{kind} without lettered choices", detail))
    words = len(text.split())
    if kind == "USMLE-style question" and words <= USMLE_WORDS:
        detail = f"{words} words; it should describe a case in more than {USMLE_WORDS}"
        checked.remarks.append(Finding(number, "short USMLE-style question", detail))
    for label, name in (("type", kind), ("view", view)):
        if name == OTHER:
            detail = f"{row.tags[label]!r} is none of: {', '.join(VOCABULARY[label])}"
            checked.remarks.append(Finding(number, f"unknown {label}", detail))


def _check_pairs(rows: list[tuple[int, Record]], threshold: float, checked: Checked) -> None:
    """Instructions that are nearly those of an earlier row."""
    found = near_duplicates([row.instruction for _, row in rows], threshold, "kept")
    for (number, row), near, score in zip(rows, found.nearest, found.score, strict=True):
        if near >= 0:
            other = rows[int(near)][0]
            detail = f"ROUGE-L {score:.2f} with row {other}: {row.instruction[:80]}"
            checked.faults.append(Finding(number, "near-duplicate", detail))
