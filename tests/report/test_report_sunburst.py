"""The rings of verbs and objects: angles are shares of rows, words stand where they have room."""

import math
import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.report.sunburst import CENTRE, EDGE, HOLE, RIM, sunburst

NAMES = st.text("abc<&", min_size=1, max_size=12)
PAIRS = st.dictionaries(
    NAMES, st.dictionaries(NAMES, st.integers(1, 1000), min_size=1, max_size=4), min_size=1,
    max_size=20,
)  # fmt: skip


def wedges(drawn: ElementTree.Element, outer: bool) -> list[tuple[str, float]]:
    """Class and share of each wedge of a ring, in order, from the ends of its outer arc."""
    found = []
    for path in drawn.iter("{http://www.w3.org/2000/svg}path"):
        kind, d = path.get("class") or "", path.get("d") or ""
        if ("outer" in kind) != outer:
            continue
        if path.get("fill-rule"):
            found.append((kind, 1.0))
            continue
        a, b, far, c, e = re.findall(r"^M([\d.]+) ([\d.]+)A.* 0 ([01]) 1 ([\d.]+) ([\d.]+)L", d)[0]
        turns = [
            math.atan2(float(x) - CENTRE, CENTRE - float(y)) / math.tau for x, y in ((a, b), (c, e))
        ]
        share = (turns[1] - turns[0]) % 1
        assert far == str(int(share > 0.5)) or abs(share - 0.5) < 0.01
        found.append((kind, share))
    return found


@given(PAIRS)
def test_every_angle_is_its_share_of_the_rows(pairs: dict[str, dict[str, int]]) -> None:
    drawn = ElementTree.fromstring(str(sunburst("v", "T", "D", pairs)))
    total = sum(sum(nouns.values()) for nouns in pairs.values())
    verbs = sorted((sum(nouns.values()) for nouns in pairs.values()), reverse=True)
    shares = [share for _, share in wedges(drawn, outer=False)]
    assert len(shares) == len(pairs)
    for share, verb in zip(shares, verbs, strict=True):
        assert min(abs(share - verb / total), 1 - abs(share - verb / total)) < 0.002
    assert len(wedges(drawn, outer=True)) == sum(len(nouns) for nouns in pairs.values())


@pytest.mark.parametrize("n", range(2, 21))
def test_no_two_neighbours_have_one_colour(n: int) -> None:
    drawn = ElementTree.fromstring(
        str(sunburst("v", "T", "D", {f"v{i:02}": {"n": 5} for i in range(n)}))
    )
    kinds = [kind for kind, _ in wedges(drawn, outer=False)]
    assert all(a != b for a, b in zip(kinds, kinds[1:] + kinds[:1], strict=True))


def test_words_stand_where_they_have_room_and_are_escaped() -> None:
    drawn = ElementTree.fromstring(
        str(sunburst("v", "T", "D", {"<explain>": {"cause": 960}, "list": {"sign": 40, "rare": 1}}))
    )
    words = [e.text for e in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert words == ["<explain>", "cause", "list", "sign", "1,001", "rows"]
    assert HOLE < RIM < EDGE < CENTRE
