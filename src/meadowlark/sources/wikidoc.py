"""WikiDoc living textbook: paragraphs under headings, which a model turns into questions.

Raw form: a MediaWiki XML export, or a folder (or archive) of HTML pages. Each paragraph becomes the
answer to a question made from the page's title and its heading; ``rephrase --style heading`` has a
model write the question, as Medical Meadow's authors did.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.markdown import TooLong, to_markdown
from meadowlark.sources.raw import files, unreadable
from meadowlark.sources.source import WORDING, HubSet, Source, instruction_rows

INSTRUCTION = {
    "ours": "Answer this medical question.",
    "published": "Answer this question truthfully",
}
SHORTEST = 40
"""Characters that a paragraph has at least: shorter ones are captions and lists of links."""
UNWANTED = {
    "references",
    "external links",
    "see also",
    "related chapters",
    "sources",
    "further reading",
    "bibliography",
    "gallery",
    "footnotes",
    "notes",
}
_HEADING = re.compile(r"^(#{1,6})\s+(.*?)\s*$")


def rows(raw: Path, wording: str = "ours") -> Iterator[Record | Rejected]:
    """One record a section that has text."""
    for page in _pages(raw):
        if isinstance(page, Rejected):
            yield page
            continue
        title, text = page
        found = False
        for path, body in _sections(text):
            found = True
            yield _row(title, path, body, wording)
        if not found:
            yield Rejected(SOURCE.record("", title, ""), "page without text", title)


def _row(title: str, path: list[str], body: str, wording: str) -> Record | Rejected:
    heading = path[-1] if path else "Overview"
    record = SOURCE.record(
        INSTRUCTION[wording],
        _question(title, heading),
        body,
        topic=title,
        heading=" > ".join(path),
        type="open Q&A",
        view="physician",
    )
    if heading.lower() in UNWANTED:
        return Rejected(record, "section of links", title)
    return record if len(body) >= SHORTEST else Rejected(record, "too short", title)


def _question(title: str, heading: str) -> str:
    """A plain question from page and heading, until a model writes a better one."""
    name = heading.lower() if heading[1:] == heading[1:].lower() else heading
    if name in ("overview", "definition", "introduction"):
        return f"What is {title}?"
    return f"What should be known about {title}: {name}?"


def _pages(raw: Path) -> Iterator[tuple[str, str] | Rejected]:
    """Title and text of every page; of an export, of its main pages that are no redirects."""
    if raw.is_file() and raw.suffix.lower() == ".xml":
        yield from _export(raw)
        return
    found = False
    for name, content in files(raw, (".html", ".htm")):
        found = True
        markup = content.decode("utf-8", "replace")
        title = re.search(r"<h1\b[^>]*>(.*?)</h1>|<title>(.*?)</title>", markup, re.S | re.I)
        shown = html.unescape(re.sub(r"<[^>]+>", "", (title[1] or title[2]) if title else name))
        body = re.search(r"<body\b.*", markup, re.S | re.I)
        try:
            page = to_markdown(body[0] if body else markup)
        except TooLong as error:
            yield unreadable("too long", f"{name}: {error}")
            continue
        yield re.split(r"\s+[-|]\s+wikidoc", shown.strip(), flags=re.I)[0], page
    if not found:
        raise UserError(f"{raw} holds no .html file; expected pages or a MediaWiki .xml export")


def _export(raw: Path) -> Iterator[tuple[str, str] | Rejected]:
    seen = False
    try:
        for _, element in ElementTree.iterparse(raw):
            if _name(element) == "mediawiki":
                seen = True
            if _name(element) != "page":
                continue
            seen = True
            parts = {_name(each): each for each in element.iter()}
            text = parts["text"].text if "text" in parts else ""
            if (parts["ns"].text if "ns" in parts else "0") == "0" and "redirect" not in parts:
                yield (parts["title"].text or "").strip(), plain(text or "")
            element.clear()
    except ElementTree.ParseError as error:
        if not seen:
            raise UserError(f"{raw} is no readable MediaWiki export: {error}") from None
        yield unreadable("malformed XML", str(error))


def _name(element: Any) -> str:
    return str(element.tag).rpartition("}")[2]


_NOT_TEXT = {"ref", "table", "gallery", "math", "references", "nowiki"}
_NO_LINK = ("file:", "image:", "category:")
_MARKS = {"li": "- ", "dt": "", "dd": ""}


def plain(wikitext: str) -> str:
    """Wikitext as Markdown: headings and lists stay; templates, tables, references and files go."""
    try:
        import mwparserfromhell
    except ImportError:
        raise UserError(
            "wikitext is read with the package mwparserfromhell: pip install 'meadowlark[sources]'"
        ) from None
    text = mwparserfromhell.nodes.Text  # as it is: a "#" in a string would be parsed as a list
    code = mwparserfromhell.parse(wikitext)
    for template in code.filter_templates(recursive=False):
        code.remove(template)
    for link in code.filter_wikilinks(recursive=False):
        if str(link.title).strip().lower().startswith(_NO_LINK):
            code.remove(link)
    for tag in code.filter_tags(recursive=False):
        name = str(tag.tag).strip().lower()
        if name in _NOT_TEXT:
            code.remove(tag)
        elif tag.wiki_markup and name in _MARKS:
            code.replace(tag, text(_MARKS[name]))
    for heading in code.filter_headings(recursive=False):
        code.replace(heading, text(f"{'#' * heading.level} {str(heading.title).strip()}"))
    return re.sub(r"^- +", "- ", str(code.strip_code()), flags=re.M)


def _sections(text: str) -> Iterator[tuple[list[str], str]]:
    """Each heading's path and the text under it, up to the next heading of any level."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    for line in [*text.splitlines(), "# end"]:
        found = _HEADING.match(line)
        if found is None:
            lines.append(line.rstrip())
            continue
        body = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
        if body:
            yield [name for _, name in path], body
        level = len(found[1])
        path = [each for each in path if each[0] < level] + [(level, found[2])]
        lines = []


SOURCE: Source = Source(
    name="wikidoc",
    title="WikiDoc living textbook",
    origin="wikidoc.org",
    licence="CC-BY-SA-3.0",
    obligations="Name WikiDoc; share what you make of it under the same licence. As far as known.",
    citation="Han et al. 2023, MedAlpaca, arXiv:2304.08247",
    raw="a MediaWiki .xml export, or a folder, .tar.gz or .zip of its pages as HTML",
    size="67,704 rows in the paper, 10,000 of them used and on the hub",
    rows=rows,
    verified="schema only, never run on real files",
    settings={"wording": WORDING},
    defects=(
        "Of the questions that a model made from headings the authors found 30 % unsatisfactory.",
        "Tables are lost.",
    ),
    hub=(
        HubSet(
            "medalpaca/medical_meadow_wikidoc",
            instruction_rows(lambda: SOURCE),
            revision="976bce16fd66f55e6828422b71249a7405a11aa4",
        ),
    ),
    signs=("<mediawiki",),
)
