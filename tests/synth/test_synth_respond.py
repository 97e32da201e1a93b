"""Responses: what counts as an answer, what is rejected and why, order, lineage, the journal."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from meadowlark.dataset import read
from meadowlark.errors import UserError
from meadowlark.llm import ChatReply, ChatRequest, ScriptedModel
from meadowlark.llm.errors import CallFailed
from meadowlark.records import Record, to_json
from meadowlark.synth.prompts import text_of
from meadowlark.synth.replies import choices_of, closing_letter, is_refusal
from meadowlark.synth.respond import respond
from meadowlark.templates import INPUT_MARKER

TEACHER = "openai:m@http://test/v1"
CHOICES = "Which vitamin prevents scurvy?\nA) Vitamin A\nB) Vitamin B12\nC) Vitamin C"


def write(path: Path, records: list[Record]) -> Path:
    path.write_text("".join(json.dumps(to_json(record)) + "\n" for record in records))
    return path


def test_each_task_is_answered_kept_or_rejected_with_its_reason(tmp_path: Path) -> None:
    tags = {"type": "multiple choice"}
    records = [
        Record("What is DNA?", "A sample of DNA and RNA."),
        Record("Already answered.", output="Yes."),
        Record("Refuse me."),
        Record("Cut me."),
        Record("Say nothing."),
        Record("Fail me."),
        Record("Choose.", CHOICES, tags=tags),
        Record("Choose again.", CHOICES, tags=tags),
        Record("Name the format without choices.", tags=tags),
        Record("Filter me."),
        Record("Last."),
    ]

    def teacher(request: ChatRequest) -> str | ChatReply | Exception:
        task = request.turns[-1].content.partition(INPUT_MARKER)[0]
        return {
            "Refuse me.": "I'm sorry, but I can't assist with that request.",
            "Cut me.": ChatReply("Once upon a", "length", 10, 600),
            "Say nothing.": " \n",
            "Fail me.": CallFailed("HTTP 400", "this prompt is too long"),
            "Choose.": ChatReply("It is vitamin C.\n\nThe answer is (C).", "stop", 10, 5),
            "Choose again.": "C",
            "Filter me.": ChatReply("", "refused"),
        }.get(task, f" About {task}\n")

    model = ScriptedModel(teacher)
    data = write(tmp_path / "d.jsonl", records)
    run = respond(data, TEACHER, tmp_path / "out", retries=0, model=model)
    rows, _ = read(tmp_path / "out", Record)
    assert [row.instruction for row in rows] == [
        "What is DNA?",
        "Already answered.",
        "Choose.",
        "Name the format without choices.",
        "Last.",
    ]
    assert rows[0].output == "About What is DNA?"
    assert rows[0].parents == (records[0].id,)
    assert rows[0].id == Record("What is DNA?", "A sample of DNA and RNA.", rows[0].output).id
    assert rows[1] == records[1]
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [(r["instruction"], r["reason"]) for r in rejected] == [
        ("Refuse me.", "refused"),
        ("Cut me.", "truncated"),
        ("Say nothing.", "empty"),
        ("Fail me.", "failed: HTTP 400"),
        ("Choose again.", "no closing answer"),
        ("Filter me.", "refused"),
    ]
    assert run.manifest.rows["in"] == len(records)
    assert run.manifest.tokens == {"in": 20, "out": 605}
    assert run.manifest.cost_usd == 0.0
    assert "Fail me." in (tmp_path / "out" / "failed.jsonl").read_text()
    asked = {request.label: request for request in model.asked}
    first = asked[f"respond:{records[0].id}"]
    assert first.turns[0].content == text_of("respond_data.txt")
    assert first.turns[1].content == "What is DNA?\n\n### Input:\nA sample of DNA and RNA."
    assert first.sampling.max_tokens == 600


def test_a_raised_limit_asks_only_for_the_new_rows(tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", [Record(f"Task {n}") for n in range(30)])
    for limit, new in ((10, 10), (25, 15), (None, 5)):
        model = ScriptedModel(lambda request: request.turns[-1].content.upper())
        respond(data, TEACHER, tmp_path / "out", limit=limit, model=model)
        assert len(model.asked) == new
    rows, _ = read(tmp_path / "out", Record)
    assert [row.output for row in rows] == [f"TASK {n}" for n in range(30)]


def test_a_recording_that_lacks_some_rows_answers_the_others(tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", [Record(f"Task {n}") for n in range(6)])
    respond(data, TEACHER, tmp_path / "live", limit=4, model=ScriptedModel(lambda r: "Fine."))
    recorded = f"recorded:{tmp_path / 'live' / 'journal.sqlite'}"
    run = respond(data, recorded, tmp_path / "again")
    assert run.manifest.rows == {"in": 6, "kept": 4, "rejected": {"failed: not recorded": 2}}
    assert run.manifest.warnings == ["the recording holds no reply to 2 tasks"]
    with pytest.raises(UserError, match="answers none of the 6"):
        respond(data, recorded, tmp_path / "other", prompt="icliniq")


def test_an_unknown_prompt_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Did you mean 'icliniq'"):
        respond(tmp_path / "none", TEACHER, tmp_path / "out", prompt="iclinic")


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I can't assist with that request.",
        "I’m sorry, but I cannot provide medical advice.",
        "Sorry, I can't help with that.",
        "I apologize, but I am unable to answer this question.",
        "As an AI language model, I cannot diagnose conditions.",
        "I cannot fulfill this request.",
        "Unfortunately, I'm not able to help with that.",
        "I won't generate that content.",
        "I'm unable to comply.",
    ],
)
def test_refusals_are_recognised(text: str) -> None:
    assert is_refusal(ChatReply(text))


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry to hear that you have been feeling unwell. Rest and fluids help.",
        "I cannot eat gluten, the patient said, and the doctor wrote it down.",
        "Unfortunately, the tumour has spread to the liver.",
        "Sorry for the wait. Your result is normal.",
        "I can help you read this result.",
        "Aspirin cannot be given to children with a viral illness.",
        "I can't give you a diagnosis by message, but here is what to do. "
        + "Call the clinic. " * 40,
    ],
)
def test_answers_are_no_refusals(text: str) -> None:
    assert not is_refusal(ChatReply(text))


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("So it is C.\n\nThe answer is (C).", "C"),
        ("The answer is (b)", "B"),
        ("**The answer is (D).**", "D"),
        ("The answer is (C). But it may be D.", ""),
        ("The answer is C.", ""),
        ("The correct answer is (C).", ""),
        ("", ""),
    ],
)
def test_the_closing_form_stands_at_the_end(text: str, letter: str) -> None:
    assert closing_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        (CHOICES, True),
        ("Which one?\n(A) x\n(B) y", True),
        ("Which one? A. x B. y C. z", True),
        ("Hepatitis A and B are viral.", False),
        ("Vitamin A. Nothing else.", False),
    ],
)
def test_lettered_choices_are_seen(text: str, choices: bool) -> None:
    assert bool(choices_of(text)) is choices
