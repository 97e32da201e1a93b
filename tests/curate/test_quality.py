"""The quality rules: what each takes out, and the good medicine next to it that it must leave."""

import pytest

from meadowlark.config import parse
from meadowlark.curate.options import CleanOptions
from meadowlark.curate.quality import RULES, judge
from meadowlark.errors import UserError
from meadowlark.records import Record

DEFAULTS = CleanOptions()
GERMAN = (
    "Der Patient ist mit einer Entzündung der Lunge auf die Station gekommen und wird nicht mit "
    "dem Antibiotikum behandelt, das er bei der letzten Aufnahme bekommen hat."
)
QUESTION = "Which drug?\nA. Aspirin\nB. Ibuprofen\nC. Paracetamol"


def reason(record: Record, options: CleanOptions = DEFAULTS) -> str | None:
    found = judge(record, options)
    return found[0] if found else None


BAD = [
    ("empty", Record("", "", "An answer.")),
    ("empty", Record("What is gout?", "", " \n")),
    ("empty", Record("What is gout?", "", "...")),
    (
        "echo of the question",
        Record("What are the causes of gout?", "", "What are the causes of gout?"),
    ),
    (
        "echo of the question",
        Record("Answer.", "What causes acute gout?", "What causes acute gout? Well."),
    ),
    ("refusal", Record("q", "", "I'm sorry, but I can't provide medical advice.")),
    ("refusal", Record("q", "", "As an AI language model, I cannot diagnose your condition.")),
    ("refusal", Record("q", "", "Unfortunately, I am unable to answer this question.")),
    ("boilerplate", Record("q", "", "Copyright 2011. All rights reserved.")),
    ("boilerplate", Record("q", "", "For details on rashes click here")),
    ("truncated sentence", Record("q", "", "The tumour spreads through the blood and the")),
    ("truncated sentence", Record("q", "", "Rest well. It is important to consult with")),
    ("truncated sentence", Record("q", "", "Take it with food, water,")),
    ("wrong language", Record("q", "", GERMAN)),
    (
        "wrong language",
        Record("q", "", "患者は肺炎のために入院し、抗生物質による治療を受けています。"),
    ),
    ("length outlier", Record("q", "", "word " * 2001)),
    ("broken multiple choice", Record(QUESTION.replace("B.", "D."), "", "A")),
    ("broken multiple choice", Record(QUESTION.replace("Ibuprofen", "aspirin"), "", "A")),
    ("broken multiple choice", Record(QUESTION.replace("Ibuprofen", ""), "", "A")),
    ("broken multiple choice", Record(QUESTION, "", "The answer is E.")),
]
GOOD = [
    Record("What is gout?", "", "A form of arthritis."),
    Record("Is it viral?", "", "Yes"),
    Record("Dose?", "", "5 mg"),
    Record(
        "What is gout?", "", "What is gout? It is a form of arthritis caused by urate crystals."
    ),
    Record("q", "", "I'm sorry to hear that you are in pain. You may have gout."),
    Record("q", "", "I cannot stress enough that you should see a doctor today."),
    Record(
        "q",
        "",
        "As an AI language model I can give general information. " + "Gout is common. " * 30,
    ),
    Record("q", "", "Do not click the joint; the pop is harmless. See your doctor if it hurts."),
    Record("q", "", "Symptoms:\n- fever\n- cough\n- shortness of breath"),
    Record("q", "", "What is the rash caused by"),
    Record("q", "", "The organism is group A. It is best treated with vitamin A"),
    Record("q", "", "Le chaud, du froid"),
    Record(
        "q",
        "",
        "Status post CABG, EF 35 %, NYHA II, ASA 81 mg, metoprolol 25 mg, lisinopril 10 mg, "
        "atorvastatin 40 mg, A1c 7.1 %, Cr 1.2, K 4.1, BP 128/74, HR 66, afebrile, lungs clear",
    ),
    Record(QUESTION, "", "B"),
    Record(QUESTION, "", "Both A and B inhibit cyclooxygenase."),
    Record("What are hepatitis A and B?\nA. is one, B. the other", "", "Two viruses."),
    Record("Grade this.\nA. < 5 mg\nB. > 5 mg", "", "A"),
]


@pytest.mark.parametrize(("expected", "record"), BAD)
def test_a_broken_row_goes_with_its_reason(expected: str, record: Record) -> None:
    assert reason(record) == expected


@pytest.mark.parametrize("record", GOOD)
def test_a_good_row_that_looks_like_a_broken_one_stays(record: Record) -> None:
    assert judge(record, DEFAULTS) is None


@pytest.mark.parametrize("name", RULES)
def test_every_rule_can_be_turned_off(name: str) -> None:
    mine = [record for expected, record in BAD if expected == RULES[name][0]]
    off = parse({name: {"on": False}}, CleanOptions, "test")
    assert mine
    assert all(reason(record, off) != RULES[name][0] for record in mine)


def test_rules_are_tuned_by_their_options() -> None:
    german = parse({"language": {"keep": ["en", "de"]}}, CleanOptions, "test")
    assert judge(Record("q", "", GERMAN), german) is None
    tasks = parse({"empty": {"output": False}}, CleanOptions, "test")
    assert judge(Record("Explain gout."), tasks) is None
    short = parse({"length": {"answer_max": 3}}, CleanOptions, "test")
    assert reason(Record("q", "", "one two three four"), short) == "length outlier"


def test_a_misspelt_rule_is_a_mistake_with_a_suggestion() -> None:
    with pytest.raises(UserError, match="Did you mean 'truncated'"):
        parse({"truncate": {"on": False}}, CleanOptions, "rules.toml")
