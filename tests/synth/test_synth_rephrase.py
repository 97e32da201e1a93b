"""Rephrasing: what is asked, what is kept, what is rejected and why; the shape is respond's."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from meadowlark.cli import run as command
from meadowlark.dataset import read
from meadowlark.errors import UserError
from meadowlark.llm import ChatReply, ChatRequest, ScriptedModel
from meadowlark.records import Record, to_json
from meadowlark.synth.prompts import text_of
from meadowlark.synth.rephrase import rephrase

TEACHER = "openai:m@http://test/v1"
CARD = Record(
    "Answer this medical question.",
    "Paracetamol: max daily dose adult",
    "4 g",
    source="medical_flashcards",
    licence="MIT",
    tags={"type": "open Q&A"},
)
CLOZE = Record(
    "Complete this medical statement: say what belongs in the gap.",
    "Warfarin is reversed by ____ (vitamin).",
    "vitamin K",
    tags={"type": "cloze"},
)
SECTION = Record(
    "Answer this medical question.",
    "What should be known about Asthma (adults): treatment?",
    "Inhaled salbutamol relieves an attack of asthma within 15 minutes.",
    tags={"topic": "Asthma (adults)", "heading": "Management > Treatment"},
)
GOOD = (
    "Question: What is the maximum daily dose of paracetamol for an adult?\n"
    "Answer: An adult takes at most 4 g of paracetamol daily."
)


def write(path: Path, *records: Record) -> Path:
    path.write_text("".join(json.dumps(to_json(record)) + "\n" for record in records))
    return path


def says(*replies: str | ChatReply) -> ScriptedModel:
    left = list(replies)
    return ScriptedModel(lambda request: left.pop(0))


def test_a_card_becomes_a_question_and_an_answer_in_sentences(tmp_path: Path) -> None:
    data = write(tmp_path / "cards.jsonl", CARD, CLOZE)
    model = says(
        GOOD,
        "**Question:** What reverses warfarin?\n**Answer:** Warfarin is reversed by vitamin K.",
    )
    run = rephrase(data, TEACHER, tmp_path / "out", style="flashcard", model=model)
    first, second = read(tmp_path / "out", Record)[0]
    assert first.instruction == CARD.instruction
    assert first.input == "What is the maximum daily dose of paracetamol for an adult?"
    assert first.output == "An adult takes at most 4 g of paracetamol daily."
    assert (first.parents, first.source, first.licence) == ((CARD.id,), CARD.source, "MIT")
    assert first.id == Record(first.instruction, first.input, first.output).id
    assert second.instruction == "Answer this medical question."
    assert (second.input, second.tags["type"]) == ("What reverses warfarin?", "open Q&A")
    assert second.parents == (CLOZE.id,)
    asked = model.asked[0]
    assert asked.turns[0].content == text_of("rephrase_flashcard.txt")
    assert asked.turns[1].content == "Front: Paracetamol: max daily dose adult\nBack: 4 g"
    assert run.manifest.rows == {"in": 2, "kept": 2, "rejected": {}}


def test_a_section_becomes_a_question_and_its_text_stays_the_answer(tmp_path: Path) -> None:
    data = write(tmp_path / "wiki.jsonl", SECTION, Record("No page.", output="Text."))
    model = says("Question: How is an attack of asthma treated?")
    rephrase(data, TEACHER, tmp_path / "out", style="heading", model=model)
    (row,) = read(tmp_path / "out", Record)[0]
    assert row.input == "How is an attack of asthma treated?"
    assert row.output == SECTION.output
    assert row.parents == (SECTION.id,)
    assert model.asked[0].turns[1].content == (
        f"Title: Asthma (adults)\nHeading: Management > Treatment\nParagraph:\n{SECTION.output}"
    )
    (refused,) = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert (refused["instruction"], refused["reason"]) == ("No page.", "no page title")
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    ("record", "reply", "reason", "detail"),
    [
        (CARD, GOOD.replace("4 g", "3 g"), "number lost", "4; Question: What"),
        (CARD, GOOD.replace("4 g", "4 mg"), "unit lost", "4 g; "),
        (CARD, GOOD.replace("takes", "never takes"), "negation invented", "; Question"),
        (CARD, GOOD.replace("of paracetamol", "of ibuprofen"), "term lost", "Paracetamol; "),
        (CARD, "It is 4 g.", "no question and answer", "It is 4 g."),
        (CARD, "Question: Paracetamol dose\nAnswer: It is 4 g.", "no question", "Question: Para"),
        (CARD, "Question: How much?\nAnswer: 4 g", "not a full sentence", "Question: How"),
        (CARD, "I'm sorry, but I can't help with that.", "refused", "I'm sorry"),
        (SECTION, "How is croup treated?", "term lost", "Asthma; How is croup"),
        (SECTION, "Which 2 drugs treat asthma?", "number invented", "2; "),
        (SECTION, "Asthma treatment", "no question", "Asthma treatment"),
        (SECTION, "How is asthma treated?\nInhaled?", "no question", "How is"),
        (SECTION, f"How is asthma{' really' * 60} treated?", "question too long", "How is"),
    ],
)  # fmt: skip
def test_what_is_of_no_use_is_asked_for_again_once_and_then_rejected(
    tmp_path: Path, record: Record, reply: str, reason: str, detail: str
) -> None:
    data = write(tmp_path / "d.jsonl", record)
    style = "heading" if record is SECTION else "flashcard"
    model = says(reply, reply)
    run = rephrase(data, TEACHER, tmp_path / "out", style=style, model=model)
    (row,) = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert row["reason"] == reason
    assert detail in row["detail"]
    assert row["output"] == record.output
    assert [request.draw for request in model.asked] == [0, 1]
    assert run.manifest.results["asked_again"] == 1


def test_the_second_try_may_be_good_and_nothing_is_asked_twice(tmp_path: Path) -> None:
    data = write(tmp_path / "d.jsonl", CARD)
    model = says(GOOD.replace("4 g", "5 g"), GOOD)
    run = rephrase(data, TEACHER, tmp_path / "out", style="flashcard", model=model)
    assert run.manifest.results["good_when_asked_again"] == 1
    recorded = f"recorded:{tmp_path / 'out' / 'journal.sqlite'}"
    again = rephrase(data, recorded, tmp_path / "again", style="flashcard")
    assert read(tmp_path / "again", Record) == read(tmp_path / "out", Record)
    assert again.manifest.results["good_when_asked_again"] == 1
    with pytest.raises(UserError, match="Did you mean 'heading'"):
        rephrase(data, TEACHER, tmp_path / "x", style="headings")


def test_the_verb_estimates_and_runs_from_a_recording(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write(tmp_path / "d.jsonl", CARD, Record("Front without a back"))
    rephrase(data, TEACHER, tmp_path / "live", style="flashcard", model=says(GOOD))
    words = ["rephrase", str(data), "--style", "flashcard", "--out", str(tmp_path / "out")]
    assert command([*words, "--teacher", "openai:m@http://localhost:1/v1", "--dry-run"]) == 0
    assert "dry run: 1 request to" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    assert command([*words, "--teacher", f"recorded:{tmp_path / 'live' / 'journal.sqlite'}"]) == 0
    out = capsys.readouterr().out
    assert "rephrase: 2 in, 1 kept, 1 rejected" in out
    assert "no back" in out


def test_the_request_is_the_same_for_a_row_wherever_it_stands(tmp_path: Path) -> None:
    """So that a journal made from a part of the cards answers for the whole."""
    asked: list[ChatRequest] = []

    def teacher(request: ChatRequest) -> str:
        asked.append(request)
        return GOOD

    for name, rows in (("a", (CARD, CLOZE)), ("b", (CLOZE, CARD))):
        data = write(tmp_path / f"{name}.jsonl", *rows)
        rephrase(
            data,
            TEACHER,
            tmp_path / name,
            style="flashcard",
            retries=0,
            model=ScriptedModel(teacher),
        )
    assert {r.turns for r in asked[:2]} == {r.turns for r in asked[2:]}
