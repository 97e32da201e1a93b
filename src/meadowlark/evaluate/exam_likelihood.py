"""Exams by likelihood: the choice with the highest log-likelihood is the answer.

Questions as ``exam_prompts`` puts them come in, batch by batch; answers with one log-likelihood a
choice go out, and ``likelihoods.parquet`` where texts are compared. Scoring follows PEERS.md,
section 3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from meadowlark.evaluate.exam_prompts import Asking, Put
from meadowlark.evaluate.partial import PartialAnswers, windows
from meadowlark.progress import Progress
from meadowlark.records import Answer
from meadowlark.tasks.task import letters

if TYPE_CHECKING:
    from meadowlark.llm.likelihood import Query
    from meadowlark.llm.local import TransformersModel

LIKELIHOODS = "likelihoods.parquet"
LIKELIHOODS_SCHEMA = pa.schema(
    [
        ("item", pa.string()),
        ("draw", pa.int32()),
        ("choice", pa.string()),
        ("tokens", pa.int32()),
        ("characters", pa.int32()),
        ("bytes", pa.int32()),
        ("logprob", pa.float64()),
        ("unconditional", pa.float64()),
    ]
)
"""Of ``likelihoods.parquet``, a row a choice: what accuracies by other measures are made from."""

Extras = Mapping[tuple[str, int], Mapping[str, Any]]
"""What is kept beside an answer, by its item and draw: tokens, and unconditional likelihoods."""


def by_likelihood(
    model: TransformersModel,
    name: str,
    puts: Sequence[Put],
    askings: Mapping[str, Asking],
    partial: PartialAnswers,
    *,
    unconditional: bool = False,
) -> None:
    """Fill ``partial`` with the answers that it lacks, a batch at a time.

    A window holds prompts with the same worked examples and of one order, so that what they begin
    with is read once, and is the same in a run that was interrupted.
    """
    with Progress(f"exam {name}", len(puts), "questions") as progress:
        for window in windows(len(puts), lambda i: (puts[i].draw, puts[i].block)):
            found = [puts[i] for i in window]
            asking = askings[found[0].question.id]
            if partial.has((one.question.id for one in found), found[0].draw):
                progress.skip(len(found))
                continue
            for batch, computed in _windowful(model, found, asking, unconditional, partial):
                if computed is None:
                    progress.skip(len(batch))
                    continue
                values, extras = computed
                partial.add(
                    [
                        _answer(one, name, one.in_order(value), cut=cut)
                        for (one, cut), value in zip(batch, values, strict=True)
                    ],
                    extras=extras,
                )
                progress.advance(len(batch))


Computed = tuple[list[list[float]], list[dict[str, Any]]]


def _windowful(
    model: TransformersModel,
    found: Sequence[Put],
    asking: Asking,
    unconditional: bool,
    partial: PartialAnswers,
) -> Iterator[tuple[list[tuple[Put, bool]], Computed | None]]:
    """The batches of a window: what was put (and whether it was cut), and what came of it as shown;
    None for a batch that was answered before."""
    texts = [one.text or model.prompter.render(one.turns) for one in found]
    compared = [one.compared for one in found]
    queries = model.queries(texts, compared, special_tokens=asking.plain)
    free = model.unconditional(compared) if unconditional and asking.scoring == "text" else []
    shared = model.share(queries)
    for batch in _batches(model, queries, 0 if shared is None else len(shared)):
        put = [(found[i], queries[i].cut) for i in batch]
        if partial.has((one.question.id for one, _ in put), found[0].draw):
            yield put, None
            continue
        values = model.score([queries[i] for i in batch], shared)
        extras: list[dict[str, Any]] = []
        if asking.scoring == "text":
            extras = [
                {"tokens": found[i].in_order([len(c) for c in queries[i].choices])} for i in batch
            ]
            if free:
                for i, extra, alone in zip(
                    batch, extras, model.score([free[i] for i in batch]), strict=True
                ):
                    extra["unconditional"] = found[i].in_order(alone)
        yield put, (values, extras)


def _batches(model: TransformersModel, queries: Sequence[Query], shared: int) -> list[list[int]]:
    """Batches of the queries' numbers; prompts that were cut share nothing and stand apart."""
    made = []
    for cut in (False, True):
        found = [i for i, query in enumerate(queries) if query.cut is cut]
        before = 0 if cut else shared
        widths = [queries[i].width - before for i in found]
        made += [[found[i] for i in b] for b in model.batches(widths, before, padded=False)]
    return made


def _answer(one: Put, model: str, values: tuple[float, ...], *, cut: bool) -> Answer:
    """The likeliest choice, the first of equals; none when the model gave no number."""
    item = one.question.id
    if any(math.isnan(value) for value in values):
        return Answer(item, model, one.draw, logprobs=values, status="failed")
    best = letters(len(values))[values.index(max(values))]
    status: Literal["truncated", "ok"] = "truncated" if cut else "ok"
    return Answer(item, model, one.draw, extracted=best, logprobs=values, status=status)


def likelihood_table(puts: Sequence[Put], answers: Sequence[Answer], extras: Extras) -> pa.Table:
    """The rows of ``likelihoods.parquet``: a choice each."""
    return pa.Table.from_pylist(list(_rows(puts, answers, extras)), LIKELIHOODS_SCHEMA)


def _rows(
    puts: Sequence[Put], answers: Sequence[Answer], extras: Extras
) -> Iterator[dict[str, Any]]:
    for one, answer in zip(puts, answers, strict=True):
        extra = extras.get((one.question.id, one.draw))
        if extra is None:
            continue
        free = extra.get("unconditional") or [None] * len(answer.logprobs)
        for place, letter in enumerate(letters(len(answer.logprobs))):
            text = one.question.choices[place].strip()
            yield {
                "item": one.question.id,
                "draw": one.draw,
                "choice": letter,
                "tokens": extra["tokens"][place],
                "characters": len(text),
                "bytes": len(text.encode()),
                "logprob": answer.logprobs[place],
                "unconditional": free[place],
            }


def kept_likelihoods(folder: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """What a finished run kept beside its answers, for one with a raised limit."""
    path = folder / LIKELIHOODS
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    if not path.exists():
        return kept
    for row in pq.read_table(path).to_pylist():
        held = kept.setdefault((row["item"], row["draw"]), {"tokens": []})
        held["tokens"].append(row["tokens"])
        if row["unconditional"] is not None:
            held.setdefault("unconditional", []).append(row["unconditional"])
    return kept
