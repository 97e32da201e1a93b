"""What a reader who knows nothing of the project finds on the page of compared answers."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
from test_report_page import Page

from meadowlark.dataset import open_run
from meadowlark.evaluate.graded import RUBRIC, score_grades
from meadowlark.evaluate.score import score_verdicts
from meadowlark.evaluate.texts import Texts
from meadowlark.records import Grade, Score, Verdict
from meadowlark.report import glossary
from meadowlark.report.comparisons import COUNTS, _apart_in_words, _label_plots
from meadowlark.report.content import short
from meadowlark.report.findings import reach, tiles
from meadowlark.report.page import report
from meadowlark.report.scores import averaged
from meadowlark.statistics.power import detectable_win_rate

ITEMS = [f"i{n}" for n in range(12)]
BOTH = ("win_rate", "win_rate_unreadable_lost")
LABELS = {item: "easy" if n < 8 else "hard" for n, item in enumerate(ITEMS)}


def verdicts(by: str = "judge:unnamed", model: str = "m") -> list[Verdict]:
    """The model beats ``weak`` always, loses to ``strong`` always, and of ``even`` a judge prefers
    whichever answer is shown first."""
    return [
        Verdict(item, "preference", model, other, order, winner, by)  # type: ignore[arg-type]
        for item, order in itertools.product(ITEMS, "ab")
        for other, winner in (("weak", "a"), ("strong", "b"), ("even", order))
    ]


@pytest.fixture
def made(tmp_path: Path) -> Path:
    rows = verdicts()
    scores, _, _ = score_verdicts(rows, texts=Texts(labels={"difficulty": LABELS}))
    run = open_run("score", tmp_path / "s", options={}, inputs={})
    with run:
        run.write(rows, Verdict)
        run.write_json("scores.json", [asdict(s) for s in scores])
        run.finish()
    report([tmp_path / "s"], tmp_path / "report")
    return tmp_path / "report"


@pytest.fixture
def page(made: Path) -> Page:
    return Page((made / "report.html").read_text(encoding="utf-8"))


def test_an_average_over_references_is_never_the_number_at_a_glance(page: Page) -> None:
    text = page.text.replace("\u00a0", " ")
    assert (
        "preference: m preferred less than strong; preferred more than weak; even: undecided"
        in text
    )
    assert "undecided: other prompts could tip it" in text
    assert "m against 3 reference models: whose answers are preferred?" in text
    # The average stands after the single comparisons, and with its caution.
    average = text.index("the kind of number that the AlpaCare paper reports, is 50.0 %")
    table = text.index("orders weighed alike")
    less, more = (text.index(f"preferred {how}", table) for how in ("less than", "more than"))
    assert less < more < average
    assert "without strong it is 75.0 %" in text


def test_references_stand_in_one_order_in_every_table_and_plot(made: Path) -> None:
    report_json = json.loads((made / "report.json").read_text())
    order = ["strong", "even", "weak"]
    findings = report_json["tables"]["findings"]["rows"]
    assert [row["reference"] for row in findings] == order
    fell = report_json["tables"]["verdicts"]["rows"]
    assert list(dict.fromkeys(row["b"] for row in fell)) == order
    tasks = [row["task"].partition("): ")[2] for row in
             report_json["tables"]["comparison_scores"]["rows"]]  # fmt: skip
    singles = [f"against {name}" for name in order]
    assert [*dict.fromkeys(t for t in tasks if t in singles or t.startswith("average"))][:4] == [
        *singles,
        "average over 3 references",
    ]
    # The page of verdicts has the same order, in its lines and in the answers side by side.
    viewed = (made / "verdicts.html").read_text()
    articles = viewed.split("<article")[1:]
    assert len(articles) == len(ITEMS)
    for article in articles:
        assert re.findall(r'<th scope="row">m against (\w+)', article) == order
        assert re.findall(r'<p class="who">(\w+)</p><p class="words"', article) == ["m", *order]
    html = (made / "report.html").read_text()
    drawings = re.findall(
        r'<svg class="plot" role="img" aria-labelledby="(?:win-rates|verdicts)-t.*?</svg>', html
    )
    assert len(drawings) == 2
    for drawing in drawings:
        places = [drawing.index(f">against {name}<") for name in order]
        assert places == sorted(places)


def test_an_interval_that_ends_near_equal_is_borderline() -> None:
    names = {"m": "m", "x": "x", "y": "y", "z": "z"}
    scores = [
        Score(f"preference (judge:j): {of}", "m", "win_rate", value, low, high, 40)
        for of, value, low, high in (
            ("against x", 0.44, 0.39, 0.498),
            ("against y", 0.56, 0.511, 0.6),
            ("against z", 0.45, 0.38, 0.505),
            ("average over 3 references", 0.48, 0.45, 0.52),
        )
    ]
    (tile,) = tiles(scores, names)
    assert (
        tile.value
        == "preferred less than x (borderline); preferred more than y; z (borderline): undecided"
    )


def labelled(intervals: list[tuple[float, float]]) -> list[Score]:
    task = "preference (judge:j): average over 2 references · difficulty"
    return [
        Score(f"{task} {n}", "m", "win_rate", (low + high) / 2, low, high, 20)
        for n, (low, high) in enumerate(intervals, start=1)
    ]


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ([(0.4, 0.6), (0.45, 0.7)],
         "Every interval holds 50 %: no difference by difficulty is shown."),
        ([(0.505, 0.6), (0.45, 0.7)],
         "Above 50 %: difficulty 1 (borderline). All intervals overlap, so a "
         "difference by difficulty is not certain."),
        ([(0.6, 0.7), (0.1, 0.3)], "Above 50 %: difficulty 1. Below 50 %: difficulty 2."),
    ],
)  # fmt: skip
def test_what_labels_show_is_said(intervals: list[tuple[float, float]], words: str) -> None:
    assert " ".join(_apart_in_words(labelled(intervals), "difficulty", {"m": "m"})) == words


def test_a_label_over_fewer_references_and_one_without_a_rate_are_told() -> None:
    at = "preference (judge:j): average over"
    scores = [
        *(Score(f"{at} 3 references", "m", metric, 0.5, 0.4, 0.6, 60) for metric in BOTH),
        *(
            Score(f"{at} {over} references · difficulty {label}", "m", metric, 0.5, 0.4, 0.6, 20)
            for over, label in ((3, "1"), (2, "2"), (3, "3"))
            for metric in BOTH
            if label != "3" or metric != "win_rate"
        ),
    ]
    (figure,) = _label_plots(scores, {"m": "m"})
    assert "each bar the average over 3 reference models, with 95 % intervals" in figure.caption
    assert (
        "Difficulty 2: average over 2 reference models only, since the others lack such prompts; "
        "it does not compare with the rest." in figure.caption
    )
    assert (
        "Difficulty 3: no win rate, since against a reference model no verdict could be read."
        in figure.caption
    )
    assert "have no difficulty here" not in figure.caption  # the third 20 are the third label's
    assert ">win rate, average over 3 reference models (%)<" in figure.svg


def test_labels_that_a_plot_has_no_room_for_are_counted() -> None:
    scores = [
        Score(f"preference (judge:j): against r · topic t{n}", "m", metric, 0.5, 0.4, 0.6, 10 + n)
        for n in range(11)
        for metric in BOTH
    ]
    (figure,) = _label_plots(scores, {"m": "m", "r": "r"})
    assert "Drawn are the 8 with most prompts of 11; the scores below have all." in figure.caption
    assert "(against r)" in figure.caption
    assert ">t3<" in figure.svg
    assert ">t2<" not in figure.svg


def test_the_page_says_what_so_many_prompts_can_show(page: Page) -> None:
    text = page.text.replace("\u00a0", " ")
    points = 100 * (detectable_win_rate(12) - 0.5)
    assert (
        f"What so many prompts can show: with 12 prompts, a true win rate {points:.1f} percentage "
        "points above or below 50 % is found four times in five; a smaller difference may well "
        "stay undecided." in text
    )
    two = [
        Score(f"preference (judge:j): against {name}", "m", "smallest_detectable_difference",
              value, None, None, n, 4)
        for name, value, n in (("r", 0.1, 104), ("s", 0.2, 34))
    ]  # fmt: skip
    assert "with 100 prompts (30 in the smallest comparison), a true win rate 10.0 to 20.0" in (
        reach(two)
    )
    assert reach([]) == ""


def test_no_reference_is_called_anything_else_and_a_file_may_be_rated_by_nobody_known() -> None:
    assert averaged("average over 4 references · topic x") == (
        "average over 4 reference models · topic x"
    )
    assert "1 easiest, 5 hardest" in glossary.scale("difficulty", "12345", "MedInstruct-test.jsonl")
    assert glossary.scale("difficulty", ["easy"], "mine.csv") == "Labels as in mine.csv."
    assert glossary.scale("topic", ["x"], "") == ""


def test_prompts_verdicts_and_orders_are_told_apart(page: Page) -> None:
    text = page.text.replace("\u00a0", " ")
    assert "12 prompts, 3 pairs of models, each in both orders: 72 verdicts, all readable." in text
    assert "n = 8" in text
    assert "n = 4" in text
    assert "24 verdicts" in text  # of a rate in one order, or of a strength


def test_the_order_effect_and_the_limits_stand_outside_any_fold(page: Page) -> None:
    text = page.text.replace("\u00a0", " ")
    # Of 72 verdicts the first shown won 24 of "even" and half of the other 48.
    order = (
        "The answer shown first won 66.7 % (50 % is fair; furthest from it against even: 100.0 %)"
    )
    assert text.index(order) < text.index("Every score, and what each means")
    assert "the verdict stayed the same on 0.0 % of prompts against even (the least)" in text
    for limit in ("need not be a correct one", "validated clinically", "The judge is not named",
                  "no person and no other judge"):  # fmt: skip
        assert text.index(limit) < text.index("Every score, and what each means")


def test_what_the_runs_warn_of_is_in_sight(tmp_path: Path) -> None:
    def made(warnings: list[str], name: str) -> Page:
        run = open_run("score", tmp_path / name, options={}, inputs={})
        with run:
            run.write(verdicts(), Verdict)
            run.write_json("scores.json", [])
            run.manifest.warnings += warnings
            run.finish()
        report([tmp_path / name], tmp_path / f"{name}-report")
        return Page((tmp_path / f"{name}-report" / "report.html").read_text(encoding="utf-8"))

    few = ["3 of 12 items not judged against every reference", "judge:overlap is no judgement"]
    text = made(few, "few").text
    section = text[: text.index("What was made from what")]
    assert few[0] in section
    assert few[1] not in section  # what the section's first paragraph says of that judge
    many = made([f"line {n}" for n in range(9)], "many")
    assert "What the judging and scoring warn of: 9 lines" in many.text
    assert "What the judging and scoring warn of" not in made([], "none").text


def test_limits_are_those_of_the_verdicts_given() -> None:
    rows = [*verdicts("judge:x"), *verdicts("human:ann")]
    told = glossary.limits(rows, {"judge:x", "human:ann"}, "judge:unnamed")
    assert "not named" not in told
    assert "no person" not in told
    one_order = [v for v in rows if v.shown_first == "a"]
    assert "one order only" in glossary.limits(one_order, {"human:ann"}, "judge:unnamed")


def test_every_metric_that_score_gives_is_defined(tmp_path: Path) -> None:
    lengths = {(i, m): 10 * n for n, i in enumerate(ITEMS) for m in ("m", "k")}
    lengths |= {(i, o): 7 for i in ITEMS for o in ("weak", "strong", "even")}
    judged = [
        Verdict(**{**asdict(v), "preference": 0.9 if v.winner == "a" else 0.2})
        for v in verdicts("judge:x")
    ]
    rows = [*judged, *verdicts("judge:y"), *verdicts("human:ann"), *verdicts("human:bo")]
    rows += verdicts("judge:x", "k")[:40]
    found = {s.metric for s in score_verdicts(rows, texts=Texts(lengths=lengths))[0]}
    assert {"agreement_gwet", "paired_t_p", "length_controlled_win_rate", "preference_rate"} < found
    run = open_run("judge", tmp_path / "g", options={}, inputs={})
    grades = [
        Grade(item, criterion, model, float(n % (3 if model == "m" else 4)), 10.0, "judge:x")
        for criterion in ("correctness", "helpfulness")
        for model in "mk"
        for n, item in enumerate(ITEMS)
    ]
    with run:
        run.write(grades, Grade)
        run.finish()
    run = open_run("judge", tmp_path / "r", options={}, inputs={})
    with run:
        failed = Grade(ITEMS[0], "correctness", "m", None, 10.0, "judge:x")
        run.write([failed, *grades[1:]], Grade)
        run.write_json(RUBRIC, [])
        run.finish()
    found |= {s.metric for s in score_grades([tmp_path / "r"], 1)}
    assert {"rubric_difference", "rubric_score_unscored_lost"} < found
    found |= {s.metric for s in score_grades([tmp_path / "g"], 1)}
    assert found - set(COUNTS) <= set(glossary.MEANINGS)
    shown = glossary.meanings(found)
    assert len(shown) == len(found - set(COUNTS))
    assert all(glossary.unit(metric) for metric in found - set(COUNTS))


@pytest.mark.parametrize(
    ("value", "words"), [(-1.3431, "−1.343"), (-2, "−2"), (-3.0, "−3"), (-1e-5, "−1e-05")]
)
def test_a_negative_number_has_a_true_minus_sign(value: float, words: str) -> None:
    assert short(value) == words


def test_no_number_on_the_page_has_a_hyphen_for_a_minus(page: Page) -> None:
    cells = [word.strip() for word in page.words]
    assert any(re.fullmatch(r"−[\d.]+", cell) for cell in cells)
    assert not any(re.fullmatch(r"-[\d.]+", cell) for cell in cells)
