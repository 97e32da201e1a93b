"""What a model's data was made from: the runs behind a training run, found by their manifests.

In comes a manifest; out come the runs whose folders are still where they were and still hold what
was used, nearest first, and the names of inputs that are not. Only names leave here, no paths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from meadowlark.dataset import MANIFEST, Manifest, fingerprint, read_batches, read_manifest
from meadowlark.errors import UserError
from meadowlark.records import Record

BATCH = 65_536


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One run that something was made from. ``name`` is its folder's."""

    name: str
    manifest: Manifest
    sha256: str


@dataclass(frozen=True, slots=True)
class Ancestry:
    """The runs that were found, and inputs of theirs as (name, SHA-256) that no run made or that
    are not there any more."""

    runs: tuple[Ancestor, ...]
    outside: tuple[tuple[str, str], ...]

    def licences(self) -> dict[str, int]:
        """Rows by licence of every training among the runs."""
        total: Counter[str] = Counter()
        for run in self.runs:
            if run.manifest.stage == "train":
                total.update(run.manifest.licences)
        return dict(total)


def ancestry(manifest: Manifest) -> Ancestry:
    """Follow a manifest's inputs, theirs, and so on; each run is told once."""
    runs: dict[str, Ancestor] = {}
    outside: dict[str, str] = {}
    waiting = list(manifest.inputs.values())
    while waiting:
        given = waiting.pop(0)
        path, sha256 = Path(str(given.get("path", ""))), str(given.get("sha256", ""))
        folder = made_by(path, sha256)
        if folder is None:
            outside.setdefault(sha256, path.name or str(path))
        elif (key := str(folder.resolve())) not in runs:
            found = read_manifest(folder)
            runs[key] = Ancestor(folder.resolve().name, found, fingerprint(folder))
            waiting += found.inputs.values()
    return Ancestry(tuple(runs.values()), tuple((name, sha) for sha, name in outside.items()))


def made_by(path: Path, sha256: str) -> Path | None:
    """The finished folder that is, or directly holds, an input, if it is still the same one."""
    folder = path if path.is_dir() else path.parent
    if not path.exists() or not (folder / MANIFEST).exists():
        return None
    try:
        return folder if fingerprint(path) == sha256 else None
    except UserError:  # changed by hand
        return None


EVALUATIONS = ("exam", "bench", "answer", "judge", "annotate", "score")


def is_about(manifest: Manifest, sha256: str) -> bool:
    """Whether an evaluation's subject is the checkpoint with this fingerprint, or a package of it.

    Through scores to the answers they are of; never through a training, whose base is another
    model.
    """
    subject = manifest.inputs.get("adapter") or manifest.inputs.get("model")
    if subject is not None:
        return sha256 in (subject.get("sha256"), _packaged(subject))
    found = (
        made_by(Path(str(i.get("path", ""))), str(i["sha256"])) for i in manifest.inputs.values()
    )
    behind = (read_manifest(folder) for folder in found if folder is not None)
    return any(is_about(run, sha256) for run in behind if run.stage in EVALUATIONS)


def _packaged(given: Mapping[str, Any]) -> str:
    """The fingerprint of the checkpoint that an input is a package of; empty where it is none."""
    folder = made_by(Path(str(given.get("path", ""))), str(given.get("sha256", "")))
    manifest = read_manifest(folder) if folder is not None else None
    if manifest is None or manifest.stage != "package":
        return ""
    return str(manifest.inputs["checkpoint"]["sha256"])


def made_of(manifest: Manifest) -> dict[tuple[str, str], int]:
    """Rows of a training's data by (source, licence), most first; empty where it is not there."""
    given = manifest.inputs.get("data", {})
    path, sha256 = Path(str(given.get("path", ""))), str(given.get("sha256", ""))
    counts: Counter[tuple[str, str]] = Counter()
    try:
        if not path.exists() or fingerprint(path) != sha256:
            return {}
        for table, _ in read_batches(path, Record, BATCH):
            of = table.group_by(["source", "licence"]).aggregate([([], "count_all")]).to_pylist()
            for row in of:
                counts[row["source"] or "", row["licence"] or ""] += row["count_all"]
    except UserError:  # changed by hand
        return {}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
