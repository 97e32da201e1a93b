"""PubMedQA: questions that are titles of articles, answered yes, no or maybe from the abstract.

Raw form: ori_pqal.json (1,000 labelled by people), ori_pqaa.json (211,269 labelled by rule) or
ori_pqau.json of Jin et al. (2019): an object of article id to QUESTION, CONTEXTS, LONG_ANSWER and
final_decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.records import Record, Rejected
from meadowlark.sources.raw import json_value, text
from meadowlark.sources.source import Setting, Source

INSTRUCTION = "Answer the question from the abstract."
INSTRUCTION_SHORT = "Answer the question from the abstract with yes, no or maybe."
ANSWERS = Setting("long", "the abstract's conclusion, or yes, no or maybe", ("long", "decision"))


def rows(raw: Path, answers: str = "long") -> Iterator[Record | Rejected]:
    """One record an article: its abstract without the conclusion, then the question."""
    articles = json_value(raw)
    if not isinstance(articles, Mapping):
        raise UserError(f"{raw} must be a JSON object of article id to question")
    for pmid, article in articles.items():
        yield _row(str(pmid), article, answers)


def _row(pmid: str, article: Mapping[str, Any], answers: str) -> Record | Rejected:
    question = text(article.get("QUESTION"))
    passages, labels = article.get("CONTEXTS") or [], article.get("LABELS") or []
    heads = [*labels, *[""] * (len(passages) - len(labels))]
    context = "\n".join(
        f"{head.capitalize()}: {passage.strip()}" if head else passage.strip()
        for head, passage in zip(heads, passages, strict=False)
    )
    decision, long = text(article.get("final_decision")), text(article.get("LONG_ANSWER"))
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
    if answers == "decision" and decision not in ("yes", "no", "maybe"):
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
