"""The prompts of generation and response as text files beside this module, and their rendering.

``prompts/*.txt`` carry what AlpaCare's prompts ask for (PAPERS.md, section 1) in our own words. A
changed file changes every request, so :func:`prompt_hash` is part of a run's options.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Literal

from meadowlark.errors import unknown
from meadowlark.labels import normalise_difficulty
from meadowlark.records import Record, Turn
from meadowlark.synth.quotas import labels_in_words
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


def json_examples(seeds: Sequence[Record]) -> str:
    """Seed tasks as the JSON object that the teacher is asked to write."""
    tasks = [
        {
            **{name: seed.tags.get(name, "") for name in ("type", "topic", "view")},
            "difficulty": int(normalise_difficulty(seed.tags.get("difficulty", "")) or 3),
            "instruction": seed.instruction,
            "input": seed.input or NO_INPUT,
        }
        for seed in seeds
    ]
    return json.dumps({"tasks": tasks}, ensure_ascii=False, indent=1)


Layout = Literal["text", "json"]
GENERATE_FILES: dict[Layout, tuple[str, ...]] = {
    "text": ("generate_system.txt", "generate_user.txt"),
    "json": ("generate_system.txt", "generate_user.txt", "generate_user_json.txt"),
}
"""The files that each layout's request is made of; JSON replaces the last requirement only."""


def requirements() -> dict[int, str]:
    """The numbered requirements of the generation prompt, each with its number, 1 to 15."""
    lines = text_of("generate_user.txt").splitlines()
    return {int(line.partition(".")[0]): line for line in lines if line[:1].isdigit()}


def generation_turns(
    examples: Sequence[Record],
    tasks: int,
    wanted: Sequence[Mapping[str, str]] = (),
    layout: Layout = "text",
) -> tuple[Turn, ...]:
    """The request for ``tasks`` new tasks that continue a list of examples.

    ``wanted`` holds the labels that each new task should have, when quotas are to be met.
    """
    given = len(examples)
    lines = [labels_in_words(number, one) for number, one in enumerate(wanted, start=given + 1)]
    values = {
        "total": given + tasks,
        "given": given,
        "first": given + 1,
        "wanted": "\nGive the new tasks these labels:\n" + "\n".join(lines) if lines else "",
    }
    if layout == "json":
        user = Template(text_of("generate_user_json.txt")).substitute(
            values,
            requirements="\n".join(line for n, line in requirements().items() if n < 15),
            examples=json_examples(examples),
        )
    else:
        user = Template(text_of("generate_user.txt")).substitute(
            values, examples="\n".join(example(i, seed) for i, seed in enumerate(examples, start=1))
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
