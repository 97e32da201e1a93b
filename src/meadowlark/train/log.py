"""The training log: one JSON line a logged step or evaluation, in ``train_log.jsonl``.

A step's line has step, epoch, loss (nats a supervised token), learning_rate, grad_norm, tokens
(of rows, seen so far), tokens_per_s, memory_bytes (the most so far); where rows of a pass begin
alike, ``shared``: the share of the main process's tokens that was not computed once more; and where
the device's matrix rate is known, mfu (the FLOPs of the tokens computed over it). An evaluation's
has step, epoch, eval_loss and bits_per_byte. A resumed run first drops the lines past its
checkpoint, so that no step is told twice.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

NAME = "train_log.jsonl"
MEASURED = frozenset({"tokens_per_s", "memory_bytes", "shared", "mfu"})
"""What of a line differs between two runs of the same training."""


def read_log(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; one cut short by a kill is left out."""
    if not path.exists():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:
            continue
    return lines


def rewind(path: Path, step: int | None) -> list[dict[str, Any]]:
    """Drop the lines after ``step`` (all of them for None) and return what stays.

    A file that was not there stays away.
    """
    if not path.exists():
        return []
    kept = [] if step is None else [line for line in read_log(path) if line["step"] <= step]
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    temporary.replace(path)
    return kept


def append(path: Path, line: dict[str, Any]) -> None:
    """Add one line."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def summary(path: Path, step: int | None = None) -> dict[str, Any]:
    """First and last training loss, and the first and last evaluation, as manifest results.

    ``step`` is that of the evaluation whose weights were kept, where it is not the last.
    """
    lines = read_log(path)
    steps = [line for line in lines if "loss" in line]
    evaluations = [line for line in lines if "eval_loss" in line]
    found: dict[str, Any] = {}
    if steps:
        found["train_loss_first"], found["train_loss_last"] = steps[0]["loss"], steps[-1]["loss"]
    if evaluations:
        before, after = evaluations[0], evaluations[-1]
        if step is not None:
            after = next(line for line in evaluations if line["step"] == step)
        found["validation_loss_before"] = before["eval_loss"]
        found["validation_loss_after"] = after["eval_loss"]
        found["validation_bits_per_byte_before"] = before["bits_per_byte"]
        found["validation_bits_per_byte_after"] = after["bits_per_byte"]
    return found
