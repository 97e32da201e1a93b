"""Which rows go into which optimiser step, and how they lie together in a forward pass.

An epoch is a permutation of the rows fixed by seed and epoch number; consecutive rows make a step;
a step's rows are packed into as few passes as fit (best fit, longest first). A pass is one line of
tokens without any padding, whose positions restart at every sample. So packing changes how a step
is computed, never which rows it averages over.
"""

from __future__ import annotations

import bisect
import functools
import heapq
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from meadowlark.train.encode import Example
from meadowlark.train.prefix import Shared, find_shared


@dataclass(frozen=True, slots=True)
class Step:
    """The rows of one optimiser step, and how many epochs are done after it."""

    rows: tuple[int, ...]
    epoch: float


def plan_steps(
    lengths: Sequence[int],
    *,
    seed: int,
    epochs: int,
    batch_rows: int,
    batch_tokens: int | None = None,
    max_steps: int | None = None,
) -> list[Step]:
    """All optimiser steps of a run, in order; the same for the same arguments on any machine.

    With ``batch_tokens`` a step takes rows while they fit into that many tokens, at least one.
    The last step of an epoch may be smaller; no step spans two epochs.
    """
    steps: list[Step] = []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
        start = 0
        while start < len(order):
            end = _end_of_step(order, start, lengths, batch_rows, batch_tokens)
            rows = tuple(int(row) for row in order[start:end])
            steps.append(Step(rows, epoch + end / len(order)))
            if len(steps) == max_steps:
                return steps
            start = end
    return steps


def _end_of_step(
    order: np.ndarray,
    start: int,
    lengths: Sequence[int],
    batch_rows: int,
    batch_tokens: int | None,
) -> int:
    if batch_tokens is None:
        return min(start + batch_rows, len(order))
    tokens, end = lengths[order[start]], start + 1
    while end < len(order) and tokens + lengths[order[end]] <= batch_tokens:
        tokens += lengths[order[end]]
        end += 1
    return end


def best_fit(rows: Sequence[int], lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Rows in bins of at most ``capacity`` tokens: longest first, each where it fits tightest.

    Every length must be within the capacity. Ties fall by row number, so the result is unique.
    """
    bins: list[list[int]] = []
    free: list[tuple[int, int]] = []  # (room left, bin), sorted
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        length = lengths[row]
        assert length <= capacity, "a row longer than a forward pass"
        place = bisect.bisect_left(free, (length, -1))
        if place == len(free):
            room, index = capacity, len(bins)
            bins.append([])
        else:
            room, index = free.pop(place)
        bins[index].append(row)
        bisect.insort(free, (room - length, index))
    return bins


def shares(rows: Sequence[int], lengths: Sequence[int], parts: int) -> list[list[int]]:
    """Rows divided among so many processes with about as many tokens each.

    Longest first, each to the process with the fewest tokens so far; the result is unique.
    """
    if parts == 1:
        return [list(rows)]
    divided: list[list[int]] = [[] for _ in range(parts)]
    load = [(0, part) for part in range(parts)]
    for row in sorted(rows, key=lambda row: (-lengths[row], row)):
        tokens, part = heapq.heappop(load)
        divided[part].append(row)
        heapq.heappush(load, (tokens + int(lengths[row]), part))
    return divided


def passes_of(
    rows: Sequence[int],
    lengths: Sequence[int],
    capacity: int,
    *,
    packing: bool = True,
    part: int = 0,
    parts: int = 1,
) -> list[tuple[list[int], bool]]:
    """One process's forward passes over its share of rows, as many as every other process has.

    Sharded models meet in every pass, so that a process with fewer of them goes over one row again:
    the flag says whether a pass counts.
    """
    made = []
    for share in shares(rows, lengths, parts):
        made.append(best_fit(share, lengths, capacity) if packing else [[row] for row in share])
    most = max(len(bins) for bins in made)
    own = [(bins, True) for bins in made[part]]
    return own + [([rows[0]], False)] * (most - len(own))


@dataclass(frozen=True, slots=True)
class Samples:
    """Where the samples of a pass begin and end: what attention needs to keep them apart.

    ``cumulative`` is int32 of shape (samples + 1,), as FlashAttention's ``cu_seqlens``. In a pass
    that was filled up to a fixed size so are ``cumulative`` (empty samples at the end) and
    ``longest`` (a bound), so that compiled layers are compiled once. ``shared`` says which of the
    samples' tokens the pass computes, where that is not all of them.
    """

    lengths: list[int]
    cumulative: torch.Tensor
    longest: int
    shared: Shared | None = None


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass over T tokens of whole samples, S of them supervised.

    What samples share at their beginning is there once, and predicts for each of them.

    ``input_ids`` and ``position_ids`` have shape (1, T); ``predicting`` (S,) are the positions
    whose next token is supervised, ``targets`` (S,) those tokens.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    predicting: torch.Tensor
    targets: torch.Tensor
    samples: Samples

    def of_samples(self, values: torch.Tensor) -> torch.Tensor:
        """What was computed for each token (T, ...), for every token of whole samples."""
        shared = self.samples.shared
        return values if shared is None else values[shared.spread]


SHORTEST = 16
"""Tokens a row of a filled pass has at least, on average; a pass of shorter ones is not fixed."""


def lay_out(
    examples: Sequence[Example],
    device: torch.device | str = "cpu",
    *,
    fill: int | None = None,
    longest: int | None = None,
    share: bool = False,
) -> Pass:
    """Samples one behind the other as the tensors of one forward pass.

    ``fill`` adds samples of which nothing is learned, of at most ``longest`` tokens, up to so many
    tokens in all. ``share`` computes once what samples begin with alike (``prefix``; for packed
    attention): the pass then has fewer tokens than ``samples``, which are the whole ones. A filled
    pass shares nothing.
    """
    lengths = [len(example.input_ids) for example in examples]
    ends = np.cumsum(lengths)
    supervised = np.concatenate(
        [
            end - length + example.positions()
            for example, length, end in zip(examples, lengths, ends, strict=True)
        ]
    )
    tokens = np.concatenate([example.input_ids for example in examples]).astype(np.int64)
    targets = tokens[supervised]
    longest_here = max(lengths)
    if fill is not None:
        longest_here = max(longest or fill, longest_here)
        while (room := fill - sum(lengths)) > 0:
            lengths.append(min(room, longest_here))
        tokens = np.concatenate([tokens, np.zeros(max(fill - len(tokens), 0), dtype=np.int64)])
    positions = np.concatenate([np.arange(length) for length in lengths])
    borders = [0, *np.cumsum(lengths).tolist()]
    if fill is not None:
        borders += [borders[-1]] * (fill // SHORTEST + 2 - len(borders))
    on = functools.partial(_on, device=device)
    shared = find_shared([e.input_ids for e in examples], on) if share and fill is None else None
    made = Pass(
        input_ids=on(tokens)[None],
        position_ids=on(positions)[None],
        predicting=on(supervised - 1),
        targets=on(targets),
        samples=Samples(lengths, on(np.array(borders, dtype=np.int32)), longest_here, shared),
    )
    if shared is None:
        return made
    return replace(
        made,
        input_ids=made.input_ids[:, shared.first],
        position_ids=made.position_ids[:, shared.first],
        predicting=shared.spread[made.predicting],
    )


def _on(values: np.ndarray, device: torch.device | str) -> torch.Tensor:
    """An array on a device; a GPU at work on the pass before this one is not waited for."""
    made = torch.from_numpy(np.ascontiguousarray(values))
    if torch.device(device).type != "cuda":
        return made
    return made.pin_memory().to(device, non_blocking=True)
