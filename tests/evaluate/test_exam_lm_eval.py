"""Exams against lm-eval 0.4.13: the same log-likelihoods (1e-4) and predictions, on its own tasks
with the real questions, and on what we export."""

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("lm_eval", reason="lm-eval is not installed (0.4.13, extra 'evaluate')")

from lm_eval_oracle import STOCK, likelihoods_of, run_lm_eval, stock_task

from meadowlark.dataset import read
from meadowlark.errors import UserError
from meadowlark.evaluate.exam import ExamOptions, choose_files, exam, read_exam
from meadowlark.evaluate.exam_export import export_lm_eval
from meadowlark.evaluate.exam_likelihood import LIKELIHOODS
from meadowlark.records import Answer, Question
from tiny_model import make_tiny_model

pytestmark = pytest.mark.filterwarnings("ignore")
TOLERANCE = 1e-4
ROUNDING = 3e-7
"""lm-eval adds up in float32, whose steps are 6e-5 at -700 nats (a tiny model on a long choice)."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model", context=8192)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def examined(model: Path, tasks: list[str], out: Path, **given: Any) -> Path:
    exam(f"hf:{model}", tasks, out, **given)
    return out


def assert_same(folder: Path, samples: list[dict[str, Any]], group: str = "") -> None:
    questions = [q for q in read(folder, Question)[0] if group in ("", q.group)]
    answers = {answer.item: answer for answer in read(folder, Answer)[0]}
    theirs = likelihoods_of(samples)
    assert len(theirs) == len(questions) > 1
    for question, values in zip(questions, theirs, strict=True):
        ours = answers[question.id]
        values = values[: len(question.choices)]
        assert list(ours.logprobs) == pytest.approx(values, abs=TOLERANCE, rel=ROUNDING)
        assert ours.extracted == "ABCDE"[values.index(max(values))]


def compare_stock(
    model: Path, name: str, data: Path, folder: Path, limit: int | None, shots: int = 0
) -> None:
    """lm-eval's own task and ours on the same real questions, subject by subject for MMLU."""
    how = ExamOptions(plain=True, shots=shots)
    out = examined(model, [name], folder / "ours", how=how, data=data, limit=limit)
    questions = read(out, Question)[0]
    by_subject = name == "mmlu_medical"
    for group in dict.fromkeys(q.group if by_subject else "" for q in questions):
        asked = [q for q in questions if group in ("", q.group)]
        held = read_exam(choose_files([name], data, None, shots), 1, how).askings if shots else {}
        examples = next(iter(held.values())).examples[group] if held else ()
        task = stock_task(name, asked, folder, examples)
        theirs = run_lm_eval(model, [task], num_fewshot=shots)
        (samples,) = theirs["samples"].values()
        assert_same(out, samples, group)
        if not by_subject:
            compare_scores(out, name, theirs["results"][task["task"]])


def compare_scores(out: Path, name: str, theirs: dict[str, float]) -> None:
    ours = {
        s["metric"]: s["value"]
        for s in json.loads((out / "scores.json").read_text())
        if s["task"] == name
    }
    assert ours["accuracy"] == theirs["acc,none"]
    if "accuracy_per_character" in ours and "acc_norm,none" in theirs:
        assert ours["accuracy_per_character"] == theirs["acc_norm,none"]
    if "acc_bytes,none" in theirs:
        assert ours["accuracy_per_byte"] == theirs["acc_bytes,none"]
    if "acc_mutual_info,none" in theirs:
        assert ours["accuracy_unconditional"] == theirs["acc_mutual_info,none"]


@pytest.mark.parametrize("name", STOCK)
def test_likelihoods_equal_lm_evals_own_tasks_on_a_sample_of_real_questions(
    name: str, model: Path, tmp_path: Path, real_data: Path
) -> None:
    compare_stock(model, name, real_data, tmp_path, limit=12)


def test_five_shot_mmlu_equals_lm_evals_own_task(
    model: Path, tmp_path: Path, real_data: Path
) -> None:
    compare_stock(model, "mmlu_medical", real_data, tmp_path, limit=6, shots=5)


@pytest.mark.slow
@pytest.mark.parametrize("name", STOCK)
def test_likelihoods_equal_lm_evals_own_tasks_on_all_real_questions(
    name: str, model: Path, tmp_path: Path, real_data: Path
) -> None:
    compare_stock(model, name, real_data, tmp_path, limit=None)


def definition(folder: Path) -> str:
    """An exam of ours with worked examples by group, braces and a header inside a question."""
    rows = [
        {
            "id": f"q{i}",
            "question": ["Which {organ} makes bile?", "Why?\n### Input:\nA fever {{x}}"][i % 2],
            "choices": ["the heart ", "a liver", f"kidney {'and ' * (i % 4)}é"][: 2 + i % 2],
            "answer": "AB"[i % 2],
            "topic": f"topic {i % 2}",
        }
        for i in range(12)
    ]
    (folder / "ward.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    worked = [{**row, "id": f"w{row['id']}"} for row in rows[:6]]
    (folder / "worked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in worked))
    (folder / "ward.toml").write_text(
        'title = "Ward"\nfiles = ["ward.jsonl"]\n'
        '[columns]\nid = "id"\ngroup = "topic"\n'
        '[form]\nopening = "Questions about {group}.\\n\\n"\n'
        '[examples]\nfiles = ["worked.jsonl"]\nby_group = true\n'
    )
    return str(folder / "ward.toml")


@pytest.mark.parametrize(
    "how",
    [
        ExamOptions(),
        ExamOptions(shots=2),
        ExamOptions(scoring="text", unconditional=True),
        ExamOptions(plain=True),
        ExamOptions(plain=True, shots=2, scoring="text", unconditional=True),
    ],
    ids=["chat", "chat, two shots", "chat, texts", "plain", "plain, two shots, texts"],
)
def test_what_is_exported_gives_lm_eval_the_same_exam(
    how: ExamOptions, model: Path, tmp_path: Path
) -> None:
    ward = definition(tmp_path)
    out = examined(model, [ward], tmp_path / "ours", how=how)
    chosen = choose_files([ward], None, None, how.shots)
    (name,) = export_lm_eval(chosen, tmp_path / "exported", how)
    chat = {} if how.plain else {"apply_chat_template": True, "fewshot_as_multiturn": True}
    theirs = run_lm_eval(model, [name], include=tmp_path / "exported", **chat)
    samples = theirs["samples"]
    if len(samples) == 1:
        assert_same(out, *samples.values())
        compare_scores(out, "ward", theirs["results"][name])
    else:
        assert set(samples) == {f"{name}_topic_0", f"{name}_topic_1"}
        for part, found in samples.items():
            assert_same(out, found, part[-7:].replace("_", " "))
    if how.unconditional:
        import pyarrow.parquet as pq

        rows = pq.read_table(out / LIKELIHOODS).to_pylist()
        for group in dict.fromkeys(q.group for q in read(out, Question)[0]):
            ids = [q.id for q in read(out, Question)[0] if q.group == group]
            found = samples[name if len(samples) == 1 else f"{name}_{group.replace(' ', '_')}"]
            by_doc = {
                s["doc"]["id"]: values
                for s, values in zip(
                    sorted(found, key=lambda s: s["doc_id"]), likelihoods_of(found), strict=True
                )
            }
            for item in ids:
                free = [row["unconditional"] for row in rows if row["item"] == item]
                assert free == pytest.approx(by_doc[item][len(free) :], abs=TOLERANCE, rel=ROUNDING)


def test_an_export_says_how_to_run_it_and_refuses_a_folder_of_others(
    model: Path, tmp_path: Path
) -> None:
    chosen = choose_files([definition(tmp_path)], None, None, 0)
    out = tmp_path / "exported"
    assert export_lm_eval(chosen, out, ExamOptions()) == ["meadowlark_ward"]
    said = (out / "command.txt").read_text()
    assert f"--include_path {out} --tasks meadowlark_ward --apply_chat_template" in said
    export_lm_eval(chosen, out, ExamOptions(), limit=3)  # replaces its own files
    assert len((out / "meadowlark_ward.jsonl").read_text().splitlines()) == 3
    (out / "mine.yaml").write_text("")
    with pytest.raises(UserError, match=r"holds mine\.yaml, which no export made"):
        export_lm_eval(chosen, out, ExamOptions())
    with pytest.raises(UserError, match="leave --orders away"):
        export_lm_eval(chosen, tmp_path / "other", ExamOptions(orders=2))
