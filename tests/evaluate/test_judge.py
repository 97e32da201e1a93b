"""Judging pairs: what is asked, how verdicts are read and kept, juries, budgets, failures."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from meadowlark.answered import aligned, read_side
from meadowlark.dataset import read, write_table
from meadowlark.errors import FolderDiffers, UserError
from meadowlark.evaluate.judge import estimate_pairs, judge_pairs
from meadowlark.evaluate.protocols import PROTOCOLS, orders, protocol_of
from meadowlark.evaluate.verdicts import read_verdicts
from meadowlark.llm import ChatReply, ChatRequest, Policy, Price, ScriptedModel, TokenLogprob
from meadowlark.llm.errors import CallFailed
from meadowlark.records import Answer, Question, Verdict, to_table
from meadowlark.templates import user_content

JUDGE = "openai:m@http://test/v1"
MODEL, REFERENCE = "wisent-7b", "heron-70b"


def side(folder: Path, name: str, texts: dict[str, str], prompts: dict[str, str]) -> Path:
    folder.mkdir()
    questions = [Question(i, "t", prompts[i]) for i in texts]
    answers = [
        Answer(i, name, text=text, status="ok" if text else "empty") for i, text in texts.items()
    ]
    write_table(folder / "questions.parquet", to_table(questions, Question))
    write_table(folder / "answers.parquet", to_table(answers, Answer))
    return folder


PROMPTS = {
    "1": user_content("Explain the dose of $DRUG.", "A child of 12 kg."),
    "2": "Is fever dangerous?",
    "3": "May I eat?",
}


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    mine = {"1": "good: 10 mg", "2": "bad ${first}", "3": "equal"}
    theirs = {"1": "bad: 10 g", "2": "good: rarely", "3": "equal"}
    return (
        side(tmp_path / "mine", MODEL, mine, PROMPTS),
        side(tmp_path / "theirs", REFERENCE, theirs, PROMPTS),
    )


def knowing(request: ChatRequest) -> str:
    """Prefers the answer that says it is good; ties where neither does."""
    text = request.turns[-1].content
    first = text.partition("Output (b)")[0]
    if "good" not in text:
        return "Tie"
    return "Output (a)" if "good" in first else "Output (b)"


def verdicts(folder: Path) -> list[Verdict]:
    return read(folder, Verdict)[0]


def test_every_pair_is_judged_in_both_orders_and_no_name_is_shown(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    model = ScriptedModel(knowing)
    run = judge_pairs(sides[0], [sides[1]], [JUDGE], tmp_path / "out", given=[model])
    found = verdicts(tmp_path / "out")
    assert [(v.item, v.shown_first, v.winner) for v in found] == [
        ("1", "a", "a"),
        ("1", "b", "a"),
        ("2", "a", "b"),
        ("2", "b", "b"),
        ("3", "a", "tie"),
        ("3", "b", "tie"),
    ]
    assert {(v.a, v.b, v.by) for v in found} == {(MODEL, REFERENCE, "judge:m")}
    assert [v.raw for v in found] == [
        *("Output (a)", "Output (b)", "Output (b)", "Output (a)"),
        *("Tie", "Tie"),
    ]
    shown = [turn.content for request in model.asked for turn in request.turns]
    assert not [text for text in shown if MODEL in text or REFERENCE in text]
    # The instruction, a blank line, the input; nothing in an answer is taken for a placeholder.
    assert "Explain the dose of $DRUG.\n\nA child of 12 kg.\n" in shown[1]
    assert any("bad ${first}" in text for text in shown)
    assert len(model.asked) == 5  # two equal answers make one request of both orders
    assert run.manifest.rows == {"in": 6, "kept": 6, "rejected": {}}
    assert run.manifest.results[f"judge:m: {MODEL} against {REFERENCE}"] == (
        "2 won, 2 tied, 2 lost, 0 unreadable"
    )


def test_a_judge_that_only_sees_order_is_told_from_one_that_sees_content(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    model = ScriptedModel(lambda _: "Output (a).")
    judge_pairs(sides[0], [sides[1]], [JUDGE], tmp_path / "out", given=[model])
    assert [v.winner for v in verdicts(tmp_path / "out")] == ["a", "b"] * 3


def test_what_cannot_be_read_or_never_came_is_counted_and_kept(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    replies = [
        "Output (a) and Output (b)",
        ChatReply("", "refused"),
        CallFailed("HTTP 400", "too long", request_only=True),
        ChatReply("Output (a) is better because it", "length"),
        ChatReply("The first answer", "length"),
    ]
    run = judge_pairs(
        sides[0], [sides[1]], [JUDGE], tmp_path / "out", given=[ScriptedModel(replies)]
    )
    found = verdicts(tmp_path / "out")
    assert [(v.winner, v.note, v.raw) for v in found] == [
        ("unreadable", "", "Output (a) and Output (b)"),
        ("unreadable", "refused by the server", ""),
        ("unreadable", "no reply: HTTP 400", ""),
        ("b", "", "Output (a) is better because it"),
        ("unreadable", "cut at the token limit", "The first answer"),
        ("unreadable", "cut at the token limit", "The first answer"),
    ]
    assert run.manifest.results["unreadable"] == 5
    failed = json.loads((tmp_path / "out" / "failed.jsonl").read_text())
    assert failed["failed"]["reason"] == "HTTP 400"


def test_the_published_rule_is_asked_for_by_name_and_kept_replies_can_be_read_again(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    said = "This is no Tie: Output (a) is better."
    out = tmp_path / "out"
    model = ScriptedModel(lambda _: said)
    judge_pairs(sides[0], [sides[1]], [JUDGE], out, given=[model])
    assert {v.winner for v in verdicts(out)} == {"unreadable"}
    assert {v.winner for v in read_verdicts(out, "alpacare")[0]} == {"tie"}
    with pytest.raises(FolderDiffers, match='reading: "strict" there, "alpacare" asked'):
        judge_pairs(sides[0], [sides[1]], [JUDGE], out, reading="alpacare", given=[model])
    judge_pairs(sides[0], [sides[1]], [JUDGE], out, reading="alpacare", given=[model], force=True)
    assert {v.winner for v in verdicts(out)} == {"tie"}
    assert len(model.asked) == 5  # the journal answered the second run


def test_a_jury_judges_each_pair_once_a_member(sides: tuple[Path, Path], tmp_path: Path) -> None:
    judges = [JUDGE, "openai:n@http://test/v1", "openai:m@http://other/v1"]
    models = [
        ScriptedModel(knowing, name="m"),
        ScriptedModel(lambda _: "Tie", name="n"),
        ScriptedModel(lambda _: "?", name="o"),
    ]
    judge_pairs(sides[0], [sides[1]], judges, tmp_path / "out", given=models)
    found = verdicts(tmp_path / "out")
    assert Counter(v.by for v in found) == {"judge:m (1)": 6, "judge:n": 6, "judge:m (3)": 6}
    assert Counter((v.by, v.winner) for v in found)["judge:m (3)", "unreadable"] == 6
    with pytest.raises(UserError, match="given twice"):
        judge_pairs(sides[0], [sides[1]], [JUDGE, JUDGE], tmp_path / "no")


def test_the_budget_stops_in_time_for_all_judges_together_and_raising_it_goes_on(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    price = Price(0, 10_000)  # a cent a token written
    one = ChatReply("Tie", tokens_in=100, tokens_out=50)

    def judges() -> list[ScriptedModel]:
        return [ScriptedModel(lambda _: one, name=n, price=price) for n in ("m", "n")]

    specs = [JUDGE, "openai:n@http://test/v1"]
    out = tmp_path / "out"
    first = judges()
    policy = Policy(concurrency=1, budget_usd=3.6)
    run = judge_pairs(sides[0], [sides[1]], specs, out, policy=policy, given=first)
    asked = sum(len(model.asked) for model in first)
    assert run.manifest.cost_usd == pytest.approx(3.5)
    assert asked == 7
    unasked = run.manifest.rows["rejected"]["budget reached"]
    assert unasked + run.manifest.rows["kept"] == 12
    assert not run.manifest.results["unreadable"]
    assert any("raise --budget" in warning for warning in run.manifest.warnings)
    second = judges()
    run = judge_pairs(sides[0], [sides[1]], specs, out, policy=Policy(budget_usd=10), given=second)
    assert asked + sum(len(model.asked) for model in second) == 10
    assert run.manifest.rows["kept"] == 12
    assert run.manifest.cost_usd == pytest.approx(5)


def test_the_cost_is_told_before_anything_is_sent(sides: tuple[Path, Path], tmp_path: Path) -> None:
    models = [ScriptedModel([], name=n, price=Price(1, 10)) for n in ("m", "n")]
    found, prompts = estimate_pairs(
        sides[0],
        [sides[1]],
        [JUDGE, "openai:n@http://test/v1"],
        tmp_path / "out",
        given=models,
    )
    assert prompts == 3
    # Both orders of two equal outputs are one request, which is sent once.
    assert [(one.requests, one.most_tokens_out) for one in found] == [(5, 500)] * 2
    assert all(one.most_usd == pytest.approx(6e-3, rel=0.3) for one in found)
    assert not (tmp_path / "out").exists()


def test_alpacaevals_convention_one_order_by_the_instruction_and_preferences_by_letter(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    likes_first = TokenLogprob("m", math.log(0.6), (("m", math.log(0.6)), ("M", math.log(0.2))))
    model = ScriptedModel(lambda _: ChatReply("m", "length", logprobs=(likes_first,)))
    judge_pairs(
        sides[0], [sides[1]], [JUDGE], tmp_path / "out", protocol="alpacaeval", given=[model]
    )
    protocol = protocol_of("alpacaeval")
    assert all(request.sampling.logprobs == 5 for request in model.asked)
    found = {v.item: v for v in verdicts(tmp_path / "out")}
    assert len(found) == 3
    assert len(model.asked) == 2
    assert (found["3"].winner, found["3"].preference) == ("tie", 0.5)  # equal outputs, not asked
    for item, prompt in (
        ("1", "Explain the dose of $DRUG.\n\nA child of 12 kg."),
        ("2", PROMPTS["2"]),
    ):
        (shown_first,) = orders(protocol, prompt)
        assert found[item].shown_first == found[item].winner == shown_first
        expected = 0.75 if shown_first == "a" else 0.25
        assert found[item].preference == pytest.approx(expected)
    assert {orders(protocol, f"question {n}") for n in range(20)} == {("a",), ("b",)}


def test_log_probabilities_say_how_strong_a_choice_is_and_do_not_make_one(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    def token(text: str, chance: float, other: tuple[str, float]) -> TokenLogprob:
        return TokenLogprob(text, math.log(chance), ((other[0], math.log(other[1])),))

    said = (
        token("Output (", 1, ("Tie", 1e-9)),
        token("a", 0.3, ("b", 0.1)),
        token(")", 1, (".", 1e-9)),
    )
    model = ScriptedModel(lambda _: ChatReply("Output (a)", logprobs=said))
    judge_pairs(sides[0], [sides[1]], [JUDGE], tmp_path / "out", logprobs=5, given=[model])
    found = verdicts(tmp_path / "out")
    assert [v.preference for v in found[:2]] == pytest.approx([0.75, 0.25])
    assert [v.winner for v in found[:2]] == ["a", "b"]


def test_an_item_that_cannot_be_compared_is_rejected_with_the_reason(tmp_path: Path) -> None:
    mine = side(tmp_path / "mine", MODEL, dict.fromkeys("123", "x"), PROMPTS)
    prompts = {**PROMPTS, "2": "Another question?"}
    theirs = side(tmp_path / "theirs", REFERENCE, {"1": "y", "2": "y"}, prompts)
    model = ScriptedModel(lambda _: "Tie")
    run = judge_pairs(mine, [theirs], [JUDGE], tmp_path / "out", given=[model])
    assert run.manifest.rows["rejected"] == {"no answer": 1, "different questions under one id": 1}
    assert {v.item for v in verdicts(tmp_path / "out")} == {"1"}


def test_what_a_comparison_does_not_look_at_is_counted(tmp_path: Path) -> None:
    mine = side(tmp_path / "m", MODEL, {"1": "x", "2": "y"}, PROMPTS)
    answers = [*read(mine, Answer)[0], Answer("2", MODEL, 1, "once more")]
    write_table(mine / "answers.parquet", to_table(answers, Answer))
    # An own question under an id that is another's here, and one that only they were asked.
    prompts = {"a": PROMPTS["1"], "b": PROMPTS["2"], "1": "Another?", "3": PROMPTS["3"]}
    theirs = side(tmp_path / "r", REFERENCE, dict.fromkeys(prompts, "z"), prompts)
    model = ScriptedModel(lambda _: "Tie")
    run = judge_pairs(mine, [theirs], [JUDGE], tmp_path / "out", given=[model])
    assert run.manifest.rows == {"in": 4, "kept": 4, "rejected": {}}
    assert run.manifest.warnings == [
        f"2 answers of {REFERENCE} to questions that {MODEL} was not asked, which nobody judged",
        f"1 further draw of {MODEL}, which nobody judged",
    ]


def test_an_answer_that_a_server_failed_to_give_is_unreadable_and_costs_nothing(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    answers = [replace(a, status="failed", text="") for a in read(sides[1], Answer)[0]]
    write_table(sides[1] / "answers.parquet", to_table(answers, Answer))
    model = ScriptedModel([])
    judge_pairs(sides[0], [sides[1]], [JUDGE], tmp_path / "out", given=[model])
    assert {(v.winner, v.note) for v in verdicts(tmp_path / "out")} == {
        ("unreadable", "no answer was received from b")
    }
    assert len(verdicts(tmp_path / "out")) == 6


def test_an_answer_that_names_its_model_is_warned_of(tmp_path: Path) -> None:
    mine = side(tmp_path / "mine", MODEL, {"2": "I am Wisent 7B."}, PROMPTS)
    theirs = side(tmp_path / "theirs", REFERENCE, {"2": "No."}, PROMPTS)
    model = ScriptedModel(lambda _: "Tie")
    run = judge_pairs(mine, [theirs], [JUDGE], tmp_path / "out", given=[model])
    assert run.manifest.warnings == [
        f"1 answer of {MODEL} with its name, which the judge reads there"
    ]


@pytest.mark.parametrize("name", PROTOCOLS)
def test_every_protocol_that_ships_renders_what_it_is_given(name: str) -> None:
    protocol = protocol_of(name)
    values = {k: f"<{k} $0>" for k in ("prompt", "first", "second", "answer", "criterion")}
    text = "\n".join(turn.content for turn in protocol.turns(**values))
    held = {k for k, value in values.items() if value in text}
    assert (
        held
        == {
            "pair": {"prompt", "first", "second"},
            "single": {"prompt", "answer"},
            "rubric": {"prompt", "answer", "criterion"},
        }[protocol.kind]
    )


def test_a_protocol_of_ones_own_is_a_file_held_to_its_form(
    sides: tuple[Path, Path], tmp_path: Path
) -> None:
    own = tmp_path / "own.toml"
    good = 'title = "t"\nkind = "pair"\ncriterion = "tone"\nuser = "$prompt $first $second"\n'
    own.write_text(good)
    model = ScriptedModel(lambda _: "[[A]]")
    judge_pairs(sides[0], [sides[1]], [JUDGE], tmp_path / "out", protocol=str(own), given=[model])
    assert {v.criterion for v in verdicts(tmp_path / "out")} == {"tone"}
    for text, fault in (
        (good.replace("$second", ""), r"holds \$first, \$prompt, \$second"),
        (good.replace("$second", "$second $model"), r"this one holds .*\$model"),
        (good + 'reading = "x"\n', "reading is one of brackets"),
        (good + "max_token = 3\n", "Did you mean 'max_tokens'"),
    ):
        own.write_text(text)
        with pytest.raises(UserError, match=fault):
            protocol_of(str(own))
    with pytest.raises(UserError, match="Did you mean 'alpacare'"):
        protocol_of("alpcare")


# --------------------------------------------------------------------------- published answers


def lines(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_published_files_are_matched_by_the_text_of_their_questions(tmp_path: Path) -> None:
    ask = "Answer the patient."
    mine = lines(
        tmp_path / "wisent" / "out.jsonl",
        [
            {"id": n, "instruction": ask, "input": f"I cough {n}.", "response": f" {n}"}
            for n in range(4)
        ],
    )
    bare = [
        {"instruction": "", "input": f"I cough  {n}.\n", "output": f"ref {n}"} for n in (2, 0, 1)
    ]
    wrapped = [
        {"prompt": f"Human: {ask}\n\nI cough {n}.\nAssistant:", "response": f"claude {n}"}
        for n in (3, 1)
    ]
    a = read_side(mine)
    assert (a.model, list(a.questions)) == ("wisent/out", ["0", "1", "2", "3"])
    b = aligned(a, read_side(lines(tmp_path / "r" / "b.jsonl", bare)))
    c = aligned(a, read_side(f"claude={lines(tmp_path / 'r' / 'c.jsonl', wrapped)}"))
    assert {i: one[0].text for i, one in b.answers.items()} == {n: f"ref {n}" for n in "201"}
    assert {i: one[0].text for i, one in c.answers.items()} == {n: f"claude {n}" for n in "31"}
    assert c.model == "claude"
    assert {answer.model for one in c.answers.values() for answer in one} == {"claude"}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"instruction": "x"}, "row 2: expected instruction"),
        ({"response": "x"}, "row 2: expected instruction"),
        ({"id": 1, "instruction": "y", "output": "x"}, "'1' is answered twice"),
        ({"instruction": "y", "output": "x", "generator": "other"}, "one model's answers"),
    ],
)
def test_a_file_that_holds_no_whole_answers_is_refused(
    tmp_path: Path, row: dict[str, object], fault: str
) -> None:
    good: dict[str, object] = {"id": 1, "instruction": "x", "output": "y"}
    with pytest.raises(UserError, match=fault):
        read_side(lines(tmp_path / "a" / "b.jsonl", [good, row]))


MakeSides = Callable[[str], list[str]]


def test_the_published_answers_and_references_share_all_their_questions(real_data: Path) -> None:
    folder = real_data / "alpacare"
    for file, reference, n in (
        ("medinstruct.json", "medsi_output.jsonl", 216),
        ("iCliniq.json", "iCliniq_output.jsonl", 1000),
    ):
        mine = read_side(folder / "model_outputs" / "AlpaCare-7b" / file)
        for name in ("claude-2", "gpt-3.5-turbo", "gpt-4", "text-davinci-003"):
            theirs = aligned(mine, read_side(folder / "reference_outputs" / name / reference))
            assert list(theirs.questions) == list(mine.questions)
            assert len(theirs.answers) == n
    empty = read_side(folder / "model_outputs" / "PMC_LLAMA_7B" / "iCliniq.json")
    assert sum(one[0].status == "empty" for one in empty.answers.values()) == 374


def test_alpacaevals_published_outputs_are_sides_under_their_generators_names(
    real_data: Path,
) -> None:
    folder = real_data / "judging" / "alpaca_eval_outputs"
    mine, other = (read_side(folder / f"{name}.json") for name in ("claude-2", "text_davinci_003"))
    assert (mine.model, other.model) == ("claude-2", "text_davinci_003")
    assert len(aligned(mine, other).answers.keys() & mine.answers.keys()) == 805
