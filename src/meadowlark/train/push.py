"""A packaged folder onto the Hugging Face hub: private unless told otherwise.

The key comes from the environment (HF_TOKEN) or the hub's own login, is found by huggingface_hub
itself, and stands in no message. An existing repository keeps its visibility, so one that is public
is refused where private was meant.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from meadowlark.dataset import LOCK, STARTED, fingerprint, read_manifest
from meadowlark.errors import UserError

KEPT_HERE = [LOCK, STARTED, "*.gguf", "*.tmp"]
"""What is not uploaded: traces of a run at work, and conversions made here by other tools."""
REPLACED = ["*.safetensors", "*.safetensors.index.json", "adapter_config.json", "Modelfile"]
"""What an earlier upload may have left that would be loaded in place of, or beside, this one."""
CARD = "README.md"


def check_repository(repo_id: str) -> None:
    """UserError unless ``repo_id`` is NAME or OWNER/NAME as the hub has it, and a key is there."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise UserError(f"--push {repo_id!r} is no repository: {_line(error)}") from None
    if not huggingface_hub.get_token():
        raise UserError(
            "no key for the hub: set HF_TOKEN, or log in once with `hf auth login`; nothing was "
            "uploaded"
        )


def push(folder: Path, repo_id: str, *, public: bool = False) -> str:
    """Upload a finished package as one commit; returns its address. The card may have been edited.

    UserError, in one line, for whatever the hub refuses.
    """
    check_repository(repo_id)
    manifest = read_manifest(folder)
    if manifest.stage != "package":
        raise UserError(f"{folder} was made by {manifest.stage}, not by package")
    changed = [
        name
        for name, sha256 in manifest.outputs.items()
        if name != CARD and (not (folder / name).exists() or fingerprint(folder / name) != sha256)
    ]
    if changed:
        raise UserError(f"{folder} was changed after it was packaged: {', '.join(changed)}")
    api = HfApi()
    try:
        _repository(api, repo_id, public)
        commit = api.upload_folder(
            repo_id=repo_id,
            repo_type="model",
            folder_path=folder,
            commit_message="Packaged by Meadowlark",
            ignore_patterns=KEPT_HERE,
            delete_patterns=REPLACED,
        )
    except OfflineModeIsEnabled:
        raise UserError("the hub is switched off here (HF_HUB_OFFLINE is set)") from None
    except HfHubHTTPError as error:
        raise UserError(_refused(repo_id, error)) from None
    except (OSError, ValueError, RuntimeError) as error:
        kind = type(error).__name__
        raise UserError(f"{repo_id} could not be uploaded ({kind}): {_line(error)}") from None
    return str(getattr(commit, "repo_url", "") or f"https://huggingface.co/{repo_id}")


def _repository(api: Any, repo_id: str, public: bool) -> None:
    """Make the repository, or refuse one that is not as visible as was meant: uploading does not
    change that."""
    try:
        found = api.model_info(repo_id)
    except RepositoryNotFoundError:
        api.create_repo(repo_id, private=not public, repo_type="model")
        return
    if not found.private and not public:
        raise UserError(
            f"{repo_id} is there already and public; give --public if it is to be, or another name"
        )
    if found.private and public:
        raise UserError(
            f"{repo_id} is there already and private; make it public on the hub, leave --public "
            "out, or give another name"
        )


def _refused(repo_id: str, error: HfHubHTTPError) -> str:
    status = getattr(error.response, "status_code", None)
    if status in (401, 403):
        return f"the hub does not let this key write {repo_id} ({status}); it needs write access"
    said = _line(getattr(error, "server_message", None) or error)
    return f"the hub refused {repo_id} ({status}): {said}"


def _line(error: object) -> str:
    """The first line of a message, without the key should it stand there."""
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else type(error).__name__
    token = huggingface_hub.get_token()
    return text.replace(token, "(key)") if token else text
