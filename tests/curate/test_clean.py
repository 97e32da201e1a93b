"""``clean`` as a stage: every row is somewhere with its reason, however many processes work."""

import json
import random
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow.parquet as pq
import pytest

from meadowlark.cli import run as command
from meadowlark.curate import clean as module
from meadowlark.curate.clean import CONTAMINATION_FILE, clean, read_rules
from meadowlark.curate.examine import numbers_key
from meadowlark.curate.semantic import numbers_of
from meadowlark.dataset import read, read_manifest, read_table
from meadowlark.errors import FolderDiffers, UserError
from meadowlark.records import Question, Record
from meadowlark.tasks import load, resolve

LONG = (
    "Gout is a form of arthritis that is caused by crystals of uric acid in the joints, most often "
    "in the big toe, which becomes red, hot and very painful within some hours."
)
ROWS = [
    {"instruction": "What is gout?", "output": LONG},
    {"instruction": "what is  GOUT", "output": LONG.upper()},  # an exact duplicate but for typing
    {"instruction": "What is gout?", "output": LONG.replace("some hours", "a night")},
    {"instruction": "What is a rash?", "output": ""},
    {"instruction": "Dose of ramipril?", "output": "2.5 mg"},
    {"instruction": "Dose of ramipril?", "output": "25 mg"},
    {"no": "record"},
]


def rows_file(folder: Path, rows: list[dict], name: str = "rows.jsonl") -> Path:
    file = folder / name
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def rejected(out: Path) -> list[dict]:
    return read_table(out / "rejected.parquet", Record).to_pylist()


def test_every_row_is_kept_or_rejected_with_a_reason_and_a_neighbour(tmp_path: Path) -> None:
    run = clean(rows_file(tmp_path, ROWS), tmp_path / "out")
    kept, _ = read(tmp_path / "out", Record)
    assert [r.output for r in kept] == [LONG, "2.5 mg", "25 mg"]
    reasons = {row["reason"]: row["detail"] for row in rejected(tmp_path / "out")}
    assert run.manifest.rows == {
        "in": 7,
        "kept": 3,
        "rejected": {"empty": 1, "exact duplicate": 1, "near-duplicate": 1, "not a record": 1},
    }
    assert reasons["exact duplicate"] == f"of {kept[0].id}"
    assert reasons["near-duplicate"].startswith(f"of {kept[0].id}, similarity 0.8")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "README.md",
        "manifest.json",
        "rejected.parquet",
        "rows.parquet",
    ]


def test_a_near_duplicate_with_another_dose_is_a_conflict_and_counted_as_one(
    tmp_path: Path,
) -> None:
    """The first row stays as ever; the reason says which rows contradict each other."""
    dose = f"{LONG} Take 500 mg of naproxen twice a day with food for 5 days, then see your doctor."
    answers = {
        "kept": dose,
        "near-duplicate": dose.replace("some hours", "a night"),
        "near-duplicate with other numbers": dose.replace("500 mg", "1,000 mg"),
    }
    rows = [{"instruction": "What helps in gout?", "output": text} for text in answers.values()]
    run = clean(rows_file(tmp_path, rows), tmp_path / "out")
    kept, _ = read(tmp_path / "out", Record)
    assert [r.output for r in kept] == [dose]
    found = {row["reason"]: row for row in rejected(tmp_path / "out")}
    assert {reason: row["output"] for reason, row in found.items()} == dict(
        list(answers.items())[1:]
    )
    for row in found.values():
        assert row["detail"].startswith(f"of {kept[0].id}, similarity 0.")
    assert run.manifest.rows["rejected"] == dict.fromkeys(found, 1)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("500 mg", "1,000 mg", False),
        ("1000mg", "1,000 mg", True),
        ("2.5 mg", "25 mg", False),
        ("5 mg", "5 g", False),
        ("5 µg", "5 mg", False),
        ("5 µg", "5 μg", True),
        ("for 7 days", "for 7 weeks", False),
        ("a 7-day course", "7 days", True),
        ("5 cats at 3", "at 3, 5 dogs", True),
        ("5 great", "5 more", True),
        ("no number", "none at all", True),
        ("no number", "1", False),
    ],
)
def test_numbers_are_the_same_with_their_units_in_any_order(
    one: str, other: str, same: bool
) -> None:
    assert (numbers_key(one) == numbers_key(other)) == same


def test_the_same_run_again_does_nothing_and_another_is_refused(tmp_path: Path) -> None:
    file = rows_file(tmp_path, ROWS)
    clean(file, tmp_path / "out")
    assert clean(file, tmp_path / "out").done_before
    with pytest.raises(FolderDiffers, match="rules"):
        clean(file, tmp_path / "out", options=read_rules(None, ["near.on=false"], None))


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 50)
    monkeypatch.setattr(module, "ALONE", 100)
    rng = random.Random(1)
    rows = [
        {"instruction": f"Question {rng.randrange(150)}", "output": f"{LONG} {rng.randrange(9)}"}
        for _ in range(400)
    ]
    file = rows_file(tmp_path, rows)
    clean(file, tmp_path / "one", workers=1)
    clean(file, tmp_path / "two", workers=2)
    for name in ("rows.parquet", "rejected.parquet"):
        assert pq.read_table(tmp_path / "one" / name) == pq.read_table(tmp_path / "two" / name)


def test_rules_come_from_a_file_and_single_settings(tmp_path: Path) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text("[near]\nthreshold = 0.9\n[exact]\non = false\n")
    options = read_rules(rules, ["near.threshold=0.95", "language.keep=['en','de']"], "flag")
    assert (options.near.threshold, options.exact.on) == (0.95, False)
    assert options.language.keep == ("en", "de")
    assert options.private_data.action == "flag"
    with pytest.raises(UserError, match="Did you mean 'threshold'"):
        read_rules(None, ["near.treshold=0.9"], None)
    with pytest.raises(UserError, match="flag"):
        read_rules(None, [], "hide")


def test_the_verb_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = rows_file(tmp_path, ROWS)
    assert (
        command(["clean", str(file), "--out", str(tmp_path / "out"), "--against", "demo_exam"]) == 0
    )
    printed = capsys.readouterr().out
    assert "clean: 7 in, 3 kept, 4 rejected" in printed
    assert "demo_exam: 0 of" in printed
    assert command(["clean", str(file), "--out", str(tmp_path / "o"), "--phi", "hide"]) == 2


def test_presidio_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    options = read_rules(None, ["private_data.names=presidio"], "flag")
    with pytest.raises(ModuleNotFoundError, match="presidio_analyzer"):
        clean(rows_file(tmp_path, ROWS), tmp_path / "out", options=options)


# --------------------------------------------------------------------------- exam questions

QUESTION = {
    "id": "q1",
    "question": "A 40-year-old woman has had a painful red toe since last night; which substance "
    "is found in the fluid of the joint?",
    "choices": ["Uric acid", "Calcium", "Cholesterol", "Glucose"],
    "answer": "A",
}


def contaminated(order: str = "ABCD") -> dict:
    letters = "\n".join(
        f"{letter}. {QUESTION['choices'][ord(which) - 65]}"
        for letter, which in zip("ABCD", order, strict=True)
    )
    return {"instruction": "Answer.", "input": f"{QUESTION['question']}\n{letters}", "output": "A"}


@pytest.mark.parametrize("order", ["ABCD", "DBCA"])
def test_an_exam_question_is_found_in_any_order_of_its_choices(order: str, tmp_path: Path) -> None:
    own = rows_file(tmp_path, [QUESTION], "own.jsonl")
    file = rows_file(tmp_path, [contaminated(order), *ROWS])
    run = clean(file, tmp_path / "out", against=[str(own)])
    assert run.manifest.results["contamination"] == {
        "own": {"questions": 1, "questions_found": 1, "rows": 1}
    }
    (row,) = [r for r in rejected(tmp_path / "out") if r["reason"] == "contamination"]
    assert row["detail"] == "own:q1"
    (found,) = pq.read_table(tmp_path / "out" / CONTAMINATION_FILE).to_pylist()
    assert (found["id"], found["choices"], found["coverage"]) == (row["id"], 4, 1.0)
    assert "painful red toe since last night" in found["passage"]


def test_a_contaminated_row_can_be_kept_with_a_tag(tmp_path: Path) -> None:
    own = rows_file(tmp_path, [QUESTION], "own.jsonl")
    options = read_rules(None, ["contamination.action=flag"], None)
    clean(
        rows_file(tmp_path, [contaminated()]), tmp_path / "out", against=[str(own)], options=options
    )
    ((row,), _) = read(tmp_path / "out", Record)
    assert row.tags == {"contamination": "own:q1"}


def shuffled_copy(question: Question, rng: random.Random) -> dict:
    choices = list(question.choices)
    rng.shuffle(choices)
    text = "\n".join(f"{'ABCDEFGHIJ'[i]}) {choice}" for i, choice in enumerate(choices))
    return {"instruction": question.prompt, "input": text, "output": choices[0]}


def test_copied_and_shuffled_medqa_questions_are_found(real_data: Path, tmp_path: Path) -> None:
    questions, _ = load(resolve("medqa", real_data))
    rng = random.Random(0)
    rows = [shuffled_copy(question, rng) for question in questions]
    settings = ["near.on=false", "exact.on=false", "choices.on=false"]
    run = clean(
        rows_file(tmp_path, rows),
        tmp_path / "out",
        options=read_rules(None, settings, None),
        against=["medqa"],
        exams=real_data,
    )
    assert run.manifest.rows["rejected"]["contamination"] >= 0.99 * len(questions)


def test_hardly_a_wikidoc_row_is_taken_for_an_exam_question(
    real_data: Path, tmp_path: Path
) -> None:
    file = real_data / "meadow/wikidoc_patient_information/medical_meadow_small.json"
    run = clean(file, tmp_path / "out", against=["medqa", "mmlu_medical"], exams=real_data)
    assert run.manifest.rows["in"] == 5942
    assert run.manifest.rows["rejected"].get("contamination", 0) <= 0.001 * 5942


# --------------------------------------------------------------------------- duplicates


class _Letters:
    """An encoder that counts letters; stands in for sentence-transformers."""

    def __init__(self, folder: str, local_files_only: bool) -> None:
        assert local_files_only

    def encode(self, texts: list[str]) -> np.ndarray:
        return np.array([[text.lower().count(c) for c in "abcdefghijklmnop"] for text in texts])


def test_semantic_duplicates_by_a_local_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in = ModuleType("sentence_transformers")
    stand_in.SentenceTransformer = _Letters  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "sentence_transformers", stand_in)
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    words = LONG.split()
    rows = [
        {"instruction": "q", "output": " ".join(words)},
        {"instruction": "q", "output": " ".join(reversed(words))},  # the same letters
        {"instruction": "q", "output": "pop pop pop"},
        {"instruction": "q 2", "output": " ".join(words)},  # another number
    ]
    settings = [
        "semantic.on=true", f"semantic.encoder={tmp_path / 'encoder'}", "near.on=false",
    ]  # fmt: skip
    options = read_rules(None, settings, None)
    clean(rows_file(tmp_path, rows), tmp_path / "out", options=options)
    (row,) = rejected(tmp_path / "out")
    kept, _ = read(tmp_path / "out", Record)
    assert [r.instruction for r in kept] == ["q", "q", "q 2"]
    assert row["reason"] == "semantic duplicate"
    assert row["detail"] == f"of {kept[0].id}, similarity 1.0000"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What causes gout?", "Why do people get gout?", True),
        ("Spastic paraplegia type 4", "Spastic paraplegia type 15", False),
        ("Glycogen storage disease type IV", "Glycogen storage disease type VI", False),
        ("What is Charcot disease type F?", "What is Charcot disease type B?", False),
        ("What is non-small cell lung cancer?", "What is small cell lung cancer?", False),
        ("Is 22q11.2 deletion inherited?", "Inheritance of 22Q11.2 deletion", True),
        ("Mucopolysaccharidosis type IIID", "Mucopolysaccharidosis type IIIB", False),
        ("What is Proteus-like syndrome?", "What is Proteus syndrome?", False),
        ("A cough?", "I cough", True),
    ],
)
def test_questions_that_differ_in_a_number_are_no_semantic_duplicates(
    one: str, other: str, same: bool
) -> None:
    assert (numbers_of(one) == numbers_of(other)) is same


def test_semantic_duplicates_need_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"semantic.on needs semantic.encoder"):
        read_rules(None, ["semantic.on=true"], None)
    options = read_rules(None, ["semantic.on=true", "semantic.encoder=nowhere"], None)
    with pytest.raises(UserError, match="nowhere"):
        clean(rows_file(tmp_path, ROWS), tmp_path / "out", options=options)
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_an_empty_file_gives_an_empty_folder(tmp_path: Path) -> None:
    run = clean(rows_file(tmp_path, []), tmp_path / "out")
    assert run.manifest.rows == {"in": 0, "kept": 0, "rejected": {}}
    assert read_manifest(tmp_path / "out").stage == "clean"
