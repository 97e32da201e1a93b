"""OpenAssistant: conversations between people, message trees written and ranked by volunteers.

Raw form: the released JSON lines, a whole tree a line (``prompt`` with nested ``replies``) or a
message a line (``parent_id``); .gz as they are. The hub holds messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected, Turn
from meadowlark.sources.raw import json_lines, text, unreadable
from meadowlark.sources.source import HubSet, Setting, Source

LANGUAGE = Setting("en", "the conversation's language, as a two-letter code, or any")
PATHS = Setting(
    "best",
    "the best ranked answer at each turn, or every path to an assistant's last message",
    ("best", "all"),
)
QUALITY = Setting("0", "least mean quality, 0 to 1, of every answer that has been rated")
ROLES = {"prompter": "user", "assistant": "assistant"}
Message = Mapping[str, Any]


def rows(
    raw: Path, language: str = "en", paths: str = "best", quality: str = "0"
) -> Iterator[Record | Rejected]:
    """One record a path from a tree's prompt to an assistant's last message."""
    yield from _records(_trees(json_lines(raw)), language, paths, quality)


def hub_rows(
    items: Iterable[Mapping[str, Any]],
    language: str = "en",
    paths: str = "best",
    quality: str = "0",
) -> Iterator[Record | Rejected]:
    """Trees put together from the hub's messages."""
    yield from _records(_trees(items), language, paths, quality)


def _trees(items: Iterable[Mapping[str, Any] | Rejected]) -> Iterator[Message | Rejected]:
    """Whole trees as they are; single messages joined by their parents once all are read."""
    children: dict[str, list[dict[str, Any]]] = {}
    roots: list[dict[str, Any]] = []
    seen: set[str] = set()
    for item in items:
        if isinstance(item, Rejected):
            yield item
        elif isinstance(item.get("prompt"), Mapping):
            yield item["prompt"]
        elif "message_id" not in item or "text" not in item:
            yield unreadable("not a message", str(item)[:200])
        elif item.get("parent_id") is None and item.get("replies"):
            yield item
        elif item["message_id"] in seen:
            yield unreadable("duplicate id", text(item["message_id"]))
        else:
            seen.add(item["message_id"])
            message = dict(item)
            parent = item.get("parent_id")
            (roots if parent is None else children.setdefault(parent, [])).append(message)
    for root in roots:
        waiting = [root]
        while waiting:
            message = waiting.pop()
            message["replies"] = children.pop(message["message_id"], [])
            waiting += message["replies"]
        yield root
    for parent, orphans in children.items():
        for _ in orphans:
            yield unreadable("message without its parent", text(parent))


def _records(
    trees: Iterable[Message | Rejected], language: str, paths: str, quality: str
) -> Iterator[Record | Rejected]:
    try:
        least = float(quality)
    except ValueError:
        raise UserError(f"--quality {quality!r} is not a number from 0 to 1") from None
    for tree in trees:
        if isinstance(tree, Rejected):
            yield tree
            continue
        if language != "any" and tree.get("lang") != language:
            yield Rejected(_record([tree]), "another language", text(tree.get("lang")))
            continue
        found = False
        for path in _paths(tree, paths):
            found = True
            yield _judged(path, least)
        if not found:
            yield Rejected(_record([tree]), "no answer", text(tree.get("message_id")))


def _paths(root: Message, choice: str) -> Iterator[list[Message]]:
    """Paths from the root that end with an assistant; a deleted message ends what led to it."""
    waiting = [[root]]
    while waiting:
        path = waiting.pop()
        replies = sorted(
            (reply for reply in path[-1].get("replies") or () if not reply.get("deleted")),
            key=lambda reply: (reply.get("rank") is None, reply.get("rank") or 0),
        )
        if choice == "best":
            replies = replies[:1]
        if replies:
            waiting += [[*path, reply] for reply in reversed(replies)]
            continue
        while path and path[-1].get("role") != "assistant":
            path = path[:-1]
        if path:
            yield path


def _judged(path: list[Message], least: float) -> Record | Rejected:
    record = _record(path)
    where = text(path[-1].get("message_id"))
    if any(message.get("deleted") for message in path):
        return Rejected(record, "deleted message", where)
    if any(message.get("review_result") is False for message in path):
        return Rejected(record, "failed review", where)
    roles = [message.get("role") for message in path]
    if roles != ["prompter", "assistant"] * (len(path) // 2):
        return Rejected(record, "roles do not alternate", f"{where}: {roles}")
    if not all(text(message.get("text")) for message in path):
        return Rejected(record, "empty message", where)
    rated = [value for m in path[1::2] if (value := _quality(m)) is not None]
    if rated and min(rated) < least:
        return Rejected(record, "low quality", f"{where}: {min(rated):.2f}")
    return record


def _quality(message: Message) -> float | None:
    """The mean of the raters' quality label: a mapping in the trees, two lists on the hub."""
    labels = message.get("labels") or {}
    found = labels.get("quality")
    if isinstance(found, Mapping):
        return float(found["value"])
    if "name" in labels and "quality" in labels["name"]:
        return float(labels["value"][list(labels["name"]).index("quality")])
    return None


def _record(path: list[Message]) -> Record:
    texts = [text(message.get("text")) for message in path]
    history = tuple(
        Turn(ROLES.get(text(m.get("role")), "user"), said)  # type: ignore[arg-type]
        for m, said in zip(path[:-2], texts[:-2], strict=True)
    )
    instruction, output = (texts[-2], texts[-1]) if len(path) > 1 else (texts[0], "")
    return Record(
        instruction,
        "",
        output,
        history=history,
        source=SOURCE.name,
        licence=SOURCE.licence,
        tags={
            "language": text(path[0].get("lang")),
            "message_id": text(path[-1].get("message_id")),
            "type": "chat",
        },
    )


SOURCE: Source = Source(
    name="oasst",
    title="OpenAssistant conversations",
    origin="OpenAssistant/oasst1 on the hub; github.com/LAION-AI/Open-Assistant",
    licence="Apache-2.0",
    obligations="Name the authors.",
    citation="Köpf et al. 2023, OpenAssistant Conversations, NeurIPS Datasets and Benchmarks",
    raw="a .jsonl or .jsonl.gz of message trees or of messages",
    size="9,209 rows in Medical Meadow; 10,364 trees of 88,838 messages in the full release",
    rows=rows,
    language="35 languages; English unless --language says otherwise",
    settings={"language": LANGUAGE, "paths": PATHS, "quality": QUALITY},
    defects=(
        "Hardly any of it is medical.",
        "Which paths Medical Meadow took is not published.",
        "Messages marked synthetic were written by a model.",
    ),
    hub=(
        HubSet(
            "OpenAssistant/oasst1",
            hub_rows,
            revision="fdf72ae0827c1cda404aff25b6603abec9e3399b",
        ),
    ),
    signs=('"message_id"', '"lang"'),
)
