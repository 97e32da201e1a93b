"""Curation measured, a part at a time: each part writes its own entry of results/curation.json with
command, commit and hardware, and leaves the others as they are. ``_curation_rows.py`` says what the
rows are made of; the real files lie below MEADOWLARK_DATA, and no text of theirs is written here.

    python benchmarks/curation.py join --peers PYTHON   # 52,000 instructions beside others' ways
    python benchmarks/curation.py million               # filter of 1.5 million instructions
    python benchmarks/curation.py growth                # the join from 10,000 up; a plot
    python benchmarks/curation.py clean                 # 1.5 million rows; the rate of each rule
    python benchmarks/curation.py mix                   # 1.5 million rows into a mixture
    python benchmarks/curation.py planted               # what is found of what was planted

PYTHON is one that has rapidfuzz, datasketch and rouge-score. --count makes any part smaller, --keep
DIR keeps what was made, for the next part.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from _curation_rows import instructions, real_instructions, real_rows, write_rows, write_tasks
from _stamp import RESULTS, stamp
from _watch import watched

from meadowlark.curate.examine import Examiner
from meadowlark.curate.options import CleanOptions
from meadowlark.dataset import read_manifest
from meadowlark.match import near_duplicates, tokenize
from meadowlark.match.rouge import Rule
from meadowlark.records import Question
from meadowlark.tasks import load, resolve

RESULT = RESULTS / "curation.json"
PLOT = RESULTS / "curation_growth.svg"
PEERS = Path(__file__).with_name("_curation_peers.py")
MEADOWLARK = [sys.executable, "-m", "meadowlark"]
AGAINST = "medqa,mmlu_medical"
THRESHOLD = 0.7
COUNTS = {
    "join": 52_000, "million": 1_500_000, "growth": 1_500_000,
    "clean": 1_500_000, "mix": 1_500_000, "planted": 60_000,
}  # fmt: skip


def data_folder() -> Path:
    named = os.environ.get("MEADOWLARK_DATA")
    if not named or not Path(named).is_dir():
        sys.exit("MEADOWLARK_DATA names no folder of real data; nothing was measured")
    return Path(named)


def made_instructions(count: int, folder: Path) -> list[str]:
    return list(
        instructions(count, real_instructions(data_folder()), real_rows(data_folder(), folder))
    )


def best_of(action: Callable[[], Any], repeats: int) -> list[float]:
    """Wall seconds of each of so many runs."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        action()
        times.append(round(time.perf_counter() - began, 3))
    return times


def command(*arguments: str | Path) -> dict[str, Any]:
    """A command of meadowlark, watched, with what its folder's manifest counts."""
    made = watched([*MEADOWLARK, *map(str, arguments)])
    out = Path(arguments[list(arguments).index("--out") + 1])
    return {**made, "rows": read_manifest(out).rows}


# --------------------------------------------------------------------------- the join


def join(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The join and the whole filter command beside others' ways to do the same."""
    texts = made_instructions(options.count, folder)
    result: dict[str, Any] = {
        "instructions": len(texts),
        "mean_tokens": round(float(np.mean([len(tokenize(text)) for text in texts])), 1),
        "cores": len(os.sched_getaffinity(0)),
    }
    rules: tuple[Rule, ...] = ("kept", "others")
    dropped = {}
    for rule in rules:
        near_duplicates(texts[:200], THRESHOLD, rule)  # compiled
        found = near_duplicates(texts, THRESHOLD, rule)
        dropped[rule] = ~found.kept
        times = best_of(lambda rule=rule: near_duplicates(texts, THRESHOLD, rule), options.repeats)
        result[f"join, rule {rule}"] = {
            "s": min(times), "all runs, s": times, "dropped": int(dropped[rule].sum()),
        }  # fmt: skip
    path = folder / "tasks.parquet"
    write_tasks(path, texts)
    runs = []
    for _ in range(options.repeats):
        runs.append(command("filter", path, "--out", folder / "filtered", "--force"))
        shutil.rmtree(folder / "filtered")
    result["filter command"] = {
        "s": min(run["seconds"] for run in runs),
        "all runs, s": [run["seconds"] for run in runs],
        **{name: value for name, value in runs[0].items() if name != "seconds"},
    }
    if options.peers:
        result["peers"] = peers(options.peers, texts, options.sample, folder)
    return result


def peers(python: str, texts: list[str], sample: int, folder: Path) -> dict[str, Any]:
    """Others on a sample, scaled: by the number of pairs, datasketch by the number of texts."""
    (folder / "texts.json").write_text(json.dumps(texts[:sample]))
    asked = [python, str(PEERS), str(folder / "texts.json"), str(sample)]
    answer = json.loads(subprocess.run(asked, capture_output=True, text=True, check=True).stdout)
    found, n = answer["peers"], len(texts)
    ours = ~near_duplicates(texts[:sample], THRESHOLD, "others").kept
    pair_s = found["rouge-score"]["seconds"] / found["rouge-score"]["pairs"]
    fuzz, lsh = found["rapidfuzz"], found["datasketch"]
    theirs = np.zeros(sample, bool)
    theirs[lsh["dropped"]] = True
    return {
        "versions": answer["versions"],
        "rouge-score, AlpaCare's loop over all others": {
            "pairs timed": found["rouge-score"]["pairs"],
            "microseconds a pair": round(1e6 * pair_s, 2),
            "one process, scaled to all ordered pairs, h": round(pair_s * n * (n - 1) / 3600, 1),
        },
        "rapidfuzz cdist": {
            "texts timed": sample,
            "s": round(fuzz["seconds"], 2),
            "cores": answer["cores"],
            "scaled by pairs, s": round(fuzz["seconds"] * (n / sample) ** 2, 1),
            "drops the same texts as rule others": np.flatnonzero(ours).tolist() == fuzz["dropped"],
        },
        "datasketch MinHashLSH, sets of words": {
            "texts timed": sample,
            "s": round(lsh["seconds"], 2),
            "scaled by texts, s": round(lsh["seconds"] * n / sample, 1),
            "texts dropped by rule others": int(ours.sum()),
            "of them found by LSH": int((ours & theirs).sum()),
            "others dropped by LSH": int((~ours & theirs).sum()),
        },
    }


def million(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole filter command over many short instructions, with its memory."""
    path = folder / f"tasks-{options.count}.parquet"
    rows = real_rows(data_folder(), folder)
    write_tasks(path, instructions(options.count, real_instructions(data_folder()), rows))
    del rows
    return {
        "instructions": options.count,
        "bytes": path.stat().st_size,
        **command("filter", path, "--out", folder / "million", "--force"),
    }


def growth(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds of the join, tokenizing included, as the number of instructions grows; a plot."""
    steps = [n for n in (10_000, 30_000, 100_000, 300_000, 1_000_000) if n < options.count]
    steps.append(options.count)
    texts = made_instructions(options.count, folder)
    near_duplicates(texts[:200], THRESHOLD)
    points = []
    for n in steps:
        began = time.perf_counter()
        found = near_duplicates(texts[:n], THRESHOLD)
        seconds = time.perf_counter() - began
        points.append({"instructions": n, "s": round(seconds, 3), "kept": int(found.kept.sum())})
        print(points[-1], file=sys.stderr, flush=True)
    first, last = points[0], points[-1]
    power = math.log(last["s"] / first["s"]) / math.log(
        last["instructions"] / first["instructions"]
    )
    if options.count == COUNTS["growth"] or options.plot:
        (options.plot or PLOT).write_text(growth_plot(points), encoding="utf-8")
    return {"rule": "kept", "points": points, "power between first and last": round(power, 2)}


def growth_plot(points: Sequence[dict[str, Any]]) -> str:
    """Seconds over instructions, both logarithmic, as an SVG that needs nothing else."""
    left, top, right, bottom = 64, 40, 600, 340
    places = [(math.log10(p["instructions"]), math.log10(p["s"])) for p in points]
    low_x, high_x = places[0][0], places[-1][0]
    low_y = math.floor(min(y for _, y in places))
    high_y = max(math.ceil(max(y for _, y in places)), low_y + 1)

    def at(x: float, y: float) -> tuple[float, float]:
        return (
            left + (x - low_x) / (high_x - low_x or 1) * (right - left),
            bottom - (y - low_y) / (high_y - low_y) * (bottom - top),
        )

    body = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 400" role="img">',
        "<title>Seconds of the exact ROUGE-L join</title>",
        "<style>text{font:13px sans-serif;fill:#1d2126}.grid{stroke:#d9d7d0}"
        ".line{fill:none;stroke:#0072b2;stroke-width:2}.dot{fill:#0072b2}"
        ".square{fill:none;stroke:#d55e00;stroke-dasharray:5 4}</style>",
        '<rect width="640" height="400" fill="#fffefb"/>',
        f'<text x="{left}" y="22">seconds</text>',
        f'<text x="{right}" y="385" text-anchor="end">instructions (both axes logarithmic)</text>',
    ]
    for power in range(low_y, high_y + 1):
        _, y = at(low_x, power)
        body.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{right}" y2="{y:.1f}"/>')
        body.append(
            f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
        )
    for point, (x, y) in zip(points, places, strict=True):
        across, up = at(x, y)
        name = (
            f"{point['instructions'] / 1e6:g}M" if x >= 6 else f"{point['instructions'] // 1000}k"
        )
        body.append(f'<text x="{across:.1f}" y="{bottom + 20}" text-anchor="middle">{name}</text>')
        body.append(f'<circle class="dot" cx="{across:.1f}" cy="{up:.1f}" r="4"/>')
        # Below the line, where the square's does not run; the last one above it.
        end = point is points[-1]
        where = f'x="{across + (4 if end else 6):.1f}" y="{up + (-10 if end else 20):.1f}"'
        anchor = "end" if end else "start"
        body.append(f'<text {where} text-anchor="{anchor}">{point["s"]:.3g} s</text>')
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*place) for place in places))
    body.append(f'<polyline class="line" points="{path}"/>')
    # What the square of the number would be, as far as it stays inside.
    reach = min(high_x, low_x + (high_y - places[0][1]) / 2)
    (x1, y1), (x2, y2) = at(*places[0]), at(reach, places[0][1] + 2 * (reach - low_x))
    body.append(f'<line class="square" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>')
    where = f'x="{x2 - 14:.1f}" y="{y2 + 4:.1f}" text-anchor="end" style="fill:#d55e00"'
    body.append(f"<text {where}>by the square of the number</text>")
    return "\n".join([*body, "</svg>\n"])


# --------------------------------------------------------------------------- rows with answers


def made_rows(count: int, folder: Path) -> tuple[Path, Counter[str], list[Question]]:
    """The file of made rows, what is planted in it, and the questions that are."""
    questions, _ = load(resolve("medqa", data_folder()))
    path = folder / f"rows-{count}.parquet"
    known = folder / f"rows-{count}.json"
    if not known.exists():
        planted = write_rows(path, count, real_rows(data_folder(), folder), questions)
        known.write_text(json.dumps(planted))
    return path, Counter(json.loads(known.read_text())), questions


def clean(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Every rule at once over many rows, then each rule alone over some of them."""
    path, planted, questions = made_rows(options.count, folder)
    rates = rate_of_each_rule(path, questions, 3_000)
    out = folder / "clean"
    made = clean_command(path, out, "--phi", "flag")
    rows = sum(planted.values())
    return {
        "rows": rows,
        "bytes": path.stat().st_size,
        "rows a second": round(rows / made["seconds"]),
        **made,
        "rows a second of each rule in one process, processor time": rates,
        **found_of_planted(out, planted),
    }


def mix(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """A mixture with validation rows, stratified, from many rows."""
    path, planted, _ = made_rows(options.count, folder)
    made = command(
        "mix", path, "--val", "0.02", "--stratify", "source", "--out", folder / "mix", "--force"
    )
    rows = sum(planted.values())
    return {"rows": rows, "rows a second": round(rows / made["seconds"]), **made}


def planted(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What is found of what was planted, and what is taken from wikidoc as it is."""
    path, known, _ = made_rows(options.count, folder)
    clean_command(path, folder / "planted", "--phi", "flag")
    real_rows(data_folder(), folder)
    wikidoc = clean_command(folder / "wikidoc_patient_information", folder / "wikidoc-clean")[
        "rows"
    ]
    taken = wikidoc["rejected"].get("contamination", 0)
    return {
        "rows": sum(known.values()),
        **found_of_planted(folder / "planted", known),
        "wikidoc as it is": {
            "rows": wikidoc["in"],
            "taken for exam questions": taken,
            "share": round(taken / wikidoc["in"], 5),
        },
    }


def clean_command(path: Path, out: Path, *more: str) -> dict[str, Any]:
    # A shuffled copy answers "A" as the question does, so that rule would drop some copies first.
    return command(
        "clean", path, "--out", out, "--against", AGAINST, "--data", data_folder(),
        "--set", "choices.on=false", *more, "--force",
    )  # fmt: skip


RULES = (
    "repair", "empty", "echo", "refusal", "boilerplate", "truncated", "language", "length",
    "choices", "near",
)  # fmt: skip


def rate_of_each_rule(path: Path, questions: list[Question], rows: int) -> dict[str, float]:
    """Rows a second of processor time with one rule on alone; ``none`` is a row's way without any
    (read, keyed for exact duplicates, written)."""
    with pq.ParquetFile(path) as file:  # behind the planted questions
        table = file.read_row_group(min(1, file.num_row_groups - 1)).slice(0, rows)
    off: dict[str, dict[str, Any]] = {name: {"on": False} for name in RULES}
    ways: dict[str, tuple[dict[str, Any], list[Question]]] = {"none": (off, [])}
    ways |= {name: ({**off, name: {"on": True}}, []) for name in RULES}
    ways["private_data, flag"] = ({**off, "private_data": {"action": "flag"}}, [])
    ways["private_data, redact"] = ({**off, "private_data": {"action": "redact"}}, [])
    ways["contamination"] = (off, questions)
    examiners = {
        name: Examiner(CleanOptions.model_validate(options), exams, b"secret")
        for name, (options, exams) in ways.items()
    }
    seconds = dict.fromkeys(ways, math.inf)
    for turn in range(4):  # in turns, so that a busy moment falls on all; the first compiles
        for name, examiner in examiners.items():
            began = time.process_time()
            examiner(table)
            if turn:
                seconds[name] = min(seconds[name], time.process_time() - began)
    none = seconds.pop("none")
    rates = {"none": table.num_rows / none}
    for name, taken in seconds.items():
        rates[name] = table.num_rows / max(taken - none, 0.01 * none)
    return {name: round(rate, -2) for name, rate in rates.items()}


WANTED = {
    "copy": ("exact duplicate",),
    "near copy": ("near-duplicate", "near-duplicate with other numbers", "exact duplicate"),
}


def found_of_planted(out: Path, planted: Counter[str]) -> dict[str, Any]:
    """What became of each thing planted: taken out by the rule for it (an identifier: flagged),
    taken out by an earlier rule (the original too, mostly), or missed; and how many rows went in
    which nothing was planted, by reason."""
    found: Counter[str] = Counter()
    gone: Counter[str] = Counter()
    other: Counter[str] = Counter()
    for name, rejected in (("rejected.parquet", True), ("rows.parquet", False)):
        with pq.ParquetFile(out / name) as file:
            for batch in file.iter_batches(columns=["tags", "reason"] if rejected else ["tags"]):
                for row in batch.to_pylist():
                    tags, reason = dict(row["tags"]), row.get("reason", "")
                    what = tags.get("planted", "")
                    if what == "identifier":
                        found[what] += "private_data" in tags
                    elif what:
                        right = reason in WANTED.get(what, ("contamination",))
                        found[what] += right
                        gone[what] += bool(reason) and not right
                    elif reason:
                        other[reason] += 1
    return {
        "planted": {
            name: {
                "rows": n,
                "found": found[name],
                "gone by another rule": gone[name],
                "missed": n - found[name] - gone[name],
                "share found of the others": round(found[name] / max(n - gone[name], 1), 4),
            }
            for name, n in sorted(planted.items())
            if name
        },
        "rows taken out in which nothing was planted": dict(sorted(other.items())),
    }


PARTS: dict[str, Callable[[argparse.Namespace, Path], dict[str, Any]]] = {
    "join": join, "million": million, "growth": growth,
    "clean": clean, "mix": mix, "planted": planted,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--count", type=int, help="rows, where not as many as the claim has")
    parser.add_argument("--peers", help="a Python with rapidfuzz, datasketch and rouge-score")
    parser.add_argument("--sample", type=int, default=5_000, help="instructions given to the peers")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder for what is made; else a temporary one")
    parser.add_argument("--plot", type=Path, help="where to draw a growth of another --count")
    parser.add_argument("--print", action="store_true", help="print only, and write no result")
    options = parser.parse_args()
    options.count = options.count or COUNTS[options.part]
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        made = PARTS[options.part](options, folder)
    made |= stamp(("numpy", "numba", "pyarrow"))
    print(json.dumps(made, indent=2))
    if not options.print:
        results = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.exists() else {}
        results[options.part] = made
        ordered = {part: results[part] for part in PARTS if part in results}
        RESULT.write_text(json.dumps(ordered, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
