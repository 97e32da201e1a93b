"""Prompts begin alike: what several samples of a pass have in common is computed once.

Every row of a data set starts with the template's primer, most with the same instruction besides:
52 of 190 tokens of the wikidoc rows. Their hidden states are the same in every sample, since a
token sees only what is before it, so one copy serves all that are alike up to there. Only attention
sees samples whole: there the common tokens' queries, keys and values are put before each sample's
own. Loss and gradients are those of whole samples (tested to 1e-6 for every family).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

LEAST, LEAST_SHARE = 16, 256
"""Tokens that a group must save, and one in how many of a pass; fewer are not worth their
bookkeeping. In passes of 16,384 tokens (wikidoc) four groups save 29 % and eight 30 %."""

Ids = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, slots=True)
class Shared:
    """Where the tokens of whole samples, one behind the other, are among those that are computed.

    ``spread`` (all tokens,) is each one's place among the computed; ``first`` (computed,) each
    computed one's first place among all, ``copies`` (further copies,) the other places there. Of
    each group of samples ``common`` (common tokens,) has the places among the computed,
    ``repeated`` (further samples, common tokens) the further copies' among all.
    """

    spread: torch.Tensor
    first: torch.Tensor
    copies: torch.Tensor
    common: tuple[torch.Tensor, ...]
    repeated: tuple[torch.Tensor, ...]


def common_parts(rows: Sequence[Ids]) -> list[tuple[list[int], int, int]]:
    """Groups of rows that are alike up to some token, and the tokens (from, to) to share by that.

    Groups lie in one another as rows do that begin alike, go on alike in smaller groups, and so on.
    A row's last token is never shared, so that every sample keeps one of its own.
    """
    least = max(LEAST, sum(map(len, rows)) // LEAST_SHARE)
    found = []
    todo = [(list(range(len(rows))), 0)]
    while todo:
        group, start = todo.pop()
        bound = min(len(rows[number]) for number in group) - 1
        some = np.stack([rows[number][start:bound] for number in group])
        apart = np.flatnonzero((some != some[0]).any(0))
        stop = start + int(apart[0]) if len(apart) else bound
        if (stop - start) * (len(group) - 1) >= least:
            found.append((group, start, stop))
        branches: dict[int, list[int]] = defaultdict(list)
        for number in group:
            if len(rows[number]) > stop + 1:
                branches[int(rows[number][stop])].append(number)
        todo += [(branch, stop) for branch in branches.values() if len(branch) > 1]
    return found


def find_shared(
    rows: Sequence[Ids], on: Callable[[npt.NDArray[Any]], torch.Tensor]
) -> Shared | None:
    """What of ``rows``, laid one behind the other, need not be computed again; None if nothing.

    ``on`` makes tensors.
    """
    found = common_parts(rows) if len(rows) > 1 else []
    if not found:
        return None
    starts = np.cumsum([0, *(len(row) for row in rows)])
    again = np.full(starts[-1], -1)  # for a further copy, the first one's place among all
    repeated = []
    for (one, *others), start, stop in found:
        part = np.arange(start, stop)
        repeated.append(starts[others][:, None] + part)
        again[repeated[-1]] = starts[one] + part
    computed = again < 0
    spread = np.cumsum(computed) - 1
    spread[~computed] = spread[again[~computed]]
    return Shared(
        on(spread),
        on(np.flatnonzero(computed)),
        on(np.flatnonzero(~computed)),
        tuple(on(spread[copies[0]]) for copies in repeated),
        tuple(on(copies) for copies in repeated),
    )


def why_not(model: nn.Module) -> str:
    """Why what samples begin with alike cannot be computed once; empty where it can.

    Dropout, in the model or in its adapter, is drawn for each sample anew.
    """
    told = dropout_of(model.config)
    layers = [n for n, m in model.named_modules() if isinstance(m, nn.Dropout) and m.p]
    if not told and not layers:
        return ""
    return f"dropout ({', '.join(told) or layers[0]}) is drawn for each row anew"


def dropout_of(config: Any) -> list[str]:
    """The settings by which a model's configuration asks for dropout."""
    settings: dict[str, Any] = config.to_dict()
    return [k for k, v in settings.items() if "drop" in k and isinstance(v, int | float) and v]


def whole_samples(tensor: torch.Tensor, shared: Shared) -> torch.Tensor:
    """(1, heads, computed, d) to (1, heads, all tokens, d)."""
    made: torch.Tensor = _Whole.apply(tensor.transpose(1, 2), shared)  # type: ignore[no-untyped-call]
    return made.transpose(1, 2)


def computed_tokens(tensor: torch.Tensor, shared: Shared | None) -> torch.Tensor:
    """(1, all tokens, heads, d) to (1, computed, heads, d)."""
    if shared is None:
        return tensor
    made: torch.Tensor = _Computed.apply(tensor, shared)  # type: ignore[no-untyped-call]
    return made


class _Whole(torch.autograd.Function):
    """An index_select whose gradient sums the copies in float32 and in a fixed order.

    Its own gradient would add them one by one in 16 bits, in the order in which a GPU comes to it.
    """

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, shared: Shared) -> torch.Tensor:
        ctx.shared = shared
        return tensor.index_select(1, shared.spread)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (by_all,) = gradients
        shared: Shared = ctx.shared
        made = by_all.index_select(1, shared.first)
        for common, repeated in zip(shared.common, shared.repeated, strict=True):
            further = by_all.index_select(1, repeated.flatten()).unflatten(1, repeated.shape)
            total = further.sum(1, dtype=torch.float32) + made.index_select(1, common)
            made.index_copy_(1, common, total.to(made.dtype))
        return made, None


class _Computed(torch.autograd.Function):
    """An index_select without copies, whose gradient is one too (its own adds token by token)."""

    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, shared: Shared) -> torch.Tensor:
        ctx.shared = shared
        return tensor.index_select(1, shared.first)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (by_computed,) = gradients
        shared: Shared = ctx.shared
        return by_computed.index_select(1, shared.spread).index_fill_(1, shared.copies, 0.0), None
