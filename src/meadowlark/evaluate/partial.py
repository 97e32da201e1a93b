"""Answers committed batch by batch, so that a killed evaluation goes on where it was.

Each batch of a local model is appended to ``answers.partial.jsonl`` as whole lines and forced to
disk. Batches are cut from fixed windows of the questions, so an interrupted run and a straight one
compute the same batches and give the same rows to the last bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from meadowlark.dataset import FILE_OF, read
from meadowlark.records import Answer, from_dict, to_json

PARTIAL = "answers.partial.jsonl"
WINDOW = 256
"""Questions in a window: batches are sorted by length inside it and never reach beyond it."""


class PartialAnswers:
    """The answers of a run so far: those of an earlier try, and those added since.

    Used as a context. ``tokens_in`` and ``tokens_out`` add up what the committed lines say.
    """

    def __init__(self, folder: Path, *, resumed: bool) -> None:
        self.path = folder / PARTIAL
        self.tokens_in = self.tokens_out = 0
        self._answers: dict[str, Answer] = {}
        finished = folder / FILE_OF[Answer]
        if resumed and finished.exists():
            for answer in read(finished, Answer)[0]:
                self._answers[answer.item] = answer
        whole = b""
        if resumed and self.path.exists():
            for line in self.path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break  # torn by a kill
                self._read(line)
                whole += line
        self.path.write_bytes(whole)
        self._file = self.path.open("ab")

    def __enter__(self) -> PartialAnswers:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _read(self, line: bytes) -> None:
        values = json.loads(line)
        self.tokens_in += values.pop("tokens_in", 0)
        self.tokens_out += values.pop("tokens_out", 0)
        answer = from_dict(values, Answer)
        self._answers[answer.item] = answer

    def add(self, answers: Iterable[Answer], tokens: Iterable[tuple[int, int]] = ()) -> None:
        """Commit a batch; ``tokens`` are those in and out of each answer, where counted."""
        counts = iter(tokens)
        lines = []
        for answer in answers:
            tokens_in, tokens_out = next(counts, (0, 0))
            row = {**to_json(answer), "tokens_in": tokens_in, "tokens_out": tokens_out}
            lines.append(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._read(lines[-1])
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())

    def has(self, items: Iterable[str]) -> bool:
        """Whether every one of the items is answered."""
        return all(item in self._answers for item in items)

    def of(self, items: Iterable[str]) -> list[Answer]:
        """The answers to the items, in their order."""
        return [self._answers[item] for item in items]

    def remove(self) -> None:
        """Delete the file: the rows are in ``answers.parquet``."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def batches(
    count: int,
    lengths: Callable[[range], Sequence[int]],
    cut: Callable[[Sequence[int]], list[list[int]]],
) -> Iterator[list[int]]:
    """Batches of the indices below ``count``: windows of questions in order, each cut by length.

    ``lengths`` gives the tokens of a window's rows, ``cut`` the batches of such lengths.
    """
    for start in range(0, count, WINDOW):
        window = range(start, min(start + WINDOW, count))
        for batch in cut(lengths(window)):
            yield [window[index] for index in batch]
