"""Quotas: exact apportionment, proportional asking, more of what is behind, deterministic."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meadowlark.dataset import read, read_manifest
from meadowlark.errors import FolderDiffers, UserError
from meadowlark.labels import TOPIC_AREAS, TYPES, VIEWS, topic_area
from meadowlark.llm import ChatRequest, Policy, ScriptedModel
from meadowlark.records import Record
from meadowlark.synth.generate import generate
from meadowlark.synth.quotas import Balance, apportion, read_quotas
from meadowlark.synth.task_requests import RequestForm

DIFFICULTY = "difficulty=1:10,2:20,3:30,4:30,5:10"
TEACHER = "openai:m@http://test/v1"


def test_shares_come_from_words_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "quota.toml"
    file.write_text('[view]\nPatient = 3\n"*" = 1\n[topic]\noncology = 0.5\n')
    shares = read_quotas([DIFFICULTY, str(file)])
    assert shares["difficulty"]["3"] == pytest.approx(0.3)
    assert shares["view"] == {"patient": 0.75, "*": 0.25}
    assert shares["topic"] == {"oncology": 1.0}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("dificulty=1:1", "Did you mean 'difficulty'"),
        ("view=pharmcist:1", "Did you mean 'pharmacist'"),
        ("difficulty=6:1", "unknown difficulty in a quota '6'"),
        ("difficulty=1:0", "not a positive number"),
        ("difficulty=1:x", "not a positive number"),
        ("difficulty=1:nan", "not a positive number"),
        ("difficulty=1:1,1:2", "gives '1' twice"),
        ("difficulty", "is no quota"),
        ("difficulty=1", "is no quota"),
        ("none.toml", "cannot be read as a quota"),
    ],
)
def test_a_mistake_in_a_quota_is_explained(word: str, said: str) -> None:
    with pytest.raises(UserError, match=re.escape(said)):
        read_quotas([word])


def test_a_label_given_twice_is_refused() -> None:
    with pytest.raises(UserError, match="given twice"):
        read_quotas([DIFFICULTY, DIFFICULTY])


def test_every_value_of_the_vocabulary_can_be_written_in_a_quota() -> None:
    for label, values in (("type", TYPES), ("topic", TOPIC_AREAS), ("view", VIEWS)):
        word = f"{label}=" + ",".join(f"{value}:1" for value in values)
        assert list(read_quotas([word])[label]) == list(values)
    assert all(topic_area(name) == name for name in TOPIC_AREAS)


weights = st.lists(st.integers(1, 50), min_size=1, max_size=5)


@given(weights, st.integers(0, 5000))
def test_apportioned_numbers_add_up_and_are_off_by_less_than_one(
    parts: list[int], count: int
) -> None:
    shares = {str(n): part / sum(parts) for n, part in enumerate(parts, start=1)}
    whole = apportion(shares, count)
    assert sum(whole.values()) == count
    assert all(abs(whole[value] - share * count) < 1 for value, share in shares.items())


@given(weights, st.integers(1, 30), st.integers(0, 10**6))
def test_labels_are_asked_for_in_proportion(parts: list[int], tasks: int, seed: int) -> None:
    word = "difficulty=" + ",".join(f"{n}:{part}" for n, part in enumerate(parts, start=1))
    balance = Balance(read_quotas([word]), 0)
    asked = Counter(w["difficulty"] for w in balance.wanted(tasks, 600, random.Random(seed)))
    assert sum(asked.values()) == tasks
    for n, part in enumerate(parts, start=1):
        assert abs(asked[str(n)] - tasks * part / sum(parts)) < 1 + 1e-9


def test_what_is_behind_is_asked_for_more() -> None:
    balance = Balance(read_quotas(["difficulty=1:50,2:50"]), 1000)
    for _ in range(100):
        balance.add({"difficulty": "1"})
    wanted = [w for n in range(50) for w in balance.wanted(12, 300, random.Random(n))]
    share = sum(w["difficulty"] == "2" for w in wanted) / len(wanted)
    assert share == pytest.approx(200 / 300, abs=0.02)  # 400 / 2 of each, 100 and 0 there


@pytest.fixture
def seeds(tmp_path: Path) -> Path:
    path = tmp_path / "seeds.jsonl"
    rows = [
        {"instruction": f"Seed {n} of {'abcdefgh'[n]}.", "type": "chat", "difficulty": 2}
        for n in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def obedient(request: ChatRequest) -> str:
    """A teacher that gives the labels it is asked for, but is worse at difficult tasks."""
    rng = random.Random(request.key("", "") + str(request.draw))
    lines = []
    asked = re.findall(r"(?m)^(\d+)\. (Difficulty.*|View.*|as you like)$", request.turns[1].content)
    for number, labels in asked:
        level = (re.search(r"Difficulty: (\d)", labels) or [0, rng.choice("12345")])[1]
        view = (re.search(r"View: ([a-z ]+)", labels) or [0, rng.choice(["nurse", "patient"])])[1]
        words = " ".join(str(rng.randrange(10**6)) for _ in range(6))
        if level == "5" and rng.random() < 0.5:
            words = "Always the same difficult task about the heart."
        lines.append(
            f"###\n{number}. Type: chat\nTopic: t\nView: {view}\nDifficulty: {level}\n"
            f"Instruction: {words}\nInput: <noinput>"
        )
    return "\n".join(lines)


def counts(out: Path, label: str) -> dict[str, int]:
    return dict(sorted(Counter(row.tags[label] for row in read(out, Record)[0]).items()))


def test_the_kept_tasks_have_exactly_the_asked_balance(seeds: Path, tmp_path: Path) -> None:
    quotas = [DIFFICULTY, "view=midwife:25,*:75"]
    run = generate(
        seeds, TEACHER, 400, tmp_path / "out", quotas=quotas, steer_after=8,
        policy=Policy(concurrency=5), model=ScriptedModel(obedient),
    )  # fmt: skip
    assert run.manifest.warnings == []
    assert counts(tmp_path / "out", "difficulty") == {"1": 40, "2": 80, "3": 120, "4": 120, "5": 40}
    assert counts(tmp_path / "out", "view")["midwife"] == 100
    # Half of the hardest fail the filter: of those more is asked for, as the run goes.
    blind = generate(
        seeds, TEACHER, 400, tmp_path / "blind", quotas=quotas, steer_after=1000,
        model=ScriptedModel(obedient),
    )  # fmt: skip
    assert run.manifest.results["yield"] > blind.manifest.results["yield"] + 0.1
    rejected = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    full = [r["detail"] for r in rejected if r["reason"] == "quota full"]
    assert full
    assert all(re.fullmatch(r"(difficulty|view) .+: \d+ kept", detail) for detail in full)


def test_quotas_do_not_depend_on_timing_and_resume(seeds: Path, tmp_path: Path) -> None:
    tables, asked = [], []
    for concurrency in (1, 8):
        model = ScriptedModel(
            obedient, delay_s=lambda r, c=concurrency: 0 if c == 1 else hash(r.label) % 5 / 2000
        )
        out = tmp_path / str(concurrency)
        generate(
            seeds, TEACHER, 150, out, quotas=[DIFFICULTY], use_generated=2, steer_after=8,
            policy=Policy(concurrency=concurrency), model=model,
        )  # fmt: skip
        tables.append((out / "rows.parquet").read_bytes())
        asked.append({r.label: r.turns for r in model.asked})
    assert tables[0] == tables[1]
    same = asked[0].keys() & asked[1].keys()
    assert all(asked[0][label] == asked[1][label] for label in same)
    # From a journal that ends in the middle the rest gives the same rows.
    manifest = read_manifest(tmp_path / "8")
    (tmp_path / "8" / "manifest.json").unlink()
    started = {**json.loads(json.dumps(manifest.__dict__)), "outputs": {}}
    (tmp_path / "8" / "started.json").write_text(json.dumps(started))
    again = ScriptedModel(obedient)
    generate(
        seeds, TEACHER, 150, tmp_path / "8", quotas=[DIFFICULTY], use_generated=2, steer_after=8,
        policy=Policy(concurrency=3), model=again,
    )  # fmt: skip
    assert (tmp_path / "8" / "rows.parquet").read_bytes() == tables[0]
    assert again.asked == []


def test_generated_tasks_are_shown_once_they_are_known(seeds: Path, tmp_path: Path) -> None:
    def teacher(request: ChatRequest) -> str:
        text = obedient(request)
        return text or (
            "###\n5. Type: chat\nTopic: t\nView: nurse\nDifficulty: 1\n"
            f"Instruction: {request.label} {random.Random(request.label).random()}\nInput: x"
        )

    model = ScriptedModel(teacher)
    out = tmp_path / "out"
    generate(
        seeds, TEACHER, 30, out, use_generated=2, steer_after=5, form=RequestForm(tasks=1),
        policy=Policy(concurrency=5), model=model,
    )  # fmt: skip
    rows, _ = read(out, Record)
    by_id = {row.id: row for row in rows}
    seed_ids = {seed.id for seed in read(seeds, Record)[0]}
    shown = [[parent for parent in row.parents if parent in by_id] for row in rows]
    assert [len(ids) for ids in shown[:5]] == [0] * 5
    assert all(len(ids) == 2 for ids in shown[7:])
    for row, ids in zip(rows, shown, strict=True):
        number = int(row.tags["request"].partition(":")[2])
        earlier = [int(by_id[i].tags["request"].partition(":")[2]) for i in ids]
        assert all(other <= number - 5 for other in earlier)
        assert len([p for p in row.parents if p in seed_ids]) == 3


def test_more_in_flight_than_steering_allows_is_refused(seeds: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"60 requests in flight.*raise --steer-after"):
        generate(
            seeds, TEACHER, 9, tmp_path / "o", quotas=[DIFFICULTY], policy=Policy(concurrency=60)
        )
    generate(seeds, TEACHER, 9, tmp_path / "o", quotas=[DIFFICULTY], model=ScriptedModel(obedient))
    with pytest.raises(FolderDiffers, match="quotas"):
        generate(seeds, TEACHER, 9, tmp_path / "o", model=ScriptedModel([]))


def test_a_teacher_that_cannot_fill_a_quota_ends_with_the_reason(
    seeds: Path, tmp_path: Path
) -> None:
    def stubborn(request: ChatRequest) -> str:
        return re.sub(r"Difficulty: \d\n", "Difficulty: 3\n", obedient(request))

    run = generate(
        seeds, TEACHER, 500, tmp_path / "o", quotas=["difficulty=3:10,5:90"],
        model=ScriptedModel(stubborn),
    )  # fmt: skip
    (warning,) = run.manifest.warnings
    assert "with 50 of 500 tasks" in warning
    assert "quota full" in warning
    assert "other quotas" in warning
