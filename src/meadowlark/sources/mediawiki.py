"""Pages of a MediaWiki site, from its XML export or as HTML, as Markdown under their titles.

Of a page the article's text stays, with headings, lists and paragraphs; menus, boxes, contents,
marks of references, files and (of an export) templates and tables go.
"""

from __future__ import annotations

import codecs
import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from meadowlark.errors import UserError
from meadowlark.records import Rejected
from meadowlark.sources.markdown import LONGEST, TooLong, to_markdown
from meadowlark.sources.raw import SHOWN, files, unreadable


def pages(raw: Path) -> Iterator[tuple[str, str] | Rejected]:
    """Title and text of every page; of an export, of its main pages that are no redirects."""
    if raw.is_file() and raw.suffix.lower() == ".xml":
        yield from _export(raw)
        return
    found = False
    for name, content in files(raw, (".html", ".htm")):
        found = True
        try:
            markup = _decoded(content)
        except (UnicodeDecodeError, LookupError) as error:
            yield unreadable("not UTF-8", f"{name}: {error}")
            continue
        title = re.search(r"<h1\b[^>]*>(.*?)</h1>|<title>(.*?)</title>", markup, re.S | re.I)
        shown = html.unescape(re.sub(r"<[^>]+>", "", (title[1] or title[2]) if title else name))
        try:
            page = to_markdown(_article(markup))
        except TooLong as error:
            yield unreadable("too long", f"{name}: {error}")
            continue
        yield re.split(r"\s+[-|]\s+wikidoc", shown.strip(), flags=re.I)[0], page
    if not found:
        raise UserError(f"{raw} holds no .html file; expected pages or a MediaWiki .xml export")


def _decoded(content: bytes) -> str:
    """A page's text, in the encoding that its mark or its head names, else in UTF-8."""
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16")
    named = _CHARSET.search(content[:4096])
    return content.decode(named[1].decode() if named else "utf-8").removeprefix("\ufeff")


_CHARSET = re.compile(rb"<meta\b[^>]*\bcharset\s*=\s*[\"']?([\w.:-]+)", re.I)
_ARTICLE = ("mw-parser-output", "mw-content-text", "bodyContent", "content")
"""Ids and classes of what holds a page's article, the innermost first."""
_AROUND = (
    "mw-editsection editsection toc reference references reflist mw-references-wrap navbox "
    "vertical-navbox infobox metadata ambox noprint catlinks printfooter siteSub contentSub "
    "jump-to-nav mw-jump-link thumb gallery"
).split()
"""Classes and ids of what MediaWiki and its editors put around and into an article's text."""


def _article(markup: str) -> str:
    """The article of a page as HTML: without menus, contents, marks of references and boxes."""
    if len(markup) > LONGEST:
        raise TooLong(f"{len(markup):,} characters of HTML, more than {LONGEST:,}")
    try:
        from lxml import etree
    except ImportError:
        raise UserError(
            "HTML is read with the package lxml: pip install 'meadowlark[sources]'"
        ) from None
    tree = etree.fromstring(_DECLARATION.sub("", markup), etree.HTMLParser())
    if tree is None:
        return ""
    held = (tree.xpath(f"//*[@id='{name}' or {_of_class(name)}]") for name in _ARTICLE)
    article = next((found[0] for found in held if found), tree)
    around = " or ".join(f"@id='{name}' or {_of_class(name)}" for name in _AROUND)
    for element in article.xpath(f".//*[{around}]"):
        parent = element.getparent()
        if parent is not None:  # nor within another that is gone
            _without(element)
    return str(etree.tostring(article, encoding="unicode", method="html", with_tail=False))


_DECLARATION = re.compile(r"\s*<\?xml\b[^>]*>")


def _of_class(name: str) -> str:
    return f"contains(concat(' ', normalize-space(@class), ' '), ' {name} ')"


def _without(element: Any) -> None:
    """Take an element out of its tree, but not the text behind it."""
    before, parent, tail = element.getprevious(), element.getparent(), element.tail or ""
    if before is not None:
        before.tail = (before.tail or "") + tail
    else:
        parent.text = (parent.text or "") + tail
    parent.remove(element)


def _export(raw: Path) -> Iterator[tuple[str, str] | Rejected]:
    seen = False
    root = None
    try:
        for event, element in ElementTree.iterparse(raw, ("start", "end")):
            root = element if root is None else root
            if _name(element) == "mediawiki":
                seen = True
            if event == "start" or _name(element) != "page":
                continue
            seen = True
            parts = {_name(each): each.text or "" for each in element.iter()}
            if parts.get("ns", "0") == "0" and "redirect" not in parts:
                title = parts.get("title", "").strip()
                yield (
                    (title, plain(parts.get("text", "")))
                    if title
                    else unreadable("page without a title", parts.get("text", "")[:SHOWN])
                )
            root.clear()  # and with it all pages that were read
    except ElementTree.ParseError as error:
        if not seen:
            raise UserError(f"{raw} is no readable MediaWiki export: {error}") from None
        yield unreadable("malformed XML", str(error))


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


_NOT_TEXT = {"ref", "table", "gallery", "references", "imagemap", "timeline", "score"}
_BLOCKS = {"div", "p", "center", "blockquote", "pre"}
_NO_LINK = re.compile(r"\s*(?:(?i:file|image|media|category)|[a-z]{2,3}(?:-[a-z]+)?)\s*:")
"""What begins the title of a link that shows nothing there: files, categories, other languages."""
_MARKS = {"li": "- ", "dt": "", "dd": ": "}
_SHOWN_AS = {"convert": (0, 1), "cvt": (0, 1), "nowrap": (0,), "nobr": (0,), "lang": (1,)}
"""Templates inside a sentence and which of their arguments they show: a dose must not go."""
_BEHAVIOUR = re.compile(r"__[A-Z]+__|~{3,5}")
_NESTED = re.compile(r"^((?:- +)+)- +", re.M)


def plain(wikitext: str) -> str:
    """Wikitext as Markdown: headings and lists stay; templates, tables, references and files go.

    A raised number keeps its mark (10^9), else it would be another number (109).
    """
    try:
        import mwparserfromhell
    except ImportError:
        raise UserError(
            "wikitext is read with the package mwparserfromhell: pip install 'meadowlark[sources]'"
        ) from None
    text = mwparserfromhell.nodes.Text  # as it is: a "#" in a string would be parsed as a list
    code = mwparserfromhell.parse(_BEHAVIOUR.sub("", wikitext))
    for template in code.filter_templates(recursive=False):
        shown = _SHOWN_AS.get(str(template.name).strip().lower(), ())
        held = [str(p.value).strip() for p in template.params if not p.showkey]
        code.replace(template, text(" ".join(held[n] for n in shown if n < len(held))))
    for link in code.filter_wikilinks(recursive=False):
        if _NO_LINK.match(str(link.title)):
            code.remove(link)
    for tag in code.filter_tags():
        name = str(tag.tag).strip().lower()
        try:
            if name in _NOT_TEXT:
                code.remove(tag)
            elif tag.wiki_markup and name in _MARKS:
                code.replace(tag, text(_MARKS[name]))
            elif name == "br":
                code.replace(tag, text("\n"))
            elif name == "nowiki":
                code.replace(tag, text(str(tag.contents)))
            elif name == "math":
                code.replace(tag, text(f"${str(tag.contents).strip()}$"))
            elif name == "sup" and re.search(r"[\d+\u2212-]", str(tag.contents)):
                tag.contents.insert(0, text("^"))
            elif name in _BLOCKS and not tag.wiki_markup:
                code.insert_before(tag, text("\n\n"))
                code.insert_after(tag, text("\n\n"))
        except ValueError:  # it was inside another that is gone
            continue
    for heading in code.filter_headings(recursive=False):
        code.replace(heading, text(f"{'#' * heading.level} {str(heading.title).strip()}"))
    made = str(code.strip_code(collapse=False)).replace("\u00a0", " ")
    made = re.sub(r"(?<=\S)[ \t]{2,}(?=\S)", " ", re.sub(r"^[ \t]+|^: *", "", made, flags=re.M))
    made = _NESTED.sub(lambda marks: "  " * marks[1].count("-") + "- ", made)
    made = re.sub(r"^( *)- +", r"\1- ", re.sub(r"(?<=\S) +: +", ": ", made), flags=re.M)
    return made.strip()
