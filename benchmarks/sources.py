"""What the two largest sources take beside a plain pass over the same file: a Posts.xml of 1 GB and
a metadata.csv of 1,000,000 rows, made from real rows in MEADOWLARK_DATA (posts repeated under new
ids; abstracts put together from wikidoc answers). Writes results/sources.json.

    python benchmarks/sources.py [--posts-mb 1000] [--articles 1000000] [--pairs 5] [--keep DIR]
"""

import argparse
import csv
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from _stamp import RESULTS, stamp
from _watch import watched

DATA = Path(os.environ.get("MEADOWLARK_DATA", "../shared/data"))
PLAIN_XML = """
import sys
from lxml import etree
rows = 0
for _, row in etree.iterparse(sys.argv[1], tag="row"):
    rows += 1
    row.clear()
    while row.getprevious() is not None:
        del row.getparent()[0]
print(rows)
"""
PLAIN_CSV = """
import csv, sys
with open(sys.argv[1], encoding="utf-8", newline="") as file:
    print(sum(1 for _ in csv.DictReader(file)))
"""
COLUMNS = (
    "cord_uid sha source_x title doi pmcid pubmed_id license abstract publish_time authors journal "
    "mag_id who_covidence_id arxiv_id pdf_json_files pmc_json_files url s2_id"
).split()


def posts(path: Path, megabytes: int) -> None:
    """Real posts under new ids until the file has its size. Each keeps its score."""
    folder = DATA / "meadow/stackexchange_format"
    real = [
        (dict(row.attrib), site * 10**5)
        for site, name in enumerate("ab")
        for row in ElementTree.parse(folder / f"Posts_{name}.xml").getroot()
    ]
    written, copy = 0, 0
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="utf-8"?>\n<posts>\n')
        while written < megabytes * 10**6:
            for post, first in real:
                values = dict(post)
                for name in ("Id", "ParentId", "AcceptedAnswerId"):
                    if name in values:  # the two dumps' ids apart, and each copy's
                        values[name] = str(int(values[name]) + copy * 10**6 + first)
                cells = " ".join(f"{name}={quoteattr(value)}" for name, value in values.items())
                written += file.write(f"  <row {cells} />\n")
            copy += 1
        file.write("</posts>\n")


def articles(path: Path, count: int) -> None:
    """Rows with the columns of CORD-19's metadata; 78 % have an abstract, of 1,400 characters."""
    draw = random.Random(0)
    raw = DATA / "meadow/wikidoc_patient_information/medical_meadow_small.json"
    texts = [
        row["output"].replace("\n", " ") for row in json.loads(raw.read_text()) if row["output"]
    ]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(count):
            abstract, wanted = "", draw.gauss(1400, 500) if draw.random() < 0.78 else 0
            while len(abstract) < wanted:
                abstract += draw.choice(texts)[:900] + " "
            row = dict.fromkeys(COLUMNS, "") | {
                "cord_uid": f"u{number:07}",
                "sha": f"{draw.getrandbits(160):040x}",
                "source_x": "PMC",
                "title": draw.choice(texts)[:100],
                "doi": f"10.1/{number}",
                "license": "no-cc",
                "abstract": abstract.strip(),
                "publish_time": "2020-03-01",
                "authors": "Doe, J.; Roe, R.; Li, Q.; Poe, E.",
                "journal": "Journal",
            }
            writer.writerow(row.values())


def compare(
    name: str, raw: Path, plain: str, folder: Path, pairs: int
) -> Iterator[tuple[str, Any]]:
    """The plain pass and ours in turn, so that both meet the same machine; a plain pass before them
    puts the file in memory for all. The ratio is the median of the pairs' own."""
    yield "file_mb", round(raw.stat().st_size / 10**6)
    out = folder / name
    command = ["convert", name, "--raw", str(raw), "--out", str(out)]
    watched([sys.executable, "-c", plain, str(raw)])
    peers, ours = [], []
    for _ in range(pairs):
        peers.append(watched([sys.executable, "-c", plain, str(raw)]))
        shutil.rmtree(out, ignore_errors=True)
        ours.append(watched([sys.executable, "-m", "meadowlark", *command]))
    yield "plain_pass", by_seconds(peers)
    rows = json.loads((out / "manifest.json").read_text())["rows"]
    yield "convert", by_seconds(ours) | {"rows": rows}
    ratios = [
        round(mine["seconds"] / peer["seconds"], 2) for mine, peer in zip(ours, peers, strict=True)
    ]
    yield "times_the_plain_pass", statistics.median(ratios)
    yield "times_the_plain_pass_of_each_pair", ratios


def by_seconds(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The run of median time, with the greatest memory of any."""
    middle = sorted(runs, key=lambda run: run["seconds"])[(len(runs) - 1) // 2]
    return {
        name: middle[name] if name == "seconds" else max(run[name] for run in runs)
        for name in middle
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--posts-mb", type=int, default=1000)
    parser.add_argument("--articles", type=int, default=1_000_000)
    parser.add_argument("--pairs", type=int, default=5, help="Runs of each, in turn.")
    parser.add_argument("--keep", type=Path, help="Folder for the made files, used again.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        made = asked.keep or Path(temporary)
        made.mkdir(parents=True, exist_ok=True)
        result: dict[str, Any] = {"stamp": stamp(("pyarrow", "lxml", "py7zr"))}
        for name, raw, make, size, plain in (
            (
                "cord19",
                made / f"metadata_{asked.articles}.csv",
                articles,
                asked.articles,
                PLAIN_CSV,
            ),
            (
                "stackexchange",
                made / f"Posts_{asked.posts_mb}.xml",
                posts,
                asked.posts_mb,
                PLAIN_XML,
            ),
        ):
            if not raw.exists():
                make(raw, size)
            result[name] = dict(compare(name, raw, plain, Path(temporary), asked.pairs))
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "sources.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))
    print(f"results in {path}")


if __name__ == "__main__":
    main()
