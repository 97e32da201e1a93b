"""Real replies for the extractor's tests, by id, read from MEADOWLARK_DATA and never committed.

An id is ``SOURCE/PLACE``. What comes out is the reply's text and the texts of the choices it was
asked about (empty strings where only letters are known).
"""

from __future__ import annotations

import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

VERDICT_CHOICES = ("assistant A is better", "assistant B is better", "a tie")
REASON_CHOICES = ("Response 1", "Response 2", "Tie")
LETTERS_ONLY = ("", "", "", "")
"""A free-form prompt has no choices: read as if it had been asked with four."""

ALPACA_EVAL = {
    144: ("Approving", "Counteroffering", "Endorsing", "Prescreening", "None of the above"),
    471: ("A kilogram of feathers", "Coach Malibu", "", "The cross-section of air"),
    542: ("Loud sounds", "Difficult subject", "Late hour", "Low lighting"),
}
"""The multiple-choice prompts among AlpacaEval's 805, by row."""


class Reply(NamedTuple):
    """A reply, and the texts of the choices it was asked about."""

    text: str
    choices: tuple[str, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@cache
def _json(path: Path) -> list[dict[str, str]]:
    rows: list[dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


@cache
def _medmcqa(path: Path) -> dict[str, dict[str, str]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["id"]: row for row in rows}


@cache
def _worked(path: Path) -> list[Reply]:
    """The worked answers of one BBH prompt whose questions have lettered options."""
    found = []
    for part in path.read_text(encoding="utf-8").split("\nQ: ")[1:]:
        question, _, reply = part.partition("\nA: ")
        options = re.findall(r"^\(([A-Z])\) (.*)$", question, re.M)
        if options:
            found.append(Reply(reply.strip(), tuple(text for _, text in options)))
    return found


def real_reply(data: Path, id: str) -> Reply:
    """The reply of an id below the data folder ``data``."""
    source, _, place = id.partition("/")
    if source == "verdict":
        name, _, row = place.rpartition("/")
        return Reply(_json(data / "judging/verdicts" / name)[int(row)]["response"], VERDICT_CHOICES)
    if source == "medmcqa":
        item = _medmcqa(data / "exams/medmcqa/dev.json")[place]
        return Reply(item["exp"], tuple(item[f"op{letter}"] for letter in "abcd"))
    if source == "bbh":
        name, _, row = place.partition("/")
        return _worked(data / "exams/bbh/cot-prompts" / f"{name}.txt")[int(row)]
    if source == "alpaca_eval":
        name, _, row = place.partition("/")
        path = data / "judging/alpaca_eval_outputs" / f"{name}.json"
        return Reply(_json(path)[int(row)]["output"], ALPACA_EVAL[int(row)])
    if source == "pandalm":
        row, _, side = place.partition("/")
        if side == "reason":
            path = data / "judging/pandalm/gpt-3.5-turbo-testset-v1.json"
            return Reply(_json(path)[int(row)]["gpt_reason"], REASON_CHOICES)
        path = data / "judging/pandalm/testset-v1.json"
        return Reply(_json(path)[int(row)][side], ALPACA_EVAL[542])
    if source == "free":
        model, name, row = place.split("/")
        path = data / "alpacare/model_outputs" / model / f"{name}.json"
        return Reply(_json(path)[int(row)]["response"], LETTERS_ONLY)
    raise ValueError(f"no such source of replies: {id}")
