"""HTML as Markdown: paragraphs, code, lists, quotations and links stay readable, markup goes.

Parsing is lxml's, which reads any HTML; what Stack Exchange, Anki and wikis use of it is written as
CommonMark. Nesting deeper than :data:`DEEPEST` is flattened: such pages are broken or hostile.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Callable
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
_APART = re.compile(r"[()\s]")
_WHOLE = re.compile(r"\s*<(?:html|!doctype)", re.IGNORECASE)
_TAG = re.compile(r"<(?!/?p>|br ?/?>)")
_WHITE = "\n\u00a0\t\r\f\v"
"""What is a space in HTML, beside the space itself, and the space that does not break."""
_SPACES = re.compile("  +")
_LINES = re.compile(r"\n(?:[ \t]*\n)+")
_TRAILING = re.compile(r"[ \t]+\n\n")


class TooLong(ValueError):
    """HTML above :data:`LONGEST` characters."""


def to_markdown(markup: str) -> str:
    """The text of some HTML as Markdown, without leading or trailing white space.

    Raises :class:`TooLong` for what no post or card can be.
    """
    if len(markup) > LONGEST:
        raise TooLong(f"{len(markup):,} characters of HTML, more than {LONGEST:,}")
    if "<" not in markup:
        return _words(html.unescape(markup)).strip()
    if not _TAG.search(markup):
        paragraphs = (_words(html.unescape(part)) for part in _PLAIN.split(markup))
        return "\n\n".join(part for text in paragraphs if (part := text.strip()))
    body = _parse(markup)
    return "" if body is None else _gaps(_inside(body, 0)).strip()


def _parse(markup: str) -> Any:
    """The element that holds all of some HTML, or None where there is nothing."""
    etree, parser = _parser()
    if not _WHOLE.match(markup):
        markup = f"<html><body>{markup}</body></html>"
    try:
        tree = etree.fromstring(markup, parser)
    except ValueError:  # bytes said to be in an encoding, which a text has no more
        return None
    return None if tree is None else tree.find("body")


@functools.cache
def _parser() -> tuple[Any, Any]:
    try:
        from lxml import etree
    except ImportError:
        raise UserError(
            "HTML is read with the package lxml: pip install 'meadowlark[sources]'"
        ) from None
    return etree, etree.HTMLParser(remove_comments=True, remove_pis=True)


def _inside(element: Any, depth: int) -> str:
    """An element's content, with its inline parts joined and its blocks set apart."""
    if not len(element):
        return _words(element.text)
    made: list[str] = []
    _content(element, depth, made)
    return "".join(made)


def _content(element: Any, depth: int, made: list[str]) -> None:
    """Append an element's content to what is made."""
    if text := element.text:
        made.append(_words(text))
    depth += 1
    writers, other = (_WRITERS, _content) if depth <= DEEPEST else (_UNWRITTEN, _flat)
    for child in element:
        writers.get(child.tag, other)(child, depth, made)
        if text := child.tail:
            made.append(_words(text))


def _words(text: str | None) -> str:
    """Text with every run of white space as one space."""
    if not text:
        return ""
    if not text.isprintable():
        if text in ("\n\n", "\n"):  # what most often stands between two blocks
            return " "
        for white in _WHITE:
            if white in text:
                text = text.replace(white, " ")
    return _SPACES.sub(" ", text) if "  " in text else text


def _gaps(text: str) -> str:
    """Text with one empty line wherever there are some, and no white space before it."""
    if "\n\n\n" not in text and " \n" not in text and ("\t" not in text or "\t\n" not in text):
        return text
    text = _LINES.sub("\n\n", text)
    return _TRAILING.sub("\n\n", text)


def _gap(made: list[str]) -> None:
    """Append an empty line to what is made, as :func:`_gaps` would leave it."""
    while made and (last := made.pop()) != "\n\n":
        if last := last.rstrip(" \t\n"):
            made.append(last)
            break
    made.append("\n\n")


# ------------------------------------------------- elements, each appended to what is made


def _block(element: Any, depth: int, made: list[str]) -> None:
    _gap(made)
    if len(element):
        _content(element, depth, made)
        _gap(made)
    elif text := _words(element.text).rstrip(" "):
        made += (text, "\n\n")


def _flat(element: Any, depth: int, made: list[str]) -> None:
    made.append(_words(_text(element)))


def _dropped(element: Any, depth: int, made: list[str]) -> None:
    pass


def _break(element: Any, depth: int, made: list[str]) -> None:
    made.append("\n")


def _anchor(element: Any, depth: int, made: list[str]) -> None:
    made.append(_link(_inside(element, depth), element.get("href") or ""))


def _emphasis(element: Any, depth: int, made: list[str]) -> None:
    made.append(_marked(_inside(element, depth), _MARKS[element.tag]))


def _items(element: Any, depth: int, made: list[str]) -> None:
    if element.getparent().tag == "li":
        made.append("\n")
    else:
        _gap(made)
    _list(element, element.tag == "ol", depth, made)
    made.append("\n")


def _code(element: Any, depth: int, made: list[str]) -> None:
    if code := _text(element):
        tick = "`" * (_run(code) + 1)
        made.append(f"{tick} {code} {tick}" if len(tick) > 1 else f"`{code}`")


def _quotation(element: Any, depth: int, made: list[str]) -> None:
    quoted = _gaps(_inside(element, depth)).strip().split("\n")
    _gap(made)
    made += ("\n".join(f"> {line}".rstrip() for line in quoted), "\n\n")


def _verbatim(element: Any, depth: int, made: list[str]) -> None:
    code = _text(element).strip("\n")
    fence = "`" * max(3, _run(code) + 1)
    _gap(made)
    made += (f"{fence}\n{code}\n{fence}", "\n\n")


def _image(element: Any, depth: int, made: list[str]) -> None:
    alt = _words(element.get("alt")).strip()
    made.append(f"[image: {alt}]" if alt else "[image]")


def _rule(element: Any, depth: int, made: list[str]) -> None:
    _gap(made)
    made += ("---", "\n\n")


def _grid(element: Any, depth: int, made: list[str]) -> None:
    _gap(made)
    made += (*_table(element), "\n")


def _raised(element: Any, depth: int, made: list[str]) -> None:
    inner = _inside(element, depth)
    made.append(f"{'_' if element.tag == 'sub' else '^'}{inner}" if inner.strip() else inner)


def _heading(element: Any, depth: int, made: list[str]) -> None:
    title = _words(_inside(element, depth)).strip()
    _gap(made)
    made += (f"{'#' * min(int(element.tag[1:]), 6)} {title}".rstrip(), "\n\n")


_UNWRITTEN = dict.fromkeys(_DROPPED, _dropped)
_WRITERS: dict[str, Callable[[Any, int, list[str]], None]] = {
    **_UNWRITTEN,
    **dict.fromkeys(_BLOCKS, _block),
    **dict.fromkeys(_MARKS, _emphasis),
    **dict.fromkeys(("ul", "ol"), _items),
    **dict.fromkeys(("code", "kbd", "tt"), _code),
    **dict.fromkeys(("sub", "sup"), _raised),
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), _heading),
    "a": _anchor,
    "blockquote": _quotation,
    "br": _break,
    "hr": _rule,
    "img": _image,
    "pre": _verbatim,
    "table": _grid,
}
"""What writes an element, by its tag. Of any other the content is written."""


def _text(element: Any) -> str:
    """All text within an element as it stands."""
    return "".join(element.itertext()) if len(element) else element.text or ""


def _run(code: str) -> int:
    """The longest run of backticks in some code."""
    return max(map(len, re.findall("`+", code))) if "`" in code else 0


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
    if _APART.search(address):
        address = f"<{address}>"
    return f"[{label}]({address})" if label else ""


def _list(element: Any, numbered: bool, depth: int, made: list[str]) -> None:
    number = 0
    for item in element:
        if item.tag != "li":
            _WRITERS.get(item.tag, _content)(item, depth + 1, made)
            continue
        number += 1
        head = f"{number}. " if numbered else "- "
        inner = _gaps(_inside(item, depth + 1)).strip()
        made += (head, inner.replace("\n", "\n" + " " * len(head)), "\n")


def _table(element: Any) -> list[str]:
    """Rows as lines of cells between bars, a rule under the first."""
    rows = [
        [
            _words(_inside(cell, DEEPEST)).strip().replace("|", "\\|")
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
