"""Bradley-Terry ratings of models from paired comparisons, with a term for the position shown.

Comparisons of two names come in; each model's strength with its standard error, and the advantage
of being shown first, come out. Sources: Bradley & Terry 1952; the order effect of Agresti,
"Categorical Data Analysis" (2002), section 10.6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meadowlark.errors import unknown
from meadowlark.records import Verdict
from meadowlark.statistics.intervals import quantile
from meadowlark.statistics.logistic import fit_logistic, sigmoid
from meadowlark.statistics.wins import POINTS_OF_A


class Contest(NamedTuple):
    """``n`` comparisons of ``first`` with ``second``, of which ``first`` won ``points``.

    A win is 1 point, a tie 1/2. ``shown`` is 1 where ``first`` was shown first, -1 where ``second``
    was, 0 where order had no part. ``item`` names the prompt, for errors that respect it.
    """

    first: str
    second: str
    points: float
    n: float = 1.0
    shown: int = 1
    item: str = ""


def contests(verdicts: Iterable[Verdict]) -> list[Contest]:
    """Verdicts as contests; ``both_bad`` is a tie, and unreadable ones are left out."""
    return [
        Contest(v.a, v.b, POINTS_OF_A[v.winner], 1, 1 if v.shown_first == "a" else -1, v.item)
        for v in verdicts
        if v.winner in POINTS_OF_A
    ]


class Rating(NamedTuple):
    """One model's strength λ against the reference's 0, in logits; its error and interval.

    ``win_rate`` is 1/(1 + e^-λ), the chance to beat the reference when position plays no part.
    """

    name: str
    strength: float
    standard_error: float
    low: float
    high: float
    win_rate: float
    comparisons: float


class Ratings(NamedTuple):
    """All ratings, strongest first, and the position term η with its error (None if not fitted).

    ``deviance`` is 2·(log-likelihood of the observed shares - that of the fit), by contest rows.
    """

    ratings: list[Rating]
    position: float | None
    position_error: float | None
    deviance: float
    reference: str

    def rating(self, name: str) -> Rating:
        """The rating of one model by name."""
        by_name = {rating.name: rating for rating in self.ratings}
        if name not in by_name:
            raise unknown("model", name, by_name)
        return by_name[name]


def bradley_terry(
    contests: Iterable[Contest],
    reference: str | None = None,
    *,
    position: bool = False,
    by_item: bool = False,
    ridge: float = 0.0,
    level: float = 0.95,
) -> Ratings:
    """logit P(i beats j) = λ_i - λ_j + η·shown by maximum likelihood, λ of ``reference`` at 0.

    ``reference`` is the first name in sorted order unless given; to compare two other models, name
    one of them, since errors are those of differences from the reference. Ties count as half a win
    and half a loss, so a tie pulls both together and weighs as much as a decision. ``position``
    fits η, a second parameter of the judge: e^η are the odds of the first of two equal answers; it
    needs contests shown in both orders. Errors are from the information matrix; with ``by_item``
    they are the sandwich over prompts, since verdicts on one prompt are related.

    A model that won or lost everything has no finite strength: a ValueError, unless ``ridge``
    (the precision of a normal prior at 0 on the differences from the reference) is above 0.
    """
    found = [contest for contest in contests if contest.n > 0]
    if not found:
        raise ValueError("no comparisons")
    for c in found:
        if c.first == c.second or not 0 <= c.points <= c.n or c.shown not in (-1, 0, 1):
            raise ValueError(f"not a contest of two models: {c}")
    names = sorted({name for c in found for name in (c.first, c.second)})
    base = names[0] if reference is None else reference
    if base not in names:
        raise unknown("model", base, names)
    _connected(found, names)
    columns = {name: number for number, name in enumerate(n for n in names if n != base)}
    x = np.zeros((len(found), len(columns) + position))
    for row, c in enumerate(found):
        if c.first in columns:
            x[row, columns[c.first]] += 1
        if c.second in columns:
            x[row, columns[c.second]] -= 1
        if position:
            x[row, -1] = c.shown
    counts = np.array([c.n for c in found], dtype=np.float64)
    shares = np.array([c.points for c in found], dtype=np.float64) / counts
    try:
        fit = fit_logistic(x, shares, counts, ridge)
    except ValueError:
        raise ValueError(
            "no finite ratings: a model (or a group of them) won or lost every comparison with the "
            "others, or the position shown cannot be told from the models; give a ridge above 0"
        ) from None
    covariance = np.asarray(np.linalg.inv(fit.information), dtype=np.float64)
    fitted = sigmoid(x @ fit.coefficients)
    if by_item:
        covariance = _sandwich(covariance, x, counts * (shares - fitted), [c.item for c in found])
    errors = np.sqrt(np.maximum(np.diag(covariance), 0.0))  # rounding may leave -1e-20
    z = quantile(level)
    played = {name: sum(c.n for c in found if name in (c.first, c.second)) for name in names}
    ratings = []
    for name in names:
        at = columns.get(name)
        value, error = (
            (0.0, 0.0) if at is None else (float(fit.coefficients[at]), float(errors[at]))
        )
        ratings.append(
            Rating(
                name,
                value,
                error,
                value - z * error,
                value + z * error,
                1 / (1 + math.exp(-value)),
                played[name],
            )
        )
    return Ratings(
        sorted(ratings, key=lambda rating: (-rating.strength, rating.name)),
        float(fit.coefficients[-1]) if position else None,
        float(errors[-1]) if position else None,
        _deviance(shares, fitted, counts),
        base,
    )


def _connected(found: Sequence[Contest], names: Sequence[str]) -> None:
    """Refuses models that no chain of comparisons joins, since nothing compares them."""
    group = {name: name for name in names}

    def top(name: str) -> str:
        while group[name] != name:
            name = group[name]
        return name

    for pair in {(c.first, c.second) for c in found}:
        group[top(pair[0])] = top(pair[1])
    apart = [name for name in names if top(name) != top(names[0])]
    if apart:
        raise ValueError(f"nothing compares {', '.join(apart)} with {names[0]}")


def _sandwich(
    bread: NDArray[np.float64],
    x: NDArray[np.float64],
    residuals: NDArray[np.float64],
    items: Sequence[str],
) -> NDArray[np.float64]:
    """Bread · Σ_items (Σ x·residual)(...)ᵀ · bread, times C/(C - 1)."""
    order = {item: number for number, item in enumerate(dict.fromkeys(items))}
    if len(order) < 2:
        return np.full_like(bread, math.nan)
    scores = np.zeros((len(order), x.shape[1]))
    np.add.at(scores, [order[item] for item in items], x * residuals[:, None])
    return np.asarray(bread @ (scores.T @ scores) @ bread * len(order) / (len(order) - 1))


def _deviance(
    shares: NDArray[np.float64], fitted: NDArray[np.float64], counts: NDArray[np.float64]
) -> float:
    def part(share: NDArray[np.float64], fit: NDArray[np.float64]) -> NDArray[np.float64]:
        ratio = np.divide(share, fit, out=np.ones_like(share), where=share > 0)
        return np.asarray(share * np.log(ratio))

    return float(2 * (counts * (part(shares, fitted) + part(1 - shares, 1 - fitted))).sum())
