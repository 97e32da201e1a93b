"""The drawings: ticks on round numbers, points where the data are, texts escaped."""

import itertools
import json
import re
import shlex
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.dataset import Manifest
from meadowlark.report.commands import _broken
from meadowlark.report.content import Code, count, number, percent, short
from meadowlark.report.data import _verbs, entropy_bits, in_one_vocabulary, verb_noun_pairs
from meadowlark.report.examples import folded, pick
from meadowlark.report.plots import (
    Bars,
    Interval,
    Line,
    Reference,
    bar_plot,
    interval_plot,
    line_plot,
    share_plot,
    ticks,
)
from meadowlark.report.read import RunFolder
from meadowlark.report.training import thin


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_even_and_hold_the_data(low: float, span: float) -> None:
    found = ticks(low, low + span)
    assert found[0] <= low + 1e-6 * span
    assert found[-1] >= low + span - 1e-6 * span
    assert 2 <= len(found) <= 9
    steps = [b - a for a, b in itertools.pairwise(found)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-3)


def parsed(drawing: object) -> ElementTree.Element:
    """Every drawing must also be well-formed XML."""
    return ElementTree.fromstring(str(drawing))


def test_a_line_falls_where_its_values_fall() -> None:
    line = Line("loss <of> model", [(0, 4.0), (50, 3.0), (100, 2.0)])
    drawn = parsed(
        line_plot(
            "x", "T", "D", [line], x_label="step", y_label="nats", references=[Reference("b", 3.0)]
        )
    )
    space = "{http://www.w3.org/2000/svg}"
    (path,) = [p.get("points") for p in drawn.iter(f"{space}polyline")]
    points = [tuple(map(float, p.split(","))) for p in (path or "").split()]
    assert points[0][1] < points[1][1] < points[2][1]
    assert points[1][0] - points[0][0] == pytest.approx(points[2][0] - points[1][0])
    reference = [e for e in drawn.iter(f"{space}line") if e.get("class") == "reference"][-1]
    assert float(reference.get("y1") or 0) == pytest.approx(points[1][1])
    assert "loss <of> model" in "".join(drawn.itertext())


def test_an_interval_reaches_from_low_to_high_around_its_value() -> None:
    rows = [Interval("a", 0.5, 0.25, 0.75, "50 %"), Interval("b", 0.2, None, None, "20 %")]
    drawn = str(interval_plot("i", "T", "D", rows, x_label="%"))
    left, right = map(float, re.findall(r"M([\d.]+) \d+H([\d.]+)", drawn)[0])
    middle = float(re.findall(r'class="estimate" cx="([\d.]+)"', drawn)[0])
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert drawn.count("whisker") == 1
    parsed(drawn)


def test_bars_are_as_high_as_their_shares() -> None:
    drawn = parsed(
        bar_plot("b", "T", "D", ["A", "B"], [Bars("m", [1.0, 0.25])], x_label="x", y_label="y")
    )
    heights = [float(e.get("height") or 0) for e in drawn.iter() if e.get("class") == "s0 bar"]
    assert heights[-2] == pytest.approx(4 * heights[-1], rel=0.01)


def test_stacked_shares_fill_the_width() -> None:
    kinds = [("one", "s0 bar"), ("two", "tie"), ("never", "bad")]
    drawn = parsed(share_plot("s", "T", "D", [("row", [0.75, 0.25, 0.0])], kinds))
    assert "never" not in "".join(drawn.itertext())
    wide = [float(e.get("width") or 0) for e in drawn.iter() if e.get("height") == "24"]
    assert wide == pytest.approx([359, 119])


def test_a_thinned_curve_keeps_its_mean() -> None:
    points = [(float(i), float(i % 7)) for i in range(1000)]
    thinned, width = thin(points, 100)
    assert (len(thinned), width) == (100, 10)
    assert sum(y for _, y in thinned) / 100 == pytest.approx(sum(y for _, y in points) / 1000)
    assert thin([], 100)[0] == []


def test_entropy_of_four_equal_values_is_two_bits() -> None:
    from collections import Counter

    assert entropy_bits(Counter(a=5, b=5, c=5, d=5)) == pytest.approx(2.0)
    assert entropy_bits(Counter(a=5)) == 0.0


def test_picks_depend_on_seed_and_name_alone() -> None:
    rows = list(range(1000))
    assert pick(rows, 5, 1, "a") == pick(rows, 5, 1, "a")
    assert pick(rows, 5, 1, "a") != pick(rows, 5, 2, "a")
    assert pick(rows, 5, 1, "a") != pick(rows, 5, 1, "b")
    assert pick([1, 2], 5, 1, "a") == [1, 2]


def test_numbers_are_shown_for_people() -> None:
    assert count(1234567) == "1,234,567"
    assert count(None) == "–"
    assert percent(0.4125) == "41.2\u00a0%"
    assert number(-1.5) == "−1.50"
    assert short(float("nan")) == "–"
    assert short(True) == "yes"
    assert short(0.00002) == "2e-05"


def test_verb_noun_pairs_of_a_stats_file() -> None:
    pairs = [
        {"verb": "explain", "noun": "cause", "count": 12},
        {"verb": "list", "noun": "", "count": 4},
    ]
    empty = {"verb_noun": {"pairs": []}}
    stats = {"datasets": {"generated": {"verb_noun": {"pairs": pairs}}, "empty": empty}}
    assert verb_noun_pairs(stats) == {"generated": {"explain cause": 12, "list": 4}}
    assert verb_noun_pairs(None) == {}
    assert verb_noun_pairs([1]) == {}


def test_one_pair_is_told_by_the_table_and_not_drawn_as_whole_rings(tmp_path: Path) -> None:
    pairs = [{"verb": "answer", "noun": "question", "count": 30}]
    (tmp_path / "stats.json").write_text(
        json.dumps({"datasets": {"converted": {"rows": 30, "verb_noun": {"pairs": pairs}}}})
    )
    stats = RunFolder(tmp_path, Manifest("stats", {}), "stats")
    heading, table = _verbs([stats])
    assert (heading.kind, table.kind) == ("heading", "table")
    assert "one pair only" in table.caption


def test_what_is_folded_away_is_the_end_of_a_long_text_and_nothing_is_lost() -> None:
    long = "word " * 300
    shown, rest = folded(long)
    assert shown + rest == long
    assert 500 < len(shown) <= 600
    assert shown.endswith("word")
    assert folded("x" * 2000) == ("x" * 600, "x" * 1400)
    assert folded(long[:700]) == (long[:700], "")


def test_a_long_command_is_broken_before_its_options_and_inputs() -> None:
    short = "meadowlark mix a b --out c"
    assert _broken(short) == short
    inputs = [f"runs/{'x' * 30}-{n}" for n in range(3)]
    made = _broken(f"meadowlark mix {' '.join(inputs)} --val 0.1 --out c")
    assert made.splitlines() == [
        f"meadowlark mix {inputs[0]} \\", f"    {inputs[1]} \\", f"    {inputs[2]} \\",
        "    --val 0.1 \\", "    --out c",
    ]  # fmt: skip
    quoted = f"meadowlark stats '{' '.join(inputs)}' --out c"
    assert shlex.split(_broken(quoted).replace("\\\n", "")) == shlex.split(quoted)


def test_lines_of_code_say_which_hold_a_word_too_long_for_a_phone() -> None:
    code = Code(f"# from\n#   {'a' * 24}\n#     sha256 {'0' * 64}\n\nmeadowlark score x")
    assert code.lines == [
        ("# from", False),
        (f"#   {'a' * 24}", False),
        (f"#     sha256 {'0' * 64}", True),
        ("", False),
        ("meadowlark score x", False),
    ]


def test_labels_as_people_write_them_are_counted_in_one_vocabulary() -> None:
    from collections import Counter

    written = Counter({"Rewrite": 2, "Rewrites": 1, "rewriting": 4, "haiku": 1})
    assert in_one_vocabulary("type", written) == {"rewriting": 7, "haiku": 1}
    assert in_one_vocabulary("difficulty", Counter({"Level 4": 1, "4": 2})) == {"4": 3}
