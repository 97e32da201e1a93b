"""Every option of every verb reaches the function that does the work, as it was typed.

The function is replaced by one that notes what it is given and does nothing. What the options then
do is tested beside the stages; here is shown that none is dropped or taken for another.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
from collections.abc import Mapping
from operator import attrgetter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer.main

from meadowlark.cli import app, run
from meadowlark.llm.prices import Price

TESTS = Path(__file__).parents[1]
CALLS = "-j 7 --requests-per-minute 8 --tokens-per-minute 9 --budget 10usd --models m.toml"
"""How a teacher or judge is asked; the price is typed otherwise for a jury."""
ASKED = {
    "policy.concurrency": 7, "policy.requests_per_minute": 8.0, "policy.tokens_per_minute": 9.0,
    "policy.budget_usd": 10.0, "models": Path("m.toml"),
}  # fmt: skip
PRICED = {**ASKED, "price": Price(2.5, 11.0)}
RUN = "run.toml --data rows --set optimiser.epochs=2 --limit 13"
RUN_IS = {"options.data.path": Path("rows"), "options.optimiser.epochs": 2, "limit": 13}


class Noted(Exception):
    """Ends a verb where its work would begin."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given


def note(monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Let the function at ``module:name`` end its caller with the arguments it was given."""
    module, _, name = place.partition(":")
    owner = importlib.import_module(f"meadowlark.{module}")
    signature = inspect.signature(getattr(owner, name))

    def noting(*args: Any, **options: Any) -> None:
        bound = signature.bind(*args, **options)
        bound.apply_defaults()
        raise Noted(bound.arguments)

    monkeypatch.setattr(owner, name, noting)


CASES: list[tuple[str, str, dict[str, Any]]] = [
    (
        f"generate --seeds s --teacher t --out o --count 3 --no-filter --tasks-per-request 5 "
        f"--examples 4 --use-generated 2 --quota view=a:1,*:2 --quota type=b:3 --steer-after 6 "
        f"--layout json --temperature 0.4 --top-p 0.8 --presence-penalty 0.2 --max-tokens 77 "
        f"--licence MIT --seed 12 --limit 13 --force --price 2.5,11 {CALLS}",
        "synth.generate:generate",
        {
            "seeds": Path("s"), "teacher": "t", "out": Path("o"), "count": 3, "threshold": None,
            "form.tasks": 5, "form.examples": 4, "use_generated": 2,
            "quotas": ["view=a:1,*:2", "type=b:3"], "steer_after": 6, "form.layout": "json",
            "form.sampling.temperature": 0.4, "form.sampling.top_p": 0.8,
            "form.sampling.presence_penalty": 0.2, "form.sampling.max_tokens": 77,
            "licence": "MIT", "form.seed": 12, "limit": 13, "force": True, **PRICED,
        },
    ),
    (
        "generate --seeds s --teacher t --out o --filter --threshold 0.6 --seeds-per-request 4",
        "synth.generate:generate",
        {"threshold": 0.6, "form.examples": 4, "form.tasks": 12},
    ),
    (
        f"generate --seeds s --teacher t --out o --count 3 --layout json --limit 13 --dry-run "
        f"--price 2.5,11 {CALLS}",
        "synth.generate:estimate_generation",
        {"count": 3, "form.layout": "json", "limit": 13, **PRICED},
    ),
    (
        f"respond d --teacher t --out o --prompt icliniq --temperature 0.4 --presence-penalty 0.2 "
        f"--max-tokens 77 --retries 3 --limit 13 --force --price 2.5,11 {CALLS}",
        "synth.respond:respond",
        {
            "data": Path("d"), "teacher": "t", "out": Path("o"), "prompt": "icliniq",
            "sampling.temperature": 0.4, "sampling.presence_penalty": 0.2,
            "sampling.max_tokens": 77, "retries": 3, "limit": 13, "force": True, **PRICED,
        },
    ),
    (
        f"respond d --teacher t --out o --prompt test --max-tokens 77 --limit 13 --dry-run "
        f"--price 2.5,11 {CALLS}",
        "synth.respond:estimate_responses",
        {"prompt": "test", "sampling.max_tokens": 77, "limit": 13, **PRICED},
    ),
    (
        f"rephrase d --teacher t --out o --style heading --temperature 0.4 --max-tokens 77 "
        f"--retries 3 --limit 13 --force --price 2.5,11 {CALLS}",
        "synth.rephrase:rephrase",
        {
            "data": Path("d"), "teacher": "t", "out": Path("o"), "style": "heading",
            "sampling.temperature": 0.4, "sampling.max_tokens": 77, "retries": 3, "limit": 13,
            "force": True, **PRICED,
        },
    ),
    (
        f"rephrase d --teacher t --out o --style heading --max-tokens 77 --limit 13 --dry-run "
        f"--price 2.5,11 {CALLS}",
        "synth.rephrase:estimate_rephrasing",
        {"style": "heading", "sampling.max_tokens": 77, "limit": 13, **PRICED},
    ),
    (
        "seeds check f --threshold 0.4 --limit 13",
        "synth.seeds:check_seeds",
        {"path": Path("f"), "threshold": 0.4, "limit": 13},
    ),
    (
        "seeds template --out s.xlsx --force",
        "synth.seed_sheet:write_seed_template",
        {"path": Path("s.xlsx"), "force": True},
    ),
    (
        "filter d --out o --threshold 0.6 --rule others --field input --threads 2 --limit 13 "
        "--force",
        "curate.filter:filter_records",
        {
            "data": Path("d"), "out": Path("o"), "threshold": 0.6, "rule": "others",
            "field": "input", "threads": 2, "limit": 13, "force": True,
        },
    ),
    (
        "convert s --raw r --wording w --answers a --site b --language l --paths p --quality q "
        "--summaries y --limit 13 --force --out o",
        "sources.convert:convert",
        {
            "source": "s", "out": Path("o"), "raw": Path("r"), "from_hub": False, "limit": 13,
            "settings": {
                "wording": "w", "answers": "a", "site": "b", "language": "l", "paths": "p",
                "quality": "q", "summaries": "y",
            },
            "force": True,
        },
    ),
    (
        "convert s --hub --revision one --revision two --out o",
        "sources.convert:convert",
        {"raw": None, "from_hub": True, "revisions": ["one", "two"], "settings": {}},
    ),
    (
        "clean d --out o --against medqa,own.jsonl --data x --phi redact --set near.threshold=0.9 "
        "--set truncated.on=false --workers 3 --limit 13 --force",
        "curate.clean:clean",
        {
            "data": Path("d"), "out": Path("o"), "against": ["medqa", "own.jsonl"],
            "exams": Path("x"), "options.private_data.action": "redact",
            "options.near.threshold": 0.9, "options.truncated.on": False, "workers": 3,
            "limit": 13, "force": True,
        },
    ),
    (
        "clean d --out o --rules rules.toml --set near.threshold=0.9 --phi drop",
        "curate.clean:read_rules",
        {"file": Path("rules.toml"), "settings": ["near.threshold=0.9"], "phi": "drop"},
    ),
    (
        "mix a=0.3 b=0.7 --out o --val 0.2 --stratify topic --near 0.6 --seed 12 --limit 13 "
        "--force",
        "curate.mix:mix",
        {
            "parts": ["a=0.3", "b=0.7"], "out": Path("o"), "val": 0.2, "stratify": "topic",
            "near": 0.6, "seed": 12, "limit": 13, "force": True,
        },
    ),
    (
        "stats a b --out o --limit 13 --force",
        "curate.describe:stats",
        {"data": [Path("a"), Path("b")], "out": Path("o"), "limit": 13, "force": True},
    ),
    (
        "export d --format sharegpt --out o.json --limit 13 --force",
        "curate.export:export",
        {
            "data": Path("d"), "format": "sharegpt", "out": Path("o.json"), "limit": 13,
            "force": True,
        },
    ),
    (
        f"plan {RUN} --device h100 --launch 4",
        "train.plan:plan",
        {**RUN_IS, "device.name": "h100", "processes": 4},
    ),
    (
        f"check {RUN} --against medqa,own.jsonl --exams x --examples 5",
        "train.check:check",
        {**RUN_IS, "against": ["medqa", "own.jsonl"], "exams": Path("x"), "examples": 5},
    ),
    (
        f"train {RUN} --out o --force",
        "train.run:train",
        {**RUN_IS, "out": Path("o"), "force": True},
    ),
    (
        f"train {RUN} --out o --launch 3 --force",
        "train.parallel:launch",
        {
            "processes": 3,
            "arguments": [
                "train", "run.toml", "--out", "o", "--set", "optimiser.epochs=2",
                "--set", 'data.path="rows"', "--limit", "13", "--force",
            ],
        },
    ),
    (
        "package c --out o --merge --dtype float16 --base b --base-name x/y --template alpaca "
        "--scores e --scores f --licence mit --language de --language en --force",
        "train.package:package",
        {
            "checkpoint": Path("c"), "out": Path("o"), "merge": True, "dtype": "float16",
            "base": "b", "base_name": "x/y", "template": "alpaca",
            "scores": [Path("e"), Path("f")], "licence": "mit", "languages": ["de", "en"],
            "force": True,
        },
    ),
    (
        "exam hf:m --tasks medqa,own.jsonl --out o --data x --tasks-dir t --by generation "
        "--scoring text --plain --shots 3 --orders 2 --unconditional --max-tokens 77 -j 7 "
        "--training r --template alpaca --name n --limit 13 --force",
        "evaluate.exam:exam",
        {
            "model": "hf:m", "tasks": ["medqa", "own.jsonl"], "out": Path("o"), "data": Path("x"),
            "tasks_folder": Path("t"), "how.by": "generation", "how.scoring": "text",
            "how.plain": True, "how.shots": 3, "how.orders": 2, "how.unconditional": True,
            "how.max_tokens": 77, "how.concurrency": 7, "training": Path("r"),
            "template": "alpaca", "name": "n", "limit": 13, "force": True,
        },
    ),
    (
        "exam hf:m --tasks usmle_step1 --out o --data x --protocol medalpaca-fixed --seed 12 "
        "--template alpaca --name n --limit 13 --force",
        "evaluate.medalpaca:examine_by_protocol",
        {
            "model": "hf:m", "tasks": ["usmle_step1"], "out": Path("o"), "data": Path("x"),
            "protocol": "fixed", "seed": 12, "template": "alpaca", "name": "n", "limit": 13,
            "force": True,
        },
    ),
    (
        "exam hf:m --tasks usmle_step1 --out o --protocol medalpaca-faithful",
        "evaluate.medalpaca:examine_by_protocol",
        {"protocol": "faithful", "seed": 0},
    ),
    (
        "exam hf:m --tasks demo_exam --export-lm-eval o --shots 0 --scoring text --limit 13",
        "evaluate.exam_export:export_lm_eval",
        {"out": Path("o"), "how.scoring": "text", "limit": 13},
    ),
    (
        "exam hf:m --tasks medqa --show --data x --tasks-dir t --template alpaca --shots 3",
        "evaluate.exam:show_exam",
        {
            "model": "hf:m", "tasks": ["medqa"], "data": Path("x"), "tasks_folder": Path("t"),
            "template": "alpaca", "how.shots": 3,
        },
    ),
    (
        "exam hf:m --tasks usmle_step1 --show --protocol medalpaca-fixed --data x --template a",
        "evaluate.medalpaca:show_protocol",
        {"model": "hf:m", "tasks": ["usmle_step1"], "data": Path("x"), "template": "a"},
    ),
    (
        "bench hf:m --tasks mmlu/anatomy,bbh --out o --data x --chat --batch 3 --name n "
        "--limit 13 --force",
        "evaluate.benchmarks:bench",
        {
            "model": "hf:m", "tasks": ["mmlu/anatomy", "bbh"], "out": Path("o"),
            "data": Path("x"), "chat": True, "batch": 3, "name": "n", "limit": 13, "force": True,
        },
    ),
    (
        "answer hf:m p --out o --data x --max-tokens 77 --temperature 0.4 --top-p 0.8 --top-k 6 "
        "--template alpaca --batch 3 --context 99 -j 7 --name n --seed 12 --limit 13 --force",
        "evaluate.answers:answer",
        {
            "model": "hf:m", "prompts": "p", "out": Path("o"), "data": Path("x"),
            "how.max_tokens": 77, "how.temperature": 0.4, "how.top_p": 0.8, "how.top_k": 6,
            "how.batch": 3, "how.context": 99, "how.concurrency": 7, "template": "alpaca",
            "name": "n", "seed": 12, "limit": 13, "force": True,
        },
    ),
    (
        "answer hf:m p --out o --settings alpacare --top-k 6",
        "evaluate.answers:answer",
        {"how.context": 1024, "how.top_k": 6},
    ),
    (
        f"judge a b c --judge one --judge two --out o --protocol mt-bench --reading strict "
        f"--logprobs 5 --limit 13 --force --price 2.5,11 --price 1,2 {CALLS}",
        "evaluate.judge:judge_pairs",
        {
            "answers": "a", "references": ["b", "c"], "judges": ["one", "two"], "out": Path("o"),
            "protocol": "mt-bench", "reading": "strict", "logprobs": 5, "limit": 13,
            "force": True, "prices": [Price(2.5, 11.0), Price(1.0, 2.0)], **ASKED,
        },
    ),
    (
        f"judge a b --judge one --out o --reading strict --logprobs 5 --limit 13 --dry-run "
        f"--difference 3 --price 2.5,11 {CALLS}",
        "evaluate.judge:estimate_pairs",
        {
            "answers": "a", "references": ["b"], "reading": "strict", "logprobs": 5, "limit": 13,
            "prices": [Price(2.5, 11.0)], **ASKED,
        },
    ),
    (
        f"judge a --judge one --out o --protocol rubric --rubric r.json --schema --limit 13 "
        f"--force --price 2.5,11 {CALLS}",
        "evaluate.grade:grade_answers",
        {
            "answers": "a", "others": [], "protocol": "rubric", "rubric": "r.json",
            "schema": True, "limit": 13, "force": True, "prices": [Price(2.5, 11.0)], **ASKED,
        },
    ),
    (
        "judge a b --judge overlap --out o --tie-within 0.2 --limit 13 --force",
        "evaluate.overlap:judge_overlap",
        {"answers": "a", "references": ["b"], "tie_within": 0.2, "limit": 13, "force": True},
    ),
    (
        "annotate a b --out o --people 2 --overlap 0.4 --seed 12 --limit 13",
        "annotate.setting_up:set_up_comparison",
        {
            "first": "a", "second": "b", "out": Path("o"), "people": "2", "overlap": 0.4,
            "seed": 12, "limit": 13,
        },
    ),
    (
        "annotate --rows r --out o --people p.txt --overlap 0.4 --seed 12 --limit 13",
        "annotate.setting_up:set_up_review",
        {
            "rows": Path("r"), "out": Path("o"), "people": "p.txt", "overlap": 0.4, "seed": 12,
            "limit": 13,
        },
    ),
    (
        "annotate --out o --host 0.0.0.0 --port 81 --url https://u --new-links",
        "cli.annotate:_serve",
        {"host": "0.0.0.0", "port": 81, "url": "https://u", "new_links": True},
    ),
    (
        "annotate --export s --out o --force",
        "annotate.export:export",
        {"out": Path("o"), "force": True},
    ),
    (
        "annotate --out o --sheet s.xlsx --force",
        "annotate.sheet:write_sheets",
        {"path": Path("s.xlsx"), "force": True},
    ),
    ("annotate --out o --sheet-in s.xlsx", "annotate.sheet:take_in", {"file": Path("s.xlsx")}),
    (
        "score a b --out o --model m --reading letter --groups g --seed 12 --limit 13 --force",
        "evaluate.score:score",
        {
            "inputs": [Path("a"), Path("b")], "out": Path("o"), "model": "m", "reading": "letter",
            "groups": Path("g"), "seed": 12, "limit": 13, "force": True,
        },
    ),
    (
        "score a --model m --protocol letter --groups g --seed 12 --limit 13",
        "evaluate.score:compute",
        {"model": "m", "reading": "letter", "groups": Path("g"), "seed": 12, "limit": 13},
    ),
    (
        "report a b --out o --title T --examples 0 --seed 12 --force",
        "report.page:report",
        {
            "runs": [Path("a"), Path("b")], "out": Path("o"), "title": "T", "examples": 0,
            "seed": 12, "force": True,
        },
    ),
    (
        "chat hf:a hf:b --web --template alpaca --max-tokens 77 --temperature 0.4 --system S "
        "--quantise nf4 --votes v --by me --host h --port 81 --api-key-env K",
        "cli.chat:_on_page",
        {
            "models": ["hf:a", "hf:b"], "template": "alpaca", "max_tokens": 77,
            "temperature": 0.4, "system": "S", "quantise": "nf4", "votes": Path("v"), "by": "me",
            "host": "h", "port": 81, "api_key_env": "K",
        },
    ),
    (
        "chat hf:a --template alpaca --quantise int8",
        "cli.chat:_open",
        {"model": "hf:a", "template": "alpaca", "quantise": "int8"},
    ),
    (
        "serve hf:a --host 127.0.0.2 --port 81 --api-key-env K --name n --vllm v "
        "--vllm-key-env W --vllm-options x --template alpaca --quantise nf4 --context 99 "
        "--max-body 2048 --requests-per-minute 8 --grace 0.5",
        "cli.serve:_serve",
        {
            "spec": "hf:a", "host": "127.0.0.2", "port": 81, "key": "k" * 20, "name": "n",
            "vllm": "v", "vllm_key_env": "W", "vllm_options": "x", "template": "alpaca",
            "quantise": "nf4", "context": 99, "limits.body_bytes": 2048,
            "limits.requests_per_minute": 8, "grace": 0.5,
        },
    ),
    ("models --models m.toml", "cli.models:_print_own", {"given": Path("m.toml")}),
    ("demo --out o", "demo:steps", {"out": Path("o")}),
]  # fmt: skip

ELSEWHERE = {
    "demo": {"--print": "cli/test_every_option.py", "--force": "cli/test_every_option.py"},
    "seeds": {"--json": "synth/test_synth_seeds.py"},
    "show": dict.fromkeys(
        ("--n", "--id", "--rejected", "--first", "--seed"), "curate/test_export_and_show.py"
    ),
    "stats": {"--json": "curate/test_describe.py"},
    "export": {"--stanzas": "curate/test_export_elsewhere.py"},
    "plan": {"--json": "cli/test_plan_cli.py"},
    "check": {"--json": "cli/test_check_cli.py"},
    "package": {"--push": "cli/test_package_cli.py", "--public": "cli/test_package_cli.py"},
}
"""Options that the verb itself acts on, with the file whose tests show what they do."""


@pytest.mark.parametrize(("typed", "place", "expected"), CASES, ids=[c[0][:40] for c in CASES])
def test_options_reach_the_stage_as_typed(
    typed: str,
    place: str,
    expected: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("K", "k" * 20)
    (tmp_path / "run.toml").write_text(
        '[model]\nbase = "b"\n[data]\npath = "other"\n[optimiser]\nlearning_rate = 1e-5\n'
    )
    if place.startswith(("annotate.export", "annotate.sheet", "cli.annotate")):
        study = contextlib.nullcontext(SimpleNamespace())
        monkeypatch.setattr("meadowlark.annotate.store.Store", lambda *_, **__: study)
    note(monkeypatch, place)
    with pytest.raises(Noted) as noted:
        run(typed.split())
    given = SimpleNamespace(**noted.value.given)
    assert {name: attrgetter(name)(given) for name in expected} == expected


def test_no_option_of_any_verb_is_left_out_here() -> None:
    group: Any = typer.main.get_command(app)
    for verb, command in group.commands.items():
        typed = {word for words, *_ in CASES if words.split()[0] == verb for word in words.split()}
        elsewhere = ELSEWHERE.get(verb, {})
        for option, file in elsewhere.items():
            assert option in (TESTS / file).read_text(encoding="utf-8"), (verb, option)
        for parameter in command.params:
            for form in (parameter.opts, parameter.secondary_opts):
                if form and form[0].startswith("-"):
                    assert {*form} & (typed | {*elsewhere}), (verb, form)


def test_the_demo_prints_its_commands_and_runs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from meadowlark.demo import steps

    note(monkeypatch, "cli:run")
    assert run(["demo", "--print", "--out", str(tmp_path / "o")]) == 0
    said = capsys.readouterr().out
    assert [str(step) in said for step in steps(tmp_path / "o")] == [True] * said.count("\nmeadow")
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize("force", [True, False])
def test_force_goes_to_every_step_of_the_demo(
    force: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from meadowlark.demo import steps

    ran: list[list[str]] = []
    monkeypatch.setattr("meadowlark.cli.run", lambda words: ran.append(words))
    assert run(["demo", "--out", str(tmp_path), *["--force"] * force]) == 0
    assert ran == [[*s.arguments, *["--force"] * force] for s in steps(tmp_path)]


def test_a_conversation_in_the_terminal_has_the_sampling_that_was_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("meadowlark.cli.chat._open", lambda *_: SimpleNamespace())
    note(monkeypatch, "cli.chat:_talk")
    with pytest.raises(Noted) as noted:
        run("chat hf:a --max-tokens 77 --temperature 0.4 --system S".split())
    (talk,) = noted.value.given.values()
    assert (talk.sampling.max_tokens, talk.sampling.temperature) == (77, 0.4)
    assert [(turn.role, turn.content) for turn in talk.all_turns()] == [("system", "S")]
