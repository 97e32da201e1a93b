"""What a judge is told and how it is asked: protocols as TOML files beside this module.

``protocols/*.toml`` carry what the published protocols ask for, in our own words; a user's own file
in the same form is a protocol too. A changed file changes every request, so its hash is part of a
run's options. A judge is shown prompts and answers only, never a model's name.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from string import Template
from typing import Literal

from pydantic import model_validator

from meadowlark.config import Options, load
from meadowlark.errors import unknown
from meadowlark.evaluate.alpaca_eval import shown_switched
from meadowlark.evaluate.reading import READINGS
from meadowlark.llm import Sampling
from meadowlark.records import Turn

FOLDER = Path(__file__).parent / "protocols"
PROTOCOLS = (
    "alpacare",
    "alpacare-claude",
    "mt-bench",
    "alpacaeval",
    "correctness",
    "helpfulness",
    "rubric",
)
"""Every protocol that ships, by name."""
PLACES = {
    "pair": {"prompt", "first", "second"},
    "single": {"prompt", "answer"},
    "rubric": {"prompt", "answer", "criterion"},
}
"""What the text of each kind of protocol must hold; single and rubric may also hold $target."""


class Protocol(Options):
    """How a judge is asked. ``kind``: ``pair`` compares two answers, ``single`` rates one between
    ``lowest`` and ``highest``, ``rubric`` says of one whether a criterion is met.

    ``orders``: ``both`` asks each pair twice, ``drawn`` once, in AlpacaEval's order for that
    instruction. ``identical = "tie"`` does not ask about two equal answers. ``logprobs`` asks for
    the log-probabilities of that many alternatives.
    """

    title: str
    kind: Literal["pair", "single", "rubric"]
    criterion: str
    user: str
    system: str = ""
    source: str = ""
    reading: str = "brackets"
    orders: Literal["both", "drawn"] = "both"
    identical: Literal["ask", "tie"] = "ask"
    temperature: float = 0.0
    max_tokens: int = 1024
    logprobs: int | None = None
    lowest: float = 1.0
    highest: float = 10.0

    @model_validator(mode="after")
    def _whole(self) -> Protocol:
        held = {*Template(self.system + self.user).get_identifiers()}
        wanted = PLACES[self.kind]
        known = wanted if self.kind == "pair" else wanted | {"target"}
        if not wanted <= held or not held <= known:
            named = ", ".join(f"${name}" for name in sorted(wanted))
            raise ValueError(
                f"the text of a {self.kind} protocol holds {named}; this one holds "
                + (", ".join(f"${name}" for name in sorted(held)) or "none of them")
                + " (write $$ for a dollar sign)"
            )
        if self.reading not in READINGS:
            raise ValueError(f"reading is one of {', '.join(READINGS)}, not {self.reading!r}")
        if not self.lowest < self.highest:
            raise ValueError("lowest must be below highest")
        return self

    @property
    def digest(self) -> str:
        """The first 12 hex digits of the SHA-256 of all that it says."""
        text = json.dumps(self.model_dump(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def wants_target(self) -> bool:
        """Whether the judge is shown a reference answer."""
        return "target" in Template(self.system + self.user).get_identifiers()

    @property
    def sampling(self) -> Sampling:
        """How each verdict is drawn."""
        return Sampling(
            temperature=self.temperature, max_tokens=self.max_tokens, logprobs=self.logprobs
        )

    def turns(self, **values: str) -> tuple[Turn, ...]:
        """The request, with the values of :data:`PLACES` (and ``target``) put in."""
        made = [("system", self.system), ("user", self.user)]
        return tuple(
            Turn(role, Template(text.strip()).substitute(values))  # type: ignore[arg-type]
            for role, text in made
            if text
        )


def protocol_of(name: str) -> Protocol:
    """The protocol of a name or a TOML file; a UserError for an unknown one and for a bad file."""
    if name in PROTOCOLS:
        return load(FOLDER / f"{name}.toml", Protocol)
    path = Path(name)
    if path.suffix == ".toml":
        return load(path, Protocol)
    raise unknown("protocol", name, [*PROTOCOLS, "FILE.toml"])


def orders(protocol: Protocol, instruction: str) -> tuple[Literal["a", "b"], ...]:
    """Which answer is shown first, in each of the requests about a pair.

    ``drawn`` is AlpacaEval's rule: the reference (``b``) first, unless a generator seeded with the
    instruction says to switch.
    """
    if protocol.orders == "both":
        return ("a", "b")
    return ("a",) if shown_switched(instruction) else ("b",)
