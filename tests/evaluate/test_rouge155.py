"""ROUGE-1, -2 and -L are those of ROUGE-1.5.5; the stemmer is Porter's own program's."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from meadowlark.evaluate.porter import porter_stem
from meadowlark.evaluate.rouge155 import MEASURES, rouge155
from meadowlark.match import tokenize

SUMMARY = st.lists(
    st.lists(st.sampled_from("who makes this drug and where can I buy it".split()), max_size=6),
    min_size=1,
    max_size=3,
).map(lambda sentences: "\n".join(" ".join(words) for words in sentences))


@pytest.mark.parametrize(("column", "stem"), [("F", False), ("F_stem", True)])
def test_200_pairs_equal_the_output_of_rouge_1_5_5(
    column: str, stem: bool, real_data: Path
) -> None:
    path = real_data / "judging" / "rouge155_meqsum" / "pairs.jsonl"
    pairs = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert len(pairs) == 200
    for pair in pairs:
        found = rouge155(pair["candidate"], pair["reference"], stem=stem)
        printed = [pair[column][name] for name in ("ROUGE-1", "ROUGE-2", "ROUGE-L")]
        assert [found[measure].f1 for measure in MEASURES] == printed  # to its last printed digit


@given(SUMMARY, SUMMARY)
def test_several_sentences_are_scored_as_rouge_score_does(candidate: str, reference: str) -> None:
    scorer = rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeLsum"])
    theirs = scorer.score(reference, candidate)
    ours = rouge155(candidate, reference, stem=False)
    for measure, name in zip(MEASURES, ("rouge1", "rouge2", "rougeLsum"), strict=True):
        assert ours[measure].f1 == pytest.approx(theirs[name].fmeasure, abs=2e-5)
        assert ours[measure].recall == pytest.approx(theirs[name].recall, abs=1e-5)


def test_stems_equal_those_of_porters_program_in_nltk(real_data: Path) -> None:
    nltk = pytest.importorskip("nltk.stem.porter")
    theirs = nltk.PorterStemmer(mode=nltk.PorterStemmer.MARTIN_EXTENSIONS)
    path = real_data / "exams" / "medqa" / "phrases_no_exclude_test.jsonl"
    words = set(tokenize(path.read_text("utf-8")))
    assert len(words) > 10_000
    assert [word for word in words if porter_stem(word) != theirs.stem(word)] == []


@pytest.mark.parametrize(
    ("word", "stem"),
    [("caresses", "caress"), ("ponies", "poni"), ("motoring", "motor"), ("hopping", "hop"),
     ("relational", "relat"), ("sensibiliti", "sensibl"), ("adoption", "adopt"), ("is", "is")],
)  # fmt: skip
def test_stems_of_the_paper(word: str, stem: str) -> None:
    assert porter_stem(word) == stem


def test_an_empty_summary_scores_nothing() -> None:
    assert all(overlap == (0, 0, 0) for overlap in rouge155("", "a summary").values())
    assert all(overlap == (0, 0, 0) for overlap in rouge155("...", "").values())
