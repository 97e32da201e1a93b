"""Claim: 52,000 tasks are generated end to end, answers included, in bounded memory, nothing lost.

The teacher is a server in a process of its own (_teacher_server.py): after 200 ms it replies with
lists composed of the real questions of MedQuAD, MedQA and HeadQA. ``meadowlark generate``,
``respond``, ``stats`` and ``report`` run as processes of their own, with AlpaCare's 167 seeds. What
each took (wall and CPU seconds, peak memory), the yield, the reasons, the tokens and what they
would cost, and the files of the report are written to ``results/teacher_52k.json``; no text of the
data is. Keys planted in the environment are then looked for in every file that was written.

    MEADOWLARK_DATA=… python benchmarks/teacher_52k.py [--count 52000] [--in-flight 500]
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

from _planted_key import KEYS, searched
from _stamp import RESULTS, stamp
from _teacher_server import LATENCY_S

PRICES_USD = {"a small model": (0.15, 0.60), "a large model": (2.50, 10.00)}
"""Dollars for a million tokens in and out: examples for the cost table, no vendor's list. The runs
are given the first, and must count what it comes to."""
PARTS = 10
"""Into so many parts of the same number of calls a stage is divided; on a shared machine the CPU of
a tenth of the tasks says more."""


def started_server(data: Path) -> tuple[subprocess.Popen[bytes], str]:
    """A server process that answers, and its address."""
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("_teacher_server.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(port)], env={**os.environ, "MEADOWLARK_DATA": str(data)}
    )
    url = f"http://127.0.0.1:{port}"
    for _ in range(600):
        try:
            used(url)
            return process, url
        except OSError:
            if process.poll() is not None:
                sys.exit(f"the server ended with {process.returncode}")
            time.sleep(0.1)
    process.kill()
    return sys.exit("the server did not begin to answer within a minute")


def used(url: str) -> dict[str, float]:
    """The server's calls and CPU seconds so far."""
    with urllib.request.urlopen(f"{url}/used", timeout=5) as response:
        return dict(json.load(response))


def measured(arguments: list[str], log: Path, expected: int = 0) -> dict[str, float]:
    """Run one command as a process of its own: wall and CPU seconds, peak memory of the process."""
    began = time.monotonic()
    with log.open("ab") as text:
        process = subprocess.Popen(
            [sys.executable, "-m", "meadowlark", *arguments],
            stdout=text,
            stderr=text,
            env={**os.environ, **KEYS},
        )
        _, status, spent = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != expected:
        sys.exit(
            f"{shlex.join(arguments)} ended with {process.returncode}:\n{log.read_text()[-3000:]}"
        )
    return {
        "seconds": round(time.monotonic() - began, 1),
        "cpu_s": round(spent.ru_utime + spent.ru_stime, 1),
        "peak_memory_mb": round(spent.ru_maxrss / 1024, 1),
    }


def dry_run(command: list[str]) -> list[str]:
    """What a command says beforehand that it would take; nothing may be written."""
    out = Path(command[command.index("-o") + 1])
    done = subprocess.run(
        [sys.executable, "-m", "meadowlark", *command, "--dry-run"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **KEYS, "COLUMNS": "200"},
    )
    assert not out.exists(), f"a dry run made {out}"
    return [line.strip() for line in done.stdout.splitlines()]


def journal_states(folder: Path) -> dict[str, int]:
    """How many calls ended in which state: all must be done or failed."""
    with closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
        rows = journal.execute("SELECT state, count(*) FROM calls GROUP BY state").fetchall()
    return {str(state): int(count) for state, count in rows}


def owed_usd(folder: Path) -> float:
    """What all replies of a journal cost by the price that the runs are given."""
    price_in, price_out = PRICES_USD["a small model"]
    with closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
        query = "SELECT sum(tokens_in), sum(tokens_out) FROM calls WHERE state = 'done'"
        tokens_in, tokens_out = journal.execute(query).fetchone()
    return float(tokens_in * price_in + tokens_out * price_out) / 1e6


def seconds_by_part(folder: Path) -> list[float]:
    """Wall seconds of each tenth of the calls after the first: flat, if nothing grows."""
    query = "SELECT written_at FROM calls WHERE state = 'done' ORDER BY written_at"
    with closing(sqlite3.connect(folder / "journal.sqlite")) as journal:
        times = [at for (at,) in journal.execute(query)]
    ends = [times[len(times) * part // PARTS - 1] for part in range(1, PARTS + 1)]
    return [round(end - begin, 2) for begin, end in zip([times[0], *ends], ends, strict=False)]


def stage_result(folder: Path, took: dict[str, float], tasks: int) -> dict[str, Any]:
    """What a stage's manifest says beside what it took."""
    manifest = json.loads((folder / "manifest.json").read_text())
    states = journal_states(folder)
    lost = {state: n for state, n in states.items() if state not in ("done", "failed")}
    assert not lost, f"calls in {folder} ended neither done nor failed: {lost}"
    calls = sum(states.values())
    cost_usd = float(manifest["cost_usd"])
    assert abs(cost_usd - owed_usd(folder)) < 1e-4, f"{folder} counts {cost_usd} USD"
    return {
        **took,
        "cpu_ms_a_task": round(1000 * took["cpu_s"] / tasks, 3),
        "calls": calls,
        "calls_a_second": round(calls / took["seconds"], 1),
        "cpu_ms_a_call": round(1000 * took["cpu_s"] / calls, 3),
        "seconds_by_tenth_of_the_calls": seconds_by_part(folder),
        "calls_by_state": states,
        "rows": manifest["rows"],
        "results": {
            name: value
            for name, value in manifest["results"].items()
            if isinstance(value, int | float | str)
        },
        "warnings": manifest["warnings"],
        "tokens": manifest["tokens"],
        "cost_usd_in_manifest": cost_usd,
        "journal_mb": round((folder / "journal.sqlite").stat().st_size / 1e6, 1),
        "rows_mb": round((folder / "rows.parquet").stat().st_size / 1e6, 1),
    }


def costs(*stages: dict[str, Any]) -> dict[str, dict[str, float]]:
    """What the tokens of all stages would cost at each of the example prices."""
    total_in = sum(stage["tokens"].get("in", 0) for stage in stages)
    total_out = sum(stage["tokens"].get("out", 0) for stage in stages)
    return {
        name: {
            "usd_a_million_in": price_in,
            "usd_a_million_out": price_out,
            "usd": round((total_in * price_in + total_out * price_out) / 1e6, 2),
        }
        for name, (price_in, price_out) in PRICES_USD.items()
    }


def check_answers(folder: Path, tasks: Path) -> None:
    """Every task is answered or rejected, once; every answer has a text and its task as parent."""
    import pyarrow.parquet as pq

    asked_for = pq.read_table(tasks / "rows.parquet", columns=["id"]).column("id").to_pylist()
    kept = pq.read_table(folder / "rows.parquet", columns=["output", "parents"])
    rejected = pq.read_table(folder / "rejected.parquet", columns=["id"]).column("id").to_pylist()
    parents = [ids[0] for ids in kept.column("parents").to_pylist()]
    assert all(text.strip() for text in kept.column("output").to_pylist())
    assert sorted(parents + rejected) == sorted(asked_for), "a task was lost or doubled"
    there = set(parents)
    assert parents == [one for one in asked_for if one in there], "the order changed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=52_000)
    parser.add_argument("--in-flight", type=int, default=500)
    parser.add_argument("--out", type=Path, help="folder of the runs; a temporary one if not given")
    parser.add_argument("--result", type=Path, default=RESULTS / "teacher_52k.json")
    given = parser.parse_args()
    if not os.environ.get("MEADOWLARK_DATA"):
        sys.exit("set MEADOWLARK_DATA to the folder of real data")
    data = Path(os.environ["MEADOWLARK_DATA"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        result = run(data, folder, given.count, given.in_flight)
    given.result.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def run(data: Path, folder: Path, count: int, in_flight: int) -> dict[str, Any]:
    """Run every command into ``folder``, check what came out, and tell what it took."""
    log = folder / "log.txt"
    seeds = data / "alpacare" / "med_seed.json"
    tasks, answers, refused = folder / "tasks", folder / "answers", folder / "refused"
    load = os.getloadavg()[0]
    server, url = started_server(data)
    try:
        price = ",".join(map(str, PRICES_USD["a small model"]))
        teacher = ["--teacher", f"openai:teacher@{url}/v1", "-j", str(in_flight), "--price", price]
        commands = {
            tasks: ["generate", "--seeds", str(seeds), "-n", str(count), *teacher],
            answers: ["respond", str(tasks), *teacher],
        }
        stages, foretold = [], {}
        for place, command in commands.items():
            command += ["-o", str(place), "--budget", "1000usd"]
            foretold[command[0]] = dry_run(command)
            stages.append(stage_result(place, measured(command, log), count))
        generated, answered = stages
        tenth = [*commands[tasks], "-n", str(count // 10), "-o", str(folder / "tenth")]
        took_tenth = measured(tenth, log)
        wrong = ["--teacher", f"openai:teacher@{url}/refused/v1", "-o", str(refused)]
        measured(["respond", str(tasks), *wrong], log, expected=1)
        server_used = used(url)
    finally:
        server.terminate()
        server.wait()
    took = measured(["stats", str(seeds), str(answers), "-o", str(folder / "stats")], log)
    check_answers(answers, tasks)
    described = json.loads((folder / "stats" / "stats.json").read_text())["datasets"]
    page = folder / "report"
    report = measured(
        ["report", str(tasks), str(answers), str(folder / "stats"), "-o", str(page)], log
    )
    assert generated["rows"]["kept"] == count, generated["warnings"]
    keys = searched(folder)
    assert not keys["found_in"], keys
    assert keys["cut_out_of_journals"], "no reply repeated a key, so its absence shows nothing"
    stages += [took, report]
    return {
        **stamp(("aiohttp", "pyarrow", "numba", "numpy")),
        "load_of_the_machine_before": round(load, 2),
        "count": count,
        "in_flight": in_flight,
        "latency_s": LATENCY_S,
        "dry_run": foretold,
        "generate": generated,
        "generate_a_tenth": {**took_tenth, "note": "its CPU shows whether filtering grows"},
        "respond": answered,
        "stats": took,
        "report": {
            **report,
            "bytes": {
                str(path.relative_to(page)): path.stat().st_size
                for path in sorted(page.rglob("*"))
                if path.is_file()
            },
            "not_committed": "it shows rows of the real data",
        },
        "described": {name: summary(one) for name, one in described.items()},
        "seconds": round(sum(stage["seconds"] for stage in stages), 1),
        "cpu_s": round(sum(stage["cpu_s"] for stage in stages), 1),
        "cost_of_these_tokens": costs(generated, answered),
        "server": server_used,
        "planted_keys": keys,
    }


def summary(described: dict[str, Any]) -> dict[str, Any]:
    """The numbers of a description, without any text of its rows: labels by our vocabulary."""
    from meadowlark.labels import TYPES, VIEWS

    known = {"type": set(TYPES), "view": set(VIEWS), "difficulty": set("12345")}
    labels: dict[str, Counter[str]] = {}
    for name, values in known.items():
        labels[name] = Counter()
        for value, rows in described["labels"].get(name, {}).items():
            labels[name][value if value in values else "other"] += rows
    return {
        "rows": described["rows"],
        "without_input": described["without_input"],
        "labels": labels,
        "characters": described["characters"],
        "linguistic_entropy_bits": described["linguistic_entropy_bits"],
        "verbs_by": described["verb_noun"]["method"],
    }


if __name__ == "__main__":
    main()
