"""What is expected of a request, and the estimate of a run before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from meadowlark.llm import (
    Asking,
    ChatReply,
    ChatRequest,
    Journal,
    Limits,
    Price,
    Sampling,
    ScriptedModel,
    estimate,
)
from meadowlark.llm.journal import Totals
from meadowlark.llm.spending import Meter
from meadowlark.records import Turn

PRICE = Price(1.0, 10.0)


def request(number: int, characters: int = 400, max_tokens: int | None = 600) -> ChatRequest:
    text = f"{number:04}".ljust(characters, "x")
    return ChatRequest((Turn("user", text),), Sampling(max_tokens=max_tokens), label=str(number))


def test_the_first_request_is_expected_to_be_as_long_as_it_may() -> None:
    meter = Meter(PRICE)
    assert meter.expect(request(0)) == (100, 600, pytest.approx(0.0061))
    assert meter.expect(request(0, max_tokens=None)).tokens_out == 4096


def test_later_ones_are_expected_to_be_like_those_before() -> None:
    meter = Meter(PRICE)
    for number in range(4):
        meter.cost_of(request(number), ChatReply("", "stop", 200, 50))
    assert meter.expect(request(9, characters=800)) == (400, 50, pytest.approx(0.0009))
    assert meter.expect(request(9, max_tokens=20)).tokens_out == 20
    assert meter.spent_usd == pytest.approx(4 * 0.0007)


def test_what_earlier_runs_paid_and_learned_counts() -> None:
    meter = Meter(PRICE, 1.0, Totals(replies=15, counted=10, tokens_out=700, cost_usd=0.9988))
    assert meter.expect(request(0)).tokens_out == 70
    assert meter.affords(meter.expect(request(0)))
    meter.sent(meter.expect(request(0)))
    assert not meter.affords(meter.expect(request(1)))
    meter.ended(meter.expect(request(0)))
    assert meter.affords(meter.expect(request(1)))


def test_a_reply_without_a_count_is_not_free() -> None:
    meter = Meter(PRICE)
    assert meter.cost_of(request(0), ChatReply("y" * 40)) == pytest.approx(0.0001 + 0.0001)
    assert meter.uncounted == 1


def test_replies_without_a_count_do_not_make_later_ones_look_shorter(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    model = ScriptedModel(lambda _: ChatReply("y" * 400), price=PRICE)
    with Journal(path) as journal, Asking(model, map(request, range(5)), journal=journal) as asking:
        assert all(outcome.reply for _, outcome in asking)
    with Journal(path) as journal:
        assert (journal.before.replies, journal.before.counted) == (5, 0)
        assert Meter(PRICE, 1.0, journal.before).expect(request(9)).tokens_out == 600
    found = estimate(model, map(request, range(9)), path, Limits())
    assert (found.answered, found.requests, found.likely_usd) == (5, 4, None)


def answered(path: Path, count: int) -> None:
    model = ScriptedModel(lambda _: ChatReply("a", "stop", 100, 30), price=PRICE)
    with Journal(path) as journal, Asking(model, map(request, range(count)), journal=journal) as a:
        assert all(outcome.reply for _, outcome in a)


def test_an_estimate_before_anything_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    model = ScriptedModel([], price=PRICE)
    found = estimate(model, map(request, range(1000)), path, Limits(concurrency=10))
    assert (found.requests, found.answered, found.spent_usd) == (1000, 0, 0.0)
    assert (found.tokens_in, found.most_tokens_out) == (100_000, 600_000)
    assert found.most_usd == pytest.approx(0.1 + 6.0)
    assert found.likely_usd is None
    assert found.seconds == pytest.approx(1000 * (1 + 600 / 50) / 10)
    assert not path.exists()
    assert not model.asked


def test_an_estimate_knows_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    answered(path, 40)
    before = path.read_bytes()
    model = ScriptedModel([], price=PRICE)
    found = estimate(model, map(request, range(100)), path, Limits(concurrency=10))
    assert (found.requests, found.answered) == (60, 40)
    assert found.likely_tokens_out == 60 * 30
    assert found.likely_usd == pytest.approx((60 * 100 * 1 + 60 * 30 * 10) / 1e6)
    assert found.most_usd == pytest.approx((60 * 100 * 1 + 60 * 600 * 10) / 1e6)
    assert found.spent_usd == pytest.approx(40 * (100 + 300) / 1e6)
    assert path.read_bytes() == before


def test_limits_decide_the_time_where_they_are_tighter(tmp_path: Path) -> None:
    model = ScriptedModel([], price=PRICE)
    for limits, seconds in (
        (Limits(requests_per_minute=10, concurrency=500), 6000.0),
        (Limits(tokens_per_minute=7000, concurrency=500), 6000.0),
    ):
        found = estimate(model, map(request, range(1000)), tmp_path / "j", limits)
        assert found.seconds == pytest.approx(seconds)


def test_a_reply_of_which_only_one_count_is_known_is_estimated_in_the_other() -> None:
    meter = Meter(PRICE)
    assert meter.cost_of(request(0), ChatReply("y" * 40, "stop", 100, 0)) == pytest.approx(0.0002)
    assert meter.cost_of(request(0), ChatReply("y" * 40, "stop", 0, 20)) == pytest.approx(0.0003)
    assert meter.uncounted == 2
    assert meter.cost_of(request(0), ChatReply("", "stop", 100, 0)) == pytest.approx(0.0001)
    assert meter.uncounted == 2


def test_the_same_request_twice_is_estimated_and_counted_once(tmp_path: Path) -> None:
    asked = [request(0), request(1), request(0), request(0)]
    model = ScriptedModel(lambda _: ChatReply("a", "stop", 100, 50))
    model.price = PRICE
    path = tmp_path / "journal.sqlite"
    assert estimate(model, asked, path, Limits()).requests == 2
    for journal_holds in (0, 2):
        with Journal(path) as journal, Asking(model, asked, journal=journal) as asking:
            outcomes = [outcome for _, outcome in asking]
            spent = asking.spent_usd
        assert [outcome.reply.text for outcome in outcomes if outcome.reply] == ["a"] * 4
        assert (asking.counts.requests, asking.counts.repeated) == (2, 2)
        assert asking.counts.from_journal == journal_holds
        assert asking.counts.tokens() == {"in": 200, "out": 100}
        assert asking.counts.cost_usd == pytest.approx(spent) == pytest.approx(2 * 0.0006)
