"""Responses: what counts as an answer, what is rejected and why, order, lineage, the journal."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from meadowlark.dataset import read
from meadowlark.errors import UserError
from meadowlark.llm import ChatReply, ChatRequest, Policy, ScriptedModel
from meadowlark.llm.errors import CallFailed
from meadowlark.records import Record, to_json
from meadowlark.synth.prompts import text_of
from meadowlark.synth.replies import choices_of, closing_letter, is_refusal
from meadowlark.synth.respond import SAMPLING, respond
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


def answer(reply: object, *replies: object) -> ScriptedModel:
    """A teacher that gives each task the next of these replies, by how often it was asked."""
    said = (reply, *replies)
    asked: dict[str, int] = {}

    def teacher(request: ChatRequest) -> str | ChatReply | Exception:
        task = request.turns[-1].content
        asked[task] = asked.get(task, -1) + 1
        return said[asked[task]]  # type: ignore[return-value]

    return ScriptedModel(teacher)


REFUSAL = "I'm sorry, but I can't help with that."


def test_a_bad_answer_is_asked_for_again_and_the_order_stays(tmp_path: Path) -> None:
    """Also for the last rows, when all requests were already made."""
    data = write(tmp_path / "d.jsonl", [Record(f"Task {n}") for n in range(40)])
    model = answer(REFUSAL, "Fine.")
    run = respond(data, TEACHER, tmp_path / "out", policy=Policy(concurrency=7), model=model)
    rows, _ = read(tmp_path / "out", Record)
    assert [row.instruction for row in rows] == [f"Task {n}" for n in range(40)]
    assert {row.output for row in rows} == {"Fine."}
    assert run.manifest.results["asked_again"] == 40
    assert run.manifest.results["answered_when_asked_again"] == 40
    assert sorted(request.draw for request in model.asked) == [0] * 40 + [1] * 40
    # A try again is held up by nothing: it comes before rows that were not asked for yet.
    assert "again1" in " ".join(request.label for request in model.asked[:72])


def test_a_cut_answer_is_asked_for_with_twice_the_tokens(tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", [Record("Tell a story.")])
    cut = ChatReply("Once", "length")
    model = answer(cut, cut, ChatReply("Once upon a time. The end."))
    short = replace(SAMPLING, max_tokens=100)
    respond(data, TEACHER, tmp_path / "out", retries=2, sampling=short, model=model)
    assert [r.sampling.max_tokens for r in model.asked] == [100, 200, 400]
    assert read(tmp_path / "out", Record)[0][0].output == "Once upon a time. The end."


@pytest.mark.parametrize(
    ("replies", "retries", "temperature", "reason", "detail", "requests"),
    [
        ((REFUSAL, REFUSAL + "!"), 1, 1.0, "refused", REFUSAL + "!", 2),
        ((REFUSAL,), 0, 1.0, "refused", REFUSAL, 1),
        ((REFUSAL,), 3, 0.0, "refused", REFUSAL, 1),  # it would say the same again
        (("", "", ""), 2, 1.0, "empty", "", 3),
        ((REFUSAL, CallFailed("HTTP 400", "too long")), 1, 1.0, "refused", REFUSAL, 2),
        ((ChatReply("On", "length"),) * 2, 1, 0.0, "truncated", "On", 2),
    ],
)
def test_what_stays_bad_is_rejected_with_its_reason(
    tmp_path: Path, replies: tuple[object, ...], retries: int, temperature: float, reason: str,
    detail: str, requests: int,
) -> None:  # fmt: skip
    data = write(tmp_path / "d.jsonl", [Record("Task")])
    model, sampling = answer(*replies), replace(SAMPLING, temperature=temperature)
    respond(data, TEACHER, tmp_path / "out", retries=retries, sampling=sampling, model=model)
    (row,) = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert (row["reason"], row["detail"]) == (reason, detail)
    assert len(model.asked) == requests


def test_the_closing_answer_names_a_choice_that_is_offered(tmp_path: Path) -> None:
    tags = {"type": "multiple choice"}
    data = write(tmp_path / "d.jsonl", [Record("Choose.", CHOICES, tags=tags)])
    wrong = answer("It is E. The answer is (E).", "It is C. The answer is (C).")
    respond(data, TEACHER, tmp_path / "out", retries=0, model=wrong)
    (row,) = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert row["reason"] == "closing answer is no choice"
    again = answer("It is E. The answer is (E).", "It is C. The answer is (C).")
    respond(data, TEACHER, tmp_path / "again", model=again)
    assert read(tmp_path / "again", Record)[0][0].output.endswith("(C).")


def test_alpacares_faults_are_not_repeated(tmp_path: Path) -> None:
    """An input with DNA, RNA or NA in it reaches the teacher; no stop string cuts "13.2"."""
    inputs = ["A DNA and RNA sample.", "NA 138 mmol/L", "haemoglobin 13.2 g/dL", "BANANA allergy"]
    data = write(tmp_path / "d.jsonl", [Record("Interpret.", text) for text in inputs])
    model = ScriptedModel(lambda r: ChatReply(r.turns[-1].content.partition(INPUT_MARKER)[2]))
    respond(data, TEACHER, tmp_path / "out", model=model)
    assert [row.output for row in read(tmp_path / "out", Record)[0]] == inputs
    assert all(request.sampling.stop == () for request in model.asked)
    assert all(INPUT_MARKER in request.turns[-1].content for request in model.asked)


def test_a_large_set_is_read_and_written_in_batches(tmp_path: Path) -> None:
    """Rows of several batches and row groups keep their order among those that had an output."""
    records = [Record(f"Task {n}", output="Old." if n % 3 == 0 else "") for n in range(4500)]
    data = write(tmp_path / "d.jsonl", records)
    run = respond(
        data,
        TEACHER,
        tmp_path / "out",
        policy=Policy(concurrency=50),
        model=ScriptedModel(lambda r: "New."),
    )
    rows, _ = read(tmp_path / "out", Record)
    assert [row.instruction for row in rows] == [f"Task {n}" for n in range(4500)]
    assert [row.output for row in rows] == ["Old.", "New.", "New."] * 1500
    assert run.manifest.results["had_an_output_before"] == 1500
    file = pq.ParquetFile(tmp_path / "out" / "rows.parquet")
    assert file.num_row_groups == 3
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_blanks_are_no_answer_that_was_there_before(tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", [Record("Task", output=" \n")])
    run = respond(data, TEACHER, tmp_path / "out", model=ScriptedModel(lambda _: "New."))
    assert [row.output for row in read(tmp_path / "out", Record)[0]] == ["New."]
    assert "had_an_output_before" not in run.manifest.results


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
        ('Question: which? Choice A: "x" Choice B: "y"', True),
        ("Which?\n**A.** x\n**B.** y", True),
        ("Which?\nA - x\nB - y", True),
        ("Which one?\n(A) x\n(B) y", True),
        ("Which one? A. x B. y C. z", True),
        ("Hepatitis A and B are viral.", False),
        ("Vitamin A. Nothing else.", False),
    ],
)
def test_lettered_choices_are_seen(text: str, choices: bool) -> None:
    assert bool(choices_of(text)) is choices
