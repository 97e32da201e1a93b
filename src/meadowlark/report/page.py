"""The stage: runs in, one self-contained ``report.html`` out, its tables as JSON and CSV beside it.

The page needs no server, script or network; what a model or a user wrote is escaped by the
template engine, and a content policy in the page forbids scripts altogether. The same runs give
the same bytes: nothing of the moment of writing is in it.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError
from meadowlark.report import (
    comparisons,
    data,
    examples,
    exams,
    findings,
    provenance,
    scores,
    training,
    viewer,
)
from meadowlark.report.content import (
    Section,
    Table,
    Tile,
    count,
    listed,
    percent,
    plural,
    tables_of,
)
from meadowlark.report.examples import folded
from meadowlark.report.introductions import introduced
from meadowlark.report.lineage import Lineage, trace
from meadowlark.report.read import find_runs

PAGE = "report.html"
RESEARCH = (
    "Research use only. Nothing on this page, and no model it describes, is for decisions about "
    "anybody’s care."
)
DEMO = (
    "Made from the material that ships with Meadowlark: written for this project, not clinically "
    "reviewed."
)


def report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    examples: int = 6,
    seed: int = 42,
    force: bool = False,
) -> Run:
    """Write one page over finished runs, given in any order or as their parent folders.

    Writes ``report.html``, ``report.json`` (every table, the lineage in full), ``tables/NAME.csv``
    and, where answers were compared, ``verdicts.html`` with every verdict. ``examples`` is how many
    of each kind are shown; without a ``title`` the page's is :func:`headline`.
    """
    if examples < 0:
        raise UserError(f"--examples {examples}: expected 0 or more")
    found, unfinished = find_runs(runs)
    lineage = trace(found)
    title = title or headline(lineage)
    run = open_run(
        "report",
        out,
        options={"title": title, "examples": examples},
        inputs={one.label: one.folder for one in lineage.runs},
        seed=seed,
        force=force,
    )
    if run.complete:
        return run
    with run:
        sections = _sections(lineage, examples, seed)
        tables = [table for section in sections for table in tables_of(section.blocks)]
        html = render(title, lineage, sections, unfinished)
        _write(run, PAGE, html)
        for name, viewed in viewer.pages(lineage, RESEARCH).items():
            _write(run, name, viewed)
        for table in tables:
            _write(run, f"tables/{table.name}.csv", as_csv(table))
        run.write_json("report.json", _as_json(title, lineage, tables))
        run.manifest.warnings += [f"left out, not finished: {name}" for name in unfinished]
        run.finish(
            runs=len(lineage.runs),
            tables=len(tables),
            page=str(run.folder / PAGE),
        )
    return run


def _sections(lineage: Lineage, wanted: int, seed: int) -> list[Section]:
    made = [
        data.section(lineage),
        training.section(lineage),
        exams.section(lineage),
        comparisons.section(lineage),
        examples.section(lineage, wanted, seed) if wanted else None,
        provenance.section(lineage),
        provenance.reproduce_section(lineage),
    ]
    return introduced([section for section in made if section is not None])


def _tied(words: str) -> str:
    """Words in which no line ends between a number and what it belongs to."""
    return words.replace(" %", "\u00a0%").replace("n = ", "n\u00a0=\u00a0")


def render(
    title: str, lineage: Lineage, sections: Sequence[Section], unfinished: Sequence[str] = ()
) -> str:
    """The page as text. Every string is escaped by the template; only our own SVG is not."""
    folder = resources.files("meadowlark.report")
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["folded"] = folded
    environment.filters["tied"] = _tied
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    style = (folder / "page.css").read_text(encoding="utf-8")
    html = template.render(
        title=title,
        style=Markup(re.sub(r"/\*.*?\*/\n?", "", style, flags=re.S)),
        sections=sections,
        tiles=tiles(lineage),
        research=RESEARCH,
        demo=DEMO if provenance.demo_material(lineage) else "",
        unfinished=unfinished,
        versions=listed(sorted({run.manifest.code_version for run in lineage.runs})),
        n_runs=plural(len(lineage.runs), "run"),
        days=_days(lineage),
    )
    return html if html.endswith("\n") else html + "\n"


def headline(lineage: Lineage) -> str:
    """What the runs are about, as the page's title: the model trained, the models compared or
    examined, or the data."""
    trained = [run.label for run in lineage.runs if run.stage == "train"]
    if trained:
        return f"The model “{trained[-1]}”: how it was made, and how well it does"
    names = scores.model_names(lineage.runs)
    told = [s for run in scores.compared(lineage) for s in run.scores]
    rates = findings.overall(told)
    if rates:
        models = list(dict.fromkeys(names[s.model] for s in rates))
        whom = findings.reference_in_words(rates[0], names)
        return f"{_listed(models)} against {whom}: whose answers are preferred?"
    graded = [s for s in told if s.metric in findings.GRADED]
    if graded:
        return f"{_listed(list(dict.fromkeys(names[s.model] for s in graded)))}: answers graded"
    sat = [s for run in scores.examined(lineage) for s in run.scores]
    if sat:
        models = list(dict.fromkeys(scores.rename(s.model, names) for s in sat))
        return f"{_listed(models)}: exam results"
    return f"What {lineage.runs[-1].label} holds, and where it came from"


def _listed(models: Sequence[str]) -> str:
    """Up to three names; of more, how many."""
    if len(models) > 3:
        return f"{len(models):,} models"
    return " and ".join(models) if len(models) < 3 else f"{models[0]}, {models[1]} and {models[2]}"


def tiles(lineage: Lineage) -> list[Tile]:
    """What a reader wants first: how much data, what model, what it came to."""
    found: list[Tile] = []
    sets = data.finished_sets(data.data_sets(lineage.runs))
    if sets:
        found.append(Tile("rows", count(sets[-1].n), sets[-1].label))
    trained = [run for run in lineage.runs if run.stage == "train"]
    if trained:
        rows = training.model_rows(trained[-1])
        found += [Tile(label, value, trained[-1].label) for label, value in rows]
    names = scores.model_names(lineage.runs)
    chance = scores.chance_levels(scores.examined(lineage))
    tasks = scores.questions_by_task(scores.examined(lineage))
    accuracies = [
        s
        for run in scores.examined(lineage)
        if run.stage != "score"
        for s in run.scores
        if s.metric == "accuracy" and s.task in tasks
    ]
    for task in list(dict.fromkeys(s.task for s in accuracies))[:2]:
        of_task = [s for s in accuracies if s.task == task]
        values = " → ".join(percent(s.value, 0) for s in of_task[:3])
        who = " → ".join(scores.rename(s.model, names) for s in of_task[:3])
        level = f", chance {percent(chance[task], 0)}" if task in chance else ""
        found.append(Tile(f"accuracy, {task}", values, f"{who}{level}, n = {of_task[0].n:,}"))
    found += findings.tiles([s for run in scores.compared(lineage) for s in run.scores], names)
    return found


def _days(lineage: Lineage) -> str:
    days = sorted({run.manifest.started[:10] for run in lineage.runs if run.manifest.started})
    return " to ".join(dict.fromkeys([days[0], days[-1]])) if days else ""


def as_csv(table: Table) -> str:
    """A table's raw rows; a cell that a spreadsheet would run as a formula is quoted as text."""
    keys = list(dict.fromkeys(key for row in table.rows for key in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(keys)
    for row in table.rows:
        writer.writerow([_cell(row.get(key)) for key in keys])
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _as_json(title: str, lineage: Lineage, tables: Sequence[Table]) -> dict[str, Any]:
    return {
        "title": title,
        "notice": RESEARCH,
        "tables": {t.name: {"caption": t.caption, "rows": list(t.rows)} for t in tables},
        "lineage": provenance.graph_json(lineage),
        "totals": provenance.totals(lineage),
    }


def _write(run: Run, name: str, text: str) -> None:
    """Write a text file beside its place, rename it there, and list it as an output."""
    path = run.folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    # A lone surrogate in a model's text must not cost the whole page.
    temporary.write_bytes(text.encode("utf-8", "replace"))
    temporary.replace(path)
    run.wrote(name)
