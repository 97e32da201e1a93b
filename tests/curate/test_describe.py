"""Descriptions of data: AlpaCare's entropy, verbs by rules, lengths over what is there."""

import json
import math
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import pytest

from meadowlark.cli import run
from meadowlark.curate.describe import describe
from meadowlark.curate.verbs import (
    linguistic_entropy,
    root_and_object,
    verb_and_object,
    verb_noun_pairs,
)
from meadowlark.dataset import read
from meadowlark.records import Record


@pytest.mark.parametrize(
    ("instruction", "found"),
    [
        ("Explain the role of insulin.", ("explain", "role")),
        ("Write a detailed patient discharge summary for him.", ("write", "summary")),
        ("As a nurse, list the common side effects of iron.", ("list", "effect")),
        ("Can you please describe your symptoms?", ("describe", "symptom")),
        ("Given this report, classify it.", ("classify", "")),
        ("Give me advice on therapies", ("give", "advice")),
        ("Discuss the main factors contributing to sepsis.", ("discuss", "factor")),
        ("Explain briefly", ("explain", "")),
        ("I've had a headache since Monday.", None),
        ("What is fever?", None),
        ("You are given a case. Choose.", None),
        ("Write an essay explaining the causes of gout.", ("write", "essay")),
        ("Ask questions you may have.", ("ask", "question")),
        ("Interpret this report & classify it.", ("interpret", "report")),
        ("", None),
    ],
)
def test_an_instructions_verb_and_object_are_found_by_rules(
    instruction: str, found: tuple[str, str] | None
) -> None:
    assert verb_and_object(instruction) == found


def test_a_parse_gives_the_roots_first_object() -> None:
    def token(lemma: str, dep: str, pos: str, *children: object) -> SimpleNamespace:
        return SimpleNamespace(lemma_=lemma, dep_=dep, pos_=pos, children=children)

    objects = [token(noun, "dobj", "NOUN") for noun in ("Cause", "sign")]
    root = token("list", "ROOT", "VERB", token("please", "intj", "INTJ"), *objects)
    assert root_and_object([objects[0], root]) == ("list", "cause")
    assert root_and_object([token("go", "ROOT", "VERB")]) == ("go", "")
    assert root_and_object([token("be", "ROOT", "AUX", *objects)]) is None
    assert root_and_object([]) is None


def test_entropy_is_the_papers_formula() -> None:
    pairs = [("write", "note", 2), ("write", "letter", 1), ("list", "cause", 1)]
    assert linguistic_entropy(pairs) == pytest.approx(1.5)
    assert linguistic_entropy([("a", "b", 1)] * 80) == pytest.approx(math.log2(80))
    assert linguistic_entropy([]) == 0.0


def test_at_most_four_objects_of_twenty_verbs() -> None:
    tasks = [f"verb{v} thing{o}x" for v in "abcdefghijklmnopqrstuvwxyz" for o in "abcdef"]
    pairs = verb_noun_pairs(tasks)
    assert len(pairs) == 80
    assert len({verb for verb, _, _ in pairs}) == 20


def test_describe_counts_what_is_there() -> None:
    rows = [
        Record("List causes", "", "x" * 10, source="s", licence="MIT", tags={"type": "chat"}),
        Record("List causes", "i" * 4, "", source="s", tags={"type": "chat", "view": "nurse"}),
    ]
    found = describe(rows)
    assert found["rows"] == 2
    assert found["without_input"] == found["without_output"] == 1
    assert found["labels"] == {"type": {"chat": 2}, "view": {"nurse": 1}}
    assert found["licences"] == {"": 1, "MIT": 1}
    assert found["characters"]["output"]["mean"] == 10
    assert found["characters"]["output"]["n"] == 1
    assert found["words"]["instruction"]["median"] == 2
    assert found["distinct_instructions"] == 1
    assert describe([])["rows"] == 0


def test_stats_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([{"instruction": "List [bold]causes[/bold]", "type": "chat"}, 3]))
    assert run(["stats", str(file), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"chat +1 +100%", printed)
    found = json.loads((tmp_path / "out" / "stats.json").read_text())["datasets"]["rows.json"]
    assert found["rows"] == 1
    assert found["unreadable"] == 1
    assert run(["stats", str(file), "--json", str(tmp_path / "same.json")]) == 0
    again = json.loads((tmp_path / "same.json").read_text())
    assert again == json.loads((tmp_path / "out" / "stats.json").read_text())


def test_seeds_and_generated_tasks_are_counted_in_one_vocabulary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seeds, tasks = tmp_path / "seeds.json", tmp_path / "tasks.json"
    labels = ("type", "view", "difficulty", "topic")
    written = [("Rewrites", "Nurses", "Level 2", "Asthma"), ("Rewrite", "A nurse", "4/5", "Lungs")]
    rows = [{"instruction": "Do it.", **dict(zip(labels, row, strict=True))} for row in written]
    seeds.write_text(json.dumps(rows))
    made = {"type": "rewriting", "type_original": "Rewrite Task", "view": "nurse", "topic": "COPD"}
    tasks.write_text(json.dumps([{"instruction": "Do.", "tags": {**made, "difficulty": "2"}}] * 3))
    assert run(["stats", str(seeds), str(tasks), "--json", str(tmp_path / "s.json")]) == 0
    found = json.loads((tmp_path / "s.json").read_text())["datasets"]
    assert found["seeds.json"]["labels"]["type"] == {"rewriting": 2}
    assert found["seeds.json"]["labels"]["difficulty"] == {"2": 1, "4": 1}
    assert found["tasks.json"]["labels"]["type"] == {"rewriting": 3}
    assert found["seeds.json"]["labels"]["topic_area"] == {"pulmonology": 2}
    assert found["tasks.json"]["labels"]["topic_area"] == {"pulmonology": 3}
    assert found["seeds.json"]["labels_as_written"]["type"] == {"distinct": 2, "top_20_share": 1.0}
    printed = capsys.readouterr().out
    assert re.search(r"type +seeds.json +tasks.json *\n +rewriting +2 +100% +3 +100%", printed)


def test_labels_of_another_vocabulary_stay() -> None:
    row = Record("Q", tags={"type": "susceptibility", "view": "Martian", "difficulty": "unknown"})
    assert describe([row])["labels"] == {
        "type": {"susceptibility": 1},
        "view": {"Martian": 1},
        "difficulty": {"unknown": 1},
    }


def test_alpacares_seeds_are_described_as_a_plain_count_says(real_data: Path) -> None:
    """Oracles: Counter over the raw file, scipy's entropy over the pairs."""
    stats = pytest.importorskip("scipy.stats")
    path = real_data / "alpacare" / "med_seed.json"
    raw = json.loads(path.read_text(encoding="utf-8"))
    found = describe(read(path, Record)[0])
    assert (found["rows"], found["without_input"]) == (167, 55)
    for label in ("type", "view", "topic"):
        counts = Counter(str(row[label]) for row in raw)
        top = sum(n for _, n in counts.most_common(20))
        assert found["labels_as_written"][label] == {
            "distinct": len(counts),
            "top_20_share": round(top / 167, 4),
        }
    assert found["labels"]["difficulty"] == Counter(str(row["difficulty"]) for row in raw)
    assert sum(found["labels"]["type"].values()) == 167
    assert len(found["labels"]["type"]) == 10
    pairs = [pair["count"] for pair in found["verb_noun"]["pairs"]]
    assert found["linguistic_entropy_bits"] == pytest.approx(stats.entropy(pairs, base=2))
    assert len(pairs) <= 80
    words = [len(row["instruction"].split()) for row in raw]
    assert found["words"]["instruction"]["mean"] == pytest.approx(sum(words) / 167, abs=0.05)


def test_the_figures_pairs_are_those_seen_more_than_ten_times() -> None:
    rows = [Record("List causes.")] * 11 + [Record("Write notes.")] * 10
    verbs = describe(rows)["verb_noun"]
    assert verbs["pairs_in_figure"] == 1
    assert verbs["share_in_figure"] == pytest.approx(11 / 21)
    assert verbs["share_of_rows"] == 1.0
