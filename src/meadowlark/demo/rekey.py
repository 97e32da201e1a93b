"""Re-key the shipped recording after a prompt changed: ``python -m meadowlark.demo.rekey``.

A recording answers a request by its content, so an edited prompt leaves it without answers. Here
the demo's generation and responses are run with a model that answers by label instead (request
number, record id: neither depends on a prompt), and each line gets the request that was then made.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meadowlark.demo import FOLDER
from meadowlark.errors import MeadowlarkError
from meadowlark.llm import ChatReply, ChatRequest, ScriptedModel
from meadowlark.llm.errors import NotRecorded
from meadowlark.synth.generate import generate
from meadowlark.synth.respond import respond

SEEDS = FOLDER / "seeds.jsonl"
TEACHER = FOLDER / "teacher.jsonl"
MORE_THAN_RECORDED = 10_000
"""A count that the recording cannot reach, so that all of it is asked for."""


def rekey(recording: Path = TEACHER, seeds: Path = SEEDS) -> tuple[int, list[str]]:
    """Rewrite ``recording`` in place; returns how many requests changed, and labels never asked.

    A line whose label was never asked for (its task is made by no reply any more) stays as it is.
    """
    lines = [json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines()]
    by_label = {line["label"]: line["reply"] for line in lines}
    asked: dict[str, dict[str, Any]] = {}

    def answer(request: ChatRequest) -> ChatReply | Exception:
        if request.label not in by_label:
            return NotRecorded(request.label)
        asked[request.label] = request.content()
        return ChatReply(**by_label[request.label])

    with tempfile.TemporaryDirectory() as name:
        tasks, answers = Path(name) / "tasks", Path(name) / "answers"
        teacher = f"recorded:{recording}"
        model = ScriptedModel(answer)
        generate(seeds, teacher, MORE_THAN_RECORDED, tasks, threshold=None, model=model)
        # The tasks before the filter, so that whatever a filter keeps can be answered.
        respond(tasks, teacher, answers, model=model)
    changed = 0
    for line in lines:
        request = _json(asked.get(line["label"], line["request"]))
        changed += request != line["request"]
        line["request"] = request
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    temporary = recording.with_name(recording.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(recording)
    return changed, [label for label in by_label if label not in asked]


def _json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: prints what changed; 2 where the recording cannot be re-keyed."""
    parser = argparse.ArgumentParser(prog="python -m meadowlark.demo.rekey", description=__doc__)
    parser.add_argument("recording", nargs="?", type=Path, default=TEACHER)
    parser.add_argument("--seeds", type=Path, default=SEEDS)
    given = parser.parse_args(arguments)
    try:
        changed, unused = rekey(given.recording, given.seeds)
    except MeadowlarkError as error:
        print(f"rekey: {error}", file=sys.stderr)
        return 2
    print(f"{given.recording}: {changed} request(s) changed")
    for label in unused:
        print(f"  never asked for any more: {label}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
