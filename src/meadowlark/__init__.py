"""Meadowlark makes, trains, evaluates and serves medical instruction-tuned language models.

Research software: nothing made with it is for decisions about anybody's care.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from meadowlark.serve.notebook import load as load

__version__ = "0.1.0"
NOTICE = (
    "Research software: nothing said here is medical advice or for decisions about anybody's care."
)


def __getattr__(name: str) -> Any:
    """``meadowlark.load``, which is for notebooks; its room is imported when it is first used."""
    if name == "load":
        return importlib.import_module("meadowlark.serve.notebook").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
