"""Every recipe's command lines parse as they come out of the shell, and the two papers' run."""

from __future__ import annotations

import hashlib
import json
import random
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from typer.exceptions import TyperException

from chat_server import ChatServer, completion
from meadowlark.dataset import read_manifest
from shell import MEADOWLARK, ROOT, bash, blocks, few, parse, put, run_guide
from tiny_model import make_tiny_model

RECIPES = sorted((ROOT / "recipes").glob("*.sh"))
NOTE = """#!/usr/bin/env bash
# Stands for meadowlark: notes the words it was given, NUL after each, and a line feed.
printf '%s\\0' "$@" >> "$NOTED"; printf '\\n' >> "$NOTED"
"""
SRUN = """#!/usr/bin/env bash
# Stands for srun: drops what starts the processes, and notes the rest.
while [ "$1" != meadowlark ]; do shift; done
shift
exec meadowlark "$@"
"""


def commands(recipe: Path, tmp_path: Path, *arguments: str) -> list[list[str]]:
    """The words of every command that a recipe gives to meadowlark, in order, run by none."""
    noted, bin_ = tmp_path / "noted", tmp_path / "bin"
    put(bin_, "meadowlark", NOTE)
    put(bin_, "srun", SRUN)
    put(bin_, "scontrol", "#!/bin/sh\necho node1\n")
    (tmp_path / "out" / "raw" / "one").mkdir(parents=True)
    given = {"SEEDS": "seeds.jsonl", "DATA": "data", "MEADOWLARK_DATA": "data"}
    raw = tmp_path / "raw"  # what medical-meadow.sh adds is there, and empty
    for name in re.findall(r"^ *add \S+ (\S+)", recipe.read_text(encoding="utf-8"), re.M):
        put(raw / Path(name).parent, Path(name).name, "")
    given |= {"RAW": str(raw)}
    given |= {"SLURM_JOB_ID": "1", "SLURM_JOB_NODELIST": "node[1-2]", "NOTED": str(noted)}
    words = [str(recipe), *(arguments or [str(tmp_path / "out")])]
    done = bash(words, bin_, tmp_path, given)
    assert done.returncode == 0, done.stderr
    lines = noted.read_text(encoding="utf-8").splitlines()
    return [line.split("\0")[:-1] for line in lines]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_every_command_line_of_a_recipe_parses(recipe: Path, tmp_path: Path) -> None:
    arguments = ("configs/alpacare-13b.toml", "--data", "mixed", "--out", "tuned")
    found = commands(recipe, tmp_path, *(arguments if "slurm" in recipe.stem else ()))
    assert found
    for words in found:
        parse(words)
        for word in words:
            assert not word.startswith("configs/") or (ROOT / word).is_file(), word


@pytest.mark.parametrize(
    "words",
    [
        ["mix", "a", "--out", "b", "--validation", "0.1"],
        ["exam", "hf:x", "--tasks", "medqa", "--protocol", "medalpaca"],
        ["filter", "a"],
        ["evaluate", "a"],
    ],
)
def test_the_parser_refuses_what_no_verb_takes(words: list[str]) -> None:
    with pytest.raises(TyperException):
        parse(words)


def test_the_papers_stages_stand_in_their_order(tmp_path: Path) -> None:
    verbs = [words[0] for words in commands(ROOT / "recipes" / "alpacare.sh", tmp_path)]
    assert list(dict.fromkeys(verbs)) == [
        "seeds", "generate", "respond", "clean", "mix", "stats", "check", "plan", "train",
        "package", "answer", "judge", "score", "exam", "report",
    ]  # fmt: skip
    assert verbs.count("judge") == 2


def test_medalpaca_mixes_every_source_of_the_paper_by_its_numbers(tmp_path: Path) -> None:
    found = commands(ROOT / "recipes" / "medalpaca.sh", tmp_path)
    converted = [words[1] for words in found if words[0] == "convert"]
    (mix,) = (words for words in found if words[0] == "mix")
    inputs = [Path(word).name for word in mix[1 : mix.index("--val")]]
    assert [name.partition("=")[0] for name in inputs] == converted
    assert len(converted) == 11  # the table's fourteen, five of them sites and one for testing only
    assert {name for name in inputs if "=" in name} == {
        "wikidoc=10000", "cord19=50000", "chatdoctor=10000",
    }  # fmt: skip
    assert mix[mix.index("--val") :][:4] == ["--val", "0.1", "--seed", "42"]


# The two papers in small: the recipes as they stand, on servers and files of these tests.

WORK = """#!/usr/bin/env python3
# Stands for meadowlark with the hub's sets and medAlpaca's own rows in a folder of this test.
import dataclasses, os, sys
from pathlib import Path
from meadowlark.cli import main
from meadowlark.sources import SOURCES
hub = Path(os.environ["HUB"])
for name, card in list(SOURCES.items()):
    if (hub / name).is_dir():
        local = dataclasses.replace(card.hub[0], name=str(hub / name), revision="", split="train")
        SOURCES[name] = dataclasses.replace(card, hub=(local,))
main()
"""
FRUIT = "apple pear plum grape melon peach lemon mango cherry fig date olive".split()
SMALL = """
[model]
base = "BASE"
[data]
path = "mixed"
template = "TEMPLATE"
max_length = 1024
too_long = "cut_input"
loss_on = "response"
[optimiser]
learning_rate = 1e-4
batch_rows = 8
max_steps = 2
[run]
seed = 42
"""


async def teacher_and_judge(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A list of tasks where one is asked for, a verdict where two outputs are shown, an answer."""
    content = body["messages"][-1]["content"]
    rng = random.Random(hashlib.sha256(content.encode()).digest())
    if "Output (a)" in content or "Output (b)" in content:
        return completion(rng.choice(["Output (a)", "Output (b)", "Tie", "I cannot say."]))
    if "write tasks 4 to 15." not in content:
        words = " ".join(rng.choice(FRUIT) for _ in range(12))
        return completion(f"The patient should rest and drink water, and then eat {words}.")
    tasks = []
    for number in range(4, 16):
        words = " ".join(f"{rng.choice(FRUIT)}{rng.randrange(10**6)}" for _ in range(8))
        tasks.append(
            f"{number}. Type: Chat\nTopic: diet\nView: nurse\nDifficulty: {1 + number % 5}\n"
            f"Instruction: Explain to a patient why {words} are good for the heart\nInput: x"
        )
    return completion("\n".join(f"###\n{task}" for task in tasks))


def work(guide: str, tmp_path: Path, **given: str) -> str:
    """Run a guide's blocks, which start a recipe, in a folder that looks like the repository's."""
    put(tmp_path / "bin", "meadowlark", WORK.replace("/usr/bin/env python3", sys.executable))
    for name in ("recipes", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    given |= {
        "HUB": str(tmp_path / "hub"),
        "HF_DATASETS_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "1",
    }
    return run_guide(ROOT / "docs" / guide, tmp_path / "bin", tmp_path, given)


def published_in_small(real: Path, data: Path) -> None:
    """What AlpaCare's recipe reads, a few rows of each; HEAD-QA's dev stands for its test."""
    alpacare, exams = real / "alpacare", real / "exams"
    few(alpacare / "MedInstruct-test.jsonl", data / "alpacare" / "MedInstruct-test.jsonl")
    own = Path("alpacare/model_outputs/AlpaCare-7b/iCliniq.json")
    few(real / own, data / own)
    for path in (alpacare / "reference_outputs").glob("*/*.jsonl"):
        few(path, data / path.relative_to(real), 1000)
    for name in ("medqa/phrases_no_exclude_test.jsonl", "medmcqa/dev.json"):
        few(exams / name, data / "exams" / name)
    few(exams / "headqa" / "dev_HEAD_EN.json", data / "exams" / "headqa" / "test_HEAD_EN.json")
    for path in (exams / "mmlu" / "test").glob("*.csv"):
        few(path, data / path.relative_to(real))
    truth = "pubmedqa/test_ground_truth.json"
    few(exams / truth, data / "exams" / truth)
    few(exams / "pubmedqa" / "ori_pqal.json", data / "exams" / "pubmedqa" / "ori_pqal.json", 1000)


def small(tmp_path: Path, template: str) -> dict[str, str]:
    """A tiny base and a run of two steps on it."""
    base = make_tiny_model(tmp_path / "base", template=None, context=1024)
    config = tmp_path / "small.toml"
    config.write_text(SMALL.replace("BASE", str(base)).replace("TEMPLATE", template))
    return {"CONFIG": str(config), "BASE": str(base), "GPUS": "1"}


@pytest.mark.slow
def test_alpacares_guide_runs_in_small_from_the_published_seeds_to_its_report(
    tmp_path: Path, real_data: Path
) -> None:
    shutil.copyfile(real_data / "alpacare" / "med_seed.json", tmp_path / "med_seed.json")
    published_in_small(real_data, tmp_path / "data")
    with ChatServer(teacher_and_judge) as server:
        spec = f"openai:scripted@{server.url}"
        said = work(
            "reproduce-alpacare.md", tmp_path, TEACHER=spec, ANSWERER=spec, JUDGE=spec,
            COUNT="60", BUDGET="1usd", **small(tmp_path, "alpaca"),
        )  # fmt: skip
    out = tmp_path / "runs" / "alpacare"
    assert "nothing was sent" in said
    assert not (out / "first-look").exists()
    assert read_manifest(out / "tasks").rows["kept"] == 60
    scores = json.loads((out / "scores-medinstruct_test" / "scores.json").read_text())
    against = {s["task"] for s in scores if s["metric"] == "win_rate"}
    for reference in ("text-davinci-003", "gpt-3.5-turbo", "gpt-4", "claude-2"):
        assert any(reference in task for task in against)
    assert any(s["n_unreadable"] for s in scores)
    assert (out / "report" / "report.html").is_file()


MAKE = f"""#!/bin/sh
exec /usr/bin/env -i PATH=/usr/bin:/bin make -n -C {ROOT} "$@"
"""
PIP = """#!/bin/sh
[ "$1" = install ]
"""


@pytest.mark.slow
def test_the_readmes_commands_run_in_their_order(tmp_path: Path, real_data: Path) -> None:
    """As written, with a scripted teacher and a tiny base; of ``make`` what it would do."""
    shutil.copyfile(
        ROOT / "src" / "meadowlark" / "demo" / "seeds.jsonl", tmp_path / "my-seeds.jsonl"
    )
    medquad = real_data / "meadow" / "medquad" / "medquad_all.tar.gz"
    (tmp_path / medquad.name).symlink_to(medquad)
    published_in_small(real_data, tmp_path)
    config = Path(small(tmp_path, "alpaca")["CONFIG"])
    (tmp_path / "configs").mkdir()
    config.rename(tmp_path / "configs" / "alpacare-7b.toml")
    put(tmp_path / "bin", "meadowlark", MEADOWLARK)
    put(tmp_path / "bin", "make", MAKE)
    put(tmp_path / "bin", "pip", PIP)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = [b.text for b in blocks(readme) if b.commands() or b.text.startswith("make ")]
    assert len(shown) == 2
    page = tmp_path / "README.md"
    page.write_text("".join(f"```bash\n{text}```\n\n" for text in shown))
    with ChatServer(teacher_and_judge) as server:
        given = {"http://localhost:8000/v1": server.url, "HF_HUB_OFFLINE": "1"}
        said = run_guide(page, tmp_path / "bin", tmp_path, given)
    assert "meadowlark demo --out runs/demo" in said
    assert "pytest" in said
    runs = tmp_path / "runs"
    assert read_manifest(runs / "generated").rows["kept"] > 900
    assert read_manifest(runs / "mixed").rows["kept"] > 2000
    assert (runs / "report" / "report.html").is_file()
    assert (runs / "served" / "README.md").is_file()


USMLE = [
    {
        "no": n,
        "question": f"Which fruit has stone number {n}?",
        "options": dict(zip("ABCDE", FRUIT[:5], strict=True)),
    }
    for n in range(1, 5)
]


@pytest.mark.slow
def test_medalpacas_guide_runs_in_small_from_the_hubs_columns_to_its_report(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    rng = random.Random(3)

    def words(n: int) -> str:
        return " ".join(rng.choice(FRUIT) for _ in range(n))

    def sets() -> Iterator[tuple[str, dict[str, Any]]]:
        for name in ("medical_flashcards", "wikidoc", "wikidoc_patient_information", "mediqa",
                     "cord19", "mmlu_medical", "chatdoctor"):  # fmt: skip
            for n in range(12):
                yield (
                    name,
                    {
                        "instruction": f"Answer this question of {name} truthfully",
                        "input": f"What is known of {words(6)}, case {n}?",
                        "output": f"It is known that {words(9)} is good for the patient.",
                    },
                )
        for name, said in (("health_advice", "This is a strong advice"),
                           ("pubmed_causal", "This is a causative relationship")):  # fmt: skip
            for n in range(12):
                yield (
                    name,
                    {
                        "instruction": "What does the text say?",
                        "input": f"In trial {n}, {words(8)} lowered the risk.",
                        "output": said,
                    },
                )
        for n in range(6):
            yield "stackexchange", {
                "qid": n, "question": f"<p>Why is {words(7)} healthy?</p>",
                "metadata": [f"https://health.stackexchange.com/questions/{n}"],
                "answers": [{"answer_id": n, "text": f"<p>Because {words(8)}.</p>",
                             "pm_score": 4, "selected": False}],
            }  # fmt: skip
        for n in range(6):
            for role, own, parent in (("prompter", f"p{n}", None), ("assistant", f"a{n}", f"p{n}")):
                yield "oasst", {
                    "message_id": own, "parent_id": parent, "message_tree_id": f"p{n}",
                    "role": role, "lang": "en", "text": f"Tell me of {words(7)}.", "rank": 0,
                    "deleted": False, "review_result": True, "tree_state": "ready_for_export",
                }  # fmt: skip

    for name, row in sets():
        folder = tmp_path / "hub" / name
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "train.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
    for step in (1, 2, 3):
        usmle = tmp_path / "data" / "usmle"
        usmle.mkdir(parents=True, exist_ok=True)
        (usmle / f"step{step}.json").write_text(json.dumps(USMLE))
        (usmle / f"step{step}_solutions.json").write_text(
            json.dumps({str(n): "A" for n in range(1, 5)})
        )
    work("reproduce-medalpaca.md", tmp_path, **small(tmp_path, "medalpaca"))
    out = tmp_path / "runs" / "medalpaca"
    assert (out / "report" / "report.html").is_file()
    mixed = read_manifest(out / "mixed")
    assert mixed.rows["kept"] > 60
    assert sorted(p.name for p in (out / "clean").iterdir()) == sorted({name for name, _ in sets()})
    scores = json.loads((out / "usmle-faithful" / "scores.json").read_text())
    assert {s["task"] for s in scores} >= {f"usmle_step{n}" for n in (1, 2, 3)}
