"""The papers' tables: their numbers as printed, measured rows above them, each marked."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from meadowlark.dataset import open_run
from meadowlark.records import Answer, Question, Score
from meadowlark.report.page import report
from meadowlark.report.papers import paper_tables


def table(name: str) -> dict[str, tuple[float | None, ...]]:
    (found,) = [t for t in paper_tables() if t.name == name]
    return dict(found.rows)


def measured(folder: Path, stage: str, scores: list[Score], **options: Any) -> Path:
    run = open_run(stage, folder, options=options, inputs={})
    with run:
        named = [s.task.partition("/") for s in scores]
        asked = [Question(f"{t}-{g}", t, "Which?", ("a", "b"), "A", g) for t, _, g in named]
        run.write({q.id: q for q in asked}.values(), Question)
        run.write([Answer(i, "m", extracted="A") for i in {q.id for q in asked}], Answer)
        run.write_json("scores.json", [asdict(s) for s in scores])
        run.finish()
    return folder


def test_the_published_numbers_are_those_of_the_papers() -> None:
    usmle = table("medalpaca_usmle")
    assert len(usmle) == 13
    assert usmle["LLaMA 7B"] == (0.198, 0.202, 0.203)
    assert usmle["MedAlpaca 13B"] == (0.473, 0.477, 0.602)
    assert usmle["MedAlpaca 30B LoRA 8-bit"] == (0.315, 0.327, 0.361)
    sums = [round(sum(v or 0 for v in column), 3) for column in zip(*usmle.values(), strict=True)]
    assert sums == [3.407, 3.468, 3.768]  # the columns of PAPERS.md, added up by hand
    farm = {model: values[0] for model, values in table("alpacare_general").items()}
    assert len(farm) == 12
    assert farm["AlpaCare 7B"] == pytest.approx((56.4 + 38.6 + 34.2 + 33.7) / 400, abs=1e-4)
    assert farm["AlpaCare 13B"] == pytest.approx((60.7 + 44.2 + 37.6 + 39.2) / 400, abs=1e-4)
    unknown = [values[1:] for values in table("alpacare_general").values()]
    assert {cell for row in unknown for cell in row} == {None}  # nothing is made up


def test_measured_rows_stand_beside_published_ones_and_both_say_which_they_are(
    tmp_path: Path,
) -> None:
    steps = [Score(f"usmle_step{n}", "runs/m", "accuracy", n / 8, 0.1, 0.6, 92) for n in (1, 2, 3)]
    general = [
        Score("mmlu", "runs/m", "accuracy", 0.31, 0.3, 0.32, 14_042),
        Score("mmlu/anatomy", "runs/m", "accuracy", 0.4, 0.3, 0.5, 135),
        Score("bbh", "runs/m", "accuracy", 0.25, 0.24, 0.26, 6_511),
        Score("bbh/snarks", "runs/m", "accuracy", 0.5, 0.4, 0.6, 178),
    ]
    rouge = [Score("meqsum", "runs/m", "rouge_l_f1", 0.44, 0.43, 0.45, 1000)]
    runs = [
        measured(tmp_path / "a", "exam", steps, protocol="medalpaca, faithful"),
        measured(tmp_path / "b", "exam", steps[:1], protocol="medalpaca, fixed"),
        measured(tmp_path / "c", "bench", general),
        measured(tmp_path / "d", "score", rouge),
        measured(tmp_path / "e", "exam", [Score("medqa", "runs/m", "accuracy", 0.4, 0.3, 0.5, 9)]),
    ]
    report(runs, tmp_path / "report")
    tables = json.loads((tmp_path / "report" / "report.json").read_text())["tables"]

    usmle = tables["papers_medalpaca_usmle"]["rows"]
    assert [row["rows"] for row in usmle] == ["measured"] * 2 + ["published"] * 13
    assert [row.get("usmle_step3_accuracy") for row in usmle[:3]] == [3 / 8, None, 0.203]
    medical = tables["papers_alpacare_medical"]["rows"]
    assert len(medical) == 1  # one model, measured in two runs; nothing published is at hand
    assert medical[0]["medqa_accuracy"] == 0.4
    assert medical[0]["meqsum_rouge_l_f1"] == 0.44
    rows = tables["papers_alpacare_general"]["rows"]
    assert (rows[0]["mmlu_accuracy"], rows[0]["bbh_accuracy"]) == (0.31, 0.25)
    assert {row["task"] for row in tables["exam_groups"]["rows"]} == {"mmlu/anatomy", "bbh/snarks"}
    assert "rouge_scores" in tables
    assert "exam_differences" not in tables

    page = (tmp_path / "report" / "report.html").read_text()
    assert "60.2\u00a0%" in page
    assert "37.5\u00a0% [10.0, 60.0]" in page
    assert "(medalpaca, faithful)" in page
    assert "arXiv 2304.08247" in page


def test_a_report_of_other_exams_shows_no_table_of_the_papers(tmp_path: Path) -> None:
    own = measured(tmp_path / "a", "exam", [Score("ward", "m", "accuracy", 0.5, 0.1, 0.9, 4)])
    report([own], tmp_path / "report")
    assert "layouts of the papers" not in (tmp_path / "report" / "report.html").read_text()
