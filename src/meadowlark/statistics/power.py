"""How many prompts a comparison needs, or can show, before anything is judged.

A difference in win rate and a share of ties come in, a number of prompts comes out, or the other
way round. Source: the normal approximation of the sign test with ties, which is Connor's (1987)
sample size for paired proportions.
"""

from __future__ import annotations

import math
from statistics import NormalDist

from meadowlark.statistics.intervals import quantile

_NORMAL = NormalDist()


def prompts_needed(
    win_rate: float, tie_share: float = 0.0, *, level: float = 0.95, power: float = 0.8
) -> int:
    """The prompts for a two-sided test against 1/2 to find a true ``win_rate`` with this ``power``.

    n = ((z_level √v + z_power √(v - δ²))/δ)², δ = win_rate - 1/2, v = (1 - tie_share)/4 the
    variance of a prompt's score 1, 1/2 or 0 where neither wins more. Ties make the scores vary
    less, so with the same win rate more ties need fewer prompts. It holds for independent prompts,
    one score each: a prompt judged in both orders counts once. A ValueError for a win rate of 1/2,
    or one that so many ties do not allow.
    """
    delta, variance = _planned(win_rate, tie_share)
    if delta == 0:
        raise ValueError("a win rate of 1/2 is no difference; no number of prompts shows it")
    z_level, z_power = quantile(level), _z_power(power)
    spread = z_level * math.sqrt(variance) + z_power * math.sqrt(max(0.0, variance - delta**2))
    return math.ceil((spread / delta) ** 2 - 1e-9)


def power_of(n: int, win_rate: float, tie_share: float = 0.0, *, level: float = 0.95) -> float:
    """The chance that ``n`` prompts show a true ``win_rate`` to differ from 1/2 at ``level``.

    Φ((δ√n - z √v)/√(v - δ²)), as in :func:`prompts_needed`; the wrong side is not counted.
    """
    if n < 0:
        raise ValueError(f"a number of prompts cannot be negative: {n}")
    delta, variance = _planned(win_rate, tie_share)
    reach = delta * math.sqrt(n) - quantile(level) * math.sqrt(variance)
    spread = math.sqrt(max(0.0, variance - delta**2))
    if spread == 0:
        return float(reach > 0)
    return _NORMAL.cdf(reach / spread)


def detectable_win_rate(
    n: int, tie_share: float = 0.0, *, level: float = 0.95, power: float = 0.8
) -> float:
    """The smallest win rate above 1/2 that ``n`` prompts show with this ``power``.

    The inverse of :func:`prompts_needed`; its mirror 1 - rate is as easily shown. NaN where even a
    model that never loses would not be found.
    """
    if n < 0:
        raise ValueError(f"a number of prompts cannot be negative: {n}")
    _planned(0.5, tie_share)
    _z_power(power)
    low, high = 0.5, 1 - tie_share / 2
    if power_of(n, high, tie_share, level=level) < power:
        return math.nan
    while (middle := (low + high) / 2) not in (low, high):
        if power_of(n, middle, tie_share, level=level) < power:
            low = middle
        else:
            high = middle
    return high


def _planned(win_rate: float, tie_share: float) -> tuple[float, float]:
    """|win_rate - 1/2| and the variance of a score where neither wins more."""
    if not 0 <= tie_share < 1:
        raise ValueError(f"a share of ties is from 0 to below 1, not {tie_share}")
    room = (1 - tie_share) / 2
    delta = abs(win_rate - 0.5)
    if delta > room + 1e-12:
        raise ValueError(
            f"with {tie_share} ties a win rate is between {0.5 - room} and {0.5 + room}, "
            f"not {win_rate}"
        )
    return min(delta, room), (1 - tie_share) / 4


def _z_power(power: float) -> float:
    if not 0 < power < 1:
        raise ValueError(f"a power is between 0 and 1 (such as 0.8), not {power}")
    return _NORMAL.inv_cdf(power)
