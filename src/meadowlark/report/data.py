"""The section on data: what each stage kept and dropped, and what the kept rows are made of.

Reads ``rows.parquet`` and ``rejected.parquet`` column by column, so that a set of a million rows
costs seconds, and ``stats.json`` for the verb-noun pairs where a stats run is among the runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from meadowlark.labels import (
    OTHER,
    normalise_difficulty,
    normalise_type,
    normalise_view,
    topic_area,
)
from meadowlark.report import plots
from meadowlark.report.content import (
    Cells,
    Column,
    Figure,
    Figures,
    Heading,
    Prose,
    Section,
    Table,
    count,
    counted,
    is_number,
    number,
    percent,
    plural,
    slug,
    text,
)
from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder
from meadowlark.report.sunburst import sunburst

ROWS = "rows.parquet"
TAGS = ("type", "view", "difficulty", "topic")
"""The tags that are shown as distributions, in this order."""
NORMAL: dict[str, Callable[[str], str]] = {
    "type": normalise_type,
    "view": normalise_view,
    "difficulty": normalise_difficulty,
    "topic": topic_area,
}
TOP = 12
"""How many values of a tag are listed before the rest is added up."""
FIELDS = ("instruction", "input", "output")
FEWEST_LENGTHS = 10
"""Of so many different lengths a distribution is drawn; fewer are spikes, which the table tells."""
HELD_OUT = "validation.parquet"
FIGURE_CUT = 10
"""AlpaCare's figure shows the pairs of verb and object that are seen more often than this ..."""
RINGS = (
    "Inner ring: the verb that an instruction opens with. Outer ring: the verb’s object. The angle "
    "is the number of rows."
)
FEWEST_PAIRS = 20
"""... where at least so many are: a small set shows all it has."""


@dataclass(frozen=True)
class DataSet:
    """The columns of a run's rows that the page is about."""

    run: RunFolder
    table: pa.Table

    @property
    def label(self) -> str:
        return self.run.label

    @property
    def n(self) -> int:
        return int(self.table.num_rows)

    def lengths(self, name: str) -> np.ndarray[Any, np.dtype[Any]]:
        """Characters of a text column, rows in which it is empty left out; shape (rows,)."""
        made = pc.fill_null(pc.utf8_length(self.table.column(name)), 0)
        lengths = made.to_numpy()
        return np.asarray(lengths[lengths > 0])

    def tag(self, name: str) -> Counter[str]:
        """How many rows have each value of a tag; rows without it are not counted."""
        found: Counter[str] = Counter()
        for chunk in self.table.column("tags").chunks:
            chosen = chunk.items.filter(pc.equal(chunk.keys, name))
            for pair in pc.value_counts(chosen).to_pylist():
                if pair["values"]:
                    found[pair["values"]] += pair["counts"]
        return found

    def pairs(self) -> Counter[tuple[str, str]]:
        """How many rows come from each source under each licence."""
        grouped = self.table.select(["source", "licence"]).group_by(["source", "licence"])
        rows = grouped.aggregate([([], "count_all")]).to_pylist()
        return Counter({(r["source"] or "", r["licence"] or ""): r["count_all"] for r in rows})


def data_sets(runs: Sequence[RunFolder]) -> list[DataSet]:
    """The runs that hold records."""
    wanted = [*FIELDS, "source", "licence", "tags"]
    found = []
    for run in runs:
        table = run.table(ROWS, wanted)
        if table is not None and set(wanted) <= set(table.column_names):
            found.append(DataSet(run, table))
    return found


def section(lineage: Lineage) -> Section | None:
    """The section, or None where no run holds records."""
    sets = data_sets(lineage.runs)
    if not sets:
        return None
    compared = finished_sets(sets)
    blocks: list[Any] = [_stages([s.run for s in sets]), *_rejections(lineage.runs)]
    if compared:
        blocks += [Heading("Sources and licences"), _sources(compared)]
        blocks += _tags(compared)
        blocks += _lengths(compared)
    blocks += _verbs(lineage.runs)
    names = ", ".join(f"{s.label} ({plural(s.n, 'row')})" for s in compared)
    lead = f"Compared side by side below: {names}." if len(compared) > 1 else ""
    return Section("data", "The data", lead, blocks)


def finished_sets(sets: Sequence[DataSet]) -> list[DataSet]:
    """The sets whose rows have answers; where none has, all of them."""
    answered = [s for s in sets if s.n and len(s.lengths("output")) > s.n / 2]
    return answered or [s for s in sets if s.n]


def _stages(runs: Sequence[RunFolder]) -> Table:
    rows = []
    for run in runs:
        counts = run.manifest.rows
        rejected = counts.get("rejected") or {}
        rows.append(
            {
                "run": run.label,
                "stage": run.stage,
                "rows_in": counts.get("in"),
                "rows_kept": counts.get("kept"),
                "rows_rejected": sum(rejected.values()) if "rejected" in counts else None,
                "rows_held_out": _held_out(run),
                "seconds": run.manifest.seconds,
            }
        )
    columns = [
        Column("run", text("run")),
        Column("stage", text("stage")),
        Column("rows in", counted("rows_in"), "number"),
        Column("kept", counted("rows_kept"), "number"),
        Column("rejected", counted("rows_rejected"), "number"),
    ]
    if any(row["rows_held_out"] is not None for row in rows):
        columns.append(Column("held out", counted("rows_held_out"), "number"))
    columns.append(Column("time (s)", lambda r: number(r["seconds"], 1), "number"))
    return Table("data_stages", "Rows through the stages, in the order of making.", columns, rows)


def _held_out(run: RunFolder) -> int | None:
    table = run.table(HELD_OUT, ["id"])
    return None if table is None else int(table.num_rows)


def _rejections(runs: Sequence[RunFolder]) -> list[Any]:
    rows: list[dict[str, Any]] = []
    for run in runs:
        reasons: dict[str, int] = run.manifest.rows.get("rejected") or {}
        # What a stage reads may be of another kind (seeds, pages) than what it keeps or rejects.
        seen = (run.manifest.rows.get("kept") or 0) + sum(reasons.values())
        for reason, n in reasons.items():
            row = {"run": run.label, "reason": reason, "rows": n, "share": n / seen}
            rows.append(row)
    if not rows:
        return []
    most = max(int(row["rows"]) for row in rows)
    columns = [
        Column("run", text("run")),
        Column("reason", text("reason")),
        Column("rows", counted("rows"), "bar", lambda r: 100 * r["rows"] / most),
        Column("of kept and rejected", lambda r: percent(r["share"]), "number"),
    ]
    caption = "What was not kept, and why. Examples are in the section on examples."
    return [Heading("Rejected rows"), Table("rejected", caption, columns, rows)]


def _sources(sets: Sequence[DataSet]) -> Table:
    rows = []
    for one in sets:
        for (source, licence), n in sorted(one.pairs().items(), key=lambda p: (-p[1], p[0])):
            rows.append(
                {
                    "data_set": one.label,
                    "source": source,
                    "licence": licence,
                    "rows": n,
                    "share": n / one.n,
                }
            )
    columns = [
        Column("data set", text("data_set")),
        Column("source", text("source")),
        Column("licence", lambda r: r["licence"] or "not stated"),
        Column("rows", counted("rows"), "number"),
        Column("share", lambda r: percent(r["share"]), "bar", lambda r: 100 * r["share"]),
    ]
    return Table("sources", "Rows kept from each source.", columns, rows)


def _tags(sets: Sequence[DataSet]) -> list[Any]:
    blocks: list[Any] = []
    for name in TAGS:
        counts = [(s, in_one_vocabulary(name, s.tag(name))) for s in sets]
        counts = [(s, c) for s, c in counts if c]
        if counts:
            blocks.append(_tag_table(name, counts))
    if blocks:
        blocks.insert(0, Heading("What the rows ask for"))
    return blocks


def in_one_vocabulary(name: str, counts: Counter[str]) -> Counter[str]:
    """Counts of a tag's values by the words that generation uses; a topic by its field of medicine.

    So seeds as clinicians wrote them, tasks and converted rows can stand side by side. What no
    vocabulary has stays as it is.
    """
    found: Counter[str] = Counter()
    for value, n in counts.items():
        normal = NORMAL[name](value)
        found[value if normal in ("", OTHER) else normal] += n
    return found


def _tag_table(name: str, counts: Sequence[tuple[DataSet, Counter[str]]]) -> Table:
    # By the mean share, so that a small set's values stand beside a large one's.
    total: dict[str, float] = {}
    for _, one in counts:
        for value, n in one.items():
            total[value] = total.get(value, 0.0) + n / sum(one.values())
    order = sorted(total, key=lambda v: (-total[v], v))
    top = sorted(order[:TOP]) if name == "difficulty" else order[:TOP]
    rows: list[dict[str, Any]] = []
    for value in top:
        rows.append({name: value, **{s.label: one[value] for s, one in counts}})
    if order[TOP:]:
        rest = {s.label: sum(one[v] for v in order[TOP:]) for s, one in counts}
        rows.append({name: f"{plural(len(order) - TOP, 'other value')}", **rest})
    sums = {s.label: sum(one.values()) for s, one in counts}
    highest = max(max(int(r[label]) / sums[label] for label in sums) for r in rows)
    columns = [Column(name, text(name))]
    for s, _ in counts:
        columns.append(
            Column(
                s.label,
                _with_share(s.label, sums[s.label]),
                "bar",
                _bar(s.label, sums[s.label] * highest),
            )
        )
    tagged = ", ".join(f"{label}: {plural(rows_, 'row')}" for label, rows_ in sums.items())
    entropy = "; ".join(f"{s.label} {entropy_bits(one):.2f} bits" for s, one in counts)
    what = "Topic by field of medicine" if name == "topic" else name.capitalize()
    caption = f"{what}: rows and share of the rows that carry the tag (n of {tagged})."
    return Table(f"tag_{name}", f"{caption} Entropy over all values: {entropy}.", columns, rows)


def _with_share(label: str, total: int) -> Callable[[Cells], str]:
    return lambda row: f"{count(row[label])} ({percent(row[label] / total)})"


def _bar(label: str, total: float) -> Callable[[Cells], float]:
    return lambda row: 100 * float(row[label]) / total


def entropy_bits(counts: Counter[str]) -> float:
    """H = -sum p log2 p over the values counted, in bits."""
    p = np.array([n for n in counts.values() if n], dtype=np.float64)
    p /= p.sum()
    return abs(float(-(p * np.log2(p)).sum()))


def _lengths(sets: Sequence[DataSet]) -> list[Any]:
    rows = []
    for one in sets:
        for name in FIELDS:
            lengths = one.lengths(name)
            if not len(lengths):
                continue
            low, middle, high = np.percentile(lengths, [5, 50, 95])
            rows.append(
                {
                    "data_set": one.label,
                    "field": name,
                    "n": len(lengths),
                    "empty": one.n - len(lengths),
                    "mean_characters": float(lengths.mean()),
                    "p5_characters": float(low),
                    "median_characters": float(middle),
                    "p95_characters": float(high),
                    "longest_characters": int(lengths.max()),
                }
            )
    columns = [
        Column("data set", text("data_set")),
        Column("field", text("field")),
        Column("n", counted("n"), "number"),
        Column("empty", counted("empty"), "number"),
        Column("mean", counted("mean_characters"), "number"),
        Column("median", counted("median_characters"), "number"),
        Column("5–95 %", _spread, "number"),
        Column("longest", counted("longest_characters"), "number"),
    ]
    caption = "Lengths in characters; rows in which the field is empty are counted apart."
    figures = [_histogram(name, sets) for name in FIELDS]
    return [
        Heading("Lengths"),
        *[figure for figure in figures if figure is not None],
        Table("lengths", caption, columns, rows),
    ]


def _spread(row: Cells) -> str:
    return f"{count(row['p5_characters'])}–{count(row['p95_characters'])}"


def _histogram(name: str, sets: Sequence[DataSet]) -> Figure | None:
    lengths = [(s, s.lengths(name)) for s in sets]
    lengths = [(s, one) for s, one in lengths if len(one)]
    if not lengths or len(np.unique(np.concatenate([one for _, one in lengths]))) < FEWEST_LENGTHS:
        return None
    # Beyond the longest set's 98th percentile a few rows would squeeze all others together.
    last = max(float(np.percentile(one, 98)) for _, one in lengths)
    # Rice's rule for the smallest set, so that its bins are not mostly noise.
    bins = int(np.clip(2 * min(len(one) for _, one in lengths) ** (1 / 3), 6, 30))
    edges = np.linspace(0, max(last, 10.0), bins + 1)
    lines = []
    for s, one in lengths[: plots.SERIES]:
        shares = np.histogram(one, bins=edges)[0] / len(one)
        middles = (edges[:-1] + edges[1:]) / 2
        points = [(0.0, 0.0), *zip(middles.tolist(), shares.tolist(), strict=True)]
        lines.append(plots.Line(s.label, points))
    n = ", ".join(f"{s.label} {len(one):,}" for s, one in lengths[: plots.SERIES])
    medians = ", ".join(f"{s.label} {np.median(one):,.0f}" for s, one in lengths)
    drawn = plots.line_plot(
        f"length-{name}",
        f"Length of the {name}",
        f"Distribution of the number of characters. Medians: {medians}.",
        lines,
        x_label="characters",
        y_label=f"share of rows (%), in bins of {edges[1]:,.0f} characters",
        from_zero=True,
        y_text=lambda v: f"{100 * v:g}",
    )
    cut = " The longest 2 % are not drawn." if max(one.max() for _, one in lengths) > last else ""
    return Figure(drawn, f"Length of the {name}. n: {n}.{cut}")


def _verbs(runs: Sequence[RunFolder]) -> list[Any]:
    """The verb-noun pairs of the runs' ``stats.json``, data sets side by side."""
    blocks: list[Any] = []
    for run in runs:
        stats = run.json("stats.json")
        described = verb_noun_pairs(stats)
        if described:
            drawn = _sunbursts(run, stats)
            blocks += [Prose(RINGS), drawn] if drawn.figures else []
            blocks.append(_verb_table(run, described))
    return [Heading("Verbs and their objects"), *blocks] if blocks else []


def _sunbursts(run: RunFolder, stats: Any) -> Figures:
    """AlpaCare's figure for each data set of a ``stats.json`` that has pairs.

    As in the paper pairs seen more than 10 times are drawn; all of them where too few are. A set
    of one pair, as converted questions are, is whole rings of one word: the table says it.
    """
    drawn = []
    for place, (label, one) in enumerate(stats["datasets"].items()):
        pairs = [p for p in (one.get("verb_noun") or {}).get("pairs", ()) if p["count"]]
        if len(pairs) < 2:
            continue
        frequent = [p for p in pairs if p["count"] > FIGURE_CUT]
        cut = len(frequent) >= FEWEST_PAIRS
        nouns: dict[str, Counter[str]] = {}
        for pair in frequent if cut else pairs:
            nouns.setdefault(pair["verb"], Counter())[pair["noun"] or "–"] += pair["count"]
        first = max(pairs, key=lambda pair: int(pair["count"]))
        entropy = one.get("linguistic_entropy_bits")
        facts = f"; linguistic entropy {number(entropy)} bits" if is_number(entropy) else ""
        shown = sum(n for of in nouns.values() for n in of.values())
        share = f", {percent(shown / one['rows'])} of its rows" if one.get("rows") else ""
        which = f"pairs seen more than {FIGURE_CUT} times" if cut else "all pairs found"
        drawn.append(
            Figure(
                sunburst(
                    f"verbs-{slug(run.label)}-{place}",
                    f"Verbs and their objects in {label}",
                    f"{plural(len(nouns), 'verb')} with their most frequent objects; the most "
                    f"frequent pair is {first['verb']} {first['noun']}. The table has the numbers.",
                    nouns,
                ),
                f"{label}: {which}{share}{facts}.",
            )
        )
    return Figures(drawn)


def _verb_table(run: RunFolder, described: dict[str, Counter[str]]) -> Table:
    total: Counter[str] = sum(described.values(), Counter())
    order = sorted(total, key=lambda pair: (-total[pair], pair))[:TOP]
    rows = [{"pair": p, **{label: one[p] for label, one in described.items()}} for p in order]
    sums = {label: sum(one.values()) for label, one in described.items()}
    highest = max(one[p] / sums[label] for label, one in described.items() for p in order)
    columns = [Column("verb and object", text("pair"))]
    for label, n in sums.items():
        columns.append(Column(label, _with_share(label, n), "bar", _bar(label, n * highest)))
    sets = run.json("stats.json")["datasets"]
    facts = "; ".join(
        f"{label}: n = {plural(n, 'row')} in pairs{_verb_facts(sets[label])}"
        for label, n in sums.items()
    )
    methods = {str(sets[label]["verb_noun"].get("method", "")) for label in sums} - {""}
    how = f" Found by {', '.join(sorted(methods))}." if methods else ""
    which = f"the {len(rows)} most frequent pairs" if len(rows) > 1 else "one pair only"
    caption = f"How instructions open: {which}. {facts}.{how}"
    return Table(f"verb_noun_{slug(run.label)}", caption, columns, rows)


def _verb_facts(described: dict[str, Any]) -> str:
    share = described["verb_noun"].get("share_of_rows")
    entropy = described.get("linguistic_entropy_bits")
    words = f" ({percent(share)} of all)" if is_number(share) else ""
    return words + (f", linguistic entropy {number(entropy)} bits" if is_number(entropy) else "")


def verb_noun_pairs(stats: Any) -> dict[str, Counter[str]]:
    """For each data set of a ``stats.json``, how many rows open with each verb and object.

    Data sets without pairs are left out; so is everything in a file of another form.
    """
    found: dict[str, Counter[str]] = {}
    sets = stats.get("datasets") if isinstance(stats, dict) else None
    for label, one in (sets or {}).items():
        counts: Counter[str] = Counter()
        for pair in (one.get("verb_noun") or {}).get("pairs", ()):
            counts[f"{pair['verb']} {pair['noun']}".strip()] += pair["count"]
        if counts:
            found[str(label)] = counts
    return found
