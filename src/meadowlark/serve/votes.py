"""Blind votes between two models, kept as they are given: verdicts that ``score`` reads.

A folder holds ``questions.jsonl``, ``answers.jsonl`` and ``verdicts.jsonl``, rows of the nouns. A
vote is appended and forced to disk before the page is told of it, the verdict last, so a killed
server loses none and a verdict always has its question and answers. A line that a kill cut in two
is taken off when the folder is opened again.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO

from meadowlark.errors import UserError
from meadowlark.records import Answer, Noun, Question, Verdict, to_json

FILES = {Question: "questions.jsonl", Answer: "answers.jsonl", Verdict: "verdicts.jsonl"}


class Votes:
    """The votes of one person, appended to a folder; close it at the end."""

    def __init__(self, folder: Path, by: str) -> None:
        if not by.strip() or not by.isprintable():
            raise UserError(f"--by {by!r}: expected the name of the person who votes")
        self.folder, self.by = folder, f"human:{by.strip()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._files = {kind: (folder / name).open("ab+") for kind, name in FILES.items()}
        except OSError as error:
            raise UserError(f"--votes {folder} cannot be written: {error.strerror}") from None
        verdicts = self._files[Verdict]
        try:
            fcntl.flock(verdicts, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.close()
            raise UserError(f"another server keeps its votes in {folder}; give another") from None
        for file in self._files.values():
            _mend(file)
        self.count = _lines(verdicts)

    def add(self, question: Question, answers: list[Answer], verdict: Verdict) -> None:
        """Keep a vote with what it is about; it is on disk when this returns."""
        self._append(question)
        for answer in answers:
            self._append(answer)
        self._append(verdict)
        self.count += 1

    def _append(self, row: Noun) -> None:
        file = self._files[type(row)]
        file.write(json.dumps(to_json(row), ensure_ascii=False).encode("utf-8") + b"\n")
        file.flush()
        os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()


def _mend(file: IO[bytes]) -> None:
    """Take off a last line that has no end."""
    file.seek(0)
    whole = file.read()
    end = whole.rfind(b"\n") + 1
    if end < len(whole):
        file.truncate(end)
    file.seek(0, os.SEEK_END)


def _lines(file: IO[bytes]) -> int:
    file.seek(0)
    return file.read().count(b"\n")
