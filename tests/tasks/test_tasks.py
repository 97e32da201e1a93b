import json
from collections import Counter
from pathlib import Path

import pytest

from meadowlark.errors import UserError
from meadowlark.tasks import TASKS, choose, load, resolve

HEADERLESS = 'What makes bile?,Heart,Liver,Lung,"Skin, hair",B\n'
WITH_HEADER = (
    "question,choice0,choice1,choice2,choice3,answer\nWhat makes bile?,Heart,Liver,a,b,1\n"
)


def mmlu_folder(folder: Path, text: str) -> Path:
    for name in TASKS["mmlu_medical"].files:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_every_task_has_what_a_reader_needs() -> None:
    for name, task in TASKS.items():
        assert name == task.name
        assert task.title
        assert task.licence
        assert task.citation


def test_the_demo_exam_is_sound() -> None:
    questions, rejected = load(resolve("demo_exam", None))
    assert rejected == []
    assert len(questions) >= 60
    assert len({q.prompt for q in questions}) == len(questions)
    for question in questions:
        assert question.target in "ABCD"[: len(question.choices)]
        assert len(set(question.choices)) == len(question.choices) == 4
        assert question.group
    letters = Counter(q.target for q in questions)
    assert max(letters.values()) < 0.4 * len(questions)  # always one letter cannot look good


@pytest.mark.parametrize("text", [HEADERLESS, WITH_HEADER], ids=["original", "with header"])
def test_mmlu_is_read_in_both_layouts(tmp_path: Path, text: str) -> None:
    questions, _ = load(resolve("mmlu_medical", mmlu_folder(tmp_path / "mmlu", text).parent))
    assert len(questions) == 6
    assert {q.target for q in questions} == {"B"}
    assert questions[0].choices[:2] == ("Heart", "Liver")
    assert questions[0].group == "anatomy"
    assert len({q.id for q in questions}) == 6


def test_a_bad_mmlu_row_names_file_and_row(tmp_path: Path) -> None:
    folder = mmlu_folder(tmp_path / "mmlu", "What makes bile?,Heart,Liver,Lung,Skin,E\n")
    with pytest.raises(UserError, match=r"anatomy_test.csv, question 1: .*'E'"):
        load(resolve(f"mmlu_medical={folder}", None))


def test_a_task_is_found_below_data_and_exams_and_at_a_path(tmp_path: Path) -> None:
    row = {"question": "Q?", "options": {"B": "no", "A": "yes"}, "answer_idx": "B"}
    name = "phrases_no_exclude_test.jsonl"
    for place in ("plain/medqa", "nested/exams/medqa", "flat"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / name).write_text(json.dumps(row) + "\n")
    found = [resolve("medqa", tmp_path / data) for data in ("plain", "nested", "flat")]
    found.append(resolve(f"medqa={tmp_path / 'flat'}", None))
    found.append(resolve(f"medqa={tmp_path / 'flat' / name}", None))
    for files in found:
        (question,), _ = load(files)
        assert question.choices == ("yes", "no")
        assert question.target == "B"
        assert set(files.inputs()) == {"medqa"}


def test_missing_files_say_where_they_were_looked_for(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give --data DIR"):
        resolve("medqa", None)
    with pytest.raises(UserError, match=r"looked for .*exams/medqa/phrases"):
        resolve("medqa", tmp_path)
    with pytest.raises(UserError, match="Did you mean 'medqa'"):
        resolve("medqaa", tmp_path)
    with pytest.raises(UserError, match="no such file of questions"):
        resolve("mine.jsonl", tmp_path)


def test_a_users_own_file_is_a_task_named_after_it(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "Q?", "choices": ["x", "y"], "answer": "A", "topic": "t"},
        {"id": "a", "question": "R?", "choices": ["x", "y"], "answer": "A"},
        {"id": "b", "question": "S?", "choices": ["x", "y"], "answer": "F"},
    ]
    (tmp_path / "ward.jsonl").write_text("\n".join(map(json.dumps, rows)))
    questions, rejected = load(resolve(str(tmp_path / "ward.jsonl"), None))
    assert [(q.id, q.task, q.group) for q in questions] == [("a", "ward", "t")]
    assert sorted(r.reason for r in rejected) == ["not a question", "repeated id"]


def test_names_are_split_once_each() -> None:
    assert choose("medqa, demo_exam,medqa,x=a/b") == ["medqa", "demo_exam", "x=a/b"]
    with pytest.raises(UserError, match="no task named"):
        choose(" ,")


def test_real_medqa_has_1273_questions_with_four_options(real_data: Path) -> None:
    questions, rejected = load(resolve("medqa", real_data))
    assert (len(questions), rejected) == (1273, [])
    assert {len(q.choices) for q in questions} == {4}
    text = resolve("medqa", real_data).paths[0].read_text(encoding="utf-8")
    raw = [json.loads(line) for line in text.splitlines()]
    for question, row in zip(questions, raw, strict=True):
        assert question.choices["ABCD".index(question.target)] == row["answer"]


def test_real_mmlu_medical_subjects_have_their_published_counts(real_data: Path) -> None:
    questions, rejected = load(resolve("mmlu_medical", real_data))
    assert rejected == []
    assert Counter(q.group for q in questions) == {
        "anatomy": 135,
        "clinical_knowledge": 265,
        "college_biology": 144,
        "college_medicine": 173,
        "medical_genetics": 100,
        "professional_medicine": 272,
    }
    assert {len(q.choices) for q in questions} == {4}


def test_real_medinstruct_test_has_216_prompts_over_five_difficulties(real_data: Path) -> None:
    questions, _ = load(resolve("medinstruct_test", real_data))
    assert len(questions) == 216
    assert Counter(q.group for q in questions) == {"1": 44, "2": 46, "3": 41, "4": 41, "5": 44}
    assert all(q.target and not q.choices for q in questions)


@pytest.mark.parametrize(("name", "n", "groups"), [("icliniq", 1000, 1), ("alpaca_eval", 805, 5)])
def test_alpacares_other_prompts_are_read_from_the_published_files(
    real_data: Path, name: str, n: int, groups: int
) -> None:
    questions, rejected = load(resolve(name, real_data))
    assert (len(questions), rejected) == (n, [])
    assert sum(not question.target for question in questions) <= 2  # davinci said nothing there
    assert not any(question.choices for question in questions)
    assert len({question.group for question in questions}) == groups


@pytest.mark.parametrize("name", ["icliniq", "alpaca_eval"])
def test_a_file_in_another_form_is_named(tmp_path: Path, name: str) -> None:
    for file in TASKS[name].files:
        (tmp_path / Path(file).name).write_text('{"row": 1}')
    with pytest.raises(UserError, match="expected a JSON list"):
        load(resolve(f"{name}={tmp_path}", None))
