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
    for name, absent in (("system", ""), ("history", [])):
        if any(name in row for row in rows):  # a column of some rows only is an error to loaders
            rows = [{name: absent, **row} for row in rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(out.name + ".tmp")
    temporary.write_text(_text(rows, out.suffix), encoding="utf-8")
    temporary.replace(out)
    return len(rows), len(rejected)


def stanzas(out: Path, format: str) -> dict[str, str]:
    """What to write into other trainers' configuration to train on an exported file, by trainer.

    LLaMA-Factory's ``dataset_info.json`` and Axolotl's ``datasets:``, as their pages document them.
    """
    entry: dict[str, Any] = {"file_name": out.name}
    lines = [f"  - path: {out}", "    ds_type: json"]
    if format == "alpaca":
        entry["columns"] = {"prompt": "instruction", "query": "input", "response": "output"}
        keys = _keys(out)
        entry["columns"] |= {key: key for key in ("system", "history") if key in keys}
        lines += ["    type: alpaca"]
        if "history" in keys:
            lines += ["    # Axolotl's alpaca reads no history: export --format messages instead"]
    else:
        key = {"sharegpt": "conversations", "messages": "messages"}[format]
        roles = {"user": "user", "assistant": "assistant", "system": "system"}
        role, content = "role", "content"
        if format == "sharegpt":
            roles, role, content = _SHAREGPT_ROLES, "from", "value"
        entry |= {
            "formatting": "sharegpt",
            "columns": {"messages": key},
            "tags": {
                "role_tag": role,
                "content_tag": content,
                **{f"{ours}_tag": name for ours, name in roles.items()},
            },
        }
        lines += ["    type: chat_template", f"    field_messages: {key}"]
        lines += [
            "    message_property_mappings:",
            f"      role: {role}",
            f"      content: {content}",
        ]
        lines += ["    roles:", *(f"      {ours}: [{name}]" for ours, name in roles.items())]
    return {
        "LLaMA-Factory (dataset_info.json)": json.dumps({out.stem: entry}, indent=2),
        "Axolotl": "\n".join(["datasets:", *lines]),
    }


def _keys(out: Path) -> set[str]:
    """The keys of the first row of an exported file; every row has them."""
    with out.open(encoding="utf-8") as file:
        rows = json.load(file) if out.suffix == ".json" else [json.loads(file.readline() or "{}")]
    return set(rows[0]) if rows else set()


def _origin(record: Record) -> dict[str, str]:
    """Where a row comes from, as far as it is known."""
    known = {"id": record.id, "source": record.source, "licence": record.licence}
    return {name: value for name, value in known.items() if value}


def _text(rows: Sequence[dict[str, Any]], suffix: str) -> str:
    if suffix == ".json":
        return json.dumps(rows, ensure_ascii=False, indent=1) + "\n"
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
