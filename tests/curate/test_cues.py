"""What is found where the cues point is what the patterns find anywhere."""

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadowlark.curate.identifiers import search
from meadowlark.curate.identifiers.cues import Cue, Cues
from meadowlark.dataset import read
from meadowlark.records import Record
from meadowlark.sources.convert import convert
from meadowlark.tasks import load, resolve

SET = Path(__file__).parent / "private_data"
SENTENCES = [
    json.loads(line)
    for name in ("identifiers.jsonl", "lookalikes.jsonl")
    for line in (SET / name).read_text("utf-8").splitlines()
]
ELSEWHERE = [
    line
    for name in ("elsewhere.txt", "elsewhere_lookalikes.txt")
    for line in re.sub(r"\|[A-Z_]+\]|\[", "", (SET / name).read_text("utf-8")).splitlines()
]
WORDS = [word for row in SENTENCES for word in row["text"].split()]
WORDS += [word for line in ELSEWHERE for word in line.split()]
IDENTIFIERS = [
    row["text"][span["start"] : span["end"]] for row in SENTENCES for span in row.get("spans", [])
]
PIECES = [
    *WORDS, *IDENTIFIERS,
    "Zip", "the 3rd of", "MAY", "aged", "95", "101F", "his", "mother", "Suite 4,", "P.O. Box 9",
    "certificate", "state medical license", "SW1A 2AA", "K1A 0B1", "postcode:", "٣/٤/2019", "ſSN",
    "🙂", "fe80::1", "https://", "a.b@c.org", "www.x.org", "10.0.0.1", "ninety-two years old", ",",
    "MD", "3 de marzo", "MÄRZ", "14.", "1er", "août", "déc.", "ene", "set", "de 2019", "12/out/19",
    "mai", "pager", "ext.", "IBAN", "DE89", "370400440532013000", "Tel.", "030/4471829",
    "MR#", "DNI",
]  # fmt: skip
BETWEEN = [" ", " ", " ", "", "\n", ", ", ": ", "-", "/", ".", "\u00a0", " ("]


def differs(text: str) -> bool:
    return search(Cues(text)) != search(Cues(text, everywhere=True))


def test_cues_lose_no_span_of_the_frozen_sentences() -> None:
    assert [row["id"] for row in SENTENCES if differs(row["text"])] == []
    assert [line for line in ELSEWHERE if differs(line)] == []


@given(st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(BETWEEN)), max_size=12))
@settings(deadline=None)  # the first call compiles
def test_cues_lose_no_span_of_texts_made_of_their_pieces(pieces: list[tuple[str, str]]) -> None:
    assert not differs("".join(piece + between for piece, between in pieces))


def test_cues_lose_no_span_of_long_texts_made_of_their_pieces() -> None:
    rng = random.Random(7)
    for _ in range(150):
        text = "".join(rng.choice(PIECES) + rng.choice(BETWEEN) for _ in range(150))
        assert not differs(text)


@given(st.text())
@settings(deadline=None)  # the first call compiles
def test_cues_lose_no_span_of_any_text_at_all(text: str) -> None:
    assert not differs(text)


def real_texts(data: Path, folder: Path) -> list[str]:
    raw = data / "meadow"
    texts = []
    for name, file in (
        ("wikidoc_patient_information", "medical_meadow_small.json"),
        ("chatdoctor", "chatdoctor5k.json"),
        ("medquad", "medquad_all.tar.gz"),
    ):
        convert(name, folder / name, raw=raw / name / file)
        for row in read(folder / name, Record)[0]:
            texts += [row.instruction, row.input, row.output]
    for task in ("medqa", "mmlu_medical"):
        for question in load(resolve(task, data))[0]:
            texts += [question.prompt, *question.choices]
    return list(dict.fromkeys(texts))


@pytest.mark.slow
def test_cues_lose_no_span_of_any_real_text(real_data: Path, tmp_path: Path) -> None:
    texts = real_texts(real_data, tmp_path)
    assert len(texts) > 50_000
    assert [text for text in texts if differs(text)] == []


@pytest.mark.parametrize(
    ("text", "cue", "places"),
    [
        ("Mr. Ray, mr. ray and xMr. Ray", Cue.TITLE, [0]),
        ("His mother, her Mother,", Cue.RELATION_COMMA, [4, 16]),
        ("3/4/2019 and 3.5 and 5-10", Cue.DATE_DIGITS, [0]),
        ("3/4/2019 and 3.5 and 5-10", Cue.SHORT_DATE_DIGITS, [0, 21]),
        ("aged 91 and 120 mg, 89 years", Cue.OLD_AGE_DIGITS, [5]),
    ],
)
def test_a_cue_stands_where_its_word_or_digits_begin(
    text: str, cue: int, places: list[int]
) -> None:
    assert Cues(text).at(cue) == places


def test_digits_of_other_scripts_are_searched_for_without_cues() -> None:
    assert Cues("٣").bits == -1
    assert Cues("plain words").bits == 0
