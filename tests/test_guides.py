"""The guides in docs/ are true: their blocks run in order as written, their messages are ours."""

from __future__ import annotations

import ast
import functools
import hashlib
import json
import random
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from aiohttp import web
from typer.exceptions import TyperException

from chat_server import ChatServer, completion
from meadowlark.dataset import FILE_OF, read, read_manifest, write_table
from meadowlark.records import Answer, Question, Record, Verdict, to_table
from meadowlark.sources import SOURCES
from shell import MEADOWLARK, ROOT, Block, blocks, few, parse, put, run_guide
from tiny_model import make_tiny_model

DOCS = ROOT / "docs"
GENERATED = {"cli.md", "formats.md"}
GUIDES = [page for page in sorted(DOCS.glob("*.md")) if page.name not in GENERATED]
MOST_NOT_RUN = 5
READING = {page: page.read_text(encoding="utf-8") for page in GUIDES}


def typed() -> list[tuple[str, int, str]]:
    """Every command in a block of every guide, the README and the reference, with its place."""
    more = (ROOT / "README.md", DOCS / "cli.md")
    pages = READING | {page: page.read_text(encoding="utf-8") for page in more}
    return [
        (page.name, block.line, command)
        for page, text in pages.items()
        for block in blocks(text)
        for command in block.commands()
    ]


@pytest.mark.parametrize(("page", "line", "command"), typed())
def test_every_command_that_a_guide_shows_parses(page: str, line: int, command: str) -> None:
    words = shlex.split(re.split(r" #| \|\|? ", command)[0])
    if words[1:] == ["--help"]:
        return
    try:
        parse(words[1:])
    except TyperException as error:
        pytest.fail(f"{page}, line {line}: {command}: {error}")


def test_at_most_five_blocks_are_not_run_and_each_says_why() -> None:
    left_out = [block.not_run for text in READING.values() for block in blocks(text)]
    reasons = [reason for reason in left_out if reason]
    assert len(reasons) <= MOST_NOT_RUN
    assert all(len(reason.split()) >= 4 for reason in reasons)


def guide(name: str, folder: Path, given: Mapping[str, str] = MappingProxyType({})) -> str:
    """Run a guide in an empty folder ``folder``/work."""
    put(folder / "bin", "meadowlark", MEADOWLARK)
    (folder / "work").mkdir(exist_ok=True)
    return run_guide(ROOT / "docs" / name, folder / "bin", folder / "work", given)


@pytest.mark.slow
def test_the_tutorial_runs_word_by_word(tmp_path: Path) -> None:
    said = guide("tutorial.md", tmp_path)
    assert "nothing found wanting" in said
    page = (tmp_path / "work" / "runs" / "report" / "report.html").read_text(encoding="utf-8")
    assert "<h1>My first run</h1>" in page
    runs = tmp_path / "work" / "runs"
    for folder in ("tasks", "distinct", "generated", "converted", "mixed", "model", "scores"):
        assert (runs / folder / "manifest.json").is_file()
    people, _ = read(runs / "people" / "export", Verdict)
    assert len(people) == 2 * (10 + 2)  # two criteria; two of the ten are everybody's
    assert {(v.a, v.b) for v in people} == {("trained", "untrained")}
    assert '"role":"assistant"' in said.replace(" ", "")
    assert len(read(runs / "votes" / "verdicts.jsonl", Verdict)[0]) == 3


def test_the_tutorial_has_a_stage_a_block() -> None:
    verbs = [
        command.split()[1]
        for block in blocks(READING[DOCS / "tutorial.md"])
        for command in block.commands()
    ]
    assert set(verbs) >= {
        "seeds", "generate", "filter", "respond", "convert", "clean", "mix", "check", "train",
        "exam", "answer", "judge", "annotate", "score", "report", "chat", "serve",
    }  # fmt: skip


async def ward(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A teacher in the house, by the request alone: lists of tasks, and answers with a person."""
    content = body["messages"][-1]["content"]
    rng = random.Random(hashlib.sha256(content.encode()).digest())
    words = [" ".join(f"w{rng.randrange(10**6)}" for _ in range(8)) for _ in range(12)]
    if "write tasks 4 to 15." not in content:
        return completion(f"Dr. Helen Marsh (555-201-7788) says that {words[0]} help the patient.")
    layout = "{n}. Type: Chat\nTopic: t\nView: nurse\nDifficulty: 2\nInstruction: {i}\nInput: x"
    tasks = [layout.format(n=n, i=f"Explain {i}") for n, i in enumerate(words, start=4)]
    return completion("\n".join(f"###\n{task}" for task in tasks))


@pytest.mark.slow
def test_the_hospitals_guide_runs_and_no_key_and_no_patient_is_left(
    tmp_path: Path, search_for: Callable[[Path, str], dict[str, Any]]
) -> None:
    with ChatServer(ward) as server:
        said = guide("hospital-data.md", tmp_path, {"http://localhost:8000/v1": server.url})
        keys = {headers.get("Authorization") for headers, _ in server.asked}
    runs = tmp_path / "work" / "runs"
    assert keys == {"Bearer only-in-the-environment"}
    assert search_for(runs, "only-in-the-environment")["found_in"] == []
    assert "-rw-------" in said
    for folder in ("redacted", "mixed"):
        rows, _ = read(runs / folder, Record)
        assert rows
        for value in ("Whitfield", "4482913", "201-7788", "Helen Marsh", "12 May 2023"):
            assert not any(value in row.input + row.output for row in rows), value


RUN = {"tutorial.md", "hospital-data.md", "troubleshooting.md", "curation.md", "judging.md",
       "training.md", "annotating.md", "serving.md", "exams.md", "private-data.md",
       "models.md"}  # fmt: skip
"""What is run here; the papers' guides are in test_recipes.py, teacher.md in test_teacher_guide."""
ELSEWHERE = {"reproduce-alpacare.md", "reproduce-medalpaca.md", "teacher.md"}
SHOWN = {"adding-a-source.md"}
"""Its Python is a module's own text, which tests/sources/test_medquad_example.py compares."""


def test_no_command_stands_in_a_block_that_no_test_runs() -> None:
    for page, text in READING.items():
        found = blocks(text)
        assert not [b for b in found if b.language != "bash" and b.commands()], page.name
        assert {b.language for b in found} <= {"", "bash", "python", "toml"}, page.name
        if any(b.language in ("bash", "python") for b in found):
            assert page.name in RUN | ELSEWHERE | SHOWN


@pytest.mark.parametrize(
    "block", [b for text in READING.values() for b in blocks(text) if b.language == "toml"]
)
def test_every_file_that_a_guide_shows_is_toml(block: Block) -> None:
    assert tomllib.loads(block.text)


def rows(folder: Path, n: int, start: int = 0) -> None:
    """A folder of the shipped patients' questions with their answers, with a topic each."""
    card = SOURCES["patient_questions"]
    assert card.shipped is not None
    found = [row for row in card.rows(card.shipped) if isinstance(row, Record)]
    chosen = [row.evolve(tags={"topic": "fever"}) for row in found[start : start + n]]
    assert len(chosen) == n
    assert all(row.output for row in chosen)
    folder.mkdir(parents=True)
    write_table(folder / "rows.parquet", to_table(chosen, Record))


@pytest.mark.slow
def test_the_guide_to_curation_runs(tmp_path: Path, real_data: Path) -> None:
    for place, name in enumerate(("rows", "wikidoc", "medquad", "generated")):
        rows(tmp_path / "work" / "runs" / name, 30, 30 * place)
    # Converted questions share one instruction, which the filter is not for.
    seeds, _ = read(ROOT / "src" / "meadowlark" / "demo" / "seeds.jsonl", Record)
    tasks = tmp_path / "work" / "runs" / "tasks"
    tasks.mkdir()
    write_table(tasks / "rows.parquet", to_table(seeds, Record))
    guide("curation.md", tmp_path, {"MEADOWLARK_DATA": str(real_data)})
    made = tmp_path / "work" / "runs"
    for folder in ("filtered-as-alpacare", "clean-of-exams", "clean-by-rules", "mixed-by-topic"):
        assert read_manifest(made / folder).rows["kept"] > 0
    assert read_manifest(made / "clean-by-rules").options["rules"]


def test_the_guide_to_training_plans_what_it_says(tmp_path: Path) -> None:
    work = tmp_path / "work"
    rows(work / "mixed", 60)
    (work / "configs").symlink_to(ROOT / "configs")
    assert "NVIDIA H100" in guide("training.md", tmp_path, {"HF_HUB_OFFLINE": "1"})


async def judge(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    """A verdict by the request alone."""
    content = body["messages"][-1]["content"]
    return completion(["Output (a)", "Output (b)", "Tie"][len(content) % 3])


@pytest.mark.slow
def test_the_guide_to_judging_runs(tmp_path: Path, real_data: Path) -> None:
    work = tmp_path / "work"
    prompts = Path("alpacare/MedInstruct-test.jsonl")
    few(real_data / prompts, work / "DATA" / prompts, 4)
    few(real_data / prompts, work / prompts.name, 4)
    for name in ("gpt-4", "claude-2"):
        answers = real_data / "alpacare" / "reference_outputs" / name / "medsi_output.jsonl"
        few(answers, work / "published" / f"{name}.jsonl", 300)
    make_tiny_model(work / "runs" / "tuned", context=4096)
    keys = {"OPENAI_API_KEY": "none", "ANTHROPIC_API_KEY": "none"}
    with ChatServer(judge) as server:
        said = guide("judging.md", tmp_path, keys | {"http://localhost:8000/v1": server.url})
        assert len(server.asked) == 4 * 2 * 2
    assert "nothing was sent" in said
    assert "3 points from 50 % need 2,178 prompts" in said
    assert (work / "runs" / "report" / "report.html").is_file()


@pytest.mark.slow
def test_the_guide_to_exams_runs(tmp_path: Path) -> None:
    work = tmp_path / "work"
    make_tiny_model(work / "runs" / "model", context=1024)
    (work / "ward.csv").write_text(
        "nr,stem,a,b,c,d,key,passage\nq1,What makes bile?,Liver,Lung,Heart,Skin,A,gut\n"
        "q2,What pumps blood?,Liver,Lung,Heart,Skin,C,chest\n"
    )
    (work / "worked.csv").write_text(
        "nr,stem,a,b,c,d,key,passage\nw2,What sweats?,Liver,Lung,Heart,Skin,D,skin\n"
        "w7,What breathes?,Liver,Lung,Heart,Skin,B,chest\n"
    )
    said = guide("exams.md", tmp_path)
    assert read_manifest(work / "runs" / "exam").rows["kept"] == 80
    assert "ward" in said
    assert read_manifest(work / "runs" / "ward").rows["kept"] == 2


def test_the_guide_to_private_data_runs(tmp_path: Path) -> None:
    runs = tmp_path / "work" / "runs"
    note = "Mrs. Eleanor Whitfield (MRN 4482913) was seen on 12 May 2023. What now?"
    (runs / "rows").mkdir(parents=True)
    rows = [Record(note, output="Rest."), Record("What is fever?", output="Heat.")]
    write_table(runs / "rows" / "rows.parquet", to_table(rows, Record))
    said = guide("private-data.md", tmp_path)
    assert "Whitfield" not in said
    assert "4482913" not in said
    flagged, _ = read(runs / "flagged", Record)
    assert [("private_data" in row.tags) for row in flagged] == [True, False]


def test_the_guide_to_models_shows_its_own_models_toml(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "certificates").mkdir()
    (tmp_path / "home" / "certificates" / "hospital.pem").write_text("")
    said = guide("models.md", tmp_path, {"HOME": str(tmp_path / "home")})
    for word in ("teacher", "azure", "llama-3.3-70b", "HOSPITAL_LLM_KEY"):
        assert word in said


def answered(folder: Path, model: str) -> None:
    """A model's answers to five questions, as ``answer`` leaves them."""
    questions = [Question(f"q{n}", "own", f"What helps with a cold, case {n}?") for n in range(5)]
    answers = [Answer(q.id, model, text=f"Rest, in case {q.id}.") for q in questions]
    folder.mkdir(parents=True)
    write_table(folder / FILE_OF[Question], to_table(questions, Question))
    write_table(folder / FILE_OF[Answer], to_table(answers, Answer))


def test_the_guide_to_annotating_runs(tmp_path: Path) -> None:
    runs = tmp_path / "work" / "runs"
    answered(runs / "tuned", "one")
    answered(runs / "untuned", "other")
    rows(runs / "generated", 4)
    said = guide("annotating.md", tmp_path)
    assert "listening on https://annotate.hospital.example" in said
    verdicts, _ = read(runs / "verdicts", Verdict)
    assert {(v.by, v.a, v.b) for v in verdicts} == {
        (f"human:{name}", "one", "other") for name in ("Ada", "Grace")
    }
    assert len(verdicts) == 2 * (5 + 1)  # two criteria; one item of five is everybody's
    assert read(runs / "people" / "export", Verdict)[0] == verdicts
    assert json.loads((runs / "scores" / "scores.json").read_text())
    reviewed = read_manifest(runs / "reviewed").rows
    assert (reviewed["kept"], reviewed["rejected"]) == (2, {"poor wording": 2})
    assert "people-Ada.xlsx: 2 judgements by Ada, 2 new" in said


FAKE_VLLM = """#!{python}
# Stands for the Python of an environment that has vLLM: our own server under vLLM's words.
import sys
sys.path[:0] = {path!r}
from meadowlark.cli import run
def after(name):
    return sys.argv[sys.argv.index(name) + 1]
assert sys.argv[1:3] == ["-m", "vllm.entrypoints.openai.api_server"], sys.argv
sys.exit(run(["serve", "hf:" + after("--model"), "--name", after("--served-model-name"),
    "--template", after("--chat-template"), "--port", after("--port"), "--vllm", "no",
    "--api-key-env", "VLLM_API_KEY"]))
"""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft's, of 0.21
def test_the_guide_to_serving_runs(tmp_path: Path) -> None:
    import peft
    import torch
    from transformers import AutoModelForCausalLM

    pytest.importorskip("openai", reason="the openai client is not installed")
    work = tmp_path / "work"
    for n, name in enumerate(("runs/demo/model", "base", "served", "tuned", "untuned")):
        make_tiny_model(work / name, seed=n)
    model = AutoModelForCausalLM.from_pretrained(work / "base", dtype=torch.float32)
    how = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    peft.get_peft_model(model, how).save_pretrained(work / "adapter")
    (tmp_path / "vllm").mkdir()
    fake = FAKE_VLLM.format(python=sys.executable, path=[str(ROOT / "src"), *sys.path])
    put(tmp_path / "vllm" / "bin", "python", fake)
    said = guide("serving.md", tmp_path, {"HOME": str(tmp_path)})
    assert said.count("listening on ") == 6
    verdicts, _ = read(work / "runs" / "votes" / "verdicts.jsonl", Verdict)
    assert [v.winner for v in verdicts][1:] == ["tie", "both_bad"]
    assert {v.by for v in verdicts} == {"human:Dr Osei"}


def test_the_index_lists_every_page() -> None:
    listed = set(re.findall(r"\]\((\S+?\.md)\)", READING[DOCS / "index.md"]))
    assert listed == {page.name for page in DOCS.glob("*.md")} - {"index.md"}


def texts_of(module: Path) -> Iterator[str]:
    """Every string of a module as the compiler joins it, with … where a value is put in."""
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
            )


@functools.cache
def messages() -> str:
    """All strings of the program, a line each."""
    modules = sorted((ROOT / "src" / "meadowlark").rglob("*.py"))
    return "\n".join(text for module in modules for text in texts_of(module))


def quoted(page: str) -> list[str]:
    """The messages in the first column of a page's tables."""
    return re.findall(r"^\| `([^`]+)` \|", page, re.M)


@pytest.mark.parametrize("message", quoted(READING[DOCS / "troubleshooting.md"]))
def test_every_message_of_the_troubleshooting_page_is_the_programs(message: str) -> None:
    assert len(message) >= 10
    assert message in messages()


def test_a_message_that_nobody_writes_is_noticed() -> None:
    assert len(quoted(READING[DOCS / "troubleshooting.md"])) >= 40
    assert "is above the model's patience of " not in messages()


def test_the_troubleshooting_page_runs(tmp_path: Path) -> None:
    assert "meadowlark" in guide("troubleshooting.md", tmp_path)
