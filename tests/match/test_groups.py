"""Groups by equal keys: what a dictionary and a graph say."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from meadowlark.match.groups import first_of_same, joined


def test_first_of_same_is_what_a_dictionary_says() -> None:
    keys = np.random.default_rng(0).integers(4, size=(200, 2)).astype(np.uint64)
    first: dict[tuple[int, ...], int] = {}
    expected = [first.setdefault(tuple(key), i) for i, key in enumerate(keys.tolist())]
    assert first_of_same(keys).tolist() == expected


@given(st.data())
@settings(deadline=None)  # the first call compiles
def test_joined_rows_are_those_that_links_lead_to(data: st.DataObject) -> None:
    n = data.draw(st.integers(1, 20))
    links = [data.draw(st.lists(st.integers(0, n - 1), min_size=n, max_size=n)) for _ in range(2)]
    groups = [{i} for i in range(n)]
    for link in links:
        for a, b in enumerate(link):
            together = groups[a] | groups[b]
            for i in together:
                groups[i] = together
    found = joined(*(np.array(link, np.int64) for link in links))
    assert found.tolist() == [min(group) for group in groups]
