"""medAlpaca's exam protocol: its prompt, accepted form and tries, with its faults or without."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from meadowlark.cli import run as command_line
from meadowlark.dataset import read, read_manifest
from meadowlark.errors import UserError
from meadowlark.evaluate.medalpaca import (
    SAMPLING,
    TRIES,
    examine_by_protocol,
    is_accepted,
    protocol_turns,
    read_reply,
    stripped,
)
from meadowlark.llm.chat import ChatReply, Sampling
from meadowlark.llm.local import TransformersModel, open_local
from meadowlark.llm.prompter import open_prompter
from meadowlark.records import Answer, Question, Turn
from tiny_model import make_tiny_model

FIXTURES = Path(__file__).parents[1] / "tasks" / "usmle"
STEP_1 = f"usmle_step1={FIXTURES}"
QUESTION = Question("q", "t", "Which organ makes bile?", ("Liver", "Heart", "Lung"), "A")
GOLDEN = """\
Below is an instruction that describes a task, paired with an input that provides further \
context. Write a response that appropriately completes the request.

### Instruction:
Answer this multiple choice question.

### Input:
Which organ makes bile?
A: Liver
B: Heart
C: Lung

### Response:
The Answer to the question is:"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    return f"hf:{make_tiny_model(folder, 'medalpaca', context=1024)}"


def scripted(monkeypatch: pytest.MonkeyPatch, replies: dict[str, Sequence[str]]) -> list[int]:
    """Let every model say, to a question that holds a key, the next of its replies."""
    calls: list[int] = []

    def generate(
        self: TransformersModel, prompts: Sequence[Sequence[Turn]], sampling: Sampling
    ) -> list[ChatReply]:
        draw = (sampling.seed or 0) % TRIES
        calls.append(len(prompts))
        said = []
        for turns in prompts:
            (texts,) = [t for key, t in replies.items() if key in turns[0].content]
            said.append(ChatReply(texts[min(draw, len(texts) - 1)], tokens_in=9, tokens_out=3))
        return said

    monkeypatch.setattr(TransformersModel, "generate", generate)
    return calls


def scores(out: Path) -> dict[str, Any]:
    rows = json.loads((out / "scores.json").read_text())
    return {row["metric"]: row for row in rows}


def test_the_prompt_is_the_published_one_to_the_byte(model: str) -> None:
    prompter = open_prompter(model.removeprefix("hf:"), None)
    assert prompter.render(protocol_turns(QUESTION)).removeprefix("<s>") == GOLDEN


def test_the_sampling_is_the_published_one() -> None:
    expected = {"temperature": 0.4, "top_k": 50, "top_p": 0.9, "max_tokens": 128}
    assert SAMPLING.given() == expected
    assert TRIES == 5


@pytest.mark.parametrize(
    ("reply", "accepted"),
    [
        ("C: Lung", True), ("C. Lung", True), ("C Lung", True), ("A patient", True),
        ("C", False), ("C:x", False), ("c: Lung", False), ("The answer is C", False),
        ("(C) Lung", False), ("C: \n", False), ("CC: Lung", False), ("", False),
    ],
)  # fmt: skip
def test_the_accepted_form_is_the_published_pattern(reply: str, accepted: bool) -> None:
    assert is_accepted(reply) == accepted


def test_both_ends_lose_what_is_neither_letter_nor_digit() -> None:
    assert stripped(" **C: Lung**.\n") == "C: Lung"
    assert stripped("\u00c9C: Lung \u00e9") == "C: Lung"  # only ASCII letters stay
    assert stripped("...") == ""


@pytest.mark.parametrize(
    ("reply", "faithful", "fixed"),
    [("C: Lung", "C", "C"), ("C", "", "C"), ("A patient has bile.", "A", ""), ("Heart", "", "B"),
     ("The answer is (C).", "", "C"), ("Not A but C", "", "C"), ("Z: none", "Z", "")],
)  # fmt: skip
def test_the_faults_are_there_in_one_form_and_gone_in_the_other(
    reply: str, faithful: str, fixed: str
) -> None:
    assert read_reply(reply, QUESTION, "faithful") == faithful
    assert read_reply(reply, QUESTION, "fixed") == fixed


def test_a_question_is_asked_again_up_to_five_times_and_the_last_reply_stands(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = {
        "baker": ["hm", "B: Another workplace"],
        "antibodies": ["C"],  # never in the accepted form
        "bile": ["A patient makes bile"],
    }
    calls = scripted(monkeypatch, replies)
    out = tmp_path / "faithful"
    examine_by_protocol(model, [STEP_1], out, protocol="faithful")
    assert calls == [3, 2, 1, 1, 1]
    answers = {a.item: a for a in read(out, Answer)[0]}
    assert [(a.draw, a.extracted) for a in answers.values()] == [(1, "B"), (4, ""), (0, "A")]
    tried = json.loads((out / "tries.json").read_text())
    assert len(tried) == 8
    found = scores(out)
    assert found["accuracy"]["value"] == pytest.approx(2 / 3)  # five failures are wrong
    assert found["accuracy"]["n_unreadable"] == 1
    assert found["accuracy_by_first_character"]["value"] == 1  # as the notebook counted
    assert found["chance"]["value"] == pytest.approx((1 / 4 + 1 / 5 + 1 / 4) / 3)

    out = tmp_path / "fixed"
    examine_by_protocol(model, [STEP_1], out, protocol="fixed")
    found = scores(out)
    assert found["accuracy"]["value"] == pytest.approx(2 / 3)  # "C" is an answer, "A patient" none
    assert found["accuracy"]["n_unreadable"] == 1
    assert "accuracy_by_first_character" not in found
    needed = read_manifest(out).results["tasks"]["usmle_step1"]["tries_needed"]
    assert needed == {"1": 1, "2": 1, "none": 1}


def test_a_stopped_exam_goes_on_without_asking_again_and_a_greater_limit_too(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = {"baker": ["hm"], "antibodies": ["C: Plasma cell"], "bile": ["B: Spleen"]}
    calls = scripted(monkeypatch, replies)
    straight = tmp_path / "straight"
    examine_by_protocol(model, [STEP_1], straight, protocol="faithful")
    calls.clear()

    asked = TransformersModel.generate

    def stop_at_the_third(self: Any, prompts: Any, sampling: Sampling) -> list[ChatReply]:
        if (sampling.seed or 0) % TRIES == 2:
            raise KeyboardInterrupt
        return asked(self, prompts, sampling)

    out = tmp_path / "stopped"
    monkeypatch.setattr(TransformersModel, "generate", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        examine_by_protocol(model, [STEP_1], out, protocol="faithful")
    monkeypatch.setattr(TransformersModel, "generate", asked)
    assert calls == [3, 1]
    calls.clear()
    examine_by_protocol(model, [STEP_1], out, protocol="faithful")
    assert sum(calls) == 3  # tries 3, 4 and 5 of the one that gave none
    for name in ("answers.parquet", "tries.json", "scores.json"):
        assert (out / name).read_bytes() == (straight / name).read_bytes()

    out = tmp_path / "grown"
    examine_by_protocol(model, [STEP_1], out, protocol="faithful", limit=2)
    calls.clear()
    examine_by_protocol(model, [STEP_1], out, protocol="faithful", limit=3)
    assert sum(calls) == 1
    assert (out / "tries.json").read_bytes() == (straight / "tries.json").read_bytes()


def test_a_real_model_gives_the_same_replies_each_time_and_others_with_another_seed(
    model: str, tmp_path: Path
) -> None:
    def replies(name: str, seed: int) -> list[str]:
        examine_by_protocol(model, [STEP_1], tmp_path / name, protocol="faithful", seed=seed)
        return [row["text"] for row in json.loads((tmp_path / name / "tries.json").read_text())]

    first = replies("one", 0)
    assert replies("two", 0) == first
    assert replies("three", 1) != first
    assert len(set(first[:5])) > 1  # a further try is another draw


def test_the_verb_examines_by_the_protocol(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scripted(monkeypatch, {"baker": ["B: x y"], "antibodies": ["C. x y"], "bile": ["A x"]})
    arguments = ["exam", model, "--tasks", STEP_1, "--protocol", "medalpaca-faithful"]
    assert command_line([*arguments, "--out", str(tmp_path / "run")]) == 0
    shown = capsys.readouterr().out
    assert "accuracy_by_first_character" in shown
    assert "1.000" in shown


def test_show_prints_the_begun_prompt_of_the_protocol_and_asks_nothing(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = scripted(monkeypatch, {})
    arguments = ["exam", model, "--tasks", STEP_1, "--protocol", "medalpaca-fixed"]
    assert command_line([*arguments, "--show"]) == 0
    shown = capsys.readouterr().out
    assert "### Response:\nThe Answer to the question is:\nright: B\n" in shown
    assert "compared" not in shown
    assert calls == []
    assert command_line([*arguments, "--export-lm-eval", "lm"]) == 2
    assert "leave --export-lm-eval away" in capsys.readouterr().err


def test_a_remote_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="begins the model's answer"):
        examine_by_protocol(
            "openai:m@http://localhost:1", [STEP_1], tmp_path / "run", protocol="fixed"
        )


def test_a_begun_answer_is_continued_by_generation(model: str) -> None:
    opened = open_local(model.removeprefix("hf:"))
    turns = protocol_turns(QUESTION)
    (reply,) = opened.generate([turns], Sampling(max_tokens=2))
    assert reply.tokens_in == len(opened.prompter.encode([opened.prompter.render(turns)])[0])
    assert opened.prompter.render(turns) == opened.prompter.render(turns[:1]) + turns[1].content
