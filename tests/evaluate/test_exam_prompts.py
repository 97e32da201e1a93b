"""The prompts of exams as a model reads them: golden texts of ours, hashes where text is not."""

import hashlib
from pathlib import Path

import pytest

from meadowlark.errors import UserError
from meadowlark.evaluate.exam import ExamOptions, choose_files, read_exam, show_exam
from meadowlark.evaluate.exam_prompts import Asking, asking_of, put, put_all
from meadowlark.records import Question
from meadowlark.tasks import TASKS
from meadowlark.tasks.task import Form
from meadowlark.templates import TEMPLATES
from tiny_model import make_tiny_model

BILE = Question("q1", "own", "Which organ makes bile?", ("Heart", "Liver", "Lung"), "B", "organs")
AIR = Question("w1", "own", "Which organ takes up air?", ("Skin", "Lung"), "B", "organs")
CHAT_WITH_AN_EXAMPLE = """\
<s>Below is an instruction that describes a task, paired with an input that provides further \
context. Write a response that appropriately completes the request.

### Instruction:
Answer this multiple choice question.

### Input:
Which organ takes up air?
A: Skin
B: Lung

### Response:B</s>

### Instruction:
Answer this multiple choice question.

### Input:
Which organ makes bile?
A: Heart
B: Liver
C: Lung

### Response:"""
MMLU_WITH_AN_EXAMPLE = """\
The following are multiple choice questions (with answers) about clinical knowledge.

Which organ takes up air?
A. Skin
B. Lung
Answer: B

Which organ makes bile?
A. Heart
B. Liver
C. Lung
Answer:"""
ABSTRACT = Question(
    "p1",
    "pubmedqa",
    "Abstract: Bile was measured.\nIt was green.\nQuestion: Is bile green?",
    ("yes", "no", "maybe"),
    "A",
)
PUBMEDQA_CHAT = """\
Below is an instruction that describes a task, paired with an input that provides further \
context. Write a response that appropriately completes the request.

### Instruction:
Read the abstract and answer the question with yes, no or maybe.

### Input:
Abstract: Bile was measured.
It was green.
Question: Is bile green?

### Response:"""


def test_worked_examples_are_earlier_turns_of_the_chat() -> None:
    one = put(BILE, Asking(Form(), "letter", examples={"": [AIR]}))
    assert TEMPLATES["alpaca"].render(one.turns, bos="<s>", eos="</s>") == CHAT_WITH_AN_EXAMPLE
    assert one.compared == ("A", "B", "C")
    texts = put(BILE, Asking(Form(), "text", examples={"": [AIR]}))
    assert [turn.content for turn in texts.turns if turn.role == "assistant"] == ["Lung"]
    assert texts.compared == ("Heart", "Liver", "Lung")


def test_plain_prompts_are_those_of_lm_evals_tasks() -> None:
    clinical = Question("c", "mmlu_medical", *_of(BILE), "clinical_knowledge")
    form = TASKS["mmlu_medical"].form
    asking = Asking(form, "letter", plain=True, examples={"clinical_knowledge": [AIR]})
    one = put(clinical, asking)
    assert one.text == MMLU_WITH_AN_EXAMPLE
    assert (one.turns, one.compared) == ((), (" A", " B", " C"))
    plain = {name: put(BILE, Asking(TASKS[name].form, "text", plain=True)) for name in TASKS}
    listed = "A. Heart\nB. Liver\nC. Lung\n"
    assert plain["medqa"].text == f"Question: {BILE.prompt}\n{listed}Answer:"
    assert plain["medmcqa"].text == f"Question: {BILE.prompt}\nChoices:\n{listed}Answer:"
    assert plain["headqa"].text == f"Question: {BILE.prompt}\nAnswer:"
    assert plain["headqa"].compared == (" Heart", " Liver", " Lung")


def _of(question: Question) -> tuple[str, tuple[str, ...], str]:
    return question.prompt, question.choices, question.target


def test_pubmedqa_compares_its_three_words_and_shows_no_letters() -> None:
    form = TASKS["pubmedqa"].form
    one = put(ABSTRACT, asking_of("pubmedqa", form, None, plain=False))
    assert TEMPLATES["alpaca"].render(one.turns) == PUBMEDQA_CHAT
    assert one.compared == ("yes", "no", "maybe")
    plain = put(ABSTRACT, asking_of("pubmedqa", form, None, plain=True))
    assert plain.text == f"{ABSTRACT.prompt}\nAnswer:"
    assert plain.compared == (" yes", " no", " maybe")
    with pytest.raises(UserError, match="pubmedqa shows no letters in its prompt"):
        asking_of("pubmedqa", form, "letter", plain=False)


def test_braces_in_a_question_are_its_own() -> None:
    odd = Question("q", "own", "{choices} of {group} {x}?", ("{question}", "b"), "A", "g")
    one = put(odd, Asking(Form(), "letter", plain=True))
    assert one.text == "Question: {choices} of {group} {x}?\nA. {question}\nB. b\nAnswer:"


def test_every_choice_stands_in_every_place_once_and_values_come_back_in_order() -> None:
    two = Question("q2", "own", "?", ("x", "y"), "A")
    asking = Asking(Form(), "text")
    askings = {"q1": asking, "q2": asking}
    puts = list(put_all([BILE, two], askings, 3))
    assert [(p.question.id, p.draw) for p in puts] == [
        ("q1", 0),
        ("q2", 0),
        ("q1", 1),
        ("q2", 1),
        ("q1", 2),
    ]
    turned = [p for p in puts if p.question.id == "q1"]
    assert [p.shown for p in turned] == [
        ("Heart", "Liver", "Lung"),
        ("Liver", "Lung", "Heart"),
        ("Lung", "Heart", "Liver"),
    ]
    assert "A: Liver\nB: Lung\nC: Heart" in turned[1].turns[0].content
    for p in turned:
        assert p.compared == p.shown
        assert p.in_order([len(text) for text in p.shown]) == (5, 5, 4)
        assert [p.letter(i) for i in range(3)] == ["ABC"[p.order[i]] for i in range(3)]


GOLDEN_REAL = {
    "medqa": "cdac900872d0b1d3",
    "medmcqa": "6d843d9bf3fc9d6c",
    "pubmedqa": "193e2321fe66bc41",
    "headqa_dev": "b67f1bfa23755df1",
    "mmlu_medical": "0a8a5170403288c9",
}
"""SHA-256 of the first rendered prompt of each task, chat and plain, with what is compared."""


@pytest.mark.parametrize("name", GOLDEN_REAL)
def test_real_prompts_are_what_they_were(name: str, tmp_path: Path, real_data: Path) -> None:
    model = f"hf:{make_tiny_model(tmp_path / 'model')}"
    digest = hashlib.sha256()
    for plain in (False, True):
        how = ExamOptions(plain=plain, shots=2 if name == "mmlu_medical" else 0)
        (shown,) = show_exam(model, [name], how=how, data=real_data)
        digest.update(repr((shown.prompt, shown.compared)).encode())
    assert digest.hexdigest()[:16] == GOLDEN_REAL[name]


def test_real_mmlu_prompts_hold_the_worked_examples_of_their_subject(real_data: Path) -> None:
    how = ExamOptions(plain=True, shots=5)
    files = choose_files(["mmlu_medical"], real_data, None, 5)
    read = read_exam(files, 3, how)
    assert set(read.examples["mmlu_medical"]["anatomy"]) == {f"anatomy-{i:03d}" for i in range(5)}
    texts = [one.text for one in read.put(1)]
    assert all(text.count("\nAnswer:") == 6 for text in texts)
    block = texts[0].rpartition("\n\n")[0]
    assert all(text.startswith(block) for text in texts)
