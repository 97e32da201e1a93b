"""Which key goes to which server: a key is bound to its server and goes nowhere else.

    https://api.openai.com       OPENAI_API_KEY
    https://api.anthropic.com    ANTHROPIC_API_KEY
    any other typed URL          MEADOWLARK_API_KEY
    an entry of models.toml      its key_variable; without one, its provider's key at the
                                 provider's own address, and none anywhere else

Keys are read from the environment and from nowhere else.
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from meadowlark.errors import UserError

PROVIDER_KEYS = {
    "https://api.openai.com": "OPENAI_API_KEY",
    "https://api.anthropic.com": "ANTHROPIC_API_KEY",
}
OTHER_KEY = "MEADOWLARK_API_KEY"


def provider_key(url: str) -> str:
    """The variable that holds the key of a provider's own address, or the empty string."""
    parts = urlsplit(url)
    at_default_port = parts.port in (None, 443)
    origin = f"{parts.scheme}://{parts.hostname}"
    return PROVIDER_KEYS.get(origin, "") if at_default_port else ""


def read_key(variable: str) -> str:
    """The key in a variable of the environment; empty where it is not set."""
    key = os.environ.get(variable, "").strip() if variable else ""
    if key and not (key.isascii() and key.isprintable()):
        raise UserError(f"{variable} holds characters that no key has; set it again")
    return key
