"""Keys cut out of texts: a server may repeat what it was sent, in an error or anywhere else."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterable
from urllib.parse import quote

SHORTEST_SECRET = 8
"""A shorter key ("EMPTY", "none") is no secret, and would be cut out of ordinary text."""


class Redaction:
    """What finds secrets in a text, however their characters are written; short ones guard nothing.

    ``spellings`` are the forms that one writer would give all of a secret: where text comes in
    pieces, the end of one may begin any of them.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {secret for secret in secrets if len(secret) >= SHORTEST_SECRET}
        longest_first = sorted(known, key=len, reverse=True)
        patterns = ["".join(map(_forms, secret)) for secret in longest_first]
        self._found = re.compile("|".join(patterns)) if patterns else None
        self.spellings = tuple(form for secret in longest_first for form in _spellings(secret))

    def cut(self, text: str) -> str:
        """The text with ``[key]`` in place of each."""
        return text if self._found is None else self._found.sub("[key]", text)


def _spellings(secret: str) -> set[str]:
    """A secret as one writer would write all of it."""
    quoted = json.dumps(secret)[1:-1]
    return {secret, quoted, quoted.replace("/", "\\/"), html.escape(secret), quote(secret, safe="")}


def _forms(character: str) -> str:
    """A pattern for a character in any way of writing it; nobody writes a letter in another."""
    if character.isascii() and character.isalnum():
        return character
    code = ord(character)
    forms = {
        re.escape(character),
        re.escape(json.dumps(character)[1:-1]),
        re.escape(html.escape(character)),
        rf"\\u(?i:{code:04x})",
        f"(?i:{re.escape(quote(character, safe=''))})",
        rf"&#0*{code};",
        rf"&#(?i:x0*{code:x});",
        *([r"\\/"] if character == "/" else []),
    }
    return f"(?:{'|'.join(sorted(forms, key=len, reverse=True))})"
