"""The page over a whole lineage: what it must show, what must never be in it."""

import csv
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_runs import AFTER, ATTACK, BEFORE, build

from meadowlark.cli import run as command_line
from meadowlark.dataset import open_run, read_manifest
from meadowlark.errors import FolderDiffers, UserError
from meadowlark.records import Answer, Question, Score
from meadowlark.report.page import DEMO, RESEARCH, report

VOID = {"meta", "br", "img", "link", "hr", "input", "rect", "line", "circle", "path", "polyline"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and insists that every tag is closed in its place."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def ids(self) -> Iterator[str]:
        return (a["id"] for _, a in self.tags if "id" in a)


@pytest.fixture(scope="module")
def made(lineage_of_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report"
    report([lineage_of_runs], out)
    return out


@pytest.fixture(scope="module")
def html(made: Path) -> str:
    return (made / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(html: str) -> Page:
    return Page(html)


def test_every_tag_is_closed_and_every_id_is_used_once(page: Page) -> None:
    ids = list(page.ids())
    assert len(ids) == len(set(ids))


def test_links_lead_to_places_in_the_page(page: Page) -> None:
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert len(links) > 15
    beside = {"verdicts.html"}  # a page of its own, beside this one
    assert {link.removeprefix("#") for link in links} - beside <= set(page.ids())


def test_labels_name_elements_that_exist(page: Page) -> None:
    named = [a["aria-labelledby"].split() for _, a in page.tags if "aria-labelledby" in a]
    assert len(named) > 5
    assert {name for names in named for name in names} <= set(page.ids())


def test_what_a_model_wrote_is_text_and_never_markup(page: Page, html: str) -> None:
    assert "<script" not in html
    assert "<img" not in html
    assert ATTACK in page.text
    assert "teacher <b>x</b>" in page.text
    assert not any(tag in ("script", "b", "i", "iframe", "object") for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)


def test_nothing_is_loaded_from_outside(page: Page, html: str) -> None:
    for _, attributes in page.tags:
        assert "src" not in attributes
        href = attributes.get("href", "#")
        assert href.startswith("#") or href == "verdicts.html"
    style = html[html.index("<style>") : html.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    policies = [a["content"] for _, a in page.tags if "http-equiv" in a]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_every_drawing_has_a_title_and_a_description(page: Page) -> None:
    drawings = [a for tag, a in page.tags if tag == "svg"]
    assert len(drawings) >= 8
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert len(drawing["aria-labelledby"].split()) == 2
    assert all("alt" in a for tag, a in page.tags if tag == "img")


def test_the_notice_stands_before_the_first_section(page: Page) -> None:
    assert RESEARCH in page.text[: page.text.index("Rows through the stages")]
    assert DEMO not in page.text


def test_every_score_is_shown_with_its_interval_and_n(page: Page, lineage_of_runs: Path) -> None:
    text = page.text.replace("\u00a0", " ")
    found = 0
    for file in sorted(lineage_of_runs.glob("*/scores.json")):
        for score in json.loads(file.read_text()):
            if score["metric"] == "mcnemar_p":
                assert str(score["value"]) in text
            else:
                assert f"{100 * score['value']:.1f} %" in text
            if score["low"] is not None:
                low = f"{100 * score['low']:.1f}".replace("-", "−")
                assert f"{low} to {100 * score['high']:.1f} %" in text
            found += 1
    assert found == 10


def test_a_model_that_always_says_a_is_visible(page: Page, made: Path) -> None:
    assert "model/initial: A 100" in page.text.replace("\u00a0", " ")
    assert "model/initial says A in 100 % of its answers" in page.text.replace("\u00a0", " ")
    assert "model says" not in page.text
    with (made / "tables" / "letters_demo.csv").open() as file:
        rows = {row["who"]: row for row in csv.DictReader(file)}
    assert rows["model/initial"]["A"] == rows["model/initial"]["n"] == "60"
    assert rows["right answers"]["A"] == "15"


def test_the_curve_the_baseline_and_the_chance_level_are_there(page: Page) -> None:
    text = page.text.replace("\u00a0", " ")
    assert "bigram model (2.31)" in text
    assert "chance 25.0 %" in text
    assert "equal 50 %" in text
    assert "2.83 → 2.02" in text
    assert "needs 2.020 bits a byte" in text
    assert "model beats the bigram model" in text


def test_the_plan_of_a_training_stands_beside_its_measurement(page: Page) -> None:
    assert "planned / measured" in page.text.replace("planned/measured", "planned / measured")
    for planned, measured, ratio in (
        ("0.90", "0.80", "1.12"),
        ("3,600", "3,000", "1.20"),
        ("66.0", "55.0", "1.20"),
    ):
        place = page.text.index(planned, page.text.index("Plan against measurement"))
        assert page.text[place:].split()[:3] == [planned, measured, ratio]


def test_rejected_rows_are_counted_and_shown(page: Page, made: Path) -> None:
    with (made / "tables" / "rejected.csv").open() as file:
        rows = {row["reason"]: int(row["rows"]) for row in csv.DictReader(file)}
    assert rows == {"unreadable reply": 1, "too similar": 34}
    assert "raw " + ATTACK in page.text


def test_sources_and_licences_add_up_to_the_rows(made: Path) -> None:
    with (made / "tables" / "sources.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["data_set"] == "mixed"]
    counts = {(r["source"], r["licence"]): int(r["rows"]) for r in rows}
    assert counts == {
        ("teacher <b>x</b>", "CC-BY-NC-4.0"): 220,
        ("patient pages", "Apache-2.0"): 80,
    }


def test_unreadable_verdicts_are_counted_in_both_orders_once(made: Path) -> None:
    rows = json.loads((made / "report.json").read_text())["tables"]["verdicts"]["rows"]
    either = next(r for r in rows if r["shown_first"] == "either")
    assert (either["n"], either["first_wins"], either["unreadable"]) == (40, 22, 2)


def test_verbs_and_objects_name_how_they_were_found(page: Page) -> None:
    text = page.text.replace("\u00a0", " ")
    assert "explain finding 200 (90.9 %)" in text
    assert "(73.3 % of all). Found by rules." in text


def test_nothing_absent_is_printed_as_none_or_nan(page: Page) -> None:
    assert not re.search(r"\b(None|nan|NaN|null|undefined)\b", page.text)


def test_the_same_runs_give_the_same_bytes_in_any_order(
    lineage_of_runs: Path, made: Path, tmp_path: Path
) -> None:
    folders = sorted(p for p in lineage_of_runs.iterdir() if (p / "manifest.json").exists())
    report(folders[::-1], tmp_path / "again")
    assert read_manifest(tmp_path / "again").outputs == read_manifest(made).outputs


def test_again_does_nothing_and_other_options_are_refused(
    lineage_of_runs: Path, tmp_path: Path
) -> None:
    first = report([lineage_of_runs], tmp_path / "r", examples=1)
    assert not first.done_before
    assert report([lineage_of_runs], tmp_path / "r", examples=1).done_before
    with pytest.raises(FolderDiffers, match="examples"):
        report([lineage_of_runs], tmp_path / "r", examples=2)


def test_a_report_below_the_parent_is_no_run_of_the_next(tmp_path: Path) -> None:
    build(tmp_path / "runs")
    report([tmp_path / "runs"], tmp_path / "runs" / "report")
    again = report([tmp_path / "runs"], tmp_path / "runs" / "report")
    assert again.done_before


def exam_alone(root: Path) -> Path:
    run = open_run("exam", root / "exam", options={"tasks": ["demo_exam"]}, inputs={})
    with run:
        run.write([Question("q", "demo_exam", "Which?", ("x", "y"), "B")], Question)
        run.write([Answer("q", "m", extracted="")], Answer)
        run.write_json("scores.json", [vars_of(Score("demo_exam", "m", "accuracy", 0, 0, 0.8, 1))])
        run.finish()
    return root / "exam"


def vars_of(score: Score) -> dict[str, object]:
    return {name: getattr(score, name) for name in score.__dataclass_fields__}


def test_kinds_of_runs_that_are_not_there_leave_no_heading(tmp_path: Path) -> None:
    report([exam_alone(tmp_path)], tmp_path / "r")
    page = Page((tmp_path / "r" / "report.html").read_text(encoding="utf-8"))
    sections = [a["id"] for tag, a in page.tags if tag == "section"]
    assert sections == ["exams", "examples", "provenance", "reproduce"]
    assert "Training" not in page.text


def test_shipped_material_is_named_at_the_top(tmp_path: Path) -> None:
    report([exam_alone(tmp_path)], tmp_path / "r")
    page = Page((tmp_path / "r" / "report.html").read_text(encoding="utf-8"))
    assert DEMO in page.text[: page.text.index("Contents")]


def test_an_unfinished_run_is_left_out_and_named(tmp_path: Path) -> None:
    exam_alone(tmp_path)
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "started.json").write_text('{"stage": "train"}')
    done = report([tmp_path], tmp_path / "r")
    assert "Left out, because not finished: torn" in (tmp_path / "r" / "report.html").read_text()
    assert done.manifest.warnings == ["left out, not finished: torn"]


def test_a_run_that_was_changed_after_it_was_made_is_refused(tmp_path: Path) -> None:
    folder = exam_alone(tmp_path)
    (folder / "scores.json").write_text("[]")
    with pytest.raises(UserError, match="changed after it was made"):
        report([folder], tmp_path / "r")


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir()])
def test_a_folder_without_runs_is_a_users_mistake(make, tmp_path: Path, capsys) -> None:
    make(tmp_path / "none")
    code = command_line(["report", str(tmp_path / "none"), "--out", str(tmp_path / "r")])
    message = capsys.readouterr().err
    assert code == 2
    assert str(tmp_path / "none") in message
    assert not (tmp_path / "r").exists()


def test_the_command_writes_the_page_and_says_where(tmp_path: Path, capsys) -> None:
    folder = exam_alone(tmp_path)
    code = command_line(
        ["report", str(folder), "--out", str(tmp_path / "r"), "--title", "Is <i>m</i> better?"]
    )
    assert code == 0
    assert "report.html" in capsys.readouterr().out
    html = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "<h1>Is &lt;i&gt;m&lt;/i&gt; better?</h1>" in html
    assert read_manifest(tmp_path / "r").command.startswith("meadowlark report ")


def test_a_cell_that_a_spreadsheet_would_run_is_text(tmp_path: Path) -> None:
    run = open_run("exam", tmp_path / "exam", options={}, inputs={})
    with run:
        score = Score("=HYPERLINK(1)", "m", "accuracy", 0.5, None, None, 2)
        run.write_json("scores.json", [vars_of(score)])
        run.finish()
    report([tmp_path / "exam"], tmp_path / "r")
    assert "'=HYPERLINK(1)" in (tmp_path / "r" / "tables" / "exam_scores.csv").read_text()


def test_model_names_are_short_where_they_can_be(page: Page) -> None:
    assert "model against model/initial" in page.text
    titles = {a.get("title") for _, a in page.tags}
    assert {BEFORE, AFTER} <= titles


def test_each_described_set_has_its_rings_of_verbs(page: Page) -> None:
    rings = [a for tag, a in page.tags if tag == "svg" and "sunburst" in a["class"]]
    assert len(rings) == 1
    assert "mixed: all pairs found, 73.3 % of its rows" in page.text.replace("\u00a0", " ")
