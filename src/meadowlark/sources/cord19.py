"""CORD-19: abstracts of articles on COVID-19 and other coronaviruses, and their titles.

Raw form: metadata.csv of a release, 1,056,660 rows in the last. It is read by Arrow, a block at a
time, since it is 1.6 GB and Python's own reader alone takes seven microseconds a row.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.raw import SHOWN, text, unreadable
from meadowlark.sources.source import WORDING, Blocks, HubSet, Source

INSTRUCTION = {
    "ours": "Write the title of the article that this abstract belongs to.",
    "published": "Please summerize the given abstract to a title",
}
COLUMNS = ("cord_uid", "title", "abstract", "license")
BLOCK = 1 << 21
"""Bytes read at a time."""
_TEXTS = pa.schema([(name, pa.string()) for name in COLUMNS])


class Block(NamedTuple):
    """Some articles: the columns :data:`COLUMNS`, text or where they are not all UTF-8 bytes, the
    places of those whose id was seen before, and what could not be read as an article."""

    articles: pa.RecordBatch
    repeated: frozenset[int]
    unreadable: list[Rejected]


def read(raw: Path, wording: str = "ours") -> Iterator[Block]:
    """The file in blocks; UserError for one without the columns."""
    seen = set[str]()
    wrong: list[Rejected] = []

    def reject(row: pa.csv.InvalidRow) -> str:
        detail = f"{row.actual_columns} columns, not {row.expected_columns}: {row.text[:SHOWN]}"
        wrong.append(unreadable("wrong number of columns", detail))
        return "skip"

    options = pa.csv.ReadOptions(block_size=BLOCK)
    parse = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=reject)
    convert = pa.csv.ConvertOptions(
        include_columns=COLUMNS, column_types=dict.fromkeys(COLUMNS, pa.binary())
    )
    try:
        for articles in pa.csv.open_csv(raw, options, parse, convert):
            with contextlib.suppress(pa.ArrowInvalid):  # not all UTF-8
                articles = articles.cast(_TEXTS)
            so_far = len(wrong)
            yield Block(articles, _repeated(articles, seen), wrong[:so_far])
            del wrong[:so_far]
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        expected = f"CORD-19's metadata.csv with the columns {', '.join(COLUMNS)}"
        raise UserError(f"{raw} cannot be read as {expected}: {error}") from None
    yield Block(pa.RecordBatch.from_pylist([], _TEXTS), frozenset(), wrong)


def _repeated(articles: pa.RecordBatch, seen: set[str]) -> frozenset[int]:
    """Where the articles are that have title and abstract and an id that is in ``seen``; the
    others' ids are put there."""
    if articles.schema == _TEXTS:
        uids, titles, abstracts, _ = articles.columns
        whole = pc.invert(pc.or_(_blank(titles), _blank(abstracts))).to_pylist()
        of = [(n, uid.strip()) for n, uid in enumerate(uids.to_pylist()) if whole[n]]
    else:
        texts = enumerate(_texts(articles))
        of = [
            (n, row[0]) for n, row in texts if not isinstance(row, Rejected) and row[1] and row[2]
        ]
    repeated = set()
    for number, uid in of:
        if uid in seen:
            repeated.add(number)
        seen.add(uid)
    return frozenset(repeated)


def _blank(texts: pa.Array) -> pa.Array:
    """Which texts are empty once stripped."""
    return pc.or_(pc.equal(texts, ""), pc.utf8_is_space(texts))


def made(block: Block, wording: str = "ours") -> Iterator[Record | Rejected]:
    """One record an article that has title and abstract; a later copy of an id is rejected."""
    instruction = INSTRUCTION[wording]
    for number, row in enumerate(_texts(block.articles)):
        if isinstance(row, Rejected):
            yield row
            continue
        uid, title, abstract, licence = row
        record = SOURCE.record(
            instruction,
            abstract,
            title,
            cord_uid=uid,
            article_licence=licence,
            type="summarisation",
        )
        if not abstract:
            yield Rejected(record, "no abstract", uid)
        elif not title:
            yield Rejected(record, "no title", uid)
        elif number in block.repeated:
            yield Rejected(record, "duplicate id", uid)
        else:
            yield record
    yield from block.unreadable


def _texts(articles: pa.RecordBatch) -> Iterator[tuple[str, ...] | Rejected]:
    """A block's rows as text, stripped; where its bytes are not all UTF-8, those that are."""
    columns = [column.to_pylist() for column in articles.columns]
    if articles.schema == _TEXTS:
        for texts in zip(*columns, strict=True):
            yield tuple(map(str.strip, texts))
        return
    for row in zip(*columns, strict=True):
        try:
            yield tuple(value.decode().strip() for value in row)
        except UnicodeDecodeError as error:
            yield unreadable("not UTF-8", f"{row[0]!r}: {error}")


def hub_rows(
    items: Iterable[Mapping[str, Any]], wording: str = "ours"
) -> Iterator[Record | Rejected]:
    """Medical Meadow's copy, from which empty rows were removed; it has no article ids."""
    for item in items:
        title = text(item["output"])
        record = SOURCE.record(
            INSTRUCTION[wording], text(item["input"]), title, type="summarisation"
        )
        if record.input and title:
            yield record
        else:
            yield Rejected(record, "no title" if record.input else "no abstract")


SOURCE: Source = Source(
    name="cord19",
    title="CORD-19, the COVID-19 open research dataset",
    origin="allenai.org, last release of June 2022",
    licence="LicenseRef-CORD-19",
    obligations=(
        "Each article keeps its own licence (the tag article_licence), from CC0 to publishers' "
        "terms for the time of the pandemic. Text and data mining for research; do not pass rows "
        "on without looking at their licences."
    ),
    citation="Wang et al. 2020, CORD-19: The COVID-19 Open Research Dataset, NLP-COVID19 at ACL",
    raw="metadata.csv of a release",
    size="1,056,660 rows; 821,007 with an abstract in Medical Meadow's copy",
    rows=Blocks(read, made),
    verified="schema only, never run on real files",
    settings={"wording": WORDING},
    defects=(
        "The same article can be there under several ids, as preprint and as published.",
        "Some abstracts are a publisher's notice or the first words of the text.",
        "Medical Meadow's instruction has a spelling mistake, which --wording published keeps.",
    ),
    hub=(
        HubSet(
            "medalpaca/medical_meadow_cord19",
            hub_rows,
            revision="f48ea381cb3ae21178d8a573bb1a8995d4ab6b11",
        ),
    ),
    signs=("cord_uid", "abstract"),
)
