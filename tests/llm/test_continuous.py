"""Requests that join a batch in flight get what each gets alone."""

import queue
from pathlib import Path
from typing import Any

import pytest

from meadowlark.llm.chat import Sampling
from meadowlark.llm.continuous import Continuous
from meadowlark.llm.local import TransformersModel, open_local
from meadowlark.records import Turn
from tiny_model import make_tiny_model

PROMPTS = [
    [Turn("user", "Explain fever. " * n + f"Which organ number {n} is large?")] for n in range(12)
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> TransformersModel:
    return open_local(str(make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")))


@pytest.fixture
def batch(model: TransformersModel) -> Any:
    made = Continuous(model)
    yield made
    made.close()


class Reader:
    """Takes what is delivered for one request."""

    def __init__(self) -> None:
        self.queue: queue.Queue[Any] = queue.Queue()

    def next(self) -> Any:
        return self.queue.get(timeout=60)

    def all(self) -> tuple[list[int], Any]:
        tokens: list[int] = []
        while isinstance(item := self.next(), int):
            tokens.append(item)
        return tokens, item


def submit(batch: Continuous, number: int, sampling: Sampling) -> tuple[Reader, Any]:
    reader = Reader()
    (ids,) = batch.model._encode([PROMPTS[number]])
    return reader, batch.submit(ids, sampling, reader.queue.put)


def alone(model: TransformersModel, number: int, sampling: Sampling) -> tuple[list[int], Any]:
    (ids,) = model._encode([PROMPTS[number]])
    row = model._row(ids, sampling, 0)
    for _ in model._decode([row], sampling):
        pass
    return row.new, row.finish


SAMPLINGS = [
    Sampling(max_tokens=30),
    Sampling(max_tokens=7, temperature=1.0, seed=3),
    Sampling(max_tokens=19, temperature=0.7, top_p=0.9, top_k=20, seed=4),
]


def test_all_at_once_each_with_its_own_sampling(model: TransformersModel, batch: Any) -> None:
    asked = [(n, SAMPLINGS[n % 3]) for n in range(12)]
    readers = [submit(batch, *one)[0] for one in asked]
    assert [reader.all() for reader in readers] == [alone(model, *one) for one in asked]
    assert batch.most_rows > 4


def test_one_that_comes_later_joins_those_at_work(model: TransformersModel, batch: Any) -> None:
    first, _ = submit(batch, 3, Sampling(max_tokens=60))
    begun = [first.next() for _ in range(3)]
    second, _ = submit(batch, 9, SAMPLINGS[0])  # a longer prompt
    third, _ = submit(batch, 0, SAMPLINGS[0])  # a shorter one
    assert second.all() == alone(model, 9, SAMPLINGS[0])
    assert third.all() == alone(model, 0, SAMPLINGS[0])
    rest, why = first.all()
    assert ([*begun, *rest], why) == alone(model, 3, Sampling(max_tokens=60))
    assert batch.most_rows == 3
    assert (batch.active, batch.waiting) == (0, 0)


def test_a_cancelled_one_leaves_and_the_others_notice_nothing(
    model: TransformersModel, batch: Any
) -> None:
    long = Sampling(max_tokens=400)
    leaving, ticket = submit(batch, 9, long)
    staying, _ = submit(batch, 1, Sampling(max_tokens=60))
    leaving.next()
    batch.cancel(ticket)
    assert staying.all() == alone(model, 1, Sampling(max_tokens=60))
    assert batch.steps < 200
    again, _ = submit(batch, 2, SAMPLINGS[0])
    assert again.all() == alone(model, 2, SAMPLINGS[0])


def test_no_more_than_fit_are_at_work(
    model: TransformersModel, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "cache_tokens", 300)
    readers = [submit(batch, n, SAMPLINGS[0])[0] for n in range(5)]
    assert [r.all() for r in readers] == [alone(model, n, SAMPLINGS[0]) for n in range(5)]
    assert batch.most_rows < 4


def test_a_step_that_fails_fails_its_requests_and_the_next_is_answered(
    model: TransformersModel, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model, "_logits", fails)
        _, error = submit(batch, 0, SAMPLINGS[0])[0].all()
    assert str(error) == "out of memory"
    assert submit(batch, 0, SAMPLINGS[0])[0].all() == alone(model, 0, SAMPLINGS[0])


def test_a_newcomer_that_cannot_be_read_fails_alone(
    model: TransformersModel, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = submit(batch, 1, Sampling(max_tokens=60))
    begun = [first.next() for _ in range(2)]
    real = model._logits

    def fails_for_prompts(rows: Any, state: Any) -> Any:
        if not state:
            raise RuntimeError("out of memory")
        return real(rows, state)

    with monkeypatch.context() as patch:
        patch.setattr(model, "_logits", fails_for_prompts)
        _, error = submit(batch, 2, SAMPLINGS[0])[0].all()
    assert str(error) == "out of memory"
    rest, why = first.all()
    assert ([*begun, *rest], why) == alone(model, 1, Sampling(max_tokens=60))


def test_closing_fails_what_is_not_answered(model: TransformersModel) -> None:
    batch = Continuous(model)
    reader, _ = submit(batch, 0, Sampling(max_tokens=400))
    reader.next()
    batch.close()
    _, error = reader.all()
    assert isinstance(error, RuntimeError)
    with pytest.raises(RuntimeError, match="closed"):
        submit(batch, 0, SAMPLINGS[0])


def test_a_prompt_that_fills_the_context_ends_at_once(tmp_path: Path) -> None:
    batch = Continuous(open_local(str(make_tiny_model(tmp_path / "m")), context_length=20))
    assert submit(batch, 5, SAMPLINGS[0])[0].all() == ([], "length")
    batch.close()


def test_windows_that_slide_are_batched_but_not_joined(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    from tiny_model import make_tokenizer

    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    config = MistralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, sliding_window=16, initializer_range=0.4,
        bos_token_id=0, eos_token_id=1, max_position_embeddings=512,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(tmp_path)
    model = open_local(str(tmp_path))
    batch = Continuous(model)
    first, _ = submit(batch, 3, SAMPLINGS[0])
    first.next()
    second, _ = submit(batch, 5, SAMPLINGS[0])
    assert second.all() == alone(model, 5, SAMPLINGS[0])
    first.all()
    batch.close()
