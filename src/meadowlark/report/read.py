"""Gathers the runs a report is about: finished folders, their manifests, and their files as read.

In come folders in any order (a run's own, or a parent with runs below it); out come
:class:`RunFolder` objects with short unique labels. Only files are read; no stage is called.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from meadowlark.dataset import MANIFEST, STARTED, Manifest, read_manifest
from meadowlark.errors import UserError
from meadowlark.records import Answer, Question, Score, Verdict, from_dict, from_table

REPORT = "report"
Evaluated = Question | Answer | Verdict


@dataclass(frozen=True)
class RunFolder:
    """One finished run: where it is, what made it, and a label that is unique in the report."""

    folder: Path
    manifest: Manifest
    label: str

    @property
    def stage(self) -> str:
        return self.manifest.stage

    @property
    def anchor(self) -> str:
        """The id of the run's place in the page."""
        return "run-" + "".join(c if c.isalnum() else "-" for c in self.label)

    @cached_property
    def sha256(self) -> str:
        """The folder's fingerprint (dataset.fingerprint), from its manifest's hashes."""
        return combined(self.manifest.outputs)

    def has(self, name: str) -> bool:
        return (self.folder / name).exists()

    def table(self, name: str, columns: Sequence[str] | None = None) -> pa.Table | None:
        """A parquet file of the folder (or a folder of parts), or None where there is none."""
        path = self.folder / name
        if not path.exists():
            return None
        try:
            known = pq.ParquetDataset(path).schema.names
            wanted = known if columns is None else [c for c in columns if c in known]
            return pq.read_table(path, columns=wanted)
        except (pa.ArrowInvalid, OSError) as error:
            raise UserError(f"{path} is not a readable parquet file: {error}") from None

    def json(self, name: str) -> Any:
        """A JSON file of the folder, or None where there is none."""
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} cannot be read: {error}") from None

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The objects of a JSONL file of the folder; a line cut short by a kill is left out."""
        path = self.folder / name
        if not path.exists():
            return []
        found = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                value = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(value, dict):
                found.append(value)
        return found

    @cached_property
    def scores(self) -> list[Score]:
        """The run's ``scores.json``; extra keys are ignored."""
        names = {f.name for f in dataclasses.fields(Score)}
        rows = self.json("scores.json") or []
        try:
            return [from_dict({k: v for k, v in r.items() if k in names}, Score) for r in rows]
        except (TypeError, AttributeError, KeyError) as error:
            raise UserError(
                f"{self.folder / 'scores.json'} is no list of scores: {error}"
            ) from None

    @cached_property
    def questions(self) -> list[Question]:
        table = self.table("questions.parquet")
        return [] if table is None else from_table(table, Question)

    @cached_property
    def answers(self) -> list[Answer]:
        table = self.table("answers.parquet")
        return [] if table is None else from_table(table, Answer)

    @cached_property
    def verdicts(self) -> list[Verdict]:
        table = self.table("verdicts.parquet")
        return [] if table is None else from_table(table, Verdict)


def combined(hashes: dict[str, str]) -> str:
    """The fingerprint of a folder whose files have these hashes, as dataset.fingerprint has it."""
    return hashlib.sha256(json.dumps(hashes, sort_keys=True).encode()).hexdigest()


def find_runs(paths: Iterable[Path]) -> tuple[list[RunFolder], list[str]]:
    """Every finished run among ``paths`` and below those that are parents, and what was left out.

    Reports are no runs of a report. A path without any finished run is a user error; an unfinished
    folder below a parent is left out and named.
    """
    folders: dict[Path, Manifest] = {}
    left_out: list[str] = []
    for path in paths:
        if not path.exists():
            raise UserError(f"no such folder: {path}")
        if path.is_file():
            raise UserError(f"{path} is a file; give the run's folder, or a folder of runs")
        found = _below(path, left_out)
        if not found and not (path / MANIFEST).exists():
            read_manifest_or_explain(path)
        folders.update(found)
    if not folders:
        raise UserError("only reports were given; a report needs the runs themselves")
    order = sorted(folders, key=str)
    labels = _labels(order)
    runs = [RunFolder(f, folders[f], label) for f, label in zip(order, labels, strict=True)]
    return runs, sorted(set(left_out))


def read_manifest_or_explain(path: Path) -> None:
    """Raise the error for a path that holds no finished run."""
    if (path / STARTED).exists():
        read_manifest(path)
    raise UserError(
        f"{path} holds no finished run: no {MANIFEST} there or in a folder below it. "
        "Give folders that a verb wrote with --out, or their parent."
    )


def _below(path: Path, left_out: list[str]) -> dict[Path, Manifest]:
    found: dict[Path, Manifest] = {}
    for file in sorted([path / MANIFEST, *path.rglob(f"*/{MANIFEST}")]):
        manifest = _manifest(file)
        if manifest is not None and manifest.stage != REPORT:
            found[file.parent.resolve()] = manifest
    for file in sorted([path / STARTED, *path.rglob(f"*/{STARTED}")]):
        if file.exists() and not (file.parent / MANIFEST).exists() and not _is_report(file):
            left_out.append(file.parent.name)
    return found


def _manifest(file: Path) -> Manifest | None:
    """A manifest of ours, or None for another tool's file of the same name."""
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    if not isinstance(values, dict) or not {"stage", "options", "outputs"} <= values.keys():
        return None
    names = {f.name for f in dataclasses.fields(Manifest)}
    return Manifest(**{k: v for k, v in values.items() if k in names})


def _is_report(started: Path) -> bool:
    try:
        return bool(json.loads(started.read_text(encoding="utf-8")).get("stage") == REPORT)
    except (OSError, json.JSONDecodeError, AttributeError):
        return False


def _labels(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the paths that tell the folders apart."""
    for depth in range(1, max(len(f.parts) for f in folders) + 1):
        labels = ["/".join(f.parts[-depth:]) for f in folders]
        if len(set(labels)) == len(labels):
            return labels
    return [str(f) for f in folders]


def short_models(models: Iterable[str]) -> dict[str, str]:
    """Model names without what they share: ``hf:runs/demo/model`` as ``model``.

    Kept are the last parts of a path that tell the models apart, and the parent's name where that
    is a model itself (``model`` and ``model/initial``). A served model keeps its own name without
    the address, unless two would then be the same.
    """
    known = sorted(set(models))
    parts = {m: _model_parts(m) for m in known}
    below = {m for m, p in parts.items() if p[:-1] in parts.values()}
    for depth in range(1, max((len(p) for p in parts.values()), default=1) + 1):
        names = {m: "/".join(p[-depth - (m in below) :]) for m, p in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return {m: m for m in known}


def _model_parts(model: str) -> list[str]:
    scheme, colon, rest = model.partition(":")
    if colon and scheme in ("openai", "anthropic"):
        return [rest.partition("@")[0]]
    name = rest if colon and scheme in ("hf", "recorded") else model
    return [part for part in name.split("/") if part] or [model]
