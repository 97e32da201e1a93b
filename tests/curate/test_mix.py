"""Mixing: counts and weights, a split that never straddles, licences stated."""

import hashlib
import json
import random
import tempfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meadowlark.curate import aside
from meadowlark.curate import mix as module
from meadowlark.curate.aside import InOrder
from meadowlark.curate.mix import NEAR, mix, parse_part, split
from meadowlark.curate.traits import Gathered, Reader, normalised
from meadowlark.dataset import read, read_manifest
from meadowlark.errors import UserError
from meadowlark.licences import combine
from meadowlark.records import SCHEMAS, Record, from_table, to_table


def data(folder: Path, name: str, count: int, licence: str = "MIT", start: int = 0) -> Path:
    file = folder / f"{name}.json"
    rows = [
        {
            "instruction": f"{name} {n}",
            "output": f"answer {n}",
            "source": name,
            "licence": licence,
        }
        for n in range(start, start + count)
    ]
    file.write_text(json.dumps(rows))
    return file


def sources(folder: Path, name: str = "rows.parquet") -> dict[str, int]:
    rows, _ = read(folder / name, Record)
    names = sorted({row.source for row in rows})
    return {name: sum(row.source == name for row in rows) for name in names}


def test_all_rows_a_count_and_a_share_for_validation(tmp_path: Path) -> None:
    a, b = data(tmp_path, "a", 60), data(tmp_path, "b", 100)
    mix([str(a), f"{b}=40"], tmp_path / "out", val=0.1)
    training, _ = read(tmp_path / "out", Record)
    validation, _ = read(tmp_path / "out" / "validation.parquet", Record)
    assert len(training) == 90
    assert len(validation) == 10
    assert not {row.id for row in training} & {row.id for row in validation}
    rows = read_manifest(tmp_path / "out").rows
    assert rows["in"] == 160
    assert rows["not drawn"] == 60
    assert rows["kept"] + rows["validation"] == 100


def test_weights_give_the_largest_mixture_in_their_proportion(tmp_path: Path) -> None:
    a, b = data(tmp_path, "a", 60), data(tmp_path, "b", 100)
    mix([f"{a}=0.75", f"{b}=0.25"], tmp_path / "out", val=0)
    assert sources(tmp_path / "out") == {"a": 60, "b": 20}


def test_too_few_rows_are_said(tmp_path: Path) -> None:
    a = data(tmp_path, "a", 10)
    mix([f"{a}=25"], tmp_path / "out", val=0)
    (warning,) = read_manifest(tmp_path / "out").warnings
    assert "a.json has 10 usable rows, 25 were asked for" in warning


def test_choices_depend_on_seed_and_row_alone(tmp_path: Path) -> None:
    whole = data(tmp_path, "a", 50)
    more = tmp_path / "more.json"
    rows = json.loads(whole.read_text())
    more.write_text(json.dumps([{"instruction": "new", "output": "row"}, *reversed(rows)]))
    mix([f"{whole}=20"], tmp_path / "one", val=5)
    mix([f"{more}=20"], tmp_path / "two", val=5)
    mix([f"{whole}=20"], tmp_path / "three", val=5, seed=7)
    one, two, three = (
        {row.id for row in read(tmp_path / name, Record)[0]} for name in ("one", "two", "three")
    )
    assert len(one & two) >= len(one) - 2, "a new row moves at most its own place"
    assert one != three


def test_rows_without_output_and_doubles_are_rejected(tmp_path: Path) -> None:
    a = data(tmp_path, "a", 5)
    rows = [*json.loads(a.read_text()), {"instruction": "no answer"}]
    a.write_text(json.dumps(rows))
    mix([str(a), str(data(tmp_path, "a2", 1)), str(a)], tmp_path / "out", val=0)
    assert read_manifest(tmp_path / "out").rows["rejected"] == {
        "exact duplicate": 5,
        "no output": 2,
    }


def test_doubles_go_before_rows_are_drawn(tmp_path: Path) -> None:
    a, b = data(tmp_path, "a", 30), data(tmp_path, "b", 10)
    doubled = tmp_path / "doubled.json"
    rows = json.loads(a.read_text())
    doubled.write_text(json.dumps([*rows, *rows, *json.loads(b.read_text())]))
    mix([str(b), f"{doubled}=25"], tmp_path / "out", val=0)
    assert sources(tmp_path / "out") == {"a": 25, "b": 10}
    counts = read_manifest(tmp_path / "out").rows
    assert counts["rejected"] == {"exact duplicate": 40}
    assert counts["in"] == counts["kept"] + counts["not drawn"] + 40


def test_rows_that_hang_together_leave_validation_short_and_it_is_said(tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    file.write_text(json.dumps([{"instruction": "Why?", "output": str(n)} for n in range(9)]))
    mix([str(file), str(data(tmp_path, "a", 1))], tmp_path / "out", val=0.5)
    (first, *_) = read_manifest(tmp_path / "out").warnings[-1:]
    assert first.startswith("1 validation rows where 5 were asked for")


def divided(
    records: list[Record], val: float, seed: int, near: float = NEAR
) -> tuple[list[Record], list[Record]]:
    """Training and validation rows of records."""
    with tempfile.TemporaryDirectory() as folder:
        gathered = Gathered(Path(folder))
        gathered.add(Reader(seed, "", sets=True)(to_table(records, Record)))
        everything = np.arange(len(records))
        rows = gathered.all()
        held = split(rows, everything, val, seed, lambda: gathered.near(everything, near))
    return (
        [r for r, out in zip(records, held, strict=True) if not out],
        [r for r, out in zip(records, held, strict=True) if out],
    )


answers = st.sampled_from(["Yes.", "word " * 25, "WORD, " * 25, "other " * 30])
questions = st.sampled_from(["what is it", "What is it?", "why", "who", "when", "where"])
rows_of_text = st.lists(st.builds(Record, questions, st.just(""), answers), max_size=30)


@given(rows_of_text, st.sampled_from([0.0, 0.2, 0.5, 3.0]), st.integers(0, 5))
@settings(deadline=None)  # the first call compiles
def test_no_question_or_long_answer_is_on_both_sides(
    rows: list[Record], val: float, seed: int
) -> None:
    training, validation = divided(rows, val, seed)
    assert sorted(r.id for r in [*training, *validation]) == sorted(r.id for r in rows)
    assert len(validation) <= (round(val * len(rows)) if val < 1 else val)
    for text in (lambda r: r.instruction, lambda r: r.output if len(r.output) > 10 else r.id):
        left = {normalised(text(row)) for row in training}
        assert not left & {normalised(text(row)) for row in validation}


def test_licences_are_combined_into_one_obligation() -> None:
    statement, warnings = combine({"CC-BY-NC-4.0": 3, "CC-BY-SA-3.0": 2, "MIT": 1})
    assert statement.startswith("non-commercial use only (CC-BY-NC-4.0); share-alike")
    assert warnings == []
    statement, warnings = combine({"": 4, "GPL-3.0-only": 1, "CC-BY-SA-4.0": 1})
    assert statement.endswith("not known for 4 rows")
    assert "4 rows have no stated licence" in warnings[0]
    assert "copyleft and share-alike" in warnings[1]


@pytest.mark.parametrize("amount", ["0", "1.5x", "-3", "many", "0.0"])
def test_a_bad_amount_is_named(amount: str) -> None:
    with pytest.raises(UserError, match="a number of rows"):
        parse_part(f"folder={amount}")


def test_a_lone_weight_and_an_impossible_split_are_refused(tmp_path: Path) -> None:
    a = data(tmp_path, "a", 5)
    with pytest.raises(UserError, match="the only weight"):
        mix([f"{a}=0.5"], tmp_path / "out")
    with pytest.raises(UserError, match="leaves no row for training"):
        mix([str(a)], tmp_path / "out", val=5)
    for val in (1.5, -0.1, float("nan"), float("inf")):
        with pytest.raises(UserError, match="share below 1"):
            mix([str(a)], tmp_path / "out", val=val)


def tagged(folder: Path, sizes: dict[str, int]) -> Path:
    file = folder / "tagged.json"
    rows = [
        {"instruction": f"{topic} question {n}", "output": f"{topic} {n}", "tags": {"topic": topic}}
        for topic, size in sizes.items()
        for n in range(size)
    ]
    file.write_text(json.dumps(rows))
    return file


def test_every_stratum_gives_its_share_of_the_validation_rows(tmp_path: Path) -> None:
    file = tagged(tmp_path, {"heart": 90, "lung": 45, "skin": 15})
    run = mix([str(file)], tmp_path / "out", val=0.2, stratify="topic")
    assert run.manifest.results["strata"] == {
        "heart": {"training": 72, "validation": 18},
        "lung": {"training": 36, "validation": 9},
        "skin": {"training": 12, "validation": 3},
    }


def test_a_tag_that_no_row_has_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no row has that tag"):
        mix([str(tagged(tmp_path, {"heart": 9}))], tmp_path / "out", stratify="organ")


def test_near_duplicates_never_stand_on_both_sides() -> None:
    rng = random.Random(3)
    records = []
    for _ in range(80):
        words = [f"w{rng.randrange(5000)}" for _ in range(40)]
        for _ in range(rng.randrange(1, 5)):
            copy = list(words)
            copy[rng.randrange(len(copy))] = f"edit{rng.randrange(10**6)}"
            records.append(Record(" ".join(copy[:10]), "", " ".join(copy[10:])))
    training, validation = divided(records, 0.3, 1)
    assert 0.2 * len(records) < len(validation) <= 0.3 * len(records) + 1
    likest = max(_jaccard(a, b) for a in validation for b in training)
    assert likest < 0.8
    apart, held_out = divided(records, 0.3, 1, near=1.0)
    assert max(_jaccard(a, b) for a in held_out for b in apart) >= 0.8, (
        "the rule is what keeps them"
    )


def _jaccard(a: Record, b: Record) -> float:
    first, second = (
        {tuple(words[i : i + 3]) for i in range(len(words) - 2)}
        for words in ((r.instruction + " " + r.output).split() for r in (a, b))
    )
    return len(first & second) / len(first | second)


# --------------------------------------------------------------------------- as it was in memory


def made_sets(folder: Path) -> list[str]:
    """Three files with copies, near-copies, rows without output and rows that are none."""
    rng = random.Random(11)
    words = [f"w{n}" for n in range(900)]
    sets = []
    for name, count in (("one", 260), ("two", 300), ("three", 90)):
        rows: list[dict] = []
        for n in range(count):
            kind = rng.randrange(12)
            text = [rng.choice(words) for _ in range(rng.randrange(8, 50))]
            row = {
                "instruction": " ".join(text[:6]),
                "input": " ".join(text[6:9]) if kind % 2 else "",
                "output": " ".join(text[9:]) + " end",
                "source": name if n % 7 else "",
                "licence": ("MIT", "CC-BY-NC-4.0", "")[n % 3],
                "tags": {"topic": ("heart", "lung", "skin")[n % 3]} if n % 11 else {},
            }
            if kind == 0 and rows:
                row = dict(rng.choice(rows))
            elif kind == 1 and rows:
                other = rng.choice(rows)
                row["instruction"], row["input"] = other["instruction"].upper(), other["input"]
            elif kind == 2 and rows:
                row["output"] = rng.choice(rows)["output"] + " edited"
            elif kind == 3:
                row["output"] = " "
            rows.append(row)
        rows.insert(5, {"no": "record"})
        rows.insert(9, {"instruction": 7})
        if name != "one":
            shared = json.loads((folder / "one.json").read_text())
            rows += [row for row in shared if "output" in row][:40]
        (folder / f"{name}.json").write_text(json.dumps(rows))
        sets.append(str(folder / f"{name}.json"))
    return sets


def told(folder: Path) -> str:
    """A hash of the rows of a mix in their order and of what its manifest says."""
    digest = hashlib.sha256()
    for name in ("rows.parquet", "validation.parquet", "rejected.parquet"):
        digest.update(json.dumps(pq.read_table(folder / name).to_pylist()).encode())
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in ("rows", "licences", "results", "warnings"):
        digest.update(json.dumps(manifest[name]).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("block", [2_000, 37])
@pytest.mark.parametrize(
    ("parts", "options", "expected"),
    [
        (
            ["{one}", "{two}", "{three}"],
            {},
            "a041725740c912c94673415dcc76f9c4301dc68691325ce70ed847a8e146df95",
        ),
        (
            ["{one}=0.6", "{two}=0.3", "{three}"],
            {"val": 40, "stratify": "topic", "seed": 3},
            "83323ff7850e6157a421683b4b4efc47f0d3a071d2c9e35b30001cbad19ed09d",
        ),
        (
            ["{three}=50", "{one}", "{two}=5000"],
            {"val": 0.3, "stratify": "source", "near": 0.6},
            "ff018992c5e27660f804f59edd113bb63461a0933576843c24f1c0a0694cf40c",
        ),
        (
            ["{one}", "{two}"],
            {"val": 0, "limit": 100},
            "acc13b7eabaa0bc7dc022fbd2fa8efac1de4862cc316b7bc1a8eb7e9f7b34cfd",
        ),
    ],
)
def test_the_mixture_is_the_one_that_was_made_in_memory(
    block: int,
    parts: list[str],
    options: dict,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hashes are those of the version that held all rows as objects."""
    monkeypatch.setattr(module, "BLOCK", block)
    monkeypatch.setattr(module, "ALONE", 10**6)
    monkeypatch.setattr(aside, "BUCKET", 5 * block)
    names = dict(zip(("one", "two", "three"), made_sets(tmp_path), strict=True))
    mix([part.format(**names) for part in parts], tmp_path / "out", **options)
    assert told(tmp_path / "out") == expected
    assert not (tmp_path / "out" / "aside").exists()


def test_rows_come_out_at_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "BUCKET", 7)
    order = np.random.default_rng(0).permutation(50)
    records = [Record(f"question {n}", tags={"n": str(n)}) for n in order]
    file = InOrder(tmp_path, "rows", SCHEMAS[Record])
    for at in range(0, 50, 8):
        file.add(to_table(records[at : at + 8], Record), order[at : at + 8])
    file.write(tmp_path / "rows.parquet")
    made = pq.ParquetFile(tmp_path / "rows.parquet")
    assert made.num_row_groups == 8
    assert [int(r.tags["n"]) for r in from_table(made.read(), Record)] == list(range(50))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]
