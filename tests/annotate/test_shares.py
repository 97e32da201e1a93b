"""Shares are drawn from the seed alone, cover every item, and balance the sides."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadowlark.annotate.shares import deal, shared_count


@settings(max_examples=60, deadline=None)
@given(
    items=st.integers(1, 60), people=st.integers(1, 9), overlap=st.floats(0, 1), seed=st.integers()
)
def test_every_item_is_judged_and_sides_are_balanced(
    items: int, people: int, overlap: float, seed: int
) -> None:
    names = [f"p{n}" for n in range(people)]
    dealt = deal(items, names, overlap, seed)
    counts = Counter(one.item for own in dealt.values() for one in own)
    assert sorted(counts) == list(range(items))
    shared = shared_count(items, overlap)
    assert sorted(counts.values()) == sorted([people] * shared + [1] * (items - shared))
    sizes = [len(own) for own in dealt.values()]
    assert max(sizes) - min(sizes) <= 1
    for own in dealt.values():
        assert len({one.item for one in own}) == len(own)
        assert abs(2 * sum(one.a_first for one in own) - len(own)) <= 1
    for item, count in counts.items():
        first = sum(one.a_first for own in dealt.values() for one in own if one.item == item)
        assert abs(2 * first - count) <= 1


def test_the_same_seed_gives_the_same_order_and_another_seed_another() -> None:
    names = ["Ada", "Bo"]
    assert deal(40, names, 0.5, 7) == deal(40, names, 0.5, 7)
    assert deal(40, names, 0.5, 7) != deal(40, names, 0.5, 8)
    one, two = (
        [x.item for x in own if x.item in {y.item for y in deal(40, names, 1, 7)["Ada"]}]
        for own in deal(40, names, 1, 7).values()
    )
    assert one != two


@pytest.mark.parametrize(("overlap", "shared"), [(0, 0), (0.2, 2), (0.21, 3), (1, 10)])
def test_the_shared_part_is_rounded_up(overlap: float, shared: int) -> None:
    assert shared_count(10, overlap) == shared
