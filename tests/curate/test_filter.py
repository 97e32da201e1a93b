"""The near-duplicate filter as a stage: both rules, neighbours named, real counts."""

from pathlib import Path

import pytest

from meadowlark.curate.filter import REASON, filter_records
from meadowlark.dataset import read, read_manifest, read_table
from meadowlark.errors import UserError
from meadowlark.match import rouge_l_f1
from meadowlark.records import Record
from meadowlark.sources.convert import convert

TASKS = [
    "Explain the causes of high blood pressure to a patient",
    "Summarise the discharge letter",
    "Explain the causes of high blood pressure to a nurse",
    "Explain the causes of high blood pressure to a new patient",
]


@pytest.fixture
def tasks(tmp_path: Path) -> Path:
    file = tmp_path / "tasks.csv"
    file.write_text("instruction\n" + "\n".join(TASKS) + "\n")
    return file


def test_the_first_of_a_group_stays_and_the_others_name_it(tasks: Path, tmp_path: Path) -> None:
    filter_records(tasks, tmp_path / "out")
    kept, _ = read(tmp_path / "out", Record)
    assert [row.instruction for row in kept] == TASKS[:2]
    rejected = read_table(tmp_path / "out" / "rejected.parquet", Record)
    assert rejected.column("reason").to_pylist() == [REASON, REASON]
    score = rouge_l_f1(TASKS[2], TASKS[0])
    assert rejected.column("detail").to_pylist()[0] == f"{kept[0].id} scores {score:.4f}"


def test_by_the_other_rule_the_whole_group_goes(tasks: Path, tmp_path: Path) -> None:
    filter_records(tasks, tmp_path / "out", rule="others")
    assert [row.instruction for row in read(tmp_path / "out", Record)[0]] == [TASKS[1]]


def test_rows_without_the_field_are_kept(tasks: Path, tmp_path: Path) -> None:
    filter_records(tasks, tmp_path / "out", field="input")
    assert len(read(tmp_path / "out", Record)[0]) == 4


def test_a_field_that_all_rows_share_is_warned_of(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("instruction,input\n" + "".join(f"Answer this,question {n}\n" for n in "abcd"))
    warnings = filter_records(file, tmp_path / "out").manifest.warnings
    assert warnings == ["4 of 4 rows have the same instruction: compare another --field"]
    assert filter_records(file, tmp_path / "other", field="input").manifest.warnings == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "keep"}, "Did you mean 'kept'"),
        ({"field": "instructions"}, "Did you mean 'instruction'"),
        ({"threshold": 7.0}, "at least 0 and below 1"),
    ],
)
def test_mistakes_are_named(
    options: dict[str, object], message: str, tasks: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=message):
        filter_records(tasks, tmp_path / "out", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(("rule", "kept"), [("kept", 1065), ("others", 391)])
def test_the_real_wikidoc_questions_as_rouge_score_counts_them(
    rule: str, kept: int, real_data: Path, tmp_path: Path
) -> None:
    raw = real_data / "meadow/wikidoc_patient_information/medical_meadow_small.json"
    convert("wikidoc_patient_information", tmp_path / "rows", raw=raw)
    filter_records(tmp_path / "rows", tmp_path / "out", rule=rule, field="input")
    assert read_manifest(tmp_path / "out").rows["kept"] == kept
