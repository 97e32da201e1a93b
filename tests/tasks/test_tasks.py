import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meadowlark.dataset import fingerprint
from meadowlark.errors import UserError
from meadowlark.records import Question
from meadowlark.tasks import TASKS, Form, choose, known_tasks, load, load_examples, resolve

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
    with pytest.raises(UserError, match=r"anatomy_test.csv, question 1, field 'answer': .*'E'"):
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


def test_real_medmcqa_validation_part_is_read_as_published(real_data: Path) -> None:
    questions, rejected = load(resolve("medmcqa", real_data))
    assert (len(questions), rejected) == (4183, [])
    assert {len(q.choices) for q in questions} == {4}
    assert len({q.group for q in questions}) == 21
    raw = json.loads((real_data / "exams/medmcqa/dev.json").read_text().splitlines()[99])
    assert questions[99].id == raw["id"]
    assert questions[99].choices["ABCD".index(questions[99].target)] == raw["opd"]
    assert raw["cop"] == 4


def test_real_pubmedqa_is_the_official_500_in_order_and_examples_lie_outside(
    real_data: Path,
) -> None:
    """The test set's labels: 276 yes, 169 no, 55 maybe (the paper's majority baseline, 55.2 %)."""
    files = resolve("pubmedqa", real_data, examples=True)
    questions, rejected = load(files)
    assert (len(questions), rejected) == (500, [])
    assert Counter(q.target for q in questions) == {"A": 276, "B": 169, "C": 55}
    assert {q.choices for q in questions} == {("yes", "no", "maybe")}
    worked = load_examples(files, 3)[""]
    assert [q.target for q in worked] == ["A", "B", "C"]
    assert not {q.id for q in worked} & {q.id for q in questions}


def test_real_headqa_has_its_published_counts(real_data: Path) -> None:
    """Development part 1,366 questions in six exams, training part 2,657 (paper, table 2)."""
    files = resolve("headqa_dev", real_data, examples=True)
    questions, rejected = load(files)
    assert (len(questions), rejected) == (1366, [])
    assert len({q.group for q in questions}) == 6
    assert files.task is not None
    assert files.task.examples is not None
    assert len(files.task.examples.load(files.examples)) == 2657


def test_real_files_are_known_to_be_the_published_ones(real_data: Path) -> None:
    for name in ("medqa", "medmcqa", "pubmedqa"):
        files = resolve(name, real_data)
        assert files.task is not None
        hashes = {known: fingerprint(path) for known, path in files.inputs().items()}
        assert sorted(files.task.sha256) == sorted(path.name for path in files.paths)
        assert files.unpublished(hashes) == []
        other = dict.fromkeys(hashes, "0" * 64)
        assert files.unpublished(other) == [path.name for path in files.paths]


def test_real_mmlu_examples_are_the_first_of_each_subject_in_order(real_data: Path) -> None:
    worked = load_examples(resolve("mmlu_medical", real_data, examples=True), 5)
    assert sorted(worked) == sorted(TASKS["mmlu_medical"].files[i][5:-9] for i in range(6))
    assert [q.id for q in worked["anatomy"]] == [f"anatomy-{i:03d}" for i in range(5)]
    with pytest.raises(UserError, match="6 worked examples were asked for, 5 of anatomy"):
        load_examples(resolve("mmlu_medical", real_data, examples=True), 6)


MEDQA_ROW = {"question": "Q?", "options": {"A": "x", "B": "y"}, "answer_idx": "B"}
MEDMCQA_ROW = {
    "question": "Q?",
    "opa": "x",
    "opb": "y",
    "opc": "z",
    "opd": "w",
    "cop": 4,
    "id": "i",
}
PUBMED_ROW = {"QUESTION": "Q?", "CONTEXTS": ["c"], "final_decision": "no"}
HEAD_ROW = {"qid": "1", "qtext": "Q?", "answers": [{"aid": 1, "atext": "x"}], "ra": "1"}


@pytest.mark.parametrize(
    ("task", "row", "change", "said"),
    [
        ("medqa", MEDQA_ROW, {"answer_idx": "E"}, "row 2, field 'answer_idx': .*not 'E'"),
        ("medqa", MEDQA_ROW, {"question": None}, "row 2, field 'question': expected text"),
        ("medqa", MEDQA_ROW, {"options": {"A": "x", "C": "y"}}, "row 2, field 'options'.*not A, C"),
        ("medqa", MEDQA_ROW, {"options": ["x", 2]}, "row 2, field 'options': expected a list"),
        ("medmcqa", MEDMCQA_ROW, {"cop": 0}, "row 2, field 'cop': .*number from 1 to 4.*not 0"),
        ("medmcqa", MEDMCQA_ROW, {"opb": ""}, "row 2, field 'opb': empty"),
        ("pubmedqa", PUBMED_ROW, {"final_decision": "perhaps"}, "item 2, field 'final_decision'"),
        ("pubmedqa", PUBMED_ROW, {"CONTEXTS": "c"}, "item 2, field 'CONTEXTS': expected a list"),
        ("headqa", HEAD_ROW, {"ra": "7"}, "exam e, row 2, field 'ra': expected one of 1, not '7'"),
        ("headqa", HEAD_ROW, {"qtext": ""}, "exam e, row 2, field 'qtext'"),
    ],
)
def test_a_malformed_question_file_names_row_and_field(
    tmp_path: Path, task: str, row: dict[str, object], change: dict[str, object], said: str
) -> None:
    rows = [row, {**row, **change}]
    (tmp_path / task).mkdir()
    first, *others = (tmp_path / task / name for name in TASKS[task].files)
    if task == "pubmedqa":
        first.write_text(json.dumps({"1": rows[0], "2": rows[1]}))
        others[0].write_text(json.dumps({"1": "no", "2": "no"}))
    elif task == "headqa":
        first.write_text(json.dumps({"exams": {"e": {"data": rows}}}))
    else:
        first.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match=said) as error:
        load(resolve(task, tmp_path))
    assert str(first) in str(error.value)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ("Pulse, or not?,x,y,z,A", "row 2: more cells than columns"),
        ("How many?,1,2,3,1", "row 2, field 'key': '1' may be the number of a choice or the text"),
        ("How many?,0,1,2,C", ""),
        ("How many?,3,4,5,1", ""),
        ("How many?,0,1,2,2", ""),
    ],
)
def test_a_row_of_ones_own_that_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, rows: str, said: str
) -> None:
    (tmp_path / "ward.csv").write_text(f"stem,a,b,c,key\n{rows}\n")
    (tmp_path / "ward.toml").write_text(
        'title = "W"\nfiles = ["ward.csv"]\n[columns]\nquestion = "stem"\n'
        'choices = ["a", "b", "c"]\nanswer = "key"\n'
    )
    files = resolve(str(tmp_path / "ward.toml"), None)
    if said:
        with pytest.raises(UserError, match=said):
            load(files)
    else:
        assert load(files)[0][0].target == {"C": "C", "1": "B", "2": "C"}[rows[-1]]


OWN = """
title = "Ward questions"
licence = "internal"
files = ["ward.csv"]

[columns]
question = "stem"
choices = ["a", "b", "c"]
answer = "key"
id = "nr"
group = "passage"

[form]
instruction = "Choose."

[examples]
files = ["worked.csv"]
ids = ["w2", "w1"]
"""


def own_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "ward.toml").write_text(OWN)
    rows = ["nr,stem,a,b,c,key,passage", "q1,Bile?,liver,lung,,A,p1", "q2,Pulse?,x,y,z,z,p1"]
    (folder / "ward.csv").write_text("\n".join(rows))
    rows = ["nr,stem,a,b,key", "w1,Air?,lung,skin,0", "w2,Skin?,lung,skin,1", "w3,No?,u,v,0"]
    (folder / "worked.csv").write_text("\n".join(rows))
    return folder


def test_a_definition_in_a_users_own_folder_is_a_task(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "tasks")
    by_name = resolve("ward", None, tasks=known_tasks(folder), examples=True)
    by_path = resolve(str(folder / "ward.toml"), None, examples=True)
    for files in (by_name, by_path):
        questions, _ = load(files)
        assert [(q.id, q.task, q.choices, q.target, q.group) for q in questions] == [
            ("q1", "ward", ("liver", "lung"), "A", "p1"),
            ("q2", "ward", ("x", "y", "z"), "C", "p1"),
        ]
        assert files.form.instruction == "Choose."
        assert [q.id for q in load_examples(files, 2)[""]] == ["w2", "w1"]
        assert set(files.inputs()) == {"ward", "ward/examples/worked.csv"}
    with pytest.raises(UserError, match="3 worked examples were asked for, 2 are there"):
        load_examples(by_name, 3)


def test_faults_of_a_definition_are_named(tmp_path: Path) -> None:
    folder = own_folder(tmp_path / "tasks")
    definition = folder / "ward.toml"
    for old, new, said in (
        ("group =", "grup =", "columns.grup: unknown key. Did you mean 'group'"),
        ('"Choose."', '"Choose."\nplain = "Answer:"', "must contain {question}"),
        ('"ward.csv"', '"gone.csv"', "ward: no such file: .*gone.csv"),
        ('"w1"', '"w9"', "no worked example 'w9'"),
    ):
        definition.write_text(OWN.replace(old, new))
        with pytest.raises(UserError, match=said):
            load_examples(resolve("ward", None, tasks=known_tasks(folder), examples=True), 2)
    definition.rename(folder / "medqa.toml")
    with pytest.raises(UserError, match="medqa is a task already"):
        known_tasks(folder)
    with pytest.raises(UserError, match="--shots cannot be used with it"):
        resolve("demo_exam", None, examples=True)


def test_a_file_on_the_hub_needs_a_pinned_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    asked = {}

    def download(repo: str, path: str, **given: str) -> str:
        asked.update(given, repo=repo, path=path)
        pq.write_table(pa.Table.from_pylist([MEDQA_ROW]), tmp_path / "cached.parquet")
        return str(tmp_path / "cached.parquet")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    commit = "0123456789abcdef0123456789abcdef01234567"
    files = resolve(f"medqa=hf://datasets/some/exam@{commit}/data/test.parquet", None)
    (question,), _ = load(files)
    assert (question.choices, question.target) == (("x", "y"), "B")
    assert asked == {
        "repo": "some/exam",
        "path": "data/test.parquet",
        "repo_type": "dataset",
        "revision": commit,
    }
    for loose in ("@main", ""):
        with pytest.raises(UserError, match="must be a commit"):
            resolve(f"medqa=hf://datasets/some/exam{loose}/test.parquet", None)
    with pytest.raises(UserError, match="expected hf://datasets/ORG/NAME@REVISION/PATH"):
        resolve("medqa=hf://some/exam/test.parquet", None)


def test_the_definition_in_the_guide_is_one(tmp_path: Path) -> None:
    guide = (Path(__file__).parents[2] / "docs" / "exams.md").read_text(encoding="utf-8")
    (tmp_path / "ward.toml").write_text(guide.split("```toml\n")[1].split("```")[0])
    (tmp_path / "ward.csv").write_text("nr,stem,a,b,c,d,key,passage\n1,Bile?,x,y,z,w,C,p\n")
    (tmp_path / "worked.csv").write_text("nr,stem,a,b,c,d,key\nw2,Q?,x,y,,,0\nw7,R?,x,y,,,1\n")
    files = resolve(str(tmp_path / "ward.toml"), None, examples=True)
    assert load(files)[0] == [Question("1", "ward", "Bile?", ("x", "y", "z", "w"), "C", "p")]
    assert [q.id for q in load_examples(files, 2)[""]] == ["w7", "w2"]
    assert files.form == Form()  # the guide shows the defaults
