"""The prompts carry all that AlpaCare's do (PAPERS.md, section 1), in our own words."""

from __future__ import annotations

import json
import re

import pytest

from meadowlark.labels import TYPES, normalise_difficulty, normalise_type, normalise_view
from meadowlark.records import Record
from meadowlark.synth.parse import parse_tasks
from meadowlark.synth.prompts import (
    RESPOND_PROMPTS,
    generation_turns,
    requirements,
    response_turns,
    text_of,
)

SEED = Record(
    "Explain the result.",
    "Haemoglobin 13.2 g/dL; cost $5",
    tags={"type": "chat", "topic": "Anaemia", "view": "nurse", "difficulty": "2"},
)
REQUIREMENTS = {
    "medical domain only": (1, "medicine"),
    "many points of view": (2, "View"),
    "wide range of topics": (3, "wide range of topics"),
    "many task formats, every listed format represented": (4, "use every one of these types"),
    "difficulty 1-5": (5, "from 1 to 5"),
    "varied wording": (6, "Do not repeat a verb"),
    "a language model can do the task": (7, "A language model"),
    "instructions of one or two sentences": (8, "one or two sentences"),
    "<noinput> where no input is needed": (9, "<noinput>"),
    "real medical context of 50-200 words": (10, "50 and 200 words"),
    "varied input length": (11, "Vary the length of the inputs"),
    "multiple choice: full question and choices inside the input": (12, "all of its choices"),
    "USMLE-style questions over 50 words": (13, "more than 50 words"),
    "wording that fits the point of view": (14, "fit the speaker"),
    "a fixed field layout with ### before each task": (15, "###"),
}
"""AlpaCare's requirements as PAPERS.md lists them, where ours are, and words that carry each."""


@pytest.mark.parametrize("named", REQUIREMENTS)
def test_each_of_the_fifteen_requirements_is_carried(named: str) -> None:
    number, words = REQUIREMENTS[named]
    assert words in requirements()[number]


def test_there_are_fifteen_and_the_rubric_and_formats_are_whole() -> None:
    found = requirements()
    assert list(found) == list(range(1, 16))
    assert {number for number, _ in REQUIREMENTS.values()} == set(found)
    assert all(f"{level}: " in found[5] for level in range(1, 6))
    for words in ("plain search", "rewording", "emotional support", "several steps", "uncertainty"):
        assert words in found[5]
    assert all(name in found[4] for name in TYPES)
    fields = ("Type", "Topic", "View", "Difficulty", "Instruction", "Input")
    places = [found[15].index(field) for field in fields]
    assert places == sorted(places)
    assert "never their solutions" in text_of("generate_system.txt")


def test_our_own_examples_are_read_back_by_our_own_parser() -> None:
    """What a teacher is shown is what it imitates: both layouts round-trip."""
    shown = [SEED, Record("List three signs.", tags={**SEED.tags, "difficulty": "4"})]
    for layout in ("text", "json"):
        user = generation_turns(shown, 12, layout=layout)[1].content
        assert "List of 14 tasks. The first 2 are given; write tasks 3 to 14." in user
        tasks, unread = parse_tasks(user.partition("write tasks 3 to 14.")[2].strip())
        assert unread == []
        assert [(t.instruction, t.input) for t in tasks] == [
            (r.instruction, r.input) for r in shown
        ]
        assert [t.difficulty for t in tasks] == ["2", "4"]
        assert {t.view for t in tasks} == {"nurse"}


def test_json_changes_the_last_requirement_only() -> None:
    text, data = (
        generation_turns([SEED], 4, layout=layout)[1].content for layout in ("text", "json")
    )
    kept = [line for line in text.splitlines() if re.match(r"(1?[0-9])\. ", line)][:14]
    assert all(line in data for line in kept)
    assert "###" not in data
    examples = json.loads(data[data.index('{\n "tasks"') :])
    assert examples["tasks"][0]["input"] == SEED.input
    assert examples["tasks"][0]["difficulty"] == 2


def test_wanted_labels_stand_before_the_examples_and_change_nothing_else() -> None:
    plain = generation_turns([SEED], 2)[1].content
    wanted = [{"difficulty": "5", "view": "nurse", "topic": "oncology"}, {}]
    asked = generation_turns([SEED], 2, wanted)[1].content
    added = (
        "\nGive the new tasks these labels:\n"
        "2. Difficulty: 5; View: nurse; Topic: something in oncology\n3. as you like"
    )
    assert asked.replace(added, "") == plain
    assert asked.index(added) < asked.index("###\n1.")


def test_the_three_system_prompts_say_who_answers_and_how() -> None:
    said = {name: response_turns(SEED, name)[0].content for name in RESPOND_PROMPTS}
    assert said.keys() == {"data", "icliniq", "test"}
    assert len(set(said.values())) == 3
    for words in ("medical expert", "multiple choice", "calculation", "classification", "first"):
        assert words in said["data"]
    assert "exactly this form: The answer is (X)" in said["data"]
    assert "You are a doctor" in said["icliniq"]
    assert "description" in said["icliniq"]
    assert "medical expert" in said["test"]
    assert "The answer is" not in said["icliniq"] + said["test"]


def test_the_types_named_in_the_prompt_are_the_vocabulary() -> None:
    """A teacher that copies a label from the prompt needs no normalising."""
    assert all(normalise_type(name) == name for name in TYPES)
    assert normalise_view("nurse") == "nurse"
    assert normalise_difficulty("5") == "5"
