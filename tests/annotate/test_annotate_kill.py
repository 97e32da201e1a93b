"""The server killed with -9 under two people's hands: no verdict is lost or doubled."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import aiohttp
from server_process import kill, start
from studies import BOTH, MODELS, Browser, answers, comparison, form_of, people_file

from meadowlark.annotate.links import LINKS, read_tokens
from meadowlark.annotate.store import Store
from meadowlark.dataset import read, read_manifest
from meadowlark.records import Verdict


def test_killed_twice_and_one_browser_dead_no_verdict_is_lost_or_doubled(tmp_path: Path) -> None:
    sides = [answers(tmp_path / f"side{n}", m, 8) for n, m in enumerate(MODELS)]
    study = tmp_path / "study"
    people = people_file(tmp_path, "Ada", "Bo")
    command = [*sides, "--people", people, "--overlap", "0.5"]
    acknowledged: Counter[tuple[str, str]] = Counter()
    total = 2 * 4 + 4

    async def sitting(base: str, most: int) -> None:
        """Both judge at most so many items each."""
        tokens = read_tokens(study / LINKS)
        for name in ("Ada", "Bo"):
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as session:
                browser = Browser(session, base)
                assert await browser.sign_in(tokens[name]) == 200
                for _ in range(most):
                    page = await browser.page()
                    if "Save and go on" not in page:
                        break
                    fields = form_of(page, **{**BOTH, "note": name})
                    status, _ = await browser.post("/judge", fields)
                    assert status == 200
                    acknowledged[name, fields["item"]] += 1

    late: list[dict[str, str]] = []

    async def last_form(base: str) -> None:
        """Ada has a page open, and Bo's form is posted by a browser that hears no answer."""
        tokens = read_tokens(study / LINKS)
        for name in ("Ada", "Bo"):
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as session:
                browser = Browser(session, base)
                await browser.sign_in(tokens[name])
                late.append(form_of(await browser.page(), **{**BOTH, "note": name}))
                if name == "Bo":
                    await browser.post("/judge", late[-1])

    async def again(base: str) -> None:
        """The pages from before the kill are sent, as a browser that tries again does."""
        tokens = read_tokens(study / LINKS)
        for name, fields in zip(("Ada", "Bo"), late, strict=True):
            jar = aiohttp.CookieJar(unsafe=True)
            async with aiohttp.ClientSession(cookie_jar=jar) as session:
                browser = Browser(session, base)
                await browser.sign_in(tokens[name])
                for _ in range(2):
                    assert (await browser.post("/judge", fields))[0] == 200
                acknowledged[name, fields["item"]] += 1

    process, base = start(study, *command)
    asyncio.run(sitting(base, 2))
    asyncio.run(last_form(base))
    kill(process, signal.SIGKILL)
    with Store(study) as store:
        assert len(store.judged()) == 5
    process, base = start(study, *command)  # the same command
    asyncio.run(again(base))
    kill(process, signal.SIGKILL)
    process, base = start(study)  # or only its folder
    asyncio.run(sitting(base, 99))
    said = kill(process, signal.SIGTERM)
    assert process.returncode == 0
    assert "results in" in said

    assert len(acknowledged) == total
    assert set(acknowledged.values()) == {1}
    verdicts, _ = read(study / "export", Verdict)
    assert len(verdicts) == 2 * total
    assert len({(v.by, v.item, v.criterion) for v in verdicts}) == 2 * total
    assert all(v.by == f"human:{v.note}" for v in verdicts)
    assert read_manifest(study / "export").results["judgements"] == total
    assert (study / LINKS).stat().st_mode & 0o777 == 0o600


def test_killed_while_eight_people_save_at_once_what_was_acknowledged_is_there(
    tmp_path: Path,
) -> None:
    study = comparison(tmp_path, count=40, people="8", overlap=0.2)
    total = 8 * 8 + 32
    acknowledged: Counter[tuple[str, str]] = Counter()

    async def whole() -> None:
        process, base = start(study)
        tokens = read_tokens(study / LINKS)
        up = asyncio.Event()
        up.set()
        goals = {goal: asyncio.Event() for goal in (15, 40, 70)}

        async def insist(browser: Browser, path: str, fields: dict[str, str]) -> str:
            """What the server answers in the end; the same is sent until it does."""
            while True:
                await up.wait()
                try:
                    if not path:
                        return await browser.page()
                    status, text = await browser.post(path, fields)
                except (aiohttp.ClientError, OSError):
                    await asyncio.sleep(0)  # the killer's turn
                    continue
                assert status == 200
                return text

        async def work(name: str) -> None:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
                browser = Browser(session, base)
                assert await browser.sign_in(tokens[name]) == 200
                while "Save and go on" in (page := await insist(browser, "", {})):
                    fields = form_of(page, **{**BOTH, "note": name})
                    await insist(browser, "/judge", fields)
                    acknowledged[name, fields["item"]] += 1
                    for goal, reached in goals.items():
                        if acknowledged.total() >= goal:
                            reached.set()

        async def killer() -> None:
            nonlocal process
            for reached in goals.values():
                await reached.wait()
                up.clear()
                await asyncio.to_thread(kill, process, signal.SIGKILL)
                port = base.rpartition(":")[2]
                process, _ = await asyncio.to_thread(start, study, "--port", port)
                up.set()

        names = [name for name in tokens if name.startswith("annotator")]
        await asyncio.gather(killer(), *(work(name) for name in names))
        await asyncio.to_thread(kill, process, signal.SIGTERM)

    asyncio.run(whole())
    assert len(acknowledged) == total
    assert set(acknowledged.values()) == {1}
    verdicts, _ = read(study / "export", Verdict)
    assert len(verdicts) == 2 * total
    assert len({(v.by, v.item, v.criterion) for v in verdicts}) == 2 * total
    assert all(v.by == f"human:{v.note}" for v in verdicts)
