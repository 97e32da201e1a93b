"""The tensors of scoring given continuations: one row a prompt, every continuation behind it.

A row is padding, the prompt, then each continuation without its last token. Position ids go on
from the prompt for every continuation, and the attention mask hides the continuations from each
other, so one forward pass reads the prompt once (PEERS.md, section 3, "Speed"). What many prompts
begin with, such as worked examples, is read once for all of them (:class:`Shared`): its keys and
values stand before the padding of every row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch

FEWEST_SHARED = 16
"""Tokens that prompts must have in common before a pass of their own is worth it."""


@dataclass(frozen=True, slots=True)
class Query:
    """One prompt and its continuations as token ids; ``cut`` when the prompt lost its beginning."""

    prompt: list[int]
    choices: list[list[int]]
    cut: bool

    @property
    def region(self) -> int:
        """Positions the continuations take: each is fed without its last token."""
        return sum(len(c) - 1 for c in self.choices)

    @property
    def width(self) -> int:
        return len(self.prompt) + self.region


@dataclass(frozen=True, slots=True)
class Shared:
    """Tokens that prompts begin with, and their keys and values by layer, (1, heads, n, size)."""

    ids: list[int]
    layers: list[tuple[torch.Tensor, torch.Tensor]]

    def __len__(self) -> int:
        return len(self.ids)

    def begins(self, query: Query) -> bool:
        """Whether the query's prompt starts with these tokens and goes on."""
        return len(query.prompt) > len(self.ids) and query.prompt[: len(self.ids)] == self.ids

    def expanded(self, rows: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """The same for a batch, without a copy."""
        return [(k.expand(rows, -1, -1, -1), v.expand(rows, -1, -1, -1)) for k, v in self.layers]


def common_beginning(queries: Sequence[Query]) -> list[int]:
    """The tokens that all prompts begin with, each of them going on; [] where they are few.

    Prompts that lost their own beginning are left out of account.
    """
    prompts = [query.prompt for query in queries if not query.cut]
    if len(prompts) < 2:
        return []
    first, last = min(prompts), max(prompts)  # in their order the two that differ earliest
    same = sum(
        1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    )
    same = min(same, min(map(len, prompts)) - 1)
    return first[:same] if same >= FEWEST_SHARED else []


def append_choices(
    queries: Sequence[Query],
    ids: torch.Tensor,
    mask: torch.Tensor,
    positions: torch.Tensor,
    region: int,
    shared: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids and positions with the continuations behind the prompts, and a 4-D boolean mask.

    ``ids``, ``mask`` and ``positions`` are those of the prompts behind their ``shared`` first
    tokens, which every position sees.
    """
    width = ids.shape[1]
    tail = torch.zeros((len(queries), region), dtype=torch.long)
    tail_positions = torch.zeros_like(tail)
    segments = torch.full((len(queries), width + region), -1)
    segments[:, :width] = torch.where(mask.cpu() == 1, 0, -1)
    for row, query in enumerate(queries):
        start = 0
        for number, choice in enumerate(query.choices, start=1):
            fed = choice[:-1]
            end = start + len(fed)
            tail[row, start:end] = torch.tensor(fed, dtype=torch.long)
            tail_positions[row, start:end] = len(query.prompt) + torch.arange(len(fed))
            segments[row, width + start : width + end] = number
            start = end
    segments = segments.to(ids.device)
    keys, asking = segments[:, None, :], segments[:, :, None]
    seen = ((keys == 0) | (keys == asking)) & (keys >= 0)
    size = width + region
    causal = torch.ones((size, size), dtype=torch.bool, device=ids.device).tril()
    itself = torch.eye(size, dtype=torch.bool, device=ids.device)  # padding must see something
    allowed = (seen & causal) | itself
    if shared:
        before = torch.ones((1, 1, shared), dtype=torch.bool, device=ids.device)
        allowed = torch.cat([before.expand(len(queries), size, shared), allowed], dim=-1)
    return (
        torch.cat([ids, tail.to(ids.device)], dim=1),
        torch.cat([positions, tail_positions.to(ids.device)], dim=1),
        allowed[:, None],
    )


def likelihoods(query: Query, logits: torch.Tensor) -> list[float]:
    """Log-likelihoods from float32 logits of the prompt's last position and the continuations'."""
    where, tokens, start = [], [], 0
    for choice in query.choices:
        where += [0, *range(start + 1, start + len(choice))]
        tokens += choice
        start += len(choice) - 1
    rows = torch.tensor(where, device=logits.device)
    chosen = logits[rows, torch.tensor(tokens, device=logits.device)]
    values = (chosen - torch.logsumexp(logits, dim=-1)[rows]).double().tolist()
    sums, start = [], 0
    for choice in query.choices:
        sums.append(float(sum(values[start : start + len(choice)])))
        start += len(choice)
    return sums


def left_padded(
    rows: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids padded at the left with 0, and the mask that hides the padding."""
    width = max(len(row) for row in rows)
    ids = torch.tensor([[0] * (width - len(row)) + list(row) for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    return ids.to(device), mask.to(device)
