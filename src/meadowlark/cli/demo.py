"""``meadowlark demo``: the whole path on shipped material, in one process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from meadowlark.cli.options import Force, stdout
from meadowlark.progress import duration

REAL = """
The same with a real teacher, a real base model and your own seeds:

  meadowlark generate --seeds my-seeds.jsonl --teacher openai:gpt-4o@https://api.openai.com/v1 \\
      --count 5000 --out runs/mine/tasks
  meadowlark respond runs/mine/tasks --teacher openai:gpt-4o@https://api.openai.com/v1 \\
      --out runs/mine/generated
  meadowlark train configs/alpacare-7b.toml --data runs/mine/generated --out runs/mine/model
"""


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for all runs.")] = Path(
        "runs/demo"
    ),
    force: Force = False,
    print_only: Annotated[
        bool, typer.Option("--print", help="Print the commands and run nothing.")
    ] = False,
) -> int:
    """Run the whole path on shipped material: a CPU, no network, a few minutes.

    Seed tasks, generation from a recorded teacher, the ROUGE-L filter, responses, a converted
    source, a small model trained from nothing, an exam before and after, answers compared by
    word overlap, one HTML report. All of the material was written for this project and none of it
    was clinically reviewed. A demo that was stopped goes on where it was.

    \b
    Examples:
      meadowlark demo
      meadowlark demo --out /tmp/first-look
      meadowlark demo --print
    """
    from meadowlark.cli import run
    from meadowlark.demo import steps

    todo = steps(out)
    if print_only:
        for step in todo:
            stdout.print(f"# {step.purpose}\n{step}", markup=False)
        return 0
    began = time.monotonic()
    for number, step in enumerate(todo, start=1):
        elapsed = duration(time.monotonic() - began)
        heading = f"\n[{number}/{len(todo)}, {elapsed}] {step.purpose}".rstrip()
        stdout.print(heading, markup=False, style="bold")
        stdout.print(f"$ {step}", markup=False, style="cyan")
        code = run([*step.arguments, *(["--force"] if force else [])])
        if code:
            return code
    page = (out / "report" / "report.html").resolve()
    stdout.print(f"\nThe demo took {duration(time.monotonic() - began)}.", style="bold")
    stdout.print(
        "The model has a few million parameters and saw a few hundred rows: it learns the form of "
        "an answer, not medicine. Nothing here is for decisions about anybody's care.",
        markup=False,
    )
    stdout.print(REAL, markup=False)
    stdout.print(f"Report: {page}", markup=False)
    return 0
