"""Verdicts read from files: our own rows, or the raw transcripts of a judge model.

A path comes in, :class:`Verdict` rows come out. From a transcript only the judge's own text is
read, by a named reading (``reading.py``); what another program extracted from it is ignored, and a
text that gives no single choice becomes the winner ``unreadable``, never a missing row. Our own
rows are read already; with a reading asked for, a judge's raw text in them is read again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

from meadowlark.dataset import read, rows_path
from meadowlark.errors import UserError
from meadowlark.evaluate import alpaca_eval
from meadowlark.evaluate.reading import Choice, read_choice, reading_of
from meadowlark.layouts import raw_rows
from meadowlark.records import Rejected, Verdict, Winner, from_dict

# --------------------------------------------------------------------------- layouts of files


class Named(NamedTuple):
    """What a transcript's file name says: the models compared, and who was shown first."""

    model: str
    reference: str
    model_first: bool | None


def names_from(path: Path) -> Named:
    """``MODEL__TASK-ref-REFERENCE_model_first.json`` taken apart, as far as it goes.

    Without ``-ref-`` the whole name is the model's and the other is called ``reference``; without
    ``_model_first`` or ``_reference_first`` the order is None.
    """
    stem = path.name
    for ending in (".json", ".jsonl", ".ndjson", ".csv"):
        stem = stem.removesuffix(ending)
    order: bool | None = None
    for suffix, model_first in (("_model_first", True), ("_reference_first", False)):
        if stem.endswith(suffix):
            stem, order = stem.removesuffix(suffix), model_first
    model, found, reference = stem.rpartition("-ref-")
    if not found:
        model, reference = stem, "reference"
    name, _, _ = model.rpartition("__")
    return Named(name or model or "model", reference or "reference", order)


def winner_of(choice: Choice | None, shown_first: str) -> Winner:
    """The winner that a choice between first and second means, by which answer was shown first."""
    if choice in ("first", "second"):
        return "a" if (choice == "first") == (shown_first == "a") else "b"
    return "unreadable" if choice is None else "tie"


def _own_row(raw: Mapping[str, Any], file: Path, reading: str | None) -> Verdict:
    keys = Verdict.__dataclass_fields__
    values = {key: value for key, value in raw.items() if key in keys}
    if values.get("preference") in ("", None):
        values["preference"] = None
    else:
        values["preference"] = float(values["preference"])
    row = _checked(from_dict(values, Verdict))
    if reading is None or not row.raw or not row.by.startswith("judge:"):
        return row
    winner = winner_of(read_choice(row.raw, reading), row.shown_first)
    return replace(row, winner=winner, preference=None)


def _checked(row: Verdict) -> Verdict:
    if row.winner not in get_args(Winner):
        raise ValueError(f"winner {row.winner!r} is none of {', '.join(get_args(Winner))}")
    if row.shown_first not in ("a", "b"):
        raise ValueError(f"shown_first {row.shown_first!r} is neither a nor b")
    if not row.item or not row.a or not row.b or row.a == row.b:
        raise ValueError("a verdict names an item and two different models")
    return row


_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def _transcript_row(raw: Mapping[str, Any], file: Path, reading: str | None) -> Verdict:
    named = names_from(file)
    if named.model == named.reference:
        raise ValueError(f"the file's name gives {named.model!r} for both models")
    item, response = raw.get("model_output_id"), raw["response"]
    if item is None or item == "":
        raise ValueError("no model_output_id")
    order = _BOOLEANS.get(str(raw.get("model_response_first")).lower(), named.model_first)
    if order is None:
        raise ValueError("neither the row nor the file's name says who was shown first")
    text = response if isinstance(response, str) else ""
    shown_first = "a" if order else "b"
    return Verdict(
        item=str(item),
        criterion="preference",
        a=named.model,
        b=named.reference,
        shown_first="a" if order else "b",
        winner=winner_of(read_choice(text, reading or "brackets"), shown_first),
        by="judge:unnamed",
        raw=text,
    )


def _annotation_row(raw: Mapping[str, Any], file: Path, reading: str | None) -> Verdict:
    return _checked(alpaca_eval.verdict_from_annotation(raw))


@dataclass(frozen=True)
class Layout:
    """One way in which files hold verdicts: the keys that tell it, how a row is read, and whether
    it has a judge's text that a reading can be asked for."""

    keys: frozenset[str]
    read: Callable[[Mapping[str, Any], Path, str | None], Verdict]
    has_text: bool = True


LAYOUTS = {
    "meadowlark": Layout(frozenset({"item", "a", "b", "shown_first", "winner"}), _own_row),
    "transcript": Layout(frozenset({"model_output_id", "response"}), _transcript_row),
    "AlpacaEval annotations": Layout(alpaca_eval.KEYS, _annotation_row, has_text=False),
}
"""Every layout that is read; the first whose keys the first row holds is taken for the file."""


def read_verdicts(
    path: Path, reading: str | None = None, limit: int | None = None
) -> tuple[list[Verdict], list[Rejected]]:
    """The verdicts of a folder or a parquet, json, jsonl or csv file, and the rows that are none.

    ``reading`` says how a judge's text is read (brackets, where a transcript needs one); our own
    rows are read already, and again only where a reading is given (what the log-probabilities said
    of a verdict is then left out). A file that is in no known layout, or holds nothing, is a
    UserError; so are annotations, which hold no text, with a reading.
    """
    if reading is not None:
        reading_of(reading)
    file = rows_path(path, Verdict)
    found: list[Verdict] = []
    rejected: list[Rejected] = []
    layout: Layout | None = None
    if file.is_dir() or file.suffix == ".parquet":
        rows: Any = (
            {key: getattr(row, key) for key in row.__dataclass_fields__}
            for row in read(path, Verdict)[0]
        )
    else:
        rows = raw_rows(file)
    for number, raw in enumerate(rows, start=1):
        if limit is not None and len(found) >= limit:
            break
        try:
            if not isinstance(raw, Mapping):
                raise ValueError("not a JSON object")
            layout = layout or _layout_of(raw, file)
            if reading is not None and not layout.has_text:
                raise UserError(
                    f"{file}: --reading reads a judge's text, and AlpacaEval's annotations are "
                    "preferences; leave it out, or score them in a command of their own"
                )
            found.append(layout.read(raw, file, reading))
        except (KeyError, TypeError, ValueError) as error:
            why = f"no {error}" if isinstance(error, KeyError) else str(error)
            kept = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str)
            empty = Verdict("", "", "", "", "a", "unreadable", "")
            detail = f"{file.name} row {number}: {why}: {kept}"
            rejected.append(Rejected(empty, "not a verdict", detail))
    if not found:
        reason = f" ({rejected[0].detail[:200]})" if rejected else ""
        raise UserError(f"{file} holds no verdicts{reason}")
    return found, rejected


def _layout_of(row: Mapping[str, Any], file: Path) -> Layout:
    for layout in LAYOUTS.values():
        if layout.keys <= row.keys():
            return layout
    known = "; ".join(f"{n} ({', '.join(sorted(lay.keys))})" for n, lay in LAYOUTS.items())
    raise UserError(
        f"{file} holds verdicts in no known layout: its rows have the keys "
        f"{', '.join(map(str, row)) or 'none'}. Known: {known}."
    )
