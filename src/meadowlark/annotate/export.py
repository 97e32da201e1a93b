"""What the people's work comes to: a folder of verdicts, or a reviewed data set.

A study comes in, at any time, finished or not; a folder as any stage writes it comes out.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from meadowlark.annotate.judgements import COMPARE, PARTS, Judgement, verdicts
from meadowlark.annotate.store import Judged, Store, Study
from meadowlark.dataset import Run, fingerprint, open_run
from meadowlark.errors import UserError
from meadowlark.progress import plural
from meadowlark.records import Answer, Question, Record, Rejected, Verdict, from_dict

NOT_REVIEWED, IN_DISPUTE = "not reviewed", "reviewers edited it differently"


def export(store: Store, out: Path, *, force: bool = False) -> Run:
    """Write what was judged so far; UserError where nothing was."""
    study, judged = store.study, store.judged()
    if not judged:
        raise UserError(f"{store.folder}: nothing is judged yet, so there is nothing to export")
    return write(study, store.items(), judged, out, force=force)


def write(
    study: Study,
    items: Sequence[dict[str, Any]],
    judged: Sequence[Judged],
    out: Path,
    *,
    force: bool = False,
) -> Run:
    """The same from what was read already, so that another thread may write it."""
    said = json.dumps([tuple(one) for one in judged], sort_keys=True).encode()
    run = open_run(
        "annotate",
        out,
        options={
            "task": study.task,
            "study": study.id,
            "overlap": study.overlap,
            "people": len(study.people),
            "judgements": hashlib.sha256(said).hexdigest(),
        },
        inputs={name: Path(given["path"]) for name, given in study.inputs.items() if _there(given)},
        seed=study.seed,
        force=force,
    )
    if run.complete:
        return run
    with run:
        run.manifest.warnings += _warnings(study)
        run.manifest.rows["in"] = len(items)
        if study.task == COMPARE:
            _write_verdicts(run, study, items, judged)
        else:
            _write_reviewed(run, study, items, judged)
    return run


def _there(given: dict[str, str]) -> bool:
    """Whether an input still lies where it was, as it was."""
    try:
        return fingerprint(Path(given["path"])) == given["sha256"]
    except UserError:
        return False


def _warnings(study: Study) -> list[str]:
    lines = [
        f"{given['path']} is no longer what the study was made from (SHA-256 {given['sha256']})"
        for given in study.inputs.values()
        if not _there(given)
    ]
    reasons = Counter(why for _, why in study.left_out)
    return lines + [
        f"{plural(count, 'item was', 'items were')} not shown: {why}"
        for why, count in reasons.items()
    ]


# --------------------------------------------------------------------------- comparison


def _write_verdicts(
    run: Run, study: Study, items: Sequence[dict[str, Any]], judged: Sequence[Judged]
) -> None:
    """``verdicts.parquet`` with the questions and answers that they are about."""
    a, b = study.models
    questions = [from_dict(item["question"], Question) for item in items]
    rows = [
        verdict
        for one in judged
        for verdict in verdicts(
            one.judgement,
            item=questions[one.item].id,
            a=a,
            b=b,
            a_first=one.a_first,
            person=one.person,
        )
    ]
    seen = sorted({one.item for one in judged})
    run.write(rows, Verdict)
    run.write([questions[place] for place in seen], Question)
    answers = [from_dict(items[place][side], Answer) for place in seen for side in ("a", "b")]
    run.write(answers, Answer)
    run.manifest.rows["kept"] = len(seen)
    run.finish(
        people=len({one.person for one in judged}), judgements=len(judged), verdicts=len(rows)
    )


# --------------------------------------------------------------------------- review


def _write_reviewed(
    run: Run, study: Study, items: Sequence[dict[str, Any]], judged: Sequence[Judged]
) -> None:
    """``rows.parquet`` with what was accepted or edited, ``rejected.parquet`` with the rest.

    What could not be read or shown is among the rest, as its raw text.
    """
    by_item: dict[int, list[Judged]] = {}
    for one in judged:
        by_item.setdefault(one.item, []).append(one)
    kept: list[Record] = []
    rejected = [Rejected(Record(""), why, raw) for raw, why in study.left_out]
    run.manifest.rows["in"] += len(rejected)
    for place, item in enumerate(items):
        made = resolve(from_dict(item, Record), by_item.get(place, []))
        if isinstance(made, Rejected):
            rejected.append(made)
        else:
            kept.append(made)
    run.write(kept, Record)
    run.reject(rejected, Record)
    counts = Counter(record.tags["review"] for record in kept)
    run.finish(
        people=len({one.person for one in judged}),
        judgements=len(judged),
        accepted=counts["accepted"],
        edited=counts["edited"],
    )


def resolve(record: Record, judged: Sequence[Judged]) -> Record | Rejected:
    """What several reviewers together say of a row.

    It is rejected when at least half of them reject it (in doubt it does not train a model). Among
    those who keep it an edit counts before an acceptance; edits that differ leave it in dispute.
    An edited row is a new record whose parent is the row as it was.
    """
    if not judged:
        return Rejected(record, NOT_REVIEWED)
    against = [one for one in judged if one.judgement["decision"] == "reject"]
    if 2 * len(against) >= len(judged):
        reasons = Counter(one.judgement["reason"] for one in against)
        return Rejected(record, reasons.most_common(1)[0][0], _detail(against))
    edits = [one for one in judged if one.judgement["decision"] == "edit"]
    by = ", ".join(sorted(one.person for one in judged))
    notes = "; ".join(one.judgement["note"] for one in judged if one.judgement.get("note"))
    tags = {**record.tags, "reviewed_by": by, **({"review_note": notes} if notes else {})}
    if not edits:
        return replace(record, tags={**tags, "review": "accepted"})
    versions = {tuple(one.judgement[part] for part in PARTS): one for one in edits}
    if len(versions) > 1:
        return Rejected(record, IN_DISPUTE, _detail(edits))
    parts = _parts(edits[0].judgement)
    return record.evolve(**parts, tags={**tags, "review": "edited"})


def _parts(judgement: Judgement) -> dict[str, str]:
    return {part: judgement[part] for part in PARTS}


def _detail(judged: Sequence[Judged]) -> str:
    """Who said what, as JSON: names, reasons, notes and edited texts."""
    said = [{"by": f"human:{one.person}", **one.judgement} for one in judged]
    return json.dumps(said, ensure_ascii=False)
