"""What the numbers on compared and graded answers mean, in a sentence each, and what n counts.

Names of metrics come in; the sentences of those that a page shows come out, and the limits of what
the page can say.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from meadowlark.records import Score, Verdict
from meadowlark.report.content import percent, plural
from meadowlark.report.findings import DETECTABLE

PROMPTS, VERDICTS, ANSWERS, BOTH_RATED = "prompts", "verdicts", "answers", "pairs of answers"

MEANINGS: dict[str, tuple[str, str]] = {
    "win_rate": (
        "Share of prompts on which the model is preferred: a win 1, a tie ½, a loss 0, a prompt "
        "the mean of its readable verdicts in both orders. 50\u00a0% is equal.",
        PROMPTS,
    ),
    "win_rate_unreadable_lost": (
        "The win rate at worst: every unreadable verdict counted as lost.",
        PROMPTS,
    ),
    "win_rate_unreadable_won": (
        "The win rate at best: every unreadable verdict counted as won.",
        PROMPTS,
    ),
    "win_rate_alpacare": (
        "The win rate as the AlpaCare paper counts it: a prompt with a missing or unreadable order "
        "is left out.",
        PROMPTS,
    ),
    "win_rate_consistent": (
        "The win rate when only a win in both orders counts, and any disagreement between the "
        "orders is a tie (MT-bench’s rule).",
        PROMPTS,
    ),
    "win_rate_shown_first": ("The win rate where the model’s answer was shown first.", VERDICTS),
    "win_rate_shown_second": ("The win rate where the model’s answer was shown second.", VERDICTS),
    "positional_agreement": (
        "Share of prompts on which the judge says the same in both orders. 100\u00a0% is ideal.",
        PROMPTS,
    ),
    "preference_rate": (
        "The win rate weighed by how strong each preference is (AlpacaEval’s).",
        PROMPTS,
    ),
    "preference_rate_standard_error": ("The standard error of the preference rate.", PROMPTS),
    "preference_rate_discrete": (
        "The preference rate with each preference rounded to a win, a tie or a loss.",
        PROMPTS,
    ),
    "length_difference": (
        "How many characters longer the model’s answers are on average; below 0 they are shorter.",
        PROMPTS,
    ),
    "length_controlled_win_rate": (
        "The win rate to be expected were both answers of the same length.",
        PROMPTS,
    ),
    DETECTABLE: (
        "How far from 50\u00a0% a true win rate must be for so many prompts to show it four times "
        "in five, as if no verdict were a tie (with ties less is enough).",
        PROMPTS,
    ),
    "strength": (
        "Bradley–Terry: one strength for each model that explains all verdicts at once, in "
        "log-odds. The model named “at 0” is the zero; 1 more means preferred 73\u00a0% of the "
        "time, 2 more 88\u00a0%.",
        VERDICTS,
    ),
    "position_effect": (
        "What being shown first adds, in the same log-odds: above 0 the judge favours the first "
        "answer, below 0 the second, 0 is fair.",
        VERDICTS,
    ),
    "win_rate_difference": (
        "One model’s win rate minus the other’s on the same prompts. 0 is equal.",
        PROMPTS,
    ),
    "paired_t_p": (
        "How often chance alone would give so large a difference (paired t test).",
        PROMPTS,
    ),
    "paired_t_p_holm": (
        "The same p-value, made stricter because several pairs are tested (Holm).",
        ANSWERS,
    ),
    "rouge_l_f1": (
        "Longest run of words, in order, shared with the reference answer: none 0\u00a0%, the same "
        "words 100\u00a0%.",
        ANSWERS,
    ),
    "rubric_score": ("Points met of all positive points of the rubric.", ANSWERS),
    "rubric_score_unscored_lost": ("The rubric score at worst: unscored counted as lost.", ANSWERS),
    "rubric_score_unscored_won": ("The rubric score at best: unscored counted as won.", ANSWERS),
    "rubric_difference": (
        "One model’s rubric score minus the other’s, answer by answer. 0 is equal.",
        ANSWERS,
    ),
    "mean_points": ("The mean number of points given.", ANSWERS),
    "points_difference": (
        "One model’s points minus the other’s on the same prompts. 0 is equal.",
        ANSWERS,
    ),
    "agreement_raw": ("Share of cases in which the raters say the same.", BOTH_RATED),
} | {
    f"agreement_{name}": (
        f"{title}: agreement beyond chance. 1 is perfect, 0 is chance.",
        BOTH_RATED,
    )
    for name, title in {
        "cohen": "Cohen’s kappa",
        "fleiss": "Fleiss’ kappa",
        "krippendorff": "Krippendorff’s alpha",
        "gwet": "Gwet’s AC1",
        "brennan_prediger": "Brennan and Prediger’s kappa",
    }.items()
}
"""What each metric of ``score`` means, and what its n counts."""


def unit(metric: str) -> str:
    """What the n of a metric counts; empty where it is not known."""
    return MEANINGS[metric][1] if metric in MEANINGS else ""


def meanings(metrics: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Each metric in words with its meaning, in the order of :data:`MEANINGS`."""
    from meadowlark.report.scores import metric_in_words

    asked = set(metrics)
    return [(metric_in_words(m), [told]) for m, (told, _) in MEANINGS.items() if m in asked]


def how_many(verdicts: Sequence[Verdict]) -> str:
    """What was judged, as ``216 prompts, 4 pairs of models, both orders: 1,728 verdicts``."""
    prompts = len({v.item for v in verdicts})
    pairs = len({(v.a, v.b) for v in verdicts})
    parts = [plural(prompts, "prompt"), plural(pairs, "pair of models", "pairs of models")]
    for what, many in (("rater", {v.by for v in verdicts}),
                       ("criterion", {v.criterion for v in verdicts})):  # fmt: skip
        if len(many) > 1:
            parts.append(plural(len(many), what, {"criterion": "criteria"}.get(what, "")))
    orders = len({v.shown_first for v in verdicts})
    parts.append("each in both orders" if orders == 2 else "in one order")
    unread = sum(v.winner == "unreadable" for v in verdicts)
    told = f"{unread:,} of them unreadable" if unread else "all readable"
    return f"{', '.join(parts)}: {plural(len(verdicts), 'verdict')}, {told}."


def order_effect(
    verdicts: Sequence[Verdict], scores: Sequence[Score], names: dict[str, str]
) -> list[str]:
    """For each rater of both orders, how often the answer shown first won, and how often the
    orders agreed; of several pairs of models, in which it was worst and best."""
    raters = list(dict.fromkeys((v.by, v.criterion) for v in verdicts))
    several = len({v.a for v in verdicts}) > 1
    lines = []
    for by, criterion in raters:
        own = [v for v in verdicts if (v.by, v.criterion) == (by, criterion)]
        whole = _first_won(own)
        if whole is None:
            continue
        agreed = [
            s
            for s in scores
            if s.metric == "positional_agreement" and s.task.startswith(f"{criterion} ({by}): ")
        ]
        line = f"The answer shown first won {percent(whole)} (50\u00a0% is fair"
        by_pair = {}
        for pair in dict.fromkeys((v.a, v.b) for v in own):
            rate = _first_won([v for v in own if (v.a, v.b) == pair])
            if rate is not None:
                by_pair[pair] = rate
        if len(by_pair) > 1:
            a, b = max(by_pair, key=lambda pair: abs(by_pair[pair] - 0.5))
            whom = f"{names[a]} against {names[b]}" if several else f"against {names[b]}"
            line += f"; furthest from it {whom}: {percent(by_pair[a, b])}"
        line += ")"
        if agreed:
            worst, best = (f(agreed, key=lambda s: s.value) for f in (min, max))
            line += ". With the two answers swapped, the verdict stayed the same on "
            if best.value > worst.value:
                worst_whom, best_whom = (_pair(s, names, several) for s in (worst, best))
                line += (
                    f"{percent(worst.value)} of prompts {worst_whom} (the least) and "
                    f"{percent(best.value)} {best_whom} (the most)"
                )
            else:
                line += f"{percent(worst.value)} of prompts"
            line += "; 100\u00a0% is ideal, tossing a coin gives 50\u00a0%"
        who = f" ({by}, {criterion})" if len(raters) > 1 else ""
        lines.append(f"{line}{who}.")
    return lines


def _pair(s: Score, names: dict[str, str], several: bool) -> str:
    other = s.task.partition("): against ")[2]
    whom = f"against {names.get(other, other)}"
    return f"for {names.get(s.model, s.model)} {whom}" if several else whom


def scale(kind: str, labels: Iterable[str], labelled_by: str) -> str:
    """Whose labels the prompts bear, and which end of them is which, as far as is known."""
    clinicians = "medinstruct" in labelled_by.lower()
    if kind == "difficulty" and clinicians and set(labels) <= set("12345"):
        return (
            "Difficulty of the prompts, MedInstruct-test, as the AlpaCare paper’s experts rated "
            "it: 1 easiest, 5 hardest."
        )
    return f"Labels as in {labelled_by}." if labelled_by else ""


def _first_won(verdicts: Sequence[Verdict]) -> float | None:
    """The share that the answer shown first won, a tie as half, each order weighing the same (so
    that the better model's wins cancel out); None where an order has no readable verdict."""
    points = {"a": 1.0, "b": 0.0, "tie": 0.5, "both_bad": 0.5}
    means = []
    for order in ("a", "b"):
        won = [points[v.winner] for v in verdicts if v.shown_first == order and v.winner in points]
        if not won:
            return None
        mean = sum(won) / len(won)
        means.append(mean if order == "a" else 1 - mean)
    return sum(means) / 2


def limits(verdicts: Sequence[Verdict], judges: set[str], unnamed: str) -> str:
    """What the verdicts cannot tell, in short sentences."""
    lines = [
        "A preferred answer need not be a correct one: no answer was checked for its facts.",
        "Nothing here was validated clinically.",
        "A 95\u00a0% interval tells how far a number may move with other prompts of the kind, not "
        "whether the judge is right.",
    ]
    models = {j for j in judges if j.startswith("judge:") and j != "judge:overlap"}
    if unnamed in judges:
        lines.append(
            "The judge is not named, so it cannot be asked again; the counting can be repeated."
        )
    if len(models) == 1 and not any(j.startswith("human:") for j in judges):
        lines.append("It is one judge model, checked against no person and no other judge.")
    if len({v.shown_first for v in verdicts}) == 1:
        lines.append("Each pair was judged in one order only, which may favour a place.")
    return " ".join(lines)
