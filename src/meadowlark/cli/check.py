"""``meadowlark check``: prove that the data of a run is right before training on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from meadowlark.cli.options import Limit, stdout
from meadowlark.progress import plural
from meadowlark.terminal import clipped, printable

if TYPE_CHECKING:
    from meadowlark.train.checked import Checked, Finding

STRETCH = 240
"""Characters shown of a prompt or an answer."""
IDS = 3
BARS = " ▁▂▃▄▅▆▇█"


def check(
    config: Annotated[Path, typer.Argument(help="TOML file with the run's options, as for train.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override one option; repeatable."),
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--data", help="Rows to train on, in place of data.path.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="Look for these evaluation questions in the training rows: comma-separated tasks "
            "of exam and answer (medqa, mmlu_medical, medinstruct_test ...), NAME=PATH, or your "
            "own FILEs.",
        ),
    ] = None,
    exams: Annotated[
        Path | None, typer.Option("--exams", help="Folder to search for the files of the tasks.")
    ] = None,
    examples: Annotated[
        int,
        typer.Option(
            "--examples",
            min=0,
            help="Rows to show, from the shortest to the longest; one with earlier turns and one "
            "with an input besides.",
        ),
    ] = 3,
    json: Annotated[
        Path | None, typer.Option("--json", help="Write everything, with every row's id, here.")
    ] = None,
    limit: Limit = None,
) -> int:
    """Prove that what a run will train on is right, before it costs GPU hours.

    Encodes the rows as `train` does and holds each against what a server would
    do with it: the prompt token for token through the saved and reloaded
    tokenizer, the answer learned whole with its end token and nothing else, one
    begin token, no special token in a text, packed rows that cannot read each
    other. Shows a few rows with what is learned between ⟦ and ⟧. Exit code 0:
    all good. 1: found wanting, with the rows' ids. 2: a mistake in the options.

    \b
    Examples:
      meadowlark check configs/small-from-scratch.toml --data mixed
      meadowlark check run.toml --against medqa,mmlu_medical --exams $MEADOWLARK_DATA
      meadowlark check run.toml --against ward-questions.jsonl --json found.json
      meadowlark check run.toml --limit 500 --set data.loss_on=answers
    """
    from meadowlark.config import load
    from meadowlark.dataset import write_json
    from meadowlark.tasks import choose
    from meadowlark.train.options import TrainOptions

    overrides = list(settings or [])
    if data is not None:
        import json as text

        overrides.append(f"data.path={text.dumps(str(data), ensure_ascii=False)}")
    options = load(config, TrainOptions, overrides)
    entries = choose(against) if against is not None else []
    from meadowlark.train.check import check as stage

    checked = stage(options, limit=limit, against=entries, exams=exams, examples=examples)
    if json is not None:
        write_json(json, checked.as_json())
    _show(checked)
    _summarise(checked.summary)
    _conclude(checked, json)
    return 1 if checked.faults else 0


def _show(checked: Checked) -> None:
    from meadowlark.train.marked import marked

    for shown in checked.shown:
        stdout.print(marked(shown.example, checked.tokenizer, shown.kind, most=STRETCH))
        stdout.print()


def _summarise(summary: dict[str, Any]) -> None:
    for name, counts in summary["rows"].items():
        rejected = sum(counts["rejected"].values())
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in counts["rejected"].items())
        parts = [f"{counts['read']:,} in, {counts['kept']:,} kept, {rejected:,} rejected"]
        parts += [f"({reasons})"] if reasons else []
        parts += [f"{counts['cut']:,} cut"] if counts["cut"] else []
        parts += [f"{counts['split']:,} split into pieces"] if counts["split"] else []
        _line(f"{name} rows", " · ".join(parts).replace(" · (", " ("))
    if summary["lengths"]:
        lengths = summary["lengths"]
        share = summary["learned_tokens"] / summary["tokens"]
        _line("tokens", f"{summary['tokens']:,}, {share:.1%} of them learned")
        _line(
            "tokens a row",
            f"{lengths['shortest']:,} {_bars(lengths['bars'])} {lengths['longest']:,}; "
            f"median {lengths['median']:,.0f}, 95 % up to {lengths['p95']:,.0f}",
        )
    tokenizer = summary["tokenizer"]
    special = ", ".join(f"{name} {tokenizer[name]!r}" for name in ("begin", "end", "pad"))
    _line("tokenizer", f"{tokenizer['vocabulary']:,} tokens; {special}")
    if summary["unknown_tokens"]:
        _line(
            "unknown tokens",
            f"{summary['unknown_tokens']:,}, {summary['unknown_share']:.2%} of all",
        )
    if summary["answers_trimmed"]:
        _line(
            "white space",
            f"around {plural(summary['answers_trimmed'], 'answer')}, left out by the template",
        )
    licences = ", ".join(
        f"{name or 'none stated'} {n:,}" for name, n in summary["licences"].items()
    )
    _line("licences", f"{licences or 'none'}: {summary['obligations']}")
    for exam in summary["exams"]:
        found = f"{exam['found']:,} of {plural(exam['questions'], 'question')} found"
        _line(exam["task"], f"{found}, in {plural(exam['rows'], 'training row')}")


def _line(label: str, text: str) -> None:
    stdout.print(f"{printable(label):16} {printable(text)}", markup=False)


def _bars(counts: list[int]) -> str:
    """Counts as a line of bars, the highest full; whatever is not zero can be seen."""
    most = max(counts)
    return "".join(BARS[-(-count * (len(BARS) - 1) // most)] for count in counts)


def _conclude(checked: Checked, json: Path | None) -> None:
    for warning in checked.warnings:
        _finding(warning, "warning", "yellow")
    for fault in checked.faults:
        _finding(fault, "✗", "bold red")
    first = next(iter(checked.contamination), None)
    if first is not None:
        passage = clipped(first.passage, STRETCH)
        _line("for instance", f"{first.row} has {first.question}: {passage}")
    if checked.faults:
        more = f"; all ids are in {json}" if json else "; all ids: --json FILE"
        n = len(checked.faults)
        stdout.print(
            f"found wanting: {n} kind{'s' * (n != 1)} of fault{more}",
            style="bold red",
            markup=False,
        )
    else:
        stdout.print("✓ nothing found wanting", style="bold green")


def _finding(finding: Finding, sign: str, style: str) -> None:
    stdout.print(printable(f"{sign} {finding.name}: {finding.text}"), style=style, markup=False)
    shown = [
        f"{row or 'no id'} ({clipped(detail, 100)})" if detail else row
        for row, detail in finding.rows[:IDS]
    ]
    if len(finding.rows) > IDS:
        shown.append(f"and {len(finding.rows) - IDS:,} more")
    if shown:
        stdout.print(printable(f"    {'; '.join(shown)}"), markup=False)
