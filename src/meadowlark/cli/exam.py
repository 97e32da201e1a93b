"""``meadowlark exam``: multiple-choice exams by log-likelihood or generation."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from meadowlark.cli.options import (
    Force,
    InFlight,
    Limit,
    Model,
    Template,
    stdout,
    summarise,
)
from meadowlark.errors import UserError
from meadowlark.progress import plural

MOST_GROUPS_SHOWN = 12


class Protocol(enum.StrEnum):
    """medAlpaca's way of examining, with its faults or without."""

    faithful = "medalpaca-faithful"
    fixed = "medalpaca-fixed"


class By(enum.StrEnum):
    """Whether the likelihoods of the choices are compared, or a written answer is read."""

    likelihood = "likelihood"
    generation = "generation"


class Scoring(enum.StrEnum):
    """What is compared: the letters of the choices or their texts."""

    letter = "letter"
    text = "text"


def exam(
    model: Model,
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            help="Comma-separated: demo_exam, medqa, medqa_5, medmcqa, pubmedqa, headqa, "
            "headqa_dev, mmlu_medical, usmle_step1, usmle_step2, usmle_step3, NAME=PATH, your own "
            "FILE.jsonl with question, choices, answer, or a definition NAME.toml.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write; made if absent.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Folder to search for the files of the tasks.")
    ] = None,
    tasks_dir: Annotated[
        Path | None,
        typer.Option("--tasks-dir", help="Folder of your own definitions, one NAME.toml each."),
    ] = None,
    by: Annotated[
        By | None,
        typer.Option(
            "--by", help="How the model answers (default: likelihood for hf:, else generation)."
        ),
    ] = None,
    scoring: Annotated[
        Scoring | None,
        typer.Option(
            "--scoring",
            help="Compare letters or the choices' texts (default: letters where they are shown).",
        ),
    ] = None,
    plain: Annotated[
        bool,
        typer.Option(
            "--plain",
            help="Text without a chat template, as lm-eval's tasks have it; for base models.",
        ),
    ] = False,
    shots: Annotated[
        int, typer.Option("--shots", min=0, help="Worked examples before each question.")
    ] = 0,
    orders: Annotated[
        int,
        typer.Option(
            "--orders", min=1, help="Show the choices in so many orders, each turned by one place."
        ),
    ] = 1,
    unconditional: Annotated[
        bool,
        typer.Option(
            "--unconditional",
            help="Also weigh each text against its likelihood without the question.",
        ),
    ] = False,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", min=1, help="Longest generated answer in new tokens.")
    ] = 256,
    concurrency: InFlight = 16,
    training: Annotated[
        Path | None,
        typer.Option(
            "--training",
            help="Rows the model was trained on, to look for the questions in (default: those that "
            "its manifest names).",
        ),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            "--export-lm-eval", help="Write the tasks for lm-eval into this folder and stop."
        ),
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            "--protocol",
            help="Let the model write instead, as medAlpaca's authors did: sampled, up to 5 tries.",
        ),
    ] = None,
    template: Template = None,
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
    """Examine a model on multiple-choice questions, by likelihood or by what it writes.

    By likelihood nothing is generated: the choice with the highest log-likelihood is the answer. A
    model behind a server writes its answer, and a letter is read from it; none is counted apart.
    Accuracies come with 95 % intervals (and clustered ones where questions share a group), beside
    the level of chance and how often each letter was answered: a model that always says A is seen
    at once. Where the model's training rows are known, questions found among them are scored apart.
    --limit counts questions a task. An exam that was stopped goes on where it was.

    With --protocol the model answers in words, as for medAlpaca's table of the USMLE
    self-assessment: its answer is begun for it, sampled, and asked again up to five times until it
    has the accepted form (medalpaca-faithful) or names a choice (medalpaca-fixed).

    \b
    Examples:
      meadowlark exam hf:runs/demo/model --tasks demo_exam --out runs/exam
      meadowlark exam hf:runs/demo/model --tasks medqa,mmlu_medical --data $MEADOWLARK_DATA \\
          --limit 100 --out runs/first-look
      meadowlark exam hf:meta-llama/Llama-2-7b-hf --tasks mmlu_medical --data $MEADOWLARK_DATA \\
          --plain --shots 5 --out runs/mmlu
      meadowlark exam hf:xz97/AlpaCare-llama2-7b --tasks ward.toml --orders 4 --out runs/ward
      meadowlark exam openai:llama3.3@http://localhost:8000/v1 --tasks pubmedqa \\
          --data $MEADOWLARK_DATA --concurrency 64 --out runs/served
      meadowlark exam hf:medalpaca/medalpaca-7b --tasks usmle_step1,usmle_step2,usmle_step3 \\
          --data usmle/ --protocol medalpaca-faithful --out runs/usmle
      meadowlark exam hf:runs/demo/model --tasks demo_exam --show
    """
    from meadowlark.evaluate.exam import ExamOptions, show_exam
    from meadowlark.evaluate.exam import exam as stage
    from meadowlark.tasks import choose

    chosen = choose(tasks)
    how = ExamOptions(
        by=by.value if by else None,
        scoring=scoring.value if scoring else None,
        plain=plain,
        shots=shots,
        orders=orders,
        unconditional=unconditional,
        max_tokens=max_tokens,
        concurrency=concurrency,
    )
    if protocol is not None:
        ignored = how.changed()
        ignored += [
            option
            for option, value in (
                ("--training", training),
                ("--tasks-dir", tasks_dir),
                ("--export-lm-eval", export),
            )
            if value is not None
        ]
        if ignored:
            raise UserError(
                f"--protocol {protocol.value} fixes how a model is asked; leave "
                f"{', '.join(ignored)} away"
            )
    if export is not None:
        from meadowlark.evaluate.exam import choose_files
        from meadowlark.evaluate.exam_export import command, export_lm_eval

        files = choose_files(chosen, data, tasks_dir, shots)
        names = export_lm_eval(files, export, how, limit=limit)
        stdout.print(
            f"{plural(len(names), 'task')} for lm-eval in {export}, to be run with", markup=False
        )
        path = model.removeprefix("hf:")
        stdout.print(f"  {command(export, names, how, path)}", markup=False)
        return
    if show:
        if protocol is not None:
            from meadowlark.evaluate.medalpaca import show_protocol

            prompts = show_protocol(model, chosen, data=data, template=template)
        else:
            prompts = show_exam(
                model, chosen, how=how, data=data, tasks_folder=tasks_dir, template=template
            )
        for one in prompts:
            stdout.rule(f"{one.question.task}: {one.question.id}", align="left")
            stdout.print(one.prompt, markup=False)
            compared = ", ".join(json.dumps(text, ensure_ascii=False) for text in one.compared)
            said = f"compared: {compared}; " if compared else ""
            stdout.print(f"{said}right: {one.question.target}", markup=False)
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
        how=how,
        data=data,
        tasks_folder=tasks_dir,
        template=template,
        name=name,
        training=training,
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
