"""Packing changes how a step is computed, and nothing else."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from training_proofs import gradients, packed_equals_transformers_on_single_rows, plain_loss

from meadowlark.records import Record
from meadowlark.train.attention import packed_attention
from meadowlark.train.encode import Encoder, Example
from meadowlark.train.loss import evaluate, summed_loss
from meadowlark.train.pack import best_fit, lay_out, plan_steps

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(LENGTHS, st.integers(50, 120))
def test_every_row_lies_in_exactly_one_bin_that_holds_it(lengths: list[int], room: int) -> None:
    bins = best_fit(range(len(lengths)), lengths, room)
    assert sorted(row for rows in bins for row in rows) == list(range(len(lengths)))
    assert all(sum(lengths[row] for row in rows) <= room for rows in bins)
    # Two bins that would fit into one were never opened by best fit.
    fill = sorted(sum(lengths[row] for row in rows) for rows in bins)
    assert len(fill) == 1 or fill[0] + fill[1] > room


def test_best_fit_takes_the_tightest_place() -> None:
    assert best_fit([0, 1, 2, 3], [6, 5, 4, 5], 10) == [[0, 2], [1, 3]]


@given(LENGTHS, st.integers(1, 9), st.integers(0, 5))
def test_an_epoch_takes_every_row_once_in_the_seeds_order(
    lengths: list[int], batch_rows: int, seed: int
) -> None:
    steps = plan_steps(lengths, seed=seed, epochs=2, batch_rows=batch_rows)
    assert steps == plan_steps(lengths, seed=seed, epochs=2, batch_rows=batch_rows)
    for epoch in (0, 1):
        rows = [row for s in steps if epoch < s.epoch <= epoch + 1 for row in s.rows]
        assert sorted(rows) == list(range(len(lengths)))
    assert all(len(step.rows) <= batch_rows for step in steps)
    assert steps[-1].epoch == 2.0


@given(LENGTHS, st.integers(1, 200))
def test_token_batches_hold_as_many_rows_as_fit(lengths: list[int], tokens: int) -> None:
    steps = plan_steps(lengths, seed=0, epochs=1, batch_rows=1, batch_tokens=tokens)
    filled = [sum(lengths[row] for row in step.rows) for step in steps]
    assert all(n <= tokens or len(s.rows) == 1 for n, s in zip(filled, steps, strict=True))
    firsts = [lengths[step.rows[0]] for step in steps[1:]]
    assert all(n + first > tokens for n, first in zip(filled, firsts, strict=False))


def test_epochs_differ_in_order_and_max_steps_ends_the_plan() -> None:
    steps = plan_steps([5] * 40, seed=1, epochs=2, batch_rows=40)
    assert steps[0].rows != steps[1].rows
    assert plan_steps([5] * 40, seed=1, epochs=9, batch_rows=8, max_steps=7)[-1].epoch == 1.4


@pytest.fixture
def examples(tokenizer: Any, records: list[Record]) -> list[Example]:
    return Encoder(tokenizer, max_length=512).encode(records)[0]


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_packed_loss_and_gradients_equal_transformers_on_single_rows(
    model: Any, examples: list[Example], implementation: str
) -> None:
    packed_equals_transformers_on_single_rows(model, examples, implementation)


def relative(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    """The distance of two gradients over the length of one."""
    pairs = zip(ours, theirs, strict=True)
    apart = sum(float((a.double() - b.double()).square().sum()) for a, b in pairs)
    return float((apart / sum(float(b.double().square().sum()) for b in theirs)) ** 0.5)


@pytest.mark.parametrize("share", [False, True])
def test_packed_equals_unpacked_to_a_millionth(
    model: Any, examples: list[Example], share: bool
) -> None:
    """Loss and gradient of all parameters together, in float32, against one row a pass."""
    packed = summed_loss(model, lay_out(examples, share=share))
    together = gradients(model, packed)
    apart = sum((summed_loss(model, lay_out([e])) for e in examples), torch.zeros(()))
    assert packed.item() == pytest.approx(apart.item(), rel=1e-6)
    assert relative(together, gradients(model, apart)) < 1e-6


def test_a_filled_pass_gives_the_same_loss_and_gradient_in_a_fixed_shape(
    model: Any, examples: list[Example]
) -> None:
    plain = lay_out(examples)
    room = sum(plain.samples.lengths) + 700
    filled = lay_out(examples, fill=room, longest=256)
    other = lay_out(examples[:3], fill=room, longest=256)
    assert filled.input_ids.shape == other.input_ids.shape == (1, room)
    assert filled.samples.cumulative.shape == other.samples.cumulative.shape
    assert filled.samples.longest == other.samples.longest == 256
    assert int(filled.samples.cumulative[-1]) == room
    assert max(filled.samples.lengths) <= 256
    assert filled.targets.tolist() == plain.targets.tolist()
    ours, theirs = summed_loss(model, filled), summed_loss(model, plain)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert relative(gradients(model, ours), gradients(model, theirs)) < 1e-6


def test_another_sample_in_the_same_pass_changes_no_logit(
    model: Any, examples: list[Example]
) -> None:
    def logits(*samples: Example) -> torch.Tensor:
        batch = lay_out(samples, share=True)
        made: torch.Tensor = model(
            input_ids=batch.input_ids, position_ids=batch.position_ids, samples=batch.samples
        ).logits[0]
        return batch.of_samples(made)

    first, second, third = examples[0], examples[4], examples[5]
    n = len(first.input_ids)
    torch.testing.assert_close(logits(second, first)[-n:], logits(third, first)[-n:])
    torch.testing.assert_close(logits(first, third)[:n], logits(first)[0:n])
    assert not torch.allclose(logits(first)[1], logits(third)[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_equals_one_masked_call(dtype: torch.dtype) -> None:
    """Against SDPA under a block-diagonal causal mask, with grouped heads and autocast."""
    torch.manual_seed(0)
    lengths = [3, 1, 7, 5]
    ids = [0] * 3 + [1] + [2] * 7 + [3] * 5
    batch = lay_out(
        [Example("", torch.arange(n, dtype=torch.int32).numpy(), ((n - 1, n),), 1) for n in lengths]
    )
    query = torch.randn(1, 4, 16, 8)
    key, value = torch.randn(2, 1, 2, 16, 8)
    block = torch.tensor(ids)[:, None] == torch.tensor(ids)[None]
    masked = torch.nn.functional.scaled_dot_product_attention(
        query,
        key.repeat_interleave(2, 1),
        value.repeat_interleave(2, 1),
        attn_mask=block.tril(),
        scale=0.3,
    )
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        ours, _ = packed_attention(
            torch.nn.Module(), query, key, value, None, samples=batch.samples, scaling=0.3
        )
    assert ours.dtype == dtype
    tolerance = 1e-5 if dtype == torch.float32 else 3e-2
    torch.testing.assert_close(ours.float(), masked.transpose(1, 2), rtol=0, atol=tolerance)


def test_evaluation_is_the_mean_over_tokens_whatever_the_passes(
    model: Any, examples: list[Example]
) -> None:
    total = sum(plain_loss(model, e).item() for e in examples)
    tokens = sum(e.supervised for e in examples)
    size = sum(e.response_bytes for e in examples)
    for room in (512, 2048):
        found = evaluate(model, examples, tokens_per_forward=room)
        assert found.tokens == tokens
        assert found.loss == pytest.approx(total / tokens, rel=1e-5)
        assert found.bits_per_byte == pytest.approx(total / size / 0.6931471805599453, rel=1e-5)


def test_gradient_checkpointing_changes_no_gradient(model: Any, examples: list[Example]) -> None:
    from meadowlark.train.model import _recompute_activations

    batch = lay_out(examples, share=True)
    model.train()
    kept = gradients(model, summed_loss(model, batch))
    _recompute_activations(model)
    torch.testing.assert_close(gradients(model, summed_loss(model, batch)), kept)


settings.register_profile("train", deadline=None)
settings.load_profile("train")
