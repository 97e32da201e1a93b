"""The command line as a whole: help one can learn from, and how mistakes end."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from meadowlark.cli import VERBS, app, run
from meadowlark.evaluate.answers import AnswerOptions
from meadowlark.evaluate.exam import ExamOptions
from meadowlark.llm import Policy
from meadowlark.tasks import TASKS

EXISTING = [verb for verbs in VERBS.values() for verb in verbs]


def test_help_names_every_verb_under_its_panel(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for panel, verbs in VERBS.items():
        assert panel in text
        for verb in verbs:
            assert f" {verb} " in text
    assert "Research use" in text


@pytest.mark.parametrize("verb", EXISTING)
def test_every_verb_explains_itself_with_an_example(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb, "--help"]) == 0
    said, _, examples = capsys.readouterr().out.partition("Examples:")
    assert f"meadowlark {verb}" in said  # the line of usage
    assert f"meadowlark {verb}" in examples


@pytest.mark.parametrize(("verb", "kind"), [("exam", "multiple_choice"), ("answer", "prompts")])
def test_the_help_of_a_verb_names_every_task_that_it_takes(
    verb: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([verb, "--help"]) == 0
    named = set(re.findall(r"\w+", capsys.readouterr().out.partition("Examples:")[2]))
    assert {task.name for task in TASKS.values() if task.kind == kind} <= named


def test_no_verb_exists_that_is_not_built() -> None:
    built = {command.name for command in app.registered_commands}
    assert built == set(EXISTING)


def test_every_verb_that_asks_models_begins_with_as_many_requests() -> None:
    """The default of ``Policy``, from which the dispatcher grows as far as the server allows."""
    commands = {
        c.name: inspect.signature(c.callback) for c in app.registered_commands if c.callback
    }
    asking = {
        name: signature.parameters["concurrency"].default
        for name, signature in commands.items()
        if "concurrency" in signature.parameters
    }
    assert {"answer", "exam", "judge", "generate", "respond", "rephrase"} <= asking.keys()
    assert set(asking.values()) == {Policy().concurrency}
    assert AnswerOptions().concurrency == ExamOptions().concurrency == Policy().concurrency


def test_a_mistyped_verb_or_option_is_exit_2_with_a_suggestion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["fliter", "x"]) == 2
    assert "filter" in capsys.readouterr().err
    assert run(["filter", "x", "--out", "y", "--treshold", "0.5"]) == 2
    assert "--threshold" in capsys.readouterr().err


def test_a_users_mistake_is_one_message_without_a_traceback(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["filter", "/nowhere/at/all", "--out", "/tmp/never"]) == 2
    error = capsys.readouterr().err
    assert "no such file or folder: /nowhere/at/all" in error
    assert "Traceback" not in error


def test_a_missing_optional_package_is_named_with_its_command(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text('[model]\nbase = "x"\n[data]\npath = "y"\n[optimiser]\nlearning_rate = 1\n')
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from meadowlark.cli import run\n"
        f"sys.exit(run(['train', {str(config)!r}, '--out', {str(tmp_path / 'out')!r}]))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert "this needs torch; to install: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_disk_that_cannot_be_written_is_one_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"instruction": "Explain the heart"}\n')
    for out in ("/proc/nowhere/out", data / "below", tmp_path / ("x" * 300)):
        assert run(["mix", str(data), "--out", str(out)]) == 2
        said = capsys.readouterr().err.strip()
        assert said.startswith("meadowlark: ")
        assert str(out)[:20] in said
        assert "\n" not in said


@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.parametrize(
    "option",
    ["--temperature", "--presence-penalty", "--requests-per-minute", "--tokens-per-minute"],
)
def test_a_number_that_is_none_is_refused_before_anything_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, number: str
) -> None:
    data = tmp_path / "d.jsonl"
    data.write_text('{"instruction": "Explain the heart"}\n')
    teacher = "openai:m@http://127.0.0.1:9/v1"
    words = ["respond", str(data), "--teacher", teacher, "--out", str(tmp_path / "out")]
    assert run([*words, option, number]) == 2
    assert option.strip("-") in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
