"""Exam questions among the rows a model was trained on, found through its manifest."""

import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from meadowlark.dataset import FILE_OF, fingerprint, open_run, read_manifest
from meadowlark.errors import FolderDiffers
from meadowlark.evaluate.exam import exam
from meadowlark.evaluate.exposure import EXPOSURE, find_exposure, training_rows
from meadowlark.records import Question, Record
from tiny_model import make_tiny_model

CHOICES = ("the heart of the matter", "the left lung", "the stomach wall")
WORDS = ("fever", "chills", "blood", "phlegm", "hoarseness", "weight", "sweating", "wheezing")
COMMON = (
    "a woman of sixty years with cough for three weeks which organ is likely at fault after rest "
    "and in spite of treatment by her own doctor who has seen no change since the first visit"
).split()


def stem(word: str) -> str:
    """A question of 17 words, in an order of its own."""
    return " ".join([word, *random.Random(word).sample(COMMON, 16)]) + "?"


def questions() -> list[Question]:
    return [
        Question(f"q{i}", "ward", stem(word), CHOICES, "ABC"[i % 3]) for i, word in enumerate(WORDS)
    ]


def ward(folder: Path) -> str:
    rows = [
        {"id": q.id, "question": q.prompt, "choices": q.choices, "answer": q.target}
        for q in questions()
    ]
    (folder / "ward.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    return str(folder / "ward.jsonl")


def rows_with(seen: tuple[str, ...]) -> list[Record]:
    held = [Record("Answer.", stem(word), "The left lung.", source="leak") for word in seen]
    return [*held, Record("What is the liver for?", "", "It makes bile.", source="other")]


def data_folder(folder: Path, rows: list[Record]) -> Path:
    with open_run("mix", folder, options={}, inputs={}) as run:
        run.write(rows, Record)
        run.finish()
    return folder


def made(stage: str, folder: Path, inputs: dict[str, Path], *, weights: bool = False) -> Path:
    """A folder as a stage that makes models leaves it."""
    with open_run(stage, folder, options={}, inputs=inputs) as run:
        if weights:
            make_tiny_model(folder)
            for name in ("config.json", "model.safetensors"):
                run.wrote(name)
        run.finish()
    return folder


def test_rows_of_the_model_its_package_and_its_base_are_found(tmp_path: Path) -> None:
    first = data_folder(tmp_path / "first", rows_with(("fever",)))
    second = data_folder(tmp_path / "second", rows_with(("chills",)))
    base = made("train", tmp_path / "base", {"data": first})
    tuned = made("train", tmp_path / "tuned", {"data": second, "base": base, "validation": first})
    packaged = made("package", tmp_path / "packaged", {"checkpoint": tuned})
    found = training_rows([packaged])
    assert set(found.paths.values()) == {first, second}
    assert found.missing == []
    exposure = find_exposure(questions(), found.paths.values())
    assert exposure.exposed == {"q0", "q1"}
    assert exposure.rows == 4
    assert {row["source"] for row in exposure.table.to_pylist()} == {"leak"}
    (first / "rows.parquet").write_bytes(b"changed")
    assert training_rows([packaged]).missing == [str(first)]
    assert training_rows([tmp_path]).paths == {}


def test_a_question_too_short_to_look_for_is_neither_clean_nor_contaminated(
    tmp_path: Path,
) -> None:
    short = Question("s", "ward", "Why?", ("x", "y"), "")
    exposure = find_exposure([short, *questions()], [data_folder(tmp_path / "d", rows_with(()))])
    assert exposure.of(short) is None
    assert exposure.of(questions()[0]) is False


def test_accuracy_on_clean_and_contaminated_questions_stands_apart(tmp_path: Path) -> None:
    seen = WORDS[:3]
    data = data_folder(tmp_path / "data", rows_with(seen))
    model = made("train", tmp_path / "model", {"data": data}, weights=True)
    run = exam(f"hf:{model}", [ward(tmp_path)], tmp_path / "out")
    scores = {s["metric"]: s for s in json.loads((run.folder / "scores.json").read_text())}
    assert (scores["accuracy_contaminated"]["n"], scores["accuracy_clean"]["n"]) == (3, 5)
    counts = [
        scores[f"accuracy_{x}"]["value"] * scores[f"accuracy_{x}"]["n"]
        for x in ("clean", "contaminated")
    ]
    assert sum(counts) == pytest.approx(scores["accuracy"]["value"] * 8)
    table = pq.read_table(run.folder / EXPOSURE).to_pylist()
    assert {row["item"] for row in table} == {"q0", "q1", "q2"}
    said = run.manifest.results["contamination"]
    assert (said["training_rows"], said["questions_found"]) == (4, 3)
    assert EXPOSURE in run.manifest.outputs

    # Rows that moved are not guessed at; a user can say where they are.
    data.rename(tmp_path / "moved")
    run = exam(f"hf:{model}", [ward(tmp_path)], tmp_path / "unknown")
    metrics = {s["metric"] for s in json.loads((run.folder / "scores.json").read_text())}
    assert not metrics & {"accuracy_clean", "accuracy_contaminated"}
    (warning,) = [w for w in run.manifest.warnings if w.startswith("contamination: ")]
    assert "give them with --training" in warning
    moved = tmp_path / "moved"
    exam(f"hf:{model}", [ward(tmp_path)], tmp_path / "given", training=moved)
    manifest = read_manifest(tmp_path / "given")
    assert manifest.results["contamination"]["questions_found"] == 3
    assert manifest.inputs["training"]["sha256"] == fingerprint(moved)
    with pytest.raises(FolderDiffers, match="input training"):
        exam(f"hf:{model}", [ward(tmp_path)], tmp_path / "given")


def test_a_model_from_elsewhere_has_no_clean_or_contaminated_part(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    run = exam(f"hf:{model}", [ward(tmp_path)], tmp_path / "out")
    assert not (run.folder / EXPOSURE).exists()
    assert run.manifest.warnings == []
    assert "contamination" not in run.manifest.results
    assert FILE_OF[Record] not in run.manifest.outputs
