"""The links by which people sign in: one each, in a file that only its owner may read.

The study keeps hashes alone; the tokens stand nowhere but in this file. When the server listens at
another address, the links are written again with the same tokens.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from meadowlark.annotate.store import ADMINISTRATOR, Store

LINKS = "links.txt"
SIGN_IN = "/in/"


def write_links(store: Store, base: str, *, renew: bool = False) -> Path:
    """Write everybody's link below ``base`` (a URL); ``renew`` makes the old ones void."""
    path = store.folder / LINKS
    if renew:
        path.unlink(missing_ok=True)
    tokens = read_tokens(path) if path.exists() else {}
    if not tokens:
        names = (ADMINISTRATOR, *store.study.people)
        tokens = {name: secrets.token_urlsafe(32) for name in names}
        store.set_tokens(tokens)  # before the file: a kill in between only makes new ones
    lines = [f"{name}\t{base.rstrip('/')}{SIGN_IN}{token}" for name, token in tokens.items()]
    beside = path.with_name(f"{LINKS}.tmp")
    beside.unlink(missing_ok=True)
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write("\n".join(lines) + "\n")
    beside.replace(path)
    return path


def read_tokens(path: Path) -> dict[str, str]:
    """The tokens in a file of links, by name."""
    lines = path.read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("\t") for line in lines if "\t" in line)
    return {name: url.rpartition("/")[2] for name, _, url in pairs}
