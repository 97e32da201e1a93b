"""What a model's tokens cost: a small dated table, and the rule for what is not in it.

Prices change: the table is a start to be checked on the provider's page, and ``--price IN,OUT`` or
``models.toml`` go before it. A server of one's own costs nothing here; any other server without a
price is an error wherever money is counted, never free.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from meadowlark.errors import UserError

PRICES_OF = "2026-11"
"""When the table was last compared with the providers' pages: check it before a large run."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens, read (``input``) and written (``output``)."""

    input: float
    output: float

    def cost_usd(self, tokens_in: float, tokens_out: float) -> float:
        """The cost of so many tokens in US dollars; cached or batched discounts are not known."""
        return (tokens_in * self.input + tokens_out * self.output) / 1e6

    def __str__(self) -> str:
        return f"{self.input:g} in, {self.output:g} out (USD a million tokens)"


FREE = Price(0.0, 0.0)
OPENAI_HOST, ANTHROPIC_HOST = "api.openai.com", "api.anthropic.com"

PRICES: dict[str, dict[str, Price]] = {
    OPENAI_HOST: {
        "gpt-5.4": Price(2.50, 15.00),
        "gpt-5.2": Price(1.75, 14.00),
        "gpt-5.1": Price(1.25, 10.00),
        "gpt-5": Price(1.25, 10.00),
        "gpt-5-mini": Price(0.25, 2.00),
        "gpt-5-nano": Price(0.05, 0.40),
        "gpt-4.1": Price(2.00, 8.00),
        "gpt-4.1-mini": Price(0.40, 1.60),
        "gpt-4.1-nano": Price(0.10, 0.40),
        "gpt-4o-2024-05-13": Price(5.00, 15.00),
        "gpt-4o": Price(2.50, 10.00),
        "gpt-4o-mini": Price(0.15, 0.60),
        "o3": Price(2.00, 8.00),
        "o3-mini": Price(1.10, 4.40),
        "o4-mini": Price(1.10, 4.40),
        "gpt-4-turbo": Price(10.00, 30.00),
        "gpt-4": Price(30.00, 60.00),
        "gpt-3.5-turbo": Price(0.50, 1.50),
    },
    ANTHROPIC_HOST: {
        "claude-opus-4-6": Price(5.00, 25.00),
        "claude-opus-4-5": Price(5.00, 25.00),
        "claude-opus-4-1": Price(15.00, 75.00),
        "claude-opus-4": Price(15.00, 75.00),
        "claude-sonnet-4-6": Price(3.00, 15.00),
        "claude-sonnet-4-5": Price(3.00, 15.00),
        "claude-sonnet-4": Price(3.00, 15.00),
        "claude-3-7-sonnet": Price(3.00, 15.00),
        "claude-haiku-4-5": Price(1.00, 5.00),
        "claude-3-5-haiku": Price(0.80, 4.00),
        "claude-3-haiku": Price(0.25, 1.25),
    },
}
_VERSION = re.compile(r"(-0)?(-latest|-\d{8}|-\d{4}-\d{2}-\d{2})?")
"""What may follow a name in the table and leave the price as it is: a date, ``-latest``."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def known_price(url: str, model: str) -> Price | None:
    """The price of a model at a server by the table; free on one's own server; else None."""
    host = urlsplit(url).hostname or ""
    if own_server(host):
        return FREE
    table = PRICES.get(host, {})
    if model in table:
        return table[model]
    for name, price in table.items():
        if model.startswith(name) and _VERSION.fullmatch(model, len(name)):
            return price
    return None


def loopback(host: str) -> bool:
    """Whether a host is this machine."""
    return host in _LOOPBACK


def own_server(host: str) -> bool:
    """Whether a host is one's own: this machine, a private address, or a name without a dot.

    Names are not looked up: a gateway with a full name may well send a bill.
    """
    if loopback(host) or (host and "." not in host and ":" not in host):
        return True
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host.endswith((".localhost", ".local", ".internal"))


def parse_price(text: str) -> Price:
    """``2.5,10`` as a price: US dollars a million tokens in, and out."""
    parts = text.replace("$", "").split(",")
    try:
        read, written = (float(part) for part in parts)
    except ValueError:
        read = written = -1.0
    if not (0 <= read < float("inf") and 0 <= written < float("inf")):
        raise UserError(
            f"{text!r} is no price; expected US dollars a million tokens in and out, as 2.5,10"
        )
    return Price(read, written)


def parse_budget(text: str) -> float:
    """``20usd``, ``20 USD``, ``$20`` or ``20`` as US dollars."""
    found = re.fullmatch(r"\$?\s*(\d+(?:\.\d+)?|\.\d+)\s*(?:usd|\$)?", text.strip().lower())
    if not found or float(found[1]) <= 0:
        raise UserError(f"{text!r} is no budget; expected US dollars, as 20usd")
    return float(found[1])


def unpriced(model: str, url: str) -> UserError:
    """The error for a model whose price nobody gave: it is never counted as free."""
    return UserError(
        f"no price is known for {model!r} at {url}, and an unknown price is not zero. Give --price "
        "IN,OUT (US dollars a million tokens in and out; 0,0 for a server that costs you nothing), "
        "or 'price' in models.toml"
    )
