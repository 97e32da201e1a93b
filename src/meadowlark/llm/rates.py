"""How fast a server may be asked: requests in flight, and requests and tokens a minute.

Concurrency doubles until the server first says "too many"; then it is cut to three quarters and
grows by steady steps. Limits that are given, or read from headers, are kept by token buckets:
reserve before sending, settle after. All times are seconds of one clock, given by the caller.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

START = 16
"""Requests in flight at first, where more are allowed."""
CUT = 0.75
GROWTH_PER_S = 1 / 16
"""Growth after a cut, in parts of the concurrency that was cut: four seconds make up for it."""
BURST_S = 1.0
"""What a bucket holds at most, in seconds of its rate."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a server allows, as far as it is known beforehand: None is unknown."""

    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    concurrency: int | None = None

    def within(self, other: Limits) -> Limits:
        """The stricter of both in everything."""
        concurrency = _least(self.concurrency, other.concurrency)
        return Limits(
            _least(self.requests_per_minute, other.requests_per_minute),
            _least(self.tokens_per_minute, other.tokens_per_minute),
            None if concurrency is None else int(concurrency),
        )


def _least(a: float | None, b: float | None) -> float | None:
    return min((value for value in (a, b) if value is not None), default=None)


@dataclass(frozen=True, slots=True)
class Quota:
    """What a reply's headers say: how much a minute allows, and how much of it is left."""

    requests_per_minute: float | None = None
    requests_left: float | None = None
    tokens_per_minute: float | None = None
    tokens_left: float | None = None


class Bucket:
    """An amount that refills steadily, ``per_minute``, up to a second's worth.

    It may be overdrawn by one request, which the next ones wait for: so a request larger than the
    bucket still passes, and over time the rate is kept exactly. Without a rate it never empties.
    """

    def __init__(self, per_minute: float | None, now: float) -> None:
        self._given = per_minute
        self._per_second = 0.0
        self._level = 0.0
        self._filled_at = now
        self._set_rate(per_minute)
        self._level = self._most

    def _set_rate(self, per_minute: float | None) -> None:
        self._per_second = (per_minute or 0.0) / 60
        self._most = max(self._per_second * BURST_S, 1.0)

    def _fill(self, now: float) -> None:
        self._level = min(self._most, self._level + (now - self._filled_at) * self._per_second)
        self._filled_at = now

    def wait_s(self, now: float) -> float:
        """Seconds until something may be taken."""
        if not self._per_second:
            return 0.0
        self._fill(now)
        # A rounding error is nothing to wait for.
        return -self._level / self._per_second if self._level < -1e-9 else 0.0

    def take(self, amount: float) -> None:
        """Take an amount; a negative one gives back. Without a rate there is nothing to take."""
        if self._per_second:
            self._level = min(self._most, self._level - amount)

    def heard(self, per_minute: float | None, left: float | None, now: float) -> None:
        """Follow what the server says, where it is stricter than what was given."""
        if per_minute:
            rate = per_minute if self._given is None else min(per_minute, self._given)
            if rate / 60 != self._per_second:
                self._fill(now)
                self._set_rate(rate)
        if left is not None and self._per_second:
            self._level = min(self._level, left)


class Rates:
    """When the next request may be sent, and how many may be in flight (``allowed``).

    Nothing is sent before ``held_until``; ``cuts`` counts how often the server said "too many".
    """

    def __init__(
        self,
        most: int,
        limits: Limits,
        now: float,
        backoff_s: float = 1.0,
        backoff_max_s: float = 60.0,
    ) -> None:
        self.most = min(most, limits.concurrency or most)
        self.allowed = float(min(self.most, START))
        self.cuts = 0
        self._requests = Bucket(limits.requests_per_minute, now)
        self._tokens = Bucket(limits.tokens_per_minute, now)
        self._backoff_s, self._backoff_max_s = backoff_s, backoff_max_s
        self.held_until = self._cut_at = float("-inf")
        self._grown_at = now
        self._ceiling: float | None = None
        self._row = 0

    def wait_s(self, now: float) -> float:
        """Seconds until the next request may be sent, as far as rates go."""
        return max(self.held_until - now, self._requests.wait_s(now), self._tokens.wait_s(now), 0.0)

    def reserve(self, tokens: float) -> None:
        """Count a request that is sent now, with the tokens it is expected to take."""
        self._requests.take(1)
        self._tokens.take(tokens)

    def settle(self, reserved: float, taken: float) -> None:
        """Correct a reservation by the tokens that the request took in the end."""
        self._tokens.take(taken - reserved)

    def heard(self, quota: Quota, now: float) -> None:
        """Follow the limits that a reply's headers state."""
        self._requests.heard(quota.requests_per_minute, quota.requests_left, now)
        self._tokens.heard(quota.tokens_per_minute, quota.tokens_left, now)

    def answered(self, sent_at: float, now: float, in_flight: int) -> None:
        """A request was answered: more may be in flight, if all that is allowed was used."""
        if sent_at >= self._cut_at:
            self._row = 0
        if in_flight >= int(self.allowed):
            if self._ceiling is None:
                self.allowed += 1
            else:
                since = min(now - self._grown_at, 1.0)
                self.allowed += since * GROWTH_PER_S * max(self._ceiling, 8.0)
            self.allowed = min(self.allowed, float(self.most))
        self._grown_at = now

    def cut(self, sent_at: float, now: float, in_flight: int) -> bool:
        """Fewer may be in flight: a request sent at ``sent_at`` was too many, or found no room.

        False, and no cut, when it was sent before the last one: a burst is cut once.
        """
        if sent_at < self._cut_at:
            return False
        self._ceiling = max(1.0, min(self.allowed, float(in_flight)))
        self.allowed = max(1.0, CUT * self._ceiling)
        self._cut_at = self._grown_at = now
        self.cuts += 1
        self._row += 1
        return True

    def overloaded(
        self, sent_at: float, now: float, in_flight: int, retry_after_s: float | None = None
    ) -> None:
        """The server said "too many": cut, and send nothing for a while.

        That is ``retry_after_s``; where the server names no time, one that doubles with every cut
        in a row.
        """
        if not self.cut(sent_at, now, in_flight) and retry_after_s is None:
            return
        longest_s = min(self._backoff_max_s, self._backoff_s * 2.0 ** min(self._row - 1, 30))
        hold_s = longest_s * random.uniform(0.5, 1.0)
        if retry_after_s is not None:
            # What was asked for, and never at once: some servers ask for no time at all.
            hold_s = max(retry_after_s * random.uniform(1.0, 1.05), hold_s / 8)
        self.held_until = max(self.held_until, now + hold_s)
