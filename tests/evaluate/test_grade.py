"""Grading single answers: by a scale, by a rubric, and what a failed grading counts as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from meadowlark.dataset import read, write_table
from meadowlark.errors import UserError
from meadowlark.evaluate.grade import estimate_grades, grade_answers
from meadowlark.evaluate.rubrics import SHIPPED, read_rubrics
from meadowlark.llm import ChatReply, ChatRequest, Price, ScriptedModel
from meadowlark.llm.errors import CallFailed
from meadowlark.records import Answer, Grade, Question, to_table

JUDGE = "openai:m@http://test/v1"
RUBRIC = [
    {
        "item": "1",
        "criteria": [
            {"criterion": "Names the dose.", "points": 5, "tags": ["axis:accuracy"]},
            {"criterion": "Says when to come back.", "points": 3},
            {"criterion": "Names a wrong drug.", "points": -4},
        ],
        "tags": ["theme:dosing"],
    },
    {"prompt": "Is fever  dangerous?", "criteria": [{"criterion": "Says rarely.", "points": 2}]},
]


def side(folder: Path, name: str, texts: dict[str, str]) -> Path:
    folder.mkdir()
    prompts = {"1": "How much?", "2": "Is fever dangerous?", "3": "And now?"}
    questions = [Question(i, "t", prompts[i]) for i in texts]
    answers = [Answer(i, name, text=text) for i, text in texts.items()]
    write_table(folder / "questions.parquet", to_table(questions, Question))
    write_table(folder / "answers.parquet", to_table(answers, Answer))
    return folder


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return side(tmp_path / "mine", "wisent", {"1": "10 mg", "2": "rarely", "3": "x"})


@pytest.fixture
def rubric(tmp_path: Path) -> Path:
    path = tmp_path / "rubric.jsonl"
    path.write_text("\n".join(map(json.dumps, RUBRIC)))
    return path


def test_a_criterion_is_met_not_met_or_unscored(mine: Path, rubric: Path, tmp_path: Path) -> None:
    def judge(request: ChatRequest) -> str | Exception:
        text = request.turns[-1].content
        assert "wisent" not in text
        if "Names the dose" in text:
            return '{"explanation": "it does", "criteria_met": true}'
        if "come back" in text:
            return '{"explanation": "it do'
        if "wrong drug" in text:
            return CallFailed("HTTP 400", "no", request_only=True)
        return '{"criteria_met": false}'

    model = ScriptedModel(judge)
    out = tmp_path / "out"
    run = grade_answers(mine, [], [JUDGE], out, rubric=rubric, given=[model])
    found = [(g.item, g.criterion, g.points, g.max_points) for g in read(out, Grade)[0]]
    assert found == [
        ("1", "Names the dose.", 5, 5),
        ("1", "Says when to come back.", None, 3),
        ("1", "Names a wrong drug.", None, -4),
        ("2", "Says rarely.", 0, 2),
    ]
    assert run.manifest.results["unscored"] == 2
    assert run.manifest.rows["rejected"] == {"no rubric": 1}
    kept = json.loads((out / "rubric.json").read_text())
    assert kept[0]["criteria"][0]["tags"] == ["axis:accuracy"]
    assert kept[0]["tags"] == ["theme:dosing"]


def test_a_fault_that_is_met_costs_its_points(mine: Path, rubric: Path, tmp_path: Path) -> None:
    model = ScriptedModel(lambda _: '{"criteria_met": true}')
    grade_answers(mine, [], [JUDGE], tmp_path / "out", rubric=rubric, schema=True, given=[model])
    assert [g.points for g in read(tmp_path / "out", Grade)[0]] == [5, 3, -4, 2]
    assert all(request.schema is not None for request in model.asked)


def test_a_rating_is_a_number_of_the_scale_or_nothing(mine: Path, tmp_path: Path) -> None:
    other = side(tmp_path / "other", "heron", {"1": "20 mg", "2": "never", "3": "y"})
    replies = [
        "Fine. Rating: [[8]]",
        "[[11]]",
        "no rating",
        ChatReply("", "refused"),
        "[[1]]",
        "[[7.5]]",
    ]
    model = ScriptedModel(replies)
    out = tmp_path / "out"
    run = grade_answers(mine, [other], [JUDGE], out, protocol="correctness", given=[model])
    found = [(g.item, g.model, g.points) for g in read(out, Grade)[0]]
    assert found == [
        ("1", "wisent", 8),
        ("1", "heron", None),
        ("2", "wisent", None),
        ("2", "heron", None),
        ("3", "wisent", 1),
        ("3", "heron", 7.5),
    ]
    assert {(g.criterion, g.max_points, g.by) for g in read(out, Grade)[0]} == {
        ("correctness", 10, "judge:m")
    }
    assert run.manifest.results["unscored"] == 3
    again = grade_answers(mine, [other], [JUDGE], out, protocol="correctness", given=[model])
    assert again.done_before
    assert len(model.asked) == 6


def test_the_shipped_rubric_is_for_any_item_and_costs_a_request_a_criterion(
    mine: Path, tmp_path: Path
) -> None:
    criteria = read_rubrics(SHIPPED["medical"]).by_item["*"].criteria
    assert any(c.points < 0 for c in criteria)
    (found,) = estimate_grades(
        mine, [], [JUDGE], tmp_path / "out", given=[ScriptedModel([], price=Price(1, 1))]
    )
    assert found.requests == 3 * len(criteria)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"item": "1"}, "no criteria"),
        ({"item": "1", "criteria": [{"criterion": "x"}]}, "no 'points'"),
        ({"item": "1", "criteria": [{"criterion": "x", "points": 0}]}, "other than 0"),
        ({"item": "1", "criteria": [{"criterion": "x", "points": -1}]}, "positive points"),
        ({"item": "1", "criteria": [{"criterion": "x", "points": 1}] * 2}, "stands there twice"),
        ({"criteria": [{"criterion": "x", "points": 1}]}, "names its item or prompt"),
        ("x", "is no rubric"),
    ],
)
def test_a_rubric_that_means_nothing_is_refused(tmp_path: Path, row: object, fault: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps([row]))
    with pytest.raises(UserError, match=fault):
        read_rubrics(path)


def test_a_rubric_is_for_rubrics_only(mine: Path, rubric: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--rubric is for"):
        grade_answers(mine, [], [JUDGE], tmp_path / "out", protocol="helpfulness", rubric=rubric)
    with pytest.raises(UserError, match="no such file"):
        grade_answers(mine, [], [JUDGE], tmp_path / "out", rubric=tmp_path / "no.json")


def test_draws_left_ungraded_and_names_that_a_judge_reads_are_said(
    mine: Path, tmp_path: Path
) -> None:
    answers = read(mine, Answer)[0]
    answers += [Answer("1", "wisent", 1, "I am Wisent."), Answer("2", "wisent", 1, "no")]
    answers[2] = Answer("3", "wisent", text="I am Wisent.")
    write_table(mine / "answers.parquet", to_table(answers, Answer))
    model = ScriptedModel(lambda _: "[[7]]")
    run = grade_answers(mine, [], [JUDGE], tmp_path / "o", protocol="helpfulness", given=[model])
    assert run.manifest.warnings == [
        "1 answer of wisent with its name, which the judge reads there",
        "2 further draws of wisent, which nobody judged",
    ]
    assert len(model.asked) == 3
