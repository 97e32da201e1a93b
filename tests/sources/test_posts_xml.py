"""Posts.xml in pieces: whatever the file holds, what expat alone makes of it."""

from __future__ import annotations

import io
from unittest import mock
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadowlark.errors import UserError
from meadowlark.sources import posts_xml
from meadowlark.sources.posts_xml import read_posts

HEAD = '\ufeff<?xml version="1.0" encoding="utf-8"?>\r\n<posts>\r\n'
BODIES = ["<p>My knee.</p>\n", "caf\u00e9 & \U0001f600", "<row Id='7'>", "a\tb\r\nc", "x" * 300, ""]
HOSTILE = [
    b"<!-- ", b" -->", b"<![CDATA[", b"]]>", b"<?pi ", b"?>", b"<row ", b'<row Id="8"/>',
    b'<row Id="9">', b"</row>", b"</posts>", b"<posts>", b"<posts ", b"<a>", b"</a>", b"/>", b'"',
    b"&", b"&#1;", b"&bogus;", b"<", b"\xff", b"\xed\xa0\x80", b"\x00", b"\r", b"\xc3", b"words ",
    b'<row xmlns="x" Id="3"/>', b'<row x:y="3" />', b"<p:row/>", b'<?xml version="1.0"?>',
    b'<!DOCTYPE posts [<!ENTITY a "b">]>', b"<posts><row Id='1'/>",
]  # fmt: skip


def read(text: bytes, piece: int) -> tuple[list[dict[str, str]], str]:
    """All rows, and the mistake that ended them."""
    found: list[dict[str, str]] = []
    with mock.patch.object(posts_xml, "PIECE", piece):
        try:
            for rows in read_posts(
                io.BytesIO(text), lambda posts: [dict(p.items()) for p in posts]
            ):
                found += rows
        except (ExpatError, ValueError, UserError) as error:
            return found, f"{type(error).__name__}: {error}"
    return found, ""


@st.composite
def dumps(draw: st.DrawFn) -> bytes:
    """A dump, or one that something was done to."""
    rows = draw(st.lists(st.sampled_from(BODIES), max_size=30))
    lines = [f"  <row Id={quoteattr(str(n))} Body={quoteattr(b)} />" for n, b in enumerate(rows)]
    end = draw(st.sampled_from(["\r\n", "\n", ""]))
    text = (HEAD + end.join(lines) + end + "</posts>\n").encode()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(HOSTILE)) + text[at:]
    return text[: draw(st.integers(0, len(text)))] if draw(st.booleans()) else text


@settings(max_examples=300, deadline=None)
@given(dumps(), st.integers(70, 900))
def test_pieces_give_what_expat_gives_and_name_the_same_place(text: bytes, piece: int) -> None:
    assert read(text, piece) == read(text, 1 << 20)


def test_a_plain_dump_is_not_left_to_expat() -> None:
    """Which is what makes it fast: expat sees the head and the last piece only."""
    rows = "".join(f'  <row Id="{n}" Body="&lt;p&gt;{n}" />\n' for n in range(500))
    seen = []
    parse = posts_xml._Rest.parse

    def spy(self: posts_xml._Rest, piece: bytes, *, last: bool = False) -> object:
        seen.append(len(piece))
        return parse(self, piece, last=last)

    with mock.patch.object(posts_xml._Rest, "parse", spy):
        found, mistake = read((HEAD + rows + "</posts>").encode(), 1000)
    assert [row["Id"] for row in found] == [str(n) for n in range(500)]
    assert not mistake
    assert max(seen) <= 1000


@pytest.mark.parametrize("lines", [0, 1, 70])
def test_a_mistake_is_counted_from_the_top_of_the_file(lines: int) -> None:
    rows = "".join(f'  <row Id="{n}" Body="\u00e9" />\n' for n in range(lines))
    found, mistake = read((HEAD + rows + '  \u00e9<row Id="1" Id="2"/></posts>').encode(), 200)
    assert len(found) == lines
    assert mistake == f"ExpatError: duplicate attribute: line {lines + 3}, column 15"


def test_a_row_without_end_is_held_no_longer_than_a_limit() -> None:
    """A dump that never has a second row is read by expat, as much at a time as it is given."""
    text = (HEAD + '<row Id="1" Body="' + "x" * 5000 + '" /></posts>').encode()
    with mock.patch.object(posts_xml, "LONGEST", 1000):
        assert read(text, 100) == ([{"Id": "1", "Body": "x" * 5000}], "")
