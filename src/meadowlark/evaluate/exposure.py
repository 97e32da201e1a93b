"""Which exam questions stand among the rows that the examined model was trained on.

A model's folders and the questions come in; the questions found again go out with the row and the
share of their words (``match.ngrams`` says when one counts as found). The rows are those that the
manifest of ``train`` names, of the model and of what it was trained from, as long as they are still
there; or those a user gives.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from meadowlark.dataset import MANIFEST, fingerprint, read_batches, read_manifest
from meadowlark.errors import UserError
from meadowlark.progress import Progress
from meadowlark.records import Question, Record, from_table

BATCH = 16_384
EXPOSURE = "contamination.parquet"
EXPOSURE_SCHEMA = pa.schema(
    [
        ("task", pa.string()),
        ("item", pa.string()),
        ("row", pa.string()),
        ("source", pa.string()),
        ("coverage", pa.float64()),
        ("choices", pa.int64()),
        ("passage", pa.string()),
    ]
)
"""Of ``contamination.parquet``: which question stands in which training row, the share of its words
found in order, how many of its choices stand there too, and the passage as folded."""


@dataclass
class TrainingRows:
    """Files and folders of rows that a model was trained on, by name, and what could not be had."""

    paths: dict[str, Path] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def training_rows(folders: Iterable[Path]) -> TrainingRows:
    """The rows behind checkpoints that ``train`` or ``package`` wrote, and behind their bases.

    Validation rows are no training. A checkpoint from elsewhere has no manifest and adds nothing.
    """
    found = TrainingRows()
    waiting, seen = list(folders), set()
    while waiting:
        folder = waiting.pop(0).resolve()
        if folder in seen or not (folder / MANIFEST).exists():
            continue
        seen.add(folder)
        inputs = read_manifest(folder).inputs
        waiting += [Path(inputs[name]["path"]) for name in ("checkpoint", "base") if name in inputs]
        if "data" in inputs:
            path, sha256 = Path(inputs["data"]["path"]), inputs["data"]["sha256"]
            if _is_still(path, sha256):
                found.paths[str(path)] = path
            else:
                found.missing.append(str(path))
    return found


def _is_still(path: Path, sha256: str) -> bool:
    try:
        return path.exists() and fingerprint(path) == sha256
    except UserError:  # changed by hand, or being made again
        return False


@dataclass(frozen=True, slots=True)
class Exposure:
    """``exposed`` holds the ids of the questions found, ``unsearchable`` of those too short to be
    told from other text; ``rows`` counts the training rows that were read."""

    exposed: frozenset[str]
    unsearchable: frozenset[str]
    rows: int
    table: pa.Table

    def of(self, question: Question) -> bool | None:
        """Whether a question was seen in training; None where it could not be looked for."""
        if question.id in self.exposed:
            return True
        return None if question.id in self.unsearchable else False


def find_exposure(questions: Sequence[Question], paths: Iterable[Path]) -> Exposure:
    """Look for the questions in all rows of the paths."""
    from meadowlark.match.ngrams import QuestionIndex  # compiles; an exam without rows needs none

    index = QuestionIndex(questions)
    exposed: set[str] = set()
    found: list[dict[str, Any]] = []
    count = 0
    with Progress("training rows", None, "rows") as progress:
        for path in paths:
            for table, _ in read_batches(path, Record, BATCH):
                rows = from_table(table, Record)
                texts = [
                    [*(turn.content for turn in r.history), r.instruction, r.input, r.output]
                    for r in rows
                ]
                for one in index.search(texts):
                    question, row = questions[one.question], rows[one.row]
                    exposed.add(question.id)
                    found.append(
                        {
                            "task": question.task,
                            "item": question.id,
                            "row": row.id,
                            "source": row.source,
                            "coverage": one.coverage,
                            "choices": one.choices,
                            "passage": one.passage,
                        }
                    )
                count += len(rows)
                progress.advance(len(rows))
    return Exposure(
        frozenset(exposed),
        frozenset(questions[i].id for i in index.unsearchable) - exposed,
        count,
        pa.Table.from_pylist(found, EXPOSURE_SCHEMA),
    )
