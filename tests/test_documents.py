"""README and docs say what the results and the code say."""

import json
import re
from pathlib import Path

import pytest

from meadowlark.cli import reference
from meadowlark.demo import SCRIPT, steps

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MEASURED = re.compile(r"^\|.*\| *([-\d.,]+)[^|]*\| *`(\w+\.json):([^`]+)` *\|$", re.M)
"""A table row that ends in ``| VALUE unit | `file.json:key|key` |``; keys are divided by ``>``."""


def measured() -> list[tuple[str, str, str, str]]:
    rows = []
    for page in PAGES:
        for value, file, key in MEASURED.findall(page.read_text(encoding="utf-8")):
            rows.append((page.name, value, file, key))
    return rows


@pytest.mark.parametrize(("page", "value", "file", "key"), measured())
def test_a_measured_number_is_the_committed_one(page: str, value: str, file: str, key: str) -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / file).read_text())
    for part in key.split(">"):
        found = found[int(part) if isinstance(found, list) else part]
    decimals = len(value.partition(".")[2])
    assert f"{float(found):,.{decimals}f}" == value, f"{page}: {file} {key}"


def test_the_readme_quotes_measured_numbers() -> None:
    assert len([row for row in measured() if row[0] == "README.md"]) >= 3


def test_the_guide_to_training_says_how_far_off_plans_were_on_the_imitated_card() -> None:
    results = ROOT / "benchmarks" / "results" / "training_gpu_rehearsed.json"
    percent = 100 * json.loads(results.read_text())["plan_off_at_most"]
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (said,) = re.findall(r"within ([\d.]+) % of PyTorch's CUDA allocator", text)
    assert float(said) - 0.1 < percent <= float(said)


def test_the_committed_result_says_that_no_kill_changed_an_output() -> None:
    found = json.loads((ROOT / "benchmarks" / "results" / "demo_killed.json").read_text())
    assert found["kills"] == 10
    assert found["final_exit_code"] == 0
    assert found["differing"] == []


def test_generated_pages_are_up_to_date() -> None:
    assert (ROOT / "docs" / "formats.md").read_text(encoding="utf-8") == reference.formats()
    assert (ROOT / "docs" / "cli.md").read_text(encoding="utf-8") == reference.command_line()


def test_the_architecture_page_is_two_pages_at_most() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert len(text.split()) < 1000
    for name in re.findall(r"`((?:\w+/)*\w+\.py)`", text):
        assert (ROOT / name).exists() or (ROOT / "src/meadowlark" / name).exists(), name


def test_links_between_pages_lead_somewhere() -> None:
    found = 0
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                name, _, heading = target.partition("#")
                place = page.parent / name if name else page
                assert place.exists(), f"{page.name}: {target}"
                assert not heading or heading in headings(place), f"{page.name}: {target}"
                found += 1
    assert found > 50


def headings(page: Path) -> set[str]:
    """What the headings of a page of Markdown are called in links."""
    lines = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-") for line in lines}


def test_the_demo_recipe_is_the_demo() -> None:
    assert (ROOT / "recipes" / "demo.sh").resolve() == SCRIPT.resolve()
    found = steps(Path("runs/demo"))
    assert len(found) == SCRIPT.read_text().count("\nmeadowlark ")
    assert all(not re.search(r"\$\w", word) for step in found for word in step.arguments)


def test_every_verb_in_recipes_and_readme_exists() -> None:
    from meadowlark.cli import VERBS

    known = {verb for verbs in VERBS.values() for verb in verbs}
    for page in [ROOT / "README.md", *sorted((ROOT / "recipes").glob("*.sh"))]:
        lines = page.read_text(encoding="utf-8").splitlines()
        used = {
            found[1]
            for line in lines
            if (found := re.match(r"\s*(?:-m )?meadowlark ([a-z]+)\b", line))
        }
        assert used
        assert used <= known
