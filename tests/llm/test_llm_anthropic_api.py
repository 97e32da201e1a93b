"""The adapter for Anthropic's messages: what is sent, how replies end, what errors mean."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from chat_server import ChatServer, Handler, answering
from meadowlark.errors import UserError
from meadowlark.llm import AnthropicModel, ChatReply, ChatRequest, Sampling, open_model
from meadowlark.llm.anthropic_api import messages_body, parse_reply
from meadowlark.llm.endpoint import Access
from meadowlark.llm.errors import CallFailed
from meadowlark.llm.rates import Quota
from meadowlark.records import Turn

KEY = "sk-ant-planted-0123456789"
TURNS = (
    Turn("system", "Be brief."),
    Turn("system", "Write German."),
    Turn("user", "Was ist Hämoglobin?"),
    Turn("assistant", "Ein Protein."),
    Turn("user", "Wo?"),
)


def message(text: str, stop: str = "end_turn", **usage: int) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "stop_reason": stop,
        "usage": {"input_tokens": 7, "output_tokens": 3, **usage},
    }


def ask_once(
    handler: Handler, request: ChatRequest, access: Access | None = None
) -> tuple[ChatReply, ChatServer]:
    async def once(url: str) -> ChatReply:
        model = AnthropicModel("claude", url, access)
        try:
            return await model.reply(request)
        finally:
            await model.close()

    with ChatServer(handler) as server:
        return asyncio.run(once(server.url)), server


def test_a_request_is_sent_whole_with_key_and_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEADOWLARK_API_KEY", KEY)
    sampling = Sampling(
        temperature=0.5, top_p=1.0, top_k=5, stop=("###",), presence_penalty=0.0, seed=3
    )
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "49",
        "anthropic-ratelimit-tokens-limit": "30000",
        "anthropic-ratelimit-tokens-remaining": "29000",
    }
    said = web.json_response(message("Im Blut.", cache_read_input_tokens=100), headers=headers)
    reply, server = ask_once(answering(said), ChatRequest(TURNS, sampling))
    assert reply == ChatReply("Im Blut.", "stop", 107, 3)
    assert reply.quota == Quota(50, 49, 30000, 29000)
    assert json.loads(reply.raw)["id"] == "msg_1"
    sent, body = server.asked[0]
    assert server.targets == ["/v1/messages"]
    assert (sent["x-api-key"], sent["anthropic-version"]) == (KEY, "2023-06-01")
    assert "Authorization" not in sent
    assert body == {
        "model": "claude",
        "max_tokens": 4096,
        "system": "Be brief.\n\nWrite German.",
        "messages": [
            {"role": "user", "content": "Was ist Hämoglobin?"},
            {"role": "assistant", "content": "Ein Protein."},
            {"role": "user", "content": "Wo?"},
        ],
        "temperature": 0.5,
        "top_k": 5,
        "stop_sequences": ["###"],
    }


def test_a_schema_is_asked_for_by_a_tool_and_comes_back_as_text() -> None:
    schema = {"type": "object", "properties": {"größe": {"type": "integer"}}}
    body = message("I shall use the tool.", "tool_use")
    body["content"].append({"type": "tool_use", "name": "reply", "input": {"größe": 3}})
    request = ChatRequest(TURNS, Sampling(max_tokens=9), schema=schema)
    reply, server = ask_once(answering(web.json_response(body)), request)
    assert reply.text == '{"größe": 3}'
    assert reply.finish == "stop"
    (tool,) = server.asked[0][1]["tools"]
    assert tool["input_schema"] == schema
    assert server.asked[0][1]["tool_choice"] == {"type": "tool", "name": tool["name"]}
    assert server.asked[0][1]["max_tokens"] == 9


@pytest.mark.parametrize(
    ("stop", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "refused"),
        ("pause_turn", "unknown"),
        ("new", "unknown"),
    ],
)
def test_the_stop_reason_says_how_a_reply_ended(stop: str, finish: str) -> None:
    assert parse_reply(message("a", stop)).finish == finish


def test_thinking_is_no_part_of_the_text() -> None:
    body = message("So.")
    body["content"].insert(0, {"type": "thinking", "thinking": "Let me see."})
    assert parse_reply(body).text == "So."


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        (Sampling(presence_penalty=1.5), "no presence penalty: give 0 .presence-penalty."),
        (Sampling(frequency_penalty=1.0), "no frequency penalty"),
        (Sampling(logprobs=0), "no log-probabilities"),
    ],
)
def test_what_the_api_lacks_is_said_and_nothing_is_sent(sampling: Sampling, said: str) -> None:
    with pytest.raises(UserError, match=said):
        messages_body("claude", ChatRequest(TURNS, sampling))


@pytest.mark.parametrize(
    ("status", "kind", "words", "facts"),
    [
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", "request_only"),
        (400, "invalid_request_error", "Your credit balance is too low", "endpoint_wide"),
        (401, "authentication_error", "invalid x-api-key", "endpoint_wide"),
        (404, "not_found_error", "model: claude", "endpoint_wide"),
        (413, "request_too_large", "too large", "request_only"),
        (429, "rate_limit_error", "slow down", "retryable overloaded"),
        (500, "api_error", "internal", "retryable"),
        (529, "overloaded_error", "Overloaded", "retryable overloaded"),
    ],
)
def test_what_an_error_means_is_told_by_its_status_and_words(
    status: int, kind: str, words: str, facts: str
) -> None:
    body = {"type": "error", "error": {"type": kind, "message": words}}
    with pytest.raises(CallFailed) as caught:
        ask_once(answering(web.json_response(body, status=status)), ChatRequest(TURNS))
    names = ("retryable", "overloaded", "endpoint_wide", "request_only")
    assert {name for name in names if getattr(caught.value, name)} == set(facts.split())
    assert words in str(caught.value)


@pytest.mark.parametrize("body", ["{}", "[]", '{"content": 3}', '{"content": [{"text": "a"}]}'])
def test_what_is_no_message_may_be_tried_again(body: str) -> None:
    response = web.Response(text=body, content_type="application/json")
    with pytest.raises(CallFailed) as caught:
        ask_once(answering(response), ChatRequest(TURNS))
    assert (caught.value.kind, caught.value.retryable) == ("malformed reply", True)


def test_a_model_is_named_by_a_spec(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    official = open_model("anthropic:claude-sonnet-4-5-20250929")
    assert isinstance(official, AnthropicModel)
    assert official.endpoint == "https://api.anthropic.com/v1/messages"
    assert official.price is not None
    assert (official.price.input, official.price.output) == (3.0, 15.0)
    for url in ("http://localhost:8000", "http://localhost:8000/v1/"):
        model = open_model(f"anthropic:m@{url}")
        assert isinstance(model, AnthropicModel)
        assert model.endpoint == "http://localhost:8000/v1/messages"
