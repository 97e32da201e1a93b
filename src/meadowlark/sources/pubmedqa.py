"""PubMedQA: questions that are titles of articles, answered yes, no or maybe from the abstract.

Raw form: ori_pqal.json (1,000 labelled by people), ori_pqaa.json (211,269 labelled by rule) or
ori_pqau.json of Jin et al. (2019): an object of article id to QUESTION, CONTEXTS, LONG_ANSWER and
final_decision.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.layouts import read_json
from meadowlark.records import Record, Rejected
from meadowlark.sources.raw import SHOWN, text, unreadable
from meadowlark.sources.source import Setting, Source
from meadowlark.tasks.pubmedqa import LABELS, fields

INSTRUCTION = "Answer the question from the abstract."
INSTRUCTION_SHORT = "Answer the question from the abstract with yes, no or maybe."
ANSWERS = Setting("long", "the abstract's conclusion, or yes, no or maybe", ("long", "decision"))


def rows(raw: Path, answers: str = "long") -> Iterator[Record | Rejected]:
    """One record an article: its abstract without the conclusion, then the question."""
    for pmid, article in read_json(raw, dict).items():
        yield _row(pmid, article, answers)


def _row(pmid: str, article: Any, answers: str) -> Record | Rejected:
    if not isinstance(article, Mapping):
        return unreadable("not a JSON object", f"{pmid}: {json.dumps(article)[:SHOWN]}")
    found = fields(article)
    passages, heads = (
        [text(part) for part in parts] if isinstance(parts, list) else []
        for parts in (found.contexts, found.heads)
    )
    heads += [""] * (len(passages) - len(heads))
    context = "\n".join(
        f"{head.capitalize()}: {passage}" if head else passage
        for head, passage in zip(heads, passages, strict=False)
    )
    question, decision, long = map(text, (found.question, found.decision, found.conclusion))
    record = SOURCE.record(
        INSTRUCTION if answers == "long" else INSTRUCTION_SHORT,
        f"{context}\n\nQuestion: {question}",
        long if answers == "long" else decision,
        pmid=pmid,
        decision=decision,
        type="question on a text",
    )
    if not question or not context:
        return Rejected(record, "no question" if not question else "no abstract", pmid)
    if not record.output:
        return Rejected(record, "no answer", pmid)
    if answers == "decision" and decision not in LABELS:
        return Rejected(record, "unknown label", f"{pmid}: {decision!r}")
    return record


SOURCE: Source = Source(
    name="pubmedqa",
    title="PubMedQA",
    origin="github.com/pubmedqa/pubmedqa",
    licence="MIT",
    obligations="Name the authors; the abstracts are their publishers'.",
    citation="Jin et al. 2019, PubMedQA, EMNLP",
    raw="ori_pqal.json, ori_pqaa.json or ori_pqau.json",
    size="1,000 labelled, 211,269 artificial, 61,249 unlabelled",
    rows=rows,
    settings={"answers": ANSWERS},
    defects=(
        "Half of the 1,000 labelled articles are the exam: `clean --against pubmedqa` finds them; "
        "train on the artificial ones.",
        "Artificial questions are never answered maybe, and 93 % of them yes.",
    ),
    signs=('"QUESTION"', '"CONTEXTS"'),
)
