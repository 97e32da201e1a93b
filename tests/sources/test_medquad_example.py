"""MedQuAD's test, shown by docs/adding-a-source.md, and that the page shows what the code says."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from meadowlark.dataset import read
from meadowlark.records import Record
from meadowlark.sources.convert import convert

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "adding-a-source.md"
QUOTED = re.compile(r"<!-- from (\S+): (?:def )?(\w+) -->\n```python\n(.*?)```", re.S)


def test_answers_that_were_removed_are_rejected_as_such(tmp_path: Path) -> None:
    """A collection's comment says so; elsewhere an empty answer is just missing."""
    pair = '<QAPair><Question qtype="causes">What causes {}?</Question><Answer>{}</Answer></QAPair>'
    body = f"<QAPairs>{pair.format('gout', 'Uric acid.')}{pair.format('fever', '')}</QAPairs>"
    for name, comment in (("a", ""), ("b", "<!-- were removed to comply with copyright -->")):
        text = f'<Document source="NIH">{comment}<Focus>Pain</Focus>{body}</Document>'
        (tmp_path / f"{name}.xml").write_text(text)
    run = convert("medquad", tmp_path / "out", raw=tmp_path)
    rows, _ = read(tmp_path / "out", Record)
    assert [(row.input, row.output) for row in rows] == [("What causes gout?", "Uric acid.")] * 2
    assert rows[0].tags["question_type"] == "causes"
    assert run.manifest.rows["rejected"] == {"answer removed by the source": 1, "no answer": 1}


def quoted() -> list[tuple[str, str, str]]:
    return QUOTED.findall(PAGE.read_text(encoding="utf-8"))


def source_of(file: str, name: str) -> str:
    """The text of a function, or of an assignment, at the top of a file."""
    text = (ROOT / file).read_text(encoding="utf-8")
    for node in ast.parse(text).body:
        names = [getattr(node, "name", ""), getattr(getattr(node, "target", None), "id", "")]
        if name in names:
            segment = ast.get_source_segment(text, node)
            assert segment is not None
            return segment
    raise AssertionError(f"{file} has no {name}")


@pytest.mark.parametrize(("file", "name", "code"), quoted())
def test_the_page_quotes_the_code_as_it_is(file: str, name: str, code: str) -> None:
    assert code.strip() == source_of(file, name)


def test_the_page_quotes_module_card_and_test() -> None:
    assert [name for _, name, _ in quoted()] == [
        *("rows", "_pairs", "SOURCE", "test_answers_that_were_removed_are_rejected_as_such")
    ]
