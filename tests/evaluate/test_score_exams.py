"""Two exams compared question by question: hand-made cases, and what is left out and said."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from meadowlark.dataset import Manifest, read, write_table
from meadowlark.errors import UserError
from meadowlark.evaluate.score import compute, score
from meadowlark.records import Answer, Question, Score, to_table


def exam(folder: Path, letters: str, model: str, *, groups: str = "", tasks: str = "") -> Path:
    """An exam whose right answer is always A; ``letters`` are what the model chose, F is a failed
    request and a space an answer that could not be read."""
    folder.mkdir(parents=True)
    questions = [
        Question(
            f"q{i}",
            {"": "t", "u": "u"}[tasks[i : i + 1].strip()],
            f"prompt {i}",
            ("x", "y"),
            "A",
            groups[i : i + 1].strip(),
        )
        for i in range(len(letters))
    ]
    answers = [
        Answer(
            f"q{i}", model, extracted=letter.strip("F "), status="failed" if letter == "F" else "ok"
        )
        for i, letter in enumerate(letters)
    ]
    write_table(folder / "questions.parquet", to_table(questions, Question))
    write_table(folder / "answers.parquet", to_table(answers, Answer))
    return folder


def found(scores: list[Score], metric: str, task: str = "t: against untuned") -> Score:
    (one,) = [s for s in scores if s.metric == metric and s.task == task]
    return one


def test_two_exams_compared_give_what_was_worked_out_by_hand(tmp_path: Path) -> None:
    tuned = exam(tmp_path / "a", "AAAAAAB A", "tuned")
    untuned = exam(tmp_path / "b", "ABBBBAABF", "untuned")
    made = compute([tuned, untuned])
    scores = made.scores
    accuracy = {s.model: s.value for s in scores if s.metric == "accuracy"}
    assert accuracy == {"tuned": 6 / 8, "untuned": 3 / 8}
    difference = found(scores, "accuracy_difference")
    assert difference.value == pytest.approx(3 / 8)
    assert (difference.n, difference.n_unreadable) == (8, 1)
    assert found(scores, "only_this_right").value == 4
    assert found(scores, "only_other_right").value == 1
    assert found(scores, "mcnemar_p").value == pytest.approx(2 * 6 / 32)
    # differences 0 1 1 1 1 0 -1 0: variance 3.875/7
    error = (3.875 / 7 / 8) ** 0.5
    detectable = found(scores, "smallest_detectable_difference").value
    assert detectable == pytest.approx(2.801585 * error, rel=1e-6)
    assert difference.high == pytest.approx(3 / 8 + 1.959964 * error, rel=1e-6)
    assert made.warnings == ["1 question left out: failed for a model"]


def test_groups_that_move_together_widen_the_interval(tmp_path: Path) -> None:
    a, b = "AAAAAABBBBBB", "BBBBBBBBBBBB"
    alone = compute([exam(tmp_path / "a", a, "tuned"), exam(tmp_path / "b", b, "untuned")])
    groups = "xxxxxxyyyyyy"
    grouped = compute(
        [
            exam(tmp_path / "c", a, "tuned", groups=groups),
            exam(tmp_path / "d", b, "untuned", groups=groups),
        ]
    )
    narrow, wide = (found(m.scores, "accuracy_difference") for m in (alone, grouped))
    assert narrow.value == wide.value
    assert narrow.low is not None
    assert wide.low is not None
    assert wide.low < narrow.low


def test_several_tasks_are_scored_each_and_together(tmp_path: Path) -> None:
    tuned = exam(tmp_path / "a", "AAAB", "tuned", tasks="  uu")
    untuned = exam(tmp_path / "b", "BAAB", "untuned", tasks="  uu")
    scores = compute([tuned, untuned]).scores
    differences = {s.task: s.value for s in scores if s.metric == "accuracy_difference"}
    assert differences == {
        "t: against untuned": 0.5,
        "u: against untuned": 0.0,
        "all 2 tasks: against untuned": 0.25,
    }


def test_the_model_asked_for_comes_first_and_same_names_are_told_apart(tmp_path: Path) -> None:
    one, two = exam(tmp_path / "one", "AB", "m"), exam(tmp_path / "two", "BB", "m")
    made = compute([one, two], model="m (two)").scores
    assert found(made, "accuracy_difference", "t: against m (one)").value == -0.5
    with pytest.raises(UserError, match="unknown model 'q'"):
        compute([one, two], model="q")


def test_what_is_not_a_pair_of_exams_is_refused(tmp_path: Path) -> None:
    a, b = exam(tmp_path / "a", "AB", "tuned"), exam(tmp_path / "b", "ABB", "untuned")
    assert "1 question left out: answered by one model only" in compute([a, b]).warnings
    with pytest.raises(UserError, match="exactly two exam folders"):
        compute([a])
    other = exam(tmp_path / "c", "AB", "untuned", groups="xx")
    changed = [Question(f"q{i}", "t", "another prompt", ("x", "y"), "A") for i in range(2)]
    write_table(other / "questions.parquet", to_table(changed, Question))
    with pytest.raises(UserError, match="'q0' differs"):
        compute([a, other])
    for folder in (a, other):
        free = [Question(f"q{i}", "t", "prompt", target="text") for i in range(2)]
        write_table(folder / "questions.parquet", to_table(free, Question))
    with pytest.raises(UserError, match="meadowlark judge"):
        compute([a, other])


def test_a_scored_pair_writes_no_verdicts(tmp_path: Path) -> None:
    a, b = exam(tmp_path / "a", "AB", "tuned"), exam(tmp_path / "b", "BB", "untuned")
    run = score([a, b], tmp_path / "out")
    assert sorted(run.manifest.outputs) == ["scores.json"]


def test_several_orders_count_by_their_mean_and_mcnemar_by_the_published_one(
    tmp_path: Path,
) -> None:
    tuned, untuned = exam(tmp_path / "a", "AABB", "tuned"), exam(tmp_path / "b", "BABB", "untuned")
    for folder, turned in ((tuned, "AAAB"), (untuned, "BABA")):
        first, _ = read(folder, Answer)
        second = [replace(a, draw=1, extracted=x) for a, x in zip(first, turned, strict=True)]
        write_table(folder / "answers.parquet", to_table([*second, *first], Answer))
    scores = compute([tuned, untuned]).scores
    # tuned right: 1 1 1/2 0; untuned: 0 1 0 1/2
    assert found(scores, "accuracy_difference").value == pytest.approx((1 + 0.5 - 0.5) / 4)
    assert found(scores, "only_this_right").value == 1
    assert found(scores, "only_other_right").value == 0
    assert found(scores, "mcnemar_p").value == 1.0


def test_no_difference_at_all_has_no_smallest_detectable_one(tmp_path: Path) -> None:
    same = [exam(tmp_path / x, "ABAB", x) for x in ("tuned", "untuned")]
    scores = compute(same).scores
    assert found(scores, "accuracy_difference").value == 0
    assert not [s for s in scores if s.metric == "smallest_detectable_difference"]


def test_few_groups_and_other_ways_of_asking_are_warned_of(tmp_path: Path) -> None:
    sides = []
    for name, shots in (("tuned", 0), ("untuned", 5)):
        folder = exam(tmp_path / name, "ABAB", name, groups="xxyy")
        options = {"by": "likelihood", "scoring": "letter", "shots": shots}
        manifest = Manifest("exam", options, outputs={})
        (folder / "manifest.json").write_text(json.dumps(asdict(manifest)))
        sides.append(folder)
    few, unlike = sorted(compute(sides).warnings)
    assert few.startswith("t: its questions fall into 2 groups; with fewer than 30")
    assert unlike.endswith("which a difference may come from: shots 0 and 5")
