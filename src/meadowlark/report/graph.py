"""Draws the lineage: runs and outside files as boxes in layers, an arrow for every input.

Layers are the longest path from the outside files; within a layer boxes stand below the middle of
what they were made from. Many files that the same runs read share a box. Every run's box links to
its entry in the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from meadowlark.report.content import plural, shorten
from meadowlark.report.lineage import Lineage, Source
from meadowlark.report.plots import label
from meadowlark.report.read import RunFolder

BOX_WIDTH, BOX_HEIGHT = 166, 62
GAP_X, GAP_Y = 16, 34
DIGITS = 10
"""How many digits of a SHA-256 a page shows."""
MANY = 3
"""From so many files on that the same runs read, one box holds them."""


@dataclass(frozen=True)
class _Files:
    """Files from outside that the same runs read."""

    sources: tuple[Source, ...]


_Node = RunFolder | Source | _Files


@dataclass(frozen=True)
class _Box:
    key: str
    node: _Node
    layer: int


def lineage_graph(lineage: Lineage) -> Markup:
    """The graph as an SVG as wide as its widest layer; the page lets it scroll."""
    files = _files(lineage)
    held = {_key(source): _key(box) for box in files for source in _sources(box)}
    ends = {(_key(link.origin), _key(link.run)) for link in lineage.links}
    edges = sorted({(held.get(start, start), end) for start, end in ends})
    layers = _layers(files, lineage.runs, edges)
    columns = _columns(layers, edges)
    width = (max(columns.values()) + 1) * (BOX_WIDTH + GAP_X) - GAP_X + 2
    height = len(layers) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 2
    places = {
        box.key: (1 + columns[box.key] * (BOX_WIDTH + GAP_X), 1 + n * (BOX_HEIGHT + GAP_Y))
        for n, layer in enumerate(layers)
        for box in layer
    }
    body = [_arrow(places[start], places[end]) for start, end in edges]
    body += [_draw(box, places[box.key]) for layer in layers for box in layer]
    made = [f"{_name(link.run)} from {_name(link.origin)}" for link in lineage.links]
    description = "; ".join(dict.fromkeys(made)) or "runs without inputs"
    return Markup(
        f'<svg class="plot graph" role="img" aria-labelledby="lineage-t lineage-d" '
        f'style="min-width:{width:.0f}px;max-width:{width:.0f}px" '
        f'viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg">'
        '<title id="lineage-t">From the files given to the scores: what was made from what</title>'
        f'<desc id="lineage-d">{escape(description)}</desc>' + "".join(body) + "</svg>"
    )


def _key(node: _Node) -> str:
    if isinstance(node, RunFolder):
        return f"run {node.label}"
    if isinstance(node, _Files):
        return f"files from {_key(node.sources[0])}"
    return f"file {node.sha256 or node.path}"


def _sources(box: Source | _Files) -> tuple[Source, ...]:
    return box.sources if isinstance(box, _Files) else (box,)


def _files(lineage: Lineage) -> list[Source | _Files]:
    """The files from outside, those together that the same runs read where they are many."""
    readers: dict[str, set[str]] = {}
    for link in lineage.links:
        readers.setdefault(_key(link.origin), set()).add(link.run.label)
    groups: dict[frozenset[str], list[Source]] = {}
    for source in lineage.sources:
        groups.setdefault(frozenset(readers.get(_key(source), ())), []).append(source)
    boxes: list[Source | _Files] = []
    for group in groups.values():
        boxes += [_Files(tuple(group))] if len(group) >= MANY else group
    return boxes


def _name(node: RunFolder | Source) -> str:
    return f"{node.stage} {node.label}" if isinstance(node, RunFolder) else node.label


def _layers(
    files: Sequence[Source | _Files], runs: Sequence[RunFolder], edges: Sequence[tuple[str, str]]
) -> list[list[_Box]]:
    depth: dict[str, int] = {}
    for run in runs:
        above = [depth.get(start, 0) for start, end in edges if end == _key(run)]
        depth[_key(run)] = max(above, default=-1) + 1
    for source in files:
        # A file from outside stands just above the first run that reads it.
        below = [depth[end] for start, end in edges if start == _key(source)]
        depth[_key(source)] = min(below, default=1) - 1
    lowest = min(depth.values(), default=0)
    boxes: list[list[_Box]] = [[] for _ in range(max(depth.values(), default=0) - lowest + 1)]
    nodes: list[_Node] = [*files, *runs]
    for node in nodes:
        layer = depth[_key(node)] - lowest
        boxes[layer].append(_Box(_key(node), node, layer))
    return [layer for layer in boxes if layer]


def _columns(
    layers: Sequence[Sequence[_Box]], edges: Sequence[tuple[str, str]]
) -> dict[str, float]:
    """The horizontal place of every box, in box widths: near its parents, none overlapping."""
    widest = max(len(layer) for layer in layers)
    place: dict[str, float] = {}
    for layer in layers:
        wish = {}
        for index, box in enumerate(layer):
            above = [place[start] for start, end in edges if end == box.key and start in place]
            fallback = index + (widest - len(layer)) / 2
            wish[box.key] = sum(above) / len(above) if above else fallback
        order = sorted(layer, key=lambda box: wish[box.key])
        taken: list[float] = []
        for box in order:
            taken.append(max(wish[box.key], taken[-1] + 1 if taken else 0.0))
        over = max(0.0, taken[-1] - (widest - 1))
        for index, box in enumerate(order):
            room_right = widest - 1 - (len(order) - 1 - index)
            place[box.key] = min(taken[index], room_right) if over else taken[index]
    return place


def _arrow(start: tuple[float, float], end: tuple[float, float]) -> str:
    x1, y1 = start[0] + BOX_WIDTH / 2, start[1] + BOX_HEIGHT
    x2, y2 = end[0] + BOX_WIDTH / 2, end[1]
    bend = GAP_Y * 0.7
    return (
        f'<path class="edge" d="M{x1:.1f} {y1:.1f}C{x1:.1f} {y1 + bend:.1f} '
        f'{x2:.1f} {y2 - bend:.1f} {x2:.1f} {y2 - 5:.1f}"/>'
        f'<path class="head" d="M{x2 - 4:.1f} {y2 - 7:.1f}L{x2:.1f} {y2:.1f}L{x2 + 4:.1f} '
        f'{y2 - 7:.1f}Z"/>'
    )


def _draw(box: _Box, place: tuple[float, float]) -> str:
    x, y = place
    node = box.node
    if isinstance(node, RunFolder):
        kept = node.manifest.rows.get("kept")
        rows = f" · {plural(kept, 'row')}" if isinstance(kept, int) else ""
        top, middle, bottom = node.stage, f"{node.label}/", f"{node.sha256[:DIGITS]}{rows}"
        title, kind = f"{node.stage} {node.label}, SHA-256 {node.sha256}", "box run"
    elif isinstance(node, _Files):
        top, middle, bottom = f"{len(node.sources)} files", node.sources[0].label, "and others"
        title = "; ".join(f"{one.path}, SHA-256 {one.sha256}" for one in node.sources)
        kind = "box file"
    else:
        top, middle, bottom = "file", node.label, node.sha256[:DIGITS]
        title, kind = f"{node.path}, SHA-256 {node.sha256}", "box file"
    body = (
        f"<g><title>{escape(title)}</title>"
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{BOX_WIDTH}" '
        f'height="{BOX_HEIGHT}" rx="4"/>'
        + label(x + 9, y + 18, top, "stage")
        + label(x + 9, y + 35, shorten(middle, 19))
        + label(x + 9, y + 52, shorten(bottom, 23), "small mono")
        + "</g>"
    )
    if isinstance(node, RunFolder):
        return f'<a href="#{escape(node.anchor)}">{body}</a>'
    return body
