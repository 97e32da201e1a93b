"""The pages in a real browser: keys, hostile text, a server that dies, a phone's width.

Needs Playwright and Debian's chromium; skipped, saying so, where one is missing.
"""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_process import kill, start
from studies import HOSTILE, comparison, review

from meadowlark.annotate.links import LINKS, read_tokens
from meadowlark.annotate.store import ADMINISTRATOR, Store

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = shutil.which("chromium") or ""
PHONE = {"width": 375, "height": 740}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="there is no chromium"),
]
PICTURES = os.environ.get("MEADOWLARK_PICTURES", "")
"""A folder for screenshots, for whoever wants to look at them."""


@pytest.fixture
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as made:
        chromium = made.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


def picture(page: Any, name: str) -> None:
    if PICTURES:
        page.screenshot(path=str(Path(PICTURES) / f"{name}.png"), full_page=True)


def at(page: Any, progress: str) -> None:
    """Wait for the page with this progress, its script included."""
    page.get_by_text(progress).wait_for()
    page.wait_for_load_state("load")


def faults(page: Any) -> list[str]:
    """What axe-core finds serious or critical on a page, each with where."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe-core")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {[node['html'][:120] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_core_finds_no_serious_fault(tmp_path: Path, browser: Any, scheme: str) -> None:
    for study in (comparison(tmp_path / "c", 2, "2", overlap=1), review(tmp_path / "r", 2, "2")):
        process, base = start(study)
        tokens = read_tokens(study / LINKS)
        page = browser.new_page(viewport=PHONE, color_scheme=scheme)
        page.goto(f"{base}/in/{tokens['annotator-1']}")
        assert faults(page) == []
        page.keyboard.press("2")  # a choice, or the text to be edited
        assert faults(page) == []
        page.keyboard.press("Escape")
        page.keyboard.press("3")
        page.evaluate("document.getElementById('judging').noValidate = true")
        page.evaluate("document.getElementById('note').value = 'x'.repeat(5000)")
        page.evaluate("document.getElementById('judging').submit()")
        page.locator(".fault").wait_for()
        assert faults(page) == []
        boss = browser.new_page(viewport=PHONE, color_scheme=scheme)
        boss.goto(f"{base}/in/{tokens[ADMINISTRATOR]}")
        assert faults(boss) == []
        boss.goto(f"{base}/nowhere")
        assert faults(boss) == []
        kill(process, signal.SIGTERM)


def test_a_comparison_by_keys_with_a_server_that_is_killed(tmp_path: Path, browser: Any) -> None:
    study = comparison(tmp_path, count=3, people="1", text=HOSTILE * 3)
    process, base = start(study)
    port = base.rpartition(":")[2]
    token = read_tokens(study / LINKS)["annotator-1"]
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{base}/in/{token}")
    assert page.url == f"{base}/"
    assert page.title() == "Compare two answers · Meadowlark"  # no script of an answer ran
    assert page.locator(".words b, .words script").count() == 0
    assert HOSTILE in page.locator(".side").first.inner_text()
    picture(page, "compare-desktop")
    page.keyboard.press("2")
    page.keyboard.press("3")
    page.keyboard.press("Enter")
    at(page, "1 of 3 done")

    page.keyboard.press("1")
    assert page.locator('input[name="correctness"][value="first"]').is_checked()
    page.keyboard.press("n")
    page.keyboard.type("u 1 half a note")  # its letters and digits are no commands
    kill(process, signal.SIGKILL)
    page.keyboard.press("Escape")
    page.locator('input[name="helpfulness"][value="both_bad"]').check()
    page.locator("#save").click()
    page.get_by_text("Not saved yet").wait_for()
    picture(page, "compare-server-gone")
    process, _ = start(study, "--port", port)
    at(page, "2 of 3 done")

    # The browser dies with a judgement half made: it finds it again.
    page.keyboard.press("4")
    page.locator("#note").fill("begun")
    page.reload()
    assert page.locator('input[name="correctness"][value="both_bad"]').is_checked()
    assert page.locator("#note").input_value() == "begun"
    page.locator("#note").blur()
    page.keyboard.press("u")
    at(page, "1 of 3 done")
    assert page.locator("#note").input_value() == "u 1 half a note"
    assert page.locator('input[name="correctness"][value="first"]').is_checked()
    page.locator("#save").click()
    at(page, "2 of 3 done")
    page.set_viewport_size(PHONE)
    picture(page, "compare-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    page.locator('input[name="helpfulness"][value="tie"]').check()
    page.locator("#save").click()
    page.get_by_text("All 3 are done").wait_for()
    picture(page, "finished-phone")
    assert errors == []
    kill(process, signal.SIGTERM)
    with Store(study) as store:
        said = [one.judgement for one in store.judged()]
    assert said == [
        {"correctness": "second", "helpfulness": "tie", "note": ""},
        {"correctness": "first", "helpfulness": "both_bad", "note": "u 1 half a note"},
        {"correctness": "both_bad", "helpfulness": "tie", "note": "begun"},
    ]


def test_a_review_and_the_administrators_page(tmp_path: Path, browser: Any) -> None:
    study = review(tmp_path, count=4, people="2", overlap=1)
    process, base = start(study)
    tokens = read_tokens(study / LINKS)
    for name in ("annotator-1", "annotator-2"):
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{base}/in/{tokens[name]}")
        assert not page.locator("#edit-output").is_visible()
        page.keyboard.press("2")
        assert page.locator("#edit-output").is_visible()
        page.keyboard.type("Mended: ")
        page.locator("#save").focus()
        picture(page, "review-desktop")
        page.locator("#save").click()
        at(page, "1 of 4 done")
        page.set_viewport_size(PHONE)
        page.keyboard.press("3")
        assert page.locator("#reason").is_visible()
        page.locator("#reason").select_option("unsafe advice")
        picture(page, "review-phone")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        page.locator("#save").click()
        at(page, "2 of 4 done")
        page.close()
    boss = browser.new_page(viewport=PHONE)
    boss.goto(f"{base}/in/{tokens[ADMINISTRATOR]}")
    boss.get_by_role("button", name="Export now").click()
    boss.get_by_text("4 judgements were written").wait_for()
    picture(boss, "administrator-phone")
    boss.set_viewport_size({"width": 1280, "height": 900})
    picture(boss, "administrator-desktop")
    kill(process, signal.SIGTERM)
    with Store(study) as store:
        decisions = [one.judgement["decision"] for one in store.judged()]
    assert sorted(decisions) == ["edit", "edit", "reject", "reject"]
    assert (study / "export" / "rows.parquet").exists()
