"""What a reader of a guide does with hands and eyes between two blocks, done over the same doors.

    reader judges STUDY      signs in by every link of a study and judges all that is asked
    reader votes             asks on the chat page, reads both answers, votes
    reader fills FILE.xlsx   fills a spreadsheet in

The server is at $SERVER. Only the standard library speaks to it, as a browser would: pages, forms
and cookies. A page that does not say what it should ends the guide.
"""

from __future__ import annotations

import json
import os
import re
import sys
import urllib.parse
import urllib.request
from html import unescape
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any


def judges(study: str) -> None:
    """Everybody judges everything, and takes the first judgement back once; then the boss looks."""
    (boss, *links) = (Path(study) / "links.txt").read_text(encoding="utf-8").splitlines()
    assert boss.startswith("administrator\t")
    for link in links:
        jar = urllib.request.HTTPCookieProcessor(CookieJar())
        opener = urllib.request.build_opener(jar)
        page = opened(opener, link.split("\t")[1])
        (total,) = re.findall(r"0 of (\d+) done", page)
        page = sent(opener, "/judge", judgement(page))
        page = sent(opener, "/undo", fields(page, "/undo"))
        assert f"0 of {total} done" in page
        for n in range(int(total)):
            assert f"{n} of {total} done" in page
            page = sent(opener, "/judge", judgement(page))
        assert f"All {total} are done and saved" in page
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    page = opened(opener, boss.split("\t")[1])
    assert re.search(r"(\d+) of \1 judgements", page), page


def opened(opener: urllib.request.OpenerDirector, url: str) -> str:
    with opener.open(url) as answer:
        return str(answer.read().decode())


def sent(opener: urllib.request.OpenerDirector, path: str, form: dict[str, str]) -> str:
    body = urllib.parse.urlencode(form).encode()
    with opener.open(os.environ["SERVER"] + path, body) as answer:
        return str(answer.read().decode())


def fields(page: str, action: str) -> dict[str, str]:
    """The hidden fields of the form with this action."""
    (form,) = re.findall(rf'<form[^>]* action="{action}".*?</form>', page, re.S)
    found = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form)
    return {name: unescape(value) for name, value in found}


def judgement(page: str) -> dict[str, str]:
    """The form of a comparison or of a review, filled in by the number of the item."""
    form = fields(page, "/judge")
    odd = int(form["item"]) % 2
    if 'name="decision"' in page:
        said = {"decision": "reject", "reason": "poor wording"} if odd else {"decision": "accept"}
    else:
        said = {"correctness": "first" if odd else "both_bad", "helpfulness": "tie"}
    return form | said | {"note": ""}


def votes() -> None:
    """Three questions, both answers read, a vote each."""
    for n, winner in enumerate(("left", "tie", "both_bad")):
        asked = {"system": "", "instruction": f"What helps with a fever of 3{n + 7} degrees?",
                 "input": "", "temperature": 0, "max_tokens": 16}  # fmt: skip
        at = f"/web/compare/{json.loads(posted('/web/compare', asked))['id']}"
        for side in ("left", "right"):
            assert '"end"' in posted(f"{at}/{side}", {})
        said = json.loads(posted(f"{at}/vote", {"winner": winner}))
        assert said["votes"] == n + 1


def posted(path: str, body: Any) -> str:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(
        os.environ["SERVER"] + path, json.dumps(body).encode(), headers
    )
    with urllib.request.urlopen(request) as answer:
        return str(answer.read().decode())


def fills(file: str) -> None:
    """Chooses in every row of a comparison's spreadsheet but the last."""
    import openpyxl

    book = openpyxl.load_workbook(file)
    sheet = book.worksheets[0]
    columns = {cell.value: cell.column for cell in sheet[1]}
    for row in range(2, sheet.max_row):
        sheet.cell(row, columns["Correctness"]).value = "Answer 1"
        sheet.cell(row, columns["Helpfulness"]).value = "About equal"
    book.save(file)


if __name__ == "__main__":
    _, act, *words = sys.argv
    {"judges": judges, "votes": votes, "fills": fills}[act](*words)
