"""Names of the two papers for a reader who knows neither: introduced once, where first used."""

from __future__ import annotations

import pytest

from meadowlark.report.content import Details, Facts, Prose, Section, Table
from meadowlark.report.introductions import INTRODUCTIONS, introduced

ALPACARE, MEDINSTRUCT = (INTRODUCTIONS[name] for name in ("AlpaCare", "MedInstruct-test"))


def test_a_name_is_introduced_once_after_the_first_that_uses_it() -> None:
    table = Table("t", "As AlpaCare’s experts rated MedInstruct-test.", [], [])
    blocks = [
        Prose("No name here."),
        Details("more", [table, Facts([("rate", ["As the AlpaCare paper counts it."])])]),
        Prose("AlpaCare again, and MedInstruct-test."),
    ]
    (first, second) = introduced(
        [Section("a", "A", "", blocks), Section("b", "B", "AlpaCare.", [])]
    )
    plain, details, again = first.blocks
    assert plain.text == "No name here."
    assert details.blocks[0].caption == f"{table.caption} {ALPACARE} {MEDINSTRUCT}"
    assert details.blocks[1].pairs == [("rate", ["As the AlpaCare paper counts it."])]
    assert again.text == "AlpaCare again, and MedInstruct-test."
    assert second.lead == "AlpaCare."


@pytest.mark.parametrize(
    "words",
    [
        "AlpaCare-7b wins.",
        "runs/AlpaCare is a folder.",
        "Labels as in MedInstruct-test.jsonl.",
        "Med-AlpaCare",
        "my-MedInstruct-test",
    ],
)
def test_a_model_or_file_that_holds_a_name_is_no_mention(words: str) -> None:
    (section,) = introduced([Section("a", "A", words, [])])
    assert section.lead == words


def test_no_introduction_uses_a_name_that_is_not_introduced_by_then() -> None:
    for name, sentence in INTRODUCTIONS.items():
        assert sentence.startswith(name)
        assert sentence.endswith(".")
    (section,) = introduced([Section("a", "A", "On MedInstruct-test.", [])])
    # What introduces one name by another introduces that too.
    assert section.lead == f"On MedInstruct-test. {MEDINSTRUCT} {ALPACARE}"
