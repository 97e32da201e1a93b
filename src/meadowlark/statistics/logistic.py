"""Logistic regression by Newton's method: the one fit under ratings and length control.

Features, outcomes between 0 and 1 (a tie is 1/2) and weights come in; coefficients and the
information matrix come out. Source: McCullagh & Nelder, "Generalized Linear Models" (1989),
section 4.4; a fractional outcome is the same as that share of wins and the rest of losses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
_STEPS = 200
_NEAR = 1e-10


class Fit(NamedTuple):
    """``coefficients`` (k,) and ``information`` (k, k), whose inverse is their covariance."""

    coefficients: Array
    information: Array


def sigmoid(x: Array) -> Array:
    """1/(1 + e^-x) without overflow."""
    return np.asarray(np.exp(-np.logaddexp(0.0, -x)))


def fit_logistic(x: Array, y: Array, weights: Array | None = None, ridge: float = 0.0) -> Fit:
    """Maximises Σ w (y log p + (1 - y) log(1 - p)) - ridge·|β|²/2 with logit p = xβ.

    ``x`` is (n, k), ``y`` and ``weights`` (n,). ``ridge`` is the precision of a normal prior at 0
    on every coefficient. A ValueError where no finite best fit exists (a feature parts the wins
    from the losses, or features depend on each other); a ridge above 0 always gives one.
    """
    w = np.ones(len(y)) if weights is None else weights
    beta = np.zeros(x.shape[1])

    def quality(b: Array) -> float:
        linear = x @ b
        likely = w * (y * -np.logaddexp(0.0, -linear) + (1 - y) * -np.logaddexp(0.0, linear))
        return float(likely.sum() - ridge * (b @ b) / 2)

    best = quality(beta)
    for _ in range(_STEPS):
        p = sigmoid(x @ beta)
        gradient = x.T @ (w * (y - p)) - ridge * beta
        information = (x * (w * p * (1 - p))[:, None]).T @ x + ridge * np.eye(len(beta))
        try:
            step = np.linalg.solve(information, gradient)
        except np.linalg.LinAlgError:
            break
        if not np.isfinite(step).all() or np.abs(beta + step).max() > (50 if ridge == 0 else 1e6):
            break
        if np.abs(step).max() <= _NEAR * (1 + np.abs(beta).max()):
            return Fit(beta + step, information)
        share, found = 1.0, quality(beta + step)
        while found < best - 1e-9 * (1 + abs(best)) and share > 1e-6:
            share /= 2
            found = quality(beta + share * step)
        beta, best = beta + share * step, found
    raise ValueError("no finite best fit: a feature parts the wins from the losses")
