"""A judge without a model: whose answer shares more words with the reference answer.

Answers of one model and of others to the same questions come in; one verdict for each order comes
out, by ROUGE-L F1 with the question's ``target``. It measures overlap of wording with one text.
It is NOT a judgement of quality: a right answer in other words loses to a wrong one in the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from meadowlark.answered import (
    Answered,
    beyond,
    inputs_of,
    read_sides,
    same_prompt,
)
from meadowlark.dataset import Run, open_run
from meadowlark.errors import UserError
from meadowlark.match import rouge_l_f1, tokenize
from meadowlark.progress import plural
from meadowlark.records import Answer, Rejected, Score, Verdict, Winner
from meadowlark.statistics.intervals import bootstrap_interval

BY = "judge:overlap"
CRITERION = "overlap with the reference answer"
NOTICE = "word overlap (ROUGE-L F1) with the reference answer, not a judgement of quality"
TIE_WITHIN = 0.01
INTERVAL_SEED = 42
ORDERS: tuple[Literal["a", "b"], ...] = ("a", "b")


def compare(
    a: Answer, b: Answer, target: str, tie_within: float = TIE_WITHIN
) -> tuple[Winner, float | None, str]:
    """Winner, preference for ``a`` (0 to 1, or None) and a note with both overlaps.

    Overlaps that differ by at most ``tie_within`` tie. An empty answer overlaps 0 and loses to any
    that is not empty; two empty ones are ``both_bad``. An answer that the model's server failed to
    give is ``unreadable``: nothing is known of it.
    """
    failed = [side for side, answer in (("a", a), ("b", b)) if answer.status == "failed"]
    if failed:
        return "unreadable", None, f"no answer was received from {' and '.join(failed)}"
    first, second = rouge_l_f1(a.text, target), rouge_l_f1(b.text, target)
    note = f"ROUGE-L F1 {first:.4f} against {second:.4f}"
    empty = [not answer.text.strip() for answer in (a, b)]
    if all(empty):
        return "both_bad", None, f"{note}; both empty"
    if any(empty):
        return ("b", 0.0, f"{note}; a is empty") if empty[0] else ("a", 1.0, f"{note}; b is empty")
    preference = first / (first + second) if first + second else 0.5
    if abs(first - second) <= tie_within:
        return "tie", preference, note
    return ("a" if first > second else "b"), preference, note


@dataclass
class _Judged:
    verdicts: list[Verdict] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def judge_overlap(
    answers: Path | str,
    references: Sequence[Path | str],
    out: Path,
    *,
    tie_within: float = TIE_WITHIN,
    limit: int | None = None,
    force: bool = False,
) -> Run:
    """Compare a folder of answers with each reference folder, into ``out``.

    Writes ``verdicts.parquet`` (two verdicts an item and reference, one for each order; the judge
    does not see an order, so they agree), ``rejected.parquet`` (items without a reference answer,
    without a counterpart, with different questions under one id, with choices, or further draws)
    and ``scores.json`` (each model's mean overlap). ``limit`` takes the first items.
    """
    if not 0 <= tie_within < 1:
        raise UserError(f"--tie-within {tie_within}: expected at least 0 and below 1, such as 0.01")
    if not references:
        raise UserError("give at least one folder of answers to compare with")
    run = open_run(
        "judge",
        out,
        options={"judge": "overlap", "tie_within": tie_within, "limit": limit},
        inputs=inputs_of(answers, references),
        force=force,
    )
    if run.complete:
        return run
    mine, others = read_sides(answers, references)
    with run:
        items = list(mine.questions)[:limit]
        judged = _Judged()
        for other in others:
            _judge_pair(mine, other, items, tie_within, judged)
        run.manifest.rows["in"] = len(items) * len(others)
        run.manifest.rows["kept"] = len(judged.verdicts) // len(ORDERS)
        run.write(judged.verdicts, Verdict)
        run.reject(judged.rejected, Verdict)
        targets = {item: question.target for item, question in mine.questions.items()}
        scores = _mean_overlaps([mine, *others], targets, judged.verdicts)
        run.write_json("scores.json", [asdict(score) for score in scores])
        run.manifest.warnings += beyond(mine, others)
        if not judged.verdicts:
            run.manifest.warnings.append("no item could be compared; see rejected.parquet")
        run.finish(judge=NOTICE, verdicts=len(judged.verdicts), **_outcomes(judged.verdicts))
    return run


def _judge_pair(
    mine: Answered, other: Answered, items: Sequence[str], tie_within: float, into: _Judged
) -> None:
    for item in items:
        names = (item, CRITERION, mine.model, other.model)
        fault = _fault(mine, other, item)
        if fault:
            row = Verdict(*names, "a", "unreadable", BY)
            into.rejected.append(Rejected(row, *fault))
            continue
        a, b = mine.answers[item][0], other.answers[item][0]
        target = mine.questions[item].target
        winner, preference, note = compare(a, b, target, tie_within)
        further = len(mine.answers[item]) + len(other.answers[item]) - 2
        if further:
            note += f"; {plural(further, 'further draw')} not compared"
        for order in ORDERS:
            into.verdicts.append(Verdict(*names, order, winner, BY, preference, note))


def _fault(mine: Answered, other: Answered, item: str) -> tuple[str, str] | None:
    """Why an item cannot be compared (reason, detail), or None."""
    question = mine.questions[item]
    if question.choices:
        return "a multiple-choice question", "exams are compared with `meadowlark score`"
    if not question.target.strip():
        return "no reference answer", "the question's target is empty"
    if not tokenize(question.target):
        return "no reference answer", "its target holds no Latin letters or digits to compare"
    if item not in mine.answers:
        return "no answer", mine.model
    if item not in other.answers:
        return "no answer", other.model
    theirs = other.questions[item]
    other_target = theirs.target not in ("", question.target)  # published answers have no target
    if not same_prompt(theirs, question) or other_target:
        return "different questions under one id", f"in {other.folder}"
    return None


def _mean_overlaps(
    sides: Sequence[Answered], targets: Mapping[str, str], verdicts: Sequence[Verdict]
) -> list[Score]:
    """Each model's mean ROUGE-L F1 over the items compared, with a bootstrap interval; the target
    is the one that the verdicts compared with, since a file of answers has none of its own."""
    scores = []
    for side in sides:
        items = dict.fromkeys(v.item for v in verdicts if side.model in (v.a, v.b))
        given = [side.answers[item][0] for item in items]
        overlaps = [
            rouge_l_f1(answer.text, targets[answer.item])
            for answer in given
            if answer.status != "failed"
        ]
        if not overlaps:
            continue
        low, high = bootstrap_interval([[x] for x in overlaps], INTERVAL_SEED) or (None, None)
        value = sum(overlaps) / len(overlaps)
        failed = len(given) - len(overlaps)
        scores.append(
            Score(CRITERION, side.model, "rouge_l_f1", value, low, high, len(given), failed)
        )
    return scores


def _outcomes(verdicts: Sequence[Verdict]) -> Mapping[str, str]:
    """For each reference, a line that says how often its answer overlapped more."""
    lines = {}
    for a, b in dict.fromkeys((v.a, v.b) for v in verdicts):
        won = [v.winner for v in verdicts if (v.a, v.b) == (a, b) and v.shown_first == "a"]
        tied = won.count("tie") + won.count("both_bad")
        lines[f"{a} against {b}"] = (
            f"more overlap in {plural(won.count('a'), 'item')}, less in {won.count('b')}, "
            f"equal in {tied}, no answer received in {won.count('unreadable')}"
        )
    return lines
