"""The verb ``package``: what it prints, and how mistakes end."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from meadowlark.cli import run
from tiny_model import make_tiny_model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("cli") / "mine", template=None)


def test_a_package_says_what_it_proved_and_where_it_is(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["package", str(checkpoint), "--template", "alpaca", "--out", str(tmp_path / "out")]
    assert run(words) == 0
    shown = capsys.readouterr().out
    assert "proved conversations: 5" in shown
    assert "dtype: float32" in shown
    assert f"results in {tmp_path / 'out'}" in shown
    assert run(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert '"command": "meadowlark package mine --template alpaca --out out"' in manifest
    assert str(tmp_path) not in manifest


def test_mistakes_end_with_one_message_and_exit_2(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    out = ["--out", str(tmp_path / "out")]
    for words, message in (
        (["--public"], "--public says how to --push"),
        (["--push", "org/name"], "no key for the hub"),
        (["--merge"], "--merge is for adapters"),
        (["--template", "alpacca"], "Did you mean 'alpaca'?"),
        ([], "nothing is guessed"),
    ):
        assert run(["package", str(checkpoint), *out, *words]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.startswith("meadowlark: ")
        assert error.count("\n") == 1
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_push_uploads_what_was_packaged_privately_unless_public_is_said(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[dict[str, object]] = []
    is_private = True

    class Hub:
        def model_info(self, repo_id: str) -> SimpleNamespace:
            return SimpleNamespace(private=is_private)

        def upload_folder(self, **given: object) -> SimpleNamespace:
            asked.append(given)
            return SimpleNamespace(repo_url="https://huggingface.co/org/name")

    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setattr("meadowlark.train.push.HfApi", Hub)
    words = ["package", str(checkpoint), "--template", "alpaca", "--out", str(tmp_path / "out")]
    for _ in range(2):  # the second time there is nothing to do but to upload
        assert run([*words, "--push", "org/name"]) == 0
        shown = capsys.readouterr()
        assert "private at https://huggingface.co/org/name" in shown.out
        assert "hf_secret" not in shown.out + shown.err
    is_private = False
    assert run([*words, "--push", "org/name", "--public"]) == 0
    assert "public at https://huggingface.co/org/name" in capsys.readouterr().out
    assert [given["folder_path"] for given in asked] == [tmp_path / "out"] * 3
