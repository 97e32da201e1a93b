"""The section on training: what was trained on what, and the curves of ``train_log.jsonl``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from meadowlark.progress import duration
from meadowlark.report import plots
from meadowlark.report.content import (
    Column,
    Figure,
    Heading,
    Prose,
    Section,
    Table,
    count,
    is_number,
    number,
    short,
)
from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder

LOG = "train_log.jsonl"
PLAN = "plan.json"
PLANNED = [
    ("peak_memory_bytes", "peak memory, GB", 1e-9, 2),
    ("tokens_per_s", "tokens a second", 1.0, 0),
    ("mfu", "share of the device's matrix rate (MFU), %", 100.0, 1),
]
"""Key in the plan, what it is, its factor and its digits."""
POINTS = 300
"""A curve of more logged steps than this is drawn as means over neighbouring steps."""
MEASURES = [
    ("parameters", "parameters", ""),
    ("trainable_parameters", "of them trained", ""),
    ("training_rows", "training rows", ""),
    ("validation_rows", "validation rows", ""),
    ("steps", "optimiser steps", ""),
    ("epochs", "epochs", ""),
    ("tokens_seen", "tokens seen", ""),
    ("validation_loss_before", "validation loss before", "nats/token"),
    ("validation_loss_after", "validation loss after", "nats/token"),
    ("validation_bits_per_byte_before", "validation bits a byte before", "bits/byte"),
    ("validation_bits_per_byte_after", "validation bits a byte after", "bits/byte"),
    ("bigram_bits_per_byte", "bigram model of the same rows", "bits/byte"),
]


def section(lineage: Lineage) -> Section | None:
    """The section, or None where no run trained a model."""
    runs = [run for run in lineage.runs if run.stage == "train" or run.has(LOG)]
    if not runs:
        return None
    blocks: list[Any] = []
    for index, run in enumerate(runs):
        if len(runs) > 1:
            blocks.append(Heading(run.label))
        blocks += _curves(run, index)
        blocks += _against_bigram(run)
    blocks.append(_measures(runs))
    against = _plan_against_measurement(runs)
    if against is not None:
        blocks.append(against)
    return Section("training", "Training", "", blocks)


def measures_of(run: RunFolder) -> dict[str, Any]:
    """What a run's manifest says under the keys of ``MEASURES``; what is absent is left out."""
    rows = run.manifest.rows
    counts = {"training_rows": rows.get("kept"), "validation_rows": rows.get("validation")}
    found = {**counts, **run.manifest.results}
    return {key: found[key] for key, _, _ in MEASURES if is_number(found.get(key))}


def _measures(runs: Sequence[RunFolder]) -> Table:
    found = {run.label: measures_of(run) for run in runs}
    rows: list[dict[str, Any]] = []
    for key, label, unit in MEASURES:
        if any(key in one for one in found.values()):
            values = {run.label: found[run.label].get(key) for run in runs}
            rows.append({"measure": label, "unit": unit, **values})
    took = {run.label: run.manifest.seconds for run in runs}
    rows.append({"measure": "time", "unit": "", **took})
    columns = [Column("", lambda r: f"{r['measure']} ({r['unit']})" if r["unit"] else r["measure"])]
    for run in runs:
        columns.append(Column(run.label, _shown(run.label), "number"))
    return Table("training", "What was trained, and what it came to.", columns, rows)


def _plan_against_measurement(runs: Sequence[RunFolder]) -> Table | None:
    """What each run was predicted to take beside what it took; None where nothing was planned."""
    rows: list[dict[str, Any]] = []
    devices: list[str] = []
    for run in runs:
        found = run.json(PLAN) or {}
        planned, measured = found.get("predicted", {}), found.get("measured", {})
        for key, label, factor, _ in PLANNED:
            if is_number(planned.get(key)) and is_number(measured.get(key)):
                pair = {"planned": planned[key] * factor, "measured": measured[key] * factor}
                rows.append({"run": run.label, "what": label, **pair})
                devices.append(found["plan"]["device"])
    if not rows:
        return None
    digits = {label: digits for _, label, _, digits in PLANNED}
    columns = [
        Column("run", lambda r: r["run"]),
        Column("", lambda r: r["what"]),
        Column("planned", lambda r: number(r["planned"], digits[r["what"]]), "number"),
        Column("measured", lambda r: number(r["measured"], digits[r["what"]]), "number"),
        Column("planned/measured", lambda r: number(r["planned"] / r["measured"]), "number"),
    ]
    caption = (
        f"Plan against measurement, on {', '.join(dict.fromkeys(devices))}. Memory is that of "
        "PyTorch's allocator on a GPU, of the whole process on a CPU; the planned speed rests on "
        "an assumed efficiency."
    )
    return Table("plan", caption, columns, rows)


def _shown(label: str) -> Any:
    def cell(row: Any) -> str:
        value = row[label]
        if row["measure"] == "time":
            return duration(value)
        if row["unit"] in ("nats/token", "bits/byte"):
            return number(value, 3)
        return short(value)

    return cell


def _curves(run: RunFolder, index: int) -> list[Any]:
    lines = run.lines(LOG)
    figures = []
    training = _series(lines, "loss")
    held_out = _series(lines, "eval_loss")
    drawn = []
    thinned, width = thin(training)
    if thinned:
        drawn.append(plots.Line("training", thinned))
    if held_out:
        drawn.append(plots.Line("validation", held_out, markers=True))
    if drawn:
        means = f" Training: means of {width} logged steps." if width > 1 else ""
        figures.append(
            Figure(
                plots.line_plot(
                    f"loss-{index}",
                    f"Loss of {run.label} by optimiser step",
                    " ".join(_in_words(line.label, line.points, "nats/token") for line in drawn),
                    drawn,
                    x_label="optimiser step",
                    y_label="loss (nats per token)",
                ),
                f"Loss on responses, {run.label}. n: {count(len(training))} logged training steps, "
                f"{count(len(held_out))} evaluations on held-out rows.{means}",
            )
        )
    bits = _series(lines, "bits_per_byte")
    bigram = measures_of(run).get("bigram_bits_per_byte")
    if bits:
        references = [plots.Reference(f"bigram model ({bigram:.2f})", bigram)] if bigram else []
        against = " The dotted line is a bigram model of the same rows." if bigram else ""
        figures.append(
            Figure(
                plots.line_plot(
                    f"bits-{index}",
                    f"Validation bits a byte of {run.label} by optimiser step",
                    _in_words("validation", bits, "bits/byte")
                    + (f" The bigram model needs {bigram:.3f}." if bigram else ""),
                    [plots.Line("validation", bits, markers=True)],
                    x_label="optimiser step",
                    y_label="validation (bits per byte)",
                    references=references,
                ),
                f"Bits a byte of held-out responses, {run.label}, which does not depend on the "
                f"tokenizer. n: {count(len(bits))} evaluations.{against}",
            )
        )
    return figures


def _against_bigram(run: RunFolder) -> list[Any]:
    """Whether the model beats what pairs of tokens alone would give, in a sentence."""
    found = measures_of(run)
    own, bigram = found.get("validation_bits_per_byte_after"), found.get("bigram_bits_per_byte")
    if own is None or bigram is None:
        return []
    verdict = "beats" if own < bigram else "does not beat"
    words = (
        f"On held-out responses the trained model needs {number(own, 3)} bits a byte and a bigram "
        f"model of the same rows {number(bigram, 3)}: {run.label} {verdict} the bigram model."
    )
    return [Prose(words, "" if own < bigram else "warning")]


def _series(lines: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """(step, value) in order of steps; a step logged again after a resume counts once, as last."""
    found: dict[float, float] = {}
    for line in lines:
        if is_number(line.get(key)) and is_number(line.get("step")):
            found[float(line["step"])] = float(line[key])
    return sorted(found.items())


def thin(
    points: Sequence[tuple[float, float]], most: int = POINTS
) -> tuple[list[tuple[float, float]], int]:
    """At most ``most`` points, each the mean of equally many neighbours, and how many those are."""
    width = -(-len(points) // most) or 1
    groups = [points[i : i + width] for i in range(0, len(points), width)]
    means = [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]
    return means, width


def _in_words(name: str, points: Sequence[tuple[float, float]], unit: str) -> str:
    (first, start), (last, end) = points[0], points[-1]
    return f"{name}: from {start:.3f} {unit} at step {first:g} to {end:.3f} at step {last:g}."


def model_rows(run: RunFolder) -> list[tuple[str, str]]:
    """What a reader wants to know first about a training run: label and value."""
    found = measures_of(run)
    pairs = []
    if "parameters" in found:
        pairs.append(("parameters", millions(found["parameters"])))
    after = "validation_bits_per_byte_after"
    if after in found:
        before = found.get("validation_bits_per_byte_before")
        arrow = f"{number(before)} → " if before is not None else ""
        pairs.append(("validation bits a byte", arrow + number(found[after])))
    return pairs


def millions(parameters: float) -> str:
    """``3145728`` as ``3.1 million``."""
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if parameters >= size:
            return f"{parameters / size:.1f} {word}"
    return count(parameters)
