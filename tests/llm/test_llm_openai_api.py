"""The adapter for chat completions, against a local server that misbehaves as real ones do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from chat_server import ChatServer, Handler, answering, completion, half_body, reset
from meadowlark.errors import UserError
from meadowlark.llm import ChatReply, ChatRequest, Sampling, TokenLogprob
from meadowlark.llm.endpoint import Access
from meadowlark.llm.errors import CallFailed
from meadowlark.llm.openai_api import OpenAIModel, chat_body, parse_reply
from meadowlark.records import Turn

KEY = "sk-planted-0123456789"
REQUEST = ChatRequest(
    (Turn("system", "Be brief."), Turn("user", "Was ist Hämoglobin?")),
    Sampling(temperature=0.5, max_tokens=9, stop=("###",)),
    label="one",
)


def ask_once(handler: Handler, **options: Any) -> tuple[ChatReply, ChatServer]:
    async def once(url: str) -> ChatReply:
        model = OpenAIModel("tiny", url, **options)
        assert model.endpoint.startswith(f"{url}/chat/completions")
        try:
            return await model.reply(REQUEST)
        finally:
            await model.close()

    with ChatServer(handler) as server:
        return asyncio.run(once(server.url)), server


def failure_of(handler: Handler, **options: Any) -> CallFailed:
    with pytest.raises(CallFailed) as caught:
        ask_once(handler, **options)
    return caught.value


def test_a_request_is_sent_whole_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEADOWLARK_API_KEY", KEY)
    reply, server = ask_once(answering(completion("An oxygen carrier.")))
    assert reply == ChatReply("An oxygen carrier.", "stop", 7, 3)
    headers, body = server.asked[0]
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "tiny",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Was ist Hämoglobin?"},
        ],
        "temperature": 0.5,
        "max_tokens": 9,
        "stop": ["###"],
    }


def test_without_a_key_no_authorization_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("MEADOWLARK_API_KEY", raising=False)
    _, server = ask_once(answering(completion("yes")))
    assert "Authorization" not in server.asked[0][0]
    with pytest.raises(UserError, match="OPENAI_API_KEY"):
        OpenAIModel("gpt-4o")


def test_all_sampling_a_schema_and_log_probabilities_are_sent() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    sampling = Sampling(
        temperature=0.0, top_p=0.9, top_k=5, max_tokens=7, presence_penalty=1.5,
        frequency_penalty=0.25, stop=("x", "y"), seed=3, logprobs=2,
    )  # fmt: skip
    request = ChatRequest((Turn("user", "q"),), sampling, schema=schema)
    assert chat_body("m", request, "max_completion_tokens") == {
        "model": "m",
        "messages": [{"role": "user", "content": "q"}],
        "temperature": 0.0,
        "top_p": 0.9,
        "top_k": 5,
        "max_completion_tokens": 7,
        "presence_penalty": 1.5,
        "frequency_penalty": 0.25,
        "stop": ("x", "y"),
        "seed": 3,
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "reply", "schema": schema, "strict": True},
        },
    }
    none_beside = ChatRequest(request.turns, Sampling(logprobs=0))
    assert chat_body("m", none_beside)["logprobs"] is True
    assert "top_logprobs" not in chat_body("m", none_beside)


def test_log_probabilities_are_read() -> None:
    top = [{"token": "B", "logprob": -0.25, "bytes": [66]}, {"token": "A", "logprob": -1.5}]
    content = [{"token": "B", "logprob": -0.25, "top_logprobs": top}, {"token": ".", "logprob": 0}]
    choice = {"message": {"content": "B."}, "logprobs": {"content": content}}
    assert parse_reply({"choices": [choice]}).logprobs == (
        TokenLogprob("B", -0.25, (("B", -0.25), ("A", -1.5))),
        TokenLogprob(".", 0.0, ()),
    )


def test_fields_of_every_request_are_sent_and_are_part_of_what_a_journal_knows() -> None:
    access = Access(body={"reasoning_effort": "low"})
    _, server = ask_once(answering(completion("yes")), access=access)
    assert server.asked[0][1]["reasoning_effort"] == "low"
    plain, other = (
        OpenAIModel("tiny", "http://localhost/v1", given).endpoint for given in (None, access)
    )
    assert other == f'{plain} {{"reasoning_effort": "low"}}'


def test_azure_gets_its_version_in_the_url_and_its_key_in_its_own_header(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOSPITAL_KEY", KEY)
    access = Access(key_variable="HOSPITAL_KEY", api_version="2024-10-21")
    _, server = ask_once(answering(completion("yes")), access=access)
    headers, _ = server.asked[0]
    assert server.targets == ["/v1/chat/completions?api-version=2024-10-21"]
    assert headers["api-key"] == KEY
    assert "Authorization" not in headers


def test_openai_itself_gets_the_new_name_of_the_longest_reply(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    names = [OpenAIModel("m", *url)._max_tokens for url in ([], ["http://localhost/v1"])]
    assert names == ["max_completion_tokens", "max_tokens"]


@pytest.mark.parametrize(
    ("status", "retryable", "endpoint_wide"),
    [
        (400, False, False),
        (401, False, True),
        (403, False, True),
        (404, False, True),
        (422, False, False),
        (307, False, True),
        (408, True, False),
        (429, True, False),
        (500, True, False),
        (502, True, False),
        (503, True, False),
        (529, True, False),
    ],
)
def test_what_a_status_says_about_trying_again(
    status: int, retryable: bool, endpoint_wide: bool
) -> None:
    failure = failure_of(answering(web.json_response({"error": {"message": "no"}}, status=status)))
    assert failure.kind == f"HTTP {status}"
    assert (failure.retryable, failure.endpoint_wide) == (retryable, endpoint_wide)
    assert failure.overloaded is (status in (429, 529))


def test_a_used_up_account_is_not_tried_again() -> None:
    body = {"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}
    failure = failure_of(answering(web.json_response(body, status=429)))
    assert not failure.retryable
    assert failure.endpoint_wide


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (413, {"message": "no"}),
        (400, {"code": "context_length_exceeded", "message": "no"}),
        (400, {"message": "This model's maximum context length is 4096 tokens. Reduce the length"}),
        (400, {"message": "max_tokens=9 is too large: it exceeds max_model_len"}),
        (422, {"message": "the prompt is too long: 5000 tokens > 4096 maximum"}),
        (400, "Requested tokens exceed context window of 512"),
    ],
)
def test_a_request_that_is_too_long_fails_alone(status: int, error: Any) -> None:
    failure = failure_of(answering(web.json_response({"error": error}, status=status)))
    assert failure.kind == "too long"
    assert (failure.retryable, failure.request_only, failure.endpoint_wide) == (False, True, False)


@pytest.mark.parametrize("code", ["unsupported_parameter", "unsupported_value", "model_not_found"])
def test_what_is_wrong_with_every_request_ends_the_run(code: str) -> None:
    body = {"error": {"message": "Unsupported parameter: presence_penalty", "code": code}}
    failure = failure_of(answering(web.json_response(body, status=400)))
    assert (failure.retryable, failure.endpoint_wide) == (False, True)
    assert "presence_penalty" in str(failure)


def test_a_busy_server_that_names_a_time_is_overloaded() -> None:
    headers = {"Retry-After": "2"}
    failure = failure_of(answering(web.json_response({}, status=503, headers=headers)))
    assert (failure.overloaded, failure.retry_after_s) == (True, 2.0)


@pytest.mark.parametrize("handler", [reset, half_body])
def test_a_broken_connection_may_be_tried_again(handler: Handler) -> None:
    failure = failure_of(handler)
    assert (failure.kind, failure.retryable) == ("connection failed", True)


@pytest.mark.parametrize(
    "body",
    [
        "<html><body>502 Bad gateway</body></html>",
        "",
        "[]",
        "null",
        '{"choices": []}',
        '{"error": {"message": "overloaded"}}',
        '{"choices": [{"message": {"content": 5}}]}',
        "[" * 100_000,
    ],
)
def test_what_is_no_chat_completion_may_be_tried_again(body: str) -> None:
    failure = failure_of(answering(web.Response(text=body, content_type="application/json")))
    assert (failure.kind, failure.retryable) == ("malformed reply", True)


def test_a_server_that_does_not_answer_is_a_timeout() -> None:
    async def slow(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        await asyncio.sleep(5)
        return completion("late")

    failure = failure_of(slow, access=Access(timeout_s=0.05))
    assert (failure.kind, failure.retryable) == ("timeout", True)


def test_a_key_that_the_server_repeats_is_not_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEADOWLARK_API_KEY", KEY)
    said = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    failure = failure_of(answering(web.json_response(said, status=401)))
    assert KEY not in str(failure)
    assert "[key]" in str(failure)


def test_a_key_is_cut_out_of_a_reply_however_it_is_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = "sk/planted+0123456789"
    monkeypatch.setenv("MEADOWLARK_API_KEY", key)
    escaped = key.replace("/", "\\/")
    body = f'{{"id": "{key}", "choices": [{{"message": {{"content": "It is {escaped}."}}}}]}}'
    reply, server = ask_once(answering(web.Response(text=body, content_type="application/json")))
    assert server.asked[0][0]["Authorization"] == f"Bearer {key}"
    assert reply.text == "It is [key]."
    assert "planted" not in reply.raw


def test_a_word_that_stands_for_no_key_is_left_in_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEADOWLARK_API_KEY", "none")
    reply, _ = ask_once(answering(completion("Allergies: none known.")))
    assert reply.text == "Allergies: none known."


def test_a_reply_that_is_not_well_formed_text_is_made_so() -> None:
    body = '{"choices": [{"message": {"content": "a \\ud83d b"}, "finish_reason": "stop"}]}'
    reply, _ = ask_once(answering(web.Response(text=body, content_type="application/json")))
    assert reply.text == "a \ufffd b"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"message": {"content": "a"}, "finish_reason": "length"}, ChatReply("a", "length")),
        ({"message": {"content": None}, "finish_reason": "stop"}, ChatReply("", "stop")),
        ({"message": {"content": "a"}, "finish_reason": "new"}, ChatReply("a", "unknown")),
        ({"message": {"content": ""}, "finish_reason": "content_filter"}, ChatReply("", "refused")),
        ({"message": {"content": None, "refusal": "No."}}, ChatReply("No.", "refused")),
        (
            {"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}},
            ChatReply("ab", "unknown"),
        ),
    ],
)
def test_the_finish_reason_says_how_a_reply_ended(
    choice: dict[str, Any], expected: ChatReply
) -> None:
    assert parse_reply({"choices": [choice]}) == expected


def test_a_content_filters_refusal_is_a_reply() -> None:
    body = {"error": {"code": "content_filter", "message": "filtered"}}
    reply, _ = ask_once(answering(web.json_response(body, status=400)))
    assert reply == ChatReply("", "refused")


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://h/v1", "http://me:secret@h/v1", "http://h/v1?key=secret"]
)
def test_a_url_that_cannot_be_used_is_refused_without_its_secret(url: str) -> None:
    with pytest.raises(UserError) as caught:
        OpenAIModel("tiny", url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "usage", ['{"prompt_tokens": -1}', '{"prompt_tokens": 1e999}', '{"prompt_tokens": "x"}', "[1]"]
)
def test_a_reply_that_is_paid_for_is_kept_whatever_is_said_of_its_tokens(usage: str) -> None:
    body = f'{{"choices": [{{"message": {{"content": "a"}}}}], "usage": {usage}}}'
    reply = parse_reply(json.loads(body))
    assert (reply.text, reply.tokens_in, reply.tokens_out) == ("a", 0, 0)
