"""What rows begin with alike is computed once, and nothing else changes.

That it gives the loss and gradients of rows alone is shown for every family in
test_train_families.py, and for int8 and NF4 here.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_proofs import options

from meadowlark.records import Record
from meadowlark.train import log
from meadowlark.train.adapters import add_lora
from meadowlark.train.attention import use_packed_attention
from meadowlark.train.encode import Encoder, Example
from meadowlark.train.loss import evaluate, summed_loss
from meadowlark.train.model import _recompute_activations, load_model
from meadowlark.train.options import LoraOptions
from meadowlark.train.pack import Pass, lay_out
from meadowlark.train.prefix import LEAST, common_parts, why_not
from meadowlark.train.run import train


def loss_and_gradient(model: Any, *passes: Pass) -> tuple[float, torch.Tensor]:
    """Of all trained parameters together, in float64."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    loss = torch.stack([summed_loss(model, batch) for batch in passes]).sum()
    found = torch.autograd.grad(loss, trained)
    return loss.item(), torch.cat([gradient.double().flatten() for gradient in found])


def same(one: tuple[float, torch.Tensor], other: tuple[float, torch.Tensor]) -> None:
    assert one[0] == pytest.approx(other[0], rel=1e-6)
    assert float((one[1] - other[1]).norm() / other[1].norm()) < 1e-6


@pytest.fixture
def examples(tokenizer: Any, records: list[Record]) -> list[Example]:
    return Encoder(tokenizer, max_length=512).encode(records)[0]


@pytest.mark.parametrize("loss_on", ["response", "all"])
@pytest.mark.parametrize("recomputed", [False, True])
def test_shared_beginnings_give_the_loss_and_gradient_of_rows_alone(
    model: Any, tokenizer: Any, records: list[Record], loss_on: Any, recomputed: bool
) -> None:
    """With two groups, one in which a whole prompt is shared, and gradients by recomputation."""
    twice = [Record(r.instruction, r.input, r.output + " Rest.") for r in records[:3]]
    rows, _ = Encoder(tokenizer, max_length=512, loss_on=loss_on).encode([*records, *twice])
    batch = lay_out(rows, share=True)
    assert batch.input_ids.numel() < 0.8 * sum(batch.samples.lengths)
    alone = loss_and_gradient(model, *(lay_out([row]) for row in rows))
    if recomputed:
        _recompute_activations(model)
        model.train()
    same(loss_and_gradient(model, batch), alone)
    same(loss_and_gradient(model, lay_out(rows, share=False)), alone)


@pytest.mark.parametrize("kind", ["int8", "nf4"])
def test_quantised_bases_with_lora_share_too(
    kind: str, model: Any, tokenizer: Any, examples: list[Example], tmp_path: Path
) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from meadowlark.train.model import save_checkpoint

    save_checkpoint(model, tokenizer, tmp_path)
    quantised = load_model(tmp_path, "float32", kind)
    use_packed_attention(quantised, 512)
    tuned = add_lora(quantised, LoraOptions(), seed=0).train()
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    assert not why_not(tuned)
    alone = loss_and_gradient(tuned, *(lay_out([row]) for row in examples))
    same(loss_and_gradient(tuned, lay_out(examples, share=True)), alone)


def test_copies_gradients_are_summed_in_float32(model: Any, examples: list[Example]) -> None:
    """In bfloat16 the gradient stays as near to the true one as without sharing."""
    true = loss_and_gradient(model, lay_out(examples))[1]
    half = model.bfloat16()
    apart = [
        float((loss_and_gradient(half, lay_out(examples, share=share))[1] - true).norm())
        for share in (True, False)
    ]
    assert apart[0] < 1.2 * apart[1]


def test_rows_with_nothing_in_common_are_laid_out_as_before() -> None:
    rng = np.random.default_rng(0)
    rows = [
        Example(str(n), rng.integers(0, 99, 40).astype(np.int32), ((30, 40),), 10) for n in range(4)
    ]
    plain, shared = lay_out(rows), lay_out(rows, share=True)
    assert shared.samples.shared is None
    assert torch.equal(plain.input_ids, shared.input_ids)
    assert torch.equal(plain.predicting, shared.predicting)


def test_a_changed_token_of_the_common_beginning_reaches_every_sample(
    model: Any, examples: list[Example]
) -> None:
    """Else a sample's attention would have missed what it shares."""
    examples = examples[:6]
    batch = lay_out(examples, share=True)
    embeddings = model.get_input_embeddings()
    seen = embeddings(batch.input_ids).detach().requires_grad_()
    spread = batch.of_samples(torch.arange(batch.input_ids.numel()))
    for number, example in enumerate(examples):
        start = sum(e.supervised for e in examples[:number])
        some = batch.predicting[start : start + example.supervised]
        logits = model(
            inputs_embeds=seen,
            position_ids=batch.position_ids,
            logits_to_keep=some,
            samples=batch.samples,
            use_cache=False,
        ).logits
        (moved,) = torch.autograd.grad(logits.float().logsumexp(-1).sum(), seen)
        reached = {int(place) for place in moved[0].abs().sum(-1).nonzero().flatten()}
        first = sum(batch.samples.lengths[:number])
        own = {int(place) for place in spread[first : first + len(example.input_ids) - 1]}
        assert reached == own


def test_an_evaluation_is_the_same_to_a_millionth(model: Any, examples: list[Example]) -> None:
    shared, whole = (
        evaluate(model, examples, tokens_per_forward=2048, share=share) for share in (True, False)
    )
    assert shared.loss == pytest.approx(whole.loss, rel=1e-6)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=2 * LEAST), max_size=8))
def test_what_is_shared_is_alike_up_to_there_and_all_that_is_worth_it(
    rows: list[list[int]],
) -> None:
    found = common_parts([np.array(row) for row in rows]) if rows else []
    shared: set[tuple[int, int]] = set()
    for group, start, stop in found:
        assert len({tuple(rows[number][:stop]) for number in group}) == 1
        assert all(len(rows[number]) > stop for number in group)
        assert (stop - start) * (len(group) - 1) >= LEAST
        copies = {(number, place) for number in group for place in range(start, stop)}
        assert not copies & shared
        shared |= copies
    for number, row in enumerate(rows):
        for other in rows[:number]:
            alike = 0
            while alike < min(len(row), len(other)) - 1 and row[alike] == other[alike]:
                alike += 1
            # What two rows have in common and do not share is in parts that save less.
            missed = sum((number, place) not in shared for place in range(alike))
            assert missed < LEAST * max(len(rows), 1)


# --------------------------------------------------------------------------- a run


def test_a_run_learns_the_same_says_that_it_shares_and_counts_whole_rows(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from meadowlark.train import trainer

    told = options(mixed, optimiser={"max_steps": 6, "epochs": 2})
    sharing = train(told, tmp_path / "sharing").manifest.results
    monkeypatch.setattr(trainer, "why_not", lambda _: "a test")
    whole = train(told, tmp_path / "whole").manifest.results
    assert (sharing["shared_beginnings"], whole["shared_beginnings"]) == ("yes", "no: a test")
    ours, theirs = (log.read_log(tmp_path / out / log.NAME) for out in ("sharing", "whole"))
    assert [line["loss"] for line in ours if "loss" in line] == pytest.approx(
        [line["loss"] for line in theirs if "loss" in line], rel=1e-5
    )
    assert [line.get("tokens") for line in ours] == [line.get("tokens") for line in theirs]
    assert all(0.2 < line["shared"] < 0.8 for line in ours if "loss" in line)
    assert not any("shared" in line for line in theirs)


def test_dropout_is_drawn_for_each_row_so_that_nothing_is_shared(
    mixed: Path, tmp_path: Path, model: Any
) -> None:
    train(options(mixed, optimiser={"max_steps": 1}), tmp_path / "base")
    told = options(
        mixed,
        model={"base": str(tmp_path / "base")},
        lora={"rank": 2, "dropout": 0.1},
        optimiser={"max_steps": 1},
    )
    results = train(told, tmp_path / "out").manifest.results
    assert results["shared_beginnings"].startswith("no: dropout (")
    assert not any("shared" in line for line in log.read_log(tmp_path / "out" / log.NAME))
    assert not why_not(model)
    model.config.attention_dropout = 0.1
    assert "attention_dropout" in why_not(model)
