"""The annotation server as browsers meet it."""

import asyncio
import io
import re
from collections.abc import Callable, Coroutine
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from studies import BOTH, HOSTILE, MODELS, Served, comparison, form_of, people_file, review

from meadowlark.annotate.judgements import task_of
from meadowlark.annotate.links import read_tokens, write_links
from meadowlark.annotate.server import HEADERS, make_app
from meadowlark.annotate.store import ADMINISTRATOR, Store


def serving(folder: Path, body: Callable[[Served], Coroutine[Any, Any, None]]) -> None:
    """Run a test's body against a served study."""

    async def whole() -> None:
        async with Served(folder) as served:
            await body(served)

    asyncio.run(whole())


class Elements(HTMLParser):
    """The elements of a page, and all of its text as a reader sees it."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_two_people_judge_everything_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    people = people_file(tmp_path, "Ada", "Bo")
    folder = comparison(tmp_path, count=10, people=people, overlap=0.2)

    async def body(served: Served) -> None:
        for name in ("Ada", "Bo"):
            browser = await served.browser(name)
            page = await browser.page()
            for done in range(6):
                assert f"{done} of 6 done" in page
                page = await browser.judge()
            assert "All 6 are done" in page

    serving(folder, body)
    with Store(folder) as store:
        judged = store.judged()
    assert len(judged) == 12
    assert len({(one.person, one.item) for one in judged}) == 12
    assert len({one.item for one in judged}) == 10
    assert all(one.judgement == BOTH for one in judged)


def test_a_form_that_is_sent_again_counts_once_even_after_an_undo(tmp_path: Path) -> None:
    folder = comparison(tmp_path, people="1")

    async def body(served: Served) -> None:
        browser = await served.browser("annotator-1")
        sent = form_of(await browser.page(), **BOTH)
        pages = [(await browser.post("/judge", sent))[1] for _ in range(3)]
        assert all("1 of 10 done" in page for page in pages)
        undo = {"csrf": sent["csrf"], "item": sent["item"]}
        for _ in range(2):  # pressed twice: still one is taken back
            status, page = await browser.post("/undo", undo)
            assert (status, "0 of 10 done" in page) == (200, True)
        assert form_of(page)["item"] == sent["item"]
        assert re.search(r'value="first" required checked', page)  # what was chosen is kept
        assert "a note</textarea>" in page
        _, page = await browser.post("/judge", sent)  # the old form's late retry
        assert "0 of 10 done" in page
        page = await browser.judge(correctness="both_bad", helpfulness="second", note="")
        assert "1 of 10 done" in page
        (one,) = served.store.judged()
        assert one.judgement == {"correctness": "both_bad", "helpfulness": "second", "note": ""}

    serving(folder, body)


def test_undo_takes_back_one_after_another_and_stops_at_the_first(tmp_path: Path) -> None:
    folder = comparison(tmp_path, people="1", count=4)

    async def body(served: Served) -> None:
        browser = await served.browser("annotator-1")
        order = []
        for _ in range(3):
            order.append(form_of(await browser.page())["item"])
            await browser.judge()
        csrf = form_of(await browser.page())["csrf"]
        for left, item in reversed(list(enumerate(order))):
            last = served.store.last("annotator-1")
            assert str(last) == item
            _, page = await browser.post("/undo", {"csrf": csrf, "item": item})
            assert f"{left} of 4 done" in page
        assert "Undo the last" not in page

    serving(folder, body)


def test_hostile_text_is_shown_as_text(tmp_path: Path) -> None:
    folder = comparison(tmp_path, people="1", text=HOSTILE)

    async def body(served: Served) -> None:
        browser = await served.browser("annotator-1")
        fields = form_of(await browser.page(), **{**BOTH, "helpfulness": "", "note": HOSTILE})
        status, refused = await browser.post("/judge", fields)
        assert status == 422
        assert "Please choose for helpfulness too." in refused
        for page in (await browser.page(), refused):
            found = Elements(page)
            assert found.text.count(HOSTILE) >= 3  # the prompt and both answers
            assert found.names.count("script") == 1  # our own
            assert "b" not in found.names
            assert found.handlers == []
        assert Elements(refused).text.count(HOSTILE) == 4  # the note too

    serving(folder, body)


def test_without_the_right_token_everything_answers_403(tmp_path: Path) -> None:
    folder = comparison(tmp_path)

    async def body(served: Served) -> None:
        stranger = await served.browser()
        right = served.tokens["annotator-1"]
        for token in ("wrong", right[:-1], right + "x", right.swapcase(), "%00", "é"):
            assert await stranger.sign_in(token) == 403
        for path in ("/judge", "/undo", "/export"):
            assert (await stranger.post(path, BOTH))[0] == 403
        async with stranger.session.get("/") as response:
            assert response.status == 403
            assert "Research software" in await response.text()
        assert served.store.judged() == []
        assert right.encode() not in (folder / "annotations.sqlite").read_bytes()

    serving(folder, body)


def test_new_links_make_the_old_ones_void(tmp_path: Path) -> None:
    folder = comparison(tmp_path)

    async def body(served: Served) -> None:
        old = served.tokens
        path = write_links(served.store, "https://annotate.example.org/")
        assert read_tokens(path) == old  # another address, the same tokens
        assert path.read_text().startswith("administrator\thttps://annotate.example.org/in/")
        assert path.stat().st_mode & 0o777 == 0o600
        browser = await served.browser("annotator-1")
        new = read_tokens(write_links(served.store, "http://x", renew=True))
        assert set(new) == set(old) == {ADMINISTRATOR, "annotator-1", "annotator-2"}
        assert len({*new.values(), *old.values()}) == 6
        async with browser.session.get("/") as response:
            assert response.status == 403
        assert await browser.sign_in(old["annotator-1"]) == 403
        assert await browser.sign_in(new["annotator-1"]) == 200

    serving(folder, body)


def test_a_form_without_its_token_or_with_anothers_is_refused(tmp_path: Path) -> None:
    folder = comparison(tmp_path, overlap=0)

    async def body(served: Served) -> None:
        one, two = [await served.browser(f"annotator-{n}") for n in (1, 2)]
        mine, theirs = [form_of(await b.page(), **BOTH) for b in (one, two)]
        for csrf in ("", "x", theirs["csrf"], "é"):
            assert (await one.post("/judge", {**mine, "csrf": csrf}))[0] == 403
            assert (await one.post("/undo", {**mine, "csrf": csrf}))[0] == 403
        for item in (theirs["item"], "-1", "99999", "x", ""):  # an item of somebody else
            assert (await one.post("/judge", {**mine, "item": item}))[0] == 400
        assert (await one.post("/export", mine))[0] == 403
        assert served.store.judged() == []
        assert (await one.post("/judge", {**mine, "correctness": "a"}))[0] == 422
        assert (await one.post("/judge", {**mine, "note": "x" * 5000}))[0] == 422
        large = io.BytesIO(b"note=" + b"x" * (1 << 21))
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        async with one.session.post("/judge", data=large, headers=form) as response:
            assert response.status == 413
        assert (await one.post("/judge", mine))[0] == 200

    serving(folder, body)


def test_every_answer_bears_the_notice_and_the_headers(tmp_path: Path) -> None:
    folder = comparison(tmp_path)

    async def body(served: Served) -> None:
        person, boss = [await served.browser(n) for n in ("annotator-1", ADMINISTRATOR)]
        for browser, path in ((person, "/"), (boss, "/"), (person, "/nowhere")):
            async with browser.session.get(path) as response:
                assert "Research software" in await response.text()
                for name, value in HEADERS.items():
                    assert response.headers[name] == value
        async with person.session.get(
            f"/in/{served.tokens['annotator-1']}", allow_redirects=False
        ) as response:
            cookie = response.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert response.headers["Referrer-Policy"] == "no-referrer"
            assert "Secure" not in cookie
        secured = TestClient(TestServer(make_app(served.store, https=True)))
        async with (
            secured,
            secured.get(f"/in/{served.tokens['annotator-1']}", allow_redirects=False) as response,
        ):
            assert "; Secure" in response.headers["Set-Cookie"]
        for path in ("/annotate.css", "/annotate.js", "/health"):
            async with person.session.get(path) as response:
                assert response.status == 200

    serving(folder, body)


def test_nothing_on_any_page_unblinds(tmp_path: Path) -> None:
    folder = comparison(tmp_path, count=5, overlap=1)

    async def body(served: Served) -> None:
        shown = []
        for name in ("annotator-1", "annotator-2"):
            browser = await served.browser(name)
            for _ in range(5):
                shown.append(await browser.page())
                await browser.judge()
            shown.append(await browser.page())
        boss = await served.browser(ADMINISTRATOR)
        page = await boss.page()
        shown.append(page)
        assert "correctness" in page
        assert "helpfulness" in page
        assert "Gwet" in page
        assert "10 of 10 judgements" in page
        csrf = re.search(r'name="csrf" value="([^"]+)"', page)
        assert csrf is not None
        status, page = await boss.post("/export", {"csrf": csrf[1]})
        assert status == 200
        shown.append(page)
        assert (folder / "export" / "verdicts.parquet").exists()
        for text in shown:
            for name in (*MODELS, "win rate", str(tmp_path)):
                assert name not in text
            assert "q0" not in Elements(text).text  # an item's id may tell where it comes from

    serving(folder, body)


def test_the_sides_that_are_shown_are_those_that_were_dealt(tmp_path: Path) -> None:
    folder = comparison(tmp_path, count=6, people="1")

    async def body(served: Served) -> None:
        browser = await served.browser("annotator-1")
        firsts = []
        for one in served.store.assigned("annotator-1"):
            page = Elements(await browser.page()).text
            left, right = page.index("left of"), page.index("right of")
            assert (left < right) == one.a_first
            firsts.append(one.a_first)
            await browser.judge()
        assert sum(firsts) == 3

    serving(folder, body)


def test_fifty_people_at_once_lose_no_judgement_and_double_none(tmp_path: Path) -> None:
    folder = comparison(tmp_path, count=60, people="50", overlap=0.05)

    async def body(served: Served) -> None:
        async def work(name: str) -> int:
            browser = await served.browser(name)
            done = 0
            while "Save and go on" in (page := await browser.page()):
                fields = form_of(page, **{**BOTH, "note": name})
                sent = await asyncio.gather(*(browser.post("/judge", fields) for _ in range(2)))
                assert [status for status, _ in sent] == [200, 200]
                done += 1
            return done

        names = [name for name in served.tokens if name != ADMINISTRATOR]
        counts = await asyncio.gather(*(work(name) for name in names))
        assert sum(counts) == 50 * 3 + 57
        judged = served.store.judged()
        assert len(judged) == len({(one.person, one.item) for one in judged}) == 50 * 3 + 57
        assert all(one.judgement["note"] == one.person for one in judged)

    serving(folder, body)


def test_an_exams_options_are_shown_with_its_question() -> None:
    asked = {"prompt": "Which organ?\n\n### Input:\nIt makes bile.", "choices": ["Heart", "Liver"]}
    assert task_of(asked) == ("Which organ?", "It makes bile.\n\nA: Heart\nB: Liver")
    assert task_of({**asked, "prompt": "Which?"}) == ("Which?\n\nA: Heart\nB: Liver", "")
    listed = "Heart (A) or Liver (B)?"
    assert task_of({**asked, "prompt": listed}) == (listed, "")
    assert task_of({"prompt": "Why?", "choices": []}) == ("Why?", "")


def test_a_review_accepts_edits_and_rejects(tmp_path: Path) -> None:
    folder = review(tmp_path, count=4, people="1")

    async def body(served: Served) -> None:
        browser = await served.browser("annotator-1")
        page = await browser.page()
        for fields, fault in (
            ({}, "Please choose: accept"),
            ({"decision": "reject"}, "Please choose a reason"),
            ({"decision": "reject", "reason": "other"}, "say in the note"),
            ({"decision": "edit"}, "Nothing was changed"),
            ({"decision": "accept", "output": "changed"}, "The text was changed"),
            ({"decision": "edit", "output": " "}, "The answer cannot be empty"),
            ({"decision": "burn"}, "Please choose: accept"),
        ):
            status, text = await browser.post("/judge", form_of(page, **fields))
            assert (status, fault in text) == (422, True), fields
        assert served.store.judged() == []
        await browser.judge(decision="accept", note="fine")
        await browser.judge(decision="edit", output="Better\r\noutput")
        await browser.judge(decision="reject", reason="unsafe advice", note="dose")
        said = [one.judgement for one in served.store.judged()]
        assert said[0] == {"decision": "accept", "note": "fine"}
        assert said[1]["output"] == "Better\noutput"
        assert said[2] == {"decision": "reject", "reason": "unsafe advice", "note": "dose"}

    serving(folder, body)


@pytest.mark.parametrize("text", ["\n leading", "two\n\nlines", "tab\tand  spaces "])
def test_a_row_comes_back_from_the_form_as_it_was(tmp_path: Path, text: str) -> None:
    """A browser drops one line feed after <textarea> and sends lines with carriage returns."""
    from meadowlark.annotate.judgements import review as checked
    from meadowlark.annotate.pages import judging_page
    from meadowlark.annotate.store import Progress
    from meadowlark.records import Record, to_json

    record = Record("Do it", text, "Out")
    page = judging_page(
        "review", to_json(record), place=0, a_first=True, said={}, last=None, csrf="c", form="f",
        progress=Progress("Ada", 0, 1, ""), study="s",
    )  # fmt: skip
    area = re.search(r'name="input"[^>]*>\n(.*?)</textarea>', page, re.S)
    assert area is not None
    sent = area[1].replace("\n", "\r\n")
    assert checked({"decision": "accept", "input": sent}, record)["decision"] == "accept"
