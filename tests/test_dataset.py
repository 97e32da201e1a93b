"""The stage contract, and the reading of every accepted layout."""

import json
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meadowlark.dataset import (
    MANIFEST,
    STARTED,
    Run,
    fingerprint,
    open_run,
    read,
    read_each,
    read_manifest,
)
from meadowlark.errors import FolderDiffers, UserError
from meadowlark.records import Question, Record, Rejected, Turn


def stage(data: Path, out: Path, *, keep: int = 2, limit: int | None = None, force: bool = False):
    """A stage as every room writes it: keeps the first rows and rejects the rest."""
    options = {"keep": keep, "limit": limit}
    run = open_run("sample", out, options=options, inputs={"data": data}, force=force)
    if run.complete:
        return run
    with run:
        rows, rejected = read(data, Record, limit)
        run.manifest.rows["in"] = len(rows) + len(rejected)
        run.write(rows[:keep], Record)
        run.reject([*rejected, *(Rejected(row, "too many") for row in rows[keep:])], Record)
        run.finish(kept_share=len(rows[:keep]) / max(len(rows), 1))
    return run


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "data.jsonl"
    rows = [{"instruction": f"Explain {n}", "output": f"It is {n}."} for n in range(5)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    return file


def test_a_finished_folder_accounts_for_every_row(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stage(data, out)
    manifest = read_manifest(out)
    assert manifest.rows == {
        "in": 6,
        "kept": 2,
        "rejected": {"too many": 3, "not a JSON object": 1},
    }
    assert sorted(p.name for p in out.iterdir()) == [
        "README.md",
        "manifest.json",
        "rejected.parquet",
        "rows.parquet",
    ]
    assert manifest.outputs["rows.parquet"] == fingerprint(out / "rows.parquet")
    assert manifest.inputs["data"]["sha256"] == fingerprint(data)
    assert [row.instruction for row in read(out, Record)[0]] == ["Explain 0", "Explain 1"]


def test_the_same_run_again_does_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stage(data, out)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.iterdir()}
    assert stage(data, out).complete
    assert before == {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in out.iterdir()}


def test_other_options_are_refused_with_what_differs(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stage(data, out)
    with pytest.raises(FolderDiffers, match="keep: 2 there, 3 asked"):
        stage(data, out, keep=3)
    assert stage(data, out).complete, "a refusal loses nothing"
    stage(data, out, keep=3, force=True)
    assert read_manifest(out).rows["kept"] == 3


def test_a_changed_input_is_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stage(data, out)
    data.write_text(data.read_text().replace("Explain 0", "Explain zero"))
    with pytest.raises(FolderDiffers, match=r"input data: the content of .* changed"):
        stage(data, out)


def test_a_file_that_is_hashed_while_it_is_read_is_in_the_manifest_by_its_hash(
    data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"

    def begun(path: Path) -> Run:
        return open_run("large", out, options={}, inputs={"raw": path}, hash_meanwhile=True)

    with begun(data):
        pass  # stopped before it could write anything
    assert json.loads((out / STARTED).read_text())["inputs"]["raw"]["sha256"] == ""
    other = tmp_path / "other.jsonl"
    other.write_text("{}")
    with pytest.raises(
        FolderDiffers, match=r"input raw: .*data\.jsonl there, .*other\.jsonl asked"
    ):
        begun(other)
    with begun(data) as run:
        run.write([], Record)
        run.finish()
    assert read_manifest(out).inputs["raw"]["sha256"] == fingerprint(data)
    assert begun(data).complete
    data.write_text("{}")
    with pytest.raises(FolderDiffers, match=r"input raw: the content of .* changed"):
        begun(data)


def test_a_file_that_is_gone_before_it_was_hashed_ends_the_run(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run = open_run("large", out, options={}, inputs={"raw": data}, hash_meanwhile=True)
    data.unlink()
    with run:
        run.write([], Record)
        with pytest.raises(UserError, match="no such file or folder"):
            run.finish()
    assert not (out / MANIFEST).exists()


def test_a_limit_counts_the_same_unusable_rows_of_every_kind_of_file(tmp_path: Path) -> None:
    rows = [{"instruction": text, "input": ""} for text in ("", "a", "", "b", "", "c")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    table = pa.Table.from_pylist(rows)  # in another's columns, so that each row is looked at
    pq.write_table(table, tmp_path / "rows.parquet")
    for limit, counts in ((1, (1, 1)), (2, (2, 2)), (3, (3, 3)), (None, (3, 3))):
        for name in ("rows.jsonl", "rows.parquet"):
            found, rejected = read(tmp_path / name, Record, limit)
            assert (len(found), len(rejected)) == counts, (name, limit)
    for name in ("rows.jsonl", "rows.parquet"):
        kinds = [isinstance(row, Rejected) for row in read_each(tmp_path / name, Record)]
        assert sorted(kinds) == [False] * 3 + [True] * 3
    first = [isinstance(row, Rejected) for row in read_each(tmp_path / "rows.jsonl", Record)]
    assert first == [True, False] * 3


def test_a_raised_limit_continues_and_a_lowered_one_is_refused(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stage(data, out, limit=1)
    assert read_manifest(out).rows["kept"] == 1
    stage(data, out, limit=None)
    assert read_manifest(out).rows["kept"] == 2
    with pytest.raises(FolderDiffers, match="limit: null there, 1 asked"):
        stage(data, out, limit=1)


def test_a_stop_may_be_lowered_too_and_the_run_says_so(tmp_path: Path) -> None:
    """What was made does not depend on where a run ends for now."""

    def begun(budget: float | None, limit: int = 1) -> Run:
        options = {"limit": limit, "budget": budget}
        return open_run("sample", tmp_path / "out", options=options, inputs={}, stops=("budget",))

    with begun(None):
        pass  # killed
    for budget, lowered in ((5, {"budget"}), (None, set())):
        run = begun(budget)
        assert (run.resumed, run.lowered) == (True, lowered)
    with begun(5) as run:
        run.finish()
    for budget, limit, complete, lowered in (
        (3, 1, True, set()),
        (9, 1, False, set()),
        (3, 2, False, {"budget"}),
    ):
        run = begun(budget, limit)
        assert (run.complete, run.extends, run.lowered) == (complete, not complete, lowered)


def test_a_folder_that_no_stage_made_is_never_touched(data: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not made by meadowlark"):
        stage(data, home, force=True)
    assert (home / "thesis.txt").read_text() == "years of work"


def test_an_output_changed_by_hand_is_not_taken_as_made(data: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    stage(data, first)
    (first / "rows.parquet").write_bytes((first / "rejected.parquet").read_bytes())
    with pytest.raises(UserError, match=r"changed after it was made \(rows.parquet\)"):
        stage(first, second)


def test_force_never_deletes_what_it_is_to_read(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stage(data, out)
    kept = fingerprint(out)
    for source in (out, out / "rows.parquet", tmp_path / "out" / ".." / "out"):
        with pytest.raises(UserError, match="--force would delete"):
            stage(source, out, keep=1, force=True)
    assert fingerprint(out) == kept


def test_force_keeps_the_journal(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    stage(data, out)
    (out / "journal.sqlite").write_bytes(b"paid replies")
    stage(data, out, keep=4, force=True)
    assert (out / "journal.sqlite").read_bytes() == b"paid replies"


def test_a_killed_run_is_not_read_and_runs_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = f"""
        import os, signal
        from pathlib import Path
        from meadowlark.dataset import open_run
        from meadowlark.records import Record
        out = Path({str(out)!r})
        run = open_run("sample", out, options={{"keep": 2, "limit": None}},
                       inputs={{"data": Path({str(data)!r})}})
        with run:
            run.write([Record("half")], Record)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(UserError, match="not finished"):
        read(out, Record)
    with pytest.raises(FolderDiffers, match="keep"):
        stage(data, out, keep=1)
    run = stage(data, out)
    assert run.resumed
    assert read_manifest(out).rows["kept"] == 2


def test_two_processes_never_write_one_folder(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = {"keep": 2, "limit": None}
    first = open_run("sample", out, options=options, inputs={"data": data})
    second = open_run("sample", out, options=options, inputs={"data": data})
    with first, pytest.raises(UserError, match="another process"):
        second.__enter__()


def layouts(folder: Path, rows: list[object]) -> Path:
    file = folder / "rows.json"
    file.write_text(json.dumps(rows))
    return file


def test_alpaca_sharegpt_and_messages_give_the_same_record(tmp_path: Path) -> None:
    content = "Explain\n\n### Input:\nfever"
    sharegpt = [{"from": "human", "value": content}, {"from": "gpt", "value": "Heat."}]
    chat = [{"role": "user", "content": content}, {"role": "assistant", "content": "Heat."}]
    rows, rejected = read(
        layouts(
            tmp_path,
            [
                {"instruction": "Explain", "input": "fever", "output": "Heat."},
                {"conversations": sharegpt},
                {"messages": chat},
            ],
        ),
        Record,
    )
    assert rows == [Record("Explain", "fever", "Heat.")] * 3
    assert rejected == []


def test_earlier_turns_become_history(tmp_path: Path) -> None:
    chat = [("system", "S"), ("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    raw = {"messages": [{"role": role, "content": text} for role, text in chat]}
    (row,), _ = read(layouts(tmp_path, [raw]), Record)
    assert row == Record(
        "c", "", "d", (Turn("system", "S"), Turn("user", "a"), Turn("assistant", "b"))
    )


@pytest.mark.parametrize("absent", ["<noinput>", '"<noinput>"', "<NoInput>", "", None])
def test_an_absent_input_is_the_empty_string(tmp_path: Path, absent: str | None) -> None:
    raw = {"instruction": "Explain", "input": absent, "topic": "DNA", "difficulty": 3, "id": 7}
    (row,), _ = read(layouts(tmp_path, [raw]), Record)
    assert row.input == ""
    assert row.tags == {"topic": "DNA", "difficulty": "3", "original_id": "7"}


def test_inputs_with_dna_or_na_are_kept(tmp_path: Path) -> None:
    raw = [{"instruction": "Explain", "input": text} for text in ("DNA repair", "NA", "Na 140")]
    rows, _ = read(layouts(tmp_path, raw), Record)
    assert [row.input for row in rows] == ["DNA repair", "NA", "Na 140"]


@pytest.mark.parametrize(
    "raw",
    [
        {"question": "no instruction"},
        {"instruction": ["a", "list"]},
        {"instruction": "", "input": ""},
        {"messages": []},
        {"messages": [{"role": "wizard", "content": "x"}]},
        {"messages": [{"role": "assistant", "content": "x"}]},
        "text",
        17,
    ],
)
def test_a_bad_row_is_rejected_with_its_text(tmp_path: Path, raw: object) -> None:
    rows, rejected = read(layouts(tmp_path, [raw, {"instruction": "fine"}]), Record)
    assert [row.instruction for row in rows] == ["fine"]
    assert len(rejected) == 1
    assert rejected[0].detail.startswith("row 1: ")


def test_questions_in_their_layouts(tmp_path: Path) -> None:
    raw = [
        {"id": "x", "question": "Which?", "choices": ["p", "q"], "answer": "B", "topic": "t"},
        {"question": "Which?", "options": {"A": "p", "B": "q"}, "answer": "A"},
        {"instruction": "Do", "input": "it", "output": "done"},
        {"question": "Which?", "choices": ["p", "q"], "answer": "C"},
    ]
    rows, rejected = read(layouts(tmp_path, raw), Question)
    assert rows == [
        Question("x", "", "Which?", ("p", "q"), "B", "t"),
        Question("2", "", "Which?", ("p", "q"), "A"),
        Question("3", "", "Do\n\n### Input:\nit", (), "done"),
    ]
    assert "'C' is not one of A, B" in rejected[0].detail


def test_unreadable_files_are_user_errors(tmp_path: Path) -> None:
    for name, content, message in [
        ("a.json", "{", "cannot be read"),
        ("b.json", "{}", "must hold a JSON list"),
        ("c.parquet", "no", "not a readable parquet"),
        ("d.docx", "no", "expected a folder or"),
    ]:
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=message):
            read(tmp_path / name, Record)
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "absent.json", Record)


def test_the_real_seed_tasks_are_read(real_data: Path) -> None:
    rows, rejected = read(real_data / "alpacare/med_seed.json", Record)
    assert len(rows) == 167
    assert rejected == []
    assert sum(row.input == "" for row in rows) == 55
    self_instruct, _ = read(real_data / "instructions/self_instruct/seed_tasks.jsonl", Record)
    assert len(self_instruct) == 175
    assert all(row.output for row in self_instruct)
