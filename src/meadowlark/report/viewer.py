"""The page on which one reads prompt, answers and verdicts side by side, filtered without script.

Verdicts, and the questions and answers of the runs, come in; pages of HTML come out, each prompt
once. Filters are radio buttons and CSS: prompts on which judges disagree, on which a judge flipped
with the order, and with an unreadable verdict. Everything is escaped by the template engine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

from meadowlark.records import Answer, Question, Score, Verdict, Winner
from meadowlark.report import comparisons, findings
from meadowlark.report.content import Side, plural
from meadowlark.report.examples import clip
from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder
from meadowlark.report.scores import compared, model_names
from meadowlark.templates import split_content

ITEMS = 250
"""Prompts on a page; further ones go to further pages."""
FILTERS = {
    "all": "everything",
    "disagree": "judges disagree",
    "flip": "order flips",
    "unread": "unreadable",
}
BADGES = {"disagree": "judges disagree", "flip": "order flip", "unread": "unreadable verdict"}
_POINTS: dict[Winner, float] = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
_KINDS: dict[Winner, str] = {"a": "won", "b": "lost", "unreadable": "unreadable-verdict"}


@dataclass
class Item:
    """One prompt as shown."""

    number: int
    heading: str
    prompt: str
    sides: list[Side]
    rows: list[dict[str, Any]] = field(default_factory=list)
    said: list[dict[str, str]] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)

    @property
    def badges(self) -> list[str]:
        """The flags in words."""
        return [BADGES[flag] for flag in self.flags]


Pair = tuple[str, str, str]
"""A criterion and two models."""


def flags_of(verdicts: Iterable[Verdict]) -> dict[tuple[Pair, str], list[str]]:
    """What is remarkable in one item's verdicts on each pair by each rater: keys of BADGES.

    ``flip``: a rater came to different winners in the two orders. ``disagree``: the raters of the
    pair lie, over both orders, on different sides (or one of them on neither). An unreadable
    verdict takes no part in either and gives ``unread``.
    """
    points: dict[Pair, dict[str, dict[str, list[float]]]] = {}
    unread = set()
    for v in verdicts:
        pair = (v.criterion, v.a, v.b)
        orders = points.setdefault(pair, {}).setdefault(v.by, {})
        if v.winner in _POINTS:
            orders.setdefault(v.shown_first, []).append(_POINTS[v.winner])
        else:
            unread.add((pair, v.by))
    found: dict[tuple[Pair, str], list[str]] = {}
    for pair, by_rater in points.items():
        means = {
            by: [sum(given) / len(given) for given in orders.values()]
            for by, orders in by_rater.items()
        }
        totals = [sum(one) / len(one) for one in means.values() if one]
        disagree = len({(total > 0.5) - (total < 0.5) for total in totals}) > 1
        for by, one in means.items():
            told = {
                "disagree": disagree,
                "flip": len(set(one)) > 1,
                "unread": (pair, by) in unread,
            }
            found[pair, by] = [name for name, true in told.items() if true]
    return found


def pages(lineage: Lineage, research: str) -> dict[str, str]:
    """The pages by file name; none where no run holds verdicts."""
    runs = compared(lineage)
    verdicts = comparisons.verdicts_of(lineage, runs)
    if not verdicts:
        return {}
    scores = [score for run in runs for score in run.scores]
    items = _items(verdicts, scores, lineage.runs, model_names(lineage.runs))
    parts = [items[start : start + ITEMS] for start in range(0, len(items), ITEMS)]
    names = {
        n: "verdicts.html" if n == 1 else f"verdicts-{n}.html" for n in range(1, len(parts) + 1)
    }
    summary = (
        f"{plural(len(items), 'prompt')}, {plural(len(verdicts), 'verdict')}, by "
        + ", ".join(sorted({v.by for v in verdicts})).replace(
            f"judge:{findings.UNNAMED}", "a judge model without a name"
        )
    )
    folder = resources.files("meadowlark.report")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string((folder / "viewer.html").read_text(encoding="utf-8"))
    style = (folder / "page.css").read_text(encoding="utf-8")
    made = {}
    for number, part in enumerate(parts, start=1):
        told = {
            key: f"{sum(key in row['flags'] for item in part for row in item.rows):,} in "
            + plural(sum(key in item.flags for item in part), "prompt")
            for key in BADGES
        }
        told["all"] = plural(len(part), "prompt")
        made[names[number]] = (
            template.render(
                style=Markup(re.sub(r"/\*.*?\*/\n?", "", style, flags=re.S)),
                summary=summary,
                research=research,
                filters=[(key, title, told[key]) for key, title in FILTERS.items()],
                items=part,
                page=number,
                pages=list(names) if len(names) > 1 else [],
                names=names,
            )
            + "\n"
        )
    return made


def _items(
    verdicts: Sequence[Verdict],
    scores: Sequence[Score],
    runs: Sequence[RunFolder],
    names: dict[str, str],
) -> list[Item]:
    """Every prompt with its answers and verdicts, these in the order that the report has."""
    questions: dict[str, Question] = {}
    texts: dict[str, dict[str, Answer]] = {}
    # A judge's own folder holds the names that its verdicts bear, so it goes first.
    for run in sorted(runs, key=lambda run: not run.verdicts):
        for question in run.questions:
            questions.setdefault(question.id, question)
        for answer in run.answers:
            if answer.draw == 0:
                texts.setdefault(answer.item, {}).setdefault(answer.model, answer)
    by_item: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_item.setdefault(verdict.item, []).append(verdict)
    judged = comparisons.in_order(((v.by, v.criterion, v.a, v.b) for v in verdicts), scores)
    place = {one: number for number, one in enumerate(judged)}
    made = []
    raters = len({v.by for v in verdicts})  # one is named above all prompts
    for number, (item, held) in enumerate(by_item.items(), start=1):
        rows = sorted(held, key=lambda v: place[v.by, v.criterion, v.a, v.b])
        asked = questions.get(item)
        models = list(dict.fromkeys([v.a for v in rows] + [v.b for v in rows]))
        sides = [_side(names[m], texts.get(item, {}).get(m)) for m in models]
        group = f" · {asked.group}" if asked is not None and asked.group else ""
        prompt = "(the prompt is in none of the runs given)"
        if asked is not None:
            prompt = clip("\n\n".join(part for part in split_content(asked.prompt) if part))
        flags = flags_of(rows)
        told = {flag for own in flags.values() for flag in own}
        one = Item(number, f"Prompt {item}{group}", prompt, sides)
        one.flags = [flag for flag in BADGES if flag in told]
        grouped: dict[tuple[str, str, str, str], list[Verdict]] = {}
        for v in rows:
            grouped.setdefault((v.a, v.b, v.by, v.criterion), []).append(v)
        several = len({v.criterion for v in rows}) > 1
        for (a, b, by, criterion), cells in grouped.items():
            pair = f"{names[a]} against {names[b]}" + (f", {criterion}" if several else "")
            rater = by if raters > 1 else ""
            own = flags[(criterion, a, b), by]
            one.rows.append(
                {"pair": pair, "by": rater, "cells": _cells(cells, names), "flags": own}
            )
            for v in cells:
                words = v.raw or (f"({v.note})" if v.note else "")
                if words:
                    first = names[v.a if v.shown_first == "a" else v.b]
                    who = f"{by} on {pair}, {first} shown first"
                    one.said.append({"who": who, "text": clip(words)})
        made.append(one)
    return made


def _side(name: str, answer: Answer | None) -> Side:
    if answer is None:
        return Side(name, "(the answer is in none of the runs given)")
    return Side(
        name, clip(answer.text) or "(nothing)", "" if answer.status == "ok" else answer.status
    )


def _cells(verdicts: Sequence[Verdict], names: dict[str, str]) -> list[list[dict[str, str]]]:
    """What was said with the first model shown first, and with the second."""
    cells = []
    for order in ("a", "b"):
        cell = []
        for v in verdicts:
            if v.shown_first == order:
                winner = {"a": names[v.a], "b": names[v.b]}.get(v.winner)
                words = winner or v.winner.replace("_", " ")
                if v.preference is not None and winner:
                    words += f" ({100 * max(v.preference, 1 - v.preference):.0f} %)"
                cell.append({"kind": _KINDS.get(v.winner, "tied"), "text": words})
        cells.append(cell)
    return cells
