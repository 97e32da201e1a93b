"""AlpaCare's figure of verbs and their objects: an inner ring of verbs, an outer ring of nouns.

The angle is the number of rows; verbs go clockwise from the top, the most frequent first. Words
stand in every wedge that has room for them, so that colour only groups and nothing hangs on it;
what is too narrow for its word is in the table beside the figure.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from markupsafe import Markup, escape

from meadowlark.report.plots import SERIES, WIDTH

CENTRE = WIDTH / 2
HOLE, RIM, EDGE = 62.0, 148.0, 236.0
"""Radii: of the hole, between the rings, and of the whole."""
ROOM = 15.0
"""Units of arc that a word needs across."""
LETTER = 7.0
"""Roughly how wide a letter is."""


def sunburst(
    name: str, title: str, description: str, pairs: Mapping[str, Mapping[str, int]]
) -> Markup:
    """A drawing of ``pairs``, verb to noun to number of rows; at least one number is above 0."""
    verbs = {verb: sum(nouns.values()) for verb, nouns in pairs.items()}
    order = sorted((v for v in verbs if verbs[v]), key=lambda v: (-verbs[v], v))
    total = sum(verbs.values())
    body, turn = [], 0.0
    for place, verb in enumerate(order):
        kind = f"s{_colour(place, len(order))} wedge"
        share = verbs[verb] / total
        body.append(_wedge(turn, turn + share, HOLE, RIM, kind))
        body.append(_word(verb, turn, share, HOLE, RIM, "verb"))
        nouns = sorted(pairs[verb].items(), key=lambda pair: (-pair[1], pair[0]))
        for noun, n in nouns:
            body.append(_wedge(turn, turn + n / total, RIM, EDGE, f"{kind} outer"))
            body.append(_word(noun, turn, n / total, RIM, EDGE, ""))
            turn += n / total
    body.append(
        f'<text x="{CENTRE:g}" y="{CENTRE:g}" text-anchor="middle" class="halo verb">'
        f"{total:,}</text>"
        f'<text x="{CENTRE:g}" y="{CENTRE + 16:g}" text-anchor="middle" class="axis">rows</text>'
    )
    return Markup(
        f'<svg class="plot sunburst" role="img" aria-labelledby="{escape(name)}-t '
        f'{escape(name)}-d" viewBox="0 0 {WIDTH} {WIDTH}" xmlns="http://www.w3.org/2000/svg">'
        f'<title id="{escape(name)}-t">{escape(title)}</title>'
        f'<desc id="{escape(name)}-d">{escape(description)}</desc>'
    ) + Markup("".join(body) + "</svg>")


def _colour(place: int, wedges: int) -> int:
    """A colour that neither neighbour has, the first wedge being the last one's neighbour too."""
    colour = place % SERIES
    if place and place == wedges - 1 and colour == 0:
        return 2
    return colour


def _at(turn: float, radius: float) -> tuple[float, float]:
    angle = 2 * math.pi * turn
    return CENTRE + radius * math.sin(angle), CENTRE - radius * math.cos(angle)


def _wedge(begin: float, end: float, inner: float, outer: float, kind: str) -> str:
    """A piece of a ring; a whole one is two circles, the inner one cut out."""
    if end - begin > 0.999:
        round_ = "".join(
            f"M{CENTRE:g} {CENTRE - r:g}a{r:g} {r:g} 0 1 1 -.01 0Z" for r in (outer, inner)
        )
        return f'<path class="{kind}" fill-rule="evenodd" d="{round_}"/>'
    far = int(end - begin > 0.5)
    (a, b), (c, d) = _at(begin, outer), _at(end, outer)
    (e, f), (g, h) = _at(end, inner), _at(begin, inner)
    return (
        f'<path class="{kind}" d="M{a:.1f} {b:.1f}A{outer:g} {outer:g} 0 {far} 1 {c:.1f} {d:.1f}'
        f'L{e:.1f} {f:.1f}A{inner:g} {inner:g} 0 {far} 0 {g:.1f} {h:.1f}Z"/>'
    )


def _word(word: str, begin: float, share: float, inner: float, outer: float, kind: str) -> str:
    """A word along the radius of its wedge, readable from the left; empty where it has no room."""
    if 2 * math.pi * share * (inner + outer) / 2 < ROOM:
        return ""
    most = int((outer - inner - 10) / LETTER)
    shown = word if len(word) <= most else word[: most - 1] + "…"
    middle = begin + share / 2
    x, y = _at(middle, (inner + outer) / 2)
    degrees = 360 * middle - 90
    if middle % 1 > 0.5:
        degrees += 180
    if share > 0.2:  # wide enough for a level word
        degrees = 0.0
    classes = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" dy=".34em" text-anchor="middle"{classes} '
        f'transform="rotate({degrees:.1f} {x:.1f} {y:.1f})">{escape(shown)}</text>'
    )
