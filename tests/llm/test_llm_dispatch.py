"""Dispatch: order, look-ahead, retries, giving up, and what the journal keeps."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from meadowlark.llm import (
    Asking,
    ChatReply,
    ChatRequest,
    Journal,
    Limits,
    Policy,
    Price,
    ScriptedModel,
    ask,
)
from meadowlark.llm.errors import CallFailed, NotRecorded, TooManyFailures
from meadowlark.records import Turn

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


def test_no_more_is_begun_than_the_consumer_finds_useful() -> None:
    model, wanted = ScriptedModel(echo), 7
    with Asking(model, map(request, range(1000)), useful=lambda: wanted) as asking:
        for _ in asking:
            wanted -= 1
            if wanted == 0:
                break
    assert len(model.asked) == 7


def test_ask_is_the_same_for_coroutines() -> None:
    async def gather() -> list[str]:
        pairs = ask(ScriptedModel(echo), map(request, range(9)), policy=QUICK)
        return [outcome.reply.text async for _, outcome in pairs if outcome.reply]

    assert asyncio.run(gather()) == [f"a{i}" for i in range(9)]


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


def test_what_is_not_recorded_is_neither_a_request_nor_a_failure() -> None:
    model = ScriptedModel(lambda r: NotRecorded("end") if int(r.label) > 3 else "yes")
    with Asking(model, map(request, range(60)), policy=QUICK) as asking:
        outcomes = [outcome for _, outcome in asking]
    assert sum(isinstance(o.error, NotRecorded) for o in outcomes) == 56
    assert (asking.counts.requests, asking.counts.failed) == (4, 0)
    assert str(asking.counts) == "4 requests"


def test_a_fault_of_our_own_is_not_hidden() -> None:
    with (
        Asking(ScriptedModel(["only one"]), map(request, range(5)), policy=QUICK) as asking,
        pytest.raises(IndexError, match="the script holds 1 replies"),
    ):
        list(asking)
