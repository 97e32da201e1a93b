"""Our tokens are rouge-score's, and numbering them loses nothing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score import tokenize as rouge_score_tokenize

from meadowlark.match import tokenize
from meadowlark.match.tokens import Vocabulary

# Besides any text: letters whose lower case is ASCII or grows, and all kinds of white space.
TEXTS = st.one_of(
    st.text(),
    st.text("aB9 _-\t\n\r\x00\x1c\x85\u2028|?İKſΣßéﬁ１", max_size=40),
    st.text(st.characters(codec="ascii")),
)


@given(TEXTS)
def test_tokenize_equals_rouge_score(text: str) -> None:
    assert tokenize(text) == rouge_score_tokenize.tokenize(text, None)


def test_unpaired_surrogates_separate_tokens() -> None:
    assert tokenize("a\ud800b") == rouge_score_tokenize.tokenize("a\ud800b", None) == ["a", "b"]


@given(st.lists(st.lists(TEXTS, max_size=5), max_size=4))
@settings(deadline=None)
def test_encode_numbers_tokens_in_order_of_appearance(calls: list[list[str]]) -> None:
    vocabulary = Vocabulary()
    numbers: dict[str, int] = {}
    for texts in calls:
        tokens, offsets = vocabulary.encode(texts)
        expected = [[numbers.setdefault(t, len(numbers)) for t in tokenize(x)] for x in texts]
        assert np.diff(offsets).tolist() == [len(row) for row in expected]
        assert tokens.tolist() == [number for row in expected for number in row]
    assert len(vocabulary) == len(numbers)


def test_encode_grows_past_every_initial_size() -> None:
    texts = [f"{i} {i * 7919} x{i % 300}" for i in range(20_000)]
    vocabulary = Vocabulary()
    tokens, _ = vocabulary.encode(texts)
    numbers: dict[str, int] = {}
    expected = [numbers.setdefault(t, len(numbers)) for text in texts for t in tokenize(text)]
    assert tokens.tolist() == expected
    assert len(vocabulary) == len(numbers)
