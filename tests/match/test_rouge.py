"""The ROUGE-L join gives what rouge-score gives pair by pair: ties, neighbours and scores too."""

import functools
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score import rouge_scorer

from meadowlark.match import (
    NearDuplicates,
    RougeIndex,
    near_duplicates,
    rouge,
    rouge_l_f1,
    tokenize,
)
from meadowlark.match.rouge import Rule
from meadowlark.match.rouge_kernels import f1, lcs_length, required_lcs, shortest_partner

SCORER = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=False)
THRESHOLDS = (0.0, 0.3, 0.5, 0.7, 0.9)


@functools.cache
def rouge_score(a: str, b: str) -> float:
    return float(SCORER.score(a, b)["rougeL"].fmeasure)


def brute_force(texts: list[str], threshold: float, rule: Rule) -> list[tuple[bool, int, float]]:
    """(kept, nearest, score) of each text, by the definition of the rule."""
    answer: list[tuple[bool, int, float]] = []
    for i in range(len(texts)):
        if rule == "kept":
            others = [j for j in range(i) if answer[j][0]]
        else:
            others = [j for j in range(len(texts)) if j != i]
        scores = [rouge_score(texts[j], texts[i]) for j in others]
        highest = max(scores, default=0.0)
        if highest > threshold:
            answer.append((False, others[scores.index(highest)], highest))
        else:
            answer.append((True, -1, 0.0))
    return answer


def listed(result: NearDuplicates) -> list[tuple[bool, int, float]]:
    assert np.array_equal(np.isnan(result.score), result.kept)
    scores = np.nan_to_num(result.score)
    return list(zip(result.kept.tolist(), result.nearest.tolist(), scores.tolist(), strict=True))


def corpora(alphabet: str, longest: int) -> st.SearchStrategy[list[str]]:
    text = st.lists(st.sampled_from(alphabet), max_size=longest).map(" ".join)
    return st.lists(text, max_size=16)


@st.composite
def edited(draw: st.DrawFn) -> list[str]:
    """Texts made from a few ancestors by some replacements: many scores near 0.5 to 0.9."""
    words = st.sampled_from("abcdefghijklmnopqrstuvwxyz")
    ancestors = draw(st.lists(st.lists(words, min_size=1, max_size=20), min_size=1, max_size=3))
    texts = []
    for _ in range(draw(st.integers(0, 14))):
        text = list(draw(st.sampled_from(ancestors)))
        for _ in range(draw(st.integers(0, 6))):
            text[draw(st.integers(0, len(text) - 1))] = draw(words)
        texts.append(" ".join(text[: draw(st.integers(len(text) // 2, len(text)))]))
    return texts


CORPORA = st.one_of(corpora("ab", 8), corpora("abcdef", 14), corpora("abcde !", 10), edited())
# F1 = 14/20 in exact numbers; which side of 0.7 the float falls on is rouge-score's to say.
TIE = ["a b c d e f g h i j", "a b c d e f g x y z", "A, b, c, d, e, f, g, x, y, z!"]


@given(CORPORA, st.sampled_from(THRESHOLDS), st.sampled_from(["kept", "others"]))
@example(TIE, 0.7, "kept")
@example(TIE, 0.7, "others")
@example(["", "?!", "", "a", "a", "A"], 0.5, "others")
@settings(deadline=None, max_examples=300)
def test_join_equals_brute_force(texts: list[str], threshold: float, rule: Rule) -> None:
    result = near_duplicates(texts, threshold, rule, threads=1)
    assert listed(result) == brute_force(texts, threshold, rule)


@given(CORPORA, st.sampled_from(THRESHOLDS))
@settings(deadline=None)
def test_growing_index_equals_rule_kept(texts: list[str], threshold: float) -> None:
    index = RougeIndex(threshold)
    kept: list[int] = []
    for i, expected in enumerate(brute_force(texts, threshold, "kept")):
        nearest = index.nearest(texts[i])
        assert index.add_if_new(texts[i]) == nearest
        if nearest is None:
            kept.append(i)
            assert expected[0]
        else:
            assert (False, kept[nearest[0]], nearest[1]) == expected
    assert len(index) == len(kept)


def test_growing_index_adds_what_it_is_told() -> None:
    index = RougeIndex(0.7, ["What causes gout?"])
    assert index.add("What causes gout?") == 1
    assert index.nearest("what CAUSES gout") == (0, 1.0)
    assert index.nearest("Name three diuretics") is None
    assert index.add("") == 2
    assert index.nearest("") is None
    for i in range(300):
        index.add(" ".join(f"t{i}n{k}" for k in range(40)))
    assert index.nearest(" ".join(f"t299n{k}" for k in range(40))) == (302, 1.0)


@given(CORPORA)
@settings(deadline=None, max_examples=50)
def test_reference_equals_rouge_score(texts: list[str]) -> None:
    for a in texts:
        for b in texts:
            assert rouge_l_f1(a, b) == rouge_score(a, b)


@pytest.mark.parametrize("threshold", [*THRESHOLDS, 1 / 3, 0.99])
def test_bounds_are_decided_by_rouge_scores_formula(threshold: float) -> None:
    for m in range(1, 50):
        feasible = []
        for n in range(1, 50):
            need = required_lcs(m, n, threshold)
            assert f1(need, m, n) > threshold
            assert need == 1 or f1(need - 1, m, n) <= threshold
            if need <= min(m, n):
                feasible.append(n)
        assert feasible[0] == shortest_partner(m, threshold)
        assert feasible == list(range(feasible[0], feasible[-1] + 1))


@given(st.data(), st.integers(1, 5))
@settings(deadline=None, max_examples=50)
def test_lcs_of_many_words_equals_the_reference(data: st.DataObject, alphabet: int) -> None:
    tokens = st.lists(st.integers(0, alphabet), min_size=1, max_size=300)
    a, b = data.draw(tokens), data.draw(tokens)
    mask, carry = np.zeros(alphabet + 1, np.uint64), np.empty(len(b), np.uint64)
    lcs = lcs_length(np.array(a, np.int32), np.array(b, np.int32), mask, carry)
    assert f1(lcs, len(a), len(b)) == rouge_l_f1(" ".join(map(str, a)), " ".join(map(str, b)))
    assert not mask.any()


def test_texts_of_thousands_of_tokens() -> None:
    rng = random.Random(0)
    long = [rng.choice("abcdefghij") + str(rng.randrange(200)) for _ in range(5_000)]
    near = [token if rng.random() < 0.8 else "zz" for token in long]
    far = rng.sample(long, len(long))
    texts = [" ".join(tokens) for tokens in (long, far, near, long[:1_000], long)]
    result = near_duplicates(texts, 0.7, "others")
    assert result.kept.tolist() == [False, True, False, True, False]
    assert result.nearest.tolist() == [4, -1, 0, -1, 0]
    assert result.score[2] == rouge_l_f1(texts[0], texts[2])


def instructions(count: int) -> list[str]:
    """Random instructions of some 12 words, a third of them variants of earlier ones."""
    rng = random.Random(1)
    texts: list[list[str]] = []
    for _ in range(count):
        if texts and rng.random() < 0.3:
            text = list(rng.choice(texts))
            for _ in range(rng.randrange(5)):
                text[rng.randrange(len(text))] = f"w{rng.randrange(500)}"
        else:
            length = rng.randrange(4, 20)
            text = [f"w{int(500 * rng.random() ** 3)}" for _ in range(length)]
        texts.append(text)
    return [" ".join(text) for text in texts]


@pytest.mark.parametrize("rule", ["kept", "others"])
def test_answer_is_the_same_for_any_threads_and_batches(
    rule: Rule, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = instructions(3_000)
    expected = listed(near_duplicates(texts, 0.6, rule, threads=1))
    assert 0.2 < np.mean([kept for kept, _, _ in expected]) < 0.9
    for batch, threads in ((7, 1), (64, 2), (4096, 3), (500, 8)):
        monkeypatch.setattr(rouge, "BATCH", batch)
        assert listed(near_duplicates(texts, 0.6, rule, threads=threads)) == expected


@pytest.mark.parametrize("rule", ["kept", "others"])
def test_texts_without_tokens_are_never_duplicates(rule: Rule) -> None:
    assert near_duplicates(["", "…", "", "é É", "t"], 0.0, rule).kept.all()
    assert near_duplicates(["?"], 0.7, rule).kept.tolist() == [True]
    assert near_duplicates([], 0.7, rule).kept.shape == (0,)
    assert rouge_l_f1("", "") == 0


@pytest.mark.parametrize("threshold", [-0.1, 1.0, 70, float("nan")])
def test_threshold_outside_its_range_is_refused(threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold"):
        near_duplicates(["a"], threshold)
    with pytest.raises(ValueError, match="threshold"):
        RougeIndex(threshold)


def test_unknown_rule_and_no_threads_are_refused() -> None:
    with pytest.raises(ValueError, match="'kept' or 'others'"):
        near_duplicates(["a"], rule="greedy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threads"):
        near_duplicates(["a"], threads=0)


def real_rows(path: str) -> list[dict[str, Any]]:
    folder = os.environ.get("MEADOWLARK_DATA")
    if not folder:
        pytest.skip("MEADOWLARK_DATA is not set: no real data to test on")
    text = (Path(folder) / path).read_text(encoding="utf-8")
    rows: list[dict[str, Any]] = (
        json.loads(text)
        if path.endswith(".json")
        else [json.loads(line) for line in text.splitlines()]
    )
    return rows


def test_wikidoc_questions_give_the_known_counts() -> None:
    rows = real_rows("meadow/wikidoc_patient_information/medical_meadow_small.json")
    questions = [row["input"] for row in rows]
    assert len(questions) == 5_942
    kept = near_duplicates(questions, 0.7, "kept")
    others = near_duplicates(questions, 0.7, "others")
    assert int(kept.kept.sum()) == 1_065
    assert int(others.kept.sum()) == 391
    for result in (kept, others):
        for i in np.flatnonzero(~result.kept)[::50].tolist():
            assert rouge_score(questions[result.nearest[i]], questions[i]) == result.score[i]
    index = RougeIndex(0.7)
    added = [index.add_if_new(question) is None for question in questions]
    assert added == kept.kept.tolist()


@pytest.mark.parametrize("threshold", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("rule", ["kept", "others"])
def test_seed_instructions_equal_brute_force(rule: Rule, threshold: float) -> None:
    texts = [row["instruction"] for row in real_rows("alpacare/med_seed.json")]
    assert len(texts) == 167
    assert listed(near_duplicates(texts, threshold, rule)) == brute_force(texts, threshold, rule)


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["kept", "others"])
def test_test_instructions_equal_brute_force(rule: Rule) -> None:
    texts = [row["instruction"] for row in real_rows("alpacare/MedInstruct-test.jsonl")]
    assert len(texts) == 216
    assert listed(near_duplicates(texts, 0.7, rule)) == brute_force(texts, 0.7, rule)


@pytest.mark.slow
def test_wikidoc_kept_sets_are_those_of_all_pairs_by_rapidfuzz() -> None:
    """The lengths of all common subsequences by rapidfuzz, the scores by rouge-score's formula."""
    distance = pytest.importorskip("rapidfuzz.distance")
    process = pytest.importorskip("rapidfuzz.process")
    rows = real_rows("meadow/wikidoc_patient_information/medical_meadow_small.json")
    tokens = [tokenize(row["input"]) for row in rows]
    lcs = process.cdist(tokens, tokens, scorer=distance.LCSseq.similarity, dtype=np.int32)
    lengths = np.array([len(words) for words in tokens])
    with np.errstate(invalid="ignore"):
        precision, recall = lcs / lengths[None, :], lcs / lengths[:, None]
        score = np.nan_to_num(2 * precision * recall / (precision + recall))
    alike = score > 0.7
    np.fill_diagonal(alike, False)
    kept: list[int] = []
    for i in range(len(tokens)):
        if not alike[i, kept].any():
            kept.append(i)
    questions = [row["input"] for row in rows]
    assert np.flatnonzero(near_duplicates(questions, 0.7, "kept").kept).tolist() == kept
    alone = np.flatnonzero(~alike.any(axis=1)).tolist()
    assert np.flatnonzero(near_duplicates(questions, 0.7, "others").kept).tolist() == alone
