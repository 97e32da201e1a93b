"""``filter``: drops near-duplicate records by exact ROUGE-L F1 on one field.

Rule ``kept`` is Self-Instruct's: a record is compared with those kept before it, so the first of a
group stays. Rule ``others`` is AlpaCare's: all of a group go (PAPERS.md section 1, "Filter"). Made
for generated instructions: converted questions ("What are the symptoms of X?") look alike by
nature and need another treatment.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from meadowlark.dataset import Run, open_run, read
from meadowlark.errors import UserError, unknown
from meadowlark.match.rouge import Rule, near_duplicates
from meadowlark.records import Record, Rejected

RULES: dict[str, Rule] = {"kept": "kept", "others": "others"}
FIELDS = ("instruction", "input", "output")
REASON = "near-duplicate by ROUGE-L"


def filter_records(
    data: Path,
    out: Path,
    *,
    threshold: float = 0.7,
    rule: str = "kept",
    field: str = "instruction",
    limit: int | None = None,
    threads: int | None = None,
    force: bool = False,
) -> Run:
    """Keep the records whose ``field`` is not above ``threshold`` with another's.

    A rejected row's ``detail`` holds its nearest neighbour's id and their score. Records whose
    field has no word (an empty input) score 0 with everything and are kept.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    if field not in FIELDS:
        raise unknown("field", field, FIELDS)
    if not 0 <= threshold < 1:
        raise UserError(f"the threshold must be at least 0 and below 1, not {threshold}")
    options = {"threshold": threshold, "rule": rule, "field": field, "limit": limit}
    run = open_run("filter", out, options=options, inputs={"data": data}, force=force)
    if run.complete:
        return run
    with run:
        records, rejected = read(data, Record, limit)
        texts = [getattr(record, field) for record in records]
        same, count = max(Counter(texts).items(), key=lambda t: t[1], default=("", 0))
        if same and 2 * count > len(texts) > 2:
            run.manifest.warnings.append(
                f"{count:,} of {len(texts):,} rows have the same {field}: compare another --field"
            )
        found = near_duplicates(texts, threshold, RULES[rule], threads)
        kept = [record for record, keep in zip(records, found.kept, strict=True) if keep]
        for index in (~found.kept).nonzero()[0]:
            neighbour = records[found.nearest[index]].id
            detail = f"{neighbour} scores {found.score[index]:.4f}"
            rejected.append(Rejected(records[index], REASON, detail))
        run.manifest.rows["in"] = len(kept) + len(rejected)
        run.write(kept, Record)
        run.reject(rejected, Record)
        run.finish()
    return run
