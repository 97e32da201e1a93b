"""One model's answers with the questions they answer, and the same questions in another's answers.

A folder that a stage wrote (``answers.parquet`` and ``questions.parquet``), or a file of answers
that another program wrote (``answer_files``), comes in; what compares two models (a judge, people,
the overlap, the paired exam) works on the joined form that comes out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from meadowlark.answer_files import Given, name_of, read_given
from meadowlark.dataset import FILE_OF, read
from meadowlark.errors import UserError
from meadowlark.progress import plural
from meadowlark.records import Answer, Question
from meadowlark.templates import split_content


@dataclass(frozen=True)
class Answered:
    """The questions of a folder or file by id, in their order, and one model's answers to each.

    ``answers`` are in the order of their draws. ``folder`` is where they lie: a folder, or a file
    of published answers.
    """

    folder: Path
    model: str
    questions: dict[str, Question]
    answers: dict[str, tuple[Answer, ...]]


def named_path(argument: str | Path) -> tuple[str, Path]:
    """``NAME=PATH`` taken apart; a path alone (or one that holds an equals sign) has no name."""
    name, equals, path = str(argument).partition("=")
    if not equals or not name or Path(argument).exists():
        return "", Path(argument)
    return name, Path(path)


def read_side(argument: str | Path) -> Answered:
    """The answers that ``PATH`` or ``NAME=PATH`` names, under that name."""
    name, path = named_path(argument)
    side = read_answered(path) if path.is_dir() else read_answer_file(path)
    return _renamed(side, name) if name else side


def _renamed(side: Answered, name: str) -> Answered:
    answers = {i: tuple(replace(a, model=name) for a in one) for i, one in side.answers.items()}
    return replace(side, model=name, answers=answers)


def read_answered(folder: Path) -> Answered:
    """A folder's questions and answers joined; a UserError where it is none or holds two models."""
    if not folder.is_dir():
        raise UserError(
            f"{folder}: expected a folder with {FILE_OF[Answer]} and {FILE_OF[Question]}, as "
            "`meadowlark answer` or `meadowlark exam` writes it"
        )
    answers, _ = read(folder, Answer)
    rows, _ = read(folder, Question)
    questions = {question.id: question for question in rows}
    for question in rows:  # the same question twice is one question answered twice
        if questions[question.id] != question:
            raise UserError(
                f"{folder}: two questions share the id {question.id!r}, so that their answers "
                "cannot be told apart"
            )
    models = sorted({answer.model for answer in answers})
    if len(models) != 1:
        names = ", ".join(models) or "none"
        raise UserError(f"{folder} must hold the answers of one model, not of {names}")
    by_item: dict[str, list[Answer]] = {}
    for answer in answers:
        by_item.setdefault(answer.item, []).append(answer)
    strangers = by_item.keys() - questions.keys()
    if strangers:
        raise UserError(f"{folder}: no question for the answered item {min(strangers)!r}")
    ordered = {item: tuple(sorted(found, key=_draw)) for item, found in by_item.items()}
    return Answered(folder, models[0], questions, ordered)


def _draw(answer: Answer) -> int:
    return answer.draw


# --------------------------------------------------------------------------- files of others
def read_answer_file(path: Path) -> Answered:
    """A file of answers that another program wrote (:mod:`meadowlark.answer_files` says which).

    The model is what the rows call it, else named after the folder and the file. An item is known
    by the row's id, else by a hash of its prompt. A row without a prompt or an answer, or a
    repeated id, is a UserError: an answer that is left out would not be missed.
    """
    if not path.is_file():
        raise UserError(
            f"no such folder or file of answers: {path}. Expected a folder that `meadowlark "
            "answer` wrote, or a .json, .jsonl or .csv file whose rows hold instruction (and "
            "input) or prompt, and response or output, or messages; or lm-eval's samples; "
            "NAME=PATH names the model"
        )
    questions: dict[str, Question] = {}
    answers: dict[str, tuple[Answer, ...]] = {}
    models: set[str] = set()
    first: dict[str, Given] = {}
    for number, row in enumerate(read_given(path), start=1):
        item = row.item or hashlib.sha256(row.prompt.encode()).hexdigest()[:20]
        if item in first:
            if row.again and row == first[item]:
                continue  # lm-eval's row once more, for another of its filters
            named = f"the item {item!r}" if row.item else f"the prompt {row.prompt[:60]!r}"
            raise UserError(f"{path}, row {number}: {named} is answered twice")
        first[item] = row
        models.add(row.model)
        questions[item] = Question(item, row.task, row.prompt, target=row.target, group=row.group)
        answers[item] = tuple(
            Answer(item, "", draw, text.strip(), status="ok" if text.strip() else "empty")
            for draw, text in enumerate(row.texts)
        )
    if len(models) != 1:
        raise UserError(f"{path} must hold one model's answers, not those of {sorted(models)}")
    name = models.pop() or name_of(path)
    return _renamed(Answered(path, name, questions, answers), name)


# --------------------------------------------------------------------------- the same questions


def plain(prompt: str) -> str:
    """A prompt as a judge is shown it: instruction, blank line, input (PAPERS.md, section 1)."""
    return "\n\n".join(part for part in split_content(prompt) if part)


def _words(text: str) -> str:
    return " ".join(text.split())


def counterparts(mine: Answered, other: Answered) -> dict[str, str]:
    """The ids of ``other`` whose questions ``mine`` asks too, each with its id there.

    By id where the prompts agree, else by their text; spaces do not count. A prompt with an input
    also agrees with one that is that input alone (the published iCliniq references leave the
    instruction out). Of questions with the same text the first goes to the first.
    """
    places: dict[str, list[str]] = {}
    for item, question in other.questions.items():
        for key in _keys(question.prompt):
            places.setdefault(key, []).append(item)
    own: dict[str, str] = {}
    late = []
    for item, question in mine.questions.items():
        theirs = other.questions.get(item)
        if theirs is not None and _words(plain(theirs.prompt)) == _words(plain(question.prompt)):
            own[item] = item
        else:
            late.append(item)
    for item in late:
        found = [
            o for k in _keys(mine.questions[item].prompt) for o in places.get(k, ()) if o not in own
        ]
        if found:
            own[found[0]] = item
    return own


def aligned(mine: Answered, other: Answered) -> Answered:
    """``other`` under the ids of its :func:`counterparts` in ``mine``.

    What has no counterpart keeps its own id, with its model's name behind where that is another's.
    """
    own = counterparts(mine, other)
    taken = set(own.values())
    names = {i: own.get(i, f"{i} ({other.model})" if i in taken else i) for i in other.questions}
    return replace(
        other,
        questions={new: replace(other.questions[old], id=new) for old, new in names.items()},
        answers={
            new: tuple(replace(answer, item=new) for answer in other.answers[old])
            for old, new in names.items()
            if old in other.answers
        },
    )


def _keys(prompt: str) -> list[str]:
    """What a prompt is found by: its whole text, and its input alone."""
    _, given = split_content(prompt)
    whole = _words(plain(prompt))
    return [whole, _words(given)] if given and _words(given) != whole else [whole]


def same_prompt(a: Question, b: Question) -> bool:
    """Whether two questions ask the same, or one is the other's input alone."""
    return bool({*_keys(a.prompt)} & {*_keys(b.prompt)})


def with_distinct_names(sides: Sequence[Answered]) -> list[Answered]:
    """The same, each under a name of its own: the folder's name is added where models share one."""
    names = [side.model for side in sides]
    told: list[Answered] = []
    for side in sides:
        if names.count(side.model) > 1:
            side = replace(side, model=f"{side.model} ({side.folder.resolve().name})")
        told.append(side)
    names = [side.model for side in told]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two of these hold answers of {name!r} and lie under the same name; tell them "
                "apart with NAME=PATH"
            )
    return told


def read_sides(
    answers: str | Path, references: Sequence[str | Path]
) -> tuple[Answered, list[Answered]]:
    """A model's answers and others' to the same questions, under distinct names and its ids."""
    mine, *others = with_distinct_names([read_side(path) for path in (answers, *references)])
    return mine, [aligned(mine, other) for other in others]


def beyond(mine: Answered, others: Sequence[Answered]) -> list[str]:
    """What a comparison of first answers to one model's questions does not look at, a line each:
    others' questions that the model was not asked, and answers after the first."""
    lines = []
    for side in others:
        more = len(side.answers.keys() - mine.questions.keys())
        if more:
            lines.append(
                f"{plural(more, 'answer')} of {side.model} to questions that {mine.model} was not "
                "asked, which nobody judged"
            )
    for side in (mine, *others):
        draws = sum(len(side.answers[i]) - 1 for i in side.answers if i in mine.questions)
        if draws:
            lines.append(f"{plural(draws, 'further draw')} of {side.model}, which nobody judged")
    return lines


def inputs_of(answers: str | Path, references: Sequence[str | Path]) -> dict[str, Path]:
    """The folders and files of a comparison, as a manifest lists them."""
    given = {"answers": answers} | {f"reference {n}": p for n, p in enumerate(references, 1)}
    return {name: named_path(path)[1] for name, path in given.items()}
