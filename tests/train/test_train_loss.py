"""The loss in chunks is the loss: against F.cross_entropy over all logits at once."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from meadowlark.records import Record
from meadowlark.train.encode import Encoder
from meadowlark.train.loss import Learner, chunked_loss, learn_in_chunks, summed_loss, to_logits
from meadowlark.train.pack import Pass, lay_out

POSITIONS, WIDTH, VOCABULARY = 37, 24, 210


def plain(scores: torch.Tensor) -> torch.Tensor:
    return scores


def capped(scores: torch.Tensor) -> torch.Tensor:
    return torch.tanh(scores / 5.0) * 5.0


@pytest.fixture
def batch(tokenizer: Any, records: list[Record]) -> Pass:
    return lay_out(Encoder(tokenizer, max_length=512).encode(records)[0])


@torch.no_grad()
def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("chunk", [1, 10, 37, 1000])
@pytest.mark.parametrize("transform", [plain, capped])
@pytest.mark.parametrize("bias", [False, True])
def test_loss_and_gradients_equal_those_of_all_logits(
    chunk: int, transform: Any, bias: bool
) -> None:
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, VOCABULARY, bias=bias)
    hidden = torch.randn(POSITIONS, WIDTH, requires_grad=True)
    targets = torch.randint(VOCABULARY, (POSITIONS,))
    wanted = [hidden, *head.parameters()]
    whole = F.cross_entropy(transform(head(hidden)), targets, reduction="sum")
    parts = chunked_loss(hidden, targets, head, transform, chunk)
    assert relative(parts, whole) < 1e-6
    expected = torch.autograd.grad(3.0 * whole, wanted)
    for found, gradient in zip(torch.autograd.grad(3.0 * parts, wanted), expected, strict=True):
        assert relative(found, gradient) < 1e-6


def test_a_frozen_head_gets_no_gradient_and_evaluation_makes_none() -> None:
    torch.manual_seed(0)
    head = nn.Linear(WIDTH, VOCABULARY, bias=False).requires_grad_(False)
    hidden = torch.randn(POSITIONS, WIDTH, requires_grad=True)
    targets = torch.randint(VOCABULARY, (POSITIONS,))
    chunked_loss(hidden, targets, head, plain, 10).backward()
    assert hidden.grad is not None
    assert head.weight.grad is None
    head.requires_grad_(True)
    with torch.no_grad():
        assert not chunked_loss(hidden, targets, head, plain, 10).requires_grad


def test_never_more_logits_than_a_chunk_exist(model: Any, batch: Pass) -> None:
    """The head is asked for a chunk at a time, once, and only for supervised positions."""
    asked = []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _, inputs, __: asked.append(len(inputs[0])))
    learn_in_chunks(model)
    hidden = model.model(
        input_ids=batch.input_ids, position_ids=batch.position_ids, samples=batch.samples
    ).last_hidden_state[0]
    loss = chunked_loss(hidden[batch.predicting], batch.targets, head, plain, 100)
    loss.backward()
    assert max(asked) == 100
    assert sum(asked) == len(batch.targets)
    assert model.get_input_embeddings().weight.grad is not None


def test_a_half_precision_head_sums_in_float32(model: Any, batch: Pass) -> None:
    """Against float32 weights of the same values: what the head rounds, and no more."""
    exact = float(summed_loss(model, batch).detach())
    with torch.autocast("cpu", torch.bfloat16):
        loss = summed_loss(model, batch)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(exact, rel=2e-3)
    model.to(torch.bfloat16)
    loss = summed_loss(model, batch)
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(exact, rel=1e-2)


def test_the_family_is_still_itself(model: Any, batch: Pass) -> None:
    """Its name is saved, its own forward gives logits, and a second call changes nothing."""
    kind = type(model)
    learn_in_chunks(model)
    learner = type(model)
    learn_in_chunks(model)
    assert type(model) is learner
    assert issubclass(learner, (Learner, kind))
    assert learner.__name__ == kind.__name__
    assert model(input_ids=batch.input_ids[:, :4]).logits.shape == (1, 4, model.config.vocab_size)


def test_a_wrapped_model_is_called_once_through_its_wrapper(model: Any, batch: Pass) -> None:
    """As DDP needs it: one call, whose output is the loss; adapters inside."""
    from meadowlark.train.adapters import add_lora
    from meadowlark.train.options import LoraOptions

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module
            self.calls = 0

        def forward(self, **named: Any) -> Any:
            self.calls += 1
            return self.module(**named)

    bare = float(summed_loss(model, batch).detach())
    wrapped = Wrapper(add_lora(model, LoraOptions(), seed=0))
    loss = summed_loss(wrapped, batch)
    assert wrapped.calls == 1
    assert float(loss.detach()) == pytest.approx(bare, rel=1e-6)  # fresh adapters add nothing
    loss.backward()
    trained = [weight for weight in wrapped.parameters() if weight.requires_grad]
    assert all(weight.grad is not None for weight in trained)


def test_an_adapter_on_the_head_learns(model: Any, batch: Pass) -> None:
    from meadowlark.train.adapters import add_lora
    from meadowlark.train.options import LoraOptions

    adapted = add_lora(model, LoraOptions(targets=("lm_head",)), seed=0)
    summed_loss(adapted, batch).backward()
    learned = [name for name, weight in adapted.named_parameters() if weight.grad is not None]
    assert [name.split(".lm_head.")[1] for name in learned] == [
        "lora_A.default.weight",
        "lora_B.default.weight",
    ]


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("gemma2", {"final_logit_softcapping": 3.0, "head_dim": 8}),
        ("granite", {"logits_scaling": 4.0}),
        ("cohere", {"logit_scale": 0.25}),
    ],
)
def test_what_families_do_behind_the_head_is_done(kind: str, more: dict[str, Any]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind,
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        initializer_range=0.5,
        **more,
    )
    model = AutoModelForCausalLM.from_config(config)
    ids = torch.randint(VOCABULARY, (1, 20))
    with torch.no_grad():
        logits = model(input_ids=ids).logits
        hidden = model.model(input_ids=ids).last_hidden_state
        made = to_logits(model.config)(model.lm_head(hidden))
    torch.testing.assert_close(made, logits)
    assert relative(made, model.lm_head(hidden).detach()) > 0.05
