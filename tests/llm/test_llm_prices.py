"""What a model costs: the table, one's own servers, and that an unknown price is never zero."""

from __future__ import annotations

import pytest

from meadowlark.errors import UserError
from meadowlark.llm import Price, open_teacher
from meadowlark.llm.prices import FREE, PRICES, known_price, parse_budget, parse_price

OPENAI, ANTHROPIC = "https://api.openai.com/v1", "https://api.anthropic.com"


@pytest.mark.parametrize(
    ("url", "model", "price"),
    [
        (OPENAI, "gpt-4o", Price(2.5, 10)),
        (OPENAI, "gpt-4o-2024-11-20", Price(2.5, 10)),
        (OPENAI, "gpt-4o-2024-05-13", Price(5, 15)),
        (OPENAI, "gpt-4o-mini-2024-07-18", Price(0.15, 0.6)),
        (ANTHROPIC, "claude-sonnet-4-5-20250929", Price(3, 15)),
        (ANTHROPIC, "claude-opus-4-0", Price(15, 75)),
        (ANTHROPIC, "claude-3-5-haiku-latest", Price(0.8, 4)),
        # Another model whose name only begins alike, or the same name at another server.
        (OPENAI, "gpt-4o-audio-preview", None),
        (OPENAI, "gpt-4-0613", None),
        (OPENAI, "gpt-9", None),
        (ANTHROPIC, "gpt-4o", None),
        ("https://gateway.example/v1", "gpt-4o", None),
        ("http://8.8.8.8/v1", "llama", None),
        ("https://[2606:4700::1111]/v1", "llama", None),
        ("http://localhost:8000/v1", "llama", FREE),
        ("http://127.0.0.1:11434/v1", "llama", FREE),
        ("http://[::1]:8000/v1", "llama", FREE),
        ("http://10.1.2.3:8000/v1", "llama", FREE),
        ("http://192.168.0.9/v1", "gpt-4o", FREE),
        ("http://gpu-server:8000/v1", "llama", FREE),
        ("http://llm.internal/v1", "llama", FREE),
    ],
)
def test_a_price_holds_at_its_provider_only_and_ones_own_server_is_free(
    url: str, model: str, price: Price | None
) -> None:
    assert known_price(url, model) == price


def test_a_million_tokens_cost_what_the_table_says() -> None:
    assert Price(2.5, 10).cost_usd(1_000_000, 500_000) == 7.5
    assert all(p.output >= p.input > 0 for table in PRICES.values() for p in table.values())


@pytest.mark.parametrize(
    ("text", "price"), [("2.5,10", Price(2.5, 10)), ("0,0", FREE), (" $1 , $2 ", Price(1, 2))]
)
def test_a_price_as_it_is_typed(text: str, price: Price) -> None:
    assert parse_price(text) == price


@pytest.mark.parametrize("text", ["", "2.5", "2.5;10", "1,2,3", "-1,2", "nan,1", "inf,1", "a,b"])
def test_what_is_no_price_is_explained(text: str) -> None:
    with pytest.raises(UserError, match=r"is no price; expected .* as 2\.5,10"):
        parse_price(text)


@pytest.mark.parametrize(
    ("text", "usd"), [("20usd", 20), ("20 USD", 20), ("$0.50", 0.5), ("20", 20), (".5", 0.5)]
)
def test_a_budget_as_it_is_typed(text: str, usd: float) -> None:
    assert parse_budget(text) == usd


@pytest.mark.parametrize("text", ["", "20eur", "€20", "-1", "0usd", "twenty", "1e9", "20usd5"])
def test_what_is_no_budget_is_explained(text: str) -> None:
    with pytest.raises(UserError, match="is no budget; expected US dollars, as 20usd"):
        parse_budget(text)


def test_a_teacher_of_unknown_price_is_refused_and_a_given_one_goes_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "planted")
    with pytest.raises(UserError, match=r"no price is known for 'gpt-9' .* --price IN,OUT"):
        open_teacher("openai:gpt-9")
    with pytest.raises(UserError, match=r"no price is known for 'm' at https://gateway\.example"):
        open_teacher("openai:m@https://gateway.example/v1")
    assert open_teacher("openai:gpt-9", price=Price(1, 2)).price == Price(1, 2)
    assert open_teacher("openai:gpt-4o", price=Price(1, 2)).price == Price(1, 2)
    assert open_teacher("openai:m@https://gateway.example/v1", price=FREE).price == FREE
    assert open_teacher("openai:m@http://localhost:1/v1").price == FREE
