"""The numbers of an exam: accuracies with their intervals, chance, and what an order changes.

Questions with one model's answers come in as :class:`Examined`; :class:`Score` rows go out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from meadowlark.evaluate.exam_prompts import Scoring
from meadowlark.records import Answer, Question, Score
from meadowlark.statistics.classification import macro_f1
from meadowlark.statistics.intervals import clustered_interval, wilson
from meadowlark.tasks.task import letters


@dataclass(frozen=True, slots=True)
class Examined:
    """One question and what a model answered.

    ``answers`` are those to the orders of the choices, the published one first. ``tokens`` and
    ``unconditional`` have one number a choice (its tokens, and its log-likelihood without the
    question) where they were made. ``exposed`` says whether the question stands among the model's
    training rows, None where nobody looked.
    """

    question: Question
    answers: Sequence[Answer]
    scoring: Scoring = "letter"
    tokens: Sequence[int] = field(default=())
    unconditional: Sequence[float] = field(default=())
    exposed: bool | None = None

    @property
    def answer(self) -> Answer:
        """The answer to the published order."""
        return self.answers[0]

    @property
    def right(self) -> bool:
        """Whether the answer to the published order is right."""
        return self.answer.extracted == self.question.target

    def by(self, metric: str) -> str:
        """The letter that wins by another measure than the likelihood itself."""
        values = self.answer.logprobs
        if not self.answer.extracted or not values:
            return ""
        texts = [choice.strip() for choice in self.question.choices]
        sizes: Sequence[float]
        if metric == "accuracy_unconditional":
            gained = [v - free for v, free in zip(values, self.unconditional, strict=True)]
            return _first_best(gained)
        if metric == "accuracy_per_character":
            sizes = [len(text) for text in texts]
        elif metric == "accuracy_per_byte":
            sizes = [len(text.encode()) for text in texts]
        else:
            assert metric == "accuracy_per_token"
            sizes = self.tokens
        return _first_best([value / size for value, size in zip(values, sizes, strict=True)])


def _first_best(values: Sequence[float]) -> str:
    return letters(len(values))[values.index(max(values))]


def exam_scores(examined: Sequence[Examined]) -> list[Score]:
    """Scores by task, and by group of a task with several: accuracy, and the level of chance.

    ``accuracy`` has Wilson's interval; ``accuracy_clustered`` is the same value with an interval
    that lets the questions of one group be alike. Where texts were compared by likelihood,
    ``accuracy_per_character``, ``_per_byte`` and ``_per_token`` divide each choice's by its length,
    and ``accuracy_unconditional`` takes away what it is without the question. Where all
    questions have the same choices (PubMedQA's labels) ``macro_f1`` is there. Of several orders of
    the choices, ``accuracy`` is that of the published one. ``chance`` is the mean of 1/choices.
    """
    scores = []
    for task in dict.fromkeys(one.question.task for one in examined):
        found = [one for one in examined if one.question.task == task]
        scores += _accuracies(task, found)
        scores += _over_orders(task, found)
        scores += _exposed(task, found)
        scores += _over_labels(task, found)
        chance = sum(1 / len(one.question.choices) for one in found) / len(found)
        scores.append(Score(task, found[0].answer.model, "chance", chance, None, None, len(found)))
        groups = list(dict.fromkeys(one.question.group for one in found))
        if len(groups) < 2:
            continue
        right = [float(one.right) for one in found]
        clusters = [one.question.group or f"\n{one.question.id}" for one in found]
        scores.append(_clustered(task, "accuracy_clustered", found, right, clusters))
        for group in groups:
            members = [one for one in found if one.question.group == group]
            scores += _accuracies(f"{task}/{group or 'no group'}", members)
    return scores


def _accuracies(task: str, found: Sequence[Examined]) -> list[Score]:
    counted = {"accuracy": sum(one.right for one in found)}
    by_likelihood = any(one.answer.logprobs for one in found)
    if found[0].scoring == "text" and by_likelihood:
        metrics = ["accuracy_per_character", "accuracy_per_byte"]
        metrics += ["accuracy_per_token"] * all(one.tokens for one in found)
        metrics += ["accuracy_unconditional"] * all(one.unconditional for one in found)
        for metric in metrics:
            counted[metric] = sum(one.by(metric) == one.question.target for one in found)
    return [_share(task, metric, found, right) for metric, right in counted.items()]


def _share(task: str, metric: str, found: Sequence[Examined], count: int) -> Score:
    """A share of the questions with Wilson's interval."""
    n, unreadable = len(found), sum(not one.answer.extracted for one in found)
    model = found[0].answer.model
    return Score(task, model, metric, count / n, *wilson(count, n), n, unreadable)


def _clustered(
    task: str,
    metric: str,
    found: Sequence[Examined],
    values: Sequence[float],
    clusters: Sequence[str],
) -> Score:
    """A mean with an interval by clusters, kept within 0 and 1."""
    low, high = clustered_interval(values, clusters) or (None, None)
    if low is not None and high is not None:
        low, high = max(0.0, low), min(1.0, high)
    unreadable = sum(not one.answer.extracted for one in found)
    mean, model = sum(values) / len(values), found[0].answer.model
    return Score(task, model, metric, mean, low, high, len(found), unreadable)


def _over_orders(task: str, found: Sequence[Examined]) -> list[Score]:
    """What turning the choices changes; nothing where each question was asked in one order.

    ``accuracy_over_orders`` is the mean over a question's orders, ``accuracy_in_every_order`` and
    ``rate_same_in_every_order`` count questions that were answered rightly, or alike, in all.
    """
    if all(len(one.answers) == 1 for one in found):
        return []
    means, always, alike = [], 0, 0
    for one in found:
        said = [answer.extracted for answer in one.answers]
        right = [letter == one.question.target for letter in said]
        means.append(sum(right) / len(right))
        always += all(right)
        alike += len(set(said)) == 1 and bool(said[0])
    clusters = [one.question.group or f"\n{one.question.id}" for one in found]
    if len(set(clusters)) < 2:
        clusters = [one.question.id for one in found]
    return [
        _clustered(task, "accuracy_over_orders", found, means, clusters),
        _share(task, "accuracy_in_every_order", found, always),
        _share(task, "rate_same_in_every_order", found, alike),
    ]


def _over_labels(task: str, found: Sequence[Examined]) -> list[Score]:
    """Macro-F1 where every question has the same choices, such as PubMedQA's yes, no and maybe.

    A label that is neither right nor answered anywhere is left out, as PubMedQA's own script does;
    an unreadable answer is no label.
    """
    if len(found) < 2 or len({one.question.choices for one in found}) > 1:
        return []
    gold = [one.question.target for one in found]
    said = [one.answer.extracted for one in found]
    labels = [label for label in dict.fromkeys([*gold, *said]) if label]
    value, unreadable = macro_f1(gold, said, labels), said.count("")
    model = found[0].answer.model
    return [Score(task, model, "macro_f1", value, None, None, len(found), unreadable)]


def _exposed(task: str, found: Sequence[Examined]) -> list[Score]:
    """Accuracy on questions that are not among the training rows, and on those that are."""
    scores = []
    for metric, exposed in (("accuracy_clean", False), ("accuracy_contaminated", True)):
        members = [one for one in found if one.exposed is exposed]
        if members:
            scores.append(_share(task, metric, members, sum(one.right for one in members)))
    return scores


def by_task(examined: Sequence[Examined]) -> dict[str, Any]:
    """By task: how often each letter was answered and is right, what was cut, what was tied.

    With several orders, ``places_answered`` counts the letters as they were shown.
    """
    made: dict[str, Any] = {}
    for task in dict.fromkeys(one.question.task for one in examined):
        found = [one for one in examined if one.question.task == task]
        # Of likelihoods the prompt was too long, of a written answer the answer itself.
        cut = "prompts_cut" if any(one.answer.logprobs for one in found) else "replies_cut"
        made[task] = {
            "letters_answered": _count(one.answer.extracted or "none" for one in found),
            "letters_right": _count(one.question.target for one in found),
            cut: sum(one.answer.status == "truncated" for one in found),
            "tied": sum(_tied(one.answer) for one in found),
        }
        if any(len(one.answers) > 1 for one in found):
            made[task]["orders"] = max(len(one.answers) for one in found)
            made[task]["places_answered"] = _count(
                place_shown(one.question, answer) for one in found for answer in one.answers
            )
    return made


def place_shown(question: Question, answer: Answer) -> str:
    """The letter under which the answered choice was shown."""
    if not answer.extracted:
        return "none"
    named = letters(len(question.choices))
    return named[(named.index(answer.extracted) - answer.draw) % len(named)]


def _count(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items()))


def _tied(answer: Answer) -> bool:
    values = answer.logprobs
    return bool(answer.extracted and values) and values.count(max(values)) > 1
