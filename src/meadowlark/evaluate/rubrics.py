"""Rubrics: what a good answer to an item does (positive points) and must not do (negative ones).

A JSON file comes in, in our layout or HealthBench's; the criteria of each item come out. A rubric
under the item ``*`` is for every item that has none of its own; ``medical`` ships with the package.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadowlark.answered import plain
from meadowlark.errors import UserError
from meadowlark.layouts import raw_rows
from meadowlark.records import Question

SHIPPED = {"medical": Path(__file__).parent / "protocols" / "medical-rubric.json"}
"""Rubrics that ship, by name. They were not clinically reviewed."""
ANY = "*"


@dataclass(frozen=True, slots=True)
class Criterion:
    """One criterion: its text, the points for meeting it (negative for a fault), and its tags."""

    text: str
    points: float
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rubric:
    """The criteria of one item, and the item's own tags."""

    criteria: tuple[Criterion, ...]
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rubrics:
    """The rubrics of a file, by the item's id and by its prompt."""

    by_item: dict[str, Rubric]
    by_prompt: dict[str, Rubric]

    def of(self, question: Question) -> Rubric | None:
        """The rubric of a question: its own, or the one for any item."""
        own = self.by_item.get(question.id) or self.by_prompt.get(_words(plain(question.prompt)))
        return own or self.by_item.get(ANY)


def rubric_path(name: str | Path) -> Path:
    """The file of a shipped rubric's name, or the path itself."""
    return SHIPPED.get(str(name), Path(name))


def read_rubrics(path: Path) -> Rubrics:
    """The rubrics of a .json, .jsonl or .csv file; a row that is none is a UserError.

    A row names its item by ``item``, ``id`` or ``prompt_id`` (or ``prompt``, a text or messages),
    and holds ``criteria`` (or ``rubrics``, ``rubric``): a list of ``criterion``, ``points`` and
    ``tags``; the item's own tags are ``tags`` or ``example_tags``.
    """
    if not path.is_file():
        known = ", ".join(SHIPPED)
        raise UserError(f"no such rubric: {path}; expected a .json or .jsonl file, or {known}")
    by_item: dict[str, Rubric] = {}
    by_prompt: dict[str, Rubric] = {}
    for number, raw in enumerate(raw_rows(path), start=1):
        try:
            rubric = _rubric(raw)
            item = str(raw.get("item") or raw.get("id") or raw.get("prompt_id") or "")
            prompt = _prompt(raw.get("prompt"))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise UserError(
                f"{path}, row {number} is no rubric ({why}). Expected item (or prompt), and "
                'criteria: [{"criterion": text, "points": 5, "tags": []}, ...]'
            ) from None
        if item and item in by_item:
            raise UserError(f"{path}, row {number}: a second rubric for the item {item!r}")
        if item:
            by_item[item] = rubric
        if prompt:
            by_prompt[prompt] = rubric
    if not by_item and not by_prompt:
        raise UserError(f"{path} holds no rubric that names its item or prompt")
    return Rubrics(by_item, by_prompt)


def _rubric(raw: Mapping[str, Any]) -> Rubric:
    rows = raw.get("criteria") or raw.get("rubrics") or raw.get("rubric")
    if not rows:
        raise ValueError("no criteria")
    criteria = []
    for row in rows:
        points = float(row["points"])
        text = str(row["criterion"]).strip()
        if not text or not math.isfinite(points) or points == 0:
            raise ValueError("a criterion has a text and points other than 0")
        criteria.append(Criterion(text, points, tuple(map(str, row.get("tags") or ()))))
    if len({criterion.text for criterion in criteria}) < len(criteria):
        raise ValueError("a criterion stands there twice")
    if not any(criterion.points > 0 for criterion in criteria):
        raise ValueError("no criterion has positive points, so that no score can be reached")
    tags = raw.get("example_tags") or raw.get("tags") or ()
    return Rubric(tuple(criteria), tuple(map(str, tags)))


def _prompt(raw: Any) -> str:
    if isinstance(raw, list):
        raw = raw[-1]["content"] if raw else ""
    return _words(str(raw or ""))


def _words(text: str) -> str:
    return " ".join(text.split())
