"""``serve`` as typed wrongly: one message, exit code 2, and never a key in it."""

from pathlib import Path

import pytest

from meadowlark.cli import run
from tiny_model import make_tiny_model

SHORT = "short-key"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--host", "0.0.0.0"], "a key is needed: --api-key-env NAME"),
        (["--host", "::"], "a key is needed"),
        (["--host", "0.0.0.0", "--api-key-env", "NOT_SET"], "NOT_SET: that variable is not set"),
        (["--api-key-env", "SHORT_KEY"], "fewer than 16 characters"),
        (["--quantise", "int4"], "expected int8 or nf4"),
        (["--vllm", "/no/such/python"], "cannot be started"),
        (["--vllm", "http://127.0.0.1:9"], "no server tells its models there"),
        (["--template", "alpacca"], "Did you mean 'alpaca'"),
        (["--vllm", "http://u", "--quantise", "nf4"], "--quantise is for a model that is loaded"),
        (["--vllm", "http://u", "--context", "99"], "--context is for a model that is loaded"),
        (["--vllm", "http://u", "--vllm-options", "--x"], "a vLLM that is started here"),
        (["--vllm", "no", "--vllm-options", "--x"], "--vllm-options is for a vLLM that is started"),
        (["--vllm", "python3", "--vllm-key-env", "K"], "--vllm-key-env is for a vLLM that runs"),
    ],
)
def test_a_mistake_is_one_message_and_exit_2(
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SHORT_KEY", SHORT)
    monkeypatch.delenv("NOT_SET", raising=False)
    folder = make_tiny_model(tmp_path / "model")
    assert run(["serve", f"hf:{folder}", "--port", "0", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert SHORT not in error


def test_a_template_that_is_not_trainings_ends_with_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_tiny_model(tmp_path / "model", template="medalpaca")
    (folder / "config.toml").write_text('[data]\ntemplate = "alpaca"\n')
    assert run(["serve", f"hf:{folder}", "--port", "0"]) == 1
    assert "was trained with the template alpaca" in capsys.readouterr().err
