"""Draws the lineage: runs and outside files as boxes in layers, an arrow for every input.

Layers are the longest path from the outside files; within a layer boxes stand below the middle of
what they were made from. Every run's box links to its entry in the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from meadowlark.report.content import plural, shorten
from meadowlark.report.lineage import Lineage, Source
from meadowlark.report.plots import label
from meadowlark.report.read import RunFolder

BOX_WIDTH, BOX_HEIGHT = 150, 62
GAP_X, GAP_Y = 16, 34


@dataclass(frozen=True)
class _Box:
    key: str
    node: RunFolder | Source
    layer: int


def lineage_graph(lineage: Lineage) -> Markup:
    """The graph as an SVG as wide as its widest layer; the page lets it scroll."""
    edges = sorted({(_key(link.origin), _key(link.run)) for link in lineage.links})
    layers = _layers(lineage, edges)
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
        f'style="min-width:{0.72 * width:.0f}px;max-width:{width:.0f}px" '
        f'viewBox="0 0 {width:g} {height:g}" xmlns="http://www.w3.org/2000/svg">'
        '<title id="lineage-t">From the files given to the scores: what was made from what</title>'
        f'<desc id="lineage-d">{escape(description)}</desc>' + "".join(body) + "</svg>"
    )


def _key(node: RunFolder | Source) -> str:
    if isinstance(node, RunFolder):
        return f"run {node.label}"
    return f"file {node.sha256 or node.path}"


def _name(node: RunFolder | Source) -> str:
    return f"{node.stage} {node.label}" if isinstance(node, RunFolder) else node.label


def _layers(lineage: Lineage, edges: Sequence[tuple[str, str]]) -> list[list[_Box]]:
    depth: dict[str, int] = {}
    for run in lineage.runs:
        above = [depth.get(start, 0) for start, end in edges if end == _key(run)]
        depth[_key(run)] = max(above, default=-1) + 1
    for source in lineage.sources:
        # A file from outside stands just above the first run that reads it.
        below = [depth[end] for start, end in edges if start == _key(source)]
        depth[_key(source)] = min(below, default=1) - 1
    lowest = min(depth.values(), default=0)
    boxes: list[list[_Box]] = [[] for _ in range(max(depth.values(), default=0) - lowest + 1)]
    nodes: list[RunFolder | Source] = [*lineage.sources, *lineage.runs]
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
        top, middle, bottom = node.stage, node.label, f"{node.sha256[:8]}{rows}"
        title, kind = f"{node.stage} {node.label}, SHA-256 {node.sha256}", "box run"
    else:
        top, middle, bottom = "file", node.label, node.sha256[:8]
        title, kind = f"{node.path}, SHA-256 {node.sha256}", "box file"
    body = (
        f"<g><title>{escape(title)}</title>"
        f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{BOX_WIDTH}" '
        f'height="{BOX_HEIGHT}" rx="4"/>'
        + label(x + 9, y + 18, top, "stage")
        + label(x + 9, y + 35, shorten(middle, 21))
        + label(x + 9, y + 52, shorten(bottom, 24), "small mono")
        + "</g>"
    )
    if isinstance(node, RunFolder):
        return f'<a href="#{escape(node.anchor)}">{body}</a>'
    return body
