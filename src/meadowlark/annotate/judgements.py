"""What a person may say of an item, checked: from a form of the server or a row of a spreadsheet.

Plain fields come in; a judgement comes out as the JSON object that is stored. It says what was
seen (``first``, ``second``), never which model that was. A mistake is a UserError for the person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meadowlark.errors import UserError
from meadowlark.records import Record, Verdict, Winner
from meadowlark.tasks.task import letters
from meadowlark.templates import split_content

COMPARE, REVIEW = "compare", "review"
CRITERIA: dict[str, str] = {
    "correctness": "Which answer is medically more correct?",
    "helpfulness": "Which answer helps the person who asks more?",
}
"""What is judged of a pair, each by itself, and the question a person is asked."""
CHOICES: dict[str, str] = {
    "first": "Answer 1",
    "second": "Answer 2",
    "tie": "About equal",
    "both_bad": "Both unacceptable",
}
DECISIONS: dict[str, str] = {"accept": "Accept", "edit": "Edit", "reject": "Reject"}
REASONS = (
    "medically wrong",
    "unsafe advice",
    "answer does not fit the task",
    "task is unrealistic or unclear",
    "incomplete",
    "poor wording",
    "holds personal data",
    "other",
)
"""Why a row may be rejected: few and fixed, so that they can be counted."""
PARTS = ("instruction", "input", "output")
MOST_NOTE = 4000
Judgement = dict[str, str]


def task_of(question: Mapping[str, Any]) -> tuple[str, str]:
    """The instruction and the input that a person is shown of a question.

    An exam's options stand below them, unless the prompt lists them itself.
    """
    instruction, given = split_content(question["prompt"])
    choices = [str(choice) for choice in question.get("choices") or ()]
    if all(choice in question["prompt"] for choice in choices):
        return instruction, given
    pairs = zip(letters(len(choices)), choices, strict=True)
    listed = "\n".join(f"{letter}: {choice}" for letter, choice in pairs)
    return (instruction, f"{given}\n\n{listed}") if given else (f"{instruction}\n\n{listed}", "")


def comparison(fields: Mapping[str, str]) -> Judgement:
    """A comparison: one of :data:`CHOICES` for each criterion, and a note (may be empty)."""
    missing = [criterion for criterion in CRITERIA if not fields.get(criterion)]
    if missing:
        raise UserError(f"Please choose for {' and '.join(missing)} too.")
    for criterion in CRITERIA:
        if fields[criterion] not in CHOICES:
            raise UserError(f"{criterion}: {fields[criterion]!r} is no choice.")
    return {name: fields[name] for name in CRITERIA} | {"note": _note(fields)}


def review(fields: Mapping[str, str], record: Record) -> Judgement:
    """A decision on a row: accepted as it is, edited (with its new parts), or rejected (why).

    Fields that a form does not send are unchanged. Line ends count as one kind.
    """
    decision = fields.get("decision", "")
    if decision not in DECISIONS:
        raise UserError("Please choose: accept, edit or reject.")
    note = _note(fields)
    if decision == "reject":
        reason = fields.get("reason", "")
        if reason not in REASONS:
            raise UserError("Please choose a reason for the rejection.")
        if reason == "other" and not note:
            raise UserError("Please say in the note why this row is rejected.")
        return {"decision": decision, "reason": reason, "note": note}
    parts = {name: plain(fields.get(name, getattr(record, name))) for name in PARTS}
    changed = any(parts[name] != plain(getattr(record, name)) for name in PARTS)
    if decision == "accept":
        if changed:
            raise UserError("The text was changed: choose edit to keep the change.")
        return {"decision": decision, "note": note}
    if not changed:
        raise UserError("Nothing was changed: choose accept, or edit the text.")
    if not parts["instruction"].strip():
        raise UserError("The instruction cannot be empty.")
    if record.output.strip() and not parts["output"].strip():
        raise UserError("The answer cannot be empty; reject the row instead.")
    return {"decision": decision, "note": note, **parts}


def _note(fields: Mapping[str, str]) -> str:
    note = plain(fields.get("note", "")).strip()
    if len(note) > MOST_NOTE:
        raise UserError(f"The note is longer than {MOST_NOTE:,} characters.")
    return note


def plain(text: str) -> str:
    """A text with line feeds only: browsers send carriage returns too."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def winner(choice: str, a_first: bool) -> Winner:
    """The winner that a choice between what was shown first and second means."""
    if choice == "tie":
        return "tie"
    if choice == "both_bad":
        return "both_bad"
    return "a" if (choice == "first") == a_first else "b"


def verdicts(
    judgement: Mapping[str, Any], *, item: str, a: str, b: str, a_first: bool, person: str
) -> list[Verdict]:
    """One verdict a criterion; the note stands with each."""
    return [
        Verdict(
            item=item,
            criterion=criterion,
            a=a,
            b=b,
            shown_first="a" if a_first else "b",
            winner=winner(judgement[criterion], a_first),
            by=f"human:{person}",
            note=judgement.get("note", ""),
        )
        for criterion in CRITERIA
    ]
