"""What a run counts: work that an earlier run had done is no part of its rate."""

import pytest

from meadowlark import progress
from meadowlark.progress import Progress, duration, plural, usd


def test_what_was_done_before_is_counted_but_not_in_the_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("exam", 100) as shown:
        shown.advance(20)
        shown.skip(30)
        shown.advance(20)
        now[0] = 10.0
        assert shown.done == 70
        assert shown.per_second() == 4.0


@pytest.mark.parametrize(
    ("n", "words"),
    [(0, "0 votes"), (1, "1 vote"), (2, "2 votes"), (12345, "12,345 votes")],
)
def test_one_is_told_as_one(n: int, words: str) -> None:
    assert plural(n, "vote") == words
    assert plural(n, "reply was", "replies were") == words.replace("votes", "replies were").replace(
        "vote", "reply was"
    )


def test_a_log_has_a_line_every_ten_seconds_with_rate_and_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("clean", 3_000) as known, Progress("convert", unit="pairs") as unknown:
        for second in range(1, 26):
            now[0] = float(second)
            known.advance(40, f"step {second}")
        unknown.advance(5)
    assert capsys.readouterr().err.splitlines() == [
        "clean: 400/3,000 rows, 40 rows/s, 1 min 05 s left  step 10",
        "clean: 800/3,000 rows, 40 rows/s, 55 s left  step 20",
        "convert: 5 pairs, 0.20 pairs/s",
    ]


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.42, "0.4 s"), (9.9, "9.9 s"), (59.4, "59 s"), (59.7, "1 min 00 s"), (75, "1 min 15 s"),
     (3599.6, "1 h 00 min"), (4000, "1 h 06 min"), (360_000, "100 h 00 min")],
)  # fmt: skip
def test_a_duration_has_the_two_units_that_matter(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_small_sums_are_told_to_a_hundredth_of_a_cent() -> None:
    assert [usd(sum_) for sum_ in (12.5, 0.0042, 1234.567)] == ["12.50", "0.0042", "1,234.57"]
