"""The errors a user of Meadowlark can meet, and nothing else.

    MeadowlarkError
    ├── UserError           what a user did or gave: one message, exit code 2, no traceback
    │   └── FolderDiffers   the output folder holds another run; says what differs
    ├── Stopped             a signal ended long work after what was done was saved
    └── ModelError          a model could not answer after the allowed retries

What cannot happen is an ``assert``, not an error from here.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MeadowlarkError(Exception):
    """Base of every error raised on purpose."""


class UserError(MeadowlarkError):
    """A user's mistake: names the value, what was expected and what to do."""


class FolderDiffers(UserError):
    """The output folder was made from other inputs or options."""


class Stopped(MeadowlarkError):
    """Long work ended by a signal, saved; the same command goes on. Exit code 128 + signal."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal


class ModelError(MeadowlarkError):
    """A model or its server failed for good; the message never carries a key."""


def did_you_mean(value: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest known name, or the empty string."""
    close = difflib.get_close_matches(value, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown(kind: str, value: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not in a table: says what is, and suggests the closest."""
    names = sorted(known)
    return UserError(
        f"unknown {kind} {value!r}.{did_you_mean(value, names)} Known: {', '.join(names)}."
    )
