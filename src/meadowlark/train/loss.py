"""Negative log-likelihood of the supervised tokens, and nothing computed for the others.

Logits are by far the largest tensor of training, so they exist only for supervised positions and
only in chunks: each chunk's loss and gradients are worked out together, and the logits are gone
before the next. The sum equals the usual shifted cross-entropy with -100 labels (tested); who
calls it divides by the tokens of the whole step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from meadowlark.train import parallel
from meadowlark.train.encode import Example
from meadowlark.train.pack import Pass, lay_out, passes_of

CHUNK_LOGITS = 1 << 25
"""Logits that exist at a time: 128 MiB in float32, 1,048 positions of 32,000 tokens."""
SMALLEST_CHUNK = 256
"""Positions of a chunk whatever the vocabulary: else the head's weights are read too often."""


def summed_loss(model: Any, batch: Pass) -> torch.Tensor:
    """The sum over the pass's supervised tokens of -log p, in nats, as a float32 scalar.

    One call of ``model``, however it is wrapped (peft, DDP, shards): the innermost model makes the
    loss inside its own forward, as :func:`learn_in_chunks` says.
    """
    learn_in_chunks(model)
    loss: torch.Tensor = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        samples=batch.samples,
        use_cache=False,
        predicting=batch.predicting,
        targets=batch.targets,
    )
    return loss


class Learner:
    """What :func:`learn_in_chunks` adds to a causal language model's class.

    With ``targets`` (S,) a forward returns the summed loss of the positions ``predicting`` (S,)
    instead of logits; without, it is the model's own.
    """

    def forward(
        self,
        *arguments: Any,
        predicting: torch.Tensor | None = None,
        targets: torch.Tensor | None = None,
        **named: Any,
    ) -> Any:
        """The summed loss in nats, or what the model itself returns."""
        if targets is None:
            return super().forward(*arguments, **named)  # type: ignore[misc]
        model: Any = self
        hidden = model.base_model(*arguments, **named).last_hidden_state
        assert predicting is not None
        return chunked_loss(
            hidden[0].index_select(0, predicting),
            targets,
            model.get_output_embeddings(),
            to_logits(model.config),
        )


def learn_in_chunks(model: Any) -> None:
    """Make the causal language model inside ``model`` a :class:`Learner`; once is enough.

    To be called before anything keeps the model's bound ``forward`` (accelerate does).
    """
    while True:
        if hasattr(model, "get_base_model"):
            model = model.get_base_model()
        elif isinstance(getattr(model, "module", None), nn.Module):
            model = model.module
        else:
            break
    kind = type(model)
    if not issubclass(kind, Learner):
        # The name stays: it is saved as the checkpoint's architecture.
        model.__class__ = type(kind.__name__, (Learner, kind), {"__module__": kind.__module__})


def to_logits(config: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    """What a family does to the head's output before the softmax: Gemma caps it, others scale."""
    text = config.get_text_config()
    cap = getattr(text, "final_logit_softcapping", None)
    scale = getattr(text, "logit_scale", None) or 1.0
    scale /= getattr(text, "logits_scaling", None) or 1.0

    def transform(scores: torch.Tensor) -> torch.Tensor:
        scores = scores * scale if scale != 1.0 else scores
        return torch.tanh(scores / cap) * cap if cap else scores

    return transform


def chunked_loss(
    hidden: torch.Tensor,
    targets: torch.Tensor,
    head: nn.Module,
    transform: Callable[[torch.Tensor], torch.Tensor],
    chunk: int | None = None,
) -> torch.Tensor:
    """Summed cross-entropy of ``head(hidden)`` (S, width) against ``targets`` (S,), in chunks.

    ``head`` may be trained, frozen, tied, biased or hold an adapter. ``chunk`` is a number of
    positions.
    """
    trained: list[torch.Tensor] = []
    if torch.is_grad_enabled():
        trained = [weight for weight in head.parameters() if weight.requires_grad]
    if chunk is None:
        vocabulary = len(head.weight)  # type: ignore[arg-type]
        chunk = max(CHUNK_LOGITS // vocabulary, SMALLEST_CHUNK)

    def nats(some: torch.Tensor, their_targets: torch.Tensor) -> torch.Tensor:
        scores = head(some).float()
        return F.cross_entropy(transform(scores), their_targets, reduction="sum")

    loss: torch.Tensor = _Chunked.apply(nats, chunk, targets, hidden, *trained)  # type: ignore[no-untyped-call]
    return loss


class _Chunked(torch.autograd.Function):
    """A sum over chunks whose gradients are made with it, so that no chunk is kept or made twice.

    Second derivatives do not exist.
    """

    @staticmethod
    def forward(
        ctx: Any,
        nats: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
        chunk: int,
        targets: torch.Tensor,
        hidden: torch.Tensor,
        *trained: torch.Tensor,
    ) -> torch.Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        learning = any(ctx.needs_input_grad)
        by_hidden = torch.empty_like(hidden) if ctx.needs_input_grad[3] else None
        by_trained: list[torch.Tensor] = []
        for start in range(0, len(targets), chunk):
            part = slice(start, start + chunk)
            if not learning:
                total += nats(hidden[part], targets[part])
                continue
            with torch.enable_grad():
                some = hidden[part].detach().requires_grad_()
                loss = nats(some, targets[part])
                made, *others = torch.autograd.grad(loss, (some, *trained))
            total += loss.detach()
            if by_hidden is not None:
                by_hidden[part] = made
            if by_trained:
                torch._foreach_add_(by_trained, others)
            else:
                by_trained = others
        ctx.gradients = (by_hidden, *by_trained)
        return total

    @staticmethod
    def backward(ctx: Any, *outputs: Any) -> Any:
        (by_loss,) = outputs
        gradients = [g if g is None else g.mul_(by_loss) for g in ctx.gradients]
        del ctx.gradients
        return (None, None, None, *gradients)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well responses are predicted: nats a token, and bits a byte of the answers' text.

    Bits a byte count the end token's surprise but not its bytes, and do not depend on the
    tokenizer.
    """

    loss: float
    bits_per_byte: float
    tokens: int


def evaluation(nats: float, examples: Iterable[Example]) -> Evaluation:
    """The two rates for a summed surprise over ``examples``."""
    sizes = [(example.supervised, example.response_bytes) for example in examples]
    return _rates(nats, sum(tokens for tokens, _ in sizes), sum(size for _, size in sizes))


def _rates(nats: float, tokens: float, size: float) -> Evaluation:
    return Evaluation(nats / tokens, nats / math.log(2) / size, int(tokens))


@torch.no_grad()
def evaluate(
    model: Any,
    examples: Sequence[Example],
    *,
    tokens_per_forward: int,
    autocast: torch.dtype | None = None,
    lengths: Sequence[int] | None = None,
    share: bool = False,
) -> Evaluation:
    """Evaluate a model on encoded rows; draws no random number and leaves its mode as it was.

    Several processes share the rows, and each gets the whole result. ``lengths`` saves reading
    them; ``share`` is :func:`~meadowlark.train.pack.lay_out`'s.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    if lengths is None:
        lengths = [len(example.input_ids) for example in examples]
    passes = passes_of(
        range(len(examples)),
        lengths,
        tokens_per_forward,
        part=parallel.rank(),
        parts=parallel.world_size(),
    )
    nats, tokens, size = 0.0, 0, 0
    for rows, counts in passes:
        samples = [examples[row] for row in rows]
        batch = lay_out(samples, device, share=share)
        with (
            torch.autocast(
                device.type, autocast, enabled=autocast is not None, cache_enabled=False
            ),
            torch.compiler.set_stance("force_eager"),  # passes of every size are not worth it
        ):
            loss = float(summed_loss(model, batch))
        if counts:
            nats += loss
            tokens += sum(sample.supervised for sample in samples)
            size += sum(sample.response_bytes for sample in samples)
    model.train(training)
    return _rates(*parallel.summed(nats, tokens, size))
