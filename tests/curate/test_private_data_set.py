"""The labelled sentences are the ones that were written before the patterns."""

import hashlib
import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "private_data"
FROZEN = {
    "identifiers.jsonl": "6ddc289c3d1b752b4f6ab10e1e0f2e6c68be66ec9c5251d9881380f8ace27e6e",
    "lookalikes.jsonl": "13490dce111bd9c3b46bbee6e6f7cab666c5210fc654ba377fc9c732adb38515",
}


ELSEWHERE = {
    "elsewhere.txt": "1f2335acb9bc5a0e3c2ca6729718b0f2cbfd7f4a6e41c3105f795760dd891e9c",
    "elsewhere_lookalikes.txt": "c5cac467ce7b6b402a1c0c7e65d665a7302ed714ed6078c4a1b4cde3548ece0d",
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_the_second_set_is_the_one_that_was_frozen(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == ELSEWHERE[name]


@pytest.mark.parametrize("name", FROZEN)
def test_the_set_is_the_one_that_was_frozen(name: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == FROZEN[name]


@pytest.mark.parametrize("name", FROZEN)
def test_it_has_three_hundred_sentences_and_no_two_are_the_same(name: str) -> None:
    rows = [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]
    assert len({row["text"] for row in rows}) == len(rows) >= 300
    for row in rows:
        spans = row.get("spans", [])
        assert bool(spans) == (name == "identifiers.jsonl")
        assert all(0 <= s["start"] < s["end"] <= len(row["text"]) for s in spans)
