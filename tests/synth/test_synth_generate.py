"""Generation: seeds to tasks in request order, whatever the timing; filter, yield, recordings."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from meadowlark.dataset import read, read_manifest
from meadowlark.errors import FolderDiffers, UserError
from meadowlark.llm import ChatReply, ChatRequest, Policy, ScriptedModel
from meadowlark.llm.errors import CallFailed, TooManyFailures
from meadowlark.records import Record
from meadowlark.synth.generate import generate
from meadowlark.synth.task_requests import SAMPLING, RequestForm, layout_of

ORGANS = ("renal", "cardiac", "hepatic", "gastric", "neural", "dermal", "ocular", "aural", "dental")
WORDS = (*ORGANS, "nasal", "vascular")


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    path = tmp_path / "seeds.jsonl"
    rows = [
        {
            "instruction": f"Seed instruction number {n} about {word} medicine.",
            "input": f"Seed input {n}" if n % 2 else "",
            "type": "open Q&A",
            "topic": f"{word} topic",
            "view": "nurse",
            "difficulty": str(n % 5 + 1),
        }
        for n, word in enumerate(WORDS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tasks_for(request: ChatRequest, tasks: int = 4) -> str:
    """Tasks that depend on the request's content alone, no two alike."""
    rng = random.Random(request.key("", ""))
    return "\n".join(
        f"###\n{n}. Type: Rewrite\nTopic: t\nView: nurse\nDifficulty: 2\n"
        f"Instruction: {' '.join(str(rng.randrange(10**6)) for _ in range(6))}\nInput: {n}"
        for n in range(4, 4 + tasks)
    )


def run_of(seeds: Path, out: Path, count: int, model: ScriptedModel, **options: object) -> Record:
    return generate(seeds, "openai:m@http://test/v1", count, out, model=model, **options)  # type: ignore


def test_rows_do_not_depend_on_timing_or_concurrency(seeds: Path, tmp_path: Path) -> None:
    tables = []
    for concurrency, name in ((1, "a"), (7, "b")):
        model = ScriptedModel(
            tasks_for,
            delay_s=lambda r, c=concurrency: 0.0 if c == 1 else hash(r.label) % 7 / 2000,  # type: ignore
        )
        run_of(seeds, tmp_path / name, 50, model, policy=Policy(concurrency=concurrency))
        tables.append((tmp_path / name / "rows.parquet").read_bytes())
    assert tables[0] == tables[1]


def test_a_row_carries_labels_source_request_and_the_seeds_shown(
    seeds: Path, tmp_path: Path
) -> None:
    model = ScriptedModel(tasks_for)
    run_of(seeds, tmp_path / "out", 5, model)
    rows, _ = read(tmp_path / "out", Record)
    assert len(rows) == 5
    by_id = {record.id: record for record in read(seeds, Record)[0]}
    for row in rows:
        assert row.source == "generated:scripted"
        assert row.tags["type"] == "rewriting"
        assert row.tags["type_original"] == "Rewrite"
        assert row.output == ""
        (asked,) = [r for r in model.asked if r.label == row.tags["request"]]
        shown = asked.turns[-1].content
        assert len(set(row.parents)) == 3
        positions = [shown.index(by_id[seed].instruction) for seed in row.parents]
        assert positions == sorted(positions)


def test_no_request_is_paid_for_that_is_not_needed(seeds: Path, tmp_path: Path) -> None:
    model = ScriptedModel(tasks_for)
    run_of(seeds, tmp_path / "out", 40, model, form=RequestForm(tasks=4))
    assert len(model.asked) == 10


def test_the_same_run_does_nothing_and_a_raised_count_goes_on(seeds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    model = ScriptedModel(tasks_for)
    run_of(seeds, out, 10, model)
    ten, _ = read(out, Record)
    assert run_of(seeds, out, 10, ScriptedModel([])).complete
    asked = {request.label for request in model.asked}
    more = ScriptedModel(tasks_for)
    run_of(seeds, out, 40, more)
    forty, _ = read(out, Record)
    assert forty[:10] == ten
    assert len(forty) == 40
    assert not asked & {request.label for request in more.asked}
    cooler = replace(SAMPLING, temperature=0.5)
    with pytest.raises(FolderDiffers, match=r"temperature: 1\.0 there, 0\.5 asked"):
        run_of(seeds, out, 40, ScriptedModel([]), form=RequestForm(sampling=cooler))
    with pytest.raises(FolderDiffers, match="count: 40 there, 20 asked"):
        run_of(seeds, out, 20, ScriptedModel([]))


NEAR = """###
4. Type: chat
Topic: t
View: nurse
Difficulty: 1
Instruction: Tell a worried father how to read the label of a cough syrup.
Input: <noinput>
###
5. Type: chat
Topic: t
View: nurse
Difficulty: 1
Instruction: Tell a worried mother how to read the label of a cough syrup.
Input: <noinput>
###
6. Type: chat
Topic: t
View: nurse
Difficulty: 1
Instruction: Seed instruction number 77 about cardiac medicine.
Input: <noinput>"""


def test_the_filter_names_the_neighbour_of_what_it_drops(seeds: Path, tmp_path: Path) -> None:
    run = run_of(seeds, tmp_path / "out", 1000, ScriptedModel(lambda _: NEAR))
    rows, _ = read(tmp_path / "out", Record)
    assert len(rows) == 1
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert rejected[0]["reason"] == "too similar to a kept task"
    assert rejected[0]["detail"].endswith(f"with {rows[0].id}")
    assert rejected[0]["detail"].startswith("ROUGE-L 0.92")  # 12 of 13 tokens in common
    assert rejected[1]["reason"] == "too similar to a seed"
    (warning,) = run.manifest.warnings
    assert "stopped after 20 requests with 1 of 1,000 tasks" in warning
    assert "too similar to a kept task (39), too similar to a seed (20)" in warning


def test_without_the_filter_every_readable_task_stays(seeds: Path, tmp_path: Path) -> None:
    run_of(seeds, tmp_path / "out", 7, ScriptedModel(lambda _: NEAR), threshold=None)
    rows, _ = read(tmp_path / "out", Record)
    assert [row.tags["request"][-1] for row in rows] == list("0001112")
    assert read_manifest(tmp_path / "out").results["tasks_left_over"] == 2


def test_bad_replies_are_rejected_with_reason_and_raw_text(seeds: Path, tmp_path: Path) -> None:
    def teacher(request: ChatRequest) -> str | ChatReply | Exception:
        good = tasks_for(request)
        return {
            "generate:0": "I'm sorry, but I can't help with that.",
            "generate:1": "",
            "generate:2": ChatReply(good[:-30], "length"),
            "generate:3": "Health is wealth.",
            "generate:4": CallFailed("HTTP 400", "the prompt is too long"),
            "generate:5": request.turns[-1].content.partition("4 to 15.\n\n")[2] or "?",
        }.get(request.label, good)

    run = run_of(seeds, tmp_path / "out", 20, ScriptedModel(teacher))
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    found = {(dict(r["tags"])["request"], r["reason"]) for r in rejected}
    assert found == {
        ("generate:0", "refused"),
        ("generate:1", "empty reply"),
        ("generate:2", "truncated"),
        ("generate:3", "not parsed"),
        ("generate:4", "failed: HTTP 400"),
        ("generate:5", "repeats an example"),
    }
    assert {r["detail"] for r in rejected} >= {"Health is wealth.", "the prompt is too long"}
    assert sum(r["reason"] == "repeats an example" for r in rejected) == 3
    assert run.manifest.rows["in"] == 20 + len(rejected)
    (line,) = (tmp_path / "out" / "failed.jsonl").read_text().splitlines()
    assert json.loads(line)["failed"]["label"] == "generate:4"


def test_a_failing_endpoint_ends_the_run_which_goes_on_later(seeds: Path, tmp_path: Path) -> None:
    def broken(request: ChatRequest) -> str | Exception:
        number = int(request.label.partition(":")[2])
        return tasks_for(request) if number < 2 else CallFailed("HTTP 422", "no")

    with pytest.raises(TooManyFailures):
        run_of(seeds, tmp_path / "out", 60, ScriptedModel(broken))
    model = ScriptedModel(tasks_for)
    run = run_of(seeds, tmp_path / "out", 60, model)
    assert run.manifest.rows["kept"] == 60
    assert "generate:0" not in {request.label for request in model.asked}


def record(seeds: Path, folder: Path, requests: int) -> Path:
    """A recording of the first ``requests`` requests, taken from a journal of a live run."""
    model = ScriptedModel(tasks_for)
    run_of(seeds, folder, requests * 4, model, policy=Policy(concurrency=1))
    lines = []
    for request in model.asked[:requests]:
        line = {"request": request.content(), "reply": {"text": tasks_for(request)}}
        lines.append(json.dumps(line) + "\n")
    path = folder.with_suffix(".jsonl")
    path.write_text("".join(lines))
    return path


def test_a_recording_gives_the_rows_of_the_live_run(seeds: Path, tmp_path: Path) -> None:
    path = record(seeds, tmp_path / "live", 5)
    live, _ = read(tmp_path / "live", Record)
    for teacher in (path, tmp_path / "live" / "journal.sqlite"):
        out = tmp_path / f"again-{teacher.stem}"
        generate(seeds, f"recorded:{teacher}", 20, out)
        again, _ = read(out, Record)
        assert [(r.id, r.tags, r.parents) for r in again] == [
            (r.id, r.tags, r.parents) for r in live
        ]


def test_a_recording_that_ends_is_told_from_one_that_does_not_fit(
    seeds: Path, tmp_path: Path
) -> None:
    path = record(seeds, tmp_path / "live", 5)
    run = generate(seeds, f"recorded:{path}", 100, tmp_path / "ends")
    assert run.manifest.rows["kept"] == 20
    assert run.manifest.warnings == [
        "the recording ends after 5 requests with 20 of 100 tasks kept"
    ]
    with pytest.raises(UserError, match=r"answers none .* meadowlark.demo.rekey"):
        generate(seeds, f"recorded:{path}", 100, tmp_path / "other", form=RequestForm(seed=43))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 0}, "count is 0"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"form": RequestForm(examples=12)}, "11"),
    ],
)
def test_impossible_options_are_explained(
    seeds: Path, tmp_path: Path, options: dict[str, object], said: str
) -> None:
    with pytest.raises(UserError, match=said):
        generate(seeds, "openai:m@http://h/v1", **{"count": 5, **options}, out=tmp_path / "o")  # type: ignore


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: RequestForm(tasks=0), "tasks per request is 0"),
        (lambda: RequestForm(examples=0), "examples is 0"),
        (lambda: layout_of("jsn"), "Did you mean 'json'"),
    ],
)
def test_an_impossible_request_is_explained(make: Callable[[], object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        make()


@pytest.mark.parametrize(
    ("name", "count", "without_input"),
    [
        ("alpacare/med_seed.json", 167, 55),
        ("instructions/self_instruct/seed_tasks.jsonl", 175, None),
        ("instructions/stanford_alpaca/seed_tasks.jsonl", 175, None),
    ],
)
def test_published_seed_sets_are_read_whole(
    real_data: Path, tmp_path: Path, name: str, count: int, without_input: int | None
) -> None:
    path = real_data / name
    seeds, unusable = read(path, Record)
    assert (len(seeds), unusable) == (count, [])
    assert not any("noinput" in seed.input.lower() for seed in seeds)
    if without_input is not None:
        assert sum(not seed.input for seed in seeds) == without_input
    model = ScriptedModel(tasks_for)
    run = run_of(path, tmp_path / "out", 200, model)
    assert run.manifest.rows["kept"] == 200
    shown = "".join(request.turns[-1].content for request in model.asked)
    assert sum(seed.input in shown for seed in seeds if len(seed.input) > 40) > 40
