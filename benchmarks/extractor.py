"""How often the extractor reads in a reply what a person read in it, beside three simple rules.
The replies are those of tests/evaluate/extractor, labelled in a commit before the extractor's.
After its first run three small rules were added, for two of our own replies and for one real reply
(whose outcome they did not change). results/extractor.json comes out.

    MEADOWLARK_DATA=DIR python benchmarks/extractor.py
"""

import json
import os
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _stamp import RESULTS, ROOT, stamp

from meadowlark.evaluate.extract import extract

sys.path.insert(0, str(ROOT / "tests" / "evaluate"))
from real_replies import real_reply

FOLDER = ROOT / "tests" / "evaluate" / "extractor"
OUTCOMES = ("right letter", "another letter", "missed", "invented", "rightly none")
Reader = Callable[[str, Sequence[str]], str]


def first_letter(reply: str, choices: Sequence[str]) -> str:
    """The notebook's rule: a reply counts by the letter it starts with."""
    return reply.strip()[:1] if reply.strip()[:1] in _letters(choices) else ""


def last_capital(reply: str, choices: Sequence[str]) -> str:
    """The last capital that stands alone and is a choice's letter."""
    found = [c for c in re.findall(r"\b[A-Z]\b", reply) if c in _letters(choices)]
    return found[-1] if found else ""


def answer_colon(reply: str, choices: Sequence[str]) -> str:
    """What follows "Answer:", the last time it stands there."""
    found = re.findall(r"answer\s*:\s*\W?([A-Za-z])\b", reply, re.IGNORECASE)
    return found[-1].upper() if found and found[-1].upper() in _letters(choices) else ""


READERS: dict[str, Reader] = {
    "extract": lambda reply, choices: extract(reply, choices).letter,
    "the first character": first_letter,
    "the last capital alone": last_capital,
    "after Answer:": answer_colon,
}


def _letters(choices: Sequence[str]) -> str:
    return "".join(chr(ord("A") + i) for i in range(len(choices)))


def outcome(label: str, read: str) -> str:
    """One cell of the confusion table."""
    if label:
        return "right letter" if read == label else "another letter" if read else "missed"
    return "invented" if read else "rightly none"


def rows(name: str) -> list[dict[str, Any]]:
    """The labelled replies of a file."""
    return [json.loads(line) for line in (FOLDER / name).read_text("utf-8").splitlines()]


def table(replies: Sequence[tuple[str, str, Sequence[str], str]], read: Reader) -> dict[str, Any]:
    """The confusion table, over all and by source; replies are (source, text, choices, label)."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for source, text, choices, label in replies:
        for key in ("all", source):
            counts[key][outcome(label, read(text, choices))] += 1
    return {key: {name: one[name] for name in OUTCOMES} for key, one in counts.items()}


def ours() -> list[tuple[str, str, Sequence[str], str]]:
    """The replies written for this project."""
    return [(r["trap"], r["reply"], r["choices"], r["label"]) for r in rows("adversarial.jsonl")]


def real(data: Path) -> list[tuple[str, str, Sequence[str], str]]:
    """The real replies, their text from the data folder."""
    found = []
    for row in rows("real.jsonl"):
        reply = real_reply(data, row["id"])
        found.append((row["id"].partition("/")[0], reply.text, reply.choices, row["label"]))
    return found


def by_kind(replies: Sequence[tuple[str, str, Sequence[str], str]]) -> dict[str, Any]:
    """For each way of reading a letter, or reason for none: how often the label agrees."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for _, text, choices, label in replies:
        found = extract(text, choices)
        counts[found.how]["agree" if found.letter == label else "differ"] += 1
    return {how: dict(sorted(one.items())) for how, one in sorted(counts.items())}


def main() -> None:
    sets = {"real": real(Path(os.environ["MEADOWLARK_DATA"])), "adversarial": ours()}
    results = {
        "of": "replies to multiple-choice and free prompts, by what a person read in them",
        "real": {name: table(sets["real"], read) for name, read in READERS.items()},
        "adversarial": {name: table(sets["adversarial"], read) for name, read in READERS.items()},
        "by_kind": {name: by_kind(replies) for name, replies in sets.items()},
        **stamp(packages=()),
    }
    (RESULTS / "extractor.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name in sets:
        for reader, found in results[name].items():
            print(f"{name:12} {reader:24} {found['all']}")


if __name__ == "__main__":
    main()
