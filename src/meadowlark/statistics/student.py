"""Student's t distribution without scipy: what small samples need in place of the normal one.

A level or a t value and the degrees of freedom come in, a quantile or a p-value comes out, to
about nine digits. Source: the regularised incomplete beta function by Lentz's continued fraction
(Abramowitz & Stegun 26.5.8 and 26.7.1).
"""

from __future__ import annotations

import math

from meadowlark.statistics.intervals import quantile

_NEARLY_NORMAL = 1e6  # degrees of freedom from which a correction of the normal has all digits


def p_value(t: float, df: float) -> float:
    """Two-sided P(|T| >= |t|) with ``df`` degrees of freedom; NaN without any, or of NaN.

    Equals I_x(df/2, 1/2) at x = df / (df + t²), the regularised incomplete beta function.
    """
    if math.isnan(t) or not df > 0:
        return math.nan
    if math.isinf(t):
        return 0.0
    if df >= _NEARLY_NORMAL:  # Abramowitz & Stegun 26.7.8
        return math.erfc(abs(t) * (1 - 1 / (4 * df)) / math.sqrt(2 + t * t / df))
    return _incomplete_beta(df / 2, 0.5, df, t * t)


def t_quantile(level: float, df: float) -> float:
    """The t with ``level`` of the distribution between -t and t; z where ``df`` is infinite.

    Found by bisection of :func:`p_value`. NaN without a degree of freedom, since nothing can then
    be said.
    """
    z = quantile(level)
    if not df > 0:
        return math.nan
    low, high = z, 2 * z
    while p_value(high, df) > 1 - level:
        low, high = high, 2 * high
    while True:
        middle = (low + high) / 2
        if middle in (low, high):
            return middle
        if p_value(middle, df) > 1 - level:
            low = middle
        else:
            high = middle


def _incomplete_beta(a: float, b: float, up: float, down: float) -> float:
    """I_x(a, b) at x = up / (up + down), given so that neither x nor 1 - x loses its digits."""
    x, rest = up / (up + down), down / (up + down)
    if rest == 0:
        return 1.0
    if x == 0:
        return 0.0
    if x > (a + 1) / (a + b + 2):
        return 1 - _incomplete_beta(b, a, down, up)
    logarithm = (
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log(rest)
    )
    return math.exp(logarithm) / (a * _continued_fraction(a, b, x))


def _continued_fraction(a: float, b: float, x: float) -> float:
    """1 + d1/(1 + d2/(1 + ...)) of the incomplete beta function, by Lentz's method."""
    tiny = 1e-300
    value, numerator, denominator = 1.0, 1.0, 0.0
    for step in range(1, 10_000):
        m = step // 2
        if step % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        denominator = 1 / ((1 + term * denominator) or tiny)
        numerator = (1 + term / numerator) or tiny
        change = numerator * denominator
        value *= change
        if abs(change - 1) < 1e-15:
            break
    return value
