"""Answers that other programs wrote: chats, and the samples that lm-eval itself writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from meadowlark.annotate.pairs import read_pairs
from meadowlark.answered import Answered, aligned, read_side
from meadowlark.errors import UserError
from meadowlark.evaluate.judge import judge_pairs
from meadowlark.llm.scripted import ScriptedModel


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def said(side: Answered) -> list[tuple[str, str]]:
    return [(q.prompt, side.answers[item][0].text) for item, q in side.questions.items()]


USER, SYSTEM = {"role": "user", "content": "Why rest?"}, {"role": "system", "content": "Be brief."}
REPLY = {"role": "assistant", "content": " To heal. "}


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"messages": [USER, REPLY]}, "Why rest?"),
        ({"messages": [SYSTEM, USER, REPLY]}, "Why rest?"),
        ({"messages": [SYSTEM, USER], "response": "To heal."}, "Why rest?"),
        ({"prompt": [USER], "completion": [REPLY]}, "Why rest?"),
        (
            {"conversations": [{"from": "human", "value": "Why rest?"},
                               {"from": "gpt", "value": "To heal."}]},
            "Why rest?",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "Why "},
                                                       {"type": "text", "text": "rest?"}]},
                          REPLY]},
            "Why rest?",
        ),
        (
            {"messages": [SYSTEM, {"role": "user", "content": "I cough."},
                          {"role": "assistant", "content": "Since when?"}, USER, REPLY]},
            "User: I cough.\n\nAssistant: Since when?\n\nUser: Why rest?",
        ),
    ],
)  # fmt: skip
def test_the_last_turn_of_a_chat_is_the_answer_and_the_rest_the_prompt(
    tmp_path: Path, row: dict[str, Any], prompt: str
) -> None:
    side = read_side(lines(tmp_path / "wisent" / "chats.jsonl", [row]))
    assert said(side) == [(prompt, "To heal.")]
    assert side.model == "wisent/chats"
    (answer,) = next(iter(side.answers.values()))
    assert (answer.model, answer.status) == ("wisent/chats", "ok")


def test_a_chat_without_words_is_an_empty_answer_and_a_row_names_its_model(tmp_path: Path) -> None:
    rows = [
        {"id": n, "model": "wisent-7b", "messages": [{"role": "user", "content": f"{n}?"}, reply]}
        for n, reply in enumerate((REPLY, {"role": "assistant", "content": None}))
    ]
    side = read_side(lines(tmp_path / "chats.jsonl", rows))
    assert side.model == "wisent-7b"
    assert [(item, one[0].status) for item, one in side.answers.items()] == [
        ("0", "ok"),
        ("1", "empty"),
    ]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"messages": [USER]}, "row 2: messages must end with the assistant's turn"),
        ({"messages": [REPLY]}, "row 2: no message of the user's before the answer"),
        ({"messages": [USER, REPLY], "output": "x"}, "may be the last of messages or output"),
        ({"messages": [{"role": "tool", "content": "x"}, USER, REPLY]}, "unknown role 'tool'"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, REPLY]},
            "something other than text",
        ),
        ({"messages": [USER, {"role": "assistant", "content": 3}]}, "content is no text: 3"),
        ({"messages": ["x"]}, "row 2: "),
        ({"messages": [USER, REPLY], "id": "a"}, "row 2: the item 'a' is answered twice"),
    ],
)
def test_a_chat_that_is_not_whole_is_refused_with_its_row(
    tmp_path: Path, row: dict[str, Any], fault: str
) -> None:
    good = {"id": "a", "messages": [USER, REPLY]}
    with pytest.raises(UserError, match=re.escape(fault)):
        read_side(lines(tmp_path / "chats.jsonl", [good, row]))


def test_chats_are_judged_and_shown_to_people_beside_other_layouts(tmp_path: Path) -> None:
    chats = [
        {"messages": [SYSTEM, {"role": "user", "content": f"Name {n}.\n\n### Input:\nA list."},
                      {"role": "assistant", "content": f"chat {n}"}]}
        for n in range(3)
    ]  # fmt: skip
    rows = [
        {"instruction": f"Name {n}.", "input": "A list.", "output": f"row {n}"} for n in (2, 1, 0)
    ]
    mine = f"wisent={lines(tmp_path / 'a.jsonl', chats)}"
    other = f"ibis={lines(tmp_path / 'b.jsonl', rows)}"
    pairs = read_pairs(mine, other)
    assert [(pair.a.text, pair.b.text) for pair in pairs.pairs] == [
        (f"chat {n}", f"row {n}") for n in range(3)
    ]
    judge = ScriptedModel(lambda _: "Output (a)")
    run = judge_pairs(mine, [other], ["openai:x@http://localhost"], tmp_path / "v", given=[judge])
    assert run.manifest.rows == {"in": 6, "kept": 6, "rejected": {}}


# --------------------------------------------------------------------------- lm-eval's samples

ROWS = [
    {"instruction": f"What helps against pain {n}?", "input": "" if n % 2 else f"Patient {n}.",
     "output": f"It is {n}.", "difficulty": "hard"}
    for n in range(4)
]  # fmt: skip
SENT = "{{instruction}}{% if input %}\n{{input}}{% endif %}"


def samples(folder: Path, name: str, chat: str = "", **config: Any) -> Path:
    """What lm-eval 0.4.13 itself writes with --log_samples for a model that repeats its prompt."""
    lm_eval = pytest.importorskip("lm_eval", reason="lm-eval is not installed (extra 'evaluate')")
    from lm_eval.api.model import LM
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    class Parrot(LM):
        tokenizer_name = "parrot"
        said = 0

        def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
            def one(request: Any) -> str:
                self.said += 1
                return f" {name} says {self.said} {len(request.args[0])} "

            return [one(request) for request in requests]

        def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
            return [(-1.0, False) for _ in requests]

        def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
            raise NotImplementedError

        def chat_template(self, chat_template: bool | str = False) -> str:
            return chat

        def apply_chat_template(
            self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return chat.join(turn["content"] for turn in chat_history) + chat

    rows = lines(folder / "rows.jsonl", ROWS)
    task = {
        "task": "free",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows)}, "cache_dir": str(folder / "cache")},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": SENT,
        "doc_to_target": "{{output}}",
        "generation_kwargs": {"until": ["\n\n"]},
        "metric_list": [{"metric": "exact_match"}],
    } | config
    results = lm_eval.simple_evaluate(
        model=Parrot(),
        tasks=[task],
        task_manager=TaskManager(include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
        apply_chat_template=bool(chat),
        system_instruction=f"{chat}Be brief.{chat}" if chat else None,
    )
    tracker = EvaluationTracker(output_path=str(folder / "out"))
    tracker.general_config_tracker.model_name_sanitized = name
    tracker.date_id = "2026-11-25T20-47-31.163115"
    tracker.save_results_samples("free", results["samples"]["free"])
    (made,) = (folder / "out" / name).glob("samples_free_*.jsonl")
    return made


def test_lm_evals_samples_are_answers_and_two_models_meet_whatever_their_templates(
    tmp_path: Path,
) -> None:
    plain = read_side(samples(tmp_path / "a", "org__wisent"))
    templated = read_side(samples(tmp_path / "b", "org__ibis", chat="<|turn|>"))
    assert (plain.model, templated.model) == ("org__wisent", "org__ibis")
    for side in (plain, templated):
        assert list(side.questions) == ["0", "1", "2", "3"]
        assert [q.prompt for q in side.questions.values()] == [
            row["instruction"] + (f"\n\n### Input:\n{row['input']}" if row["input"] else "")
            for row in ROWS
        ]
        assert {(q.task, q.group) for q in side.questions.values()} == {("free", "hard")}
        assert [q.target for q in side.questions.values()] == [row["output"] for row in ROWS]
    assert list(aligned(plain, templated).answers) == list(plain.answers)
    judge = ScriptedModel(lambda _: "Tie")
    run = judge_pairs(
        str(samples(tmp_path / "c", "org__wisent")), [str(samples(tmp_path / "d", "org__ibis"))],
        ["openai:x@http://localhost"], tmp_path / "v", given=[judge],
    )  # fmt: skip
    assert run.manifest.rows == {"in": 8, "kept": 8, "rejected": {}}


def test_repeats_of_lm_eval_are_draws_and_its_filters_no_second_answer(tmp_path: Path) -> None:
    filters = [
        {"name": name, "filter": [{"function": "take_first"}]} for name in ("first", "second")
    ]
    path = samples(tmp_path, "org__wisent", repeats=2, filter_list=filters)
    assert len(path.read_text().splitlines()) == 2 * len(ROWS)
    side = read_side(path)
    assert len(side.questions) == len(ROWS)
    draws = [[(answer.draw, answer.text) for answer in one] for one in side.answers.values()]
    assert all([draw for draw, _ in one] == [0, 1] for one in draws)
    assert len({text for one in draws for _, text in one}) == 2 * len(ROWS)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[-1]["resps"] = [["another", "answer"]]
    with pytest.raises(UserError, match="row 8: the item '3' is answered twice"):
        read_side(lines(path, rows))


def test_what_a_model_was_shown_beside_the_question_stays_in_the_prompt(tmp_path: Path) -> None:
    """Or a judge would be asked about a question without the context that both models had."""
    sent = "Difficulty: {{difficulty}}. {{instruction}}"
    side = read_side(samples(tmp_path, "org__wisent", doc_to_text=sent))
    assert side.questions["0"].prompt == "Difficulty: hard. What helps against pain 0?"


def test_samples_of_likelihoods_hold_no_answers(tmp_path: Path) -> None:
    choices = {"output_type": "multiple_choice", "doc_to_choice": ["yes", "no"],
               "doc_to_target": "yes", "metric_list": [{"metric": "acc"}]}  # fmt: skip
    path = samples(tmp_path, "org__wisent", **choices)
    with pytest.raises(UserError, match="compared likelihoods here and no text was written"):
        read_side(path)


def test_samples_of_a_chat_server_hold_its_turns_as_json(tmp_path: Path) -> None:
    """As lm-eval 0.4.13 wrote them of ``local-chat-completions``: a list of one JSON text."""
    turns = [SYSTEM, {"role": "user", "content": "What helps?\nPatient 1."}]
    row = {
        "doc_id": 7,
        "doc": {"question": "What helps?", "context": "Patient 1."},
        "target": "Rest.",
        "arguments": {"gen_args_0": {"arg_0": [json.dumps(turns)], "arg_1": {"until": []}}},
        "resps": [["Rest it."]],
        "filtered_resps": ["Rest it."],
        "filter": "none",
    }
    name = "samples_ward_2026-11-25T20-49-01.746050.jsonl"
    side = read_side(lines(tmp_path / "served" / name, [row]))
    assert said(side) == [("What helps?\nPatient 1.", "Rest it.")]
    assert (side.model, side.questions["7"].task) == ("served", "ward")
