"""Small studies and a signed-in browser of sorts, shared by the tests of annotation."""

import re
from collections.abc import Mapping
from html import unescape
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.test_utils import TestClient, TestServer

from meadowlark.annotate.links import read_tokens, write_links
from meadowlark.annotate.server import make_app
from meadowlark.annotate.setting_up import set_up_comparison, set_up_review
from meadowlark.annotate.store import Store
from meadowlark.dataset import write_table
from meadowlark.records import Answer, Question, Record, to_table

HOSTILE = "<script>document.title='owned'</script><b onmouseover=alert(1)>bold</b>&amp; \"quoted\""
MODELS = ("zephyr-tuned", "quince-base")
"""Names that stand nowhere else, so that a page can be searched for them."""


def answers(folder: Path, model: str, count: int, text: str = "") -> str:
    """A folder as ``answer`` writes it; each text says which side it is."""
    folder.mkdir(parents=True)
    questions = [Question(f"q{i}", "own", f"Question {i}? {text}", group="g") for i in range(count)]
    given = [
        Answer(q.id, model, text=f"{side_of(model)} of {i} {text}") for i, q in enumerate(questions)
    ]
    write_table(folder / "questions.parquet", to_table(questions, Question))
    write_table(folder / "answers.parquet", to_table(given, Answer))
    return str(folder)


def side_of(model: str) -> str:
    """What the texts call a model: pages may show this, never its name."""
    return "left" if model == MODELS[0] else "right"


def comparison(
    folder: Path, count: int = 10, people: str = "2", text: str = "", **options: Any
) -> Path:
    """A study of ``count`` pairs; the folder it lies in."""
    sides = [answers(folder / f"side{n}", m, count, text) for n, m in enumerate(MODELS)]
    set_up_comparison(*sides, folder / "study", people=people, **options)
    return folder / "study"


def review(folder: Path, count: int = 6, people: str = "2", **options: Any) -> Path:
    """A study of ``count`` rows to review; the folder it lies in."""
    rows = [
        Record(f"Instruction {i}", "", f"Output {i}", source="own", licence="MIT",
               tags={"topic": "heart"}, parents=(f"seed{i}",))
        for i in range(count)
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "rows.parquet", to_table(rows, Record))
    set_up_review(folder / "rows.parquet", folder / "study", people=people, **options)
    return folder / "study"


def people_file(folder: Path, *names: str) -> str:
    """A list of people."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "people.txt"
    file.write_text("\n".join(names) + "\n", encoding="utf-8")
    return str(file)


def field(page: str, name: str) -> str:
    """The value of a hidden field of the judging form, as a browser would send it."""
    form = page[page.index('action="/judge"') :]
    found = re.search(rf'name="{name}" value="([^"]*)"', form)
    assert found is not None, name
    return unescape(found[1])


def form_of(page: str, **fields: str) -> dict[str, str]:
    """What a browser sends: the form's own fields and what was chosen."""
    return {name: field(page, name) for name in ("csrf", "form", "item")} | fields


BOTH = {"correctness": "first", "helpfulness": "tie", "note": "a note"}


class Browser:
    """One person's session with a server at ``base``."""

    def __init__(self, session: Any, base: str = "") -> None:
        self.session, self.base = session, base

    async def sign_in(self, token: str) -> int:
        async with self.session.get(f"{self.base}/in/{token}") as response:
            return int(response.status)

    async def page(self) -> str:
        async with self.session.get(f"{self.base}/") as response:
            assert response.status == 200
            return str(await response.text())

    async def post(self, path: str, fields: Mapping[str, str]) -> tuple[int, str]:
        async with self.session.post(f"{self.base}{path}", data=fields) as response:
            return int(response.status), str(await response.text())

    async def judge(self, **fields: str) -> str:
        """Judge the item on the page; the next page."""
        status, text = await self.post("/judge", form_of(await self.page(), **(fields or BOTH)))
        assert status == 200, text
        return text


class Served:
    """A study served in this process, with a browser for each person who is asked for."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(folder, write=True)
        self.tokens = read_tokens(write_links(self.store, "http://127.0.0.1:1"))
        self.clients: list[Any] = []

    async def __aenter__(self) -> "Served":
        self.server = TestServer(make_app(self.store))
        await self.server.start_server()
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self.clients:
            await client.close()
        await self.server.close()
        self.store.close()

    async def browser(self, name: str = "") -> Browser:
        """A browser, signed in where a name is given. Cookies of an address are its own."""
        jar = aiohttp.CookieJar(unsafe=True)
        client = TestClient(self.server, cookie_jar=jar)
        self.clients.append(client)
        made = Browser(client)
        if name:
            assert await made.sign_in(self.tokens[name]) == 200
        return made
