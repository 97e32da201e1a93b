"""Setting a study up, or taking it up again: the same command, the same study.

Two models' answers (compare) or a data set (review) and a list of people come in; the folder with
the study comes out. A study with judgements is never replaced.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from meadowlark.annotate.judgements import COMPARE, REVIEW
from meadowlark.annotate.pairs import read_pairs
from meadowlark.annotate.shares import deal
from meadowlark.annotate.store import ADMINISTRATOR, FILE, Store, Study, create
from meadowlark.answered import named_path
from meadowlark.dataset import fingerprint, read
from meadowlark.errors import FolderDiffers, UserError
from meadowlark.records import Record, to_json

MOST_PEOPLE = 1000
MOST_NAME = 60


def read_people(given: str) -> tuple[str, ...]:
    """The names in a file (one a line), or ``annotator-1`` to ``annotator-N`` for a number."""
    if given.isascii() and given.isdigit() and not Path(given).exists():
        count = int(given)
        if not 1 <= count <= MOST_PEOPLE:
            raise UserError(f"--people {given}: expected 1 to {MOST_PEOPLE:,} people")
        width = len(given)
        return tuple(f"annotator-{number:0{width}}" for number in range(1, count + 1))
    try:
        lines = Path(given).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"--people {given}: expected a number, or a text file with one name a line ({error})"
        ) from None
    names: list[str] = []
    for number, line in enumerate(lines, start=1):
        name = " ".join(line.split())
        if not name:
            continue
        if len(name) > MOST_NAME or not name.isprintable():
            raise UserError(f"{given}, line {number}: a name has at most {MOST_NAME} plain letters")
        if name.lower() in (ADMINISTRATOR, "majority"):
            raise UserError(f"{given}, line {number}: {name!r} has a meaning of its own here")
        if name.lower() in (known.lower() for known in names):
            raise UserError(f"{given}, line {number}: {name!r} stands there twice")
        names.append(name)
    if not 1 <= len(names) <= MOST_PEOPLE:
        raise UserError(f"{given}: expected 1 to {MOST_PEOPLE:,} names, one a line")
    return tuple(names)


def set_up_comparison(
    first: str,
    second: str,
    out: Path,
    *,
    people: str,
    overlap: float = 0.2,
    seed: int = 42,
    limit: int | None = None,
) -> Study:
    """A blind comparison of two folders or files of answers in ``out``, made or found there."""
    paired = read_pairs(first, second, limit)
    items = [
        {"question": to_json(pair.question), "a": to_json(pair.a), "b": to_json(pair.b)}
        for pair in paired.pairs
    ]
    study = Study(
        id=secrets.token_hex(8),
        task=COMPARE,
        models=paired.models,
        people=read_people(people),
        overlap=overlap,
        seed=seed,
        limit=limit,
        inputs={
            "answers": _input(named_path(first)[1]),
            "reference": _input(named_path(second)[1]),
        },
        left_out=tuple(paired.left_out),
    )
    return _make_or_find(out, study, items)


def set_up_review(
    rows: Path,
    out: Path,
    *,
    people: str,
    overlap: float = 0.2,
    seed: int = 42,
    limit: int | None = None,
) -> Study:
    """A review of a data set's rows in ``out``, made or found there."""
    records, rejected = read(rows, Record, limit)
    if not records:
        raise UserError(f"{rows} holds no rows to review")
    left_out = [(bad.detail.encode("utf-8", "replace").decode(), bad.reason) for bad in rejected]
    study = Study(
        id=secrets.token_hex(8),
        task=REVIEW,
        models=(),
        people=read_people(people),
        overlap=overlap,
        seed=seed,
        limit=limit,
        inputs={"rows": _input(rows)},
        left_out=tuple(left_out),
    )
    return _make_or_find(out, study, [to_json(record) for record in records])


def _input(path: Path) -> dict[str, str]:
    return {"path": str(path), "sha256": fingerprint(path)}


def _make_or_find(out: Path, asked: Study, items: list[dict[str, Any]]) -> Study:
    if not 0 <= asked.overlap <= 1:
        raise UserError(f"--overlap {asked.overlap}: expected a share from 0 to 1")
    if (out / FILE).exists():
        with Store(out) as store:
            held = store.study
        lines = _differences(held, asked)
        if lines:
            raise FolderDiffers(
                f"{out} holds another study:\n  " + "\n  ".join(lines) + "\nGive another --out, or "
                f"`meadowlark annotate --out {out}` to go on with that one."
            )
        return held
    if out.exists() and (not out.is_dir() or any(p.name != f"{FILE}.tmp" for p in out.iterdir())):
        raise UserError(f"{out} exists and holds no study; give another --out")
    create(out, asked, items, deal(len(items), asked.people, asked.overlap, asked.seed))
    return asked


def _differences(held: Study, asked: Study) -> list[str]:
    lines = [
        f"{name}: {getattr(held, name)} there, {getattr(asked, name)} asked"
        for name in ("task", "models", "overlap", "seed", "limit")
        if getattr(held, name) != getattr(asked, name)
    ]
    if held.people != asked.people:
        lines.append(f"people: {len(held.people)} there, {len(asked.people)} others asked")
    if held.task == asked.task:
        lines += [
            f"input {name}: the content of {given['path']} changed"
            for name, given in asked.inputs.items()
            if held.inputs[name]["sha256"] != given["sha256"]
        ]
    return lines
