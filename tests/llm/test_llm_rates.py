"""How fast a server is asked: buckets, cuts, growth and holds, on a clock of the test's own."""

from __future__ import annotations

import heapq
import random

import pytest

from meadowlark.llm.rates import CUT, START, Bucket, Limits, Quota, Rates


def test_a_bucket_keeps_its_rate_exactly_over_time() -> None:
    bucket, now, sent = Bucket(600, 0.0), 0.0, 0
    while now < 60:
        wait_s = bucket.wait_s(now)
        if wait_s:
            now += wait_s
        else:
            bucket.take(1)
            sent += 1
    assert sent == pytest.approx(600 + 10, abs=2)  # a minute, and the second it held at first


def test_a_request_larger_than_the_bucket_passes_and_is_waited_for() -> None:
    bucket = Bucket(60_000, 0.0)  # a thousand a second, and as many held
    assert bucket.wait_s(0.0) == 0
    bucket.take(6_000)
    assert bucket.wait_s(0.0) == pytest.approx(5.0)
    bucket.take(-4_000)  # it took less than was expected
    assert bucket.wait_s(0.0) == pytest.approx(1.0)
    assert bucket.wait_s(1.0) == 0


def test_a_bucket_without_a_rate_never_empties() -> None:
    bucket = Bucket(None, 0.0)
    bucket.take(1e9)
    assert bucket.wait_s(0.0) == 0


def test_headers_make_a_limit_known_and_the_users_own_stays_the_stricter() -> None:
    rates = Rates(500, Limits(), 0.0)
    for _ in range(200):
        rates.reserve(1)
    assert rates.wait_s(0.0) == 0
    rates.heard(Quota(requests_per_minute=60, requests_left=0), 0.0)
    rates.reserve(1)
    assert rates.wait_s(0.0) == pytest.approx(1.0)
    strict = Rates(500, Limits(requests_per_minute=30), 0.0)
    strict.heard(Quota(requests_per_minute=6000, requests_left=5000), 0.0)
    strict.reserve(1)
    strict.reserve(1)
    assert strict.wait_s(0.0) == pytest.approx(2.0)


def test_tokens_hold_requests_back_until_they_are_settled() -> None:
    rates = Rates(500, Limits(tokens_per_minute=60_000), 0.0)
    rates.reserve(3_000)
    assert rates.wait_s(0.0) == pytest.approx(2.0)
    rates.settle(3_000, 500)
    assert rates.wait_s(0.0) == 0


def test_concurrency_doubles_every_round_trip_until_it_is_cut() -> None:
    rates, now = Rates(500, Limits(), 0.0), 0.0
    sizes = [int(rates.allowed)]
    for _ in range(6):
        now += 1.0
        for _ in range(sizes[-1]):
            rates.answered(now - 1, now, int(rates.allowed))  # each answer lets two more go
        sizes.append(int(rates.allowed))
    assert sizes == [16, 32, 64, 128, 256, 500, 500]
    rates.overloaded(now, now, 500)
    assert rates.allowed == 375


def test_what_is_not_used_does_not_grow() -> None:
    rates = Rates(500, Limits(), 0.0)
    for _ in range(100):
        rates.answered(0.0, 1.0, in_flight=3)
    assert rates.allowed == START


def test_a_burst_of_refusals_is_cut_once_and_the_next_one_again() -> None:
    rates = Rates(64, Limits(), 0.0, backoff_s=1.0)
    rates.allowed = 64.0
    for number in range(40):  # all were sent before the first of them was refused
        rates.overloaded(sent_at=1.0, now=2.0 + number / 1000, in_flight=64)
    assert (rates.allowed, rates.cuts) == (48.0, 1)
    first = rates.held_until
    assert 2.5 <= first <= 3.04
    rates.overloaded(sent_at=first, now=first + 0.1, in_flight=48)
    assert (rates.allowed, rates.cuts) == (36.0, 2)
    assert first + 1.1 <= rates.held_until <= first + 2.1  # twice as long: nothing was answered


def test_a_reply_that_did_not_come_cuts_and_holds_nothing() -> None:
    rates = Rates(64, Limits(), 0.0)
    assert rates.cut(sent_at=0.0, now=600.0, in_flight=16)
    assert not rates.cut(sent_at=1.0, now=601.0, in_flight=15)
    assert (rates.allowed, rates.wait_s(601.0)) == (12.0, 0.0)


def test_retry_after_holds_everything_and_the_longest_counts() -> None:
    rates = Rates(64, Limits(), 0.0)
    for wait_s in (1.0, 7.0, 2.0):
        rates.overloaded(sent_at=0.0, now=1.0, in_flight=16, retry_after_s=wait_s)
    assert 8.0 <= rates.held_until <= 8.4
    assert rates.wait_s(1.0) == rates.held_until - 1.0
    assert rates.wait_s(9.0) == 0


def test_a_server_that_asks_for_no_time_is_not_asked_at_once() -> None:
    rates = Rates(64, Limits(), 0.0, backoff_s=1.0)
    waits = []
    for number in range(8):  # refused again and again
        now = 10.0 * number
        rates.overloaded(sent_at=now, now=now, in_flight=4, retry_after_s=0.0)
        waits.append(rates.held_until - now)
    assert waits[0] >= 1 / 16
    assert waits[7] >= 3.5


def test_growth_after_a_cut_makes_up_for_it_in_four_seconds() -> None:
    rates = Rates(500, Limits(), 0.0)
    rates.allowed = 100.0
    rates.overloaded(0.0, 0.0, 100)
    assert rates.allowed == CUT * 100
    for tick in range(1, 401):
        rates.answered(tick / 100, tick / 100, int(rates.allowed))
    assert rates.allowed == pytest.approx(100, abs=1)


def test_limits_of_two_sources_are_the_stricter_ones() -> None:
    a, b = Limits(100, None, 5), Limits(50, 7000, None)
    assert a.within(b) == b.within(a) == Limits(50, 7000, 5)


def simulated(retry_after_s: float | None, seconds: float, headers: bool) -> tuple[float, float]:
    """A server that allows 50 a second (and stores one second's worth), asked for ``seconds``.

    Returns the share of what it allowed that was used, and refusals for each reply. Replies take
    200 ms, refusals 2 ms.
    """
    rates = Rates(200, Limits(), 0.0)
    stored, filled_at, replied, refused, now = 50.0, 0.0, 0, 0, 0.0
    events: list[tuple[float, bool, float]] = []  # when, whether answered, when sent
    while now < seconds:
        wait_s = rates.wait_s(now)
        if wait_s == 0 and len(events) < int(rates.allowed):
            rates.reserve(1)
            stored, filled_at = min(50.0, stored + (now - filled_at) * 50), now
            answered = stored >= 1
            stored -= answered
            late_s = random.uniform(0.19, 0.21) if answered else 0.002
            heapq.heappush(events, (now + late_s, answered, now))
            continue
        next_reply = events[0][0] if events else float("inf")
        if wait_s and now + wait_s < next_reply:
            now += wait_s
            continue
        now, answered, sent_at = heapq.heappop(events)
        if headers:
            rates.heard(Quota(3000, min(50.0, stored + (now - filled_at) * 50)), now)
        if answered:
            replied += 1
            rates.answered(sent_at, now, len(events) + 1)
        else:
            refused += 1
            rates.overloaded(sent_at, now, len(events) + 1, retry_after_s)
    return replied / (50 * seconds), refused / replied


@pytest.mark.parametrize("retry_after_s", [None, 0.0, 1.0])
def test_of_3000_a_minute_95_percent_are_used_by_refusals_alone(
    retry_after_s: float | None,
) -> None:
    random.seed(7)
    used, refused = simulated(retry_after_s, 300.0, headers=False)
    assert used >= 0.95
    assert refused < 0.02


def test_of_3000_a_minute_all_are_used_when_headers_tell_and_next_to_none_is_refused() -> None:
    random.seed(7)
    used, refused = simulated(1.0, 300.0, headers=True)
    assert used >= 0.99
    assert refused < 0.01
