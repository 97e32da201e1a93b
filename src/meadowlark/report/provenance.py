"""The sections on provenance: the lineage with every hash, each run's options, the commands.

The commands are put together from the manifests: what a stage read, its options as given to the
stage, and where it wrote. Hashes are shown by their first ten digits; the page's titles and
``report.json`` hold them in full.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import meadowlark
from meadowlark.dataset import fingerprint
from meadowlark.progress import duration
from meadowlark.report.commands import command
from meadowlark.report.content import (
    Anchor,
    Cells,
    Code,
    Column,
    Details,
    Facts,
    Figure,
    Hash,
    Prose,
    Section,
    Table,
    count,
    counted,
    listed,
    number,
    plural,
    short,
    text,
)
from meadowlark.report.graph import DIGITS, MANY, lineage_graph
from meadowlark.report.lineage import Lineage, Link, Source
from meadowlark.report.read import RunFolder

DEMO = Path(meadowlark.__file__).parent / "demo"
DEMO_NAMES = ("demo_exam", "patient_questions")
"""Shipped material that is asked for by name rather than by file: an exam, a source."""


def section(lineage: Lineage) -> Section:
    """Where everything on the page came from."""
    changed = [link for link in lineage.links if link.changed]
    blocks: list[Any] = []
    if lineage.links:
        words = (
            f"From the files given to the scores: {plural(len(lineage.runs), 'run')}, "
            f"{plural(len(lineage.sources), 'file')} from outside (dashed). The digits begin the "
            "SHA-256 of the file or the run’s folder."
        )
        blocks.append(Figure(lineage_graph(lineage), words, wide=True, steps=_steps(lineage)))
    for link in changed:
        words = (
            f"{link.run.label} read an earlier state of {_origin(link)} than the one shown here "
            f"({link.name}): run it again to have one lineage."
        )
        blocks.append(Prose(words, "warning"))
    outputs = _hash_table(lineage)
    words = f"Every file that the runs wrote: {len(outputs.rows):,}"
    blocks += [_runs_table(lineage), *_sources_table(lineage), Details(words, [outputs])]
    for run in lineage.runs:
        blocks.append(Anchor(run.anchor, f"{run.label}/", f"folder written by {run.stage}"))
        blocks.append(Details("Options, inputs, outputs", [_facts(lineage, run)]))
    lead = "What was made from what, by which code, with which options, and what it cost."
    return Section("provenance", "Provenance", lead, blocks)


def reproduce_section(lineage: Lineage) -> Section:
    """The commands that make the same again, in order."""
    versions = sorted({run.manifest.code_version for run in lineage.runs})
    lines = [command(lineage, run) for run in lineage.runs]
    outside = [f"#   {s.path}\n#     sha256 {s.sha256}" for s in lineage.sources if s.sha256]
    head = [f"# meadowlark {listed(versions)}"]
    if outside:
        head += ["# Files from outside, which must be there:", *outside]
    lead = (
        "The same inputs, options and code give the same files: the SHA-256 in each new "
        "manifest.json can be compared with those above."
    )
    stages = {run.stage for run in lineage.runs}
    if "train" in stages:
        lead += " Training repeats exactly on the same kind of machine and library versions."
    if stages & {"generate", "respond", "rephrase"}:
        lead += " A teacher’s replies repeat from its recording or the run’s journal."
    return Section("reproduce", "How to reproduce", lead, [Code("\n".join([*head, "", *lines]))])


def demo_material(lineage: Lineage) -> bool:
    """Whether anything was made from the material that ships with Meadowlark."""
    files = [p for p in sorted(DEMO.rglob("*")) if p.is_file() and p.suffix in (".jsonl", ".json")]
    shipped = {fingerprint(path) for path in files}
    for source in lineage.sources:
        if source.sha256 in shipped or Path(source.path).resolve().is_relative_to(DEMO.resolve()):
            return True
    options = " ".join(json.dumps(run.manifest.options) for run in lineage.runs)
    return any(f'"{name}"' in options for name in DEMO_NAMES)


def totals(lineage: Lineage) -> dict[str, Any]:
    """Time, tokens and cost of all runs together."""
    tokens: Counter[str] = Counter()
    for run in lineage.runs:
        tokens.update({k: v for k, v in run.manifest.tokens.items() if isinstance(v, int)})
    return {
        "seconds": sum(run.manifest.seconds for run in lineage.runs),
        "cost_usd": sum(run.manifest.cost_usd for run in lineage.runs),
        "tokens": dict(tokens),
    }


def graph_json(lineage: Lineage) -> dict[str, Any]:
    """The lineage in full for ``report.json``."""
    return {
        "runs": [
            {
                "label": run.label,
                "folder": str(run.folder),
                "sha256": run.sha256,
                **{k: v for k, v in vars(run.manifest).items() if k != "results"},
                "results": run.manifest.results,
            }
            for run in lineage.runs
        ],
        "outside": [{"path": s.path, "sha256": s.sha256} for s in lineage.sources],
        "links": [
            {
                "run": link.run.label,
                "input": link.name,
                "path": link.path,
                "sha256": link.sha256,
                "from": link.origin.path if isinstance(link.origin, Source) else link.origin.label,
                "changed_since": link.changed,
            }
            for link in lineage.links
        ],
    }


def _steps(lineage: Lineage) -> list[tuple[str, list[str]]]:
    """The runs in the order of making, each with what it was made from."""
    return [
        (
            f"{run.stage}: {run.label}/ ({run.sha256[:DIGITS]})",
            _from([link.origin for link in lineage.inputs_of(run)]),
        )
        for run in lineage.runs
    ]


def _from(origins: list[RunFolder | Source]) -> list[str]:
    """The runs among the origins each, and files from outside by number where they are many."""
    made = [f"from {one.label}/" for one in origins if isinstance(one, RunFolder)]
    files = [one.label for one in origins if isinstance(one, Source)]
    if len(files) >= MANY:
        return [*made, f"from {len(files):,} files from outside: {files[0]} and others"]
    return [*made, *(f"from {name} (from outside)" for name in files)]


def _origin(link: Link) -> str:
    return link.origin.label


def _runs_table(lineage: Lineage) -> Table:
    rows = []
    for run in lineage.runs:
        m = run.manifest
        rows.append(
            {
                "run": run.label,
                "stage": run.stage,
                "started": m.started,
                "seconds": m.seconds,
                "seed": m.seed,
                "code_version": m.code_version,
                "tokens": sum(v for v in m.tokens.values() if isinstance(v, int)) or None,
                "cost_usd": m.cost_usd,
                "resumed": m.resumed,
                "sha256": run.sha256,
            }
        )
    paid = any(row["cost_usd"] for row in rows)
    columns = [
        Column("folder", lambda r: f"{r['run']}/", "code"),
        Column("stage", text("stage")),
        Column("started (UTC)", lambda r: r["started"].replace("T", " ")[:16], "number"),
        Column("took", lambda r: duration(r["seconds"]), "number"),
        Column("seed", text("seed"), "number"),
        Column("tokens", counted("tokens"), "number"),
        *[Column("cost (USD)", lambda r: number(r["cost_usd"], 2), "number")] * paid,
        Column("code", _commit, "number", title=lambda r: r["code_version"]),
        Column("SHA-256", lambda r: r["sha256"][:DIGITS], "code", title=lambda r: r["sha256"]),
    ]
    one = totals(lineage)
    caption = (
        f"Every run in the order of making: {duration(one['seconds'])} and "
        f"{number(one['cost_usd'], 2)} USD in all."
    )
    if lineage.sources:
        caption += " What the files from outside took and cost to make is not counted"
        judged = any(run.stage == "judge" for run in lineage.runs)
        scored = any(run.verdicts for run in lineage.runs)
        caption += ", so the judging is not." if scored and not judged else "."
    unneeded = {"tokens"} if not any(row["tokens"] for row in rows) else set()
    if len({row["code_version"] for row in rows}) == 1:
        unneeded.add("code")  # told at the top of the page
    columns = [column for column in columns if column.label not in unneeded]
    return Table("runs", caption, columns, rows, tight=True)


def _commit(row: Cells) -> str:
    """The commit that a version names, by its first digits; else the version."""
    version, plus, commit = str(row["code_version"]).partition("+")
    return commit[:7] if plus else version


def _sources_table(lineage: Lineage) -> list[Table]:
    if not lineage.sources:
        return []
    rows = [{"file": s.label, "path": s.path, "sha256": s.sha256} for s in lineage.sources]
    columns = [
        Column("file", text("file"), title=lambda r: r["path"]),
        Column(
            "SHA-256", lambda r: r["sha256"][:DIGITS] or "–", "code", title=lambda r: r["sha256"]
        ),
    ]
    return [
        Table(
            "outside_files",
            "Files from outside, with the first digits of each one’s SHA-256.",
            columns,
            rows,
        )
    ]


def _hash_table(lineage: Lineage) -> Table:
    rows = [
        {"run": run.label, "output": name, "sha256": sha256}
        for run in lineage.runs
        for name, sha256 in run.manifest.outputs.items()
    ]
    columns = [
        Column("folder", lambda r: f"{r['run']}/", "code"),
        Column("output", text("output"), "code"),
        Column("SHA-256", lambda r: r["sha256"][:DIGITS], "code", title=lambda r: r["sha256"]),
    ]
    return Table("outputs", "Files that the runs wrote.", columns, rows)


def _facts(lineage: Lineage, run: RunFolder) -> Facts:
    m = run.manifest
    inputs = [
        Hash(
            link.name,
            link.sha256,
            f"from {link.origin.label}" + (", changed since" if link.changed else ""),
        )
        for link in lineage.inputs_of(run)
    ]
    pairs: list[tuple[str, list[Any]]] = [
        ("inputs", list(inputs)),
        ("options", list(flat(m.options))),
        ("results", list(flat(m.results))),
        ("licences", [f"{k or 'not stated'}: {plural(v, 'row')}" for k, v in m.licences.items()]),
        ("tokens", [f"{k}: {count(v)}" for k, v in m.tokens.items()]),
        ("outputs", [Hash(name, sha256) for name, sha256 in m.outputs.items()]),
        ("warnings", list(m.warnings)),
        ("resumed", [plural(m.resumed, "time")] if m.resumed else []),
    ]
    return Facts([(name, values) for name, values in pairs if values])


def flat(values: Any, prefix: str = "") -> list[str]:
    """``key: value`` lines of nested options; what is absent is left out."""
    if isinstance(values, dict):
        lines = []
        for key, value in values.items():
            lines += flat(value, f"{prefix}.{key}" if prefix else str(key))
        return lines
    if values is None or values in ("", [], ()):
        return []
    if isinstance(values, list):
        if any(isinstance(value, dict | list) for value in values):
            words = json.dumps(values, ensure_ascii=False)
            return [f"{prefix}: {words[:400]}{'…' if len(words) > 400 else ''}"]
        return [f"{prefix}: {', '.join(short(value) for value in values)}"]
    return [f"{prefix}: {short(values)}"]
