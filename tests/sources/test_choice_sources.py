"""Exams' training questions: both layouts of MMLU, letters and options, real files counted."""

import json
from pathlib import Path

import pytest
from reading import split

from meadowlark.dataset import read_manifest
from meadowlark.errors import UserError
from meadowlark.records import Record
from meadowlark.sources.convert import convert
from meadowlark.sources.pubmed_causal import hub_rows


def test_mmlu_is_the_same_from_the_original_files_and_from_the_copy(tmp_path: Path) -> None:
    original, copy = tmp_path / "a" / "test", tmp_path / "b"
    original.mkdir(parents=True)
    copy.mkdir()
    (original / "anatomy_test.csv").write_text(
        '"Which, of?",x,y,z,w,C\nShort,x,y,z,A\nQ,x,,z,w,A\n'
    )
    (original / "astronomy_test.csv").write_text("Q,x,y,z,w,A\n")
    (copy / "anatomy_test.csv").write_text(
        'question,choice0,choice1,choice2,choice3,answer\n"Which, of?",x,y,z,w,2\nShort,x,y,z,0\n'
        "Q,x,,z,w,0\n"
    )
    kept, rejected = split("mmlu_medical", tmp_path / "a")
    assert [row.input for row in kept] == ["Which, of?\nA. x\nB. y\nC. z\nD. w"]
    assert kept[0].output == "C. z"
    assert [r.reason for r in rejected] == ["wrong number of columns", "empty option"]
    assert split("mmlu_medical", copy)[0] == kept
    (tmp_path / "c").mkdir()
    with pytest.raises(UserError, match="no file of a medical subject"):
        split("mmlu_medical", tmp_path / "c")


def test_medqa_in_the_published_wording_is_the_published_layout(tmp_path: Path) -> None:
    raw = tmp_path / "train.jsonl"
    item = {
        "question": "Best drug",
        "options": {"A": "x", "B": "y"},
        "answer": "y",
        "answer_idx": "B",
    }
    raw.write_text(json.dumps(item) + "\n\nbroken\n")
    ours, rejected = split("medqa", raw)
    assert ours[0].input == "Best drug\nA. x\nB. y"
    assert ours[0].output == "B. y"
    assert [r.reason for r in rejected] == ["not JSON"]
    theirs, _ = split("medqa", raw, wording="published")
    assert theirs[0].instruction == "Please answer with one of the option in the bracket"
    assert theirs[0].input == "Q:Best drug? \n{'A': 'x', 'B': 'y'}"
    assert theirs[0].output == "B: y"


def test_the_published_copy_of_pubmed_causal_is_put_right() -> None:
    answers = {
        "This is a directly correlative relationship": "0",
        "This no relationship.": "1",
        "This is a causative relationship": "2",
        "This is a conditionally causative relationship": "3",
    }
    rows = list(hub_rows([{"input": "S.", "output": text} for text in answers]))
    assert [row.tags["label"] for row in rows if isinstance(row, Record)] == list(answers.values())
    (bad,) = hub_rows([{"input": "S.", "output": "Something else"}])
    assert not isinstance(bad, Record)
    # The instruction that numbers the published texts, and the right one of them for each label.
    published, _ = zip(*((row.output, 0) for row in hub_rows(
        [{"input": "S.", "output": text} for text in answers], wording="published"
    ) if isinstance(row, Record)), strict=True)  # fmt: skip
    assert published == (
        "This no relationship.",
        "This is a causative relationship",
        "This is a conditionally causative relationship",
        "This is a directly correlative relationship",
    )


def test_the_published_rows_of_a_real_sentence_agree_with_its_raw_label(real_data: Path) -> None:
    """The published copy's first row, of which card and raw file are known."""
    start = "A McMahon score of at least 6 calculated on admission"
    raw = real_data / "meadow/pubmed_causal/pubmed_causal_language_use.csv"
    kept, _ = split("pubmed_causal", raw)
    (ours,) = [row for row in kept if row.input.startswith(start)]
    published = {"input": ours.input, "output": "This is a directly correlative relationship"}
    (theirs,) = hub_rows([published])
    assert theirs == ours


def test_an_exams_rows_are_marked_as_test_only(tmp_path: Path) -> None:
    (tmp_path / "step1.json").write_text(
        json.dumps([{"no": 1, "question": "Q?", "options": {"A": "x", "B": "y"}},
                    {"no": 2, "question": "Q?", "options": {"A": "x"}}])
    )  # fmt: skip
    (tmp_path / "step1_solutions.json").write_text('{"1": "B"}')
    kept, rejected = split("usmle_self_assessment", tmp_path)
    assert kept[0].tags["use"] == "test"
    assert kept[0].output == "B. y"
    assert [r.reason for r in rejected] == ["no answer"]


@pytest.mark.parametrize(
    ("source", "path", "kept", "rejected"),
    [
        ("health_advice", "meadow/health_advice", 6916, {}),
        ("headqa", "exams/headqa/train_HEAD_EN.json", 2589, {"question about an image": 68}),
        ("medmcqa", "exams/medmcqa/dev.json", 4183, {}),
        ("pubmedqa", "exams/pubmedqa/ori_pqal.json", 1000, {}),
        ("medqa", "exams/medqa/phrases_no_exclude_test.jsonl", 1273, {}),
        ("mmlu_medical", "exams/mmlu", 2280, {}),
        ("oasst", "meadow/oasst/en_100_tree.jsonl", 100, {}),
        ("oasst", "meadow/oasst/en_100_message.jsonl", 100, {}),
        ("stackexchange", "meadow/stackexchange_format/Posts_a.xml", 133, {}),
        ("stackexchange", "meadow/stackexchange_format/Posts_b.xml", 417, {}),
    ],
)
def test_real_files_are_converted_whole(
    source: str, path: str, kept: int, rejected: dict[str, int], real_data: Path, tmp_path: Path
) -> None:
    convert(source, tmp_path, raw=real_data / path)
    rows = read_manifest(tmp_path).rows
    assert rows["kept"] == kept
    assert rows["rejected"] == rejected


def test_real_health_advice_labels_are_those_of_the_files(real_data: Path) -> None:
    kept, _ = split("health_advice", real_data / "meadow/health_advice")
    counts = {label: sum(row.tags["label"] == label for row in kept) for label in "012"}
    text = "".join(
        path.read_text(encoding="utf-8")
        for path in (real_data / "meadow/health_advice").glob("annotations_*.csv")
    )
    assert counts == {label: text.count(f"\n{label},") for label in "012"}
    assert all(kept[0].output.endswith("advice.") for _ in kept)


def test_rows_that_are_no_questions_stop_no_conversion(tmp_path: Path) -> None:
    """A row that is no object, or holds other things than texts, is rejected as the others are."""
    answers = [{"aid": 1, "atext": "x"}, {"aid": 2, "atext": "y"}]
    good = {"qid": 1, "qtext": "Q", "answers": answers, "ra": 2}
    headqa = tmp_path / "headqa.json"
    rows = [good, 3, {**good, "answers": ["x", "y"]}, {**good, "answers": None}]
    headqa.write_text(json.dumps({"exams": {"E": {"category": "medicine", "data": rows}}}))
    kept, rejected = split("headqa", headqa)
    assert [row.output for row in kept] == ["B. y"]
    assert [(row.reason, row.detail) for row in rejected] == [
        ("not a JSON object", "E, row 2: 3"),
        ("unknown label", "E:1: ra '2'"),
        ("unknown label", "E:1: ra '2'"),
    ]
    pubmedqa = tmp_path / "pubmedqa.json"
    article = {"QUESTION": "Q?", "CONTEXTS": ["a"], "LONG_ANSWER": "L", "final_decision": "yes"}
    pubmedqa.write_text(json.dumps({"1": article, "2": 3, "3": {**article, "CONTEXTS": [1]}}))
    kept, rejected = split("pubmedqa", pubmedqa)
    assert [row.input for row in kept] == ["a\n\nQuestion: Q?", "1\n\nQuestion: Q?"]
    assert [(row.reason, row.detail) for row in rejected] == [("not a JSON object", "2: 3")]
    (tmp_path / "step1.json").write_text(json.dumps(["Q", {"no": 2, "question": "Q"}]))
    (tmp_path / "step1_solutions.json").write_text("{}")
    _, rejected = split("usmle_self_assessment", tmp_path)
    assert [row.reason for row in rejected] == ["not a JSON object", "no answer"]


@pytest.mark.parametrize(
    ("source", "content", "said"),
    [
        ("headqa", '{"exams": {"E": [1]}}', "exam E, field 'data': expected a list of questions"),
        ("headqa", '{"exams": {"E": {}}}', "exam E, field 'data': expected a list of questions"),
        ("headqa", "[]", "must hold a JSON object, not a list"),
        ("pubmedqa", "{", "cannot be read as JSON"),
        ("chatdoctor", "{}", "must hold a JSON list, not an object"),
    ],
)
def test_a_file_in_another_form_is_the_users_mistake(
    source: str, content: str, said: str, tmp_path: Path
) -> None:
    raw = tmp_path / "raw.json"
    raw.write_text(content)
    with pytest.raises(UserError, match=said):
        split(source, raw)


def test_an_exams_solutions_that_are_missing_or_no_object_are_the_users_mistake(
    tmp_path: Path,
) -> None:
    (tmp_path / "step1.json").write_text("[]")
    with pytest.raises(UserError, match=r"no such file: .*step1_solutions.json"):
        split("usmle_self_assessment", tmp_path)
    (tmp_path / "step1_solutions.json").write_text("[1]")
    with pytest.raises(UserError, match="must hold a JSON object, not a list"):
        split("usmle_self_assessment", tmp_path)
