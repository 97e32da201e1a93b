"""``meadowlark judge``: compares one model's answers with others' to the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, Limit, Out, summarise
from meadowlark.errors import UserError


def judge(
    answers: Annotated[Path, typer.Argument(help="Folder of the model's answers.")],
    references: Annotated[
        list[Path], typer.Argument(help="Folders of other models' answers to the same questions.")
    ],
    out: Out,
    judge: Annotated[
        str, typer.Option("--judge", help="Who compares. Only 'overlap' so far; see above.")
    ],
    tie_within: Annotated[
        float, typer.Option("--tie-within", help="Overlaps that differ by at most this tie.")
    ] = 0.01,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Compare a model's answers with other models' answers, item by item.

    With `--judge overlap` no model is asked: the answer that shares more words
    with the question's reference answer (ROUGE-L F1) wins. That is an overlap
    of wording and NOT a judgement of quality: a right answer in other words
    loses to a wrong one in the same words. Use it to see that training changed
    something, not to say that a model is good.

    The folders come from `meadowlark answer`. A question without a reference
    answer, or that one model did not answer, is rejected with the reason. An
    empty answer loses; two empty ones are "both bad"; an answer that a server
    failed to give makes the verdict unreadable. Each comparison is written
    once for each order, so that `meadowlark score` treats all judges alike.

    \b
    Examples:
      meadowlark judge runs/tuned runs/untuned --judge overlap --out runs/verdicts
      meadowlark score runs/verdicts
    """
    from meadowlark.evaluate.overlap import judge_overlap

    if judge != "overlap":
        raise UserError(
            f"--judge {judge}: judge models are not built yet. The only judge is 'overlap', which "
            "compares word overlap with the reference answer and is not a judgement of quality. "
            "Verdicts that a judge model gave elsewhere can be read by `meadowlark score`."
        )
    run = judge_overlap(answers, references, out, tie_within=tie_within, limit=limit, force=force)
    summarise(run, out, done_before=run.done_before)
