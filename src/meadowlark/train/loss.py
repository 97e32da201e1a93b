"""Negative log-likelihood of the supervised tokens, and nothing computed for the others.

The final hidden states are picked at the supervised positions before the output layer, so that
logits (by far the largest tensor) exist only where they count. The sum equals the usual shifted
cross-entropy with -100 labels (tested); who calls it divides by the tokens of the whole step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from meadowlark.train import parallel
from meadowlark.train.encode import Example
from meadowlark.train.pack import Pass, lay_out, passes_of


def summed_loss(model: Any, batch: Pass) -> torch.Tensor:
    """The sum over the pass's supervised tokens of -log p, in nats, as a float32 scalar."""
    logits = model(
        input_ids=batch.input_ids,
        position_ids=batch.position_ids,
        logits_to_keep=batch.predicting,
        samples=batch.samples,
        use_cache=False,
    ).logits
    return F.cross_entropy(logits[0].float(), batch.targets, reduction="sum")


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
) -> Evaluation:
    """Evaluate a model on encoded rows; draws no random number and leaves its mode as it was.

    Several processes share the rows, and each gets the whole result. ``lengths`` saves reading
    them.
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
        batch = lay_out(samples, device)
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            loss = float(summed_loss(model, batch))
        if counts:
            nats += loss
            tokens += sum(sample.supervised for sample in samples)
            size += sum(sample.response_bytes for sample in samples)
    model.train(training)
    return _rates(*parallel.summed(nats, tokens, size))
