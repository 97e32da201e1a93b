"""The journal on disk, recordings, and the names of models."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from meadowlark.errors import UserError
from meadowlark.llm import (
    ChatReply,
    ChatRequest,
    Journal,
    OpenAIModel,
    RecordedModel,
    Sampling,
    TokenLogprob,
    identify,
    open_model,
)
from meadowlark.llm.errors import CallFailed, NotRecorded
from meadowlark.llm.journal import Entry, Totals
from meadowlark.records import Turn


def request(number: int, **sampling: float) -> ChatRequest:
    turns = (Turn("user", f"q{number} é"),)
    return ChatRequest(turns, Sampling(**sampling), label=f"l{number}")  # type: ignore[arg-type]


def done(text: str) -> Entry:
    said = (TokenLogprob(text, -0.5, ((text, -0.5), ("b", -1.25))),)
    reply = ChatReply(text, "stop", 3, 4, cost_usd=0.25, logprobs=said, raw='{"id": 1}')
    return Entry("done", reply, attempts=1, seconds=0.5)


def test_a_row_goes_through_its_states_and_survives_closing(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    asked = request(1)
    key = asked.key("e", "m")
    with Journal(path) as journal:
        assert journal.find(key) is None
        assert journal.plan(asked, "e", "m") == key
        assert journal.find(key) == Entry("planned")
        for entry in (Entry("in_flight", attempts=1), done("a")):
            journal.note(key, entry)
            assert journal.find(key) == entry
        journal.flush()
        assert journal.find(key) == done("a")
    with Journal(path) as journal:
        assert journal.find(key) == done("a")
        assert journal.before == Totals(1, 1, 3, 4, 0.25, 0.5)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["journal.sqlite"]


def test_a_reply_is_on_disk_within_the_commit_interval(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    asked = request(1)
    with Journal(path) as journal:
        journal.note(journal.plan(asked, "e", "m"), done("a"))
        committed = threading.Event()

        def look() -> None:
            query = "SELECT count(*) FROM calls WHERE reply = 'a'"
            with sqlite3.connect(path) as other:
                while not other.execute(query).fetchone()[0]:
                    pass
            other.close()
            committed.set()

        looking = threading.Thread(target=look, daemon=True)
        looking.start()
        assert committed.wait(5)
        looking.join()


def test_requests_that_a_kill_left_in_flight_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        for number, state in enumerate(["in_flight", "in_flight", "planned"]):
            key = journal.plan(request(number), "e", "m")
            journal.note(key, Entry(state))  # type: ignore[arg-type]
        journal.note(journal.plan(request(9), "e", "m"), done("a"))
    with Journal(path) as journal:
        assert journal.interrupted == 2


def test_a_file_that_is_no_journal_is_a_users_mistake(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("not a data base, but long enough to be read as one " * 40)
    with pytest.raises(UserError, match="cannot be used as a journal"):
        Journal(path)


def test_the_raw_body_is_kept(tmp_path: Path) -> None:
    with Journal(tmp_path / "j.sqlite") as journal:
        key = journal.plan(request(1), "e", "m")
        journal.note(key, done("a"))
        journal.flush()
        found = journal.find(key)
    assert found is not None
    assert found.reply is not None
    assert found.reply.raw == '{"id": 1}'


def test_a_journal_of_another_version_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE calls (key TEXT PRIMARY KEY, reply TEXT)")
    with pytest.raises(UserError, match="journal of another version"):
        Journal(path)


def test_a_request_that_is_not_well_formed_text_can_be_kept(tmp_path: Path) -> None:
    asked = ChatRequest((Turn("user", "a lone \ud83d surrogate"),))
    with Journal(tmp_path / "j.sqlite") as journal:
        key = journal.plan(asked, "e", "m")
        journal.flush()
        assert journal.find(key) == Entry("planned")
    assert key == asked.key("e", "m")


def test_a_journal_that_cannot_be_written_says_so_and_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "j.sqlite"
    journal = Journal(path)
    key = journal.plan(request(1), "e", "m")
    journal.flush()
    with closing(sqlite3.connect(path)) as other:
        other.execute("DROP TABLE calls")
    journal.note(key, done("a"))
    with pytest.raises(UserError, match="cannot be written"):
        journal.flush()
    with pytest.raises(UserError, match="cannot be written"):
        journal.plan(request(2), "e", "m")
    with pytest.raises(UserError, match="cannot be written"):
        journal.close()


def test_a_journal_is_a_recording_whatever_endpoint_answered(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        for number in (1, 2):
            key = journal.plan(request(number, temperature=1.0), "http://gone/v1", "gpt-4")
            journal.note(key, done(f"a{number}"))
        failed = request(3, temperature=1.0)
        key = journal.plan(failed, "x", "gpt-4")
        journal.note(key, Entry("failed", reason="HTTP 400", detail="long"))
        journal.plan(request(4), "x", "gpt-4")
    model = RecordedModel(path)
    assert model.name == "gpt-4"
    again = asyncio.run(model.reply(request(2, temperature=1.0)))
    assert again == replace(done("a2").reply or ChatReply(""), cost_usd=0.0)
    with pytest.raises(CallFailed, match="HTTP 400"):
        asyncio.run(model.reply(failed))
    for unknown in (request(4), request(1, temperature=0.9), request(1)):
        with pytest.raises(NotRecorded):
            asyncio.run(model.reply(unknown))


def test_json_lines_are_a_recording_and_one_is_one_point_zero(tmp_path: Path) -> None:
    path = tmp_path / "teacher.jsonl"
    line = {
        "label": "any",
        "request": {"turns": [["user", "q1 é"]], "sampling": {"temperature": 1}, "draw": 0},
        "reply": {"text": "a1", "finish": "length", "tokens_in": 5, "tokens_out": 6},
    }
    path.write_text(json.dumps(line) + "\n\n")
    model = RecordedModel(path)
    assert model.name == "teacher"
    assert asyncio.run(model.reply(request(1, temperature=1.0))) == ChatReply("a1", "length", 5, 6)
    assert len(model) == 1


@pytest.mark.parametrize(
    "text", ["{}", "[]", "nonsense", '{"label": "x", "request": {"turns": []}, "reply": {}}']
)
def test_a_recording_that_cannot_be_read_names_its_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "teacher.jsonl"
    path.write_text(text)
    with pytest.raises(UserError, match="line 1 is not a recorded call"):
        RecordedModel(path)
    with pytest.raises(UserError, match="no such recording"):
        RecordedModel(tmp_path / "none.jsonl")


def test_two_recordings_never_share_a_journals_rows(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(
            json.dumps(
                {"request": {"turns": [["user", "q1 é"]]}, "reply": {"text": name}},
            )
        )
    a, b = (RecordedModel(tmp_path / f"{name}.jsonl") for name in "ab")
    assert a.endpoint != b.endpoint


def test_a_model_is_named_by_a_spec() -> None:
    model = open_model("openai:org/name:tag@http://localhost:8000/v1/")
    assert isinstance(model, OpenAIModel)
    assert model.name == "org/name:tag"
    assert model.endpoint == "http://localhost:8000/v1/chat/completions"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("opnai:x@http://h/v1", "Did you mean 'openai'"),
        ("gpt-4", "'gpt-4' names no model, and there is no models.toml"),
        ("openai:", "names no model"),
        ("anthropic:x@localhost:8000", "Did you mean 'anthropic:x@http://localhost:8000'"),
        ("openai:x@localhost:8000/v1", "Did you mean 'openai:x@http://localhost:8000/v1'"),
        ("recorded:nowhere.jsonl", "no such recording: nowhere.jsonl"),
    ],
)
def test_a_spec_that_means_nothing_is_explained(
    spec: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MEADOWLARK_MODELS", raising=False)
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        open_model(spec)


def test_a_recording_is_an_input_of_a_run_and_known_by_its_content() -> None:
    assert identify("recorded:a/b.jsonl") == ("recorded", {"recording": Path("a/b.jsonl")})
    assert identify("openai:m@http://h/v1") == ("openai:m@http://h/v1", {})
