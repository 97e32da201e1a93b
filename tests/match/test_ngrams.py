"""Evaluation questions are found where the definition says, and nowhere else."""

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meadowlark import tasks
from meadowlark.dataset import read
from meadowlark.match.ngrams import FEWEST, Found, QuestionIndex
from meadowlark.match.tokens import Vocabulary, fold, fold_look_alikes
from meadowlark.records import Question, Record
from meadowlark.templates import INPUT_MARKER

CYRILLIC = str.maketrans("ABCEHKMOPTXaceopxyijs", "АВСЕНКМОРТХасеорхуіјѕ")
GREEK = str.maketrans("ABEZHIKMNOPTYXaiopuvxkny", "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαιορυνχκηγ")


def disguised(text: str, table: dict[int, int]) -> str:
    """In letters of another script that look alike; a letter by itself is left, and a text of which
    nothing would be left."""
    other = re.sub(r"\w{2,}", lambda word: word[0].translate(table), text)
    return other if re.search("[A-Za-z]", other) else text


def words(text: str) -> list[str]:
    return fold(text).decode().split()


def lcs(a: list[str], b: list[str]) -> int:
    """The textbook table."""
    lengths = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            longer = max(lengths[i, j + 1], lengths[i + 1, j])
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if x == y else longer
    return int(lengths[-1, -1])


def stands(part: list[str], whole: list[str]) -> bool:
    return any(whole[i : i + len(part)] == part for i in range(len(whole) - len(part) + 1))


def reference(
    questions: list[Question], row: list[str], run: int, long: int, coverage: float
) -> list[tuple[int, float, int]]:
    """(question, coverage, choices) of a row, straight from the definition."""
    found = []
    texts = [words(text) for text in row]
    text = [word for part in texts for word in part]
    borders = {sum(len(part) for part in texts[:i]) for i in range(len(texts) + 1)}
    for number, question in enumerate(questions):
        stem = words(question.prompt.replace(INPUT_MARKER, " "))
        choices = [words(choice) for choice in question.choices]
        standing = [bool(c) and stands(c, text) for c in choices]
        best = 0.0
        if len(stem) >= long:
            slack = len(stem) // 4
            for p in range(len(text) - run + 1):
                for q in range(len(stem) - run + 1):
                    if text[p : p + run] == stem[q : q + run]:
                        at = p - q
                        window = text[max(at - slack, 0) : at + len(stem) + slack]
                        best = max(best, lcs(stem, window) / len(stem))
            if best >= coverage:
                found.append((number, best, sum(standing)))
        elif stem:
            places = [p for p in range(len(text)) if text[p : p + len(stem)] == stem]
            every = all(s or not c for s, c in zip(standing, choices, strict=True))
            size = len(stem) + sum(map(len, choices))
            whole = any(p in borders and p + len(stem) in borders for p in places)
            right = question.target and standing[ord(question.target) - ord("A")]
            by_choices = bool(choices) and every and size >= FEWEST
            if places and (by_choices or (whole and (not choices or right))):
                found.append((number, 1.0, sum(standing)))
    return found


SEQUENCE = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join)


@st.composite
def exams(draw: st.DrawFn) -> tuple[list[Question], list[list[str]]]:
    """A few questions over a small alphabet, and rows that hold pieces of them among others."""
    questions = []
    for number in range(draw(st.integers(1, 4))):
        choices = draw(st.lists(st.sampled_from(["a", "b c", "d d", "?", "b a c"]), max_size=3))
        target = draw(st.sampled_from(["", *"ABC"[: len(choices)]]))
        prompt = draw(SEQUENCE)
        if draw(st.booleans()):
            prompt = prompt.replace(" ", INPUT_MARKER, 1)
        questions.append(Question(str(number), "t", prompt, tuple(choices), target))
    pieces = [*(q.prompt for q in questions), *(c for q in questions for c in q.choices)]
    piece = st.one_of(SEQUENCE, st.sampled_from(pieces).map(lambda p: p.upper()))
    rows = draw(st.lists(st.lists(piece, max_size=4), max_size=4))
    return questions, rows


@given(exams(), st.integers(1, 3), st.integers(3, 6), st.sampled_from([0.3, 0.5, 0.7, 1.0]))
@example(([Question("0", "t", "a b a b a")], [["a b a b a b a"]]), 1, 4, 1.0)
@settings(deadline=None, max_examples=300)
def test_search_equals_the_definition(
    exam: tuple[list[Question], list[list[str]]], run: int, long: int, coverage: float
) -> None:
    questions, rows = exam
    index = QuestionIndex(questions, run=run, long=long, coverage=coverage)
    found = [(f.row, f.question, f.coverage, f.choices) for f in index.search(rows)]
    expected = [
        (number, *one)
        for number, row in enumerate(rows)
        for one in reference(questions, row, run, long, coverage)
    ]
    assert found == expected


@given(exams())
@settings(deadline=None, max_examples=50)
def test_what_is_called_unsearchable_is_never_found(
    exam: tuple[list[Question], list[list[str]]],
) -> None:
    questions, rows = exam
    index = QuestionIndex(questions, run=2, long=4)
    assert not {f.question for f in index.search(rows)} & set(index.unsearchable)


VIGNETTE = Question(
    "v",
    "ward",
    "A 34-year-old nurse has had a dry cough, night sweats and weight loss for six weeks. "
    "Which of the following is the most likely diagnosis?",
    ("Asthma", "Pulmonary tuberculosis", "Pulmonary embolism", "Heart failure"),
    "B",
)
SHORT = Question(
    "s", "ward", "Bile is made by the", ("heart", "liver", "gall bladder", "lung"), "B"
)
FREE = Question("f", "ward", f"Summarise the note.{INPUT_MARKER}Seen today.")


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (["Choose.", f"{VIGNETTE.prompt}\nA: Heart failure\nB: Asthma"], [("v", 1.0, 2)]),
        (["a 34 year OLD nurse has had a dry cough night sweats and weight loss"], []),
        (["Which of the following is the most likely diagnosis of a nurse with a cough?"], []),
        (["", f"{VIGNETTE.prompt.replace('34', '35').replace('six', 'nine')}"], [("v", 0.926, 0)]),
        (["Bile is made by the lung, heart, gall bladder, or LIVER?"], [("s", 1.0, 4)]),
        (["Answer truthfully.", "Bile is made by the:", "The liver."], [("s", 1.0, 1)]),
        (["Answer truthfully.", "Bile is made by the:", "An organ."], []),
        (["We know that bile is made by the liver."], []),
        (["Summarise the note.", "Seen today!", "Done."], [("f", 1.0, 0)]),
        (["Summarise the note.", "Seen today, better."], []),
    ],
)
def test_choices_order_case_and_small_changes(
    row: list[str], found: list[tuple[str, float, int]]
) -> None:
    questions = [VIGNETTE, SHORT, FREE]
    hits = QuestionIndex(questions).search([row])
    assert [(questions[f.question].id, round(f.coverage, 3), f.choices) for f in hits] == found


def test_the_passage_is_the_rows_own_words() -> None:
    text = "Before it. " + VIGNETTE.prompt.replace("dry", "wet") + " After it."
    (found,) = QuestionIndex([VIGNETTE]).search([["Choose.", text]])
    assert found == Found(0, 0, 26 / 27, 0, " ".join(words(VIGNETTE.prompt)).replace("dry", "wet"))


def test_questions_that_cannot_be_told_apart_are_named() -> None:
    vague = Question("0", "t", "Which is true?", ("a", "b"), "")
    told = Question("1", "t", "Which is true?", ("a", "b"), "A")
    empty = Question("2", "t", "? !")
    assert QuestionIndex([vague, told, VIGNETTE, empty]).unsearchable == [0, 3]
    assert QuestionIndex([]).search([["a"]]) == []


@given(st.text(), st.text("Aé²ﬁßΣſ½漢字かなไทย한글１ \n_-\u0301\ud800"))
def test_folding_twice_changes_no_word(one: str, other: str) -> None:
    for text in (one, other, one + other):
        assert words(" ".join(words(text))) == words(text)


def test_folding_forgets_how_a_text_was_typed() -> None:
    alike = ["Crème brûlée, 2²", "CREME BRULEE 22", "cre\u0300me — bru\u0302le\u0301e: 22"]
    assert len({" ".join(words(text)) for text in alike}) == 1
    assert words("ﬁbre µg ＤＮＡ") == ["fibre", "μg", "dna"]
    assert words("肝臓とは?") == ["肝", "臓", "と", "は"]


@pytest.mark.parametrize("table", [CYRILLIC, GREEK])
def test_letters_of_another_script_that_look_alike_are_folded(table: dict[int, int]) -> None:
    text = "A 34-year-old nurse (TB?) coughs; so does a cat. MCV 70, PO2 88, pH 7.3: an ECG?"
    other = disguised(text, table)
    assert fold(other) != fold(text)
    assert fold_look_alikes(other) == fold(text)


@pytest.mark.parametrize(
    "text",
    [
        "У пациента рак. Сухой кашель, температура 38, сон плохой. Оса! Как? МРТ, ЭКГ",
        "У пациента рак (cancer), сахар 7 mmol/l",
        "Ο ασθενής έχει βήχα και πυρετό. Τι έχει; ΑΚΤ, τον",
        "α-blockers, the κ chain, β2, 5α, HLA Β, 5 μg, ΔG and χ² of 3.1",
        "crème, naïve, 肝臓, ½",
        "plain",
    ],
)
def test_real_russian_and_greek_and_symbols_stay_as_they_are(text: str) -> None:
    assert fold_look_alikes(text) == fold(text)


@given(
    st.lists(st.text("abé .漢", max_size=12), max_size=6), st.lists(st.text("abé .漢"), max_size=6)
)
@settings(deadline=None)
def test_looking_up_numbers_known_tokens_and_adds_none(known: list[str], new: list[str]) -> None:
    vocabulary = Vocabulary(fold)
    vocabulary.encode(known)
    numbers: dict[str, int] = {}
    for text in known:
        for word in words(text):
            numbers.setdefault(word, len(numbers))
    tokens, offsets = vocabulary.look_up(new)
    assert tokens.tolist() == [numbers.get(w, len(numbers)) for text in new for w in words(text)]
    assert np.diff(offsets).tolist() == [len(words(text)) for text in new]
    assert len(vocabulary) == len(numbers)


def test_real_exams_are_found_when_planted_and_not_in_the_real_rows(real_data: Path) -> None:
    """MedQA and the medical MMLU against wikidoc's 5,942 rows; then copied with shuffled options,
    and as question and right answer alone."""
    questions = []
    for name in ("medqa", "mmlu_medical"):
        questions += tasks.load(tasks.resolve(name, real_data))[0]
    assert len(questions) == 2362
    index = QuestionIndex(questions)
    assert index.unsearchable == []
    path = real_data / "meadow" / "wikidoc_patient_information" / "medical_meadow_small.json"
    rows, _ = read(path, Record)
    assert index.search([(r.instruction, r.input, r.output) for r in rows]) == []
    draw = random.Random(1)
    planted = []
    for question in questions:
        options = draw.sample(question.choices, len(question.choices))
        right = question.choices[ord(question.target) - ord("A")]
        lines = [f"({n}) {option}" for n, option in enumerate(options, start=1)]
        planted.append(("Choose.", "\n".join([question.prompt.upper(), *lines]), "Why not?"))
        planted.append(("Answer this question truthfully", question.prompt, right))
    itself = {(number, number) for number in range(len(questions))}
    scripts: tuple[dict[int, int], ...] = (
        {},
        CYRILLIC,
        GREEK,
    )  # as typed, and look-alikes
    for table in scripts:
        other = [[disguised(text, table) for text in row] for row in planted]
        hits = index.search(other)
        found = {(f.row // 2, f.question) for f in hits if f.row % 2 == 0}
        alone = {(f.row // 2, f.question) for f in hits if f.row % 2}
        # A short one may have a name of look-alikes alone beside real Greek: that one is left.
        missed = 0.005 * len(itself) if table else 0
        assert len(itself - found) <= missed
        assert len(itself - alone) <= missed
