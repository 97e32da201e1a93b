"""The chat page in a real browser: Debian's chromium, driven by Playwright.

``MEADOWLARK_SCREENSHOTS`` names a folder to keep pictures in, at desktop and phone width.
"""

import asyncio
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from running import running

from meadowlark.dataset import read
from meadowlark.llm.chat import Sampling
from meadowlark.llm.errors import CallFailed
from meadowlark.records import Turn, Verdict
from meadowlark.serve.chat_page import make_page_app
from meadowlark.serve.voices import Ending
from meadowlark.serve.votes import Votes

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH"),
]
EVIL = "<script>window.hit = 1</script><img src=x onerror='window.hit = 2'><b>bold</b> </textarea>"
SIZES = {"desktop": (1280, 800), "phone": (390, 844)}


class Scripted:
    """A voice that says its pieces; with ``endless`` it goes on until its reader leaves."""

    engine = "a script"

    def __init__(self, name: str, *pieces: str, endless: bool = False) -> None:
        self.name, self.pieces, self.endless = name, pieces, endless
        self.fails = False
        self.asked: list[tuple[list[Turn], Sampling]] = []
        self.left = threading.Event()

    async def answer(self, turns: Sequence[Turn], sampling: Sampling) -> Any:
        self.asked.append((list(turns), sampling))
        try:
            for piece in self.pieces:
                yield piece
            if self.fails:
                raise CallFailed("broken off", "the connection broke")
            while self.endless:
                await asyncio.sleep(0.02)
                yield "and on "
            yield Ending("stop", 1, 1)
        except (asyncio.CancelledError, GeneratorExit):
            self.left.set()
            raise

    async def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as play:
        made = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


@contextmanager
def opened(browser: Any, voices: list[Any], size: str = "desktop", **how: Any) -> Iterator[Any]:
    """A page at the server of these voices; nothing may be complained of in its console."""
    width, height = SIZES[size]
    complaints: list[str] = []
    with running(lambda: make_page_app(voices, **how)) as url:
        page = browser.new_page(viewport={"width": width, "height": height})
        page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: complaints.append(str(e)))
        page.goto(url)
        page.complaints = complaints
        yield page
        page.close()


def ask(page: Any, text: str) -> None:
    page.fill("#instruction", text)
    page.keyboard.press("Control+Enter")


def picture(page: Any, name: str) -> None:
    if folder := os.environ.get("MEADOWLARK_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def faults(page: Any) -> list[str]:
    """What axe-core calls serious or critical."""
    axe = pytest.importorskip("axe_playwright_python", reason="axe-core is not installed")
    script = Path(axe.__file__).parent / "axe.min.js"
    page.evaluate(script.read_text(encoding="utf-8"))
    found = page.evaluate("axe.run()")["violations"]
    return [f"{v['id']}: {v['help']}" for v in found if v["impact"] in ("serious", "critical")]


def test_a_conversation_with_input_and_history(browser: Any) -> None:
    voice = Scripted("tuned", "A fever ", "is warmth.")
    with opened(browser, [voice]) as page:
        assert "not for care decisions" in page.inner_text("#notice")
        page.click("summary")
        page.fill("#input", "Hb 7.1")
        ask(page, "Explain.")
        page.wait_for_selector("#status:text('Done.')")
        assert page.inner_text(".answer .said") == "A fever is warmth."
        ask(page, "And now?")
        page.wait_for_selector("article.answer >> nth=1")
        page.wait_for_selector("#status:text('Done.')")
        assert [t.content for t in voice.asked[1][0]] == [
            "Explain.\n\n### Input:\nHb 7.1",
            "A fever is warmth.",
            "And now?",
        ]
        page.click("#again")
        page.wait_for_selector("#status:text('Done.')")
        turns, sampling = voice.asked[2]
        assert [t.content for t in turns] == [t.content for t in voice.asked[1][0]]
        assert (sampling.temperature, sampling.seed is not None) == (0.7, True)
        assert page.locator("article.answer").count() == 2
        page.click("#reset")
        assert page.locator("article").count() == 0
        assert page.complaints == []


def test_what_is_full_of_markup_is_shown_as_text(browser: Any) -> None:
    voice = Scripted(EVIL, EVIL[:20], EVIL[20:])
    with opened(browser, [voice], system=EVIL) as page:
        ask(page, EVIL)
        page.wait_for_selector("#status:text('Done.')")
        assert page.inner_text(".question .said") == EVIL
        assert page.inner_text(".answer .said") == EVIL
        assert page.inner_text(".answer .who") == EVIL
        assert page.input_value("#system") == EVIL
        assert page.evaluate("window.hit") is None
        assert page.locator("#log img, #log script, #log b").count() == 0
        assert page.complaints == []


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_stop_ends_the_generation_and_the_page_goes_on(browser: Any, how: str) -> None:
    voice = Scripted("tuned", "It goes on ", endless=True)
    with opened(browser, [voice]) as page:
        ask(page, "Explain.")
        page.wait_for_selector(".answer .said:has-text('and on and on')")
        if how == "button":
            page.click("#stop")
        else:
            page.keyboard.press("Escape")
        page.wait_for_selector("#status:text('Stopped.')")
        assert page.inner_text(".answer .said").endswith("(stopped)")
        assert voice.left.wait(10)
        voice.endless = False
        ask(page, "Again.")
        page.wait_for_selector("#status:text('Done.')")
        assert page.complaints == []


@pytest.mark.parametrize("size", SIZES)
def test_an_answer_that_breaks_off_is_told_and_kept(browser: Any, size: str) -> None:
    voice = Scripted("remote", "A fever ", "is warmth.")
    with opened(browser, [voice], size) as page:
        ask(page, "Explain.")
        page.wait_for_selector("#status:text('Done.')")
        voice.pieces, voice.fails = ("A fever is ",), True
        page.click("#again")
        page.wait_for_selector("#status:has-text('not whole: broken off. What came is kept.')")
        assert page.inner_text(".answer .said") == "A fever is (broken off)"
        assert "fault" in page.get_attribute("#status", "class")
        picture(page, f"broken-{size}")
        assert faults(page) == []
        voice.pieces = ()
        page.click("#again")  # nothing comes at all: what was there stays
        page.wait_for_selector("#status:has-text('did not answer: broken off')")
        assert page.inner_text(".answer .said") == "A fever is (broken off)"
        voice.pieces, voice.fails = ("Whole.",), False
        ask(page, "And now?")
        page.wait_for_selector("#status:text('Done.')")
        assert [t.content for t in voice.asked[-1][0]] == ["Explain.", "A fever is ", "And now?"]


@pytest.mark.parametrize("size", SIZES)
def test_a_blind_vote_by_keyboard_is_a_verdict(browser: Any, size: str, tmp_path: Path) -> None:
    long = "A fever is a body temperature above the usual. " * 6
    voices = [Scripted("tuned", long), Scripted("untuned", EVIL)]
    votes = Votes(tmp_path / "votes", "Dr Osei")
    with opened(browser, voices, size, votes=votes, seed=3) as page:
        ask(page, "Explain fever to a patient who is worried about it.")
        page.wait_for_selector("#vote:visible")
        before = page.inner_text("body")
        assert "tuned" not in before  # nothing tells who is where, not even the source
        assert "tuned" not in page.content()
        shown = page.locator(".pair .said").all_inner_texts()
        left = "tuned" if shown[0].startswith("A fever") else "untuned"
        picture(page, f"compare-{size}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert faults(page) == []
        page.keyboard.press("1")
        page.wait_for_selector("#status:has-text('Vote kept')")
        assert page.locator(".pair .who").all_inner_texts()[0] == f"Left: {left} (your choice)"
        picture(page, f"voted-{size}")
        assert page.complaints == []
    votes.close()
    (verdict,), _ = read(tmp_path / "votes" / "verdicts.jsonl", Verdict)
    assert (verdict.winner, verdict.shown_first) == (("a", "a") if left == "tuned" else ("b", "b"))
    assert verdict.by == "human:Dr Osei"


@pytest.mark.parametrize("size", SIZES)
def test_the_page_is_accessible_and_fits(browser: Any, size: str) -> None:
    voice = Scripted("tuned", "A fever is warmth.\n\nx" + "y" * 300, "\nA line." * 80)
    with opened(browser, [voice, Scripted("other")], size) as page:
        ask(page, "Explain fever.")
        page.wait_for_selector("#status:text('Done.')")
        page.evaluate("window.scrollTo(0, 0)")
        picture(page, f"chat-{size}")
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        page.click("summary")
        assert faults(page) == []
        page.emulate_media(color_scheme="dark")
        assert faults(page) == []
        picture(page, f"chat-dark-{size}")
        page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
        assert page.evaluate("window.scrollY") > 1000
        picture(page, f"chat-end-{size}")
        notice = page.locator("#notice").bounding_box()
        assert notice["y"] >= 0  # in sight wherever the page is scrolled to
        assert notice["y"] + notice["height"] <= SIZES[size][1]


def test_a_key_is_asked_for_and_then_sent(browser: Any) -> None:
    voice = Scripted("tuned", "Hello.")
    with opened(browser, [voice], key="k" * 20) as page:
        ask(page, "Hello?")
        page.wait_for_selector("#key-form:visible")
        assert page.input_value("#instruction") == "Hello?"
        assert voice.asked == []
        page.fill("#key", "k" * 20)
        page.click("#key-form button")
        ask(page, "Hello?")
        page.wait_for_selector("#status:text('Done.')")
        assert page.inner_text(".answer .said") == "Hello."
