"""Stack Exchange: questions of the academia, biology, fitness, health and bioinformatics sites.

Raw form: Posts.xml of a site's dump, or the site's .7z of which it is a part. A dump of any size is
read once, from beginning to end; questions and the answers that may be kept lie in a temporary
SQLite file until their partners have been seen.
"""

from __future__ import annotations

import functools
import re
import sqlite3
import tempfile
import xml.parsers.expat as expat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.archives import open_member
from meadowlark.sources.markdown import TooLong, to_markdown
from meadowlark.sources.raw import text, unreadable
from meadowlark.sources.source import HubSet, Setting, Source

VOTES = 5
"""Up-votes that an answer of the published collection has at least."""
SITES = ("academia", "biology", "fitness", "health", "bioinformatics")
CHUNK = 1 << 20
QUESTION, ANSWER = "1", "2"
ANSWERS = Setting(
    "voted",
    f"answers with at least {VOTES} votes (published), the best of each question, or the accepted",
    ("voted", "best", "accepted"),
)
SITE = Setting("", "the site's name, where the file's does not say it")


def rows(raw: Path, answers: str = "voted", site: str = "") -> Iterator[Record | Rejected]:
    """One record an answer that is chosen, after its question's title and text.

    ``voted`` takes every answer with 5 votes or more, ``best`` the one with most votes of each
    question, ``accepted`` the one that the asker accepted. Answers not chosen are no rejections.
    """
    site = site or _site_of(raw)
    with tempfile.TemporaryDirectory(prefix="meadowlark-") as folder:
        posts = sqlite3.connect(Path(folder) / "posts.sqlite")
        posts.executescript(
            "pragma journal_mode = off; pragma synchronous = off;"
            "create table questions (id integer primary key, title text, body text, tags text,"
            " accepted integer, licence text);"
            "create table answers (id integer primary key, question integer, score integer,"
            " body text, licence text);"
        )
        rejected: list[Rejected] = []
        with open_member(raw, "Posts.xml") as file:
            _fill(posts, file, answers, raw, rejected)
        yield from rejected
        for row in posts.execute(CHOSEN[answers]):
            yield _row(row, site)
        orphans = posts.execute(
            "select count(*) from answers where question not in (select id from questions)"
        ).fetchone()[0]
        for _ in range(orphans):
            yield unreadable("answer without its question", site)
        posts.close()


def _site_of(raw: Path) -> str:
    """``health.stackexchange.com.7z`` and ``health.stackexchange.com/Posts.xml`` are health."""
    for name in (raw.name, raw.resolve().parent.name):
        if found := re.match(r"([a-z.]+?)\.stackexchange\.com", name):
            return found[1]
    return ""


def _fill(
    posts: sqlite3.Connection, file: IO[bytes], answers: str, raw: Path, rejected: list[Rejected]
) -> None:
    """The file's posts into the two tables; what is no post is rejected, and a second id."""
    seen = 0
    found_posts = False

    def start(name: str, values: dict[str, str]) -> None:
        nonlocal seen, found_posts
        if name == "posts":
            found_posts = True
        if name != "row" or not found_posts:
            return
        seen += 1
        kind = values.get("PostTypeId")
        if kind not in (QUESTION, ANSWER):
            return  # wikis, tag excerpts and moderators' elections
        try:
            number, score = int(values["Id"]), int(values.get("Score", 0))
            licence = values.get("ContentLicense", "")
            if kind == QUESTION:
                accepted = int(values.get("AcceptedAnswerId", 0))
                posts.execute(
                    "insert into questions values (?, ?, ?, ?, ?, ?)",
                    (number, values.get("Title", ""), values.get("Body", ""),
                     values.get("Tags", ""), accepted, licence),
                )  # fmt: skip
            elif answers != "voted" or score >= VOTES:
                posts.execute(
                    "insert into answers values (?, ?, ?, ?, ?)",
                    (number, int(values["ParentId"]), score, values.get("Body", ""), licence),
                )
        except (KeyError, ValueError) as error:
            rejected.append(unreadable("not a post", f"post {seen}: {error}"))
        except sqlite3.IntegrityError:
            rejected.append(unreadable("duplicate id", f"post {values['Id']}"))

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    parser.EntityDeclHandler = _refuse_entities
    parser.buffer_text = True
    try:
        while chunk := file.read(CHUNK):
            parser.Parse(chunk)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        if not seen:
            raise UserError(f"{raw} is not a readable Posts.xml: {error}") from None
        rejected.append(unreadable("malformed XML", f"after {seen:,} posts: {error}"))
    if not found_posts:
        raise UserError(f"{raw} is no Posts.xml of a Stack Exchange dump: it holds no <posts>")
    posts.execute("create index parents on answers (question)")
    posts.commit()


def _refuse_entities(*_: Any) -> None:
    raise UserError("the XML declares entities, which no dump does: it is not read")


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
    rows=rows,
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
