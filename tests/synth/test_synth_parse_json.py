"""Tasks in JSON: asked for or not, whole, wrapped, renamed, cut; what is no task keeps its text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.dataset import read
from meadowlark.llm import ChatRequest, ScriptedModel
from meadowlark.records import Record
from meadowlark.synth.generate import generate
from meadowlark.synth.parse import parse_tasks
from meadowlark.synth.parse_json import SCHEMA
from meadowlark.synth.task import Task
from meadowlark.synth.task_requests import RequestForm, layout_of

ROWS = [
    {
        "type": "chat",
        "topic": "Anaemia",
        "view": "nurse",
        "difficulty": 2,
        "instruction": 'Explain "ferritin".',
        "input": "<noinput>",
    },
    {
        "type": "multiple choice",
        "topic": "DNA",
        "view": "student",
        "difficulty": 4,
        "instruction": "Choose.",
        "input": "Which base is in RNA only?\nA) adenine\nB) uracil {U}",
    },
]
FIRST = Task('Explain "ferritin".', "", "chat", "Anaemia", "nurse", "2")
SECOND = Task("Choose.", ROWS[1]["input"], "multiple choice", "DNA", "student", "4")  # type: ignore
WHOLE = json.dumps({"tasks": ROWS}, indent=1)


@pytest.mark.parametrize(
    "text",
    [
        WHOLE,
        json.dumps(ROWS),
        "\n".join(json.dumps(row) for row in ROWS),
        f"```json\n{WHOLE}\n```",
        f"Here are the tasks:\n\n{WHOLE}\n\nI hope they help.",
        f"<think>{{maybe}}</think>{WHOLE}",
        WHOLE.replace('"tasks"', '"items"'),
        WHOLE.replace('"instruction"', '"Task Instruction"').replace(
            '"Task Instruction"', '"Instruction"'
        ),
        WHOLE.replace('"view"', '"point_of_view"').replace('"topic"', '"Subject"'),
        WHOLE.replace('"<noinput>"', "null"),
        WHOLE.replace('"<noinput>"', '""'),
        WHOLE.replace('"<noinput>"', '"N/A"'),
        WHOLE.replace("2,", '"2",'),
        json.dumps({"tasks": {"1": ROWS[0], "2": ROWS[1]}})
        .replace('{"tasks": ', "")
        .removesuffix("}"),
        WHOLE.replace("\\n", "\n"),  # a real line break within a string
    ],
)
def test_json_is_read_in_every_variant_that_teachers_write(text: str) -> None:
    assert parse_tasks(text) == ([FIRST, SECOND], [])


def test_choices_as_an_object_become_lines() -> None:
    row = {**ROWS[1], "input": {"question": "Which?", "A": "adenine", "B": "uracil"}}
    (task,), unread = parse_tasks(json.dumps([row]))
    assert task.input == "question: Which?\nA: adenine\nB: uracil"
    assert unread == []


def test_a_cut_reply_loses_only_its_last_task() -> None:
    begin = WHOLE.index("{", WHOLE.index("<noinput>"))
    for end in range(begin + 1, len(WHOLE) - 3, 5):
        tasks, unread = parse_tasks(WHOLE[:end], "length")
        assert tasks == [FIRST]
        assert [u.reason for u in unread] == ["truncated"]
        assert unread[0].raw == WHOLE[begin:end].strip()
    assert parse_tasks(WHOLE[:end], "stop")[1][0].reason == "not parsed"


def test_what_is_no_task_comes_back_with_reason_and_text() -> None:
    rows = [ROWS[0], {**ROWS[1], "instruction": ""}, {"instruction": "Lone.", "type": "chat"}]
    tasks, unread = parse_tasks(json.dumps(rows))
    assert tasks == [FIRST]
    assert [u.reason for u in unread] == ["missing instruction", "missing input"]
    assert "uracil" in unread[0].raw
    assert json.loads(unread[1].raw)["instruction"] == "Lone."
    for text in ('{"error": "overloaded"}', "[]", "{" * 9999, '{"a":' * 5000, "[1, 2]"):
        assert parse_tasks(text) == ([], [("not parsed", text)])


text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=80).filter(str.strip)


@given(st.lists(st.tuples(text, text), min_size=1, max_size=5), st.booleans())
def test_what_is_written_as_json_is_read_back(
    content: list[tuple[str, str]], escaped: bool
) -> None:
    rows = [{"type": "chat", "instruction": f"Do {a}", "input": f"in {b}"} for a, b in content]
    tasks, unread = parse_tasks(json.dumps({"tasks": rows}, ensure_ascii=escaped))
    assert unread == []
    assert [(t.instruction, t.input) for t in tasks] == [
        (row["instruction"].strip(), row["input"].strip()) for row in rows
    ]


@given(st.text('{}[]":, \nabinstructioput', max_size=200))
def test_no_json_is_too_strange(text: str) -> None:
    tasks, unread = parse_tasks(text)
    assert tasks or unread


def test_the_layout_is_a_choice_of_generate(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(json.dumps({"instruction": f"Seed {n}"}) + "\n" for n in range(4)))

    def teacher(request: ChatRequest) -> str:
        assert '{"tasks": [...]}' in request.turns[1].content
        rows = [{**row, "instruction": f"{request.label} {row['input']}"} for row in ROWS]
        return json.dumps({"tasks": rows})

    url, model = "openai:m@http://test/v1", ScriptedModel(teacher)
    form = RequestForm(layout="json")
    run = generate(seeds, url, 4, tmp_path / "o", form=form, threshold=None, model=model)
    rows, _ = read(tmp_path / "o", Record)
    assert [row.tags["type"] for row in rows] == ["chat", "multiple choice"] * 2
    assert run.manifest.options["layout"] == "json"


def test_the_schema_asks_for_what_the_parser_reads() -> None:
    item = SCHEMA["properties"]["tasks"]["items"]
    assert set(item["required"]) == set(item["properties"]) == set(ROWS[0])


def test_json_is_asked_for_with_its_schema(tmp_path: Path) -> None:
    seeds = tmp_path / "seeds.jsonl"
    seeds.write_text("".join(f'{{"instruction": "Seed {n}."}}\n' for n in range(3)))
    for layout, schema in (("json", SCHEMA), ("text", None)):
        model = ScriptedModel(lambda _: WHOLE)
        form = RequestForm(layout=layout_of(layout))
        generate(seeds, "openai:m@http://h/v1", 2, tmp_path / layout, form=form, model=model)
        assert {id(asked.schema) for asked in model.asked} == {id(schema)}
