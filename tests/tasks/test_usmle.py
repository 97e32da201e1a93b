"""medAlpaca's USMLE files load as they are, and a fault names file, question and field."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from meadowlark.errors import UserError
from meadowlark.tasks import load, resolve

FIXTURES = Path(__file__).parent / "usmle"


@pytest.mark.parametrize(("step", "targets"), [(1, "BCA"), (2, "AD"), (3, "BC")])
def test_each_step_is_read_with_its_solutions(step: int, targets: str) -> None:
    questions, rejected = load(resolve(f"usmle_step{step}={FIXTURES}", None))
    assert rejected == []
    assert "".join(q.target for q in questions) == targets
    assert [q.id for q in questions][:2] == [f"usmle_step{step}-1", f"usmle_step{step}-3"]
    assert all(q.task == f"usmle_step{step}" and len(q.choices) >= 4 for q in questions)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"question": " "}, "step1.json, question 2, field 'question'"),
        ({"options": {"A": "one", "C": "two"}}, "step1.json, question 2, field 'options'"),
        ({"options": {"A": "one", "B": ""}}, "question 2, field 'options': expected a text"),
        ({"no": None}, "question 2, field 'no'"),
        ({"no": 99}, "step1_solutions.json, number 99: expected one of A, B, C, D, E, not None"),
    ],
)
def test_a_malformed_question_names_file_row_and_field(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    rows = json.loads((tmp_path / "step1.json").read_text())
    rows[1] |= change
    (tmp_path / "step1.json").write_text(json.dumps(rows))
    with pytest.raises(UserError, match=message):
        load(resolve(f"usmle_step1={tmp_path}", None))


def test_a_file_that_is_no_json_is_said_to_be_none(tmp_path: Path) -> None:
    shutil.copytree(FIXTURES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "step2_solutions.json").write_text("1: A")
    with pytest.raises(UserError, match=r"step2_solutions.json cannot be read as JSON"):
        load(resolve(f"usmle_step2={tmp_path}", None))
