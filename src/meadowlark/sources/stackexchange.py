"""Stack Exchange: questions of the academia, biology, fitness, health and bioinformatics sites.

Raw form: Posts.xml of a site's dump, or the site's .7z of which it is a part. A dump of any size is
read once, from beginning to end; questions and the answers that may be kept lie in a temporary
SQLite file until their partners have been seen.
"""

from __future__ import annotations

import functools
import re
import sqlite3
import sys
import tempfile
import xml.parsers.expat as expat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.archives import open_member
from meadowlark.sources.markdown import TooLong, to_markdown
from meadowlark.sources.posts_xml import NoPosts, Post, read_posts
from meadowlark.sources.raw import text, unreadable
from meadowlark.sources.source import Blocks, HubSet, Setting, Source

VOTES = 5
"""Up-votes that an answer of the published collection has at least."""
SITES = ("academia", "biology", "fitness", "health", "bioinformatics")
BLOCK = 256
"""Answers that are made into rows at a time."""
QUESTION, ANSWER = "1", "2"
ANSWERS = Setting(
    "voted",
    f"answers with at least {VOTES} votes (published), the best of each question, or the accepted",
    ("voted", "best", "accepted"),
)
SITE = Setting("", "the site's name, where the file's does not say it")


_Numbered = tuple[int, str, tuple[Any, ...]]
"""A row for a table behind its place in its piece of the file and its id as it stands there."""


class _Taken(NamedTuple):
    """What is wanted of a piece of the file with ``seen`` rows, used or not."""

    seen: int
    questions: list[_Numbered]
    answers: list[_Numbered]
    refused: list[tuple[int, str]]


class Block(NamedTuple):
    """Some answers with their questions, as :data:`CHOSEN` gives them, of one site; or what could
    not be read."""

    site: str
    posts: list[tuple[Any, ...]]
    unreadable: list[Rejected]


def read(raw: Path, answers: str = "voted", site: str = "") -> Iterator[Block]:
    """The answers that are chosen, in the order of their questions, ready to be made into rows.

    ``voted`` takes every answer with 5 votes or more, ``best`` the one with most votes of each
    question, ``accepted`` the one that the asker accepted. Answers not chosen are no rejections.
    """
    site = site or _site_of(raw)
    with tempfile.TemporaryDirectory(prefix="meadowlark-") as folder:
        posts = sqlite3.connect(Path(folder) / "posts.sqlite")
        posts.executescript(
            "pragma page_size = 32768; pragma journal_mode = off; pragma synchronous = off;"
            "pragma locking_mode = exclusive;"
            "create table questions (id integer primary key, title text, body text, tags text,"
            " accepted integer, licence text);"
            "create table answers (id integer primary key, question integer, score integer,"
            " body text, licence text);"
        )
        with open_member(raw, "Posts.xml") as file:
            yield Block(site, [], _fill(posts, file, answers, raw))
        chosen = posts.execute(CHOSEN[answers])
        while some := chosen.fetchmany(BLOCK):
            yield Block(site, some, [])
        orphans = posts.execute(
            "select count(*) from answers where question not in (select id from questions)"
        ).fetchone()[0]
        yield Block(site, [], [unreadable("answer without its question", site)] * orphans)
        posts.close()


def made(block: Block, answers: str = "voted", site: str = "") -> Iterator[Record | Rejected]:
    """One record an answer, after its question's title and text."""
    yield from block.unreadable
    for post in block.posts:
        yield _row(post, block.site)


def _site_of(raw: Path) -> str:
    """``health.stackexchange.com.7z`` and ``health.stackexchange.com/Posts.xml`` are health."""
    for name in (raw.name, raw.resolve().parent.name):
        if found := re.match(r"([a-z.]+?)\.stackexchange\.com", name):
            return found[1]
    return ""


def _fill(posts: sqlite3.Connection, file: IO[bytes], answers: str, raw: Path) -> list[Rejected]:
    """The file's posts into the two tables; what is no post is rejected, and a second id."""
    tables = _Tables(posts)
    take = functools.partial(_take, least=VOTES if answers == "voted" else -sys.maxsize)
    try:
        for taken in read_posts(file, take):
            tables.add(taken)
    except expat.ExpatError as error:
        if not tables.seen:
            raise UserError(f"{raw} is not a readable Posts.xml: {error}") from None
        detail = f"after {tables.seen:,} posts: {error}"
        tables.rejected.append(unreadable("malformed XML", detail))
    except NoPosts as error:
        raise UserError(f"{raw} is no Posts.xml of a Stack Exchange dump: {error}") from None
    posts.execute("create index parents on answers (question)")
    posts.commit()
    return tables.rejected


def _take(rows: Iterable[Post], least: int) -> _Taken:
    """Questions, and answers with at least so many votes; what is neither, by its place."""
    taken = _Taken(0, [], [], [])
    place = 0
    for place, row in enumerate(rows, 1):
        kind = row.get("PostTypeId")
        if kind not in (QUESTION, ANSWER):
            continue  # wikis, tag excerpts and moderators' elections
        try:
            name = _present(row, "Id")
            number, score = int(name), int(row.get("Score", 0))
            values: tuple[Any, ...]
            if kind == QUESTION:
                values = (
                    number,
                    row.get("Title", ""),
                    row.get("Body", ""),
                    row.get("Tags", ""),
                    int(row.get("AcceptedAnswerId", 0)),
                    row.get("ContentLicense", ""),
                )
                taken.questions.append((place, name, values))
            elif score >= least:
                parent = int(_present(row, "ParentId"))
                body, licence = row.get("Body", ""), row.get("ContentLicense", "")
                taken.answers.append((place, name, (number, parent, score, body, licence)))
        except ValueError as error:
            taken.refused.append((place, str(error)))
    return taken._replace(seen=place)


def _present(row: Post, name: str) -> str:
    value = row.get(name)
    if value is None:
        raise ValueError(f"no {name}")
    return str(value)


class _Tables:
    """The two tables while they are filled. ``seen`` counts rows, used or not."""

    def __init__(self, posts: sqlite3.Connection) -> None:
        self.seen = 0
        self.rejected: list[Rejected] = []
        self._posts = posts

    def add(self, taken: _Taken) -> None:
        """What was taken of the next piece into the tables."""
        refused = [(place, self._no_post(place, why)) for place, why in taken.refused]
        refused += self._insert("insert into questions values (?, ?, ?, ?, ?, ?)", taken.questions)
        refused += self._insert("insert into answers values (?, ?, ?, ?, ?)", taken.answers)
        self.rejected += [each for _, each in sorted(refused, key=lambda pair: pair[0])]
        self.seen += taken.seen

    def _no_post(self, place: int, why: str) -> Rejected:
        return unreadable("not a post", f"post {self.seen + place}: {why}")

    def _insert(self, into: str, rows: list[_Numbered]) -> Iterator[tuple[int, Rejected]]:
        """Insert rows, but for those whose id is there already or is no number of a post."""
        done = 0

        def values() -> Iterator[tuple[Any, ...]]:
            nonlocal done
            while done < len(rows):
                done += 1
                yield rows[done - 1][2]

        while done < len(rows):
            try:
                self._posts.executemany(into, values())
            except (sqlite3.IntegrityError, OverflowError) as error:
                place, name, _ = rows[done - 1]
                if isinstance(error, OverflowError):
                    yield place, self._no_post(place, str(error))
                else:
                    yield place, unreadable("duplicate id", f"post {name}")


CHOSEN = {
    "voted": "select q.*, a.* from questions q join answers a on a.question = q.id"
    " order by q.id, a.score desc, a.id",
    "best": "select q.*, a.* from questions q join answers a on a.id = (select id from answers"
    " where question = q.id order by score desc, id limit 1) order by q.id",
    "accepted": "select q.*, a.* from questions q join answers a on a.id = q.accepted"
    " and a.question = q.id order by q.id",
}


_question = functools.lru_cache(maxsize=8)(to_markdown)
"""A question's text, which its answers ask for one after the other."""


def _row(row: tuple[Any, ...], site: str) -> Record | Rejected:
    question, title, body, tags, accepted, asked_under, answer, _, score, said, under = row
    where = f"question {question}, answer {answer}"
    try:
        asked, answered = _question(body), to_markdown(said)
    except TooLong as error:
        return Rejected(SOURCE.record(title, "", ""), "too long", f"{where}: {error}")
    record = SOURCE.record(
        title.strip(),
        asked,
        answered,
        site=site,
        topic=" ".join(re.findall(r"[^<>|]+", tags)),
        post=str(answer),
        score=str(score),
        accepted="yes" if accepted == answer else "",
        licences=" ".join(sorted({asked_under, under} - {""})),
        type="open Q&A",
    )
    if not record.instruction:
        return Rejected(record, "no question", where)
    return record if answered else Rejected(record, "no answer", where)


def hub_rows(
    items: Iterable[Mapping[str, Any]], answers: str = "voted", site: str = ""
) -> Iterator[Record | Rejected]:
    """Questions of all sites in H4's preference set; ``site`` picks those of one.

    Its scores are the rounded binary logarithm of votes + 1, one more for an accepted answer, so
    that five votes are a 3 before that.
    """
    for item in items:
        link = " ".join(map(str, item.get("metadata") or ()))
        found = re.search(r"https?://([a-z.]+?)\.stackexchange\.com", link)
        of = found[1] if found else ""
        if of not in (SITES if not site else (site,)):
            continue
        ranked = sorted(item["answers"], key=lambda each: -int(each["pm_score"]))
        for number, answer in enumerate(ranked):
            accepted = str(answer.get("selected")).lower() == "true"
            score = int(answer["pm_score"]) - accepted
            taken = {"voted": score >= 3, "best": number == 0, "accepted": accepted}
            if taken[answers]:
                yield _hub_row(item, answer, of, accepted)


def _hub_row(
    item: Mapping[str, Any], answer: Mapping[str, Any], site: str, accepted: bool
) -> Record | Rejected:
    where = f"question {item.get('qid')}, answer {answer.get('answer_id')}"
    try:
        asked, said = to_markdown(text(item["question"])), to_markdown(text(answer["text"]))
    except TooLong as error:
        return Rejected(SOURCE.record("", "", ""), "too long", f"{where}: {error}")
    record = SOURCE.record(
        asked,
        "",
        said,
        site=site,
        post=text(answer.get("answer_id")),
        accepted="yes" if accepted else "",
        type="open Q&A",
    )
    if not asked:
        return Rejected(record, "no question", where)
    return record if said else Rejected(record, "no answer", where)


SOURCE: Source = Source(
    name="stackexchange",
    title="Stack Exchange: academia, biology, fitness, health, bioinformatics",
    origin="archive.org/details/stackexchange, a .7z of each site",
    licence="CC-BY-SA-4.0",
    obligations=(
        "Name the authors with a link to the post (the tag post); share alike. Older posts are "
        "under CC BY-SA 2.5 or 3.0: the tag licences."
    ),
    citation="Stack Exchange data dump; Han et al. 2023, MedAlpaca, arXiv:2304.08247",
    raw="Posts.xml of a site's dump, or the site's .7z; --site where its name does not say it",
    size="40,865 + 27,887 + 9,833 + 7,721 + 5,407 rows in the paper, fewer on its data card",
    rows=Blocks(read, made),
    verified="real files (the dumps of two other sites, for the format)",
    settings={"answers": ANSWERS, "site": SITE},
    defects=(
        "Advice on the health and fitness sites is laypeople's; votes are no proof.",
        "The dump's score is up-votes less down-votes; up-votes alone are not in Posts.xml.",
        "Images are replaced by their description.",
        "The hub's set holds no titles and rounds scores to powers of two.",
    ),
    hub=(HubSet("HuggingFaceH4/stack-exchange-preferences", hub_rows),),
    signs=("<posts>", "PostTypeId="),
)
