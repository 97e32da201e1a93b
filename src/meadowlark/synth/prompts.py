"""The prompts of generation and response as text files beside this module, and their rendering.

``prompts/*.txt`` carry what AlpaCare's prompts ask for (PAPERS.md, section 1) in our own words. A
changed file changes every request, so :func:`prompt_hash` is part of a run's options.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from string import Template

from meadowlark.errors import unknown
from meadowlark.records import Record, Turn
from meadowlark.templates import user_content

FOLDER = Path(__file__).parent / "prompts"
RESPOND_PROMPTS = {
    "data": "respond_data.txt",
    "icliniq": "respond_icliniq.txt",
    "test": "respond_test.txt",
}
"""System prompts for answers: training data, patients' questions (iCliniq), MedInstruct-test."""

NO_INPUT = "<noinput>"


def text_of(name: str) -> str:
    """A prompt file's text without its final newline."""
    return (FOLDER / name).read_text(encoding="utf-8").strip()


def prompt_hash(*names: str) -> str:
    """The first 12 hex digits of the SHA-256 of prompt files."""
    whole = "\0".join(text_of(name) for name in names)
    return hashlib.sha256(whole.encode()).hexdigest()[:12]


def example(number: int, seed: Record) -> str:
    """A seed task in the layout that the teacher is asked to continue."""
    tags = seed.tags
    return (
        f"###\n{number}. Type: {tags.get('type', '')}\nTopic: {tags.get('topic', '')}\n"
        f"View: {tags.get('view', '')}\nDifficulty: {tags.get('difficulty', '')}\n"
        f"Instruction: {seed.instruction}\nInput: {seed.input or NO_INPUT}"
    )


GENERATE_FILES = ("generate_system.txt", "generate_user.txt")


def generation_turns(examples: Sequence[Record], tasks: int) -> tuple[Turn, ...]:
    """The request for ``tasks`` new tasks that continue a list of examples."""
    given = len(examples)
    user = Template(text_of("generate_user.txt")).substitute(
        total=given + tasks,
        given=given,
        first=given + 1,
        examples="\n".join(example(i, seed) for i, seed in enumerate(examples, start=1)),
    )
    return Turn("system", text_of("generate_system.txt")), Turn("user", user)


def response_turns(record: Record, prompt: str) -> tuple[Turn, ...]:
    """The request for a record's output; ``prompt`` is a key of :data:`RESPOND_PROMPTS`."""
    if prompt not in RESPOND_PROMPTS:
        raise unknown("prompt", prompt, RESPOND_PROMPTS)
    earlier = tuple(turn for turn in record.history if turn.role != "system")
    return (
        Turn("system", text_of(RESPOND_PROMPTS[prompt])),
        *earlier,
        Turn("user", user_content(record.instruction, record.input)),
    )
