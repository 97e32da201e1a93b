"""Plots as inline SVG: lines, histograms, intervals, letter bars, stacked shares.

Written here rather than drawn by a plotting library, so that the page's own colours (light, dark,
print) and fonts apply, the core needs no extra package, and the same numbers give the same bytes.
Colours are Okabe and Ito's; a dash pattern, marker or printed number says the same without colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from meadowlark.report.content import number, percent

WIDTH = 480
SMALLEST_TOLD = 46
"""The width from which on a share has its per cent written on it."""
SERIES = 6
"""How many series have a colour and a dash pattern of their own."""


@dataclass(frozen=True)
class Line:
    """One series of a line plot: points in data units."""

    label: str
    points: Sequence[tuple[float, float]]
    markers: bool = False


@dataclass(frozen=True)
class Reference:
    """A horizontal line to compare with (a bigram model's loss, a chance level)."""

    label: str
    value: float


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % interval, where there is one. One that is ``apart`` (an average of
    the others) stands below a line."""

    label: str
    value: float
    low: float | None
    high: float | None
    shown: str
    apart: bool = False


@dataclass(frozen=True)
class Bars:
    """One group member of a bar plot: a value per category, in order (None: no bar), and with each
    value its interval, where there are any."""

    label: str
    values: Sequence[float | None]
    intervals: Sequence[tuple[float, float] | None] = ()


def svg(name: str, title: str, description: str, height: float, body: Sequence[str]) -> Markup:
    """A drawing of fixed proportions with a title and description for those who cannot see it."""
    return Markup(
        f'<svg class="plot" role="img" aria-labelledby="{escape(name)}-t {escape(name)}-d" '
        f'viewBox="0 0 {WIDTH} {height:g}" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{escape(name)}-t">{escape(title)}</title>'
        f'<desc id="{escape(name)}-d">{escape(description)}</desc>'
    ) + Markup("".join(body) + "</svg>")


def label(x: float, y: float, words: str, classes: str = "", anchor: str = "start") -> str:
    """A text element."""
    kind = f' class="{classes}"' if classes else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(words)}</text>'


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from at or below ``low`` to at or above ``high``."""
    span = max(high - low, 1e-12)
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if span / (m * power) <= wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def tick_label(value: float) -> str:
    """``12000`` as ``12k``, ``2.5`` as it is."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            scale = 1e3 if unit == "k" else size
            return f"{value / scale:g}{unit}"
    return f"{value:g}".replace("-", "−")


def _room(words: str) -> float:
    """Roughly how wide a text of 13 units is."""
    return 7.3 * len(words)


def _legend(labels: Sequence[tuple[str, str]], top: float) -> tuple[list[str], float]:
    """Samples and labels in as many rows as they need, and the height they take."""
    body, x, y = [], 0.0, top + 12
    for sample, words in labels:
        wide = 34 + _room(words) + 16
        if x and x + wide > WIDTH:
            x, y = 0.0, y + 20
        body.append(f'<g transform="translate({x:.1f} {y:.1f})">{sample}{label(34, 0, words)}</g>')
        x += wide
    return body, y - top + 8


def _line_sample(index: int, markers: bool) -> str:
    kind = f"s{index % SERIES}"
    dot = f'<circle class="{kind} dot" cx="14" cy="-4" r="3.5"/>' if markers else ""
    return f'<line class="{kind} line" x1="0" y1="-4" x2="28" y2="-4"/>{dot}'


RULE_SAMPLE = '<line class="reference" x1="0" y1="-4" x2="28" y2="-4"/>'


def _box_sample(kind: str) -> str:
    return f'<rect class="{kind}" x="8" y="-11" width="18" height="12"/>'


@dataclass(frozen=True)
class _Axes:
    """The plotting area, and where a data point lies in it."""

    left: float
    top: float
    right: float
    bottom: float
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        x_share = (x - self.x[0]) / ((self.x[1] - self.x[0]) or 1)
        y_share = (y - self.y[0]) / ((self.y[1] - self.y[0]) or 1)
        return (
            self.left + x_share * (self.right - self.left),
            self.bottom - y_share * (self.bottom - self.top),
        )


def _frame(
    axes: _Axes,
    x_ticks: Sequence[float],
    y_ticks: Sequence[float],
    x_label: str,
    y_label: str,
    y_text: Callable[[float], str] = tick_label,
) -> list[str]:
    body = [label(0, axes.top - 17, y_label, "axis")]
    for value in y_ticks:
        _, y = axes.at(axes.x[0], value)
        body.append(
            f'<line class="grid" x1="{axes.left}" y1="{y:.1f}" x2="{axes.right}" y2="{y:.1f}"/>'
        )
        body.append(label(axes.left - 7, y + 4.5, y_text(value), "tick", "end"))
    for value in x_ticks:
        if axes.x[0] <= value <= axes.x[1]:
            x, _ = axes.at(value, axes.y[0])
            body.append(
                f'<line class="rule" x1="{x:.1f}" y1="{axes.bottom}" '
                f'x2="{x:.1f}" y2="{axes.bottom + 5}"/>'
            )
            body.append(label(x, axes.bottom + 19, tick_label(value), "tick", "middle"))
    body.append(
        f'<line class="rule" x1="{axes.left}" y1="{axes.bottom}" '
        f'x2="{axes.right}" y2="{axes.bottom}"/>'
    )
    body.append(label(axes.right, axes.bottom + 39, x_label, "axis", "end"))
    return body


def line_plot(
    name: str,
    title: str,
    description: str,
    lines: Sequence[Line],
    *,
    x_label: str,
    y_label: str,
    references: Sequence[Reference] = (),
    from_zero: bool = False,
    y_text: Callable[[float], str] = tick_label,
) -> Markup:
    """Lines over one horizontal axis; at least one line has points."""
    points = [p for line in lines for p in line.points]
    values = [y for _, y in points] + [r.value for r in references]
    y_ticks = ticks(0 if from_zero else min(values), max(values))
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    samples = [(_line_sample(i, line.markers), line.label) for i, line in enumerate(lines)]
    samples += [(RULE_SAMPLE, r.label) for r in references]
    legend, taken = _legend(samples, 0)
    top = taken + 36
    axes = _Axes(46, top, WIDTH - 12, top + 220, (x_low, x_high), (y_ticks[0], y_ticks[-1]))
    body = legend + _frame(axes, ticks(x_low, x_high), y_ticks, x_label, y_label, y_text)
    for reference in references:
        _, y = axes.at(x_low, reference.value)
        body.append(
            f'<line class="reference" x1="{axes.left}" y1="{y:.1f}" '
            f'x2="{axes.right}" y2="{y:.1f}"/>'
        )
    for index, line in enumerate(lines):
        kind = f"s{index % SERIES}"
        places = [axes.at(x, y) for x, y in line.points]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        body.append(f'<polyline class="{kind} line" points="{path}"/>')
        if line.markers:
            body += [
                f'<circle class="{kind} dot" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>' for x, y in places
            ]
    return svg(name, title, description, top + 264, body)


def interval_plot(
    name: str,
    title: str,
    description: str,
    intervals: Sequence[Interval],
    *,
    x_label: str,
    references: Sequence[Reference] = (),
    as_percent: bool = True,
) -> Markup:
    """One row a value: its label and number above, its dot and 95 % interval below."""
    values = [v for i in intervals for v in (i.value, i.low, i.high) if v is not None]
    values += [r.value for r in references]
    low = min(0.0, *values) if min(values) >= 0 else min(values)
    x_ticks = ticks(low, max(values), 6)
    row, top = 46, 26 if references else 6
    bottom = top + row * len(intervals) + 2
    axes = _Axes(8, top, WIDTH - 14, bottom, (x_ticks[0], x_ticks[-1]), (0, 1))
    body = []
    for value in x_ticks:
        x, _ = axes.at(value, 0)
        body.append(f'<line class="grid" x1="{x:.1f}" y1="{top}" x2="{x:.1f}" y2="{bottom}"/>')
        words = f"{100 * value:g}".replace("-", "−") if as_percent else tick_label(value)
        body.append(label(x, bottom + 17, words, "tick", "middle"))
    for reference in references:
        x, _ = axes.at(reference.value, 0)
        body.append(
            f'<line class="reference" x1="{x:.1f}" y1="{top - 4}" x2="{x:.1f}" y2="{bottom}"/>'
        )
        near_edge = x + _room(reference.label) / 2 > WIDTH
        far_left = x < _room(reference.label) / 2
        anchor = "end" if near_edge else "start" if far_left else "middle"
        body.append(label(x, top - 10, reference.label, "axis", anchor))
    for index, one in enumerate(intervals):
        y = top + row * index + 32
        if one.apart and index and not intervals[index - 1].apart:
            line = f'x1="0" y1="{y - 30}" x2="{WIDTH}" y2="{y - 30}"'
            body.append(f'<line class="rule apart" {line}/>')
        body.append(label(8, y - 14, one.label, "halo"))
        body.append(label(WIDTH - 14, y - 14, one.shown, "halo tick", "end"))
        x, _ = axes.at(one.value, 0)
        if one.low is not None and one.high is not None:
            left, right = axes.at(one.low, 0)[0], axes.at(one.high, 0)[0]
            body.append(
                f'<path class="whisker" d="M{left:.1f} {y}H{right:.1f}M{left:.1f} {y - 5}v10'
                f'M{right:.1f} {y - 5}v10"/>'
            )
        body.append(f'<circle class="estimate" cx="{x:.1f}" cy="{y}" r="5"/>')
    body.append(
        f'<line class="rule" x1="{axes.left}" y1="{bottom}" x2="{axes.right}" y2="{bottom}"/>'
    )
    body.append(label(axes.right, bottom + 38, x_label, "axis", "end"))
    return svg(name, title, description, bottom + 44, body)


def bar_plot(
    name: str,
    title: str,
    description: str,
    categories: Sequence[str],
    groups: Sequence[Bars],
    *,
    x_label: str,
    y_label: str,
    reference: Reference | None = None,
    counts: Sequence[int] = (),
) -> Markup:
    """Grouped vertical bars of shares (0 to 1), each with its per cent above it.

    A bar with an interval has a whisker, and its per cent above that. ``reference`` is a level
    across the plot, named in the legend. ``counts`` are written below the categories, as the n
    of each.
    """
    told = [v for g in groups for v in g.values if v is not None]
    told += [i[1] for g in groups for i in g.intervals if i is not None]
    told += [reference.value] if reference is not None else []
    y_ticks = ticks(0, max(max(told, default=0), 0.1))
    samples = [(_box_sample(f"s{i % SERIES} bar"), g.label) for i, g in enumerate(groups)]
    if reference is not None:
        samples.append((RULE_SAMPLE, reference.label))
    legend, taken = _legend(samples, 0)
    top = taken + 40
    axes = _Axes(46, top, WIDTH - 8, top + 200, (0, len(categories)), (0, y_ticks[-1]))
    slot = (axes.right - axes.left) / max(len(categories), 1)
    names = [_two_lines(category, slot) for category in categories]
    below = 15 if any(second for _, second in names) else 0
    more = below + (15 if counts else 0)
    body = legend + _frame(axes, (), y_ticks, "", y_label, lambda v: f"{100 * v:g}")
    body.append(label(axes.right, axes.bottom + 38 + more, x_label, "axis", "end"))
    wide = min(34.0, 0.82 * slot / max(len(groups), 1))
    if reference is not None:
        _, y = axes.at(0, reference.value)
        body.append(
            f'<line class="reference" x1="{axes.left}" y1="{y:.1f}" x2="{axes.right}" '
            f'y2="{y:.1f}"/>'
        )
    for place, (first, second) in enumerate(names):
        middle = axes.left + slot * (place + 0.5)
        body.append(label(middle, axes.bottom + 19, first, "tick", "middle"))
        if second:
            body.append(label(middle, axes.bottom + 34, second, "tick", "middle"))
        if counts:
            n = f"n = {counts[place]:,}"
            body.append(label(middle, axes.bottom + 34 + below, n, "small", "middle"))
        for index, group in enumerate(groups):
            value = group.values[place]
            if value is None:
                continue
            x = middle + (index - len(groups) / 2) * wide
            _, y = axes.at(0, value)
            body.append(
                f'<rect class="s{index % SERIES} bar" x="{x + 0.8:.1f}" y="{y:.1f}" '
                f'width="{wide - 1.6:.1f}" height="{axes.bottom - y:.1f}"/>'
            )
            found = group.intervals[place] if place < len(group.intervals) else None
            if found is not None:
                centre = x + wide / 2
                (_, low), (_, high) = axes.at(0, found[0]), axes.at(0, found[1])
                body.append(
                    f'<path class="error" d="M{centre:.1f} {low:.1f}V{high:.1f}'
                    f'M{centre - 4:.1f} {low:.1f}h8M{centre - 4:.1f} {high:.1f}h8"/>'
                )
                y = min(y, high)
            if wide >= 20 and value > 0:
                words = number(100 * value, 0)
                body.append(label(x + wide / 2, y - 4, words, "small halo", "middle"))
    return svg(name, title, description, top + 246 + more, body)


def _two_lines(words: str, room: float) -> tuple[str, str]:
    """A category's name on one line, or broken near its middle where it is too wide."""
    room -= 8  # between neighbours
    if _room(words) <= room:
        return words, ""
    places = [i + 1 for i, c in enumerate(words[:-1]) if c in "- /"]
    at = min(places, key=lambda i: abs(i - len(words) / 2), default=0)
    most = max(4, int(room / _room("x")))
    if not at:
        return (words if len(words) <= most else words[: most - 1] + "…"), ""
    first, second = words[:at].strip(), words[at:].strip()
    return (
        first if len(first) <= most else first[: most - 1] + "…",
        second if len(second) <= most else second[: most - 1] + "…",
    )


def share_plot(
    name: str,
    title: str,
    description: str,
    rows: Sequence[tuple[str, Sequence[float]]],
    kinds: Sequence[tuple[str, str]],
    notes: Sequence[str] = (),
) -> Markup:
    """One stacked bar a row: shares (0 to 1) of ``kinds``, pairs of a name and a style class.

    A share too small for its per cent is told beside the row's name, after the row's ``notes``.
    """
    used = [i for i in range(len(kinds)) if any(shares[i] > 0 for _, shares in rows)]
    legend, taken = _legend([(_box_sample(kinds[i][1]), kinds[i][0]) for i in used], 0)
    body, y = list(legend), taken + 10
    for place, (words, shares) in enumerate(rows):
        body.append(label(0, y + 12, words))
        beside = [notes[place]] if place < len(notes) else []
        beside += [
            f"{kinds[i][0]} {percent(share)}"
            for i, share in enumerate(shares)
            if 0 < share * WIDTH <= SMALLEST_TOLD
        ]
        body.append(label(WIDTH, y + 12, "; ".join(beside), "halo tick", "end"))
        x = 0.0
        for index, share in enumerate(shares):
            wide = share * WIDTH
            if wide <= 0:
                continue
            body.append(
                f'<rect class="{kinds[index][1]}" x="{x:.1f}" y="{y + 19}" '
                f'width="{max(wide - 1, 0.5):.1f}" height="24"/>'
            )
            if wide > SMALLEST_TOLD:
                words = percent(share, 0)
                dark = "bar" in kinds[index][1] or kinds[index][1] == "bad"
                on = "on-bar" if dark else "on-grey"
                body.append(label(x + wide / 2, y + 36, words, on, "middle"))
            x += wide
        y += 58
    return svg(name, title, description, y, body)
