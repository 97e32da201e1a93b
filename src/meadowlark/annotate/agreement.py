"""How far the people agree on what they share, told without telling what they chose.

Judgements come in; a few lines for the administrator go out. Neither names of models nor shares of
choices are among them, so that nobody who reads them is less blind than before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from meadowlark.annotate.judgements import COMPARE, DECISIONS, verdicts
from meadowlark.annotate.store import Judged
from meadowlark.statistics.agreement import agreement
from meadowlark.statistics.raters import agreement_table

COEFFICIENTS = {"raw": "equal votes", "gwet": "Gwet's AC1", "krippendorff": "Krippendorff's alpha"}
"""What is shown: raw agreement with two coefficients that correct for chance in different ways."""


class Line(NamedTuple):
    """One coefficient on what was judged by two or more; None where it cannot be told."""

    subject: str
    name: str
    value: float | None
    low: float | None
    high: float | None
    n: int


def agreement_lines(task: str, judged: Sequence[Judged]) -> list[Line]:
    """Agreement between the people: by criterion for a comparison, on the decision for a review."""
    return _compared(judged) if task == COMPARE else _reviewed(judged)


def _compared(judged: Sequence[Judged]) -> list[Line]:
    rows = [
        verdict
        for one in judged
        for verdict in verdicts(
            one.judgement, item=str(one.item), a="a", b="b", a_first=one.a_first, person=one.person
        )
    ]
    return [
        Line(row.criterion, COEFFICIENTS[row.coefficient], row.value, row.low, row.high, row.n)
        for row in agreement_table(rows)
        if row.ties and row.between == "people" and row.coefficient in COEFFICIENTS
    ]


def _reviewed(judged: Sequence[Judged]) -> list[Line]:
    people = sorted({one.person for one in judged})
    by_item: dict[int, dict[str, str]] = {}
    for one in judged:
        by_item.setdefault(one.item, {})[one.person] = one.judgement["decision"]
    table = [[said.get(name) for name in people] for said in by_item.values() if len(said) > 1]
    if not table:
        return []
    lines = []
    for coefficient, name in COEFFICIENTS.items():
        found = agreement(table, coefficient, categories=list(DECISIONS))
        numbers = (found.value, found.low, found.high)
        value, low, high = (None if math.isnan(x) else x for x in numbers)
        lines.append(Line("decision", name, value, low, high, len(table)))
    return lines
