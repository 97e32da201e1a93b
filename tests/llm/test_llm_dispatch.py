"""Dispatch: order, look-ahead, retries, giving up, and what the journal keeps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meadowlark.dataset import read
from meadowlark.llm import (
    Asking,
    ChatReply,
    ChatRequest,
    Journal,
    Limits,
    Outcome,
    Policy,
    Price,
    Sampling,
    ScriptedModel,
)
from meadowlark.llm.errors import CallFailed, NotRecorded, TooManyFailures
from meadowlark.records import Record, Turn

QUICK = Policy(concurrency=5, look_ahead=64, backoff_s=0.0005)


def request(number: int, draw: int = 0) -> ChatRequest:
    return ChatRequest((Turn("user", f"q{number}"),), draw=draw, label=str(number))


def echo(asked: ChatRequest) -> str:
    return f"a{asked.turns[-1].content[1:]}"


class Gated:
    """A model whose request 0 is answered only when ``others`` more were."""

    name, endpoint = "gated", "test"
    price: Price | None = Price(0, 0)
    limits = Limits()

    def __init__(self, others: int) -> None:
        self.others, self.answered, self.most, self.now = others, 0, 0, 0

    async def reply(self, asked: ChatRequest) -> ChatReply:
        self.now += 1
        self.most = max(self.most, self.now)
        while asked.label == "0" and self.answered < self.others:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        self.answered += 1
        self.now -= 1
        return ChatReply(echo(asked))

    async def close(self) -> None:
        pass


def test_a_slow_request_delays_no_other_and_order_is_kept() -> None:
    model = Gated(others=15)
    policy = Policy(concurrency=4, look_ahead=16)
    with Asking(model, map(request, range(40)), policy=policy) as asking:
        texts = [outcome.reply.text for _, outcome in asking if outcome.reply]
    assert texts == [f"a{i}" for i in range(40)]
    assert model.most == 4


def test_look_ahead_is_bounded() -> None:
    drawn: list[int] = []

    def requests() -> Any:
        for i in range(1000):
            drawn.append(i)
            yield request(i)

    policy = Policy(concurrency=2, look_ahead=5)
    with Asking(ScriptedModel(echo), requests(), policy=policy) as asking:
        for consumed, _ in enumerate(asking, start=1):
            assert len(drawn) < consumed + 5
            if consumed == 50:
                break
    assert consumed == 50


def test_no_more_is_begun_than_the_consumer_finds_useful() -> None:
    model, wanted = ScriptedModel(echo), 7
    with Asking(model, map(request, range(1000)), useful=lambda: wanted) as asking:
        for _ in asking:
            wanted -= 1
            if wanted == 0:
                break
    assert len(model.asked) == 7


def test_retries_are_bounded_and_at_one_layer() -> None:
    def flaky(asked: ChatRequest) -> Exception:
        return CallFailed("HTTP 500", "no", retryable=asked.label != "1")

    model = ScriptedModel(flaky)
    policy = Policy(attempts=3, backoff_s=0.0005, stop_rate=1.0)
    with Asking(model, map(request, range(3)), policy=policy) as asking:
        outcomes = [outcome for _, outcome in asking]
    assert [o.attempts for o in outcomes] == [3, 1, 3]
    assert [o.reason for o in outcomes] == ["HTTP 500"] * 3
    assert len(model.asked) == 7
    assert (asking.counts.failed, asking.counts.retries) == (3, 4)


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    model = ScriptedModel([CallFailed("HTTP 429", "x", retryable=True, retry_after_s=3600.0), "no"])
    with Asking(model, [request(0)], policy=Policy(deadline_s=60)) as asking:
        (_, outcome), *_ = asking
    assert (outcome.reason, outcome.attempts) == ("HTTP 429", 1)


def test_the_deadline_ends_a_reply_that_never_comes() -> None:
    model = ScriptedModel(echo, delay_s=lambda _: 60.0)
    policy = Policy(attempts=1, deadline_s=0.02)
    with Asking(model, [request(0)], policy=policy) as asking:
        (_, outcome), *_ = asking
    assert outcome.reason == "timeout"


def test_asking_stops_when_most_requests_fail() -> None:
    model = ScriptedModel(
        lambda r: CallFailed("HTTP 400", "too long") if int(r.label) % 3 else "fine"
    )
    policy = Policy(concurrency=1, look_ahead=1, stop_rate=0.5, stop_window=12)
    with (
        Asking(model, map(request, range(500)), policy=policy) as asking,
        pytest.raises(TooManyFailures, match="failed, so asking stopped"),
    ):
        list(asking)
    assert len(model.asked) < 20


def test_a_refused_key_stops_at_once_and_says_nothing_about_the_request(tmp_path: Path) -> None:
    model = ScriptedModel(lambda _: CallFailed("HTTP 401", "set the key", endpoint_wide=True))
    with Journal(tmp_path / "j.sqlite") as journal:
        with (
            Asking(model, map(request, range(50)), journal=journal, policy=QUICK) as asking,
            pytest.raises(CallFailed, match="set the key"),
        ):
            list(asking)
        found = journal.find(request(0).key(model.endpoint, model.name))
    assert found is not None
    assert found.state == "planned"


def test_a_server_that_is_not_there_ends_the_run_after_one_requests_tries() -> None:
    model = ScriptedModel(lambda _: CallFailed("connection failed", "refused", retryable=True))
    policy = Policy(concurrency=1, attempts=3, backoff_s=0.0005)
    with (
        Asking(model, map(request, range(50)), policy=policy) as asking,
        pytest.raises(CallFailed, match="refused"),
    ):
        list(asking)
    tries = Counter(asked.label for asked in model.asked)
    assert max(tries.values()) == 3
    assert sum(tries.values()) < 150


def test_the_same_request_twice_is_one_call_and_another_draw_is_another() -> None:
    model = ScriptedModel(echo)
    requests = [request(1), request(1), request(1, draw=1)]
    with Asking(model, requests, policy=QUICK) as asking:
        assert [outcome.reply for _, outcome in asking] == [ChatReply("a1")] * 3
    assert [asked.draw for asked in model.asked] == [0, 1]


def test_leaving_early_keeps_what_is_in_flight(tmp_path: Path) -> None:
    model = ScriptedModel(echo, delay_s=lambda r: 0.05 if r.label == "3" else 0.0)
    with Journal(tmp_path / "j.sqlite") as journal:
        with Asking(model, map(request, range(1000)), journal=journal, policy=QUICK) as asking:
            for asked, _ in asking:
                if asked.label == "2":
                    break
        found = journal.find(request(3).key(model.endpoint, model.name))
    assert found is not None
    assert found.state == "done"
    assert len(model.asked) < 100


def test_an_interrupt_keeps_replies_and_the_next_run_asks_only_for_the_rest(tmp_path: Path) -> None:
    model = ScriptedModel(echo)
    with (
        contextlib.suppress(KeyboardInterrupt),
        Journal(tmp_path / "j.sqlite") as journal,
        Asking(model, map(request, range(30)), journal=journal, policy=QUICK) as asking,
    ):
        for asked, _ in asking:
            if asked.label == "9":
                raise KeyboardInterrupt
    first = {asked.label for asked in model.asked}
    with (
        Journal(tmp_path / "j.sqlite") as journal,
        Asking(model, map(request, range(30)), journal=journal, policy=QUICK) as asking,
    ):
        texts = [outcome.reply.text for _, outcome in asking if outcome.reply]
    assert texts == [f"a{i}" for i in range(30)]
    assert len(model.asked) == 30
    assert asking.counts.from_journal == len(first)


def test_what_is_not_recorded_is_neither_a_request_nor_a_failure(tmp_path: Path) -> None:
    model = ScriptedModel(lambda r: NotRecorded("end") if int(r.label) > 3 else "yes")
    path = tmp_path / "j.sqlite"
    with (
        Journal(path) as journal,
        Asking(model, map(request, range(60)), journal=journal, policy=QUICK) as asking,
    ):
        outcomes = [outcome for _, outcome in asking]
    assert sum(isinstance(o.error, NotRecorded) for o in outcomes) == 56
    assert (asking.counts.requests, asking.counts.failed) == (4, 0)
    assert str(asking.counts) == "4 requests"
    with Journal(path) as journal:
        assert journal.interrupted == 0  # nothing was in flight: no kill is reported


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with (
        Asking(ScriptedModel(["only one"]), map(request, range(5)), policy=QUICK) as asking,
        pytest.raises(IndexError, match="the script holds 1 replies"),
    ):
        list(asking)


def test_being_asked_too_fast_costs_no_attempt_and_loses_no_request() -> None:
    refused: Counter[str] = Counter()

    def busy(asked: ChatRequest) -> str | Exception:
        refused[asked.label] += 1
        if refused[asked.label] <= 7:
            return CallFailed("HTTP 429", "busy", retryable=True, overloaded=True)
        return echo(asked)

    policy = Policy(concurrency=4, attempts=2, backoff_s=0.0001, backoff_max_s=0.001)
    with Asking(ScriptedModel(busy), map(request, range(6)), policy=policy) as asking:
        outcomes = [outcome for _, outcome in asking]
    assert [o.reply and o.reply.text for o in outcomes] == [f"a{i}" for i in range(6)]
    assert {o.attempts for o in outcomes} == {8}


def test_nothing_is_sent_before_the_time_that_the_server_asked_for() -> None:
    sent: list[float] = []

    def once_busy(_: ChatRequest) -> str | Exception:
        sent.append(time.monotonic())
        first = len(sent) == 1
        failure = CallFailed(
            "HTTP 429", "busy", retryable=True, overloaded=True, retry_after_s=0.15
        )
        return failure if first else "fine"

    policy = Policy(concurrency=1, backoff_s=0.0001)
    with Asking(ScriptedModel(once_busy), map(request, range(5)), policy=policy) as asking:
        assert all(outcome.reply for _, outcome in asking)
    assert min(sent[1:]) - sent[0] >= 0.15


def test_requests_that_fail_at_once_do_not_outweigh_slow_ones_in_flight() -> None:
    """One request in five fails within a moment, the others take their time: 20 % is no reason."""

    def one_in_five(asked: ChatRequest) -> str | Exception:
        return CallFailed("HTTP 400", "no") if int(asked.label) % 5 == 0 else "fine"

    model = ScriptedModel(
        one_in_five, delay_s=lambda r: 0.0 if int(r.label) % 5 == 0 else 0.02 + 0.001
    )
    policy = Policy(concurrency=10, stop_rate=0.5, stop_window=10)
    with Asking(model, map(request, range(200)), policy=policy) as asking:
        failed = sum(outcome.error is not None for _, outcome in asking)
    assert failed == 40


def test_failures_are_noticed_while_the_first_request_still_waits() -> None:
    def all_but_the_first(asked: ChatRequest) -> str | Exception:
        return "fine" if asked.label == "0" else CallFailed("HTTP 400", "no")

    model = ScriptedModel(all_but_the_first, delay_s=lambda r: 5.0 if r.label == "0" else 0.0)
    policy = Policy(concurrency=4, stop_window=20, grace_s=0.01)
    with (
        Asking(model, map(request, range(10_000)), policy=policy) as asking,
        pytest.raises(TooManyFailures, match="The last one: no"),
    ):
        list(asking)
    assert len(model.asked) < 40


def test_requests_that_are_too_long_fail_alone() -> None:
    model = ScriptedModel(
        lambda r: (
            echo(r)
            if int(r.label) % 4 == 0
            else CallFailed("too long", "9 tokens > 8", request_only=True)
        )
    )
    with Asking(model, map(request, range(80)), policy=QUICK) as asking:
        reasons = Counter(outcome.reason for _, outcome in asking)
    assert reasons == {"too long": 60, "": 20}


def test_requests_are_drawn_only_while_the_consumer_waits() -> None:
    busy, drawn_while_busy = False, 0

    def requests() -> Any:
        nonlocal drawn_while_busy
        for i in range(400):
            drawn_while_busy += busy
            yield request(i)

    policy = Policy(concurrency=4, look_ahead=8)
    with Asking(ScriptedModel(echo), requests(), policy=policy) as asking:
        for _ in asking:
            busy = True
            time.sleep(0.0002)
            busy = False
    assert drawn_while_busy == 0


def test_an_iterator_that_has_more_after_its_end_is_asked_again() -> None:
    """As ``respond`` does: the last reply is no answer, so its request is made once more."""

    class Requests:
        def __init__(self) -> None:
            self.waiting = [request(0), request(1)]

        def __iter__(self) -> Any:
            return self

        def __next__(self) -> ChatRequest:
            if not self.waiting:
                raise StopIteration
            return self.waiting.pop(0)

    requests = Requests()
    with Asking(ScriptedModel(echo), requests, policy=QUICK) as asking:
        seen = []
        for asked, _ in asking:
            seen.append(asked.label)
            if asked.label == "1":
                requests.waiting.append(request(2))
    assert seen == ["0", "1", "2"]


def test_sigterm_keeps_what_is_in_flight_as_ctrl_c_does(tmp_path: Path) -> None:
    model = ScriptedModel(echo, delay_s=lambda r: 0.05 if r.label == "3" else 0.0)
    before = signal.getsignal(signal.SIGTERM)
    stopped = False
    with Journal(tmp_path / "j.sqlite") as journal:
        try:
            with Asking(model, map(request, range(1000)), journal=journal, policy=QUICK) as asking:
                for asked, _ in asking:
                    if asked.label == "2":
                        os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            stopped = True
        found = journal.find(request(3).key(model.endpoint, model.name))
    assert found is not None
    assert found.state == "done"
    assert stopped
    assert signal.getsignal(signal.SIGTERM) is before


# --------------------------------------------------------------------------- money

CENT_A_REPLY = Price(0.0, 10_000.0)


def costly(asked: ChatRequest) -> ChatReply:
    """One token, which costs a cent."""
    return ChatReply(echo(asked), "stop", 1, 1)


def priced(number: int) -> ChatRequest:
    return ChatRequest(request(number).turns, Sampling(max_tokens=1), label=str(number))


def run_of(
    path: Path, budget_usd: float | None, count: int = 40, **changes: Any
) -> tuple[ScriptedModel, list[Outcome], Asking]:
    model = ScriptedModel(costly, price=CENT_A_REPLY, **changes)
    policy = replace(QUICK, budget_usd=budget_usd)
    with (
        Journal(path) as journal,
        Asking(model, map(priced, range(count)), journal=journal, policy=policy) as asking,
    ):
        return model, [outcome for _, outcome in asking], asking


def test_a_budget_is_not_overspent_and_a_raised_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    model, outcomes, asking = run_of(path, 0.105)
    assert [o.reason for o in outcomes] == [""] * 10 + ["budget reached"] * 30
    assert asking.spent_usd == pytest.approx(0.10)
    assert (asking.counts.requests, asking.counts.unsent) == (10, 30)
    assert asking.warnings == ["the budget of 0.105 USD is reached; raise --budget to go on"]
    assert "0.1000 USD of 0.105 are spent" in str(outcomes[-1].error)
    model, outcomes, asking = run_of(path, 0.255)
    assert [o.reason for o in outcomes] == [""] * 25 + ["budget reached"] * 15
    assert len(model.asked) == 15  # the first ten are in the journal
    assert asking.spent_usd == pytest.approx(0.25)
    model, outcomes, asking = run_of(path, None)
    assert all(o.reply for o in outcomes)
    assert (len(model.asked), asking.spent_usd) == (15, pytest.approx(0.40))
    with Journal(path) as journal:
        assert journal.before.cost_usd == pytest.approx(0.40)
    model, outcomes, _ = run_of(path, 0.05)  # what is in the journal costs nothing any more
    assert all(o.from_journal for o in outcomes)
    assert not model.asked


def test_replies_dearer_than_expected_overshoot_by_no_more_than_those_in_flight(
    tmp_path: Path,
) -> None:
    def dear(asked: ChatRequest) -> ChatReply:
        return ChatReply(echo(asked), "stop", 1, 7)  # the request allowed one token

    model = ScriptedModel(dear, price=CENT_A_REPLY)
    policy = replace(QUICK, budget_usd=0.50, concurrency=4)
    with Asking(model, map(priced, range(100)), policy=policy) as asking:
        list(asking)
    assert 0.50 - 0.07 < asking.spent_usd <= 0.50 + 4 * 0.07


def test_a_budget_too_small_for_one_request_sends_none(tmp_path: Path) -> None:
    model, outcomes, _ = run_of(tmp_path / "j.sqlite", 0.009, count=3)
    assert [o.reason for o in outcomes] == ["budget reached"] * 3
    assert not model.asked


def test_the_cost_so_far_and_in_all_are_told() -> None:
    model = ScriptedModel(costly, price=CENT_A_REPLY)
    with Asking(model, map(priced, range(200)), policy=replace(QUICK, look_ahead=1)) as asking:
        notes = [asking.cost_note(done, 200) for done, _ in enumerate(asking, start=1)]
    assert notes[0] == ", 0.0100 USD, about 2.00 in all"
    assert notes[149] == ", 1.50 USD, about 2.00 in all"
    assert notes[199] == ", 2.00 USD"
    # Replies that were received ahead of those consumed are no part of what is projected.
    with Asking(model, map(priced, range(200)), policy=QUICK) as asking:
        notes = [asking.cost_note(done, 200) for done, _ in enumerate(asking, start=1)]
    assert {note.rpartition(", ")[2] for note in notes[:-1]} == {"about 2.00 in all"}
    with Asking(ScriptedModel(echo), map(request, range(3)), policy=QUICK) as asking:
        assert [asking.cost_note(1, 2) for _ in asking] == [""] * 3


def test_a_cost_that_is_unknown_or_estimated_is_said_to_be() -> None:
    for price, said in (
        (None, "what the calls cost is unknown: nobody gave a price for scripted"),
        (Price(1, 1), "3 replies came without a count of tokens; their cost is estimated"),
    ):
        model = ScriptedModel(echo, price=price)
        with Asking(model, map(request, range(3)), policy=QUICK) as asking:
            list(asking)
        assert asking.warnings[0].startswith(said)
        assert bool(asking.spent_usd) is (price is not None)


def test_failed_requests_are_listed_in_a_file_that_can_be_read_again(tmp_path: Path) -> None:
    turns = (Turn("system", "Be brief."), Turn("user", "Why?\n\n### Input:\nA rash."))
    asked = ChatRequest(turns, label="respond:1")
    model = ScriptedModel([CallFailed("HTTP 400", "no such thing")])
    with Asking(model, [asked], policy=QUICK) as asking:
        list(asking)
    assert asking.write_failed(tmp_path)
    (line,) = map(json.loads, (tmp_path / "failed.jsonl").read_text().splitlines())
    assert line["failed"] == {
        "label": "respond:1", "reason": "HTTP 400", "detail": "no such thing"
    }  # fmt: skip
    (record,), unusable = read(tmp_path / "failed.jsonl", Record)
    assert not unusable
    assert (record.instruction, record.input, record.tags) == ("Why?", "A rash.", {})
    assert record.history == (Turn("system", "Be brief."),)
    with Asking(ScriptedModel(echo), [asked], policy=QUICK) as asking:
        list(asking)
    assert not asking.write_failed(tmp_path)
    assert not (tmp_path / "failed.jsonl").exists()
