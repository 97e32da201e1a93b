"""Text of unknown origin made fit for a terminal: nothing in it commands, and it does not flood."""

from __future__ import annotations

import unicodedata


def printable(text: str) -> str:
    """Text with what could command a terminal or turn its letters around made visible.

    Control characters but line feed and tab, and the bidirectional overrides, become \\x1b and the
    like; letters, symbols and emoji stay.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char in "\n\t" or not _commands(char) else ascii(char)[1:-1] for char in text
    )


def _commands(char: str) -> bool:
    return (
        unicodedata.category(char) in ("Cc", "Cs")
        or char in "\u202a\u202b\u202c\u202d\u202e"
        or ("\u2066" <= char <= "\u2069")
    )


def clipped(text: str, most: int, head: float = 0.67) -> str:
    """A text of at most about ``most`` characters: a longer one loses its middle, which is said.

    ``head`` is the share of what stays that stands before the gap.
    """
    if len(text) <= most:
        return text
    first = int(most * head)
    last = most - first
    return f"{text[:first]} [… {len(text) - most:,} characters …] {text[-last:]}"
