"""HTML as Markdown: paragraphs, code, lists, quotations and links stay readable, markup goes.

Parsing is lxml's, which reads any HTML; what Stack Exchange, Anki and wikis use of it is written as
CommonMark. Nesting deeper than :data:`DEEPEST` is flattened: such pages are broken or hostile.
"""

from __future__ import annotations

import html
import re
from typing import Any

from meadowlark.errors import UserError

DEEPEST = 60
LONGEST = 2_000_000
"""Characters of HTML that one text may have."""

_BLOCKS = {
    "p", "div", "section", "article", "main", "header", "footer", "center", "dl", "dt", "dd",
    "figure", "figcaption", "address", "details", "summary", "form", "fieldset", "tbody", "thead",
}  # fmt: skip
_DROPPED = {"script", "style", "noscript", "template", "head", "title", "svg", "iframe", "object"}
_MARKS = {"strong": "**", "b": "**", "em": "*", "i": "*", "del": "~~", "s": "~~", "strike": "~~"}
_PLAIN = re.compile(r"<(?:/?p|br ?/?)>|\n{2,}")
_TAG = re.compile(r"<(?!/?p>|br ?/?>)")
_SPACE = re.compile("[ \t\r\f\v\n\u00a0]+")
_RAGGED = re.compile("[\t\r\f\v\n\u00a0]|  ")
_GAPS = re.compile(r"[ \t]*\n(?:[ \t]*\n)+")


class TooLong(ValueError):
    """HTML above :data:`LONGEST` characters."""


def to_markdown(markup: str) -> str:
    """The text of some HTML as Markdown, without leading or trailing white space.

    Raises :class:`TooLong` for what no post or card can be.
    """
    if len(markup) > LONGEST:
        raise TooLong(f"{len(markup):,} characters of HTML, more than {LONGEST:,}")
    if "<" not in markup:
        return _SPACE.sub(" ", html.unescape(markup)).strip()
    if not _TAG.search(markup):
        paragraphs = (_SPACE.sub(" ", html.unescape(part)) for part in _PLAIN.split(markup))
        return "\n\n".join(part for text in paragraphs if (part := text.strip()))
    try:
        from lxml import etree
        from lxml import html as parser
    except ImportError:
        raise UserError(
            "HTML is read with the package lxml: pip install 'meadowlark[sources]'"
        ) from None
    try:
        tree = parser.fragment_fromstring(markup, create_parent="div")
    except (etree.ParserError, ValueError):
        return ""
    written = "".join(_block(tree, 0))
    return _GAPS.sub("\n\n", written).strip()


def _block(element: Any, depth: int) -> list[str]:
    """An element's content, with its inline parts joined and its blocks set apart."""
    made = [_words(element.text)]
    for child in element:
        made += _element(child, depth + 1)
        made.append(_words(child.tail))
    return made


def _words(text: str | None) -> str:
    """Text with every run of white space as one space; most has none to mend."""
    if not text:
        return ""
    return _SPACE.sub(" ", text) if _RAGGED.search(text) else text


def _element(element: Any, depth: int) -> list[str]:
    tag = element.tag
    if not isinstance(tag, str) or tag in _DROPPED:
        return []
    if depth > DEEPEST:
        return [_words("".join(element.itertext()))]
    if tag == "br":
        return ["\n"]
    if tag == "hr":
        return ["\n\n---\n\n"]
    if tag == "img":
        return [f"[image: {alt}]" if (alt := _words(element.get("alt")).strip()) else "[image]"]
    if tag == "pre":
        code = "".join(element.itertext()).strip("\n")
        fence = "`" * max(3, _run(code) + 1)
        return [f"\n\n{fence}\n{code}\n{fence}\n\n"]
    if tag in ("code", "kbd", "tt"):
        code = "".join(element.itertext())
        tick = "`" * (_run(code) + 1)
        return [f"{tick} {code} {tick}" if len(tick) > 1 else f"`{code}`"] if code else []
    if tag in ("ul", "ol"):
        inside = element.getparent().tag == "li"
        return ["\n" if inside else "\n\n", *_list(element, tag == "ol", depth), "\n"]
    if tag == "table":
        return ["\n\n", *_table(element), "\n"]
    inner = "".join(_block(element, depth))
    if tag in _MARKS:
        return [_marked(inner, _MARKS[tag])]
    if tag == "a":
        return [_link(inner, element.get("href") or "")]
    if tag in ("sub", "sup"):
        return [f"{'_' if tag == 'sub' else '^'}{inner}" if inner.strip() else inner]
    if tag == "blockquote":
        quoted = _GAPS.sub("\n\n", inner).strip().split("\n")
        return ["\n\n", "\n".join(f"> {line}".rstrip() for line in quoted), "\n\n"]
    if tag[0] == "h" and tag[1:].isdigit():
        return [f"\n\n{'#' * min(int(tag[1:]), 6)} {_words(inner).strip()}\n\n"]
    return ["\n\n", inner, "\n\n"] if tag in _BLOCKS else [inner]


def _run(code: str) -> int:
    """The longest run of backticks in some code."""
    return max(map(len, re.findall("`+", code)), default=0)


def _marked(inner: str, mark: str) -> str:
    """Emphasis, its white space put outside where Markdown wants it."""
    bare = inner.strip()
    if not bare or "\n\n" in bare:
        return inner
    start = inner[: len(inner) - len(inner.lstrip())]
    end = inner[len(inner.rstrip()) :]
    return f"{start}{mark}{bare}{mark}{end}"


def _link(inner: str, address: str) -> str:
    """A link with its address, unless the address is the text already or goes nowhere."""
    label = inner.strip()
    if not address.startswith(("http://", "https://")) or label == address:
        return inner
    if re.search(r"[()\s]", address):
        address = f"<{address}>"
    return f"[{label}]({address})" if label else ""


def _list(element: Any, numbered: bool, depth: int) -> list[str]:
    made, number = [], 0
    for item in element:
        if item.tag != "li":
            made += _element(item, depth + 1)
            continue
        number += 1
        head = f"{number}. " if numbered else "- "
        inner = _GAPS.sub("\n\n", "".join(_block(item, depth + 1))).strip()
        made.append(head + inner.replace("\n", "\n" + " " * len(head)) + "\n")
    return made


def _table(element: Any) -> list[str]:
    """Rows as lines of cells between bars, a rule under the first."""
    rows = [
        [
            _words("".join(_block(cell, DEEPEST))).strip().replace("|", "\\|")
            for cell in row
            if cell.tag in ("td", "th")
        ]
        for row in element.iter("tr")
    ]
    rows = [row for row in rows if row]
    if not rows:
        return []
    rule = ["---"] * len(rows[0])
    return [f"| {' | '.join(row)} |\n" for row in (rows[0], rule, *rows[1:])]
