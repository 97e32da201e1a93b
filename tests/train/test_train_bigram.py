"""The baseline a model must beat: a proper distribution that uses what it has seen."""

import math

import numpy as np
import pytest

from meadowlark.train.bigram import bigram_baseline, count_bigram
from meadowlark.train.encode import Example

A, B, C = 0, 1, 2


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, dtype=np.int64)


def test_probabilities_are_those_worked_out_by_hand() -> None:
    """Seen: A after A once, B after A twice, A after B once; discount 0.5, three tokens."""
    model = count_bigram(ids(A, A, A, B), ids(A, B, B, A), 3, 0.5)
    unigram = {A: 3 / 7, B: 3 / 7, C: 1 / 7}
    expected = {
        (A, B): 1.5 / 3 + 0.5 * 2 / 3 * unigram[B],
        (A, C): 0.5 * 2 / 3 * unigram[C],
        (B, A): 0.5 / 1 + 0.5 * 1 / 1 * unigram[A],
        (C, B): unigram[B],  # C was never followed by anything
    }
    for (first, second), probability in expected.items():
        assert model.nats(ids(first), ids(second)) == pytest.approx(-math.log(probability))


def test_every_row_of_probabilities_sums_to_one() -> None:
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 20, 300), draw.integers(0, 20, 300)
    model = count_bigram(first, second, 25, 0.7)
    for token in range(25):
        p = [math.exp(-model.nats(ids(token), ids(follower))) for follower in range(25)]
        assert sum(p) == pytest.approx(1.0)


def chain(seed: int, rows: int) -> list[Example]:
    """Rows in which each token names the next but for one in ten: 0.325 nats and ln(9)/10."""
    draw = np.random.default_rng(seed)
    made = []
    for row in range(rows):
        tokens = [int(draw.integers(10))]
        for _ in range(40):
            usual = (tokens[-1] * 3 + 1) % 10
            others = [token for token in range(10) if token != usual]
            tokens.append(usual if draw.random() < 0.9 else int(draw.choice(others)))
        made.append(Example(str(row), np.array(tokens, dtype=np.int32), ((1, len(tokens)),), 40))
    return made


def test_it_reaches_the_entropy_of_a_source_that_is_a_bigram() -> None:
    entropy = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1 / 9))
    found, _ = bigram_baseline(chain(1, 400), chain(2, 400), 10)
    assert found.loss == pytest.approx(entropy, abs=0.03)
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2))
    assert found.tokens == 400 * 40


def test_validation_rows_never_choose_the_smoothing() -> None:
    training = chain(3, 50)
    _, first = bigram_baseline(training, chain(4, 5), 10)
    _, second = bigram_baseline(training, chain(5, 90), 10)
    assert first == second
