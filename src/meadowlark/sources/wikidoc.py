"""WikiDoc living textbook: paragraphs under headings, which a model turns into questions.

Raw form: a MediaWiki XML export, or a folder (or archive) of HTML pages. Each paragraph becomes the
answer to a question made from the page's title and its heading; ``rephrase --style heading`` has a
model write the question, as Medical Meadow's authors did.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from meadowlark.records import Record, Rejected
from meadowlark.sources.mediawiki import pages
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
    for page in pages(raw):
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
    if any(above.lower() in UNWANTED for above in path):
        return Rejected(record, "section of links", title)
    return record if len(body) >= SHORTEST else Rejected(record, "too short", title)


def _question(title: str, heading: str) -> str:
    """A plain question from page and heading, until a model writes a better one."""
    name = heading.lower() if heading[1:] == heading[1:].lower() else heading
    if name in ("overview", "definition", "introduction"):
        return f"What is {re.sub(' overview$', '', title)}?"  # WikiDoc's page "Asthma overview"
    return f"What should be known about {title}: {name}?"


def _sections(text: str) -> Iterator[tuple[list[str], str]]:
    """Each heading's path and the text under it, up to the next heading of any level."""
    path: list[tuple[int, str]] = []
    lines: list[str] = []
    for line in [*text.splitlines(), "# end"]:
        found = _HEADING.match(line)
        if found is None:
            if not line.strip() or not _NO_LINE.match(line):
                lines.append(line.rstrip())
            continue
        body = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
        if body:
            yield [name for _, name in path], body
        level = len(found[1])
        path = [each for each in path if each[0] < level] + [(level, found[2])]
        lines = []


_NO_LINE = re.compile(r"\W*(?:associate )?editors?(?:\(s\))?[- ]in[- ]chief\b|[\s;,.:*-]+$", re.I)
"""The line under the title of most of WikiDoc's pages, which names who wrote it; and what is left
of a line whose templates are gone."""


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
        "An export's tables are lost, and what its templates would have shown, but for units.",
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
