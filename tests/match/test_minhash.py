"""Near-duplicates by MinHash: what goes is as similar as was asked for, and little is
overlooked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadowlark.match.minhash import Alike, block, near_duplicates, words
from meadowlark.match.tokens import fold

RUN, BANDS, A_BAND = 3, 24, 5


def runs_of(text: str) -> set[tuple[bytes, ...]]:
    words = fold(text).split()
    size = min(RUN, len(words))
    return {tuple(words[i : i + size]) for i in range(len(words) - size + 1)} if words else set()


def jaccard(a: str, b: str) -> float:
    first, second = runs_of(a), runs_of(b)
    return len(first & second) / len(first | second) if first and second else 0.0


def find(texts: list[str], threshold: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    sets = block(texts, RUN, BANDS, A_BAND)
    offsets = np.concatenate([[0], np.cumsum(sets.counts)]).astype(np.int64)
    return near_duplicates(sets.runs, offsets, sets.keys, threshold, np.zeros(len(texts), np.bool_))


def greedy(texts: list[str], threshold: float) -> list[tuple[int, float]]:
    """Every pair compared: what the search would find if MinHash overlooked nothing."""
    kept: list[int] = []
    found = []
    for i, text in enumerate(texts):
        best = max(((jaccard(text, texts[j]), -j) for j in kept), default=(0.0, 0))
        if best[0] >= threshold:
            found.append((-best[1], best[0]))
        else:
            kept.append(i)
            found.append((-1, float("nan")))
    return found


texts_of_words = st.lists(st.sampled_from("ab bc cd de ef fg é ü 日本".split()), max_size=14).map(
    " ".join
)


@settings(deadline=None)  # the first example compiles
@given(st.lists(texts_of_words, max_size=12), st.sampled_from([0.5, 0.8, 1.0]))
def test_whatever_goes_is_as_similar_to_the_kept_text_it_names(
    texts: list[str], threshold: float
) -> None:
    nearest, score = find(texts, threshold)
    for i, (j, similarity) in enumerate(zip(nearest.tolist(), score.tolist(), strict=True)):
        if j >= 0:
            assert j < i
            assert nearest[j] < 0, "the neighbour itself stays"
            assert similarity == pytest.approx(jaccard(texts[i], texts[j]))
            assert similarity >= threshold


@settings(deadline=None)  # the first example compiles
@given(st.lists(texts_of_words, max_size=12))
def test_equal_sets_are_always_found_as_comparing_all_pairs_would(texts: list[str]) -> None:
    nearest, _ = find(texts, 1.0)
    assert nearest.tolist() == [j for j, _ in greedy(texts, 1.0)]


def test_edited_copies_are_found_as_comparing_all_pairs_would() -> None:
    rng = np.random.default_rng(5)
    texts: list[str] = []
    for _ in range(400):
        if texts and rng.random() < 0.5:
            edited = texts[rng.integers(len(texts))].split()
            for _ in range(rng.integers(4)):
                edited[rng.integers(len(edited))] = f"new{rng.integers(10**6)}"
            texts.append(" ".join(edited))
        else:
            texts.append(" ".join(f"w{w}" for w in rng.integers(3000, size=rng.integers(20, 90))))
    expected = greedy(texts, 0.8)
    nearest, score = find(texts, 0.8)
    wanted = [i for i, (j, _) in enumerate(expected) if j >= 0]
    assert len(wanted) > 50
    found = [i for i in wanted if nearest[i] >= 0]
    assert len(found) >= 0.99 * len(wanted)
    same = [i for i in found if nearest[i] == expected[i][0] and score[i] == expected[i][1]]
    assert len(same) >= 0.98 * len(found)


def test_blocks_give_what_the_whole_gives() -> None:
    texts = [f"text {i % 7} of some more words {i}" for i in range(50)]
    whole = block(texts, RUN, BANDS, A_BAND)
    parts = [block(texts[:20], RUN, BANDS, A_BAND), block(texts[20:], RUN, BANDS, A_BAND)]
    for name in ("runs", "counts", "keys"):
        both = np.concatenate([getattr(part, name) for part in parts])
        assert (getattr(whole, name) == both).all()


def test_a_text_without_words_is_nobodys_duplicate() -> None:
    assert find(["", "...", "", "a b", "a b"])[0].tolist() == [-1, -1, -1, -1, 3]


def test_one_answer_to_two_questions_is_two_facts() -> None:
    answer = " This condition is inherited in an autosomal recessive pattern" * 2
    questions = [
        "Is X-linked gout inherited?",
        "Is acral peeling inherited?",
        "is X-LINKED gout inherited",
    ]
    texts = [question + answer for question in questions]
    sets = block(texts, RUN, BANDS, A_BAND)
    offsets = np.concatenate([[0], np.cumsum(sets.counts)]).astype(np.int64)
    values, counts = words(questions)
    besides = Alike(values, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), 0.8)
    nothing = np.zeros(3, np.bool_)
    alone, _ = near_duplicates(sets.runs, offsets, sets.keys, 0.5, nothing)
    found, _ = near_duplicates(sets.runs, offsets, sets.keys, 0.5, nothing, besides)
    assert alone.tolist() == [-1, 0, 0]
    assert found.tolist() == [-1, -1, 0]
