"""Reading teachers' lists: the ways in which real ones stray from the layout; AlpaCare's faults."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.labels import (
    label_tags,
    normalise_difficulty,
    normalise_type,
    normalise_view,
    topic_area,
)
from meadowlark.synth.parse import Task, parse_tasks

ASKED = """###
4. Type: open Q&A
Topic: Anaemia
View: patient
Difficulty: 2
Instruction: Why am I tired when my iron is low?
Input: <noinput>
###
5. Type: classification
Topic: Haematology
View: nurse
Difficulty: 3
Instruction: Sort these results into normal and abnormal.
Input: haemoglobin 13.2 g/dL
ferritin 8 ug/L"""
FIRST = Task("Why am I tired when my iron is low?", "", "open Q&A", "Anaemia", "patient", "2")
SECOND = Task(
    "Sort these results into normal and abnormal.",
    "haemoglobin 13.2 g/dL\nferritin 8 ug/L",
    "classification",
    "Haematology",
    "nurse",
    "3",
)


def test_the_layout_that_was_asked_for() -> None:
    assert parse_tasks(ASKED) == ([FIRST, SECOND], [])


@pytest.mark.parametrize(
    "text",
    [
        ASKED + "\n###",
        ASKED + "\n###\n",
        ASKED.replace("\n", "\r\n"),
        f"```markdown\n{ASKED}\n```",
        f"Sure! Here are the tasks:\n\n{ASKED}",
        f"<think>\nType: no\nTopic: no\nInstruction: no\n</think>\n{ASKED}",
        ASKED.removeprefix("###\n4. "),
        ASKED.removeprefix("###\n"),
        ASKED.replace("###\n", ""),
        ASKED.replace("###\n", "\n\n"),
        ASKED.replace("4. ", "").replace("5. ", ""),
        ASKED.replace("4. ", "4) ").replace("5. ", "5) "),
        ASKED.replace("###\n4. ", "### 4.\n").replace("###\n5. ", "### 5.\n"),
        ASKED.replace("###\n4. ", "### Task 4\n").replace("###\n5. ", "### Task 5\n"),
        ASKED.replace("###\n4. ", "**Task 4:**\n").replace("###\n5. ", "**Task 5:**\n"),
        ASKED.replace("###\n", "---\n"),
        ASKED.replace("Type:", "Task type:").replace("View:", "Perspective:"),
        ASKED.replace("Type:", "Task Type:").replace("View:", "Point of view:"),
        ASKED.replace("Difficulty:", "Difficulty level:").replace("Topic:", "Subject:"),
        ASKED.replace("Input: <", "Input:\n<").replace("Input: h", "Input:\nh"),
        ASKED.replace("<noinput>", "<noinput>\n\nI hope these tasks are useful!"),
        ASKED.replace("Input: h", 'Input: "h').replace("ug/L", 'ug/L"'),
        ASKED.replace("Input: h", 'Input: "h'),
        "\n".join(
            f"**{line.replace(':', ':**', 1)}" if ":" in line else line
            for line in ASKED.split("\n")
        ),
        "\n".join(
            f"- **{line.replace(':', '**:', 1)}" if ":" in line else line
            for line in ASKED.replace("4. ", "").replace("5. ", "").split("\n")
        ),
    ],
)
def test_real_teachers_stray_from_the_layout(text: str) -> None:
    assert parse_tasks(text) == ([FIRST, SECOND], [])


@pytest.mark.parametrize(
    "text",
    [
        ASKED.replace(": ", "："),
        ASKED.replace(": ", " : "),
        ASKED.replace(": ", "\u00a0: ").replace("4. ", "4.\u00a0"),
        ASKED.replace("4. ", "４．").replace("5. ", "５．"),
        ASKED.replace("4. ", "4、").replace("5. ", "5、"),
        ASKED.replace("4. ", "（4）").replace("5. ", "（5）"),
        ASKED.replace("###", "＃＃＃"),
        ASKED.replace("<noinput>", "＜noinput＞"),
        ASKED.replace("<noinput>", "« <noinput> »"),
        ASKED.replace("<noinput>", "„<noinput>“"),
        ASKED.replace("Input: h", "Input: „h").replace("ug/L", "ug/L“"),
        ASKED.replace("Input: h", "Input: «h").replace("ug/L", "ug/L»"),
        ASKED.replace("Instruction:", "Task:"),
        ASKED.replace("Instruction:", "**Question:**"),
        ASKED.replace("Instruction:", "Prompt:").replace("Input:", "Context:"),
        ASKED.replace("Type:", "Category:").replace("Input:", "Input text:"),
        ASKED.replace("4. ", "40001. ").replace("5. ", "40002. "),
    ],
)
def test_other_languages_punctuation_and_other_names(text: str) -> None:
    assert parse_tasks(text) == ([FIRST, SECOND], [])


def test_a_question_inside_an_input_is_no_field() -> None:
    input = "Question: what is RNA?\nContext: a ribosome\nTask: none\nPrompt: choose"
    text = ASKED.replace("<noinput>", input)
    assert [t.input for t in parse_tasks(text)[0]] == [input, SECOND.input]
    glued = ASKED.replace("low?\nInput: <noinput>", f"low? Question: why?\nInput: {input}")
    first = parse_tasks(glued)[0][0]
    assert first.instruction == "Why am I tired when my iron is low? Question: why?"
    assert first.input == input


def test_glued_tasks_come_apart() -> None:
    lines = ASKED.replace("###\n", "").replace("\nferritin", "; ferritin").split("\n")
    tasks, unread = parse_tasks(" ".join(lines))
    assert [t.instruction for t in tasks] == [FIRST.instruction, SECOND.instruction]
    assert tasks[1].input == "haemoglobin 13.2 g/dL; ferritin 8 ug/L"
    assert unread == []


def test_gpt4s_own_glued_tasks_come_apart_into_19(real_data: Path) -> None:
    """Counted by hand, by reading each row of the file from its instruction to the end of its input
    and counting the instructions met: the 12 rows hold one each in their own field, and rows 1,
    2, 3, 4, 10, 11 and 12 one more inside the input, after "2. Type:". No row holds three.
    """
    counts, tasks = [], []
    path = real_data / "alpacare" / "gpt4_generated_tasks_sample.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        names = ("type", "topic", "view", "difficulty", "instruction", "input")
        found, unread = parse_tasks("1. " + " ".join(f"{n.title()}: {row[n]}" for n in names))
        assert unread == []
        assert found[0].instruction == row["instruction"]
        counts.append(len(found))
        tasks += found
    assert counts == [2, 2, 2, 2, 1, 1, 1, 1, 1, 2, 2, 2]
    assert sum(task.input == "" for task in tasks) == 14
    assert not any("noinput" in task.input or "Type:" in task.input for task in tasks)
    # Of a glued multiple-choice question all four choices stay in its input.
    (choice,) = [task for task in tasks if "Choice A" in task.input]
    assert all(f"Choice {letter}:" in choice.input for letter in "ABCD")
    assert (choice.type, choice.view, choice.difficulty) == ("Multiple-choice Q&A", "Student", "3")


@pytest.mark.parametrize(
    "absent",
    [
        *("<noinput>", "<NoInput>", '"<noinput>"', '"<noinput>', "noinput", "<no input>", "N/A"),
        *("NA", "None", "None.", "No input needed", "No input required.", "(none)", "-", ""),
        "`<noinput>`",
    ],
)
def test_an_absent_input_is_empty(absent: str) -> None:
    tasks, unread = parse_tasks(ASKED.replace("<noinput>", absent))
    assert (tasks, unread) == ([FIRST, SECOND], [])


@pytest.mark.parametrize(
    "input",
    [
        "haemoglobin 13.2",
        "DNA",
        "RNA is read into protein; NA stands for sodium.",
        "None of the above applies to a patient with N/A in the chart.",
        "1. Aspirin 75 mg\n2. Type: 2 diabetes, on metformin\n3. Diet: low salt",
        "Type: ductal carcinoma\nGrade: 2\nMargins: clear",
        "Topic sentence: missing.\nInput: 1,200 ml\nOutput: 300 ml of urine",
        "A) 3.5\nB) 5.5\nC) 7.5\nD) 9.5",
        'He said "it hurts" and she said "where?"',
        "## Findings\nNodule of 13.2 mm\n## Impression\nFollow up",
    ],
)
def test_an_input_is_kept_as_it_is(input: str) -> None:
    text = ASKED.replace("<noinput>", input)
    tasks, unread = parse_tasks(text)
    assert [t.input for t in tasks] == [input, SECOND.input]
    assert unread == []


def test_a_label_that_comes_late_is_found() -> None:
    text = ASKED.replace("Difficulty: 2\n", "").replace("<noinput>", "A note.\nDifficulty: 2")
    assert parse_tasks(text)[0][0].difficulty == "2"
    assert parse_tasks(text)[0][0].input == "A note."


def test_missing_labels_do_not_lose_a_task() -> None:
    text = ASKED.replace("Topic: Anaemia\n", "").replace("Difficulty: 2\n", "")
    tasks, unread = parse_tasks(text)
    assert [t.instruction for t in tasks] == [FIRST.instruction, SECOND.instruction]
    assert (tasks[0].topic, tasks[0].difficulty, unread) == ("", "", [])


def test_what_is_no_task_comes_back_with_reason_and_text() -> None:
    no_instruction = ASKED.replace("Instruction: Why am I tired when my iron is low?\n", "")
    tasks, unread = parse_tasks(no_instruction)
    assert tasks == [SECOND]
    assert [u.reason for u in unread] == ["missing instruction"]
    assert "Topic: Anaemia" in unread[0].raw
    tasks, unread = parse_tasks(ASKED.replace("Input: <noinput>\n", ""))
    assert ([u.reason for u in unread], tasks) == (["missing input"], [SECOND])
    assert parse_tasks("  \n") == ([], [("empty reply", "")])
    prose = "I would rather talk about the weather. 2. It is sunny."
    assert parse_tasks(prose) == ([], [("not parsed", prose)])


def test_a_cut_reply_loses_only_its_last_task() -> None:
    assert parse_tasks(ASKED, "stop")[0] == [FIRST, SECOND]
    cut = ASKED[:-14]
    tasks, unread = parse_tasks(cut, "length")
    assert tasks == [FIRST]
    assert [(u.reason, u.raw.startswith("5. Type")) for u in unread] == [("truncated", True)]
    for shorter in range(ASKED.index("5. Type") + 10, len(cut), 7):
        tasks, unread = parse_tasks(ASKED[:shorter], "length")
        assert tasks == [FIRST]
    assert parse_tasks(ASKED + "\n###", "length") == ([FIRST, SECOND], [])
    assert parse_tasks(ASKED.partition("\n###\n5")[0], "length") == ([FIRST], [])


line = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\x85"), max_size=60)


@given(st.text(max_size=400))
def test_no_reply_is_too_strange(text: str) -> None:
    tasks, unread = parse_tasks(text)
    assert tasks or unread
    assert all(task.instruction for task in tasks)


word = st.text("abcdefghijklmnopqrstuvwxyz0123456789.,()%é", min_size=1, max_size=12)
sentence = st.lists(word, min_size=2, max_size=12).map(lambda words: "Give " + " ".join(words))


@given(st.lists(st.tuples(sentence, st.lists(sentence, max_size=3)), min_size=1, max_size=6))
def test_what_is_written_in_the_layout_is_read_back(content: list[tuple[str, list[str]]]) -> None:
    text = "\n".join(
        f"###\n{n}. Type: chat\nTopic: x\nView: nurse\nDifficulty: 1\nInstruction: {instruction}\n"
        f"Input: {chr(10).join(input) or '<noinput>'}"
        for n, (instruction, input) in enumerate(content, start=4)
    )
    tasks, unread = parse_tasks(text)
    assert [(t.instruction, t.input) for t in tasks] == [(a, "\n".join(b)) for a, b in content]
    assert unread == []


names = st.sampled_from(
    [
        {},
        {"Type": "Task type", "View": "Perspective", "Difficulty": "Difficulty level"},
        {"Topic": "Subject", "View": "Point of view", "Instruction": "Instructions"},
    ]
)
styles = st.tuples(
    st.sampled_from(["###", "---", "", "***", "＃＃＃"]),  # before a task
    st.sampled_from(["{}. ", "{}) ", "({}) ", "**{}.** ", "Task {}:\n", "### {}.\n", "{}、", ""]),
    st.sampled_from(["{}: ", "**{}:** ", "**{}**: ", "{}：", "{} : ", "- {}: ", "*{}:* ", "{}:\n"]),
    st.sampled_from(["<noinput>", '"<noinput>"', "<No Input>", "N/A", "None", "", "`<noinput>`"]),
    names,
    st.booleans(),  # in a code fence
    st.sampled_from(["\n", "\r\n"]),
)


@given(
    st.lists(st.tuples(sentence, st.lists(sentence, max_size=2)), min_size=1, max_size=4), styles
)
def test_the_layout_in_any_mixture_of_styles_is_read_back(
    content: list[tuple[str, list[str]]],
    style: tuple[str, str, str, str, dict[str, str], bool, str],
) -> None:
    before, number, label, absent, renamed, fenced, newline = style
    lines = []
    for n, (instruction, input) in enumerate(content, start=4):
        values = ["chat", "anaemia", "nurse", "3", instruction, "\n".join(input) or absent]
        fields = zip(
            ("Type", "Topic", "View", "Difficulty", "Instruction", "Input"), values, strict=True
        )
        block = [label.format(renamed.get(name, name)) + value for name, value in fields]
        lines += [before, number.format(n) + block[0], *block[1:]]
    text = "\n".join(lines)
    text = f"```\n{text}\n```" if fenced else text
    tasks, unread = parse_tasks(text.replace("\n", newline))
    assert unread == []
    assert tasks == [
        Task(instruction, "\n".join(input), "chat", "anaemia", "nurse", "3")
        for instruction, input in content
    ]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Rewrites", "rewriting"),
        ("Rewrite Task", "rewriting"),
        ("Summarizations", "summarisation"),
        ("Multiple-hop Reasoning", "multi-hop reasoning"),
        ("Single Hop Reasoning", "single-hop reasoning"),
        ("USMLE style Q&A", "USMLE-style question"),
        ("Multiple-Choice Q&A", "multiple choice"),
        ("Open-ended Q&A", "open Q&A"),
        ("Text Generation", "text generation"),
        ("classification", "classification"),
        ("Limerick", "other"),
        ("", ""),
    ],
)
def test_types_have_one_name(label: str, name: str) -> None:
    assert normalise_type(label) == name


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("Patient’s Perspective", "patient"),
        ("Parent of teenager", "family member or caregiver"),
        ("Family physician", "physician"),
        ("Student (Medicine)", "medical student"),
        ("Intensive Care Unit (ICU) Nurse", "nurse"),
        ("Genetics Researcher", "researcher"),
        ("Expert (Pathologist)", "specialist"),
        ("Pharmacist", "pharmacist"),
        ("Public Health Officer", "public health official"),
        ("Med School Professor", "health educator"),
        ("Martian", "other"),
    ],
)
def test_views_have_one_name(label: str, name: str) -> None:
    assert normalise_view(label) == name


@pytest.mark.parametrize(
    ("label", "level"),
    [
        *(("3", "3"), ("4/5", "4"), ("Level 2", "2"), ("hard (4)", "4"), ("Medium", "3")),
        *(("", ""), ("10", ""), ("very difficult", "5"), ("unclear", ""), ("３", "3")),
        *(
            ("2.5", ""),
            ("0/5", ""),
            ("2,5", ""),
            ("6 out of 5", ""),
            ("3.", "3"),
            ("4.0", "4"),
            ("3 of 5", "3"),
        ),
    ],
)
def test_difficulty_is_1_to_5(label: str, level: str) -> None:
    assert normalise_difficulty(label) == level


@pytest.mark.parametrize(
    ("topic", "area"),
    [
        ("Diabetes Treatment", "endocrinology"),
        ("Treatment", "treatment"),
        ("Pathophysiology", "physiology and pathophysiology"),
        ("Psychiatric diseases", "mental health"),
        ("Radiology reports", "imaging"),
        ("Underwater basketry", "other"),
        ("", ""),
    ],
)
def test_a_free_topic_has_a_field_of_medicine(topic: str, area: str) -> None:
    assert topic_area(topic) == area


@given(st.text(max_size=30))
def test_normalising_a_label_again_changes_nothing(label: str) -> None:
    for normalise in (normalise_type, normalise_view, normalise_difficulty, topic_area):
        assert normalise(normalise(label)) == normalise(label)


def test_a_changed_label_keeps_its_original() -> None:
    assert label_tags("Rewrite Task", "Asthma", "nurse", "Level 2") == {
        "type": "rewriting",
        "type_original": "Rewrite Task",
        "topic": "Asthma",
        "topic_area": "pulmonology",
        "view": "nurse",
        "difficulty": "2",
        "difficulty_original": "Level 2",
    }


def test_every_label_of_alpacares_seeds_has_a_name(real_data: Path) -> None:
    seeds = json.loads((real_data / "alpacare" / "med_seed.json").read_text(encoding="utf-8"))
    types = {normalise_type(seed["type"]) for seed in seeds}
    assert "other" not in types
    assert len({seed["type"] for seed in seeds}) > 2 * len(types)
    assert sum(normalise_view(seed["view"]) == "other" for seed in seeds) <= 3
    assert {normalise_difficulty(seed["difficulty"]) for seed in seeds} == set("12345")
    areas = Counter(topic_area(seed["topic"]) for seed in seeds)
    assert "other" not in areas
    assert areas["pharmacology"] == 17  # counted by reading the 167 topics
    assert areas["genetics"] == 14
    assert areas["mental health"] == 3
