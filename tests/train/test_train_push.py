"""Uploads: private unless said otherwise, refusals in one line, and the key in none of them.

``Hub`` stands in for huggingface_hub's HfApi: it records what it is asked, and fails as told.
"""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from meadowlark.dataset import open_run
from meadowlark.errors import UserError
from meadowlark.train import push as upload
from meadowlark.train.push import push

KEY = "hf_secretSECRETsecret"


def answered(status: int, text: str = "", kind: type[HfHubHTTPError] = HfHubHTTPError) -> Any:
    response: Any = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind(f"{status} for {KEY}: {text}", response=response)


class Hub:
    """A hub with at most one repository: ``found`` says whether it is private, None if absent."""

    def __init__(self, found: bool | None = None, fails: Exception | None = None) -> None:
        self.found, self.fails = found, fails
        self.created: list[dict[str, Any]] = []
        self.uploaded: list[dict[str, Any]] = []

    def model_info(self, repo_id: str) -> Any:
        if self.found is None:
            raise answered(404, "", RepositoryNotFoundError)
        return SimpleNamespace(private=self.found)

    def create_repo(self, repo_id: str, **asked: Any) -> None:
        self.created.append({"repo_id": repo_id, **asked})

    def upload_folder(self, **asked: Any) -> Any:
        if self.fails is not None:
            raise self.fails
        self.uploaded.append(asked)
        return SimpleNamespace(repo_url=f"https://huggingface.co/{asked['repo_id']}")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished package of three files, and a key in the environment."""
    monkeypatch.setenv("HF_TOKEN", KEY)
    run = open_run("package", tmp_path / "packaged", options={}, inputs={})
    with run:
        for name in ("README.md", "config.json", "model.safetensors"):
            (run.folder / name).write_text(name)
            run.wrote(name)
        run.finish()
    return run.folder


def use(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> Hub:
    monkeypatch.setattr(upload, "HfApi", lambda *given, **named: hub)
    return hub


def test_a_new_repository_is_private(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = use(monkeypatch, Hub())
    assert push(folder, "org/name") == "https://huggingface.co/org/name"
    (created,) = hub.created
    assert created["private"] is True
    assert created["repo_id"] == "org/name"
    (uploaded,) = hub.uploaded
    assert uploaded["folder_path"] == folder
    assert not [value for value in uploaded.values() if KEY in str(value)]


def test_public_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = use(monkeypatch, Hub())
    push(folder, "org/name", public=True)
    assert hub.created[0]["private"] is False


def test_a_repository_that_is_there_must_be_as_visible_as_was_meant(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hub leaves an existing repository's visibility as it is, whatever is asked."""
    hub = use(monkeypatch, Hub(found=False))
    with pytest.raises(UserError, match="there already and public; give --public"):
        push(folder, "org/name")
    assert not hub.uploaded
    push(folder, "org/name", public=True)
    assert len(hub.uploaded) == 1
    private = use(monkeypatch, Hub(found=True))
    with pytest.raises(UserError, match="there already and private; make it public on the hub"):
        push(folder, "org/name", public=True)
    assert not private.uploaded
    push(folder, "org/name")
    assert not private.created
    assert len(private.uploaded) == 1


def test_weights_of_an_earlier_upload_do_not_stay_beside_these(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = use(monkeypatch, Hub(found=True))
    push(folder, "org/name")
    assert "*.safetensors" in hub.uploaded[0]["delete_patterns"]
    assert {".lock", "started.json"} <= set(hub.uploaded[0]["ignore_patterns"])


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (answered(401, f"bad key {KEY}"), "does not let this key write org/name (401)"),
        (answered(403, "Forbidden"), "does not let this key write org/name (403)"),
        (answered(500, f"oops {KEY}\nsecond line"), "the hub refused org/name (500)"),
        (ConnectionError(f"no route with {KEY}\nmore"), "could not be uploaded (ConnectionError)"),
        (OfflineModeIsEnabled("offline"), "HF_HUB_OFFLINE"),
        (ValueError(f"{KEY} is odd"), "(key) is odd"),
    ],
)
def test_what_the_hub_refuses_is_one_line_without_the_key(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    failure: Exception,
    words: str,
) -> None:
    use(monkeypatch, Hub(found=True, fails=failure))
    with caplog.at_level(logging.DEBUG), pytest.raises(UserError) as caught:
        push(folder, "org/name")
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.__suppress_context__
    assert KEY not in str(caught.value) + caplog.text + "".join(capfd.readouterr())


def test_without_a_key_nothing_is_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = use(monkeypatch, Hub())
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(UserError, match="set HF_TOKEN, or log in once"):
        push(folder, "org/name")
    assert not hub.created


@pytest.mark.parametrize("name", ["a/b/c", "org/na me", "../up", "org/", "-x"])
def test_a_name_that_is_none_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match="is no repository"):
        push(folder, name)


def test_the_card_may_be_edited_and_nothing_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = use(monkeypatch, Hub(found=True))
    (folder / "README.md").write_text("our hospital's own words")
    push(folder, "org/name")
    assert len(hub.uploaded) == 1
    (folder / "config.json").write_text("{}")
    with pytest.raises(UserError, match=r"changed after it was packaged: config\.json"):
        push(folder, "org/name")


def test_a_folder_that_is_no_package_is_not_uploaded(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub = use(monkeypatch, Hub())
    for stage in ("mix", "train"):
        run = open_run(stage, tmp_path / stage, options={}, inputs={})
        with run:
            run.finish()
        with pytest.raises(UserError, match=f"made by {stage}, not by package"):
            push(tmp_path / stage, "org/name")
    assert not hub.created
