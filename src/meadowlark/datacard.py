"""The card of a data set's folder: README.md as the Hugging Face hub reads it.

In come the folder, its manifest and those of the folders it was made from; out comes text: YAML
that says licence, size and files, then what the rows are, who made them of what, what was left out,
what is known to be wrong with them and what their licences oblige to. Nothing is claimed that no
manifest holds, and no path or address of this machine is named.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.parquet as pq

from meadowlark.licences import combine, hub_licence, is_non_commercial
from meadowlark.records import SCHEMAS, Record

if TYPE_CHECKING:
    from meadowlark.dataset import Manifest

CARD = "README.md"
WARNING = (
    "> **Research use only.** These rows are for research on language models. They were not "
    "reviewed for use in anybody's care, and hold errors, outdated advice and what laypeople "
    "think. A model that learned them must not diagnose, treat, triage, dose or advise a patient."
)
LANGUAGES = {"English": "en", "Spanish": "es", "German": "de", "French": "fr", "Chinese": "zh"}
SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"),
         (10**7, "1M<n<10M"), (10**8, "10M<n<100M"))  # fmt: skip
"""The hub's size categories, each with the number of rows below which it ends."""
TEACHERS = ("generate", "respond", "rephrase")
"""Stages whose rows a model wrote."""
UNREAD_BY_DATASETS = "tags"
"""A column of Arrow's type map, which the package datasets cannot read: configs leave it out."""


@dataclass(frozen=True, slots=True)
class _Made:
    """One run that the rows came through: its manifest as a dictionary, under a folder's name."""

    name: str
    sha256: str
    manifest: Mapping[str, Any]

    @property
    def about(self) -> Mapping[str, Any]:
        """What a converted source says of itself."""
        about: Mapping[str, Any] = self.manifest["results"].get("about", {})
        return about


def data_card(folder: Path, manifest: Manifest) -> str:
    """README.md of a folder that holds rows.parquet, as text."""
    runs = [_Made(folder.name, "", vars(manifest)), *_ancestors(manifest.inputs, set())]
    counts = _sources(folder)
    sections = [
        f"# {folder.name}",
        WARNING,
        _summary(manifest),
        _rows(counts, runs),
        _licences(manifest.licences),
        _left_out(manifest.rows),
        _defects(runs),
        _lineage(manifest, runs),
        _reading(folder),
    ]
    front = "".join(f"{line}\n" for line in _front_matter(folder, manifest, runs))
    return f"---\n{front}---\n" + "\n\n".join(filter(None, sections)) + "\n"


def _ancestors(inputs: Mapping[str, Mapping[str, Any]], seen: set[str]) -> Iterator[_Made]:
    """The runs whose output these inputs are, and theirs, each once; other files are no runs.

    A folder that was made anew since is another data set: its outputs' hash tells.
    """
    for given in inputs.values():
        path, sha256 = Path(given["path"]), given["sha256"]
        try:
            found = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError):
            continue
        outputs = json.dumps(found.get("outputs", {}), sort_keys=True).encode()
        if sha256 in seen or hashlib.sha256(outputs).hexdigest() != sha256:
            continue
        seen.add(sha256)
        yield _Made(path.name, sha256, found)
        yield from _ancestors(found.get("inputs", {}), seen)


def _sources(folder: Path) -> dict[tuple[str, str], int]:
    """Rows by (source, licence)."""
    names = ["source", "licence"]
    table = pq.read_table(folder / "rows.parquet", columns=names)
    counted = table.group_by(names).aggregate([([], "count_all")]).to_pylist()
    return {(row["source"], row["licence"]): row["count_all"] for row in counted}


# --------------------------------------------------------------------------- front matter


def _front_matter(folder: Path, manifest: Manifest, runs: list[_Made]) -> Iterator[str]:
    """Lines of YAML; a JSON string is one of YAML too."""
    licence, licence_name = hub_licence(manifest.licences)
    yield f"license: {json.dumps(licence)}"
    if licence_name:
        yield f"license_name: {json.dumps(licence_name)}"
        yield f"license_link: {CARD}"
    if languages := sorted({code for run in runs if (code := _language(run))}):
        yield f"language: {json.dumps(languages)}"
    yield f"pretty_name: {json.dumps(folder.name)}"
    kept = manifest.rows.get("kept", 0) + manifest.rows.get("validation", 0)
    size = next((name for below, name in SIZES if kept < below), "100M<n<1B")
    yield f"size_categories: [{json.dumps(size)}]"
    yield 'task_categories: ["text-generation"]'
    tags = ["medical", "meadowlark", "instruction-tuning", "research-use-only"]
    if any(run.manifest["stage"] in TEACHERS for run in runs):
        tags.append("synthetic")
    if is_non_commercial(manifest.licences):
        tags.append("non-commercial")
    yield f"tags: {json.dumps(tags)}"
    if splits := _splits(folder, test_only=manifest.results.get("use") == "test"):
        yield from _config(splits)


def _splits(folder: Path, *, test_only: bool) -> dict[str, str]:
    """The hub's name of each file of rows, and its place; datasets reads no file without rows."""
    found = {}
    for split, name in (("test" if test_only else "train", "rows"), ("validation", "validation")):
        file = folder / f"{name}.parquet"
        parts = sorted(file.glob("*.parquet")) if file.is_dir() else [file]
        if file.exists() and any(pq.read_metadata(part).num_rows for part in parts):
            found[split] = f"{file.name}/*.parquet" if file.is_dir() else file.name
    return found


def _config(splits: Mapping[str, str]) -> Iterator[str]:
    """How the package datasets reads the folder: files, columns and their types."""
    columns = [name for name in SCHEMAS[Record].names if name != UNREAD_BY_DATASETS]
    yield from ("dataset_info:", "  features:")
    for name in columns:
        if name == "history":
            yield from (
                "  - name: history",
                "    list:",
                "    - {name: role, dtype: string}",
                "    - {name: content, dtype: string}",
            )
        elif name == "parents":
            yield "  - {name: parents, list: string}"
        else:
            yield f"  - {{name: {name}, dtype: string}}"
    yield from ("configs:", "- config_name: default", "  data_files:")
    for split, place in splits.items():
        yield from (f"  - split: {split}", f"    path: {place}")
    yield f"  columns: [{', '.join(columns)}]"


def _language(run: _Made) -> str:
    """The code of a converted source's language, as it was chosen or as its card says."""
    chosen = str(run.manifest["options"].get("language") or "")
    if chosen == "any":
        return "multilingual"
    return chosen or LANGUAGES.get(run.about.get("language", ""), "")


# --------------------------------------------------------------------------- body


def _summary(manifest: Manifest) -> str:
    rows = manifest.rows
    held_out = f", and {rows['validation']:,} for validation" if "validation" in rows else ""
    text = f"{rows.get('kept', 0):,} rows{held_out}, made by `meadowlark {manifest.stage}` "
    text += f"({manifest.code_version})."
    if manifest.results.get("use") == "test":
        text += (
            " They are for examining models only, never for training: each is tagged `use=test`,"
            " and `mix` and `train` refuse them."
        )
    if manifest.command:
        text += f"\n\n```\n{_without_places(manifest.command)}\n```"
    return text


def _without_places(command: str) -> str:
    """A command line without the folders and addresses of the machine it ran on."""
    command = re.sub(r"@https?://[^\s'\"]+", "@URL", command)
    return re.sub(r"(?<![\w./])~?/(?!/)(?:[^\s'\"=,/]+/)*([^\s'\"=,/]*)", r"\1", command)


def _rows(counts: Mapping[tuple[str, str], int], runs: list[_Made]) -> str:
    lines = ["## Sources", "", "| source | licence | rows |", "|---|---|---:|"]
    for (source, licence), rows in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        lines.append(f"| {source or 'not stated'} | {licence or 'not stated'} | {rows:,} |")
    for run in _converted(runs):
        about, results = run.about, run.manifest["results"]
        lines += [
            "",
            f"**{about['title']}** (`{run.manifest['options']['source']}`), {about['origin']}. "
            f"{about['citation']}. {results['obligations']} "
            f"Conversion verified on: {about['verified']}.",
        ]
    return "\n".join(lines)


def _converted(runs: list[_Made]) -> list[_Made]:
    """The first run of each source that was converted."""
    found = {run.manifest["options"]["source"]: run for run in reversed(runs) if run.about}
    return [found[name] for name in sorted(found)]


def _licences(licences: Mapping[str, int]) -> str:
    obligations, warnings = combine(licences)
    lines = ["## Licences", "", f"Together they oblige to: {obligations}. No legal advice."]
    return "\n".join([*lines, *(f"- {warning}." for warning in warnings)])


def _left_out(rows: Mapping[str, Any]) -> str:
    rejected: Mapping[str, int] = rows.get("rejected", {})
    if not rejected:
        return ""
    lines = ["## Left out", "", f"`rejected.parquet` holds {sum(rejected.values()):,} rows of "]
    lines[-1] += f"{rows.get('in', 0):,} that were read:"
    lines += ["", "| reason | rows |", "|---|---:|"]
    return "\n".join([*lines, *(f"| {reason} | {n:,} |" for reason, n in rejected.items())])


def _defects(runs: list[_Made]) -> str:
    lines = [
        f"- `{run.manifest['options']['source']}`: {defect}"
        for run in _converted(runs)
        for defect in run.about["defects"]
    ]
    return "\n".join(["## Known defects of the sources", "", *lines]) if lines else ""


def _lineage(manifest: Manifest, runs: list[_Made]) -> str:
    """Every input with its hash, and every folder behind them."""
    lines = ["## Made from", "", "| what | made by | SHA-256 |", "|---|---|---|"]
    made = {run.sha256: run for run in runs[1:]}
    shown: set[str] = set()
    for inputs in (manifest.inputs, *(run.manifest.get("inputs", {}) for run in runs[1:])):
        for given in inputs.values():
            if given["sha256"] not in shown:
                shown.add(given["sha256"])
                run = made.get(given["sha256"])
                stage = f"`meadowlark {run.manifest['stage']}`" if run else "not known here"
                lines.append(f"| {Path(given['path']).name} | {stage} | `{given['sha256']}` |")
    for run in runs:
        if run.about and run.manifest["options"].get("hub"):
            for name, commit in run.manifest["options"]["hub"].items():
                lines.append(f"| {name} | the hub | commit `{commit}` |")
    if len(lines) == 4:
        return ""
    lines += ["", "The column `parents` holds the ids of the rows that a row was made from."]
    return "\n".join(lines)


def _reading(folder: Path) -> str:
    return (
        "## Reading\n\n"
        "```python\nimport datasets\n\n"
        f'rows = datasets.load_dataset("{folder.name}")  # this folder, or its name on the hub\n```'
        "\n\nThat leaves out the column `tags` (topic, view, type, …), a map, which the package "
        "datasets cannot read: `pyarrow.parquet.read_table` does, and `meadowlark export` writes "
        "all rows in the Alpaca, ShareGPT or messages layout."
    )
