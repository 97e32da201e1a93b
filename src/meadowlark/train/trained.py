"""What lies in a folder that is to be packaged: full weights or an adapter, and who made it.

In comes a folder that ``train`` finished, or one in the Hugging Face layout from another tool; out
comes a :class:`Trained`, or the error that says what the folder is instead. Nothing is loaded.
"""

from __future__ import annotations

import fcntl
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadowlark.checkpoints import Checkpoint, known_checkpoint
from meadowlark.dataset import LOCK, MANIFEST, STARTED, Manifest, read_manifest
from meadowlark.errors import UserError
from meadowlark.train.options import flatten

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True, slots=True)
class Trained:
    """A checkpoint to package.

    ``adapter_config`` is an adapter's own configuration, empty for full weights. ``base`` is the
    folder or hub id that it was made from, empty for a model from scratch and where nobody knows.
    ``manifest``, ``config`` (the run's options with dotted keys) and ``environment`` are of the run
    that made it; a folder from elsewhere has none of them. ``known`` is its entry among the
    published checkpoints, if its name is there.
    """

    folder: Path
    adapter_config: dict[str, Any]
    base: str
    manifest: Manifest | None
    config: dict[str, Any]
    environment: dict[str, Any]
    known: Checkpoint | None

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter, which needs the weights of its base."""
        return bool(self.adapter_config)

    @property
    def base_id(self) -> str:
        """The base's hub id, where it has one; a local folder's name is none."""
        local = self.manifest is not None and "base" in self.manifest.inputs
        return hub_id(self.base, local=local)

    @property
    def quantised(self) -> str:
        """How the base was held while the adapter was trained: ``int8``, ``nf4``, or empty."""
        return str(self.config.get("model.quantise") or "")

    def files(self) -> list[str]:
        """The names of its weight files; UserError where one is missing or a pickle."""
        return weight_files(self.folder, ADAPTER_WEIGHTS if self.is_adapter else WEIGHTS)


def read_trained(folder: Path) -> Trained:
    """What ``folder`` holds; UserError for anything but a finished checkpoint."""
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder}; give the folder that train wrote")
    manifest = _manifest(folder)
    has_adapter = (folder / ADAPTER_CONFIG).exists()
    if not has_adapter and not (folder / "config.json").exists():
        raise UserError(
            f"{folder} is no checkpoint: it holds neither config.json nor {ADAPTER_CONFIG}"
            f"{_part_of_a_run(folder)}"
        )
    config: dict[str, Any] = {}
    if manifest is not None and (folder / "config.toml").exists():
        config = flatten(tomllib.loads((folder / "config.toml").read_text(encoding="utf-8")))
    adapter_config = read_json(folder / ADAPTER_CONFIG) if has_adapter else {}
    base = str(adapter_config.get("base_model_name_or_path") or config.get("model.base") or "")
    environment: dict[str, Any] = {}
    if manifest is not None and (folder / "environment.json").exists():
        environment = read_json(folder / "environment.json")
    known = known_checkpoint([folder.resolve().name]) if manifest is None else None
    found = Trained(folder, adapter_config, base, manifest, config, environment, known)
    found.files()
    return found


def _manifest(folder: Path) -> Manifest | None:
    """The manifest of a finished training run; None where no stage of ours made the folder."""
    if not (folder / MANIFEST).exists():
        if not (folder / STARTED).exists():
            return None
        if _is_locked(folder):
            raise UserError(f"{folder} is being trained right now; package it when train has ended")
        raise UserError(
            f"{folder} is not finished: its training was interrupted. Run the same train command "
            "again, which goes on from its last checkpoint, then package it"
        )
    manifest = read_manifest(folder)
    if manifest.stage == "package":
        raise UserError(f"{folder} is packaged already; give the folder that train wrote")
    if manifest.stage != "train":
        raise UserError(
            f"{folder} was made by {manifest.stage}, not by train; give the folder of a checkpoint"
        )
    return manifest


def _is_locked(folder: Path) -> bool:
    """Whether a process holds the folder's lock (dataset.Run)."""
    if not (folder / LOCK).exists():
        return False
    with (folder / LOCK).open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _part_of_a_run(folder: Path) -> str:
    """A hint where the folder lies inside a training run, as its resumable states do."""
    for parent in folder.resolve().parents:
        if any((parent / name).exists() for name in (MANIFEST, STARTED)):
            return f". It lies inside the run {parent.name}: give that"
    return ""


def weight_files(folder: Path, name: str) -> list[str]:
    """The safetensors files that hold the weights of ``name``: itself, or the shards of its index.

    UserError where there is none, a shard is missing, or only pickled weights are there.
    """
    index = folder / f"{name}.index.json"
    names = [name]
    if index.exists():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
    missing = [n for n in names if not (folder / n).exists()]
    if not names or missing:
        if list(folder.glob("*.bin")):
            raise UserError(
                f"{folder} holds pickled .bin weights; only safetensors are read. Convert them: "
                "load them where that is safe with transformers, and save_pretrained(FOLDER)"
            )
        raise UserError(f"{folder} lacks the weights {', '.join(missing) or name}")
    return names


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; UserError where it is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no JSON object")
    return values


def hub_id(reference: str, *, local: bool = False) -> str:
    """The hub id behind a base: itself, or that of a folder in the hub's cache; else empty.

    ``local`` says that it is known to be a folder, here or where it was used.
    """
    cached = re.search(r"models--([^/]+?)--([^/]+)/snapshots/", Path(reference).as_posix() + "/")
    if cached:
        return f"{cached[1]}/{cached[2]}"
    organisation, slash, name = reference.partition("/")
    is_id = bool(slash and organisation.strip("~. ") and name and "/" not in name)
    return reference if is_id and not local and not Path(organisation).exists() else ""
