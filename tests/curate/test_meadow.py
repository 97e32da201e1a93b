"""Medical Meadow's table: its sums are the published ones, its rows are found in records."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meadowlark.cli import run as command
from meadowlark.curate.meadow import TABLE, rebuilt, totals
from meadowlark.records import Record, to_json
from meadowlark.sources import SOURCES
from meadowlark.sources.stackexchange import SITES


def test_the_sums_are_the_published_totals() -> None:
    assert totals() == (1_499_176, 229_438)


def test_the_table_names_the_sources_as_they_are_converted() -> None:
    assert {row.source for row in TABLE} <= SOURCES.keys()
    assert len({row.title for row in TABLE}) == len(TABLE) == 19
    assert {row.value for row in TABLE if row.tag == "site"} == set(SITES)
    test_only = {row.source for row in TABLE if not row.used}
    assert test_only == {name for name in {r.source for r in TABLE} if SOURCES[name].use == "test"}


RECORDS = [
    *(Record(f"Site {n}", source="stackexchange", tags={"site": "health"}) for n in range(3)),
    Record("Another site", source="stackexchange", tags={"site": "biology"}),
    Record("A site that is not in the table", source="stackexchange", tags={"site": "cooking"}),
    *(Record(f"Step {n}", source="usmle_self_assessment", tags={"step": "step3"}) for n in (1, 2)),
    *(Record(f"Which {n}", source="medqa") for n in range(4)),
    Record("Not in the collection", source="medquad"),
]


def test_records_are_counted_by_source_and_by_site() -> None:
    assert rebuilt(RECORDS) == {
        "Stack Exchange health": 3,
        "Stack Exchange biology": 1,
        "USMLE self-assessment, step 3": 2,
        "MedQA (data card only)": 4,
    }


def test_stats_prints_the_rebuilt_counts_beside_the_published(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(to_json(record)) + "\n" for record in RECORDS))
    assert command(["stats", str(data), "--out", str(tmp_path / "out")]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["Medical", "Meadow", "published", "used", "rows.jsonl"] in lines
    assert ["Stack", "Exchange", "health", "7,721", "7,721", "3"] in lines
    assert ["CORD-19", "1,056,660", "50,000", "·"] in lines
    assert ["in", "all,", "without", "MedQA", "1,499,176", "229,438", "6"] in lines
    described = json.loads((tmp_path / "out" / "stats.json").read_text())["datasets"]
    assert described["rows.jsonl"]["medical_meadow"] == rebuilt(RECORDS)


def test_other_data_have_no_such_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"instruction": "Explain", "output": "So."}) + "\n")
    assert command(["stats", str(data)]) == 0
    assert "Medical Meadow" not in capsys.readouterr().out
