"""A win rate as if both models had written answers of the same length (AlpacaEval 2).

Preferences for a model, and how much longer the baseline's answers are, come in; the rate with
length differences set to 0 comes out. Source: Dubois et al., "Length-Controlled AlpacaEval" (2024).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from meadowlark.statistics.intervals import clustered_mean, quantile
from meadowlark.statistics.logistic import fit_logistic, sigmoid

Array = NDArray[np.float64]
_RIDGE = 1e-3  # a prior with sd 30: moves a real rate by less than 0.01 points, keeps 100 % finite


class Anchors(NamedTuple):
    """Rows of the baseline told to write more or less, whose model term is 0 by definition.

    They hold the effects of length and difficulty near what they are for one model against itself.
    ``length`` is tanh(Δlen/σ) of each row, ``difficulty`` γ of its prompt; ``weight`` counts each
    row against one of the model's (AlpacaEval: 0.2 shared by two such models, 0.1).
    """

    preferences: Sequence[float]
    length: Sequence[float]
    difficulty: Sequence[float]
    weight: float = 0.1


class LengthControlled(NamedTuple):
    """The length-controlled win rate in [0, 1], its error and interval, and the coefficients.

    ``length`` is a (negative where longer answers win), ``difficulty`` d, ``model`` b. The error
    is that of resampling prompts with the anchors held fixed; NaN with fewer than two clusters.
    """

    value: float
    standard_error: float
    low: float
    high: float
    length: float
    difficulty: float
    model: float
    n: int


def length_controlled_win_rate(
    preferences: Iterable[float | None],
    length_differences: Iterable[float],
    difficulty: Iterable[float] | None = None,
    anchors: Anchors | None = None,
    clusters: Iterable[Hashable] | None = None,
    level: float = 0.95,
) -> LengthControlled:
    """The mean over prompts of σ(b + d·γ_i), after fitting logit p_i = a·tanh(Δ_i/σ) + d·γ_i + b.

    ``preferences`` says how far the model is preferred on each row, 0 to 1 (a tie 1/2), None where
    the verdict could not be read: such a row enters σ and the mean over prompts and not the fit, as
    in AlpacaEval. ``length_differences`` is Δ, the BASELINE's characters minus the model's; σ is
    its sample standard deviation. ``difficulty`` is γ by row, looked up by the prompt's id and
    never by row number; without it d is 0. ``clusters`` names the prompt of each row where prompts
    repeat. The interval is the value -/+ z standard errors within [0, 1], by the sandwich variance.
    A ValueError without any preference.
    """
    wished = list(preferences)
    delta = np.asarray(list(length_differences), dtype=np.float64)
    gamma = np.zeros(len(wished)) if difficulty is None else np.asarray(list(difficulty), float)
    if not len(wished) == len(delta) == len(gamma):
        raise ValueError(f"{len(wished)} preferences, {len(delta)} lengths, {len(gamma)} prompts")
    read = np.array([value is not None for value in wished], dtype=bool)
    if not read.any():
        raise ValueError("no preferences")
    y = np.array([0.5 if value is None else value for value in wished], dtype=np.float64)
    if not ((y >= 0) & (y <= 1)).all():
        raise ValueError("a preference is between 0 and 1")
    spread = delta.std(ddof=1) if len(delta) > 1 else 0.0
    length = np.tanh(delta / spread) if spread > 0 else np.zeros(len(delta))
    x = np.column_stack([length, gamma, np.ones(len(y))])
    rows, outcomes, weights = x, y, read.astype(np.float64)
    if anchors is not None:
        of_length, of_prompt = np.asarray(anchors.length), np.asarray(anchors.difficulty)
        added = np.column_stack([of_length, of_prompt, np.zeros(len(of_length))])
        rows = np.concatenate([x, added])
        outcomes = np.concatenate([y, np.asarray(anchors.preferences, dtype=np.float64)])
        weights = np.concatenate([weights, np.full(len(outcomes) - len(y), anchors.weight)])
    fit = fit_logistic(rows, outcomes, weights, _RIDGE)
    a, d, b = map(float, fit.coefficients)
    expected = sigmoid(b + d * gamma)
    value = float(expected.mean())
    # How far each row moves the rate: by its own prompt, and through the fit.
    slope = expected * (1 - expected)
    gradient = np.array([0.0, float((slope * gamma).mean()), float(slope.mean())])
    pull = (x * (read * (y - sigmoid(x @ fit.coefficients)))[:, None]) @ np.linalg.solve(
        fit.information, gradient
    )
    _, error = clustered_mean(expected + len(y) * pull, clusters)
    half = quantile(level) * error
    low, high = (float(np.clip(bound, 0.0, 1.0)) for bound in (value - half, value + half))
    return LengthControlled(value, error, low, high, a, d, b, int(read.sum()))
