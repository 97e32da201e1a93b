"""What a check of a run's data says: findings with their rows, a summary, rows to look at."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from meadowlark.train.encode import Example
from meadowlark.train.marked import CLOSE, OPEN, segments


@dataclass(frozen=True, slots=True)
class Finding:
    """Something found wanting (``fault``) or worth a look (``warning``), with the rows concerned.

    ``rows`` holds every row's id and detail; it is empty where the finding is of the whole.
    """

    name: str
    kind: Literal["fault", "warning"]
    text: str
    rows: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Contamination:
    """One evaluation question in one training row."""

    row: str
    task: str
    question: str
    coverage: float
    choices: int
    passage: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A row worth looking at, and why."""

    kind: str
    example: Example


@dataclass(frozen=True, slots=True)
class Checked:
    """All that a check has to say."""

    findings: list[Finding]
    contamination: list[Contamination]
    summary: dict[str, Any]
    shown: list[Shown]
    tokenizer: Any

    @property
    def faults(self) -> list[Finding]:
        """What makes the check fail."""
        return [finding for finding in self.findings if finding.kind == "fault"]

    @property
    def warnings(self) -> list[Finding]:
        """What does not."""
        return [finding for finding in self.findings if finding.kind == "warning"]

    def as_json(self) -> dict[str, Any]:
        """Everything, with every row's id, as a JSON object."""
        return {
            "passed": not self.faults,
            **{
                f"{kind}s": [
                    {
                        "name": one.name,
                        "text": one.text,
                        "rows": [{"id": row, "detail": detail} for row, detail in one.rows],
                    }
                    for one in self.findings
                    if one.kind == kind
                ]
                for kind in ("fault", "warning")
            },
            "contamination": [asdict(one) for one in self.contamination],
            "summary": self.summary,
            "examples": [
                {"kind": s.kind, "id": s.example.id, "text": self._marked(s.example)}
                for s in self.shown
            ],
        }

    def _marked(self, example: Example) -> str:
        stretches = segments(example, self.tokenizer)
        return "".join(f"{OPEN}{text}{CLOSE}" if learned else text for text, learned in stretches)
