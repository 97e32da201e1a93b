"""Replies that stream: whole ones, odd ones, broken ones, and none of a key in any."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from chat_server import ChatServer, Handler, answering, chunk, completion, streaming
from meadowlark.llm import AnthropicModel, ChatReply, ChatRequest, OpenAIModel, ScriptedModel
from meadowlark.llm.errors import CallFailed
from meadowlark.llm.streaming import DONE, events, pieces, spoken
from meadowlark.records import Turn

KEY = "sk-planted-in-the-environment-0123456789"
REQUEST = ChatRequest((Turn("user", "Explain fever."),))
END = b"data: [DONE]\n\n"


def listened(model: Any) -> tuple[list[str], ChatReply | CallFailed]:
    """The pieces of a reply, and the reply or what went wrong."""

    async def main() -> tuple[list[str], ChatReply | CallFailed]:
        found: list[str] = []
        try:
            async for item in pieces(model, REQUEST):
                if isinstance(item, ChatReply):
                    return found, item
                found.append(item)
        except CallFailed as error:
            return found, error
        finally:
            await model.close()
        raise AssertionError("no reply at the end")

    return asyncio.run(main())


def asked(handler: Handler, monkeypatch: pytest.MonkeyPatch, kind: Any = OpenAIModel) -> Any:
    monkeypatch.setenv("MEADOWLARK_API_KEY", KEY)
    with ChatServer(handler) as server:
        found, end = listened(kind("m", server.url))
        return found, end, [body for _, body in server.asked]


def test_a_streamed_reply_comes_in_its_pieces_with_its_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    parts = (
        b'data: {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}\n\n',
        chunk("A fe"),
        chunk("ver"),
        chunk(None, "length"),
        b'data: {"choices": [], "usage": ' + json.dumps(usage).encode() + b"}\n\n",
        END,
    )
    found, end, bodies = asked(streaming(*parts), monkeypatch)
    assert found == ["A fe", "ver"]
    assert end == ChatReply("A fever", "length", 7, 3)
    assert bodies[0]["stream"] is True
    assert bodies[0]["stream_options"] == {"include_usage": True}


def test_pieces_arrive_while_the_server_still_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    may_go_on = threading.Event()

    async def handler(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(chunk("A fever"))
        while not may_go_on.is_set():
            await asyncio.sleep(0.005)
        await response.write(chunk(" is warmth.", "stop") + END)
        return response

    with ChatServer(handler) as server:
        found = spoken(OpenAIModel("m", server.url), REQUEST)
        assert next(found) == "A fever"
        may_go_on.set()
        assert list(found) == [" is warmth."]


WHOLE = "A fever – 38 °C 🙂 is warmth."
BODY = "".join(
    (
        ": a comment, as gateways send to keep a connection\n\n",
        "event: message\r\nid: 3\r\nretry: 5\r\n",
        'data:{"choices": [{"delta": {"content": "A fever – 38"}}]}\r\n\r\n',
        'data: {"choices": null, "prompt_filter_results": []}\n\n',
        'data: {"choices": [{"index": 1, "delta": {"content": "another choice"}}]}\n\n',
        'data: {"choices":\ndata:  [{"delta": {"content": " °C \\ud83d"}}]}\n\n',
        'data: {"choices": [{"delta": {"content": "\\ude42 is"}}]}\ndata: {"choices": []}\n',
        'data: {"choices": [{"delta": {"content": [{"type": "text", "text": " wa"}]}}]}\r\r',
        'data: {"choices": [{"delta": {"content": "rmth.", "tool_calls": null}}], "new": 1}\n\n',
        'data: {"choices": [{"finish_reason": "stop"}]}\n\n',
    )
).encode()


@given(cuts=st.lists(st.integers(0, len(BODY)), max_size=30).map(sorted), mark=st.booleans())
def test_events_are_the_same_however_they_are_cut(cuts: Sequence[int], mark: bool) -> None:
    body = b"\xef\xbb\xbf" * mark + BODY + b"data: [DONE]"

    async def chunks() -> AsyncIterator[bytes]:
        for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
            yield body[start:end]

    async def main() -> list[Any]:
        return [event async for event in events(body[:3] if mark else b"", rest(chunks(), mark))]

    async def rest(all_of_it: AsyncIterator[bytes], skip: bool) -> AsyncIterator[bytes]:
        left = 3 if skip else 0
        async for part in all_of_it:
            yield part[left:]
            left = max(left - len(part), 0)

    found = asyncio.run(main())
    assert found[-1] == DONE
    assert len(found) == 10
    assert found[0] == {"choices": [{"delta": {"content": "A fever – 38"}}]}


@pytest.mark.parametrize("size", [1, 7, len(BODY)])
def test_odd_streams_are_understood(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    found, end, _ = asked(streaming(*parts), monkeypatch)
    assert "".join(found) == WHOLE
    assert end == ChatReply(WHOLE, "stop")


@pytest.mark.parametrize(
    "parts",
    [
        (chunk("A fever is"),),
        (chunk("A fever"), chunk(" is"), b'data: {"choices": [{"del'),
        (chunk("A fever is"), b": still there\n\n"),
    ],
)
@pytest.mark.parametrize("hang_up", [True, False])
def test_a_stream_that_breaks_off_gives_what_came_and_says_so(
    parts: tuple[bytes, ...], hang_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, error, bodies = asked(streaming(*parts, hang_up=hang_up), monkeypatch)
    assert "".join(found) == "A fever is"
    assert isinstance(error, CallFailed)
    assert error.kind == "broken off"
    assert "broke off in the middle of its answer" in str(error)
    assert len(bodies) == 1  # not asked for again: part of it was shown


def test_a_break_after_the_end_of_the_reply_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found, end, _ = asked(streaming(chunk("Yes.", "stop"), hang_up=True), monkeypatch)
    assert (found, end) == (["Yes."], ChatReply("Yes.", "stop"))


def test_a_break_before_anything_came_is_a_connection_that_failed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, error, _ = asked(streaming(hang_up=True), monkeypatch)
    assert (found, error.kind) == ([], "connection failed")


def test_silence_in_the_middle_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from meadowlark.llm.endpoint import Access

    async def silent(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(chunk("A fever"))
        await asyncio.sleep(60)
        return response

    with ChatServer(silent) as server:
        found, error = listened(OpenAIModel("m", server.url, Access(timeout_s=0.2)))
    assert found == ["A fever"]
    assert isinstance(error, CallFailed)
    assert (error.kind, "timeout" in str(error)) == ("broken off", True)


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (b"data: {nonsense\n\n", "malformed reply"),
        (b"data: 3\n\n", "malformed reply"),
        (b"data: []\n\n", "malformed reply"),
        (b'data: {"choices": 3}\n\n', "malformed reply"),
        (b'data: {"choices": ["text"]}\n\n', "malformed reply"),
        (b'data: {"choices": [{"delta": {"content": 3}}]}\n\n', "malformed reply"),
        (b"data: " + b"[" * 9000 + b"\n\n", "malformed reply"),
        (b'data: {"error": {"message": "no memory left"}}\n\n', "failed in the middle"),
        (b'data: {"error": "' + KEY.encode() + b'"}\n\n', "failed in the middle"),
    ],
)
def test_nonsense_in_the_middle_is_told_after_what_came(
    part: bytes, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, error, _ = asked(streaming(chunk("A fever"), part, chunk(" more")), monkeypatch)
    assert (found, error.kind) == (["A fever"], kind)
    assert KEY not in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize("size", [1, 3, 5, 100])
def test_a_key_that_a_server_repeats_is_shown_in_no_piece(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"Your key is {KEY}, and sk-planted it stays. sk"
    parts = [chunk(text[start : start + size]) for start in range(0, len(text), size)]
    found, end, _ = asked(streaming(*parts, chunk("", "stop"), END), monkeypatch)
    assert "".join(found) == "Your key is [key], and sk-planted it stays. sk"
    assert end.text == "".join(found)


def test_servers_that_do_not_stream_answer_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    found, end, bodies = asked(answering(completion("A fever.", "length")), monkeypatch)
    assert (found, end.finish, len(bodies)) == (["A fever."], "length", 1)
    mislabelled = completion("A fever.")
    mislabelled.headers["Content-Type"] = "text/event-stream"
    assert asked(answering(mislabelled), monkeypatch)[0] == ["A fever."]


@pytest.mark.parametrize("knows", [["stream"], []])
def test_a_server_that_refuses_to_stream_is_asked_in_a_plainer_way(
    knows: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def strict(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        wrong = [name for name in body if name.startswith("stream") and name not in knows]
        if wrong:
            error = {"error": {"message": f"Extra inputs are not permitted: {wrong[0]}"}}
            return web.json_response(error, status=422)
        if body.get("stream"):
            return await streaming(chunk("A fever.", "stop"), END)(request, body)
        return completion("A fever.")

    found, end, bodies = asked(strict, monkeypatch)
    assert (found, end.text) == (["A fever."], "A fever.")
    assert len(bodies) == (2 if knows else 3)
    assert ("stream" in bodies[-1]) is bool(knows)


def test_refusals_and_errors_are_those_of_a_whole_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(status: int, **error: str) -> Handler:
        return answering(web.json_response({"error": error}, status=status))

    _, error, bodies = asked(failing(401, message=f"wrong key {KEY}"), monkeypatch)
    assert (error.kind, KEY in str(error), len(bodies)) == ("HTTP 401", False, 1)
    assert "MEADOWLARK_API_KEY" in str(error)
    _, error, _ = asked(failing(400, message="the bloodstream is no topic"), monkeypatch)
    assert error.kind == "HTTP 400"
    found, end, _ = asked(failing(400, code="content_filter", message="no"), monkeypatch)
    assert (found, end.finish) == ([], "refused")
    refusal = (
        b'data: {"choices": [{"delta": {"refusal": "I cannot."}, "finish_reason": "stop"}]}\n\n'
    )
    found, end, _ = asked(streaming(refusal, END), monkeypatch)
    assert (found, end.finish) == (["I cannot."], "refused")
    _, error, _ = asked(answering(web.Response(text="<html>Welcome</html>")), monkeypatch)
    assert error.kind == "malformed reply"


def test_anthropics_stream_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    told = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 7, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking"}},
        {"type": "content_block_delta", "delta": {"type": "thinking_delta", "thinking": "Hm"}},
        {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "A fe"}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "ver."}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens"},
            "usage": {"output_tokens": 9},
        },
        {"type": "message_stop"},
    ]
    parts = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in told]
    found, end, _ = asked(streaming(*parts), monkeypatch, AnthropicModel)
    assert (found, end) == (["A fe", "ver."], ChatReply("A fever.", "length", 7, 9))
    found, error, _ = asked(streaming(*parts[:7]), monkeypatch, AnthropicModel)
    assert (found, error.kind) == (["A fe", "ver."], "broken off")
    overloaded = b'event: error\ndata: {"type": "error", "error": {"type": "overloaded_error"}}\n\n'
    found, error, _ = asked(streaming(*parts[:6], overloaded), monkeypatch, AnthropicModel)
    assert (found, error.kind) == (["A fe"], "failed in the middle")


def test_a_model_without_a_stream_speaks_at_once() -> None:
    assert list(spoken(ScriptedModel(["A fever."]), REQUEST)) == ["A fever."]
    with pytest.raises(CallFailed, match="no"):
        list(spoken(ScriptedModel([CallFailed("no", "no")]), REQUEST))


def test_leaving_a_stream_ends_it_at_the_server() -> None:
    left = threading.Event()

    async def endless(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(chunk("and on "))
                await asyncio.sleep(0.005)
        except ConnectionError:
            left.set()
            raise

    with ChatServer(endless) as server:
        found = spoken(OpenAIModel("m", server.url), REQUEST)
        assert [next(found), next(found)] == ["and on ", "and on "]
        found.close()  # type: ignore[attr-defined]
        assert left.wait(10)
        assert not [t for t in threading.enumerate() if t.name == "spoken"]
