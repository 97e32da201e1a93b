"""The section of examples: kept rows, rejected rows, exam questions and compared answers.

Picks are random, not chosen: the seed and the run's label decide, so that the same runs show the
same rows. Where verdicts or right answers are known, wins and losses are picked in equal parts.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import pyarrow as pa

from meadowlark.records import Answer, Question, Record, Verdict, from_table
from meadowlark.report.content import Details, Example, Heading, Section, Side, plural
from meadowlark.report.data import ROWS, data_sets, finished_sets
from meadowlark.report.lineage import Lineage
from meadowlark.report.read import RunFolder
from meadowlark.report.scores import model_names
from meadowlark.templates import split_content

REJECTED = "rejected.parquet"
LONGEST = 4000
"""Characters of one text that are shown; the rest is in the run's folder."""
IN_SIGHT = 600
"""Characters of an answer that stand on the page; the rest is folded away under them."""
Item = TypeVar("Item")


def pick(items: Sequence[Item], wanted: int, seed: int, what: str) -> list[Item]:
    """``wanted`` of the items in their order, the same for the same seed and ``what``."""
    if len(items) <= wanted:
        return list(items)
    chosen = random.Random(f"{seed} {what}").sample(range(len(items)), wanted)
    return [items[index] for index in sorted(chosen)]


def section(lineage: Lineage, wanted: int, seed: int) -> Section | None:
    """The section, or None where there is nothing to show."""
    names = model_names(lineage.runs)
    blocks: list[Any] = []
    for heading, made in (
        ("Answers side by side", _answers(lineage, names, wanted, seed)),
        ("Exam questions", _exams(lineage.runs, names, wanted, seed)),
        ("Rows that were kept", _kept(lineage.runs, wanted, seed)),
        ("Rows that were rejected", _rejected(lineage.runs, wanted, seed)),
    ):
        if made:
            blocks += [Heading(heading), *made]
    if not blocks:
        return None
    lead = f"Picked at random (seed {seed}), good and bad as they came."
    return Section("examples", "Examples", lead, blocks)


def clip(words: str) -> str:
    """A text that is not too long for a page; says how much was left out."""
    if len(words) <= LONGEST:
        return words
    return f"{words[:LONGEST]} … [{len(words) - LONGEST:,} characters more]"


def folded(words: str) -> tuple[str, str]:
    """What of a text is in sight, and the rest, which a reader unfolds (paper shows it all).

    Cut after a word; a rest that is hardly longer than the line that offers it stays in sight.
    """
    if len(words) <= IN_SIGHT + IN_SIGHT // 4:
        return words, ""
    end = words.rfind(" ", 0, IN_SIGHT)
    return (words[:end], words[end:]) if end > 0 else (words[:IN_SIGHT], words[IN_SIGHT:])


# --------------------------------------------------------------------------- rows


def _kept(runs: Sequence[RunFolder], wanted: int, seed: int) -> list[Any]:
    found: list[Any] = []
    for one in finished_sets(data_sets(runs)):
        indices = pick(range(one.n), wanted, seed, one.label)
        table = one.run.table(ROWS)
        assert table is not None
        rows = from_table(table.take(pa.array(indices, pa.int64())), Record)
        made = [_record(row) for row in rows]
        found.append(Details(f"{one.label}: {len(made)} of {plural(one.n, 'row')}", made))
    return found


def _record(row: Record) -> Example:
    tags = [f"{k}: {v}" for k, v in row.tags.items() if k in ("type", "view", "difficulty")]
    heading = " · ".join([row.source or "row", *tags])
    prompt = "\n\n".join(part for part in (row.instruction, row.input) if part)
    earlier = "".join(f"{turn.role}: {turn.content}\n\n" for turn in row.history)
    sides = [Side("output", clip(row.output))] if row.output else []
    return Example(heading, clip(earlier + prompt), sides, f"id {row.id}")


def _rejected(runs: Sequence[RunFolder], wanted: int, seed: int) -> list[Any]:
    found: list[Any] = []
    for run in runs:
        table = run.table(REJECTED)
        if table is None or "reason" not in table.column_names or not table.num_rows:
            continue
        by_reason: dict[str, list[int]] = {}
        for index, reason in enumerate(table.column("reason").to_pylist()):
            by_reason.setdefault(reason or "no reason given", []).append(index)
        made: list[Any] = []
        each = max(1, wanted // len(by_reason))
        for reason, indices in by_reason.items():
            chosen = pick(indices, each, seed, f"{run.label} {reason}")
            for row in table.take(pa.array(chosen, pa.int64())).to_pylist():
                made.append(_rejected_row(reason, row))
        summary = f"{run.label}: {len(made)} of {plural(table.num_rows, 'rejected row')}"
        found.append(Details(summary, made))
    return found


def _rejected_row(reason: str, row: dict[str, Any]) -> Example:
    parts = [row.get(key) for key in ("instruction", "input", "prompt")]
    prompt = "\n\n".join(str(part) for part in parts if part)
    sides = [
        Side(label, clip(str(row[key])))
        for key, label in (("output", "output"), ("text", "answer"), ("detail", "detail"))
        if row.get(key)
    ]
    if not prompt and sides:
        prompt = sides.pop().text
    return Example(reason, clip(prompt), sides)


# --------------------------------------------------------------------------- questions


def _exams(runs: Sequence[RunFolder], names: dict[str, str], wanted: int, seed: int) -> list[Any]:
    """Questions with every model's choice; picked by what the last model made of them."""
    questions: dict[tuple[str, str], Question] = {}
    given: dict[tuple[str, str], dict[str, Answer]] = {}
    for run in runs:
        own = {q.id: q for q in run.questions if q.choices}
        for answer in run.answers:
            question = own.get(answer.item)
            if question is not None and answer.draw == 0:
                key = (question.id, question.prompt)
                questions.setdefault(key, question)
                given.setdefault(key, {})[answer.model] = answer
    if not given:
        return []
    last = list(dict.fromkeys(model for one in given.values() for model in one))[-1]
    right = [k for k, one in given.items() if last in one and _is_right(one[last], questions[k])]
    wrong = [k for k, one in given.items() if last in one and k not in set(right)]
    half = -(-wanted // 2)
    chosen = pick(right, half, seed, "right") + pick(wrong, wanted - half, seed, "wrong")
    made = [_exam_example(questions[key], given[key], names) for key in chosen]
    summary = f"{len(made)} of {plural(len(questions), 'question')}"
    return [Details(f"{summary}, half of them answered rightly by {names[last]} if so many", made)]


def _is_right(answer: Answer, question: Question) -> bool:
    return bool(answer.extracted) and answer.extracted == question.target


def _exam_example(question: Question, answers: dict[str, Answer], names: dict[str, str]) -> Example:
    letters = [chr(ord("A") + index) for index in range(len(question.choices))]
    choices = zip(letters, question.choices, strict=True)
    listed = "\n".join(f"{letter}: {choice}" for letter, choice in choices)
    sides = []
    for model, answer in answers.items():
        mark = "right" if _is_right(answer, question) else "wrong"
        words = answer.extracted or "no letter could be read"
        if answer.logprobs:
            pairs = zip(letters, answer.logprobs, strict=False)
            words += "\n" + "\n".join(f"{x}: {value:.2f} nats" for x, value in pairs)
        elif answer.text:
            words += f"\n{clip(answer.text)}"
        sides.append(Side(names[model], words, mark))
    heading = " · ".join(part for part in (question.task, question.group) if part)
    note = f"right answer: {question.target}; question {question.id}"
    return Example(heading, clip(f"{_prompt(question, listed)}"), sides, note)


def _prompt(question: Question, listed: str) -> str:
    """The question with its choices, unless the prompt lists them itself."""
    words = "\n\n".join(part for part in split_content(question.prompt) if part)
    shown_already = all(choice in words for choice in question.choices)
    return words if shown_already else f"{words}\n\n{listed}"


# --------------------------------------------------------------------------- answers


def _answers(lineage: Lineage, names: dict[str, str], wanted: int, seed: int) -> list[Any]:
    """Free-form prompts with every model's answer, and who won where there are verdicts."""
    questions: dict[tuple[str, str], Question] = {}
    given: dict[tuple[str, str], dict[str, Answer]] = {}
    for run in lineage.runs:
        own = {q.id: q for q in run.questions if not q.choices}
        for answer in run.answers:
            question = own.get(answer.item)
            if question is not None and answer.draw == 0:
                key = (question.id, question.prompt)
                questions.setdefault(key, question)
                taken = given.setdefault(key, {})
                if answer.model in taken and taken[answer.model].text == answer.text:
                    continue  # a judge's folder repeats the answers that it compared
                taken[_unique(answer.model, run, taken)] = answer
    outcomes = _outcomes(v for run in lineage.runs for v in run.verdicts)
    groups: dict[str, list[tuple[str, str]]] = {}
    for key in given:
        groups.setdefault(outcomes.get(key[0], ""), []).append(key)
    chosen: list[tuple[str, str]] = []
    each = max(1, -(-wanted // max(len(groups), 1)))
    for outcome in sorted(groups):
        chosen += pick(groups[outcome], each, seed, f"answers {outcome}")
    return [
        _answer_example(questions[key], given[key], names, outcomes.get(key[0], ""))
        for key in chosen
    ]


def _unique(model: str, run: RunFolder, taken: dict[str, Answer] | None) -> str:
    return f"{model} ({run.label})" if taken and model in taken else model


def _outcomes(verdicts: Iterable[Verdict]) -> dict[str, str]:
    """For each item, the model that was preferred, or how else the verdicts fell."""
    won: dict[str, dict[str, None]] = {}
    for v in verdicts:
        winner = {"a": v.a, "b": v.b}.get(v.winner, v.winner.replace("_", " "))
        won.setdefault(v.item, {})[winner] = None
    found = {}
    for item, winners in won.items():
        found[item] = next(iter(winners)) if len(winners) == 1 else "orders or judges disagree"
    return found


def _answer_example(
    question: Question, answers: dict[str, Answer], names: dict[str, str], outcome: str
) -> Example:
    sides = []
    for model, answer in answers.items():
        note: str = "" if answer.status == "ok" else answer.status
        if outcome == answer.model:
            note = f"{note}, preferred" if note else "preferred"
        shown = names.get(model) or model.replace(answer.model, names[answer.model])
        sides.append(Side(shown, clip(answer.text) or "(nothing)", note))
    if question.target:
        sides.append(Side("reference", clip(question.target)))
    prompt = "\n\n".join(part for part in split_content(question.prompt) if part)
    heading = " · ".join(part for part in (question.task, question.group) if part) or "prompt"
    verdict = f"verdict: {outcome}" if outcome and outcome not in names else ""
    return Example(heading, clip(prompt), sides, verdict)
