"""Rows that belong together because something of them is equal: keys come in, the first row of each
group comes out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from meadowlark.match.compiled import kernel


def first_of_same(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """For each row of ``keys`` (n, 2) the index of the first row with the same two numbers."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: equal rows stay in their order
    ordered = keys[order]
    starts = np.ones(len(keys), bool)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.empty(len(keys), np.int64)
    first[order] = order[np.flatnonzero(starts)][np.cumsum(starts) - 1]
    return first


def joined(*links: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row of each row's group, where every link (n,) ties row i to row ``link[i]``."""
    first = np.arange(len(links[0]))
    for link in links:
        _join(first, link)
    return first


@kernel
def _join(first: NDArray[np.int64], link: NDArray[np.int64]) -> None:
    for i in range(len(first)):
        a, b = root(first, i), root(first, link[i])
        first[max(a, b)] = min(a, b)
    for i in range(len(first)):
        first[i] = root(first, i)


@kernel
def root(first: NDArray[np.int64], i: int) -> int:
    """The first row of a row's group; the way there is shortened."""
    while first[i] != i:
        first[i] = first[first[i]]
        i = first[i]
    return i
