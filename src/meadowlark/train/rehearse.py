"""The forward pass of a training tried out in small, on a few of its own rows.

A tiny model of the base's family with random weights goes through the very functions that training
uses: ``lay_out``, packed attention, ``summed_loss``. What comes out must be what transformers' own
model and loss give for each row alone. It takes less than a second and says in words what differs.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from meadowlark.errors import UserError
from meadowlark.train import attention, loss, pack
from meadowlark.train.encode import Example

ROWS = 6
LONGEST = 96
"""Tokens of a row that are taken: its beginning, some of its prompt, and what is learned first."""
TOLERANCE = 1e-3
HALF_TOLERANCE = 0.1
"""Differences allowed, in standard deviations of the logits, for 32 and for 16 bits: rounding stays
far below, and another row's tokens change logits by about one."""


class NotRehearsed(Exception):
    """No small model could be made of a configuration, or run; training may yet work."""


LAYOUT = "a forward pass is laid out wrongly"
SHIFT = "the loss is not that of the next tokens"
LEAK = "packed rows read each other"


def rehearse(
    config: PretrainedConfig, examples: Sequence[Example], max_length: int, *, packing: bool
) -> list[tuple[str, str]]:
    """What differs, by name and detail; empty where packed = alone = transformers' own.

    ``config`` is the base's. Raises UserError where its attention cannot be trained here, and
    :class:`NotRehearsed` where its family does not come that small.
    """
    examples = [_excerpt(e) for e in examples if e.spans and e.supervised]
    if not examples:
        return []
    faults = layout_faults(examples)
    if faults:
        return faults
    tokens = np.unique(np.concatenate([example.input_ids for example in examples]))
    own = [_renumbered(example, tokens) for example in examples]
    try:
        model = tiny_model(config, len(tokens))
        alone = copy.deepcopy(model)
        alone.set_attn_implementation("eager")
        attention.use_packed_attention(model, max_length)
        faults = loss_faults(model, alone, own)
        if packing and not faults:
            faults = isolation_faults(model, own)
            if torch.cuda.is_available():
                faults = faults or isolation_faults(model.to("cuda"), own, torch.bfloat16)
    except UserError:
        raise
    except Exception as error:  # what any of a hundred families may raise at sizes never meant
        raise NotRehearsed(f"a small {config.model_type} model fails: {error}") from error
    return faults


def layout_faults(examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Whether a pass over ``examples`` holds their tokens, positions and targets."""
    laid = pack.lay_out(examples, share=True)
    ids = np.concatenate([example.input_ids for example in examples])
    lengths = [len(example.input_ids) for example in examples]
    starts = np.cumsum([0, *lengths])
    faults = []

    def differs(what: str, found: torch.Tensor, expected: np.ndarray) -> None:
        if found.tolist() != expected.tolist():
            faults.append((LAYOUT, what))

    differs("tokens are not the rows'", laid.of_samples(laid.input_ids[0]), ids)
    differs(
        "positions do not restart at 0 with every row",
        laid.of_samples(laid.position_ids[0]),
        np.concatenate([np.arange(length) for length in lengths]),
    )
    differs("borders between rows are elsewhere", laid.samples.cumulative, starts)
    learned = np.concatenate(
        [
            start + np.arange(*span)
            for start, example in zip(starts, examples, strict=False)
            for span in example.spans
        ]
    )
    places = laid.of_samples(torch.arange(len(ids)))
    differs(
        "other positions are learned than the rows say",
        laid.predicting,
        places[learned - 1].numpy(),
    )
    differs(
        "a target is not the token behind the position that predicts it", laid.targets, ids[learned]
    )
    return faults


@torch.no_grad()
def loss_faults(model: Any, alone: Any, examples: Sequence[Example]) -> list[tuple[str, str]]:
    """Our loss of each row in a pass of its own, against transformers' with labels of -100."""
    for number, example in enumerate(examples, start=1):
        ours = float(loss.summed_loss(model, pack.lay_out([example])))
        theirs = float(plain_loss(alone, example))
        if not abs(ours - theirs) <= TOLERANCE * max(abs(theirs), 1.0):
            return [(SHIFT, f"row {number}: {ours:.4f} nats here, {theirs:.4f} by transformers")]
    return []


@torch.no_grad()
def isolation_faults(
    model: Any, examples: Sequence[Example], autocast: torch.dtype | None = None
) -> list[tuple[str, str]]:
    """The logits of rows packed into one pass, against those of each row alone."""
    device = next(model.parameters()).device
    tolerance = TOLERANCE if autocast is None else HALF_TOLERANCE

    def logits(rows: Sequence[Example]) -> torch.Tensor:
        batch = pack.lay_out(rows, device, share=True)
        with torch.autocast(device.type, autocast, enabled=autocast is not None):
            made: torch.Tensor = model(
                input_ids=batch.input_ids,
                position_ids=batch.position_ids,
                samples=batch.samples,
                use_cache=False,
            ).logits[0]
        return batch.of_samples(made).float()

    single = torch.cat([logits([example]) for example in examples])
    apart = float((logits(examples) - single).abs().max() / single.std())
    if apart <= tolerance:
        return []
    where = f" on {device.type}" if device.type != "cpu" else ""
    return [(LEAK, f"logits differ by {apart:.2g} standard deviations from those alone{where}")]


def plain_loss(model: Any, example: Example) -> torch.Tensor:
    """transformers' own loss of one row by itself: labels of -100 where nothing is learned, the
    mean it gives times the learned tokens."""
    ids = torch.tensor(example.input_ids.tolist(), device=next(model.parameters()).device)[None]
    labels = torch.full_like(ids, -100)
    for start, end in example.spans:
        labels[0, start:end] = ids[0, start:end]
    summed: torch.Tensor = model(input_ids=ids, labels=labels).loss * example.supervised
    return summed


def tiny_model(config: PretrainedConfig, vocabulary: int) -> Any:
    """A model of a configuration's family, two layers and 64 wide, with large random weights."""
    small: Any = copy.deepcopy(config.get_text_config())
    heads = 4
    queries = getattr(small, "num_attention_heads", heads)
    groups = queries // (getattr(small, "num_key_value_heads", None) or queries)
    kinds = list(dict.fromkeys(getattr(small, "layer_types", None) or []))
    changes = {
        "vocab_size": vocabulary,
        "hidden_size": 64,
        "word_embed_proj_dim": 64,
        "head_dim": 16,
        "num_attention_heads": heads,
        "num_key_value_heads": max(heads // max(groups, 1), 1),
        "intermediate_size": 96,
        "ffn_dim": 96,
        "num_hidden_layers": max(len(kinds), 2),
        "initializer_range": 0.3,
        "init_std": 0.3,
        "pad_token_id": None,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    for name, value in changes.items():
        if getattr(small, name, None) is not None:
            setattr(small, name, value)
    if kinds:
        small.layer_types = kinds if len(kinds) > 1 else kinds * 2
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            small, dtype=torch.float32, trust_remote_code=False
        )
    return model.eval()


def chosen(lengths: np.ndarray) -> list[int]:
    """A few rows of different lengths, short ones first, by number."""
    order = np.argsort(lengths, kind="stable")
    places = np.unique(np.linspace(0, len(order) - 1, ROWS).round().astype(int))
    return [int(order[place]) for place in places]


def _excerpt(example: Example) -> Example:
    """At most :data:`LONGEST` tokens of a row: its beginning, and around the first learned one."""
    ids = example.input_ids
    if len(ids) <= LONGEST:
        return example
    head = LONGEST // 3
    start = max(example.spans[0][0] - head, head)
    stop = start + LONGEST - head
    gone = start - head
    spans = [(a - gone, min(b, stop) - gone) for a, b in example.spans if a < stop]
    return Example(
        example.id,
        np.concatenate([ids[:head], ids[start:stop]]),
        tuple(spans),
        example.response_bytes,
    )


def _renumbered(example: Example, tokens: np.ndarray) -> Example:
    """The row with its tokens numbered by their place in ``tokens``, so that a vocabulary of only
    these will do."""
    ids = np.searchsorted(tokens, example.input_ids).astype(np.int32)
    return Example(example.id, ids, example.spans, example.response_bytes)
