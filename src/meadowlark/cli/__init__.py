"""The command line: ``meadowlark VERB INPUT... --out DIR [options]``, one module a verb.

A module here parses options and prints; the work is in the stage it calls. A user's mistake ends
with one message and exit code 2, an interrupt with 130; nothing else hides a traceback.
"""

from __future__ import annotations

import errno
import functools
import gc
import importlib
import os
import shlex
import sys
from collections.abc import Callable
from typing import Any

import typer

from meadowlark import __version__
from meadowlark.dataset import COMMAND
from meadowlark.errors import MeadowlarkError, Stopped, UserError

VERBS = {
    "Start here": ["demo", "doctor", "models"],
    "Make data with a teacher model": ["seeds", "generate", "filter", "respond"],
    "Convert and prepare data": ["sources", "convert", "rephrase", "clean", "mix"],
    "Look at data": ["show", "stats", "export"],
    "Train": ["plan", "check", "train", "package"],
    "Evaluate": ["exam", "bench", "answer", "judge", "annotate", "score", "report"],
    "Use": ["chat", "serve"],
}
EPILOG = (
    "A first look: [bold]meadowlark demo[/]. Data flow: seeds > generate > filter > respond, "
    "convert > clean > mix > plan, check > train > exam, answer > judge > score > report. "
    "Research use only: nothing made here is for decisions about anybody's care."
)


DISK = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
"""What a disk says that is read-only, full, somebody else's, or not what the user took it for."""

app = typer.Typer(
    name="meadowlark",
    help="Make, train, evaluate and use medical instruction-tuned language models.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"meadowlark {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def _missing(module: str) -> str:
    """What to install for a module of an optional package; empty for any other."""
    from meadowlark.cli.doctor import requirements

    package = module.partition(".")[0]
    for extra, packages in requirements().items():
        modules = {name.replace("-", "_") for name in packages}
        if extra and package in modules:
            wanted = shlex.join(packages.values())
            return f"this needs {package}; to install: {sys.executable} -m pip install {wanted}"
    return ""


def _guard(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb whose expected failures end in one message and an exit code."""

    @functools.wraps(verb)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            code = verb(*args, **options)
        except UserError as error:
            print(f"meadowlark: {error}", file=sys.stderr)
            code = 2
        except ModuleNotFoundError as error:
            message = _missing(error.name or "")
            if not message:
                raise
            print(f"meadowlark: {message}", file=sys.stderr)
            code = 2
        except Stopped as error:
            print(f"meadowlark: {error}", file=sys.stderr)
            code = error.exit_code
        except MeadowlarkError as error:
            print(f"meadowlark: {error}", file=sys.stderr)
            code = 1
        except OSError as error:  # of the user's disk; any other is a fault of ours
            if error.errno not in DISK:
                raise
            where = f"{error.filename}: " if error.filename else ""
            print(f"meadowlark: {where}{os.strerror(error.errno)}", file=sys.stderr)
            code = 2
        except KeyboardInterrupt:
            print("\nmeadowlark: stopped. The same command goes on from here.", file=sys.stderr)
            code = 130
        raise typer.Exit(code or 0)

    return guarded


for _panel, _names in VERBS.items():
    for _name in _names:
        _verb = getattr(importlib.import_module(f"meadowlark.cli.{_name}"), _name)
        app.command(_name, rich_help_panel=_panel)(_guard(_verb))


def run(arguments: list[str]) -> int:
    """Run one command line in this process; returns its exit code.

    0 done, 1 found wanting, 2 a user's mistake, 128 + n stopped by signal n (130: by the user).
    """
    typed = [word for word in arguments if word != "--force"]
    token = COMMAND.set(shlex.join(["meadowlark", *typed]))
    try:
        app(arguments, prog_name="meadowlark")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    finally:
        COMMAND.reset(token)
    return 0


def main() -> None:
    """The entry point of the installed command."""
    gc.freeze()  # what was imported stays: no collection needs to look at it again
    sys.exit(run(sys.argv[1:]))
