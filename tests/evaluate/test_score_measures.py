"""What is scored beyond the win rate, on files as a user has them: each number on known data."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from meadowlark.dataset import open_run, read_manifest, write_table
from meadowlark.errors import UserError
from meadowlark.evaluate.comparison import DETECTABLE
from meadowlark.evaluate.measures import juries
from meadowlark.evaluate.score import ANNOTATIONS, compute, score, score_verdicts
from meadowlark.evaluate.texts import Texts, read_texts
from meadowlark.evaluate.verdicts import read_verdicts
from meadowlark.records import Answer, Grade, Question, Rejected, Score, Verdict, to_table
from meadowlark.statistics.human import preference_table
from meadowlark.statistics.power import detectable_win_rate


def verdict(item: str, winner: str, shown: str = "a", **other: str) -> Verdict:
    values = {"criterion": "c", "a": "m", "b": "r", "by": "judge:j", **other}
    return Verdict(item=item, shown_first=shown, winner=winner, **values)  # type: ignore[arg-type]


def both(item: str, winner: str, **other: str) -> list[Verdict]:
    return [verdict(item, winner, shown, **other) for shown in ("a", "b")]


def by_metric(scores: list[Score], task: str) -> dict[str, Score]:
    return {s.metric: s for s in scores if s.task == task}


def test_alpacaevals_published_win_rates_from_its_annotations(
    real_data: Path, tmp_path: Path
) -> None:
    folder = real_data / "judging" / "alpaca_eval2"
    instructions = [
        json.loads(line)["instruction"]
        for line in (folder / "instructions.jsonl").read_text().splitlines()
    ]
    with (folder / "leaderboard.csv").open(newline="") as file:
        published = {row[""]: row for row in csv.DictReader(file)}
    model = "claude-2"
    with (folder / "annotations_compact.csv").open(newline="") as file:
        rows = [
            {
                "instruction": instructions[int(row["idx"])],
                "generator_1": "gpt4_1106_preview",
                "generator_2": model,
                "preference": float(row["preference"]) if row["preference"] else None,
            }
            for row in csv.DictReader(file)
            if row["model"] == model
        ]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    found = by_metric(
        compute([path]).scores, "preference (judge:unnamed): against gpt4_1106_preview"
    )
    for metric, column in (
        ("preference_rate", "win_rate"),
        ("preference_rate_standard_error", "standard_error"),
        ("preference_rate_discrete", "discrete_win_rate"),
    ):
        assert 100 * found[metric].value == pytest.approx(float(published[model][column]), abs=1e-7)
    assert found["preference_rate"].n == 805


def test_two_models_are_compared_item_by_item_over_the_references_they_share() -> None:
    rows = [
        *[v for i in "1234" for v in both(i, "a", a="m", b="r")],
        *[v for i, w in zip("1234", "abab", strict=True) for v in both(i, w, a="n", b="r")],
        *[v for i in "1234" for v in both(i, "b", a="n", b="other")],
    ]
    found = by_metric(score_verdicts(rows)[0], "c (judge:j): m minus n, over r")
    assert found["win_rate_difference"].value == 0.5
    assert found["win_rate_difference"].n == 4
    # d = 0, 1, 0, 1: mean 1/2, standard error 1/sqrt(12), t = 1.732 with 3 degrees of freedom.
    assert found["paired_t_p"].value == pytest.approx(0.18169, abs=1e-4)


def test_a_jury_votes_and_an_unreadable_verdict_has_no_vote() -> None:
    def votes(*winners: str) -> str:
        rows = [verdict("1", w, by=f"judge:{n}") for n, w in enumerate(winners)]
        (made,) = juries(rows)
        assert made.by == "judge:jury"
        return made.winner

    assert votes("a", "a", "b") == "a"
    assert votes("a", "b") == "tie"
    assert votes("a", "unreadable") == "a"
    assert votes("both_bad", "tie", "a") == "tie"
    assert votes("unreadable", "unreadable") == "unreadable"
    assert juries([verdict("1", "a")]) == []
    assert juries([verdict("1", "a"), verdict("1", "b", by="judge:overlap")]) == []
    (people,) = juries([verdict("1", "b", by=f"human:{n}") for n in "xyz"])
    assert (people.by, people.winner) == ("human:majority", "b")


def test_each_has_one_vote_in_a_jury_however_often_it_was_asked() -> None:
    once = [verdict("1", "b", by="judge:x"), verdict("1", "b", by="judge:y")]
    often = [verdict("1", "a", by="judge:z") for _ in range(3)]
    (made,) = juries([*once, *often])
    assert made.winner == "b"
    torn = [verdict("1", w, by="judge:z") for w in ("a", "b", "unreadable")]  # a tie of its own
    assert juries([*once[:1], *torn])[0].winner == "tie"


def test_a_majority_of_one_is_said_to_be_one() -> None:
    rows = [verdict("1", "a", by=f"human:{name}") for name in "xyz"]
    rows += [verdict("2", "a", by="human:x"), verdict("2", "unreadable", by="human:y")]
    rows += [verdict("3", "b", by="human:z"), *both("1", "a"), *both("1", "b", by="judge:k")]
    lines = [line for line in score_verdicts(rows)[2] if "one rater's alone" in line]
    assert lines == ["2 of 3 verdicts of human:majority are one rater's alone"]
    assert not [line for line in score_verdicts(rows[:3])[2] if "one rater's alone" in line]


def test_the_peoples_majority_is_that_of_their_table_whichever_order_each_was_shown() -> None:
    """AlpaCare's rule, a majority of annotators by item: two of three, shown it in both orders."""
    rows = [
        verdict("1", "a", "a", by="human:x"),
        verdict("1", "b", "b", by="human:y"),
        verdict("1", "b", "b", by="human:z"),
        verdict("2", "a", "b", by="human:x"),
        verdict("2", "a", "a", by="human:y"),
    ]
    (table,) = preference_table(rows)
    scores = by_metric(score_verdicts(rows)[0], "c (human:majority): against r")
    assert (table.wins, table.losses, table.win_rate) == (1, 1, 0.5)
    assert (scores["wins"].value, scores["losses"].value) == (1, 1)
    assert (scores["win_rate"].value, scores["win_rate"].n) == (table.win_rate, table.n)
    assert not {"win_rate_shown_first", "win_rate_shown_second"} & scores.keys()


def test_a_judges_agreement_with_people_is_scored_with_and_without_ties() -> None:
    rows = []
    for item, person, judged in (
        ("1", "a", "a"),
        ("2", "b", "b"),
        ("3", "tie", "a"),
        ("4", "a", "b"),
    ):
        rows += [verdict(item, person, by="human:x"), *both(item, judged)]
    scores = score_verdicts(rows)[0]
    task = "agreement on c: judge:j and the people's majority"
    assert by_metric(scores, task)["agreement_raw"].value == pytest.approx(0.5)
    without = by_metric(scores, f"{task}, ties left out")["agreement_raw"]
    assert (without.value, without.n) == (pytest.approx(2 / 3), 3)


def test_position_is_a_term_of_its_own() -> None:
    always_first = [v for i in "12345678" for v in (verdict(i, "a", "a"), verdict(i, "b", "b"))]
    mixed = [*always_first, *both("9", "a"), *both("10", "b")]
    scores = score_verdicts(mixed)[0]
    found = {s.metric: s for s in scores if "Bradley-Terry" in s.task and s.model != "r"}
    assert found["strength"].value == pytest.approx(0, abs=1e-9)
    assert found["position_effect"].low is not None
    assert found["position_effect"].low > 0


def folder_of(path: Path, rows: list[Verdict], texts: dict[str, tuple[str, str]]) -> Path:
    path.mkdir()
    write_table(path / "verdicts.parquet", to_table(rows, Verdict))
    questions = [Question(i, "t", f"Question  {i}?") for i in texts]
    answers = [
        Answer(i, name, text=text)
        for i, pair in texts.items()
        for name, text in zip("mr", pair, strict=True)
    ]
    write_table(path / "questions.parquet", to_table(questions, Question))
    write_table(path / "answers.parquet", to_table(answers, Answer))
    return path


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    rows = [v for n in range(12) for v in both(str(n), "a" if n < 8 else "b")]
    texts = {str(n): ("x" * (200 if n < 8 else 50), "y" * (100 + n)) for n in range(12)}
    return folder_of(tmp_path / "judged", rows, texts)


def test_length_is_told_and_taken_out(judged: Path) -> None:
    found = by_metric(compute([judged]).scores, "c (judge:j): against r")
    assert found["length_difference"].value == pytest.approx(150 - 105.5)
    assert found["win_rate"].value == pytest.approx(8 / 12)
    # Where the longer answer always wins, nothing but length is left to explain it.
    assert found["length_controlled_win_rate"].value < found["win_rate"].value


def test_a_label_that_a_reference_lacks_is_averaged_over_the_others_and_said() -> None:
    labels = {"difficulty": {"1": "easy", "2": "easy", "3": "hard", "4": "hard"}}
    rows = [v for item in "12345" for v in both(item, "a")]
    rows += [v for item in "12" for v in both(item, "b", b="s")]
    scores, _, warnings = score_verdicts(rows, texts=Texts(labels=labels))
    rates = {s.task.partition("): ")[2]: (s.value, s.n) for s in scores if s.metric == "win_rate"}
    assert rates["average over 2 references · difficulty easy"] == (0.5, 2)
    assert rates["against r · difficulty hard"] == (1, 2)
    for line in (
        "3 of 5 items not judged against every reference (m, c, judge:j): the average takes "
        "each reference over the items that it has",
        "difficulty hard: no item was judged against s, so it is scored over 1 of 2 references and "
        "does not compare with the others (m, c, judge:j)",
        "1 of 5 items without a difficulty, in no score by difficulty",
    ):
        assert line in warnings


def test_an_average_that_one_reference_makes_impossible_is_named() -> None:
    labels = {"difficulty": {"1": "easy", "2": "easy", "3": "hard", "4": "hard"}}
    rows = [v for item in "1234" for v in both(item, "a")]
    rows += [v for item in "12" for v in both(item, "b", b="s")]
    rows += [v for item in "34" for v in both(item, "unreadable", b="s")]
    scores, _, warnings = score_verdicts(rows, texts=Texts(labels=labels))
    task = "c (judge:j): average over 2 references · difficulty hard"
    found = by_metric(scores, task)
    assert "win_rate" not in found
    bounds = [found[f"win_rate_unreadable_{end}"] for end in ("lost", "won")]
    assert [(s.value, s.n, s.n_unreadable) for s in bounds] == [(0.5, 2, 2), (1, 2, 2)]
    assert (
        "no win rate average over 2 references · difficulty hard (m, c, judge:j), its bounds only: "
        "nothing could be read against s"
    ) in warnings


def test_what_so_many_prompts_can_show_stands_among_the_scores() -> None:
    rows = [v for n in range(60) for v in both(str(n), "a" if n % 2 else "b")]
    rows += [v for n in range(60) for v in both(str(n), "tie", b="s")]
    rows[0] = verdict("0", "unreadable")
    scores = score_verdicts(rows)[0]
    for of, n in (("against r", 59), ("against s", 60), ("average over 2 references", 59)):
        one = by_metric(scores, f"c (judge:j): {of}")[DETECTABLE]
        assert one.value == pytest.approx(detectable_win_rate(n) - 0.5)
        assert (one.n, one.n_unreadable) == (60, 60 - n)
    few = score_verdicts([v for item in "123" for v in both(item, "a")])[0]
    assert not [s for s in few if s.metric == DETECTABLE]  # three prompts can show nothing


def test_what_alpacares_rate_leaves_out_is_counted() -> None:
    rows = [*both("1", "a"), *both("2", "b"), verdict("3", "a"), *both("4", "a"),
            verdict("5", "unreadable"), verdict("5", "a", "b")]  # fmt: skip
    found = by_metric(score_verdicts(rows)[0], "c (judge:j): against r")
    assert found["win_rate_alpacare"].value == pytest.approx(2 / 3)
    assert (found["win_rate_alpacare"].n, found["win_rate_alpacare"].n_unreadable) == (5, 2)
    assert (found["win_rate"].n, found["win_rate"].n_unreadable) == (5, 1)


def test_items_are_grouped_by_a_file_of_labels(judged: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.jsonl"
    lines = [
        {"id": 99 - n, "instruction": f"Question {n}?", "difficulty": 1 + n // 8} for n in range(12)
    ]
    labels.write_text("\n".join(map(json.dumps, lines)))
    scores = compute([judged], groups=labels).scores
    easy = by_metric(scores, "c (judge:j): against r · difficulty 1")["win_rate"]
    hard = by_metric(scores, "c (judge:j): against r · difficulty 2")["win_rate"]
    assert (easy.value, easy.n, hard.value, hard.n) == (1, 8, 0, 4)
    assert easy.low is not None
    assert easy.low < 1
    labels.write_text('{"id": "nobody", "difficulty": 1}')
    with pytest.raises(UserError, match="labels none of the items"):
        compute([judged], groups=labels)


def test_verdicts_are_also_written_as_alpacaeval_annotations(judged: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores"
    score([judged], out)
    again, rejected = read_verdicts(out / ANNOTATIONS)
    before = read_verdicts(judged)[0]
    assert not rejected
    assert [(v.item, v.a, v.b, v.shown_first, v.winner, v.by) for v in again] == [
        (v.item, v.a, v.b, v.shown_first, v.winner, v.by) for v in before
    ]
    assert ANNOTATIONS in read_manifest(out).outputs


# --------------------------------------------------------------------------- grades


def graded(path: Path, rows: list[Grade], rubric: list[dict[str, object]] | None = None) -> Path:
    path.mkdir()
    write_table(path / "grades.parquet", to_table(rows, Grade))
    if rubric is not None:
        (path / "rubric.json").write_text(json.dumps(rubric))
    return path


def test_healthbenchs_overall_and_tags_from_grades(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "judging" / "healthbench_m42"
    published = json.loads((source / "final_metrics.json").read_text())
    rows, rubric = [], []
    for line in (source / "graded.jsonl").read_text().splitlines():
        one = json.loads(line)
        item = one["prompt_id"]
        criteria = []
        for number, c in enumerate(one["rubric"]):
            points = c["points"] if c["met"] else 0
            rows.append(Grade(item, f"c{number}", "m", points, c["points"], "judge:j"))
            criteria.append({"criterion": f"c{number}", "points": c["points"], "tags": c["tags"]})
        rubric.append({"item": item, "criteria": criteria, "tags": one["example_tags"]})
    scores = compute([graded(tmp_path / "g", rows, rubric)]).scores
    found = {s.task: s for s in scores if s.metric == "rubric_score"}
    assert found["rubric (judge:j)"].value == pytest.approx(published["overall_score"], abs=1e-9)
    tags = [
        key for key in published if key.count(":") == 1 and not key.endswith(("_std", "_samples"))
    ]
    checked = 0
    for tag in tags:
        own = found.get(f"rubric (judge:j) · {tag}")
        if own is not None:
            assert own.value == pytest.approx(published[tag], abs=1e-9)
            assert own.n == published[f"{tag}:n_samples"]
            checked += 1
    assert checked > 20


def test_an_unscored_criterion_is_left_out_counted_and_bounded(tmp_path: Path) -> None:
    rows = [
        Grade("1", "x", "m", 5, 5, "judge:j"),
        Grade("1", "y", "m", None, 5, "judge:j"),
        Grade("2", "x", "m", 0, 5, "judge:j"),
    ]
    rubric = [
        {
            "item": i,
            "criteria": [{"criterion": c, "points": 5, "tags": []} for c in "xy"],
            "tags": [],
        }
        for i in "12"
    ]
    found = {
        s.metric: s
        for s in compute([graded(tmp_path / "g", rows, rubric)]).scores  # type: ignore[arg-type]
    }
    assert found["rubric_score"].value == 0.5
    assert (found["rubric_score"].n, found["rubric_score"].n_unreadable) == (2, 1)
    assert found["rubric_score_unscored_lost"].value == 0.25
    assert found["rubric_score_unscored_won"].value == 0.5


def test_two_models_are_compared_by_a_rubric_item_by_item(tmp_path: Path) -> None:
    rows = [
        Grade(item, "x", model, points, 5, "judge:j")
        for model, given in (("m", (5, 5, None)), ("n", (0, 5, 5)))
        for item, points in zip("123", given, strict=True)
    ]
    rubric: list[dict[str, object]] = [
        {"item": i, "criteria": [{"criterion": "x", "points": 5, "tags": []}], "tags": []}
        for i in "123"
    ]
    scores = compute([graded(tmp_path / "g", rows, rubric)]).scores
    (difference,) = [s for s in scores if s.metric == "rubric_difference"]
    assert difference.task == "rubric (judge:j): m minus n"
    # The third item is lost, and said to be: one model has no score on it.
    assert (difference.value, difference.n, difference.n_unreadable) == (0.5, 3, 1)


def test_ratings_on_a_scale_are_means_and_differences(tmp_path: Path) -> None:
    rows = [
        Grade(str(i), "correctness", model, points, 10, "judge:j")
        for model, given in (("m", [8, 9, 7, None]), ("n", [5, 6, 6, 4]))
        for i, points in enumerate(given)
    ]
    folder = graded(tmp_path / "g", rows)
    scores = compute([folder]).scores
    means = {s.model: s for s in scores if s.metric == "mean_points"}
    assert (means["m"].value, means["m"].n, means["m"].n_unreadable) == (8, 3, 1)
    (difference,) = [s for s in scores if s.metric == "points_difference"]
    assert difference.value == pytest.approx(7 / 3)
    assert (difference.n, difference.n_unreadable) == (4, 1)  # the fourth was graded of n alone
    with pytest.raises(UserError, match="would count twice"):
        compute([folder, graded(tmp_path / "h", rows[:1])])


def test_labels_of_transcripts_are_found_by_the_prompt_and_not_by_its_number(
    tmp_path: Path,
) -> None:
    prompts = ["What is a fever?", "What is a fever? And a chill?", "Name a vitamin.", "Why rest?"]
    shown = [prompts[n] for n in (0, 2, 1, 3)]  # a transcript in an order of its own
    transcript = tmp_path / "m__set-ref-r_model_first.json"
    rows = [
        {"model_output_id": n, "prompt": f"Judge.\n\n{text}\n\nAnswer: it.", "response": "[[A]]"}
        for n, text in enumerate(shown)
    ]
    transcript.write_text(json.dumps(rows))
    labels = tmp_path / "labels.jsonl"
    difficulty = ["1", "2", "2", "1"]
    lines = [
        {"id": n, "instruction": prompt, "difficulty": difficulty[n]}
        for n, prompt in enumerate(prompts)
    ]
    labels.write_text("\n".join(map(json.dumps, lines)))
    found = read_texts([transcript], labels).labels["difficulty"]
    assert found == {"0": "1", "1": "2", "2": "2", "3": "1"}
    assert found == {str(n): difficulty[prompts.index(text)] for n, text in enumerate(shown)}
    labels.write_text('{"id": 0, "instruction": "Another question", "difficulty": 1}')
    with pytest.raises(UserError, match="no row's prompt stands in what the judge was shown"):
        read_texts([transcript], labels)
    numbered = [{"id": n, "difficulty": level} for n, level in enumerate(difficulty)]
    labels.write_text("\n".join(map(json.dumps, numbered)))
    by_number = read_texts([transcript], labels).labels["difficulty"]
    assert by_number == dict(zip("0123", difficulty, strict=True))


def test_a_first_item_is_taken_with_all_its_criteria(tmp_path: Path) -> None:
    rows = [
        Grade(item, criterion, "m", points, 5, "judge:j")
        for item in "12"
        for criterion, points in (("x", 5.0), ("y", 0.0))
    ]
    criteria = [{"criterion": c, "points": 5, "tags": []} for c in "xy"]
    rubric: list[dict[str, object]] = [{"item": i, "criteria": criteria, "tags": []} for i in "12"]
    (found,) = compute([graded(tmp_path / "g", rows, rubric)], limit=1).scores
    assert (found.value, found.n) == (0.5, 1)


def test_a_model_that_nobody_could_grade_is_named_and_a_model_is_not_chosen_of_grades(
    tmp_path: Path,
) -> None:
    rows = [
        Grade("1", "correctness", "m", 4, 10, "judge:j"),
        Grade("1", "correctness", "n", None, 10, "judge:j"),
    ]
    folder = graded(tmp_path / "g", rows)
    found = compute([folder])
    assert {s.model for s in found.scores} == {"m"}
    assert found.warnings == [
        "no score of n by judge:j (correctness): of 1 grade none could be read"
    ]
    with pytest.raises(UserError, match="--model is for verdicts"):
        compute([folder], model="m")


def test_what_was_not_judged_is_said_beside_the_scores(tmp_path: Path) -> None:
    run = open_run("judge", tmp_path / "v", options={}, inputs={})
    unasked = Rejected(verdict("3", "unreadable"), "budget reached", "")
    with run:
        run.write([*both("1", "a"), *both("2", "b")], Verdict)
        run.reject([unasked, unasked], Verdict)
        run.finish()
    assert compute([tmp_path / "v"]).warnings == [
        f"nobody judged, and no score counts, of {tmp_path / 'v'}: 2 budget reached"
    ]


def test_a_strength_says_how_many_of_its_verdicts_were_unreadable() -> None:
    rows = [*both("1", "a"), *both("2", "b"), *both("3", "unreadable")]
    strengths = [s for s in score_verdicts(rows)[0] if s.metric == "strength"]
    assert {(s.model, s.n, s.n_unreadable) for s in strengths} == {("m", 6, 2), ("r", 6, 2)}
