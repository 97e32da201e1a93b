"""What a run counts: work that an earlier run had done is no part of its rate."""

import pytest

from meadowlark import progress
from meadowlark.progress import Progress, plural


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
