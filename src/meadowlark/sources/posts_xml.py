"""The rows of a Posts.xml of any size, in order, parsed by several threads.

A dump is one flat list of rows. It is cut before rows, and libxml2 parses each piece by itself,
outside of Python's lock; what is wanted of the rows is taken there too, so that only it is handed
on. What is not of that plain form, be it another encoding, a comment or a piece that is no
well-formed list of rows, goes to expat from there to the end: it alone says what is malformed, and
where.
"""

from __future__ import annotations

import os
import re
import xml.parsers.expat as expat
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Generic, Protocol, TypeVar

import numpy as np

from meadowlark.errors import UserError

PIECE = 1 << 20
"""Bytes read at a time, and about as many parsed at a time."""
LONGEST = 1 << 24
"""Bytes without a row's beginning that are held while one is looked for."""
THREADS = 2
"""More parse faster than one thread takes what they parsed."""
_ROW = b"<row "
_END = ord("\n")
_HEAD = re.compile(
    rb'(?:\xef\xbb\xbf)?(?:<\?xml version="1\.0"(?: encoding="(?i:utf-8)")? ?\?>)?\s*<posts>\s*'
)

Taken = TypeVar("Taken")


class Post(Protocol):
    """The attributes of a ``<row>``: an element of lxml, or a dictionary."""

    def get(self, name: str, default: Any = None, /) -> Any:
        """The attribute's value, or the default where it is absent."""


Take = Callable[[Iterable[Post]], Taken]


class NoPosts(ValueError):
    """XML without a ``<posts>``."""


def read_posts(file: IO[bytes], take: Take[Taken]) -> Iterator[Taken]:
    """What ``take`` makes of all ``<row>`` within ``<posts>``, some hundreds at a time.

    ``take`` is called in several threads at once, and what it gives is never None. Raises
    ExpatError for malformed XML when all rows before it are out, :class:`NoPosts` at the end, and
    UserError for entities. Memory is that of a few pieces, whatever the file's size.
    """
    rest = _Rest(take)
    pieces = _pieces(file)
    head = next(pieces)
    yield from rest.parse(head)
    waiting: deque[tuple[bytes, Future[Taken | None]]] = deque()
    if _HEAD.fullmatch(head):
        with ThreadPoolExecutor(min(THREADS, len(os.sched_getaffinity(0))), "posts") as pool:
            for piece in pieces:
                waiting.append((piece, pool.submit(_parse, piece, take)))
                if len(waiting) > THREADS + 1 and not (yield from _plain(waiting, rest)):
                    break
            while waiting and (yield from _plain(waiting, rest)):
                pass
    for piece, _ in waiting:
        yield from rest.parse(piece)
    for piece in pieces:
        yield from rest.parse(piece)
    yield from rest.parse(b"", last=True)
    if not rest.found_posts:
        raise NoPosts("it holds no <posts>")


def _plain(
    waiting: deque[tuple[bytes, Future[Taken | None]]], rest: _Rest[Taken]
) -> Generator[Taken, None, bool]:
    """What was taken of the piece that waits longest; whether it was a plain list of rows."""
    piece, parsing = waiting[0]
    taken = parsing.result()
    if taken is None:
        return False
    waiting.popleft()
    rest.skip(piece)
    yield taken
    return True


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    """All of a file's bytes: what is before the first row, then pieces that each begin with one."""
    first = file.read(PIECE)
    cut = max(first.find(_ROW), 0)
    yield first[:cut]
    held = [memoryview(first)[cut:]]
    while chunk := file.read(PIECE):
        cut = chunk.rfind(_ROW)
        if cut < 0 and sum(map(len, held)) < LONGEST:
            held.append(memoryview(chunk))
            continue
        cut = max(cut, 0)
        yield b"".join([*held, memoryview(chunk)[:cut]])
        held = [memoryview(chunk)[cut:]]
    yield b"".join(held)


def _parse(piece: bytes, take: Take[Taken]) -> Taken | None:
    """What is taken of a piece's rows, or None where it is anything but a list of rows."""
    from lxml import etree

    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_blank_text=True, collect_ids=False
    )
    try:
        found = etree.fromstring(b"<posts>%b</posts>" % piece, parser)
    except etree.XMLSyntaxError:
        return None
    other = found.xpath("boolean(*[not(self::row) or *] | comment() | processing-instruction())")
    return None if other else take(found)


class _Rest(Generic[Taken]):
    """Expat over all that the threads did not read, with places as in the whole file."""

    def __init__(self, take: Take[Taken]) -> None:
        self._take = take
        self.found_posts = False
        self._rows: list[dict[str, str]] = []
        self._lines = self._column = 0
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EntityDeclHandler = _refuse_entities

    def _start(self, name: str, values: dict[str, str]) -> None:
        if name == "posts":
            self.found_posts = True
        elif name == "row" and self.found_posts:
            self._rows.append(values)

    def parse(self, piece: bytes, *, last: bool = False) -> Iterator[Taken]:
        """What is taken of the rows of the next piece, those before a mistake in it included."""
        malformed = None
        try:
            self._feed_skipped()
            self._parser.Parse(piece, last)
        except expat.ExpatError as error:
            malformed = error
        rows, self._rows = self._rows, []
        yield self._take(rows)
        if malformed is not None:
            raise malformed

    def skip(self, piece: bytes) -> None:
        """Count the lines of a well-formed piece that is not parsed here."""
        ends = int(np.count_nonzero(np.frombuffer(piece, np.uint8) == _END))
        if b"\r" in piece:
            ends += piece.count(b"\r") - piece.count(b"\r\n")
        line = piece[max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1 :]
        self._column = len(line.decode("utf-8", "replace")) + (0 if ends else self._column)
        self._lines += ends

    def _feed_skipped(self) -> None:
        """White space in place of what was skipped: mistakes are then counted from the top."""
        while self._lines:
            some = min(self._lines, PIECE)
            self._parser.Parse(b"\n" * some)
            self._lines -= some
        self._parser.Parse(b" " * self._column)
        self._column = 0


def _refuse_entities(*_: Any) -> None:
    raise UserError("the XML declares entities, which no dump does: it is not read")
