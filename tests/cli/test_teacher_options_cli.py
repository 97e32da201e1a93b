"""The options of generate and respond that concern models and money, by the command line."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from chat_server import ChatServer, Handler, answering, completion
from meadowlark.cli import run
from meadowlark.dataset import STARTED, read, read_manifest, write_table
from meadowlark.llm.catalogue import read_models
from meadowlark.records import Answer, Question, Record, to_table

KEY = "sk-planted-in-the-environment-4711"
ROOT = Path(__file__).parents[2]
NOBODY = "openai:gpt-4o@http://127.0.0.1:9/v1"


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("MEADOWLARK_MODELS", "MEADOWLARK_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    path = tmp_path / "tasks.jsonl"
    path.write_text("".join(f'{{"instruction": "Task {n:02}."}}\n' for n in range(20)))
    return path


def models_toml(tmp_path: Path, url: str) -> None:
    (tmp_path / "models.toml").write_text(
        f'[teacher]\nkind = "openai"\nurl = "{url}"\nmodel = "big"\n'
        'key_variable = "HOSPITAL_KEY"\nprice = { input = 0, output = 10000 }\n'
    )


def test_a_dry_run_tells_what_it_would_take_and_sends_and_writes_nothing(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--teacher", NOBODY, "--price", "2.5,10", "--dry-run", "--budget", "0.05usd"]
    assert run(["respond", str(tasks), "--out", "o", "--max-tokens", "600", *options]) == 0
    said = capsys.readouterr().out
    assert "dry run: 20 requests to gpt-4o at http://127.0.0.1:9/v1/chat/completions" in said
    assert "at most 12,000 out" in said
    assert re.search(r"cost: at most 0\.1\d\d\d USD; at 2.5 in, 10 out .*, as you gave it", said)
    assert "budget: 0.0500 USD may be reached (at most 0.1" in said
    assert "time: about " in said
    assert run(["generate", "--seeds", str(tasks), "-n", "50", "--out", "o", *options]) == 0
    said = capsys.readouterr().out
    assert "dry run: 5 requests to gpt-4o" in said  # twelve tasks each
    assert "at most 20,480 out" in said
    assert not (tmp_path / "o").exists()


def test_an_unknown_price_is_an_error_before_anything_is_made(
    tasks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["respond", str(tasks), "--out", "o", "--teacher", "openai:m@https://h.example/v1"]
    for more in ([], ["--dry-run"], ["--budget", "20usd"]):
        assert run([*command, *more]) == 2
        assert "an unknown price is not zero. Give --price IN,OUT" in capsys.readouterr().err
    for wrong in (["--price", "cheap"], ["--budget", "20eur"]):
        assert run([*command, *wrong]) == 2
        assert "expected US dollars" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_budget_ends_a_run_in_order_and_a_higher_one_goes_on(
    tasks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    search_for: Callable[[Path, str], dict[str, Any]],
) -> None:
    """A reply is one token, for a cent; the key reaches the server and nothing else."""
    monkeypatch.setenv("HOSPITAL_KEY", KEY)
    with ChatServer(answering(completion(f"Fine ({KEY})".replace(" ", "_")))) as server:
        models_toml(tmp_path, server.url)
        command = ["respond", str(tasks), "--out", "o", "--teacher", "teacher"]
        command += ["--max-tokens", "1", "--retries", "0"]
        assert run([*command, "--budget", "0.075usd"]) == 0
        assert len(server.asked) == 7
        assert server.asked[0][0]["Authorization"] == f"Bearer {KEY}"
        first = read_manifest(tmp_path / "o")
        assert first.cost_usd == pytest.approx(0.07)
        assert first.rows == {"in": 20, "kept": 7, "rejected": {"failed: budget reached": 13}}
        assert first.options["teacher"] == f"openai:big@{server.url}"
        assert first.warnings == ["the budget of 0.075 USD is reached; raise --budget to go on"]
        assert run([*command, "--budget", "0.075usd", "--dry-run"]) == 0
        assert run([*command, "--budget", "1usd"]) == 0
        assert len(server.asked) == 20
    manifest = read_manifest(tmp_path / "o")
    assert manifest.cost_usd == pytest.approx(0.20)
    assert manifest.rows["kept"] == 20
    rows, _ = read(tmp_path / "o", Record)
    assert [row.instruction for row in rows] == [f"Task {n:02}." for n in range(20)]
    assert rows[0].output == "Fine_([key])"
    out, err = capsys.readouterr()
    assert "7 more are answered in the journal" in out
    assert "cost: about 0.1300 USD by the replies so far" in out
    assert "cost 0.2000 USD" in out
    assert KEY not in out + err
    assert search_for(tmp_path, KEY)["found_in"] == []


def four_replies_then_a_refusal() -> Handler:
    """One word each, for a cent; the fifth request is refused, those after it are answered."""
    numbers = itertools.count()
    said, refused = answering(completion("Word")), answering(web.json_response({}, status=401))

    async def handler(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        return await (refused if next(numbers) == 4 else said)(request, body)

    return handler


@pytest.mark.parametrize(
    "verb",
    [
        ["respond", "tasks.jsonl"],
        ["rephrase", "rows.jsonl", "--style", "flashcard"],
        ["generate", "--seeds", "tasks.jsonl", "-n", "90"],
        ["judge", "answers/a", "answers/b"],
    ],
    ids=lambda verb: verb[0],
)
def test_a_budget_may_be_added_to_a_run_begun_without_and_lowered_but_not_below_what_is_spent(
    verb: list[str],
    tasks: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "rows.jsonl").write_text(
        "".join(f'{{"instruction": "Task {n:02}.", "output": "Rest {n}."}}\n' for n in range(20))
    )
    questions = [Question(f"{n}", "t", f"Task {n}.") for n in range(20)]
    for name in "ab":
        folder = tmp_path / "answers" / name
        folder.mkdir(parents=True)
        answers = [Answer(q.id, name, text=f"{name} {q.id}") for q in questions]
        write_table(folder / "questions.parquet", to_table(questions, Question))
        write_table(folder / "answers.parquet", to_table(answers, Answer))
    monkeypatch.setenv("HOSPITAL_KEY", KEY)
    with ChatServer(four_replies_then_a_refusal()) as server:
        models_toml(tmp_path, server.url)
        model = ["--judge"] if verb[0] == "judge" else ["--max-tokens", "1", "--teacher"]
        command = [*verb, *model, "teacher", "--out", "o", "--concurrency", "1"]
        assert run(command) == 1
        assert len(server.asked) == 5
        held = (tmp_path / "o" / STARTED).read_bytes()
        capsys.readouterr()
        assert run([*command, "--budget", "0.03usd"]) == 2
        assert (
            "--budget 0.03usd is used up: the calls of o have cost 0.0400 USD. Nothing was sent"
            in capsys.readouterr().err
        )
        assert (tmp_path / "o" / STARTED).read_bytes() == held
        assert len(server.asked) == 5
        assert run([*command, "--budget", "0.065usd"]) == 0
        assert len(server.asked) == 7
        manifest = read_manifest(tmp_path / "o")
        assert (manifest.options["budget"], manifest.cost_usd) == (0.065, pytest.approx(0.06))
        assert "the budget of 0.065 USD is reached; raise --budget to go on" in manifest.warnings
        assert run([*command, "--budget", "0.03usd"]) == 0, "a finished folder sends nothing"
        assert len(server.asked) == 7


def test_a_refused_key_is_one_message_without_it(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOSPITAL_KEY", KEY)
    said = web.json_response({"error": {"message": f"Wrong key: {KEY}"}}, status=401)
    with ChatServer(answering(said)) as server:
        models_toml(tmp_path, server.url)
        assert run(["respond", str(tasks), "--out", "o", "--teacher", "teacher"]) == 1
    err = capsys.readouterr().err
    assert "Wrong key: [key]" in err
    assert "Set the key in HOSPITAL_KEY" in err
    assert KEY not in err
    assert "Traceback" not in err


def test_failed_tasks_can_be_run_again_from_the_file_that_lists_them(
    tasks: Path, tmp_path: Path
) -> None:
    async def picky(_: web.Request, body: dict[str, list[dict[str, str]]]) -> web.StreamResponse:
        if "Task 07." in body["messages"][-1]["content"]:
            return web.json_response({"error": {"message": "cannot"}}, status=422)
        return completion("Fine.")

    with ChatServer(picky) as server:
        teacher = ["--teacher", f"openai:m@{server.url}"]
        assert run(["respond", str(tasks), "--out", "o", *teacher]) == 0
    (line,) = (tmp_path / "o" / "failed.jsonl").read_text().splitlines()
    assert json.loads(line)["failed"]["reason"] == "HTTP 422"
    with ChatServer(answering(completion("Now."))) as server:
        teacher = ["--teacher", f"openai:m@{server.url}"]
        assert run(["respond", "o/failed.jsonl", "--out", "again", *teacher]) == 0
    (row,), _ = read(tmp_path / "again", Record)
    assert (row.instruction, row.output, row.tags) == ("Task 07.", "Now.", {})


def test_own_models_are_listed_with_their_keys_set_or_not(
    tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    models_toml(tmp_path, "http://gpu:8000/v1")
    for state in ("not set", "set"):
        assert run(["models"]) == 0
        out = capsys.readouterr().out
        assert re.search(
            rf"teacher +openai +big +http://gpu:8000/v1 +HOSPITAL_KEY \({state}\) +0, 10000", out
        )
        assert KEY not in out
        monkeypatch.setenv("HOSPITAL_KEY", KEY)
    assert run(["models", "--models", "none.toml"]) == 2
    assert run(["respond", str(tasks), "--out", "o", "--teacher", "techer"]) == 2
    assert "Did you mean 'teacher'" in capsys.readouterr().err


def test_the_example_in_the_guide_can_be_read(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "models.md").read_text(), re.S)
    (tmp_path / "models.toml").write_text(example)
    entries = read_models(tmp_path / "models.toml")
    assert list(entries) == ["teacher", "azure"]
