"""Work shared by processes: the same in the same order, and nobody left behind however it ends."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from meadowlark.processes import in_order

SCRIPT = """
import itertools, os, signal, sys
from meadowlark.processes import in_order

def work(number):
    return number * number

if __name__ == "__main__":
    for number, made in in_order(work, itertools.count(), few=2, workers=2):
        assert made == number * number
        if number == 20:
            print("twenty", flush=True)
            os.killpg(0, signal.SIGINT) if sys.argv[1] == "ctrl-c" else os.kill(os.getpid(), 9)
"""


def square(number: int) -> int:
    if number == 77:
        raise ValueError("not that one")
    return number * number


@pytest.mark.parametrize(("workers", "few"), [(1, 8), (1, 0), (2, 8), (2, 0)])
def test_items_come_in_their_order_whoever_works_on_them(workers: int, few: int) -> None:
    made = list(in_order(square, iter(range(60)), few=few, workers=workers))
    assert made == [(n, n * n) for n in range(60)]


def test_an_error_comes_at_its_place_and_ends_the_work() -> None:
    squares = in_order(square, iter(range(200)), few=8, workers=2)
    assert [n for n, _ in itertools.islice(squares, 77)] == list(range(77))
    with pytest.raises(ValueError, match="not that one"):
        next(squares)


@pytest.mark.parametrize(("end", "code"), [("ctrl-c", -signal.SIGINT), ("kill", -signal.SIGKILL)])
def test_no_process_stays_or_complains_when_the_first_is_ended(
    end: str, code: int, tmp_path: Path
) -> None:
    """All of them hold the script's output, which ends when the last of them has."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), end],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        start_new_session=True,
    )
    assert done.returncode == code
    assert done.stdout == "twenty\n"
    assert done.stderr.count("Traceback") == (1 if end == "ctrl-c" else 0), done.stderr
