"""A judge's words: every reading on a table of forms, ratings, rubric decisions, preferences."""

import json
import math
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.errors import UserError
from meadowlark.evaluate.reading import (
    READINGS,
    first_preference,
    read_choice,
    read_met,
    read_rating,
)
from meadowlark.llm import TokenLogprob


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("A is clearer and safer. [[A]]", "first"),
        ("**Final verdict: [[B]]**", "second"),
        ("Both are fine.\n\n[[C]].", "tie"),
        ("[[ A ]]", "first"),
        ("One could say [[A]].\nYet the dose is wrong, so my verdict: [[B]]", "second"),
        ("[[A]]\n[[A]]", "first"),
        ("[[A]] or [[B]]", None),
        ("My verdict:\n[[A]]\n\n[[B]]", None),
        ('Use "[[A]]" if A is better, "[[B]]" if B is better, "[[C]]" for a tie.', None),
        ("Assistant A is better.", None),
        ("[A]", None),
        ("[[A>B]] [[D]]", None),
        ("", None),
    ],
)
def test_brackets_are_read_from_the_closing_statement(text: str, choice: str | None) -> None:
    assert read_choice(text) == choice


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Output (a)", "first"),
        ("  Output (b).\n", "second"),
        ('"**Output (b)**"', "second"),
        ("Tie", "tie"),
        ("It is a Tie, since both are right.", "tie"),
        ("Output (a) and Output (b) Tie", "tie"),
        ("They are Tied", "tie"),  # the published rule looks for the letters alone
        ("tie", None),
        ("Output (a) is better.", None),
        ("Output (a) Output (b)", None),
        ("output (a)", None),
        ("Output a", None),
        ("Neither", None),
        ("", None),
    ],
)
def test_a_choice_is_read_by_alpacares_published_rule(text: str, choice: str | None) -> None:
    assert read_choice(text, "alpacare") == choice


@given(st.text(alphabet=st.characters(exclude_characters="[]")), st.sampled_from("ABC"))
def test_only_brackets_decide_whatever_else_a_judge_writes(text: str, letter: str) -> None:
    assert read_choice(text) is None
    meant = {"A": "first", "B": "second", "C": "tie"}[letter]
    assert read_choice(f"{text}[[{letter}]]{text}") == meant


def test_an_unknown_reading_is_named_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"unknown reading 'bracket'\. Did you mean 'brackets'"):
        read_choice("x", "bracket")


FORMS = [
    # what a judge says, the published rule, the strict reading
    ("Output (a)", "first", "first"),
    ("Output (b)", "second", "second"),
    ("Output (a).", "first", "first"),
    ("**Output (b)**", "second", "second"),
    ('"Output (a)"', "first", "first"),
    ("  \n Output (b)!\n", "second", "second"),
    ("Tie", "tie", "tie"),
    ("Tie.", "tie", "tie"),
    ("'Tie'", "tie", "tie"),
    ("It is a Tie.", "tie", "tie"),
    ("They are Tied", "tie", "tie"),
    ("tie", None, "tie"),
    ("output (a)", None, "first"),
    ("Output (A)", None, "first"),
    ("Output b", None, "second"),
    ("(b)", None, "second"),
    ("a", None, "first"),
    ("My verdict: Output (a)", None, "first"),
    ("The better output is Output (b).", None, "second"),
    ("I would choose Output (b).", None, "second"),
    ("Output (a) is better.", None, "first"),
    ("Output (a) is clearly the better answer because it names the dose.", None, "first"),
    ("Output (b) is better than Output (a).", None, "second"),
    ("Output (a)\n\nIt explains when to see a doctor.", None, "first"),
    ("The first names no dose and the second does.\nTherefore, Output (b)", None, "second"),
    # a mention is no statement, and two statements are none
    ("Output (a) and Output (b)", None, None),
    ("Output (a) or Output (b)", None, None),
    ("Output (a)\nOutput (b)", None, None),
    ("Output (a) Output (b) Tie", "tie", None),
    ("Both", None, None),
    ("Both outputs are good.", None, None),
    ("Neither", None, None),
    ("Neither Output (a) nor Output (b)", None, None),
    ("Output (a) is wrong.", None, None),
    ("Output (a) is not better.", None, None),
    ("Output (a) is better because Output (b) is shorter", None, None),
    ("Output (a) is better than Output (a)", None, None),
    ("Output (a) is better.\nOutput (b) is better.", None, None),
    ("Output (a): names the dose. Output (b): does not.", None, None),
    ("Output (a):\nThis answer names the dose and then", None, None),
    ("This is not a Tie: Output (b) is better.", "tie", None),
    ("Ties in the frontal lobe were not mentioned", "tie", None),
    ("Output (c)", None, None),
    ("A", None, "first"),
    ("A longer answer is not a better one", None, None),
    ("I cannot judge medical advice.", None, None),
    ("", None, None),
    (" \n", None, None),
]


@pytest.mark.parametrize(("text", "published", "strict"), FORMS)
def test_a_table_of_forms_by_the_published_rule_and_by_ours(
    text: str, published: str | None, strict: str | None
) -> None:
    assert (read_choice(text, "alpacare"), read_choice(text, "strict")) == (published, strict)


@given(st.text(max_size=200), st.sampled_from(sorted(READINGS)))
def test_whatever_a_judge_writes_is_read_or_is_unreadable(text: str, reading: str) -> None:
    assert read_choice(text, reading) in ("first", "second", "tie", None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Good, but long. Rating: [[7]]", 7),
        ("[[3]] at first.\nOn reflection: [[8.5]]", 8.5),
        ("Rating: [[11]]", None),
        ("[[4]] or [[5]]", None),
        ("Rating: 7", None),
        ("Rating: [[seven]]", None),
        ("", None),
    ],
)
def test_a_rating_is_the_last_bracketed_number_within_the_scale(
    text: str, value: float | None
) -> None:
    assert read_rating(text, 1, 10) == value


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ('{"explanation": "it does", "criteria_met": true}', True),
        ('{"criteria_met": false}', False),
        ('```json\n{"explanation": "x {y}", "criteria_met": false}\n```', False),
        ('Here: {"criteria_met": true} as asked.', True),
        ('{"criteria_met": "true"}', None),
        ('{"criteria_met": 1}', None),
        ('{"criteria_met": null}', None),
        ('{"explanation": "it does", "criteria_m', None),
        ("true", None),
        ("[]", None),
        ("I cannot judge this.", None),
        ("", None),
    ],
)
def test_a_decision_is_true_or_false_and_anything_else_is_unread(
    text: str, met: bool | None
) -> None:
    assert read_met(text) is met


def test_alpacaevals_preferences_from_its_judges_log_probabilities(real_data: Path) -> None:
    folder = real_data / "judging" / "alpaca_eval2"
    instructions = {
        row["idx"]: row["instruction"]
        for row in map(json.loads, (folder / "instructions.jsonl").read_text().splitlines())
    }
    rows = [
        json.loads(line)
        for line in (folder / "judge_completions_compact.jsonl").read_text().splitlines()
    ]
    assert len(rows) == 4025
    read = 0
    for row in rows:
        if row["top_logprobs"] is None:
            continue
        top = tuple((token, logprob) for token, logprob in row["top_logprobs"])
        first = first_preference([TokenLogprob(*top[0], top)], "letter")
        seed = f"is_switched_outputs{instructions[row['idx']]}0"
        switched = random.Random(seed).choices([False, True])[0]
        if first is None:
            assert row["preference"] is None
            continue
        # 1 is all for the baseline, 2 all for the model, which is shown second unless switched.
        preference = 1 + first if switched else 2 - first
        assert math.isclose(preference, row["preference"], abs_tol=1e-6), row
        read += 1
    assert read > 4000


def test_a_preference_is_read_where_the_choice_is_named() -> None:
    def token(text: str, **top: float) -> TokenLogprob:
        chances = {text: 0.5, **{k.replace("_", " "): v for k, v in top.items()}}
        return TokenLogprob(
            text, math.log(chances[text]), tuple((t, math.log(p)) for t, p in chances.items())
        )

    said = [token("Output"), token(" ("), token("a", b=0.25, A=0.1), token(")")]
    assert first_preference(said, "strict") == pytest.approx(2 / 3)
    joined = [token("Output"), TokenLogprob(" (b", math.log(0.6), ((" (a", math.log(0.2)),))]
    assert first_preference(joined, "alpacare") == pytest.approx(0.25)
    article = [token("a"), token(" longer"), token(" answer")]
    assert first_preference(article, "strict") is None
    closing = [token("[["), token("B"), token("]]"), token(" [["), token("A", B=0.5), token("]]")]
    assert first_preference(closing, "brackets") == pytest.approx(0.5)
    assert first_preference([], "letter") is None
