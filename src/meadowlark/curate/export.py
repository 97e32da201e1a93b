"""``export``: records in the layouts of other tools: Alpaca, ShareGPT, messages.

Each layout reads back through ``dataset.read`` as the same conversation, with its source and
licence, which other tools ignore. A row that a layout cannot hold is refused by its id, never bent.
The Alpaca layout's ``history`` and ``system`` are those that LLaMA-Factory documents.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from meadowlark.dataset import read
from meadowlark.errors import UserError, unknown
from meadowlark.records import Record
from meadowlark.templates import messages

_SHAREGPT_ROLES = {"system": "system", "user": "human", "assistant": "gpt"}


def alpaca(record: Record) -> dict[str, Any]:
    """{instruction, input, output}, earlier turns as ``history``: [[question, answer], ...].

    A first system turn becomes ``system``. Turns in any other order are a UserError.
    """
    row: dict[str, Any] = {
        "instruction": record.instruction,
        "input": record.input,
        "output": record.output,
    }
    turns = list(record.history)
    if turns and turns[0].role == "system":
        row["system"] = turns.pop(0).content
    if [turn.role for turn in turns] != ["user", "assistant"] * (len(turns) // 2):
        raise UserError(
            f"record {record.id} cannot be written as alpaca: its earlier turns are not questions "
            "and answers in turn. Use --format messages or sharegpt."
        )
    if turns:
        pairs = zip(turns[::2], turns[1::2], strict=True)
        row["history"] = [[question.content, answer.content] for question, answer in pairs]
    return row


def chat_messages(record: Record) -> dict[str, Any]:
    """{messages: [{role, content}]}, as chat APIs and TRL take them."""
    turns = messages(record, with_output=bool(record.output))
    return {"messages": [turn._asdict() for turn in turns]}


def sharegpt(record: Record) -> dict[str, Any]:
    """{conversations: [{from, value}]}."""
    turns = messages(record, with_output=bool(record.output))
    return {"conversations": [{"from": _SHAREGPT_ROLES[t.role], "value": t.content} for t in turns]}


FORMATS: dict[str, Callable[[Record], dict[str, Any]]] = {
    "alpaca": alpaca,
    "sharegpt": sharegpt,
    "messages": chat_messages,
}


def export(
    data: Path, out: Path, format: str, *, limit: int | None = None, force: bool = False
) -> tuple[int, int]:
    """Write ``data`` to a .json or .jsonl file; returns rows written and rows that were unreadable.

    Written beside its place, then renamed.
    """
    if format not in FORMATS:
        raise unknown("format", format, FORMATS)
    if out.suffix not in (".json", ".jsonl"):
        raise UserError(f"--out must be a .json or .jsonl file, not {out}")
    if out.exists() and not force:
        raise UserError(f"{out} exists; give another --out, or --force to replace it")
    records, rejected = read(data, Record, limit)
    rows = [{**FORMATS[format](record), **_origin(record)} for record in records]
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text(_text(rows, out.suffix), encoding="utf-8")
    temporary.replace(out)
    return len(rows), len(rejected)


def _origin(record: Record) -> dict[str, str]:
    """Where a row comes from, as far as it is known."""
    known = {"id": record.id, "source": record.source, "licence": record.licence}
    return {name: value for name, value in known.items() if value}


def _text(rows: Sequence[dict[str, Any]], suffix: str) -> str:
    if suffix == ".json":
        return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
