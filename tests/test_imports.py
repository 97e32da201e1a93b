"""Imports point one way: floor <- llm, match, tasks, statistics <- stages <- cli and demo."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "meadowlark"
SHARED = {"llm", "match", "tasks", "statistics"}
STAGES = {"synth", "sources", "curate", "train", "evaluate", "annotate", "report", "serve"}
TOP = {"cli", "demo"}


def room(path: Path) -> str:
    """The room a file belongs to: its folder, or ``floor`` for a module of the package itself."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else "floor"


def imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.module, f"{path}: a relative import hides where it leads"
            assert node.level == 0, f"{path}: a relative import hides where it leads"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            if parts[0] == "meadowlark" and len(parts) > 1:
                rooms.add(parts[1] if (PACKAGE / parts[1]).is_dir() else "floor")
    return rooms


ALLOWED = {
    "floor": {"floor"},
    **{name: {"floor", name} for name in SHARED},
    **{name: {"floor", name} | SHARED for name in STAGES},
    **{name: {"floor"} | SHARED | STAGES | TOP for name in TOP},
}


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.name))
def test_imports_point_one_way(path: Path) -> None:
    if path in (PACKAGE / "__main__.py", PACKAGE / "__init__.py"):
        return  # the two doors of the house
    assert imported_rooms(path) <= ALLOWED[room(path)], path


def heavy(path: Path) -> set[str]:
    """Top-level imports, outside functions, of packages that take a second or are optional."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found & {"torch", "transformers", "peft", "numba", "polars", "matplotlib"}


@pytest.mark.parametrize("path", sorted((PACKAGE / "cli").glob("*.py")), ids=lambda p: p.name)
def test_the_command_line_imports_nothing_heavy(path: Path) -> None:
    assert heavy(path) == set()


def test_training_stays_light() -> None:
    for path in sorted((PACKAGE / "train").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        for name in ("polars", "datasets", "trl"):
            assert f"import {name}" not in text, path
            assert f"from {name}" not in text, path


def test_the_package_is_imported_in_a_moment() -> None:
    """``import meadowlark`` brings nothing heavy with it, though ``meadowlark.load`` is there."""
    script = "import sys, meadowlark; print(*(sys.modules.keys() & {'torch', 'numpy', 'aiohttp'}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""
