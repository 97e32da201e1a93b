"""Which run made what another run read: the graph from seed files to scores, and its order.

An input belongs to the run whose output has the same SHA-256; where several have it, the path
decides. An input that lies in a run's folder but has another hash was made by an earlier state of
that folder, and is marked so. What no run made is a file from outside.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meadowlark.dataset import fingerprint
from meadowlark.errors import UserError
from meadowlark.report.read import RunFolder, combined

STAGES = [
    *("generate", "filter", "respond", "rephrase", "convert", "clean", "mix", "stats", "export"),
    *("train", "package", "exam", "bench", "answer", "judge", "annotate", "score"),
]
"""The order in which runs are told that do not depend on each other."""

INITIAL = "initial"
"""The folder of a training run that holds the model before its first step."""


@dataclass(frozen=True)
class Source:
    """A file or folder from outside, read by some run."""

    path: str
    sha256: str

    @property
    def label(self) -> str:
        return Path(self.path).name or self.path


@dataclass(frozen=True)
class Link:
    """One input of a run: its name there, where it came from, and whether that still holds it."""

    run: RunFolder
    name: str
    path: str
    sha256: str
    origin: RunFolder | Source
    changed: bool = False


@dataclass(frozen=True)
class Lineage:
    """Runs in the order in which they can be made again, files from outside, and the links."""

    runs: Sequence[RunFolder]
    sources: Sequence[Source]
    links: Sequence[Link]
    parents: dict[str, list[str]] = field(default_factory=dict)

    def inputs_of(self, run: RunFolder) -> list[Link]:
        """The links into a run, in the order of its manifest."""
        return [link for link in self.links if link.run.folder == run.folder]

    def ancestors(self, run: RunFolder) -> set[str]:
        """The labels of every run that a run was made from."""
        found: set[str] = set()
        todo = list(self.parents.get(run.label, ()))
        while todo:
            label = todo.pop()
            if label not in found:
                found.add(label)
                todo += self.parents.get(label, ())
        return found


def trace(runs: Sequence[RunFolder]) -> Lineage:
    """Match every input to the run that made it and put the runs in order of making."""
    links: list[Link] = []
    sources: dict[str, Source] = {}
    for run in runs:
        for name, given in run.manifest.inputs.items():
            link = _link(run, name, given, runs)
            links.append(link)
            if isinstance(link.origin, Source):
                sources.setdefault(link.origin.sha256 or link.origin.path, link.origin)
    links = [_merged(link, sources) for link in links]
    parents: dict[str, list[str]] = {run.label: [] for run in runs}
    for link in links:
        if isinstance(link.origin, RunFolder) and link.origin.label not in parents[link.run.label]:
            parents[link.run.label].append(link.origin.label)
    ordered = _in_order(runs, parents)
    place = {run.label: index for index, run in enumerate(ordered)}
    links.sort(key=lambda link: place[link.run.label])
    used: dict[str, Source] = {}
    for link in links:
        if isinstance(link.origin, Source):
            used.setdefault(link.origin.sha256 or link.origin.path, link.origin)
    return Lineage(ordered, list(used.values()), links, parents)


def _merged(link: Link, sources: dict[str, Source]) -> Link:
    """The same file read by two runs is one source."""
    if isinstance(link.origin, RunFolder):
        return link
    one = sources[link.origin.sha256 or link.origin.path]
    return Link(link.run, link.name, link.path, link.sha256, one, link.changed)


def _link(run: RunFolder, name: str, given: dict[str, Any], runs: Sequence[RunFolder]) -> Link:
    path, sha256 = str(given.get("path", "")), str(given.get("sha256", ""))
    others = [other for other in runs if other.folder != run.folder]
    holders = [other for other in others if sha256 and sha256 in _hashes(other, path)]
    inside = [other for other in others if _is_below(path, other)]
    inside.sort(key=lambda other: -len(other.folder.parts))
    both = [other for other in inside if other in holders]
    if both or holders:
        return Link(run, name, path, sha256, (both or holders)[0])
    if inside:
        return Link(run, name, path, sha256, inside[0], changed=_now(path) != sha256)
    return Link(run, name, path, sha256, Source(path, sha256))


def _hashes(run: RunFolder, path: str) -> set[str]:
    """What an input made by the run may hash to: the folder, a file of it, a folder below it."""
    outputs = run.manifest.outputs
    found = {run.sha256, *outputs.values()}
    tail = Path(path).name
    below = {n[len(tail) + 1 :]: h for n, h in outputs.items() if n.startswith(f"{tail}/")}
    if below:
        found.add(combined(below))
    return found


def _is_below(path: str, run: RunFolder) -> bool:
    return bool(path) and Path(path).resolve().is_relative_to(run.folder)


def _now(path: str) -> str:
    try:
        return fingerprint(Path(path))
    except (UserError, OSError):
        return ""


def _in_order(runs: Sequence[RunFolder], parents: dict[str, list[str]]) -> list[RunFolder]:
    """Parents first; among those that are free, by stage, then as in :func:`_rank`."""
    waiting = {run.label: run for run in runs}
    ordered: list[RunFolder] = []
    while waiting:
        done = {run.label for run in ordered}
        free = [r for r in waiting.values() if set(parents[r.label]) <= done]
        # A circle cannot come from our stages, only from edited manifests; it is listed as it is.
        chosen = min(free or waiting.values(), key=_rank)
        ordered.append(waiting.pop(chosen.label))
    return ordered


def _rank(run: RunFolder) -> tuple[int, str, bool, str, str]:
    """A stage's place, the untrained model before the trained, then by start."""
    place = STAGES.index(run.stage) if run.stage in STAGES else len(STAGES)
    read = [Path(str(given.get("path", ""))).name for given in run.manifest.inputs.values()]
    return place, run.stage, INITIAL not in read, run.manifest.started, run.label
