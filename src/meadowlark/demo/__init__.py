"""The shipped demonstration: seed tasks, a recorded teacher, patient questions and a small exam.

All of it was written for this project and none of it was clinically reviewed. ``demo.sh`` is the
whole path as commands; ``meadowlark demo`` runs those lines in one process.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from string import Template

FOLDER = Path(__file__).parent
SCRIPT = FOLDER / "demo.sh"


@dataclass(frozen=True, slots=True)
class Step:
    """One command of the script: what it is for, and its words after ``meadowlark``."""

    purpose: str
    arguments: tuple[str, ...]

    def __str__(self) -> str:
        return shlex.join(("meadowlark", *self.arguments))


def steps(out: Path, script: Path = SCRIPT) -> list[Step]:
    """The script's ``meadowlark`` lines with ``$OUT`` and ``$DEMO`` filled in.

    The comment above a command is its purpose. A line ending in a backslash goes on in the next.
    """
    text = re.sub(r"\\\n\s*", " ", script.read_text(encoding="utf-8"))
    found, purpose = [], ""
    for line in text.splitlines():
        if line.startswith("# "):
            purpose = f"{purpose} {line[2:]}".strip()
        elif line.startswith("meadowlark "):
            words = shlex.split(line)[1:]
            filled = [Template(w).substitute(OUT=str(out), DEMO=str(FOLDER)) for w in words]
            found.append(Step(purpose, tuple(filled)))
            purpose = ""
        else:
            purpose = ""
    return found
