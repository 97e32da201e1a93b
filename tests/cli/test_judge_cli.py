"""``judge`` and ``score`` as typed: what they print, and how mistakes end."""

import json
from pathlib import Path

import pytest

from meadowlark.cli import run
from meadowlark.cli.score import _show
from meadowlark.dataset import write_table
from meadowlark.records import Answer, Question, Score, to_table


@pytest.fixture
def folders(tmp_path: Path) -> tuple[str, str]:
    questions = [Question(f"{i}", "t", f"prompt {i}", target="drink water") for i in range(6)]
    names = []
    for name, text in (("tuned", "drink water"), ("[red]untuned", "a pill")):
        folder = tmp_path / name.strip("[red]")
        folder.mkdir()
        answers = [Answer(q.id, name, text=text) for q in questions]
        write_table(folder / "questions.parquet", to_table(questions, Question))
        write_table(folder / "answers.parquet", to_table(answers, Answer))
        names.append(str(folder))
    return names[0], names[1]


def test_judged_then_scored(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "verdicts")
    assert run(["judge", *folders, "--judge", "overlap", "--out", out]) == 0
    assert "not a judgement of quality" in capsys.readouterr().out
    assert run(["score", out, "--out", str(tmp_path / "scores")]) == 0
    first = capsys.readouterr().out
    assert "100.0" in first
    assert "12/0/0" in first
    assert "against [red]untuned" in first
    assert "not a judgement of quality" in first
    assert run(["score", out, "--out", str(tmp_path / "scores")]) == 0
    again = capsys.readouterr().out
    assert "nothing to do" in again
    assert again.splitlines()[:4] == first.splitlines()[:4]
    assert run(["score", out, "--model", "[red]untuned"]) == 0
    assert "0/0/12" in capsys.readouterr().out


def test_without_out_scores_are_shown_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"model_output_id": i, "model_response_first": first, "response": text}
        for i in range(4)
        for first, text in ((True, "[[A]]"), (False, "no verdict"))
    ]
    file = tmp_path / "tuned__test-ref-gpt-4.json"
    file.write_text(json.dumps([*rows, {"response": ""}]))
    assert run(["score", str(file)]) == 0
    text = capsys.readouterr().out
    assert "50.0 to 100.0" in text  # four verdicts of eight were unreadable
    assert "1  not a verdict" in text
    assert [p.name for p in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["judge", "{0}", "{1}", "--judge", "gpt-4", "--out", "{2}"], "names no model"),
        (
            ["judge", "{0}", "nowhere", "--judge", "overlap", "--out", "{2}"],
            "no such file or folder",
        ),
        (["score", "{0}"], "exactly two exam folders"),
        (["score", "{0}", "{1}"], "meadowlark judge"),
        (["score", "nowhere"], "no such file or folder"),
        (["score", "{0}/answers.parquet"], "lacks the column"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(
    arguments: list[str],
    message: str,
    folders: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run([a.format(*folders, out) for a in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not out.exists()


def test_a_judge_model_is_priced_before_and_budgeted_while_it_judges(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from chat_server import ChatServer, answering, completion

    out = str(tmp_path / "verdicts")
    with ChatServer(answering(completion("Output (a)"))) as server:
        spec = f"openai:tiny@{server.url}"
        command = ["judge", *folders, "--judge", spec, "--price", "1,10", "--out", out]
        assert run([*command, "--dry-run", "--budget", "1usd"]) == 0
        text = capsys.readouterr().out
        assert "dry run: 12 requests to tiny" in text
        assert "budget: 1.00 USD is enough" in text
        assert not server.asked
        assert run(command) == 0
        assert len(server.asked) == 12
        assert all("tuned" not in str(body) for _, body in server.asked)
        assert run(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert run(["score", out]) == 0
    text = capsys.readouterr().out
    assert "6/0/6" in text  # a judge that only looks at the order


def test_a_dry_run_says_what_so_many_prompts_can_show(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    judged = ["--judge", "openai:tiny@http://localhost:1/v1", "--out", str(tmp_path / "out")]
    command = ["judge", *folders, *judged, "--dry-run"]
    assert run(command) == 0
    said = capsys.readouterr().out
    # Connor's formula by hand: (1.95996·0.5 + 0.84162·√(1/4 - δ²))² = 6 δ² at δ = 0.464
    assert "6 prompts show a win rate of 96.4 % or more (or of 3.6 % or less)" in said
    assert "5 points from 50 % need 783 prompts" in said
    assert run([*command, "--difference", "10"]) == 0
    assert "10 points from 50 % need 194 prompts" in capsys.readouterr().out
    assert run([*command, "--limit", "3"]) == 0
    assert "3 prompts: too few to show any difference" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()


MODEL = ["--judge", "openai:tiny@http://localhost:1/v1"]
WORDS = ["--judge", "overlap"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([*MODEL, "--difference", "3"], "--difference is for --dry-run"),
        ([*MODEL, "--difference", "0", "--dry-run"], "--difference 0: expected percentage points"),
        ([*MODEL, "--difference", "60", "--dry-run"], "at most 50"),
        ([*MODEL, "--tie-within", "0.1"], "--tie-within is for --judge overlap"),
        ([*MODEL, "--schema"], "--schema is for --protocol rubric"),
        ([*MODEL, "--reading", "strickt", "--dry-run"], "strickt"),
        ([*MODEL, "--protocol", "correctness", "--schema"], "so is --schema"),
        (
            [*MODEL, "--protocol", "rubric", "--difference", "3", "--dry-run"],
            "--difference is for protocols that compare pairs",
        ),
        ([*WORDS, "--dry-run"], "--dry-run is for judges that are models"),
        ([*WORDS, "--budget", "1usd"], "--budget is for judges that are models"),
        ([*WORDS, "--reading", "strict"], "--reading is for judges that are models"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    options: list[str],
    message: str,
    folders: tuple[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    assert run(["judge", *folders, *options, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()


def test_a_dry_run_refuses_what_the_run_refuses(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["judge", folders[0], *MODEL, "--dry-run", "--out", str(tmp_path / "out")]) == 2
    assert "at least one folder or file of answers to compare with" in capsys.readouterr().err


def test_a_win_rate_stands_beside_the_difference_that_its_prompts_can_show(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"model_output_id": i, "model_response_first": first, "response": text}
        for i in range(216)
        for first, text in ((True, "[[A]]"), (False, "[[A]]"))
    ]
    file = tmp_path / "tuned__test-ref-gpt-4.json"
    file.write_text(json.dumps(rows))
    assert run(["score", str(file)]) == 0
    _, columns, line, *_ = capsys.readouterr().out.strip().splitlines()
    assert columns.split()[-1] == "detectable"
    assert line.endswith(" 9.5  against gpt-4")


def test_a_single_answer_is_graded_and_scored_as_typed(
    folders: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from chat_server import ChatServer, answering, completion

    with ChatServer(answering(completion('{"criteria_met": true}'))) as server:
        spec = f"openai:tiny@{server.url}"
        out = str(tmp_path / "grades")
        command = ["judge", folders[0], "--protocol", "rubric", "--judge", spec, "--limit", "2"]
        assert run([*command, "--out", out]) == 0
    capsys.readouterr()
    assert run(["score", out]) == 0
    text = capsys.readouterr().out
    assert "Rubric score in per cent: rubric (judge:tiny)" in text
    assert run([*command, "--reading", "strict", "--out", str(tmp_path / "no")]) == 2
    assert "for protocols that compare pairs" in capsys.readouterr().err


def test_groups_of_a_handful_are_counted_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    def scores(label: str, n: int) -> list[Score]:
        return [
            Score(f"help (human:A): against b{label}", "a", metric, 0.5, 0.1, 0.9, n)
            for metric in ("win_rate", "win_rate_unreadable_lost", "win_rate_unreadable_won")
        ]

    topics = [(" · topic heart", 5), (" · topic lung", 4), (" · topic skin", 1)]
    _show([one for label, n in (("", 10), *topics) for one in scores(label, n)])
    said = capsys.readouterr().out
    assert "against b · topic heart" in said
    assert "lung" not in said
    assert "and 2 groups of fewer than 5 items, scored and not shown" in said
