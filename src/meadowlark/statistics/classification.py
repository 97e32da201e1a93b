"""How well predicted labels match: accuracy and macro-F1, as PubMedQA reports them.

Labels come in by item, numbers between 0 and 1 go out. Source: Jin et al. 2019 (PubMedQA), whose
macro-F1 is the mean over the labels that occur of each label's F1; a label never predicted has 0.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def accuracy(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> float:
    """The share of items whose predicted label is the right one; ValueError without items."""
    _check(gold, predicted)
    return sum(g == p for g, p in zip(gold, predicted, strict=True)) / len(gold)


def macro_f1(
    gold: Sequence[Hashable],
    predicted: Sequence[Hashable],
    labels: Sequence[Hashable] | None = None,
) -> float:
    """The unweighted mean of each label's F1. ValueError without items or labels.

    ``labels`` are those counted; without them, all that are right or predicted somewhere. An item
    without a prediction should not bring a label of its own into the mean: give ``labels`` then.
    """
    _check(gold, predicted)
    counted = list(labels) if labels is not None else list(dict.fromkeys([*gold, *predicted]))
    if not counted:
        raise ValueError("no labels")
    pairs = list(zip(gold, predicted, strict=True))
    scores = []
    for label in counted:
        hits = sum(g == p == label for g, p in pairs)
        total = sum(g == label for g, _ in pairs) + sum(p == label for _, p in pairs)
        scores.append(2 * hits / total if total else 0.0)
    return sum(scores) / len(scores)


def _check(gold: Sequence[Hashable], predicted: Sequence[Hashable]) -> None:
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} right labels but {len(predicted)} predicted ones")
    if not gold:
        raise ValueError("no items")
