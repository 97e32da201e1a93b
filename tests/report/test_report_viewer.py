"""The page of verdicts: what is flagged, what a filter leaves, and that nothing in it runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_runs import ATTACK
from test_report_page import Page

from meadowlark.dataset import open_run
from meadowlark.records import Answer, Question, Score, Verdict
from meadowlark.report import viewer
from meadowlark.report.findings import answers_in_words, grades_in_words
from meadowlark.report.page import report
from meadowlark.report.viewer import flags_of


def verdict(
    item: str, winner: str, shown: str = "a", by: str = "judge:j", raw: str = ""
) -> Verdict:
    return Verdict(item, "preference", "m", "r", shown, winner, by, raw=raw)  # type: ignore[arg-type]


PAIR = ("preference", "m", "r")


@pytest.mark.parametrize(
    ("rows", "flags"),
    [
        ([("a", "a", "j"), ("a", "b", "j")], {"j": []}),
        ([("a", "a", "j"), ("b", "b", "j")], {"j": ["flip"]}),
        ([("a", "a", "j"), ("tie", "b", "j")], {"j": ["flip"]}),
        ([("a", "a", "j"), ("unreadable", "b", "j")], {"j": ["unread"]}),
        ([("a", "a", "j"), ("b", "a", "k")], {"j": ["disagree"], "k": ["disagree"]}),
        ([("a", "a", "j"), ("tie", "a", "k")], {"j": ["disagree"], "k": ["disagree"]}),
        ([("tie", "a", "j"), ("both_bad", "a", "k")], {"j": [], "k": []}),
        ([("a", "a", "j"), ("unreadable", "a", "k")], {"j": [], "k": ["unread"]}),
    ],
)
def test_flips_disagreements_and_unreadable_verdicts_are_flagged(
    rows: list[tuple[str, str, str]], flags: dict[str, list[str]]
) -> None:
    found = flags_of([verdict("1", winner, shown, by) for winner, shown, by in rows])
    assert found == {(PAIR, by): own for by, own in flags.items()}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    rows = [
        *(verdict("clear", "a", shown, raw="[[A]]") for shown in ("a", "b")),
        *(verdict("flips", w, s, raw="Output (a)") for w, s in (("a", "a"), ("b", "b"))),
        verdict("hostile", "unreadable", raw=ATTACK),
    ]
    questions = [Question(i, "t", f"{ATTACK} {i}") for i in ("clear", "flips", "hostile")]
    answers = [Answer(q.id, name, text=f"{ATTACK} by {name}") for q in questions for name in "mr"]
    run = open_run("judge", tmp_path / "judged", options={}, inputs={})
    with run:
        run.write(rows, Verdict)
        run.write(questions, Question)
        run.write(answers, Answer)
        run.finish()
    report([tmp_path / "judged"], tmp_path / "report")
    return tmp_path / "report"


def test_every_prompt_answer_and_verdict_is_text_on_a_page_without_script(made: Path) -> None:
    html = (made / "verdicts.html").read_text(encoding="utf-8")
    page = Page(html)
    assert "<script" not in html
    assert "<img" not in html
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    # Each prompt and both answers, and the one raw verdict that holds it.
    assert page.text.count(ATTACK) == 3 * 3 + 1
    ids = list(page.ids())
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert set(attributes.get("aria-labelledby", "").split()) <= set(ids)
        assert tag != "label" or attributes["for"] in ids
        assert attributes.get("href", "report.html") == "report.html"
    policies = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_a_filter_is_a_radio_button_and_a_rule_that_hides_the_rest(made: Path) -> None:
    html = (made / "verdicts.html").read_text(encoding="utf-8")
    page = Page(html)
    radios = [a for tag, a in page.tags if tag == "input"]
    assert [a["id"] for a in radios] == [f"show-{key}" for key in viewer.FILTERS]
    assert [a["id"] for a in radios if "checked" in a] == ["show-all"]
    for key in ("disagree", "flip", "unread"):
        assert f"#show-{key}:checked ~ .items > :not(.{key})" in html
    articles = {
        a["id"]: set(a["class"].split()) - {"item"} for tag, a in page.tags if tag == "article"
    }
    assert list(articles.values()) == [set(), {"flip"}, {"unread"}]
    assert "order flips: 1 in 1 prompt" in page.text
    assert "judges disagree: 0 in 0 prompts" in page.text
    # The radios stand before what they hide, or the rule would never reach it.
    assert re.search(r'type="radio".*class="items"', html, re.S)


def test_many_prompts_are_divided_into_pages(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(viewer, "ITEMS", 2)
    report([made.parent / "judged"], tmp_path / "again")
    first, second = (
        (tmp_path / "again" / name).read_text() for name in ("verdicts.html", "verdicts-2.html")
    )
    assert (first.count("<article"), second.count("<article")) == (2, 1)
    assert 'href="verdicts-2.html"' in first
    assert 'href="verdicts.html"' in second


def rate(by: str, value: float, low: float, high: float, task: str = "against r") -> Score:
    return Score(f"preference ({by}): {task}", "m", "win_rate", value, low, high, 40, 2)


def test_the_page_says_who_is_better_by_how_much_how_sure_and_who_says_so() -> None:
    names = {"m": "M", "n": "N", "r": "R"}
    (better,) = answers_in_words([rate("judge:j", 0.7, 0.6, 0.8)], names)
    assert better.replace("\u00a0", " ") == (
        "According to the judge model j, M wins 70.0 % against R (a tie counts half; 40 prompts; "
        "95 % interval 60.0 to 80.0, equal is 50; 2 with an unreadable verdict). Better, beyond "
        "chance."
    )
    (unsure,) = answers_in_words([rate("human:ann", 0.52, 0.4, 0.64)], names)
    assert unsure.startswith("According to the person ann, M wins 52.0")
    assert unsure.endswith("Neither is shown to be better.")
    (worse,) = answers_in_words([rate("judge:overlap", 0.2, 0.1, 0.3)], names)
    assert "no judgement of quality" in worse
    assert worse.endswith("It shares fewer words, beyond chance.")


def test_a_jury_speaks_for_its_members_and_models_are_compared_in_their_rank() -> None:
    names = {"m": "M", "n": "N", "r": "R"}
    scores = [
        rate("judge:x", 0.9, 0.8, 1.0),
        rate("judge:jury", 0.6, 0.5, 0.7),
        rate("human:y", 0.6, 0.5, 0.7),
    ]
    lines = answers_in_words(scores, names)
    assert [line.partition(",")[0] for line in lines] == [
        "According to the jury of judge models",
        "According to the person y",
    ]
    # Both intervals end at 50 %: other prompts might tip them.
    assert all(line.endswith("Borderline: the interval ends within one point of equal.")
               for line in lines)  # fmt: skip
    task = "preference (judge:j): m minus n, over r"
    two = [
        rate("judge:j", 0.4, 0.3, 0.45),
        Score("preference (judge:j): against r", "n", "win_rate", 0.6, 0.55, 0.7, 40),
        Score(task, "m", "win_rate_difference", -0.2, -0.3, -0.1, 40),
    ]
    last = answers_in_words(two, names)[-1]
    assert last.startswith("N against M, over the same reference models: 20.0 percentage points")
    assert "95 % interval 10.0 to 30.0, equal is 0" in last
    assert last.endswith("N is better, beyond chance.")


def test_grades_are_told_in_words_too() -> None:
    names = {"m": "M", "n": "N"}
    scores = [
        Score("rubric (judge:j)", "m", "rubric_score", 0.5, 0.4, 0.6, 30, 2),
        Score("rubric (judge:j) · axis:safety", "m", "rubric_score", 0.9, 0.8, 1.0, 30),
        Score("correctness (2 graders)", "n", "mean_points", 7.25, 6.5, 8.0, 30),
        Score("rubric (judge:j): m minus n", "m", "rubric_difference", -0.1, -0.3, 0.1, 30),
    ]
    lines = [line.replace("\u00a0", " ") for line in grades_in_words(scores, names)]
    assert lines == [
        "According to 2 graders on correctness, N gets 7.25 points on average (30 answers; "
        "95 % interval 6.5 to 8.0).",
        "According to the judge model j, M gets 50.0 % of the rubric’s points (30 answers; "
        "95 % interval 40.0 to 60.0; 2 with an unscored grading).",
        "According to the judge model j, M minus N on the same prompts, −10.0 percentage points "
        "(95 % interval −30.0 to 10.0, equal is 0). Neither is shown to be better.",
    ]
