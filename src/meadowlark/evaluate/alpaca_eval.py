"""AlpacaEval's annotation files: verdicts read from their rows, and rows written from verdicts.

A row of ``annotations.json`` comes in and a :class:`Verdict` comes out, with the model (their
second generator) as ``a`` and the baseline as ``b``; and the other way round. Layout and order rule
follow the package alpaca_eval (Li et al. 2023).
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterable, Mapping
from typing import Any

from meadowlark.records import Answer, Question, Verdict, Winner, record_id
from meadowlark.templates import INPUT_MARKER

KEYS = frozenset({"instruction", "generator_1", "generator_2", "preference"})
"""The keys that tell a row of an annotation file."""


def shown_switched(instruction: str) -> bool:
    """Whether AlpacaEval's annotators showed the model's answer first, by its rule.

    The coin is seeded with the instruction, so it falls the same for all models and judges.
    """
    coin = random.Random(f"is_switched_outputs{instruction}0")
    return bool(coin.choices([False, True])[0])


def annotation_item(instruction: str) -> str:
    """The item's id of an instruction: AlpacaEval has none, and row numbers shift when one is
    missing, so it is the id of a record with that instruction alone."""
    return record_id((), instruction, "", "")


def verdict_from_annotation(raw: Mapping[str, Any]) -> Verdict:
    """One row of an annotation file as a verdict.

    ``preference`` runs from 1 (the baseline, ``generator_1``) to 2 (``generator_2``); 1.5 and 0 are
    ties, null or NaN is unreadable. What was shown first is read from ``is_switched_outputs``
    where the row has it, else computed by :func:`shown_switched`, and then the note says so. Raises
    KeyError or ValueError where the row is no such thing.
    """
    instruction = _text(raw, "instruction")
    a, b = _text(raw, "generator_2"), _text(raw, "generator_1")
    if a == b:
        raise ValueError(f"a verdict names two different models, not {a!r} twice")
    preference = _preference(raw["preference"])
    winner: Winner = "unreadable"
    if preference is not None:
        winner = "tie" if preference == 0.5 else "a" if preference > 0.5 else "b"
    switched, note = raw.get("is_switched_outputs"), ""
    if not isinstance(switched, bool):
        switched, note = shown_switched(instruction), "order by AlpacaEval's rule"
    completion = raw.get("raw_completion")
    annotator = raw.get("annotator") or "unnamed"
    return Verdict(
        item=str(raw.get("item") or annotation_item(instruction)),
        criterion="preference",
        a=a,
        b=b,
        shown_first="a" if switched else "b",
        winner=winner,
        by=annotator if str(annotator).startswith("human:") else f"judge:{annotator}",
        preference=preference,
        note=note,
        raw=_raw(completion),
    )


def _text(raw: Mapping[str, Any], key: str) -> str:
    value = raw[key]
    if not isinstance(value, str) or not value:
        raise ValueError(f"{key} is no text: {value!r}")
    return value


def _preference(value: Any) -> float | None:
    """From 0 (the baseline) to 1 (the model); None where there is none."""
    if value is None or value == "":
        return None
    number = float(value)
    if math.isnan(number):
        return None
    if number == 0:
        return 0.5
    if not 1 <= number <= 2:
        raise ValueError(f"preference {value!r} is neither 0 nor from 1 to 2")
    return number - 1


def _raw(completion: Any) -> str:
    if completion is None or isinstance(completion, str):
        return completion or ""
    return json.dumps(completion, ensure_ascii=False)


_POINTS: dict[Winner, float | None] = {
    "a": 2.0,
    "b": 1.0,
    "tie": 1.5,
    "both_bad": 1.5,
    "unreadable": None,
}


def to_annotations(
    verdicts: Iterable[Verdict], questions: Iterable[Question], answers: Iterable[Answer]
) -> list[dict[str, Any]]:
    """Verdicts as rows of an annotation file, ``a`` as the second generator, in their order.

    The texts are looked up by item (and model); one that is not there is a ValueError naming it.
    An item judged in both orders gives two rows. ``is_switched_outputs`` and ``item`` are added to
    AlpacaEval's own keys, which ignores them, so that nothing is lost when the rows are read again.
    """
    prompts = {question.id: question.prompt for question in questions}
    texts = {(answer.item, answer.model): answer.text for answer in answers if answer.draw == 0}
    rows = []
    for verdict in verdicts:
        if verdict.item not in prompts:
            raise ValueError(f"no question {verdict.item!r} for a verdict on it")
        for name in (verdict.a, verdict.b):
            if (verdict.item, name) not in texts:
                raise ValueError(f"no answer of {name} to {verdict.item!r}")
        preference = _POINTS[verdict.winner]
        if preference is not None and verdict.preference is not None:
            preference = 1 + verdict.preference
        rows.append(
            {
                "instruction": prompts[verdict.item].replace(INPUT_MARKER, "\n\n"),
                "output_1": texts[verdict.item, verdict.b],
                "generator_1": verdict.b,
                "output_2": texts[verdict.item, verdict.a],
                "generator_2": verdict.a,
                "annotator": verdict.by.removeprefix("judge:"),
                "preference": preference,
                "raw_completion": verdict.raw,
                "is_switched_outputs": verdict.shown_first == "a",
                "item": verdict.item,
            }
        )
    return rows
