"""``filter``: drops near-duplicate records by exact ROUGE-L F1 on one field.

Rule ``kept`` is Self-Instruct's: a record is compared with those kept before it, so the first of a
group stays. Rule ``others`` is AlpaCare's: all of a group go (PAPERS.md section 1, "Filter"). Made
for generated instructions: converted questions ("What are the symptoms of X?") look alike by
nature and need another treatment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from meadowlark.dataset import Run, open_run, read_batches
from meadowlark.errors import UserError, unknown
from meadowlark.match.rouge import Rule, near_duplicates
from meadowlark.records import SCHEMAS, Record, rejected_table

RULES: dict[str, Rule] = {"kept": "kept", "others": "others"}
FIELDS = ("instruction", "input", "output")
BLOCK = 50_000
REASON = "near-duplicate by ROUGE-L"


def filter_records(
    data: Path,
    out: Path,
    *,
    threshold: float = 0.7,
    rule: str = "kept",
    field: str = "instruction",
    limit: int | None = None,
    threads: int | None = None,
    force: bool = False,
) -> Run:
    """Keep the records whose ``field`` is not above ``threshold`` with another's.

    A rejected row's ``detail`` holds its nearest neighbour's id and their score. Records whose
    field has no word (an empty input) score 0 with everything and are kept.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if field not in FIELDS:
        raise unknown("field", field, FIELDS)
    if not 0 <= threshold < 1:
        raise UserError(f"the threshold must be at least 0 and below 1, not {threshold}")
    options = {"threshold": threshold, "rule": rule, "field": field, "limit": limit}
    run = open_run("filter", out, options=options, inputs={"data": data}, force=force)
    if run.complete:
        return run
    with run:
        # Rows stay in Arrow's form: as objects a million and a half of them need several GB.
        tables, rejected = [SCHEMAS[Record].empty_table()], []
        for table, unusable in read_batches(data, Record, BLOCK, limit):
            tables.append(table.select(SCHEMAS[Record].names))
            rejected += unusable
        rows = pa.concat_tables(tables)
        texts = _Texts(rows.column(field))
        same, count = _majority(texts)
        if same and len(texts) > 2:
            run.manifest.warnings.append(
                f"{count:,} of {len(texts):,} rows have the same {field}: compare another --field"
            )
        found = near_duplicates(texts, threshold, RULES[rule], threads)
        gone = np.flatnonzero(~found.kept)
        ids = rows.column("id")
        neighbours = ids.take(pa.array(found.nearest[gone])).to_pylist()
        details = [
            f"{neighbour} scores {score:.4f}"
            for neighbour, score in zip(neighbours, found.score[gone], strict=True)
        ]
        near = rows.take(pa.array(gone))
        near = near.append_column("reason", pa.array([REASON] * len(gone), pa.string()))
        near = near.append_column("detail", pa.array(details, pa.string()))
        kept = rows.filter(pa.array(found.kept))
        run.manifest.rows["in"] = rows.num_rows + len(rejected)
        run.write(kept, Record)
        run.reject(pa.concat_tables([rejected_table(rejected, Record), near]), Record)
        run.finish()
    return run


class _Texts(Sequence[str]):
    """A column as a sequence of which only the part at work exists as Python's strings."""

    def __init__(self, column: pa.ChunkedArray) -> None:
        self._column = column

    def __len__(self) -> int:
        return len(self._column)

    def __getitem__(self, place: Any) -> Any:
        found = self._column[place]
        return found.to_pylist() if isinstance(place, slice) else found.as_py()

    def batches(self) -> Iterator[list[str]]:
        for at in range(0, len(self), BLOCK):
            yield self[at : at + BLOCK]


def _majority(texts: _Texts) -> tuple[str, int]:
    """The text that more than half of all are, and how many; empty and 0 where there is none.

    By Boyer and Moore's vote, which needs no table of all texts.
    """
    candidate, votes = "", 0
    for batch in texts.batches():
        for text in batch:
            if votes == 0:
                candidate = text
            votes += 1 if text == candidate else -1
    count = sum(batch.count(candidate) for batch in texts.batches())
    return (candidate, count) if 2 * count > len(texts) else ("", 0)
