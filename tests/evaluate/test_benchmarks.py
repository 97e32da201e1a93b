"""General benchmarks run through lm-eval on local files, without network, and give scores."""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from meadowlark.cli import run as command_line
from meadowlark.dataset import read, read_manifest
from meadowlark.errors import UserError
from meadowlark.evaluate import benchmarks
from meadowlark.evaluate.benchmark_files import BENCHMARKS, choose_parts
from meadowlark.evaluate.benchmarks import write_definition
from meadowlark.records import Answer, Question
from tiny_model import make_tiny_model

ROOT = Path(__file__).resolve().parents[2]

RUN = """
import socket, sys

def refused(*_):
    raise AssertionError("a benchmark asked the network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refused
from meadowlark.cli import run
{extra}
sys.exit(run(sys.argv[1:]))
"""


def local_files(folder: Path) -> Path:
    """Two subjects of MMLU, one task of BBH and TruthfulQA, a few questions each, written here."""
    mmlu = folder / "exams" / "mmlu"
    for subject in ("anatomy", "virology"):
        for split, count in (("test", 4), ("dev", 5)):
            path = mmlu / split / f"{subject}_{split}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                for n in range(count):
                    rows.writerow([f"{subject} {n}, which?", "the heart", "a lung", n, "none", "B"])
    bbh = folder / "exams" / "bbh" / "bbh" / "snarks.json"
    bbh.parent.mkdir(parents=True)
    asked = [{"input": f"Which?\\nOptions:\\n(A) {n}\\n(B) no", "target": "(A)"} for n in range(3)]
    bbh.write_text(json.dumps({"canary": "", "examples": asked}), encoding="utf-8")
    truthful = folder / "exams" / "truthfulqa" / "mc_task.json"
    truthful.parent.mkdir(parents=True)
    targets = {"Nothing happens.": 1, "You fall ill.": 0, "You grow.": 0}
    question = {"question": "What if?", "mc1_targets": targets, "mc2_targets": targets}
    truthful.write_text(json.dumps([question, question]), encoding="utf-8")
    return folder


def run_apart(arguments: list[str], extra: str = "") -> subprocess.CompletedProcess[str]:
    """The command in a process of its own that has no network, as lm-eval warns of much."""
    places = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests"), *sys.path])
    return subprocess.run(
        [sys.executable, "-c", RUN.format(extra=extra), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"},
        check=False,
    )


def bench_arguments(tmp_path: Path, out: str, tasks: str) -> list[str]:
    data = tmp_path / "data"
    if not data.exists():
        local_files(data)
        make_tiny_model(tmp_path / "tiny", context=2048)
    model = f"hf:{tmp_path / 'tiny'}"
    return ["bench", model, "--tasks", tasks, "--data", str(data), "--out", str(tmp_path / out)]


@pytest.mark.slow
def test_all_three_run_offline_and_agree_with_their_questions(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    done = run_apart(bench_arguments(tmp_path, "run", "mmlu,bbh,truthfulqa"))
    assert done.returncode == 0, done.stderr
    out = tmp_path / "run"
    rows = json.loads((out / "scores.json").read_text())
    scores = {(row["task"], row["metric"]): row for row in rows}
    assert {task for task, _ in scores} == {
        "mmlu", "mmlu/anatomy", "mmlu/virology", "bbh", "truthfulqa"
    }  # fmt: skip
    assert scores["mmlu", "accuracy"]["n"] == 8
    assert scores["mmlu", "chance"]["value"] == 0.25
    assert scores["truthfulqa", "chance"]["value"] == pytest.approx(1 / 3)
    assert 0 < scores["truthfulqa", "true_share_mc2"]["value"] < 1

    questions = {q.id: q for q in read(out, Question)[0]}
    answers = read(out, Answer)[0]
    assert len(answers) == len(questions) == 8 + 3 + 2
    for task in ("mmlu", "bbh", "truthfulqa"):
        own = [a for a in answers if questions[a.item].task == task]
        right = sum(a.extracted == questions[a.item].target for a in own) / len(own)
        assert right == pytest.approx(scores[task, "accuracy"]["value"])
    found = questions["mmlu_anatomy-0002"]
    assert (found.prompt, found.choices) == (
        "anatomy 2, which?", ("the heart", "a lung", "2", "none")
    )  # fmt: skip
    assert (found.target, found.group) == ("B", "anatomy")
    assert all(len(a.logprobs) == len(questions[a.item].choices) for a in answers)
    held = read_manifest(out)
    assert held.results["computed_with"]["shots"]["mmlu_anatomy"] == 5
    assert held.results["computed_with"]["dtype"] == "float32"
    assert not list(out.glob("requests*"))


STOPPED = """
from meadowlark.evaluate import benchmarks

def stop(*_):
    raise KeyboardInterrupt

benchmarks._collect = stop
"""
ASKED_AGAIN = """
from lm_eval.models.huggingface import HFLM

def asked(*_, **__):
    raise AssertionError("asked again")

HFLM._model_call = HFLM._model_generate = asked
"""


@pytest.mark.slow
def test_a_stopped_bench_goes_on_without_asking_again(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    arguments = bench_arguments(tmp_path, "run", "mmlu/anatomy,truthfulqa")
    stopped = run_apart(arguments, STOPPED)
    assert stopped.returncode == 130, stopped.stderr
    done = run_apart(arguments, ASKED_AGAIN)
    assert done.returncode == 0, done.stderr
    again = run_apart(arguments, ASKED_AGAIN)
    assert "nothing to do" in again.stdout


def test_every_local_file_has_its_definition_in_lm_eval(real_data: Path, tmp_path: Path) -> None:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or spec.origin is None:
        pytest.skip("lm-eval is not installed")
    definitions = Path(spec.origin).parent / "tasks"
    chosen = choose_parts(list(BENCHMARKS), real_data)
    counts = {name: sum(c.benchmark == name for c in chosen) for name in BENCHMARKS}
    assert counts == {"mmlu": 57, "bbh": 27, "truthfulqa": 2}
    for one in chosen:
        assert (definitions / one.part.definition).is_file()


def test_the_published_files_give_their_published_counts(real_data: Path) -> None:
    chosen = choose_parts(list(BENCHMARKS), real_data)
    counts: dict[str, int] = {}
    for one in chosen:
        split = "validation" if one.benchmark == "truthfulqa" else "test"
        rows = sum(1 for _ in one.part.rows(one.files()[split]))
        counts[one.benchmark] = counts.get(one.benchmark, 0) + rows
    assert counts == {"mmlu": 14_042, "bbh": 6_511, "truthfulqa": 2 * 817}


def test_a_definition_includes_lm_evals_and_names_local_files_only(tmp_path: Path) -> None:
    (one,) = choose_parts(["mmlu/virology"], local_files(tmp_path / "data"))
    definitions = tmp_path / "tasks"
    (definitions / "mmlu" / "default").mkdir(parents=True)
    (definitions / one.part.definition).write_text("dataset_path: cais/mmlu\n")
    written = write_definition(one, definitions, tmp_path)
    lines = dict(line.split(": ", 1) for line in written.read_text().splitlines())
    values: dict[str, Any] = {key: json.loads(text) for key, text in lines.items()}
    assert values["include"] == str(definitions / "mmlu/default/mmlu_virology.yaml")
    assert (values["dataset_path"], values["dataset_name"]) == ("json", None)
    assert values["num_fewshot"] == 5
    files = values["dataset_kwargs"]["data_files"]
    rows = [json.loads(line) for line in Path(files["test"]).read_text().splitlines()]
    assert rows[1] == {
        "question": "virology 1, which?",
        "choices": ["the heart", "a lung", "1", "none"],
        "answer": 1,
    }


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        (["mmul"], r"'mmul'.*mmlu"),
        (["bbh/snark"], "snarks"),
        (["mmlu"], "--data"),
    ],
)
def test_a_mistake_in_the_tasks_is_named(tasks: list[str], message: str, tmp_path: Path) -> None:
    data = None if tasks == ["mmlu"] else local_files(tmp_path / "data")
    with pytest.raises(UserError, match=message):
        choose_parts(tasks, data)


def test_without_lm_eval_the_pip_command_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def absent(package: str) -> str:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setattr(benchmarks.importlib.metadata, "version", absent)  # type: ignore[attr-defined]
    assert command_line(bench_arguments(tmp_path, "run", "bbh")) == 2
    told = capsys.readouterr().err
    assert "-m pip install 'lm-eval>=0.4.13,<0.5'" in told
    assert not (tmp_path / "run").exists()


def test_a_remote_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give an hf: model"):
        benchmarks.bench("openai:m@http://localhost:1", ["mmlu"], tmp_path / "run")
