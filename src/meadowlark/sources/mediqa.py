"""MEDIQA-AnS: consumers' health questions, articles that answer them, and written summaries.

Raw form: question_driven_answer_summarization_primary_dataset.json of Savery et al. (2020), an
object of question id to question, answers (article, section, answer_abs_summ, answer_ext_summ) and
summaries of all answers. The 2021 shared task's files, in the same folder or not, are its
validation and test questions: test only, so they are not read here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from meadowlark.errors import UserError
from meadowlark.layouts import read_json
from meadowlark.records import Record, Rejected
from meadowlark.sources.raw import text
from meadowlark.sources.source import HubSet, Setting, Source, instruction_rows

INSTRUCTION = {
    "answer_abs_summ": "Answer the question with a summary of the text, in your own words.",
    "answer_ext_summ": "Answer the question with the sentences of the text that answer it.",
}
PASSAGES = ("article", "section")
SUMMARIES = Setting(
    "all",
    "from the whole article and its section, in own words and in the text's: four rows an answer "
    "(published), or one",
    ("all", "section"),
)


def rows(raw: Path, summaries: str = "all") -> Iterator[Record | Rejected]:
    """Four records an answer, 2,208 in all: article and section, abstractive and extractive.

    That is how 552 answers became the published number of rows. ``section`` makes one record an
    answer instead: its section and the abstractive summary.
    """
    questions = read_json(raw)
    if not isinstance(questions, Mapping) or not all(
        isinstance(each, Mapping) and "answers" in each for each in questions.values()
    ):
        raise UserError(f"{raw} must be MEDIQA-AnS's object of question id to question and answers")
    passages = PASSAGES if summaries == "all" else ("section",)
    kinds = tuple(INSTRUCTION) if summaries == "all" else ("answer_abs_summ",)
    for question in questions.values():
        for name, answer in question["answers"].items():
            for passage in passages:
                for kind in kinds:
                    yield _row(text(question.get("question")), name, answer, passage, kind)


def _row(
    question: str, name: str, answer: Mapping[str, Any], passage: str, kind: str
) -> Record | Rejected:
    body, summary = text(answer.get(passage)), text(answer.get(kind))
    record = SOURCE.record(
        INSTRUCTION[kind],
        f"Question: {question}\n\nText: {body}",
        summary,
        answer=name,
        passage=passage,
        rating=text(answer.get("rating")),
        type="summarisation",
        view="patient",
    )
    if not question or not body:
        return Rejected(record, "no question" if not question else "no text", f"{name} {passage}")
    return record if summary else Rejected(record, "no answer", f"{name} {kind}")


SOURCE: Source = Source(
    name="mediqa",
    title="MEDIQA-AnS, question-driven summaries of answers",
    origin="osf.io/fyg46",
    licence="CC-BY-4.0",
    obligations="Name the authors; the articles are their web sites'. As far as known.",
    citation="Savery et al. 2020, Question-driven summarization of answers, Scientific Data 7:322",
    raw="question_driven_answer_summarization_primary_dataset.json",
    size="2,208 rows of 552 answers to 156 questions",
    rows=rows,
    verified="schema only, never run on real files",
    settings={"summaries": SUMMARIES},
    defects=(
        "Whole articles are far longer than 256 tokens: medAlpaca's training cut them off.",
        "Each summary is there under article and under section: --summaries section takes one.",
    ),
    hub=(HubSet("medalpaca/medical_meadow_mediqa", instruction_rows(lambda: SOURCE)),),
    signs=('"answer_abs_summ"',),
)
