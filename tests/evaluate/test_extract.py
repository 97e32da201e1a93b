"""The extractor reads what a person read, keeps none apart from wrong, and says what it went by."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.evaluate.extract import extract

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
import extractor as benchmark  # noqa: E402

RESULTS = json.loads((ROOT / "benchmarks/results/extractor.json").read_text("utf-8"))
DRUGS = ("Aspirin", "Heparin", "Warfarin", "Vitamin K")
NO_LETTER = {"empty", "declined", "several choices", "no such choice", "no choice named"}


@pytest.mark.parametrize("reader", benchmark.READERS)
def test_the_committed_table_on_our_own_replies_is_what_the_code_gives(reader: str) -> None:
    found = benchmark.table(benchmark.ours(), benchmark.READERS[reader])
    assert found == RESULTS["adversarial"][reader]


@pytest.mark.parametrize("reader", benchmark.READERS)
def test_the_committed_table_on_real_replies_is_what_the_code_gives(
    reader: str, real_data: Path
) -> None:
    found = benchmark.table(benchmark.real(real_data), benchmark.READERS[reader])
    assert found == RESULTS["real"][reader]


def test_it_never_reads_another_letter_and_seldom_one_where_there_is_none() -> None:
    real, ours = (RESULTS[name]["extract"]["all"] for name in ("real", "adversarial"))
    assert sum(real.values()) >= 300
    assert sum(ours.values()) >= 80
    assert real["another letter"] == ours["another letter"] == ours["invented"] == 0
    assert real["invented"] <= 0.06 * (real["invented"] + real["rightly none"])
    assert real["right letter"] >= 0.89 * (real["right letter"] + real["missed"])


def test_only_a_lone_mention_invents_an_answer() -> None:
    wrong = {how for how, n in RESULTS["by_kind"]["real"].items() if n.get("differ")}
    assert wrong - NO_LETTER == {"the only choice mentioned"}


@pytest.mark.parametrize(
    ("reply", "letter", "how"),
    [
        ("b", "B", "letter alone"),
        ("It must be infused, so the answer is (B).", "B", "declared"),
        ("B. Heparin acts at once.", "B", "leading letter"),
        ("It acts at once.\n\nB", "B", "closing letter"),
        ("The answer is heparin.", "B", "the choice's words"),
        ("Start heparin tonight.", "B", "the only choice mentioned"),
        (" \n", "", "empty"),
        ("I cannot answer this.", "", "declined"),
        ("A or B", "", "several choices"),
        ("The answer is F.", "", "no such choice"),
        ("A patient like this needs surgery.", "", "no choice named"),
    ],
)
def test_it_says_what_a_letter_was_read_from_or_why_there_is_none(
    reply: str, letter: str, how: str
) -> None:
    assert extract(reply, DRUGS) == (letter, how)


PIECES = (
    "The answer is| A| B|(C)|not| or |, |\n|Heparin|vitamin K|: |.|\\boxed{|}|**|A:|<think>|"
    "</think>|Ans|option|\u0412|if|would be"
).split("|")


@given(st.lists(st.sampled_from(PIECES) | st.text(max_size=5), max_size=12).map("".join))
def test_any_reply_gives_a_letter_of_the_question_or_a_reason(reply: str) -> None:
    found = extract(reply, DRUGS)
    assert found.letter in ("", "A", "B", "C", "D")
    assert (found.letter == "") == (found.how in NO_LETTER)


@given(st.sampled_from("ABCD"), st.sampled_from(["{}", "({})", "{}.", "Answer: {}", "**{}**"]))
def test_a_letter_said_in_any_plain_form_is_that_letter(letter: str, form: str) -> None:
    assert extract(form.format(letter), DRUGS).letter == letter


@pytest.mark.parametrize("unit", [" ", "\n", "answer ", "A ", "(", "Ans.", "option A, ", "if B "])
def test_a_very_long_reply_is_read_in_no_time(unit: str) -> None:
    started = time.perf_counter()
    extract(unit * 8_000 + "answer", DRUGS)
    assert time.perf_counter() - started < 5


def test_the_table_in_the_documents_is_the_committed_one() -> None:
    text = (ROOT / "docs" / "extraction.md").read_text("utf-8")
    for name in ("real", "adversarial"):
        for reader, found in RESULTS[name].items():
            shown = "`extract`" if reader == "extract" else reader
            cells = [shown, *(str(found["all"][outcome]) for outcome in benchmark.OUTCOMES)]
            assert f"| {' | '.join(cells)} |" in text
    mentioned = RESULTS["by_kind"]["real"]["the only choice mentioned"]
    assert mentioned["differ"] == 6
    assert f"{mentioned['agree']} of {sum(mentioned.values())} such readings" in text
