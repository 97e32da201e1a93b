"""Which run made what: matched by hash, put in order, and told when it no longer holds."""

import re
import shutil
from pathlib import Path

import pytest

from meadowlark.dataset import fingerprint, open_run
from meadowlark.records import Record
from meadowlark.report.graph import lineage_graph
from meadowlark.report.lineage import Lineage, trace
from meadowlark.report.read import RunFolder, find_runs, short_models


def made(root: Path, stage: str, name: str, inputs: dict[str, Path], text: str = "") -> Path:
    run = open_run(stage, root / name, options={}, inputs=inputs)
    with run:
        run.write([Record(text or name, output="out")], Record)
        run.finish()
    return root / name


def lineage(*paths: Path) -> Lineage:
    return trace(find_runs(paths)[0])


def test_runs_stand_after_what_they_were_made_from(lineage_of_runs: Path) -> None:
    found = lineage(lineage_of_runs)
    order = [run.label for run in found.runs]
    assert order == [
        *("tasks", "distinct", "generated", "converted", "mixed", "stats", "model"),
        *("exam-before", "exam-after", "answers-before", "answers-after"),
        *("verdicts", "exam-difference", "scores"),
    ]
    assert [source.label for source in found.sources] == ["seeds.jsonl"]
    assert not any(link.changed for link in found.links)


def test_everything_leads_back_to_the_seed_file(lineage_of_runs: Path) -> None:
    found = lineage(lineage_of_runs)
    scores = next(run for run in found.runs if run.label == "scores")
    expected = {"tasks", "distinct", "generated", "converted", "mixed", "model"}
    expected |= {"answers-before", "answers-after", "verdicts"}
    assert found.ancestors(scores) == expected


def test_a_folder_inside_a_run_is_that_runs(lineage_of_runs: Path) -> None:
    found = lineage(lineage_of_runs)
    before = next(run for run in found.runs if run.label == "exam-before")
    (link,) = found.inputs_of(before)
    assert link.path.endswith("model/initial")
    assert isinstance(link.origin, RunFolder)
    assert link.origin.label == "model"


def test_the_hash_of_a_run_is_the_fingerprint_of_its_folder(lineage_of_runs: Path) -> None:
    runs = find_runs([lineage_of_runs])[0]
    assert len(runs) > 5
    for run in runs:
        assert run.sha256 == fingerprint(run.folder)


def test_runs_that_were_moved_together_are_still_one_lineage(tmp_path: Path) -> None:
    first = made(tmp_path / "old", "generate", "tasks", {})
    made(tmp_path / "old", "filter", "distinct", {"data": first})
    shutil.move(tmp_path / "old", tmp_path / "new")
    found = lineage(tmp_path / "new")
    assert [link.origin.label for link in found.links] == ["tasks"]
    assert not found.links[0].changed


def test_an_input_that_was_made_again_with_other_content_is_marked(tmp_path: Path) -> None:
    first = made(tmp_path, "generate", "tasks", {})
    made(tmp_path, "filter", "distinct", {"data": first})
    shutil.rmtree(first)
    made(tmp_path, "generate", "tasks", {}, text="another")
    (link,) = lineage(tmp_path).links
    assert link.origin.label == "tasks"
    assert link.changed


def test_of_two_runs_with_the_same_content_the_path_decides(tmp_path: Path) -> None:
    made(tmp_path, "generate", "one", {}, text="same")
    second = made(tmp_path, "generate", "two", {}, text="same")
    made(tmp_path, "filter", "distinct", {"data": second})
    (link,) = lineage(tmp_path).links
    assert link.origin.label == "two"


def test_labels_tell_folders_of_one_name_apart(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        made(tmp_path / parent, "generate", "tasks", {}, text=parent)
    assert [run.label for run in find_runs([tmp_path])[0]] == ["a/tasks", "b/tasks"]


def test_every_run_has_a_box_that_names_its_full_hash(lineage_of_runs: Path) -> None:
    found = lineage(lineage_of_runs)
    drawn = str(lineage_graph(found))
    for run in found.runs:
        assert f'href="#{run.anchor}"' in drawn
        assert run.sha256 in drawn
    assert drawn.count('class="edge"') == len(
        {(ln.origin.label, ln.run.label) for ln in found.links}
    )


def test_boxes_of_the_graph_do_not_overlap(tmp_path: Path) -> None:
    start = made(tmp_path, "generate", "start", {})
    middle = [made(tmp_path, "filter", f"f{i}", {"data": start}, f"f{i}") for i in range(5)]
    for i in range(7):
        made(tmp_path, "mix", f"m{i}", {"a": middle[i % 5], "b": middle[(i + 1) % 5]}, f"m{i}")
    drawn = str(lineage_graph(lineage(tmp_path)))
    found = re.findall(r'<rect class="box \w+" x="([\d.-]+)" y="([\d.-]+)"', drawn)
    boxes = [(float(x), float(y)) for x, y in found]
    assert len(boxes) == 13
    for i, (x, y) in enumerate(boxes):
        assert x >= 0
        for other_x, other_y in boxes[i + 1 :]:
            assert y != other_y or abs(x - other_x) >= 150


def test_many_files_that_the_same_runs_read_share_a_box(tmp_path: Path) -> None:
    files = {f"input {n}": tmp_path / f"verdicts-{n}.json" for n in range(8)}
    for n, file in enumerate(files.values()):
        file.write_text(str(n))
    alone = tmp_path / "alone.json"
    alone.write_text("alone")
    judged = made(tmp_path, "score", "scores", files)
    made(tmp_path, "mix", "mixed", {"rows": alone, "scores": judged})
    svg = lineage_graph(lineage(tmp_path / "scores", tmp_path / "mixed"))
    assert svg.count('class="box file"') == 2
    assert "8 files" in svg
    for file in (*files.values(), alone):
        assert f"{file}, SHA-256 {fingerprint(file)}" in svg
    assert svg.count('class="edge"') == 3


@pytest.mark.parametrize(
    ("models", "names"),
    [
        (["hf:runs/demo/model"], ["model"]),
        (["runs/demo/model", "runs/demo/model/initial"], ["model", "model/initial"]),
        (["hf:a/model", "hf:b/model"], ["a/model", "b/model"]),
        (["openai:gpt-4o@https://api.example/v1"], ["gpt-4o"]),
        (["gpt-4", "gpt-4 (second)"], ["gpt-4", "gpt-4 (second)"]),
    ],
)
def test_short_names_tell_models_apart(models: list[str], names: list[str]) -> None:
    assert list(short_models(models).values()) == names
