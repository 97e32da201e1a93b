"""Answers committed batch by batch, so that a killed evaluation goes on where it was.

Each batch of a local model is appended to ``answers.partial.jsonl`` as whole lines and forced to
disk. Batches are cut from fixed windows of the questions, so an interrupted run and a straight one
compute the same batches and give the same rows to the last bit.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from meadowlark.dataset import FILE_OF, Run, read
from meadowlark.records import Answer, from_dict, to_json

PARTIAL = "answers.partial.jsonl"
WINDOW = 256
"""Questions in a window: batches are sorted by length inside it and never reach beyond it."""


class PartialAnswers:
    """The answers of a run so far: those of an earlier try, and those added since.

    An answer is known by its item and draw. Used as a context. ``tokens_in`` and ``tokens_out``
    add up what the run's manifest says of a part that was finished, and what the committed lines
    say: all that was read and written, also where the batch of a raised limit made an answer again.
    ``extras`` holds what a stage keeps beside an answer.
    """

    def __init__(self, run: Run) -> None:
        self.path = run.folder / PARTIAL
        self.tokens_in = run.manifest.tokens.get("in", 0)
        self.tokens_out = run.manifest.tokens.get("out", 0)
        self._answers: dict[tuple[str, int], Answer] = {}
        self.extras: dict[tuple[str, int], dict[str, Any]] = {}
        finished = run.folder / FILE_OF[Answer]
        if run.resumed and finished.exists():
            for answer in read(finished, Answer)[0]:
                self._answers[answer.item, answer.draw] = answer
        whole = b""
        if run.extends:  # a kill after the manifest was written left lines that it counts
            self.path.unlink(missing_ok=True)
        if run.resumed and self.path.exists():
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
        extra = values.pop("extra", None)
        answer = from_dict(values, Answer)
        self._answers[answer.item, answer.draw] = answer
        if extra is not None:
            self.extras[answer.item, answer.draw] = extra

    def add(
        self,
        answers: Iterable[Answer],
        tokens: Iterable[tuple[int, int]] = (),
        extras: Iterable[Mapping[str, Any]] = (),
    ) -> None:
        """Commit a batch; ``tokens`` are those in and out of each answer, where counted."""
        counts, beside = iter(tokens), iter(extras)
        lines = []
        for answer in answers:
            tokens_in, tokens_out = next(counts, (0, 0))
            row = {**to_json(answer), "tokens_in": tokens_in, "tokens_out": tokens_out}
            extra = next(beside, None)
            if extra is not None:
                row["extra"] = dict(extra)
            lines.append(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            self._read(lines[-1])
        self._file.write(b"".join(lines))
        self._file.flush()
        os.fsync(self._file.fileno())

    def has(self, items: Iterable[str], draw: int = 0) -> bool:
        """Whether every one of the items is answered."""
        return all((item, draw) in self._answers for item in items)

    def of(self, items: Iterable[str], draw: int = 0) -> list[Answer]:
        """The answers to the items, in their order."""
        return [self._answers[item, draw] for item in items]

    def remove(self) -> None:
        """Delete the file: the rows are in ``answers.parquet``."""
        self._file.close()
        self.path.unlink(missing_ok=True)


def windows(count: int, block_of: Callable[[int], object] = lambda _: None) -> Iterator[range]:
    """The indices below ``count`` in windows, none of which holds two blocks."""
    start = 0
    while start < count:
        stop = start + 1
        while stop < min(start + WINDOW, count) and block_of(stop) == block_of(start):
            stop += 1
        yield range(start, stop)
        start = stop


def batches(
    count: int,
    lengths: Callable[[range], Sequence[int]],
    cut: Callable[[Sequence[int]], list[list[int]]],
) -> Iterator[list[int]]:
    """Batches of the indices below ``count``: windows of questions in order, each cut by length.

    ``lengths`` gives the tokens of a window's rows, ``cut`` the batches of such lengths.
    """
    for window in windows(count):
        for batch in cut(lengths(window)):
            yield [window[index] for index in batch]
