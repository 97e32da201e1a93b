"""Who judges what, in which order, and which side stands first: drawn once, from the seed alone.

A share of the items goes to everybody, so that agreement can be told; the others are dealt out, one
person each. Each person's sides are balanced, and each shared item's sides are balanced over the
people, both to within one.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import NamedTuple


class Assigned(NamedTuple):
    """One item of one person: its place among all items, and whether side ``a`` stands first."""

    item: int
    a_first: bool


def shared_count(items: int, overlap: float) -> int:
    """How many of the items everybody gets: the share ``overlap``, rounded up."""
    return min(items, math.ceil(items * overlap - 1e-9))


def deal(items: int, people: Sequence[str], overlap: float, seed: int) -> dict[str, list[Assigned]]:
    """Each person's items in the order in which they are shown.

    The same seed, items and people give the same shares on any machine.
    """
    order = list(range(items))
    random.Random(f"{seed} items").shuffle(order)
    shared, rest = order[: shared_count(items, overlap)], order[shared_count(items, overlap) :]
    found: dict[str, list[Assigned]] = {}
    for number, person in enumerate(people):
        own = [*shared, *rest[number :: len(people)]]
        # Alternating along the shuffled items, and shifted by one from person to person.
        sides = [Assigned(item, (place + number) % 2 == 0) for place, item in enumerate(own)]
        random.Random(f"{seed} order {number} {person}").shuffle(sides)
        found[person] = sides
    return found
