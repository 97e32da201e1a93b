"""``meadowlark exam``: multiple-choice exams by log-likelihood."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from meadowlark.cli.options import Force, Limit, stdout, summarise
from meadowlark.errors import UserError

MOST_GROUPS_SHOWN = 12


class Protocol(enum.StrEnum):
    """medAlpaca's way of examining, with its faults or without."""

    faithful = "medalpaca-faithful"
    fixed = "medalpaca-fixed"


class Scoring(enum.StrEnum):
    """What is compared: the letters of the choices or their texts."""

    letter = "letter"
    text = "text"


def exam(
    model: Annotated[str, typer.Argument(help="hf:PATH_OR_ID[+ADAPTER]")],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            help="Comma-separated: demo_exam, medqa, mmlu_medical, NAME=PATH, or your own "
            "FILE.jsonl with question, choices, answer.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; made if absent.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder to search for the files of the tasks.")
    ] = None,
    scoring: Annotated[
        Scoring, typer.Option("--scoring", help="Compare the letters or the choices' texts.")
    ] = Scoring.letter,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            "--protocol",
            help="Let the model write instead, as medAlpaca's authors did: sampled, up to 5 tries.",
        ),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", help="alpaca, alpaca-lora, medalpaca, FILE.toml or FILE.jinja."),
    ] = None,
    name: Annotated[
        str, typer.Option("--name", help="What scores call the model (default: its path or id).")
    ] = "",
    show: Annotated[
        bool, typer.Option("--show", help="Print one rendered prompt a task and stop.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the tries of --protocol.")] = 0,
    limit: Limit = None,
    force: Force = False,
) -> None:
    """Examine a model on multiple-choice questions by the likelihood of each choice.

    Nothing is generated: the choice with the highest log-likelihood is the answer. Accuracies come
    with 95 % intervals (and clustered ones where questions share a group), beside the level of
    chance and how often each letter was answered: a model that always says A is seen at once.
    --limit counts questions a task. An exam that was stopped goes on where it was.

    With --protocol the model answers in words, as for medAlpaca's table of the USMLE
    self-assessment: its answer is begun for it, sampled, and asked again up to five times until it
    has the accepted form (medalpaca-faithful) or names a choice (medalpaca-fixed).

    \b
    Examples:
      meadowlark exam hf:runs/demo/model --tasks demo_exam --out runs/exam
      meadowlark exam hf:runs/demo/model --tasks medqa,mmlu_medical --data $MEADOWLARK_DATA \\
          --limit 100 --out runs/first-look
      meadowlark exam hf:xz97/AlpaCare-llama2-7b --tasks ward-questions.jsonl --out runs/ward
      meadowlark exam hf:medalpaca/medalpaca-7b --tasks usmle_step1,usmle_step2,usmle_step3 \\
          --data usmle/ --protocol medalpaca-faithful --out runs/usmle
      meadowlark exam hf:runs/demo/model --tasks demo_exam --show
    """
    from meadowlark.evaluate.exam import exam as stage
    from meadowlark.evaluate.exam import show_exam
    from meadowlark.tasks import choose

    chosen = choose(tasks)
    if show:
        for one in show_exam(model, chosen, data=data, scoring=scoring.value, template=template):
            stdout.rule(f"{one.question.task}: {one.question.id}", align="left")
            stdout.print(one.prompt, markup=False)
            compared = ", ".join(json.dumps(text, ensure_ascii=False) for text in one.compared)
            stdout.print(f"compared: {compared}; right: {one.question.target}", markup=False)
        return
    if out is None:
        raise UserError("give --out DIR for the results, or --show to look at the prompts")
    if protocol is not None:
        from meadowlark.evaluate.medalpaca import examine_by_protocol

        run = examine_by_protocol(
            model,
            chosen,
            out,
            protocol="faithful" if protocol is Protocol.faithful else "fixed",
            data=data,
            template=template,
            name=name,
            seed=seed,
            limit=limit,
            force=force,
        )
        _table(json.loads((out / "scores.json").read_text(encoding="utf-8")), run.manifest.results)
        summarise(run, out, done_before=run.done_before)
        return
    run = stage(
        model,
        chosen,
        out,
        data=data,
        scoring=scoring.value,
        template=template,
        name=name,
        limit=limit,
        force=force,
    )
    _table(json.loads((out / "scores.json").read_text(encoding="utf-8")), run.manifest.results)
    summarise(run, out, done_before=run.done_before)


def _table(scores: list[dict[str, Any]], results: dict[str, Any]) -> None:
    """Print every score with its interval, then the letters by task; many groups are only told."""
    for task, counts in results["tasks"].items():
        own = [s for s in scores if s["task"] == task]
        groups = [s for s in scores if s["task"].startswith(f"{task}/")]
        names = {s["task"] for s in groups}
        for score in own + (groups if len(names) <= MOST_GROUPS_SHOWN else []):
            _line(score)
        if len(names) > MOST_GROUPS_SHOWN:
            stdout.print(f"{task}: {len(names)} groups are in scores.json", markup=False)
        answered = " ".join(f"{k}:{v}" for k, v in counts["letters_answered"].items())
        right = " ".join(f"{k}:{v}" for k, v in counts["letters_right"].items())
        stdout.print(f"{task}: letters answered {answered} (right {right})", markup=False)


def _line(score: dict[str, Any]) -> None:
    interval = f"[{score['low']:.3f}, {score['high']:.3f}]" if score["low"] is not None else ""
    value = f"{score['value']:.3f}  {interval:14}"
    line = f"{score['task']:36}  {score['metric']:22}  {value}  n={score['n']:,}"
    stdout.print(line, markup=False)
