"""What people judged, as verdicts that ``score`` reads and as a data set with lineage."""

import json
import socket
from pathlib import Path

import pytest
from studies import MODELS, answers, comparison, people_file, review

from meadowlark.annotate.export import IN_DISPUTE, NOT_REVIEWED, export, resolve
from meadowlark.annotate.setting_up import read_people, set_up_comparison, set_up_review
from meadowlark.annotate.store import Judged, Store
from meadowlark.cli import run
from meadowlark.dataset import read, read_manifest, read_table
from meadowlark.errors import UserError
from meadowlark.records import Answer, Question, Record, Rejected, Verdict


def prefer(store: Store, side: str) -> None:
    """Everybody prefers one side's answers for correctness, and finds all equally helpful."""
    for person in store.study.people:
        for item, a_first in store.assigned(person):
            choice = "first" if (side == "a") == a_first else "second"
            said = {"correctness": choice, "helpfulness": "both_bad", "note": ""}
            store.record(person, item, f"form {item}", said)


def test_verdicts_name_the_side_that_was_chosen_whichever_stood_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = comparison(tmp_path, count=8, people="3", overlap=0.5)
    with Store(study, write=True) as store:
        prefer(store, "a")
    out = tmp_path / "verdicts"
    assert run(["annotate", "--export", str(study), "--out", str(out)]) == 0
    verdicts, _ = read(out, Verdict)
    assert len(verdicts) == 2 * (4 * 3 + 4)
    assert {(v.a, v.b) for v in verdicts} == {MODELS}
    assert {v.by for v in verdicts} == {f"human:annotator-{n}" for n in (1, 2, 3)}
    assert {v.winner for v in verdicts if v.criterion == "correctness"} == {"a"}
    assert {v.winner for v in verdicts if v.criterion == "helpfulness"} == {"both_bad"}
    assert {v.shown_first for v in verdicts} == {"a", "b"}
    assert {q.id for q in read(out, Question)[0]} == {f"q{i}" for i in range(8)}
    assert {a.model for a in read(out, Answer)[0]} == {*MODELS}
    manifest = read_manifest(out)
    assert set(manifest.inputs) == {"answers", "reference"}
    assert manifest.warnings == []
    capsys.readouterr()
    assert run(["score", str(out), "--out", str(tmp_path / "scores")]) == 0
    scores = json.loads((tmp_path / "scores" / "scores.json").read_text())
    rates = {s["task"]: s["value"] for s in scores if s["metric"] == "win_rate"}
    assert rates["correctness (human:annotator-1): against quince-base"] == 1.0
    assert rates["helpfulness (human:majority): against quince-base"] == 0.5
    assert any(s["metric"] == "agreement_raw" and s["value"] == 1.0 for s in scores)
    assert run(["annotate", "--export", str(study), "--out", str(out)]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_an_export_says_what_changed_since_and_what_was_not_shown(tmp_path: Path) -> None:
    one, two = answers(tmp_path / "a", "x", 5), answers(tmp_path / "b", "x", 4)
    same = set_up_comparison(one, two, tmp_path / "same", people="1")
    assert same.models == ("x (a)", "x (b)")  # one model's name, told apart by the folders'
    set_up_comparison(f"new={one}", f"old={two}", tmp_path / "study", people="1")
    (tmp_path / "b" / "answers.parquet").unlink()
    with Store(tmp_path / "study", write=True) as store:
        prefer(store, "b")
        manifest = export(store, tmp_path / "out").manifest
    assert any("no longer what the study was made from" in line for line in manifest.warnings)
    assert "1 item was not shown: only new answered it" in manifest.warnings
    verdicts, _ = read(tmp_path / "out", Verdict)
    assert {(v.a, v.b) for v in verdicts} == {("new", "old")}


def test_nothing_judged_is_nothing_to_export(tmp_path: Path) -> None:
    study = comparison(tmp_path)
    assert run(["annotate", "--export", str(study), "--out", str(tmp_path / "out")]) == 2
    assert not (tmp_path / "out").exists()


def test_a_reviewed_data_set_keeps_lineage_and_every_row(tmp_path: Path) -> None:
    study = review(tmp_path, count=5, people=people_file(tmp_path, "Ada"))
    with Store(study, write=True) as store:
        before = [Record(**{**r, "tags": r["tags"]}) for r in store.items()]
        store.record("Ada", 0, "f0", {"decision": "accept", "note": ""})
        edited = {"instruction": "Instruction 1", "input": "", "output": "Mended"}
        store.record("Ada", 1, "f1", {"decision": "edit", "note": "typo", **edited})
        store.record("Ada", 2, "f2", {"decision": "reject", "reason": "unsafe advice", "note": "!"})
        out = export(store, tmp_path / "out").folder
    kept, _ = read(out, Record)
    assert [r.output for r in kept] == ["Output 0", "Mended"]
    assert kept[0].id == before[0].id
    assert kept[0].parents == ("seed0",)
    assert kept[1].parents == (before[1].id,)
    assert kept[1].id != before[1].id
    assert dict(kept[0].tags) == {"topic": "heart", "review": "accepted", "reviewed_by": "Ada"}
    assert kept[1].tags["review_note"] == "typo"
    assert {r.licence for r in kept} == {"MIT"}
    rejected = read_table(out / "rejected.parquet", Record).to_pylist()
    assert [(r["id"], r["reason"]) for r in rejected] == [
        (before[2].id, "unsafe advice"),
        (before[3].id, NOT_REVIEWED),
        (before[4].id, NOT_REVIEWED),
    ]
    assert json.loads(rejected[0]["detail"])[0]["by"] == "human:Ada"
    manifest = read_manifest(out)
    assert manifest.rows["in"] == manifest.rows["kept"] + sum(manifest.rows["rejected"].values())


def test_rows_that_cannot_be_shown_are_rejected_not_lost(tmp_path: Path) -> None:
    rows = [
        {"instruction": "Good", "output": "o"},
        {"instruction": "half \ud83d", "output": "o"},
        7,
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    set_up_review(tmp_path / "rows.json", tmp_path / "study", people="1")
    with Store(tmp_path / "study", write=True) as store:
        store.record("annotator-1", 0, "f", {"decision": "accept", "note": ""})
        out = export(store, tmp_path / "out").folder
    rejected = read_table(out / "rejected.parquet", Record).to_pylist()
    # Half an emoji is a replacement character, as wherever rows are read: the row can be shown.
    assert {(r["reason"], r["instruction"]) for r in rejected} == {
        (NOT_REVIEWED, "half \ufffd"),
        ("not a JSON object", ""),
    }
    assert read_manifest(out).rows["in"] == 3


def said(person: str, **judgement: str) -> Judged:
    return Judged(person, 0, True, {"note": "", **judgement}, "")


def test_what_several_reviewers_say_together() -> None:
    record = Record("Do", "", "Out")
    edit = {"decision": "edit", "instruction": "Do", "input": "", "output": "Better"}
    accept, mended = said("A", decision="accept"), said("B", **edit)
    against = said("C", decision="reject", reason="incomplete")
    other = said("D", **{**edit, "output": "Best"})
    kept = resolve(record, [accept, mended, against])
    assert isinstance(kept, Record)
    assert (kept.output, kept.parents) == ("Better", (record.id,))
    half = resolve(record, [accept, against])
    assert isinstance(half, Rejected)
    assert half.reason == "incomplete"
    dispute = resolve(record, [mended, other])
    assert isinstance(dispute, Rejected)
    assert dispute.reason == IN_DISPUTE
    assert "Best" in dispute.detail
    unseen = resolve(record, [])
    assert isinstance(unseen, Rejected)
    assert unseen.reason == NOT_REVIEWED


def test_another_study_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = comparison(tmp_path, people="2", seed=1)
    with Store(study, write=True) as store:
        first = store.study.id
        sides = [str(tmp_path / f"side{n}") for n in (0, 1)]
        command = ["annotate", *sides, "--people", "2", "--out", str(study), "--seed"]
        assert run([*command, "2", "--sheet", "x.xlsx"]) == 2
        assert "seed: 1 there, 2 asked" in capsys.readouterr().err
        assert run([*command, "1"]) == 2  # the same study, which is at work
        assert "another process serves" in capsys.readouterr().err
        assert store.study.id == first


def test_files_of_published_answers_are_compared_as_folders_are(tmp_path: Path) -> None:
    """AlpaCare's JSON lines and AlpacaEval's JSON list, in another order; nothing vanishes."""
    mine, theirs = tmp_path / "mine" / "out.jsonl", tmp_path / "outputs.json"
    mine.parent.mkdir()
    rows = [
        {"instruction": "Explain fever.", "input": "", "output": "Mine on fever."},
        {"instruction": "Explain this.", "input": "Hb 7", "output": "Mine on Hb."},
        {"instruction": "Explain cough.", "input": "", "output": "Mine on \ud800 cough."},
        {"instruction": "Explain gout.", "input": "<noinput>", "output": ""},
        {"instruction": "Only mine?", "input": "", "output": "Yes."},
    ]
    mine.write_text("".join(json.dumps(row) + "\n" for row in rows))
    others = [{**row, "output": "Theirs.", "generator": "gpt-9"} for row in rows[3::-1]]
    theirs.write_text(json.dumps([*others, {**others[0], "instruction": "Only theirs?"}]))
    study = set_up_comparison(str(mine), str(theirs), tmp_path / "study", people="1")
    assert study.models == ("mine/out", "gpt-9")
    assert sorted(why for _, why in study.left_out) == [
        "only gpt-9 answered it",
        "only mine/out answered it",
    ]
    with Store(tmp_path / "study", write=True) as store:
        asked = {item["question"]["prompt"]: (item["a"], item["b"]) for item in store.items()}
        assert list(asked) == [
            "Explain fever.",
            "Explain this.\n\n### Input:\nHb 7",
            "Explain cough.",
            "Explain gout.",
        ]
        assert "Mine on \ufffd cough." in {a["text"] for a, _ in asked.values()}
        assert {(a["item"] == b["item"], b["text"]) for a, b in asked.values()} == {
            (True, "Theirs.")
        }
        for own in store.assigned("annotator-1"):
            first = "first" if own.a_first else "second"
            said = {"correctness": first, "helpfulness": "tie", "note": ""}
            assert store.record("annotator-1", own.item, f"form {own.item}", said)
        export(store, tmp_path / "verdicts")
    verdicts, _ = read(tmp_path / "verdicts", Verdict)
    assert {(v.a, v.b, v.criterion, v.winner) for v in verdicts} == {
        ("mine/out", "gpt-9", "correctness", "a"),
        ("mine/out", "gpt-9", "helpfulness", "tie"),
    }
    manifest = read_manifest(tmp_path / "verdicts")
    assert "1 item was not shown: only gpt-9 answered it" in manifest.warnings
    assert set(manifest.inputs) == {"answers", "reference"}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("Ada\nada\n", "line 2: 'ada' stands there twice"),
        ("Administrator\n", "has a meaning of its own"),
        ("\n\n", "expected 1 to 1,000 names"),
        ("x" * 61, "line 1: a name has at most 60"),
        ("A\x1b[31m\n", "line 1"),
    ],
)
def test_faults_in_a_list_of_people(tmp_path: Path, lines: str, message: str) -> None:
    file = tmp_path / "people.txt"
    file.write_text(lines)
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        read_people(str(file))


def test_an_address_that_leads_nowhere_or_is_taken_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = comparison(tmp_path)
    assert run(["annotate", "--out", str(study), "--host", "0.0.0.0"]) == 2
    assert "give --url too" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run(["annotate", "--out", str(study), "--port", port]) == 2
    assert f"127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err
    assert not (study / "links.txt").exists()


def test_mistakes_on_the_command_line_end_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = [answers(tmp_path / m, m, 2) for m in MODELS]
    out = ["--out", str(tmp_path / "study")]
    for command, message in (
        (sides, "who judges?"),
        ([*sides[:1], "--people", "2"], "expected two folders"),
        ([*sides, "--people", "0"], "expected 1 to 1,000"),
        ([*sides, "--rows", sides[0], "--people", "2"], "not both"),
        ([sides[0], sides[0], "--people", "2"], "tell them apart"),
        ([sides[0], str(tmp_path / "none"), "--people", "2"], "no such folder or file of answers"),
        ([], "holds no study"),
    ):
        assert run(["annotate", *command, *out]) == 2, command
        assert message in capsys.readouterr().err
    assert not (tmp_path / "study").exists()
